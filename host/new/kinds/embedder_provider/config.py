"""Every setting: on the command line, in the environment and in the file by the same name."""

from __future__ import annotations

from dataclasses import dataclass

from shared.config import BaseConfig, setting


@dataclass(frozen=True, kw_only=True)
class Config(BaseConfig):
    port: int = setting(8083, "Port to listen on; 0 picks a free one.", at_least=0, at_most=65535)
    # Yours from here on; each is handed to Engine(…) by its name.
    dimension: int = setting(256, "Floats a vector.", at_least=1, at_most=16_384)
