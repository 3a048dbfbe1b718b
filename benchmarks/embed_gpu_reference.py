"""What embed_st is held to on a GPU: `SentenceTransformer.encode` and the bare forward pass, in a process of its own;
and what the bench needs besides: texts of a length, a model of BERT base's shape, how long health checks take."""

from __future__ import annotations

import json
import shutil
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from benchmarks.harness import rate

# Each is one token of MiniLM's vocabulary.
_WORDS = (
    "index vector store write disk page graph node search query batch token model server client stream error retry "
    "limit cache memory thread lock file commit"
).split()
FORWARD_TEXTS = 256

_models: dict[tuple[str, str], Any] = {}


def texts(count: int, tokens: int) -> list[str]:
    """Different ones of about so many tokens each, special ones included."""
    words = [_WORDS[(7 * number + number // 25) % len(_WORDS)] for number in range(count + tokens)]
    return [" ".join(words[number : number + tokens - 4]) + f" {number}" for number in range(count)]


def base_model(like: Path, folder: Path) -> Path:
    """A BERT of 12 layers and 768 dimensions with random weights and 512 tokens, otherwise as the model in `like`."""
    import torch
    from transformers import BertConfig, BertModel

    target = folder / "base"
    shutil.copytree(like, target, ignore=shutil.ignore_patterns("*.safetensors", "*.bin"))
    config = json.loads((target / "config.json").read_text(encoding="utf-8"))
    config |= {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072}
    torch.manual_seed(0)
    known = {name: value for name, value in config.items() if name not in ("_name_or_path", "architectures")}
    BertModel(BertConfig(**known)).save_pretrained(target)
    for name, key, value in (
        ("1_Pooling/config.json", "word_embedding_dimension", 768),
        ("sentence_bert_config.json", "max_seq_length", 512),
    ):
        content = json.loads((target / name).read_text(encoding="utf-8")) | {key: value}
        (target / name).write_text(json.dumps(content), encoding="utf-8")
    return target


def encode_rate(model: str, device: str, precision: str, given: Sequence[str], batch: int) -> float:
    """Texts a second."""
    library = _model(model, device, precision)
    return rate(len(given), lambda: library.encode(list(given), batch_size=batch, show_progress_bar=False))


def forward_rate(model: str, device: str, precision: str, given: Sequence[str], repeats: int = 4) -> float:
    """Texts a second of the forward pass alone, 256 texts at once, which are on the device already."""
    import torch

    library = _model(model, device, precision)
    features = {
        name: value.to(device) if hasattr(value, "to") else value
        for name, value in library.preprocess(list(given[:FORWARD_TEXTS])).items()
    }

    def work() -> None:
        with torch.inference_mode():
            for _ in range(repeats):
                library(dict(features))
            if device != "cpu":
                torch.cuda.synchronize()

    return rate(repeats * min(FORWARD_TEXTS, len(given)), work)


def forget() -> None:
    """The models' memory is free again."""
    import gc

    import torch

    _models.clear()
    gc.collect()
    torch.cuda.empty_cache()


def device_name(device: str) -> str:
    import torch

    return str(torch.cuda.get_device_name()) if device != "cpu" else "CPU"


def _model(model: str, device: str, precision: str) -> Any:
    import torch
    from sentence_transformers import SentenceTransformer

    if (model, precision) not in _models:
        library = SentenceTransformer(model, device=device, local_files_only=True)
        _models[model, precision] = library.to(getattr(torch, precision)).eval()
    return _models[model, precision]


def health_p99(address: str, seconds: float) -> float:
    """Of the seconds that a health check takes, asked every 10 ms, from when it was meant to be asked."""
    times: list[float] = []
    with grpc.insecure_channel(address) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        stub.Check(health_pb2.HealthCheckRequest())
        ends = time.perf_counter() + seconds
        due = time.perf_counter()
        while due < ends:
            stub.Check(health_pb2.HealthCheckRequest())
            now = time.perf_counter()
            times.append(now - due)
            due = max(due + 0.01, now - 1)
            time.sleep(max(0, due - now))
    return statistics.quantiles(times, n=100)[98]
