"""A converted model on onnxruntime. int8 is nearly as fast as OpenVINO's bf16 where a CPU has no bf16, and drifts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import onnxruntime

from ..facts import ModelFacts
from ..tokenizer import Tokens
from . import Backend, Floats, Precision, padded

FILE = "model.onnx"


class Onnx(Backend):
    name = "onnx"

    def __init__(self, folder: Path, facts: ModelFacts, precision: Precision) -> None:
        """`folder` holds FILE, already quantised where `precision` is int8."""
        self._precision = precision
        self._facts = facts
        self._session = onnxruntime.InferenceSession(str(folder / FILE), providers=["CPUExecutionProvider"])

    @property
    def precision(self) -> Precision:
        return self._precision

    def run(self, batch: Sequence[Tokens]) -> Floats:
        ids, mask = padded(batch, self._facts)
        found: Floats = self._session.run(None, {"input_ids": ids, "attention_mask": mask})[0]
        return found
