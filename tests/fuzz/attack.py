"""What an attack is: a generator that does one small step of harm, and then says what it sent.

    def run(target: Target, random: Random) -> Steps: ...

Each kind of attack is a module of `tests/fuzz/attacks`; `tests/fuzz/kinds.py` has them all. A step takes well under a
second, also against a server that does not answer. What an attack holds on to (connections, streams) it lets go of when
it is closed. An OSError ends it; it is then begun anew.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from random import Random

TOKEN = "fuzz-token"  # of every plugin that is attacked


@dataclass(frozen=True)
class Target:
    """A plugin that runs. `address` is HOST:PORT."""

    plugin: str
    address: str
    token: str = TOKEN

    def maybe_token(self, random: Random) -> str:
        """The token, or none: half of what comes is a stranger's."""
        return self.token if random.random() < 0.5 else ""


@dataclass(frozen=True)
class Sent:
    """One step. With a `method`, `data` is a message of a call; without, it is what went over a new connection."""

    what: str
    data: bytes = b""
    method: str = ""


@dataclass(frozen=True)
class Problem:
    """An answer that no server should give, and what it was the answer to."""

    what: str
    sent: Sent


Steps = Generator[Sent | Problem, None, None]
Attack = Callable[[Target, Random], Steps]
