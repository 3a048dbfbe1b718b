"""A scripted model behind an OpenAI-compatible endpoint: a real HTTP server, in a thread of this process.

    with Model() as model:
        model.plays(call("price", item="lamp"), lambda asked: says(f"It costs {asked.results[-1]}."))

Each turn is what is answered to one request, in order; one that is a function gets what was asked, as a model would see
it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tests.llm_endpoint import HANG, Endpoint, Play, Seen, answer, called, chunk, event, piece, refusal

Body = Mapping[str, Any]
FENCE = re.compile(r"<tool_result-([0-9A-Za-z]+)[^>\n]*>\n(.*?)\n</tool_result-\1>", re.DOTALL)


@dataclass(frozen=True)
class Asked:
    """A request as its model sees it."""

    body: Body

    @property
    def messages(self) -> Sequence[Mapping[str, Any]]:
        return self.body["messages"]  # type: ignore[no-any-return]

    @property
    def tools(self) -> list[str]:
        """The names of the tools that it is offered through its API."""
        return [tool["function"]["name"] for tool in self.body.get("tools", [])]

    @property
    def text(self) -> str:
        """All of it, as text."""
        return "\n".join(f"{message['role']}: {message.get('content') or ''}" for message in self.messages)

    @property
    def results(self) -> list[str]:
        """What stands in the fences, bare."""
        told = [message.get("content") or "" for message in self.messages if message["role"] in ("tool", "user")]
        return [inside for text in told for _, inside in FENCE.findall(text)]


@dataclass(frozen=True)
class Reply:
    """What a model answers: text, and calls of tools through its API."""

    text: str = ""
    calls: tuple[tuple[str, Mapping[str, Any]], ...] = ()
    play: Play | None = None  # in place of both

    def played(self, body: Body, number: int) -> Play:
        if self.play is not None:
            return self.play
        if not self.calls:
            return answer(body, self.text)
        pieces = [
            piece(n, f"call-{number}-{n}", name, json.dumps(arguments))
            for n, (name, arguments) in enumerate(self.calls)
        ]
        play = called(*pieces)
        return Play([event(chunk(self.text)), *play.pieces]) if self.text else play


def says(text: str) -> Reply:
    return Reply(text)


def call(name: str, **arguments: Any) -> Reply:
    return Reply(calls=((name, arguments),))


def calls(*every: tuple[str, Mapping[str, Any]], text: str = "") -> Reply:
    return Reply(text, every)


def writes(name: str, thought: str = "I need a tool.", **arguments: Any) -> Reply:
    """A call as TEXT mode wants it."""
    return Reply(f"Thought: {thought}\nAction: {name}\nAction Input: {json.dumps(arguments)}")


def silent() -> Reply:
    """Nothing, until the client goes."""
    return Reply(play=Play([event(chunk("Hm"))], ends=HANG))


class Model(Endpoint):
    """`asked` has every completion that was asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[Asked] = []
        self._turns: list[Any] = []
        self._last_for_good = False

    def plays(self, *turns: Any, for_good: bool = False) -> None:
        """From here on: a Reply, or a function of Asked that gives one, a request. `for_good`: the last goes on."""
        self._turns, self._last_for_good = list(turns), for_good
        self.asked.clear()
        self.seen.clear()

    def _choose(self, seen: Seen) -> Play:
        if seen.path.endswith("/models"):
            model = {"id": "scripted", "supported_parameters": ["tools"], "context_length": 100_000}
            return Play([json.dumps({"data": [model]})], kind="application/json", chunked=False)
        asked = Asked(seen.body)
        self.asked.append(asked)
        if not self._turns:
            return refusal(400, "the script is over")
        turn = self._turns[0] if self._last_for_good and len(self._turns) == 1 else self._turns.pop(0)
        try:
            reply = turn(asked) if callable(turn) else turn
        except Exception as error:  # it would be lost in the server's thread
            return refusal(400, f"the script failed: {error!r}")
        return reply.played(seen.body, len(self.asked))  # type: ignore[no-any-return]
