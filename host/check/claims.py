"""What a claim is, and how one ends: it returns, or raises Broken, NotOffered or NotAsked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from host.check.subject import Subject

GUIDE, FULL = "guide", "full"
LEVELS = (GUIDE, FULL)


class Broken(Exception):
    """The claim does not hold. The message says what is wrong; `reply` is the one to show, else the last is shown."""

    def __init__(self, message: str, reply: Any = None) -> None:
        super().__init__(message)
        self.reply = reply


class NotOffered(Exception):
    """The plugin answers UNIMPLEMENTED."""


class NotAsked(Exception):
    """The claim takes what the operator did not give, such as a prompt; the message names it."""


def expect(holds: object, otherwise: str, reply: Any = None) -> None:
    """Fails the claim where `holds` is false; `otherwise` says what is wrong. Raises Broken."""
    if not holds:
        raise Broken(otherwise, reply)


@dataclass(frozen=True)
class Claim:
    """One sentence that is true of every right plugin of its kind, and the function that tries it."""

    kind: str  # database, embedder, llm, tools, reasoning; serving, started for all of them
    level: str  # guide or full
    sentence: str
    contract: str  # what it holds the plugin to
    function: Callable[[Subject], None]

    @property
    def name(self) -> str:
        return self.function.__name__


class Claims(list[Claim]):
    """The claims of one kind, in the order in which they stand in their file."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind

    def guide(self, sentence: str, contract: str) -> Callable[[Callable[[Subject], None]], Callable[[Subject], None]]:
        """For what the guide names itself."""
        return self._adds(GUIDE, sentence, contract)

    def full(self, sentence: str, contract: str) -> Callable[[Callable[[Subject], None]], Callable[[Subject], None]]:
        """For the additions."""
        return self._adds(FULL, sentence, contract)

    def _adds(
        self, level: str, sentence: str, contract: str
    ) -> Callable[[Callable[[Subject], None]], Callable[[Subject], None]]:
        def add(function: Callable[[Subject], None]) -> Callable[[Subject], None]:
            self.append(Claim(self.kind, level, sentence, contract, function))
            return function

        return add
