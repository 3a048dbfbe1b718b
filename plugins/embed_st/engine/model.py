"""A model ready to serve: the fastest backend that gives the vectors of sentence-transformers.

    OpenVINO bf16  >  OpenVINO fp32  >  onnxruntime fp32  >  sentence-transformers itself

in this order, by measurement; on a GPU it is sentence-transformers in bf16. Whatever is not sentence-transformers in
fp32 has to pass a self-test against vectors that it made.
"""

from __future__ import annotations

import gc
import importlib.util
import logging
import platform
import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import NamedTuple

from shared import logs
from shared.errors import StartError

from .backends import Backend, DeviceMemoryError, Floats, Name, Precision, UnfitError
from .conversions import Converted, converted
from .convert import Kind
from .facts import ModelFacts
from .models import Source, find
from .reference import TEXTS, TOLERANCES, self_test
from .tokenizer import Tokenizer

# The fastest first. int8 drifts, so it is never taken unasked.
_CHOICES: tuple[tuple[Name, Precision], ...] = (
    ("openvino", "bf16"),
    ("openvino", "fp32"),
    ("onnx", "fp32"),
    ("torch", "fp32"),
    ("onnx", "int8"),
)
# Of an NVIDIA GPU, the fastest first.
_CUDA_CHOICES: tuple[tuple[Name, Precision], ...] = (("torch", "bf16"), ("torch", "fp16"), ("torch", "fp32"))
_PACKAGES: dict[Name, str] = {"openvino": "openvino", "onnx": "onnxruntime", "torch": "sentence_transformers"}
_INSTALLED_BY: dict[Name, str] = {
    "openvino": "'openvino>=2026.4,<2027' 'onnx>=1.23,<2'",
    "onnx": "'onnxruntime>=1.32,<2' 'onnx>=1.23,<2'",
    "torch": "'sentence-transformers>=6.2,<7'",
}


class Model(NamedTuple):
    facts: ModelFacts
    tokenizer: Tokenizer
    backend: Backend


def open_model(
    model: str,
    *,
    backend: str = "auto",
    precision: str = "auto",
    cache_dir: str = "",
    cache_home: Path | None = None,
    device: str = "",
) -> Model:
    """Finds, converts if need be, loads and tests the model. Takes 0.5 s with a converted one in the cache, else many.

    `backend`: auto, torch, openvino or onnx. `precision`: auto, fp32, bf16, fp16 or int8. `cache_dir`: where Hugging
    Face's cache and the converted models are, if not in their usual places; `cache_home`: the usual place of the
    latter, if not `~/.cache`. `device`: as torch names it, "" takes a GPU where there is one. Raises StartError.
    """
    device = _device(backend, precision, device)
    choices = _choices(backend, precision, device)
    if cache_dir:  # a conversion runs in a folder of its own
        cache_dir = str(Path(cache_dir).expanduser().absolute())
    source = find(model, cache_dir)
    cache = Path(cache_dir) if cache_dir else (cache_home or Path.home() / ".cache").absolute()
    reasons = []
    for name, exact in choices:
        if importlib.util.find_spec(_PACKAGES[name]) is None:
            reasons.append(f"{name} is not installed: pip install {_INSTALLED_BY[name]}")
            continue
        try:
            if name != "torch":
                opened = _converted(source, name, exact, cache)
            else:
                opened = _cuda(source, device, exact) if device.startswith("cuda") else _torch(source, device)
        except (UnfitError, OSError) as error:
            reasons.append(f"{name} {exact}: {error}")
            logs.event("backend_passed_over", level=logging.WARNING, backend=name, precision=exact, reason=error)
            continue
        logs.event("model_ready", model=model, backend=name, precision=opened.backend.precision)
        return opened
    raise StartError(
        f"model {model} cannot be served as `backend` {backend} and `precision` {precision} want it; "
        f"choose auto ({'; '.join(reasons)})"
    )


def _device(backend: str, precision: str, device: str) -> str:
    """The one that was asked for, else a GPU where there is one that can do what was asked for, else the CPU."""
    if not device and (gpu := _gpu()) and any(_wanted(backend, precision, gpu)):
        return gpu
    return device or "cpu"


def _choices(backend: str, precision: str, device: str) -> list[tuple[Name, Precision]]:
    """What to try, in order. Raises StartError where nothing is left."""
    if wanted := _wanted(backend, precision, device):
        return wanted
    if device != "cpu" and backend not in ("auto", "torch"):
        raise StartError(f"setting device: backend {backend} runs on the CPU; for {device} choose the backend torch")
    has = ", ".join(exact for name, exact in _table(device) if backend in ("auto", name)) or "no precision"
    raise StartError(f"setting precision: on {device}, backend {backend} has {has}, not {precision}")


