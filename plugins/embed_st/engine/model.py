"""A model ready to serve: the fastest backend that gives the vectors of sentence-transformers.

    OpenVINO bf16  >  OpenVINO fp32  >  onnxruntime fp32  >  sentence-transformers itself

in this order, by measurement; on a GPU it is sentence-transformers. Whatever is not sentence-transformers has to pass
a self-test against vectors that it made.
"""

from __future__ import annotations

import importlib.util
import logging
import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import NamedTuple

from shared import logs
from shared.errors import StartError

from .backends import Backend, Name, Precision, UnfitError
from .conversions import Converted, converted
from .convert import Kind
from .facts import ModelFacts
from .models import Source, find
from .reference import TOLERANCES, self_test
from .tokenizer import Tokenizer

# The fastest first. int8 drifts, so it is never taken unasked.
_CHOICES: tuple[tuple[Name, Precision], ...] = (
    ("openvino", "bf16"),
    ("openvino", "fp32"),
    ("onnx", "fp32"),
    ("torch", "fp32"),
    ("onnx", "int8"),
)
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

    `backend`: auto, torch, openvino or onnx. `precision`: auto, fp32, bf16 or int8. `cache_dir`: where Hugging Face's
    cache and the converted models are, if not in their usual places; `cache_home`: the usual place of the latter, if
    not `~/.cache`. `device`: as torch names it, "" takes a GPU where there is one. Raises StartError.
    """
    choices = _choices(backend, precision, device)
    source = find(model, cache_dir)
    cache = Path(cache_dir).expanduser() if cache_dir else cache_home or Path.home() / ".cache"
    reasons = []
    for name, exact in choices:
        if importlib.util.find_spec(_PACKAGES[name]) is None:
            reasons.append(f"{name} is not installed: pip install {_INSTALLED_BY[name]}")
            continue
        try:
            opened = _torch(source, device) if name == "torch" else _converted(source, name, exact, cache)
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


def _choices(backend: str, precision: str, device: str) -> list[tuple[Name, Precision]]:
    """What to try, in order. Raises StartError where nothing is left."""
    wanted = [
        (name, exact)
        for name, exact in _CHOICES
        if backend in ("auto", name) and (precision == exact or (precision == "auto" and exact != "int8"))
    ]
    if not wanted:
        has = ", ".join(exact for name, exact in _CHOICES if backend in ("auto", name)) or "no precision"
        raise StartError(f"setting precision: backend {backend} has {has}, not {precision}")
    torch_only = [choice for choice in wanted if choice[0] == "torch"]
    elsewhere = device not in ("", "cpu")
    if elsewhere and not torch_only:
        raise StartError(f"setting device: backend {backend} runs on the CPU; for {device} choose the backend torch")
    if torch_only and (elsewhere or (not device and _has_gpu())):
        return torch_only
    return wanted


def _torch(source: Source, device: str) -> Model:
    # Takes seconds to import, in which the server already answers health checks.
    from .backends.pytorch import Torch

    backend = Torch(source.folder, name=source.name, sha256=source.sha256, device=device)
    return Model(backend.facts, backend.tokenizer, backend)


def _converted(source: Source, name: Name, precision: Precision, cache: Path) -> Model:
    """Raises UnfitError, also where the vectors are not the model's."""
    kind: Kind = "openvino" if name == "openvino" else "onnx-int8" if precision == "int8" else "onnx"
    with converted(source, kind, cache) as found:
        backend = _load(found, name, precision)
        try:
            likeness = self_test(backend, found.tokenizer, found.reference)
        except Exception as error:  # what it cannot run shows here
            raise UnfitError(f"it could not be run ({type(error).__name__}: {str(error)[:200]})") from error
    if not likeness >= TOLERANCES[precision]:
        raise UnfitError(
            f"its vectors drift from those of sentence-transformers (least cosine {likeness:.6f}, "
            f"not {TOLERANCES[precision]:g})"
        )
    logs.event("self_test", backend=name, precision=precision, least_cosine=f"{likeness:.7f}")
    return Model(found.facts, found.tokenizer, backend)


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


def _has_gpu() -> bool:
    """Whether torch would take one. It is imported only where the machine looks like it."""
    try:
        cpu_only = version("torch").endswith("+cpu")
    except PackageNotFoundError:
        return False
    signs = ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg")
    apple = sys.platform == "darwin" and platform.machine() == "arm64"
    if cpu_only or not (apple or any(Path(sign).exists() for sign in signs)):
        return False
    import torch

    return bool(torch.cuda.is_available() or torch.backends.mps.is_available())
