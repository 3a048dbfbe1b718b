"""Every backend of embed_st beside SentenceTransformer.encode, on tiny models of many kinds and on the real one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import openvino
import pytest
from sentence_transformers import SentenceTransformer

from plugins.embed_st.engine import conversions, convert
from plugins.embed_st.engine.backends import Floats
from plugins.embed_st.engine.model import Model, open_model
from plugins.embed_st.engine.models import find
from plugins.embed_st.engine.reference import TOLERANCES
from shared.errors import StartError
from tests.embed_models import TEXTS, tiny

REAL = "sentence-transformers/all-MiniLM-L6-v2"
KINDS: Mapping[str, dict[str, Any]] = {
    "bert": {},
    "bert-raw": {"normalize": False},
    "bert-lower-case": {"lower_case": True},
    "roberta-max": {"architecture": "roberta", "pooling": "max"},
    "mpnet-cls": {"architecture": "mpnet", "pooling": "cls"},
    "mpnet-mean-raw": {"architecture": "mpnet", "normalize": False},
    "distilbert-dense": {"architecture": "distilbert", "dense": True, "normalize": False},
    "distilbert-mean-and-max": {"architecture": "distilbert", "pooling": ("mean", "max"), "dense": True},
    "bert-weighted": {"pooling": "weightedmean"},
    "bert-last": {"pooling": "lasttoken"},
}
BF16 = "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
WAYS = [
    ("torch", "fp32"),
    ("onnx", "fp32"),
    ("openvino", "fp32"),
    pytest.param("openvino", "bf16", marks=pytest.mark.skipif(not BF16, reason="this CPU has no bf16")),
]


@dataclass
class Tiny:
    path: Path
    oracle: Any
    cache: Path


@pytest.fixture(scope="module", params=KINDS)
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    path = tiny(tmp_path_factory.mktemp(request.param), **KINDS[request.param])
    return Tiny(path, SentenceTransformer(str(path), device="cpu"), path.parent / "cache")


@pytest.fixture(autouse=True)
def _in_this_process(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process of its own for each conversion would cost each test ten seconds."""
    if "slow" not in request.keywords:
        monkeypatch.setattr(conversions, "_in_child", convert.convert)


def cosines(found: Floats, expected: Floats) -> Floats:
    lengths = np.linalg.norm(found, axis=1) * np.linalg.norm(expected, axis=1)
    product: Floats = np.sum(found * expected, axis=1) / lengths
    return product


def check(opened: Model, oracle: Any, texts: Sequence[str], prompt: str = "") -> None:
    """The texts in one batch, and each alone."""
    tokens = opened.tokenizer.encode(texts, prompt)
    expected = oracle.encode(list(texts), prompt=prompt, show_progress_bar=False)
    for found in (opened.backend.run(tokens), np.concatenate([opened.backend.run([one]) for one in tokens])):
        assert found.shape == (len(texts), opened.facts.dimensions)
        assert found.dtype == np.float32
        assert cosines(found, expected).min() >= TOLERANCES[opened.backend.precision]
        scale = np.abs(expected).max()
        if opened.backend.name == "torch":
            assert np.abs(found - expected).max() <= 1e-6 * max(1, scale)
        elif opened.backend.precision == "fp32":
            assert np.abs(found - expected).max() <= 1e-4 * max(1, scale)


@pytest.mark.slow
@pytest.mark.parametrize(("backend", "precision"), WAYS)
def test_every_kind_of_model(made: Tiny, backend: str, precision: str) -> None:
    """Each backend gives each kind of model's vectors as SentenceTransformer.encode does, alone and in a batch."""
    opened = open_model(str(made.path), backend=backend, precision=precision, cache_home=made.cache, device="cpu")
    assert (opened.backend.name, opened.backend.precision) == (backend, precision)
    assert opened.facts.normalizes == (type(made.oracle[-1]).__name__ == "Normalize")
    check(opened, made.oracle, TEXTS)


@pytest.mark.slow
def test_the_tiny_models_tell_texts_apart(made: Tiny) -> None:
    """What the other tests compare is not the same for every text."""
    vectors = made.oracle.encode(TEXTS[:6], show_progress_bar=False)
    assert cosines(vectors[:1].repeat(5, axis=0), vectors[1:6]).max() < 0.999


