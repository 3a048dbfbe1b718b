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
    backend: str = setting("auto", "What runs the model; auto takes the best there is.", choices=("auto", "torch"))
    cache_dir: str = setting("", "Hugging Face cache folder; empty takes the usual one.")
    device: str = setting("", "cpu, cuda, mps, …; empty takes a GPU where there is one.")
    batch_size: int = setting(32, "Texts that go through the model at once.", at_least=1, at_most=1024)
