"""Every setting of the reasoning strategy."""

from __future__ import annotations

from dataclasses import dataclass

from shared.config import BaseConfig, setting
from shared.errors import StartError
from shared.units import Addresses, Duration, Secret, Size

_SHORTEST_KEY = 32  # characters: who has a state can try keys on it


@dataclass(frozen=True, kw_only=True)
class Config(BaseConfig):
    port: int = setting(8085, "Port to listen on; 0 picks a free one.", at_least=0, at_most=65535)
    timeout: Duration = setting("10m", "Longest a call may take; 0 sets no bound.", at_least=0)
    # Calls wait for the model and cost little meanwhile.
    max_concurrent: int = setting(1000, "Calls under way at once; one more is refused. Health is exempt.", at_least=1)
    llm: Addresses = setting("127.0.0.1:8081", "LLM providers: an address, or {NAME: address}; the first is taken.")
    tools: Addresses = setting("127.0.0.1:8084", "Tool providers: addresses, or {NAME: address}; empty for none.")
    # A run, where its Initialize does not say.
    model: str = setting("", "Model of runs that name none; empty takes the LLM provider's.")
    temperature: float | None = setting("", "Of the model; empty leaves it to the LLM provider.", at_least=0, at_most=2)
    mode: str = setting("auto", "How the model asks for tools.", choices=("auto", "native", "text"))
    max_iterations: int = setting(10, "Most steps of a run.", at_least=1, at_most=1000)
    # What no run gets past.
    max_tokens: int = setting(200_000, "Most tokens of a run, read and written; 0 sets no limit.", at_least=0)
    max_tool_calls: int = setting(50, "Most tool calls of a run; 0 sets no limit.", at_least=0)
    max_seconds: Duration = setting("10m", "Longest a run may take; 0 sets no limit.", at_least=0)
    tool_timeout: Duration = setting("60s", "Longest a tool call may take.", at_least=0.01)
    max_repairs: int = setting(3, "Times that a model is told that its output cannot be read.", at_least=0, at_most=100)
    observation_chars: int = setting(50_000, "Longest result that a tool is asked for.", at_least=200, at_most=2**22)
    kept_chars: int = setting(8_000, "Most of a result that the model sees, and the state keeps.", at_least=200)
    context_length: int = setting(0, "Tokens that the model reads and writes; 0 as its provider says.", at_least=0)
    # The state.
    state_key: Secret = setting("", "Signs states, 32 characters or more; empty: one that ends with the server.")
    older_state_keys: tuple[Secret, ...] = setting("", "Keys whose states are taken too, while they are replaced.")
    state_ttl: Duration = setting("24h", "How long a state is taken, from Initialize on.", at_least=1)
    max_state_bytes: Size = setting("1MiB", "Largest state.", at_least=2**14, at_most=2**30)
    prompts: str = setting("", "Folder of prompts that replace the plugin's own, file by file.")

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.llm:
            raise StartError("setting llm: has no address; a run needs a model")
        for name, keys in (("state_key", (self.state_key,)), ("older_state_keys", self.older_state_keys)):
            if any(0 < len(key.reveal()) < _SHORTEST_KEY for key in keys):
                raise StartError(
                    f"setting {name}: a key needs at least {_SHORTEST_KEY} characters; `openssl rand -hex 32` makes one"
                )
        if 2 * self.max_state_bytes > min(self.max_reply_bytes, self.max_request_bytes):
            raise StartError(
                "setting max_state_bytes: must be at most half of max_reply_bytes and of max_request_bytes, since each "
                "call carries the state"
            )
