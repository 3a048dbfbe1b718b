"""Every setting: on the command line, in the environment and in the file by the same name."""

from __future__ import annotations

from dataclasses import dataclass

from shared.config import BaseConfig, setting
from shared.errors import StartError
from shared.sealed import SHORTEST_KEY
from shared.units import Addresses, Secret


@dataclass(frozen=True, kw_only=True)
class Config(BaseConfig):
    port: int = setting(8085, "Port to listen on; 0 picks a free one.", at_least=0, at_most=65535)
    state_key: Secret = setting("", "Key that signs the runs' states; without one they do not outlive the server.")
    # Yours from here on.
    llm: Addresses = setting("", "LLM plugins: HOST:PORT, or {NAME: address}; without one it gives the question back.")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.state_key and len(self.state_key.reveal().encode()) < SHORTEST_KEY:
            raise StartError("setting state_key: is too short; `openssl rand -hex 32` makes one")