@pytest.mark.parametrize("backend", ["torch", "onnx", "openvino"])
def test_prompts(tmp_path: Path, backend: str) -> None:
    """The facts have the model's prompts, and a text with one is embedded as encode(prompt=…) does."""
    path = tiny(tmp_path, prompts={"query": "search: ", "document": "", "other": "a "}, default_prompt="query")
    opened = open_model(str(path), backend=backend, precision="fp32", cache_home=tmp_path, device="cpu")
    assert (opened.facts.prompts, opened.facts.default_prompt) == ({"query": "search: ", "other": "a "}, "search: ")
    oracle = SentenceTransformer(str(path), device="cpu")
    for prompt in ("search: ", "a ", "the rest of"):
        check(opened, oracle, TEXTS, prompt)


def test_a_prompt_that_is_not_pooled(tmp_path: Path) -> None:
    """A model whose pooling leaves out the prompt is left to torch, which leaves it out, of each text its own."""
    path = tiny(tmp_path, include_prompt=False)
    opened = open_model(str(path), cache_home=tmp_path, device="cpu")
    assert opened.backend.name == "torch"
    oracle = SentenceTransformer(str(path), device="cpu")
    for prompt in ("", "search: ", "the rest of "):
        check(opened, oracle, TEXTS, prompt)
    prompts = ["", "search: ", "", "the rest of "]
    mixed = [opened.tokenizer.encode(["a text"], prompt)[0] for prompt in prompts]
    expected = np.concatenate([oracle.encode(["a text"], prompt=prompt) for prompt in prompts])
    assert np.abs(opened.backend.run(mixed) - expected).max() < 1e-6


@pytest.mark.parametrize("backend", ["onnx", "openvino"])
def test_what_is_not_converted(tmp_path: Path, backend: str, caplog: pytest.LogCaptureFixture) -> None:
    """Half-precision weights are left to torch: auto says why, another backend refuses, and neither tries twice."""
    import torch

    path = str(tiny(tmp_path, dtype=torch.float16))
    caplog.set_level("INFO", logger="hector")
    for _ in range(2):
        opened = open_model(path, cache_home=tmp_path, device="cpu")
        assert (opened.backend.name, opened.backend.precision) == ("torch", "fp16")
        assert "its weights are float16" in caplog.text
        with pytest.raises(StartError, match=r"its weights are float16\)$"):
            open_model(path, backend=backend, precision="fp32", cache_home=tmp_path, device="cpu")
    assert caplog.text.count("event=convert ") == 2  # once as openvino and once as onnx


def test_matryoshka(tmp_path: Path) -> None:
    """The lengths that a model says it was trained to be cut to are among its facts."""
    path = tiny(tmp_path)
    config = path / "config.json"
    config.write_text(config.read_text().replace("{", '{"matryoshka_dimensions": [16, 8],', 1))
    assert open_model(str(path), backend="onnx", cache_home=tmp_path, device="cpu").facts.matryoshka == (8, 16)


# ---------------------------------------------------------------- the real model


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    source = find(REAL, "")
    oracle = SentenceTransformer(str(source.folder), device="cpu")
    return Tiny(source.folder, oracle, tmp_path_factory.mktemp("real"))


@pytest.mark.slow
@pytest.mark.parametrize(("backend", "precision"), [*WAYS, ("onnx", "int8")])
def test_the_real_model(real: Tiny, backend: str, precision: str) -> None:
    """Each backend gives all-MiniLM-L6-v2's vectors as SentenceTransformer.encode does, within its tolerance."""
    opened = open_model(REAL, backend=backend, precision=precision, cache_home=real.cache, device="cpu")
    assert opened.facts.sha256 == "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
    assert (opened.facts.dimensions, opened.facts.max_tokens, opened.facts.normalizes) == (384, 256, True)
    check(opened, real.oracle, [*TEXTS, *(f"{text} {text}" for text in TEXTS)])


@pytest.mark.slow
def test_auto_takes_the_fastest(real: Tiny) -> None:
    """Of a converted model `auto` takes OpenVINO, in bf16 where the CPU has it."""
    opened = open_model(REAL, cache_home=real.cache, device="cpu")
    assert (opened.backend.name, opened.backend.precision) == ("openvino", "bf16" if BF16 else "fp32")
