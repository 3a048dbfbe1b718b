"""Makes a model's converted form. Runs as a process of its own, so that the server that follows never holds torch.

`python -m plugins.embed_st.engine.convert` with a Task as JSON. Where its standard input ends before it does, whoever
asked is gone: it removes what it has made so far, and ends.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import threading
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from shared.errors import StartError

from . import reference

Kind = Literal["openvino", "onnx", "onnx-int8"]
FACTS, TOKENIZER, VECTORS, REFUSED, FAILED = (
    "facts.json",
    "tokenizer.json",
    "reference.npy",
    "refused.txt",
    "failed.txt",
)


@dataclass(frozen=True)
class Task:
    model: str
    """Folder of the model."""
    name: str
    """What errors call it."""
    sha256: str
    kind: Kind
    target: str
    """An empty folder. Afterwards it holds the converted model, FACTS, TOKENIZER and VECTORS; or REFUSED, with the
    reason, where a model of that kind cannot be converted."""


def convert(task: Task) -> None:
    """Takes seconds. Raises StartError where the model cannot be served at all."""
    from .backends.pytorch import Torch

    target = Path(task.target)
    source = Torch(Path(task.model), name=task.name, sha256=task.sha256)
    refused = _refused(source.model, Path(task.model))
    if refused:
        (target / REFUSED).write_text(refused, encoding="utf-8")
        return
    vectors = source.model.encode(list(reference.TEXTS), prompt="", show_progress_bar=False, convert_to_numpy=True)
    np.save(target / VECTORS, vectors.astype(np.float32, copy=False))
    source.tokenizer.save(target / TOKENIZER)
    (target / FACTS).write_text(source.facts.to_json(), encoding="utf-8")
    _export(source.model, target / "model.onnx")
    if task.kind == "openvino":
        _to_openvino(target)
    elif task.kind == "onnx-int8":
        _to_int8(target)


def _refused(model: Any, folder: Path) -> str:
    """Why this model is not converted; "" where it is."""
    import torch
    from sentence_transformers.sentence_transformer import modules as known

    if type(model[0]) is not known.Transformer:
        return f"it begins with {type(model[0]).__name__}"
    for module in list(model)[1:]:
        if type(module) not in (known.Pooling, known.Dense, known.Normalize):
            return f"it has a module {type(module).__name__}"
        if not getattr(module, "include_prompt", True):
            return "its pooling leaves out the prompt"
    if model.dtype != torch.float32:
        return f"its weights are {str(model.dtype).removeprefix('torch.')}"
    if (folder / "adapter_config.json").exists():
        return "it is an adapter of another model"
    return ""


def _export(model: Any, path: Path) -> None:
    """The whole of the model, pooling and the rest included, as one ONNX graph for any batch and length."""
    import torch

    class Graph(torch.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, input_ids: Any, attention_mask: Any) -> Any:
            return self.model({"input_ids": input_ids, "attention_mask": attention_mask})["sentence_embedding"]

    # The one form of attention that exports to plain operators.
    model[0].auto_model.set_attn_implementation("eager")
    features = model.preprocess([reference.TEXTS[0], reference.TEXTS[2]])
    free = {0: "texts", 1: "tokens"}
    with torch.no_grad(), warnings.catch_warnings(action="ignore"):  # they are for whoever wrote the model
        torch.onnx.export(
            Graph(),
            (features["input_ids"], features["attention_mask"]),
            str(path),
            dynamo=False,
            opset_version=17,
            input_names=["input_ids", "attention_mask"],
            output_names=["embedding"],
            dynamic_axes={"input_ids": free, "attention_mask": free, "embedding": {0: "texts"}},
        )


def _to_openvino(target: Path) -> None:
    from .backends.openvino import FILE
    from .quiet_openvino import import_openvino

    openvino = import_openvino()
    graph = openvino.Core().read_model(target / "model.onnx")
    openvino.save_model(graph, target / FILE, compress_to_fp16=False)
    (target / "model.onnx").unlink()


def _to_int8(target: Path) -> None:
    from onnxruntime.quantization import QuantType, quantize_dynamic

    whole = target / "model.onnx"
    quantize_dynamic(whole, target / "model.int8.onnx", weight_type=QuantType.QInt8, per_channel=True)
    (target / "model.int8.onnx").replace(whole)


def _end_with_parent(target: str) -> None:
    sys.stdin.read()
    for _ in range(2):  # while it is removed more may be written
        shutil.rmtree(target, ignore_errors=True)
    os._exit(1)


def main() -> None:
    task = Task(**json.loads(sys.argv[1]))
    threading.Thread(target=_end_with_parent, args=(task.target,), daemon=True).start()
    try:
        convert(task)
    except StartError as error:
        (Path(task.target) / FAILED).write_text(str(error), encoding="utf-8")
        sys.exit(2)


if __name__ == "__main__":
    main()
