"""Which backend embed_st takes: the fastest whose vectors are the model's, or the one that was asked for."""

from __future__ import annotations

import importlib.util
import sys
import types
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from plugins.embed_st.engine import conversions, convert, model
from plugins.embed_st.engine.backends import Backend, Floats, Precision
from plugins.embed_st.engine.backends.onnx import Onnx
from plugins.embed_st.engine.backends.openvino import OpenVino
from plugins.embed_st.engine.model import open_model
from plugins.embed_st.engine.reference import TEXTS, TOLERANCES, self_test
from plugins.embed_st.engine.tokenizer import Tokenizer, Tokens
from shared.errors import StartError
from tests.embed_models import tiny


@pytest.fixture(autouse=True)
def _in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conversions, "_in_child", convert.convert)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny(tmp_path_factory.mktemp("choice"))


def opened(path: Path, backend: str = "auto", precision: str = "fp32", **more: Any) -> str:
    return open_model(
        str(path), backend=backend, precision=precision, cache_home=path.parent / "cache", device="cpu", **more
    ).backend.name


def drifting(kind: Any, monkeypatch: pytest.MonkeyPatch, amount: float) -> None:
    """Vectors of that backend are off by `amount` of their length."""
    run = kind.run

    def off(self: Any, batch: Sequence[Tokens]) -> Floats:
        vectors: Floats = run(self, batch)
        vectors[:, 0] += np.float32(amount) * np.linalg.norm(vectors, axis=1)
        return vectors

    monkeypatch.setattr(kind, "run", off)


def uninstalled(monkeypatch: pytest.MonkeyPatch, *packages: str) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *more: None if name in packages else find(name, *more)
    )


