"""A converted model on OpenVINO: the fastest on a CPU. bf16 where the CPU multiplies it natively."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..facts import ModelFacts
from ..quiet_openvino import import_openvino
from ..tokenizer import Tokens
from . import Backend, Floats, Precision, UnfitError, padded

FILE = "model.xml"
_HINTS: dict[Precision, str] = {"fp32": "f32", "bf16": "bf16"}


class OpenVino(Backend):
    name = "openvino"

    def __init__(self, folder: Path, facts: ModelFacts, precision: Precision) -> None:
        """`folder` holds FILE. Raises UnfitError."""
        core = import_openvino().Core()
        if precision == "bf16" and "BF16" not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
            raise UnfitError("this CPU has no bf16")
        settings = {
            "PERFORMANCE_HINT": "LATENCY",  # one request at a time, on all cores
            "INFERENCE_PRECISION_HINT": _HINTS[precision],  # unsaid, it takes bf16 wherever it can
            "ENABLE_CPU_PINNING": False,  # others run on these cores too
        }
        self._precision = precision
        self._facts = facts
        self._request = core.compile_model(folder / FILE, "CPU", settings).create_infer_request()

    @property
    def precision(self) -> Precision:
        return self._precision

    def run(self, batch: Sequence[Tokens]) -> Floats:
        # Kernels are made for each new length, which takes as long as a run: every eighth will do.
        ids, mask = padded(batch, self._facts, multiple=8)
        found: Floats = self._request.infer({0: ids, 1: mask}, share_inputs=True)[0]
        return found
