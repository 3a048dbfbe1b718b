"""What the engine needs of the world. `providers/` has both over gRPC; tests have simpler ones."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass
from typing import Protocol

from shared.errors import CallerError, Code

from .chat import Abilities, Delta, Tool, Turn, TurnRequest


class LLMFailed(CallerError):
    """The LLM could not be asked, or gave no whole turn. `code` and `reason` are its provider's."""

    reason = "LLM_FAILED"

    def __init__(
        self,
        message: str,
        *,
        code: Code = Code.UNAVAILABLE,
        reason: str | None = None,
        retry_after: float | None = None,
        tools_refused: bool = False,
        too_long: bool = False,
    ) -> None:
        """`tools_refused`: it takes no tools through its API. `too_long`: its window is too small for the messages."""
        super().__init__(message, reason=reason, retry_after=retry_after)
        self.code = code
        self.tools_refused = tools_refused
        self.too_long = too_long


class LLM(Protocol):
    def turn(self, request: TurnRequest) -> AsyncGenerator[Delta | Turn, None]:
        """The turn's pieces as they come, and last the whole Turn. Closing the generator ends the call upstream.

        Raises LLMFailed."""
        ...

    async def abilities(self, model: str) -> Abilities:
        """What is known of a model; "" is the provider's own. Never fails: what cannot be found out is unknown."""
        ...


@dataclass(frozen=True)
class Outcome:
    """What running a tool brought. `text` is for the model."""

    text: str
    is_error: bool = False
    denied: bool = False  # a policy did not allow it


class Tools(Protocol):
    async def tools(self) -> Mapping[str, Tool]:
        """Every provider's tools, by the names that models see. Raises Unavailable where a provider cannot be asked
        and was not asked before."""
        ...

    async def execute(self, tool: str, arguments_json: str, call_id: str, seconds: float) -> Outcome:
        """Runs a tool, for `seconds` at most. Whatever goes wrong out there is an Outcome: a tool that failed, a
        provider that is gone. What may have taken effect is tried again only where that does no harm."""
        ...
