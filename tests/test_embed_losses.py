"""embed_st and models that are not as they should be: lengths, NaN, conversions that fail, weights that are damaged."""

from __future__ import annotations

import asyncio
import logging
import sys
from pathlib import Path

import huggingface_hub
import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer

from plugins.embed_st.engine import Embedding, Engine, Options, conversions, convert
from plugins.embed_st.engine.backends import UnfitError
from plugins.embed_st.engine.convert import Task
from plugins.embed_st.engine.models import find, locate
from shared.errors import FailedPrecondition, StartError
from tests.embed_models import tiny
from tests.test_embed_models import cache_with

BACKENDS = ("torch", "openvino", "onnx")
NAME = "owner/name"


@pytest.fixture(autouse=True)
def _in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Converting in a process of its own takes seconds."""
    monkeypatch.setattr(conversions, "_in_child", convert.convert)


def opened(model: Path, cache: Path, backend: str) -> Engine:
    engine = Engine(str(model), backend=backend, precision="fp32", cache_dir=str(cache), device="cpu")
    engine.open()
    return engine


# ---------------------------------------------------------------- lengths


@pytest.mark.slow
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(("architecture", "longest"), [("roberta", 62), ("mpnet", 62), ("bert", 64)])
def test_a_text_as_long_as_the_model_reads(tmp_path: Path, backend: str, architecture: str, longest: int) -> None:
    """A model that says it reads 64 tokens and has fewer positions for them is asked for no more than it has."""
    engine = opened(tiny(tmp_path, architecture, max_tokens=64), tmp_path / "cache", backend)
    try:
        assert engine.facts.max_tokens == longest
        long, short = asyncio.run(engine.embed(["a " * 500, "a"], Options()))
    finally:
        engine.close()
    assert isinstance(long, Embedding)
    assert (long.tokens, long.truncated) == (longest, True)
    assert isinstance(short, Embedding)


# ---------------------------------------------------------------- NaN


@pytest.fixture(scope="module")
def poisoned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model whose weights for the letters `~` and `^` are NaN and infinity."""
    path = tiny(tmp_path_factory.mktemp("poisoned"), normalize=False)
    model = SentenceTransformer(str(path), device="cpu")
    with torch.no_grad():
        table = model[0].auto_model.embeddings.word_embeddings.weight
        for letter, value in (("~", float("nan")), ("^", float("inf"))):
            table[model.tokenizer.convert_tokens_to_ids(letter)] = value
    model.save(str(path))
    return path


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_vector_that_is_none_is_no_success(poisoned: Path, tmp_path: Path, backend: str) -> None:
    """Such a text fails by itself, with its own status, and its neighbours have their vectors; a call that is all or
    nothing fails with the text named."""
    engine = opened(poisoned, tmp_path, backend)
    try:
        texts = ["a", "~", "b", "^"]
        found = asyncio.run(engine.embed(texts, Options(), allow_partial=True))
        with pytest.raises(FailedPrecondition, match=r"texts\[1\] gets NaN or infinity .*\(and 1 more\)") as caught:
            asyncio.run(engine.embed(texts, Options()))
        whole = asyncio.run(engine.embed(["a", "b"], Options()))
    finally:
        engine.close()
    assert caught.value.reason == "NOT_FINITE"
    assert [getattr(one, "reason", "") for one in found] == ["", "NOT_FINITE", "", "NOT_FINITE"]
    for one, same in zip((found[0], found[2]), whole, strict=True):
        assert isinstance(one, Embedding)
        assert isinstance(same, Embedding)
        np.testing.assert_allclose(one.vector, same.vector, rtol=1e-3, atol=1e-5)


# ---------------------------------------------------------------- conversions that fail


class Failing:
    """In place of the process that converts."""

    def __init__(self, reason: str, lasts: bool) -> None:
        self.tasks: list[Task] = []
        self._reason, self._lasts = reason, lasts

    def __call__(self, task: Task) -> None:
        self.tasks.append(task)
        error = UnfitError(self._reason)
        error.lasts = self._lasts
        raise error


