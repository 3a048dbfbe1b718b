"""Every setting of the embedder."""

from __future__ import annotations

from dataclasses import dataclass

from shared.config import BaseConfig, setting
from shared.units import Duration


@dataclass(frozen=True, kw_only=True)
class Config(BaseConfig):
    port: int = setting(8083, "Port to listen on; 0 picks a free one.", at_least=0, at_most=65535)
    timeout: Duration = setting("10m", "Longest a call may take; 0 sets no bound.", at_least=0)
    model: str = setting(
        "sentence-transformers/all-MiniLM-L6-v2",
        "A folder that holds a model, or a name: looked for in the cache, the offline_model package, then the hub.",
    )
    backend: str = setting(
        "auto",
        "What runs the model; auto takes the fastest that passes its self-test.",
        choices=("auto", "torch", "openvino", "onnx"),
    )
    precision: str = setting(
        "auto",
        "Of the arithmetic; auto takes bf16 where CPU or GPU has it, int8 comes only on request.",
        choices=("auto", "fp32", "bf16", "fp16", "int8"),
    )
    cache_dir: str = setting("", "Folder for downloaded and converted models; empty takes the usual ones.")
    device: str = setting("", "cpu, cuda, mps, …; empty takes a GPU where there is one.")
    batch_tokens: int = setting(
        0,
        "Tokens that go through the model at once, padding included; 0: 1024 on a CPU, tried out on a GPU.",
        at_least=0,
    )
    max_queued: int = setting(4096, "Texts that may wait for the model; further calls are refused.", at_least=1)