def _wanted(backend: str, precision: str, device: str) -> list[tuple[Name, Precision]]:
    return [
        (name, exact)
        for name, exact in _table(device)
        if backend in ("auto", name) and (precision == exact or (precision == "auto" and exact != "int8"))
    ]


def _table(device: str) -> Sequence[tuple[Name, Precision]]:
    if device.startswith("cuda"):
        return _CUDA_CHOICES
    return _CHOICES if device == "cpu" else [choice for choice in _CHOICES if choice[0] == "torch"]


def _torch(source: Source, device: str) -> Model:
    # Takes seconds to import, in which the server already answers health checks.
    from .backends.pytorch import Torch

    backend = Torch(source.folder, name=source.name, sha256=source.sha256)
    try:
        backend.move(device)
    except Exception as error:
        raise StartError(f"setting device: torch cannot use {device!r} here ({str(error)[:200]})") from error
    return Model(backend.facts, backend.tokenizer, backend)


def _cuda(source: Source, device: str, precision: Precision) -> Model:
    """Raises UnfitError, also where the vectors are not the model's."""
    from .backends.card import Card
    from .backends.gpu import Gpu
    from .backends.pytorch import Torch

    gc.collect()  # a precision that was passed over may still have its memory on the card
    try:
        card = Card(device)
    except Exception as error:
        raise StartError(f"setting device: torch cannot use {device!r} here ({str(error)[:200]})") from error
    if precision == "bf16" and not card.has_bf16():
        raise UnfitError("this card has no bf16")
    loaded = Torch(source.folder, name=source.name, sha256=source.sha256)
    tokens = loaded.tokenizer.encode(TEXTS)
    try:
        loaded.move(device, "fp32")
        vectors = loaded.run(tokens)
    except card.memory_error:  # where it is large, the card may have memory for it in half precision only
        loaded.move("cpu", "fp32")
        vectors = loaded.run(tokens)
    try:
        loaded.move(device, precision)
        backend = Gpu(loaded, card)
        _held_to(vectors, backend, loaded.tokenizer, passes=3)  # in the third all runs as graphs
        backend.warm_up()
    except (card.memory_error, DeviceMemoryError) as error:
        raise UnfitError(f"the card has no memory for it ({error})") from error
    except UnfitError:
        raise
    except Exception as error:  # whatever CUDA has against this card
        raise UnfitError(f"it could not be run ({type(error).__name__}: {str(error)[:200]})") from error
    return Model(loaded.facts, loaded.tokenizer, backend)


def _converted(source: Source, name: Name, precision: Precision, cache: Path) -> Model:
    """Raises UnfitError, also where the vectors are not the model's."""
    kind: Kind = "openvino" if name == "openvino" else "onnx-int8" if precision == "int8" else "onnx"
    with converted(source, kind, cache) as found:
        backend = _load(found, name, precision)
        _held_to(found.reference, backend, found.tokenizer)
    return Model(found.facts, found.tokenizer, backend)


def _held_to(vectors: Floats, backend: Backend, tokenizer: Tokenizer, passes: int = 1) -> None:
    """Raises UnfitError where the backend's vectors of `TEXTS` are not these."""
    try:
        likeness = min(self_test(backend, tokenizer, vectors) for _ in range(passes))
    except DeviceMemoryError:
        raise
    except Exception as error:  # what it cannot run shows here
        raise UnfitError(f"it could not be run ({type(error).__name__}: {str(error)[:200]})") from error
    least = TOLERANCES[backend.precision]
    if not likeness >= least:
        raise UnfitError(
            f"its vectors drift from those of sentence-transformers (least cosine {likeness:.6f}, not {least:g})"
        )
    logs.event("self_test", backend=backend.name, precision=backend.precision, least_cosine=f"{likeness:.7f}")


def _load(found: Converted, name: Name, precision: Precision) -> Backend:
    try:
        if name == "openvino":
            from .backends.openvino import OpenVino

            return OpenVino(found.folder, found.facts, precision)
        from .backends.onnx import Onnx

        return Onnx(found.folder, found.facts, precision)
    except UnfitError:
        raise
    except Exception as error:  # whatever its library has against this machine
        raise UnfitError(f"it could not be loaded ({type(error).__name__}: {str(error)[:200]})") from error


def _gpu() -> str:
    """What torch calls the one that it would take, "" where there is none. It is imported only where the machine looks
    like it."""
    try:
        cpu_only = version("torch").endswith("+cpu")
    except PackageNotFoundError:
        return ""
    signs = ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg")
    apple = sys.platform == "darwin" and platform.machine() == "arm64"
    if cpu_only or not (apple or any(Path(sign).exists() for sign in signs)):
        return ""
    import torch

    return "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else ""