def test_a_backend_that_drifts(path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """auto passes over a backend whose vectors are not the model's, goes on with the next, and says why in one line."""
    assert opened(path) == "openvino"
    drifting(OpenVino, monkeypatch, 0.01)
    assert opened(path) == "onnx"
    (line,) = [record.getMessage() for record in caplog.records if "passed_over" in record.getMessage()]
    assert "backend=openvino precision=fp32" in line
    assert "drift from those of sentence-transformers (least cosine 0.99" in line
    drifting(Onnx, monkeypatch, 0.01)
    assert opened(path) == "torch"


@pytest.mark.parametrize(("backend", "kind"), [("openvino", OpenVino), ("onnx", Onnx)])
def test_a_chosen_backend_that_drifts(path: Path, monkeypatch: pytest.MonkeyPatch, backend: str, kind: Any) -> None:
    """A backend that was asked for and drifts is an error with the reason and the remedy."""
    drifting(kind, monkeypatch, 0.01)
    with pytest.raises(StartError, match=rf"`backend` {backend} .* choose auto \({backend} fp32: its vectors drift"):
        opened(path, backend)


def test_a_drift_within_the_tolerance(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is within the tolerance serves."""
    drifting(OpenVino, monkeypatch, 0.0005)
    assert opened(path) == "openvino"


def test_a_backend_that_cannot_load(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A runtime that fails on this machine is passed over like one that drifts."""
    monkeypatch.setattr(OpenVino, "__init__", lambda *_: 1 / 0)
    assert opened(path) == "onnx"
    with pytest.raises(StartError, match="could not be loaded"):
        opened(path, "openvino")


def test_a_backend_that_cannot_run(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A runtime that loads the model and fails at the first text is passed over too."""
    monkeypatch.setattr(OpenVino, "run", lambda *_: 1 / 0)
    assert opened(path) == "onnx"
    with pytest.raises(StartError, match="could not be run"):
        opened(path, "openvino")


def test_not_installed(path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """auto passes over what is not installed without a word; asked for, it is an error that says what to install."""
    uninstalled(monkeypatch, "openvino")
    assert opened(path) == "onnx"
    assert "passed_over" not in caplog.text
    with pytest.raises(StartError, match=r"openvino is not installed: pip install 'openvino>="):
        opened(path, "openvino")
    uninstalled(monkeypatch, "openvino", "onnxruntime", "sentence_transformers")
    with pytest.raises(StartError, match=r"pip install 'sentence-transformers>="):
        opened(path)


def test_int8_only_on_request(monkeypatch: pytest.MonkeyPatch) -> None:
    """int8, which drifts, is tried only where the setting says so."""
    chosen = {(backend, precision): model._choices(backend, precision, "cpu") for backend in ("auto", "onnx")
              for precision in ("auto", "fp32", "int8")}  # fmt: skip
    assert {pair for pair, found in chosen.items() if ("onnx", "int8") in found} == {("auto", "int8"), ("onnx", "int8")}


def test_the_order() -> None:
    """auto tries the fastest first, and sentence-transformers last."""
    assert model._choices("auto", "auto", "cpu") == [
        ("openvino", "bf16"),
        ("openvino", "fp32"),
        ("onnx", "fp32"),
        ("torch", "fp32"),
    ]
    assert model._choices("openvino", "auto", "cpu") == [("openvino", "bf16"), ("openvino", "fp32")]


@pytest.mark.parametrize(
    ("backend", "precision", "device", "words"),
    [
        ("torch", "bf16", "", "on cpu, backend torch has fp32, not bf16"),
        ("torch", "int8", "cuda", "on cuda, backend torch has bf16, fp16, fp32, not int8"),
        ("onnx", "bf16", "", "on cpu, backend onnx has fp32, int8, not bf16"),
        ("openvino", "auto", "cuda", "backend openvino runs on the CPU; for cuda choose the backend torch"),
    ],
)
def test_what_does_not_go_together(backend: str, precision: str, device: str, words: str) -> None:
    """A precision or device that a backend does not have is an error before anything is looked for."""
    with pytest.raises(StartError, match=words):
        open_model("no/matter", backend=backend, precision=precision, device=device)


def test_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is a GPU it is taken unless what was set runs on the CPU only; then auto is torch in half precision
    on CUDA, in fp32 elsewhere."""
    for gpu, first in (("cuda", ("torch", "bf16")), ("mps", ("torch", "fp32")), ("", ("openvino", "bf16"))):
        monkeypatch.setattr(model, "_gpu", lambda gpu=gpu: gpu)
        assert model._device("auto", "auto", "") == (gpu or "cpu")
        assert model._choices("auto", "auto", gpu or "cpu")[0] == first
        assert model._device("auto", "auto", "cpu") == "cpu"
        assert model._device("openvino", "fp32", "") == "cpu"
        assert model._device("auto", "int8", "") == "cpu"
        assert model._device("auto", "auto", "cuda:1") == "cuda:1"
    assert model._choices("torch", "auto", "cuda:1") == [("torch", "bf16"), ("torch", "fp16"), ("torch", "fp32")]


def test_a_gpu_is_looked_for_without_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch is imported to look for a GPU only where a device file and torch's build speak for one."""
    monkeypatch.setitem(sys.modules, "torch", types.SimpleNamespace(
        cuda=types.SimpleNamespace(is_available=lambda: True)
    ))  # fmt: skip
    for build, files, gpu in (("2.13.0+cpu", True, ""), ("2.13.0", False, ""), ("2.13.0", True, "cuda")):
        monkeypatch.setattr(model, "version", lambda _, build=build: build)
        monkeypatch.setattr(Path, "exists", lambda self, files=files: files)
        assert model._gpu() == gpu


# ---------------------------------------------------------------- the self-test


class Fixed(Backend):
    """Gives the reference back, off by `error`."""

    name = "onnx"
    precision: Precision = "fp32"

    def __init__(self, reference: Floats, error: Floats) -> None:
        self._vectors = iter(reference + error)

    def run(self, batch: Sequence[Tokens]) -> Floats:
        return np.stack([next(self._vectors) for _ in batch])


@pytest.mark.parametrize("damage", ["none", "one text", "nan", "zeros", "longer", "shape"])
def test_self_test(path: Path, damage: str) -> None:
    """One bad vector of all of them, NaN, zeros, or another scale or shape fail the self-test."""
    tokenizer = Tokenizer.load(path / "tokenizer.json", 24)
    reference = np.random.default_rng(0).normal(size=(len(TEXTS), 8)).astype(np.float32)
    error = np.zeros_like(reference)
    expected = reference
    if damage == "one text":
        error[9] = -2 * reference[9] + 0.1
    elif damage == "nan":
        error[3, 2] = np.nan
    elif damage == "zeros":
        error[3] = -reference[3]
    elif damage == "longer":
        error = reference * np.float32(0.2)
    elif damage == "shape":
        expected = reference[:, :6]
    likeness = self_test(Fixed(reference, error), tokenizer, expected)
    assert (likeness >= TOLERANCES["int8"]) == (damage == "none")
