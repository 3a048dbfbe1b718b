"""Retrieval as a tool: the model asks the documents, and each passage that it is given gets a number to cite it by.

One Retrieval a run. `given` is what the model was given, which is all that it can cite (`citations.py`); in a
conversation it goes from one run to the next.
"""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import replace
from threading import Thread
from typing import TypeVar

from host.agents.tool_server import Outcome, Tool
from host.clients import Collection, Embedder
from host.search import Passage, search
from shared.errors import StartError

NAME = "search_documents"
RESULT_CHARS = 6_000  # of a result at most, so that no strategy cuts a passage out of what the model is given
_LONGEST_QUERY = 2_000  # characters

PROMPT = f"""\
Where a question may be about the documents, look it up with {NAME} and build the answer on the passages that it gives.
Each passage begins with its number in square brackets. Cite the passage behind each statement by that number, as in
[2], and cite no number that you were not given. Put into double quotes only what stands in a passage word for word.
Where the passages do not answer the question, say so."""

T = TypeVar("T")


class Retrieval:
    """A Runner (`tool_server.py`) of the one tool."""

    def __init__(
        self, embedder: Embedder, collection: Collection, max_hits: int, min_score: float | None, about: str = ""
    ) -> None:
        """`about`: what the documents are, for the model. `min_score`: passages below it are not given."""
        self.name = "documents"
        self.given: list[Passage] = []  # number n is given[n - 1]
        self._embedder, self._collection = embedder, collection
        self._max_hits, self._min_score = max_hits, min_score
        self._about = about

    async def list(self) -> Sequence[Tool]:
        about = f" They are: {self._about}." if self._about else ""
        return [
            Tool(
                NAME,
                f"Searches the documents of collection {self._collection.name} by meaning and gives the passages that "
                f"are nearest to the query, each with a number to cite it by.{about} Ask for one thing at a time, in "
                'whole words, as in {"query": "how a plugin is stopped"}.',
                {
                    "type": "object",
                    "properties": {
                        "query": {"type": "string", "minLength": 1, "description": "What to look for."},
                        "limit": {
                            "type": "integer",
                            "minimum": 1,
                            "maximum": self._max_hits,
                            "description": f"Passages at most [{self._max_hits}].",
                        },
                    },
                    "required": ["query"],
                    "additionalProperties": False,
                },
                read_only=True,
                idempotent=True,
            )
        ]

    async def execute(self, tool: Tool, arguments: str, call_id: str, seconds: float) -> Outcome:
        asked = json.loads(arguments)
        query, limit = str(asked["query"])[:_LONGEST_QUERY], int(asked.get("limit", self._max_hits))
        if not query.strip():
            return Outcome(f"{NAME} was not run: query is blank; say what to look for", is_error=True)
        try:
            async with asyncio.timeout(seconds):
                hits = await in_daemon(lambda: list(search(query, limit, self._embedder, self._collection)))
        except TimeoutError:
            return Outcome(f"{NAME} did not end in the {seconds:.3g} s that it had", is_error=True)
        except StartError as error:
            return Outcome(f"{NAME} failed: {error}", is_error=True)
        hits = [hit for hit in hits if math.isfinite(hit.score)]
        near = [hit for hit in hits if self._min_score is None or hit.score >= self._min_score]
        if not near:
            best = f": the nearest has score {hits[0].score:.2f}, the least is {self._min_score:g}" if hits else ""
            return Outcome(f"No passage of the documents is near to {json.dumps(query, ensure_ascii=False)}{best}.")
        return Outcome(self._numbered(near))

    def _numbered(self, hits: Sequence[Passage]) -> str:
        """As many as there is room for; only these count as given."""
        parts: list[str] = []
        room = RESULT_CHARS
        for hit in hits:
            if parts and len(hit.text) > room:
                parts.append(f"({len(hits) - len(parts)} more had no room; ask for something narrower.)")
                break
            hit = replace(hit, text=hit.text[:room])
            parts.append(f"[{self._number(hit)}] {heading(hit)}\n{hit.text}")
            room -= len(parts[-1])
        return "\n\n".join(parts)

    def _number(self, hit: Passage) -> int:
        """The one that it has already, or the next."""
        for number, known in enumerate(self.given, start=1):
            if (known.root, known.path, known.line, known.text) == (hit.root, hit.path, hit.line, hit.text):
                return number
        self.given.append(hit)
        return len(self.given)


def heading(hit: Passage) -> str:
    where = f"{hit.path}, {hit.span}"
    return f"{where} ({hit.heading})" if hit.heading else where


async def in_daemon(work: Callable[[], T]) -> T:
    """The result of `work`, of a thread that keeps nobody waiting once it is not wanted any more."""
    result: Future[T] = Future()

    def run() -> None:
        result.set_running_or_notify_cancel()
        try:
            result.set_result(work())
        except BaseException as error:  # it is raised where it is awaited
            result.set_exception(error)

    Thread(target=run, daemon=True).start()
    return await asyncio.wrap_future(result)
