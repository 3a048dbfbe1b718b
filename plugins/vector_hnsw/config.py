"""Every setting of the vector store."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from shared.config import BaseConfig, plugin_of, setting
from shared.units import Size

from . import PACKAGE


@dataclass(frozen=True, kw_only=True)
class Config(BaseConfig):
    port: int = setting(8082, "Port to listen on; 0 picks a free one.", at_least=0, at_most=65535)
    data_dir: Path = setting(f"./data/{plugin_of(PACKAGE)}", "Folder that holds everything; created when missing.")
    max_limit: int = setting(1000, "Largest `limit` of a search.", at_least=1, at_most=100_000)
    max_collections: int = setting(1000, "Most collections, and most aliases.", at_least=1)
    max_memory: Size = setting("0", "Most that all graphs may take in memory, such as 8GiB; 0 sets no bound.")
    threads: int = setting(0, "Threads that insert into a graph; 0 takes one for each core.", at_least=0, at_most=256)
    reader: bool = setting(False, "Only read, beside the process that writes the same data_dir, on another port.")