@pytest.mark.parametrize("lasts", [True, False])
def test_a_failure_is_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lasts: bool) -> None:
    """A conversion that failed is not tried at the next start, unless it failed for a reason that may pass; without
    the note it is tried again, and then serves."""
    failing = Failing("no such operator", lasts)
    monkeypatch.setattr(conversions, "_in_child", failing)
    model, cache = tiny(tmp_path), tmp_path / "cache"
    for _ in range(2):
        with pytest.raises(StartError, match="no such operator"):
            opened(model, cache, "onnx")
    assert len(failing.tasks) == (1 if lasts else 2)
    notes = list(cache.rglob("*.failed.txt"))
    assert len(notes) == (1 if lasts else 0)
    for note in notes:
        assert note.stat().st_mode & 0o777 == 0o600
        with pytest.raises(StartError, match=f"delete {note.name}"):
            opened(model, cache, "onnx")
        note.unlink()
    monkeypatch.setattr(conversions, "_in_child", convert.convert)
    opened(model, cache, "onnx").close()


@pytest.mark.parametrize(
    ("script", "lasts"),
    [
        ("raise TypeError('no such operator')", True),
        ("raise OSError(28, 'No space left on device')", False),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", False),
    ],
)
def test_what_lasts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, lasts: bool) -> None:
    """A process that was killed, or found no room, says nothing of the next start."""
    monkeypatch.undo()
    monkeypatch.setattr(sys, "executable", _python(tmp_path, script))
    with pytest.raises(UnfitError, match="ended with status") as caught:
        conversions._in_child(Task(str(tmp_path), "m", "", "onnx", str(tmp_path)))
    assert caught.value.lasts is lasts


def _python(folder: Path, script: str) -> str:
    path = folder / "python"
    path.write_text(f'#!/bin/sh\nexec {sys.executable} -c "{script}"\n')
    path.chmod(0o755)
    return str(path)


# ---------------------------------------------------------------- weights that are damaged

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 90000\n"


@pytest.mark.parametrize(
    ("damage", "words"), [("cut", "is cut off"), ("link", "is a link to nothing"), ("pointer", "is a Git LFS pointer")]
)
@pytest.mark.parametrize("place", ["folder", "cache"])
def test_damaged_weights_are_named(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    damage: str,
    words: str,
    place: str,
) -> None:
    """The error names the file, what is wrong with it and what to delete; in the cache it is fetched again first."""
    whole = (tiny(tmp_path) / "model.safetensors").read_bytes()
    if place == "folder":
        model = str(tmp_path / "model")
        weights = tmp_path / "model/model.safetensors"
    else:
        model = NAME
        weights = cache_with(tmp_path, NAME, "config.json", "modules.json") / "model.safetensors"
    weights.unlink(missing_ok=True)
    if damage == "link":
        weights.symlink_to("nowhere")
    else:
        weights.write_bytes(whole[:-100] if damage == "cut" else POINTER)

    def unreachable(*args: object, **more: object) -> str:
        raise ConnectionError

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", unreachable)
    with pytest.raises(StartError, match=f"model.safetensors.* {words}.*delete {weights}"):
        find(model, str(tmp_path))
    if place == "folder":
        return
    fetched: list[tuple[object, ...]] = []

    def fetch(model: str, name: str, **more: object) -> str:
        fetched.append((model, name, more["revision"], more["force_download"]))
        weights.unlink()
        weights.write_bytes(whole)
        return str(weights)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", fetch)
    with caplog.at_level(logging.WARNING):
        assert locate(model, str(tmp_path)) == str(weights.parent)
    assert fetched == [(NAME, "model.safetensors", "a" * 40, True)]
    assert "event=model_damaged" in caplog.text


@pytest.mark.parametrize("name", ["tokenizer.json", "config.json", "modules.json", "1_Pooling/config.json"])
def test_damaged_settings_are_named(tmp_path: Path, name: str) -> None:
    """Whatever else is read of a model: with half of it a library fails in words of its own, or takes another."""
    file = tiny(tmp_path) / name
    whole = file.read_bytes()
    for content, words in (
        (whole[: len(whole) // 2], "is cut off"),
        (b"", "is cut off"),
        (POINTER, "is a Git LFS pointer"),
        (None, "is a link to nothing"),
    ):
        if content is None:
            file.unlink()
            file.symlink_to("nowhere")
        else:
            file.write_bytes(content)
        with pytest.raises(StartError, match=f"{name} {words}.*delete {file} and put the file there again"):
            find(str(tmp_path / "model"), "")


def test_whole_weights_are_not_damaged(tmp_path: Path) -> None:
    """A model that is whole is found, also beside a pointer that nobody loads."""
    path = tiny(tmp_path)
    (path / "pytorch_model.bin").write_bytes(POINTER)
    assert find(str(path), "").folder == path
