"""Retrieval as a tool, and what an answer cites, held against what the model was given."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from host.agents.citations import checked
from host.agents.retrieval import RESULT_CHARS, Retrieval
from host.clients import Collection, Embedder
from host.connect import Connection
from host.search import Passage
from shared.client import Address, channel
from tests.host_fakes import DIMENSION, Fakes, fakes, vector_of


def passage(text: str, path: str = "a.md", line: int = 1) -> Passage:
    return Passage(1, 0.5, path, "/docs", line, line + 2, "Heading", text)


GIVEN = [
    passage("Every write is durable. A write that was\nnot answered is **not** there."),
    passage("Tokens are checked.", "b.md", 7),
    passage("Nothing of use.", "c.md"),
]


@pytest.mark.parametrize(
    ("answer", "cited", "unknown"),
    [
        ("It is durable [1].", [1], []),
        ("Both [2, 1], and again [2].", [2, 1], []),
        ("All of them [1-3].", [1, 2, 3], []),
        ("One[2][3].", [2, 3], []),
        ("So it is [4], and [1].", [1], [4]),
        ("An index `x[1]` and [0], [a], [2024].", [], []),
        ("```\nlist[3]\n```\nAs in [2].", [2], []),
        ("No citation.", [], []),
    ],
)
def test_citations_are_those_of_passages_that_were_given(answer: str, cited: list[int], unknown: list[int]) -> None:
    """Numbers in brackets outside of code count, in the order of the answer; those of no passage are told apart."""
    result = checked(answer, GIVEN)
    assert [citation.number for citation in result.citations] == cited
    assert list(result.unknown) == unknown
    for citation in result.citations:
        assert citation.text == GIVEN[citation.number - 1].text


@pytest.mark.parametrize(
    ("answer", "found", "unfound"),
    [
        ('It says "A write that was not answered is not there." [1]', 1, []),
        ("It says “every write … is not there” [1].", 1, []),
        ('It says "every write is lost at once" [1].', 0, ["every write is lost at once"]),
        ('It says "tokens are checked" [1].', 0, ["tokens are checked"]),
        ('A "write" and a "power cut" are words [1].', 0, []),
        ("It says “is not there … every write” [1].", 0, ["is not there … every write"]),
    ],
)
def test_quotes_stand_word_for_word_in_what_is_cited(answer: str, found: int, unfound: list[str]) -> None:
    """Blanks, line ends, case and Markdown's marks do not count, words and their order do; so does which is cited."""
    result = checked(answer, GIVEN)
    assert sum(len(citation.quotes) for citation in result.citations) == found
    assert list(result.unfound_quotes) == unfound


def test_a_long_answer_takes_no_time() -> None:
    """What a model repeats without end is looked at in bounded time."""
    for piece in ("[1, 2] ", '"a b c" [1]', "[", "“x y z", "`", "```\n"):
        assert len(checked(piece * 100_000, GIVEN).citations) <= 2


# ---------------------------------------------------------------- the tool


def retrieval(fake: Fakes, texts: dict[str, str], max_hits: int = 5, min_score: float | None = None) -> Retrieval:
    """Over a collection of these texts, by path."""
    from host.config import Embedder as EmbedderBlock
    from host.config import Plugin

    connection = Connection("fake", Address(fake.address), channel(Address(fake.address)))
    plugin = Plugin("fake", "embedder_provider", "", Address(fake.address), {}, Path("/"))
    embedder = Embedder(connection, EmbedderBlock("default", plugin, "", 0))
    collection = Collection(connection, "docs", embedder.model)
    collection.create(DIMENSION)
    about: dict[str, dict[str, Any]] = {
        path: {"path": path, "root": "/docs", "line": 3, "end_line": 4, "heading": "Top", "text": text}
        for path, text in texts.items()
    }
    collection.upsert({path: vector_of(text) for path, text in texts.items()}, about)
    return Retrieval(embedder, collection, max_hits, min_score)


def asked(tool: Retrieval, **arguments: Any) -> str:
    async def run() -> str:
        (schema,) = await tool.list()
        return (await tool.execute(schema, json.dumps(arguments), "id", 60.0)).content

    return asyncio.run(run())


def test_passages_are_numbered_and_keep_their_numbers() -> None:
    """What was given gets the next number, what was given before keeps its own, and only that can be cited."""
    with fakes() as fake:
        tool = retrieval(fake, {"a.md": "red apples grow", "b.md": "green pears grow", "c.md": "blue whales swim"})
        first = asked(tool, query="red apples grow", limit=1)
        assert first == "[1] a.md, lines 3 to 4 (Top)\nred apples grow"
        second = asked(tool, query="green pears grow", limit=2)
        assert second.startswith("[2] b.md, lines 3 to 4 (Top)\ngreen pears grow\n\n[1] a.md")
        assert [hit.path for hit in tool.given] == ["a.md", "b.md"]


def test_a_floor_keeps_out_what_is_far() -> None:
    """Below min_score nothing is given, and the model is told so with the best score."""
    with fakes() as fake:
        tool = retrieval(fake, {"a.md": "red apples grow", "b.md": "blue whales swim"}, min_score=0.9)
        assert asked(tool, query="red apples grow").count("\n\n") == 0
        nothing = asked(tool, query="apples of the sea")
        assert 'No passage of the documents is near to "apples of the sea": the nearest has score 0.' in nothing
        assert [hit.path for hit in tool.given] == ["a.md"]


def test_what_has_no_room_was_not_given() -> None:
    """A result is bounded; a passage that does not fit is not numbered, one that is longer than all of it is cut."""
    with fakes() as fake:
        tool = retrieval(fake, {f"{n}.md": f"apples {n} " + "x" * 2_500 for n in range(4)})
        result = asked(tool, query="apples 0")
        assert len(result) < RESULT_CHARS + 500
        assert len(tool.given) == 2
        assert result.endswith("(2 more had no room; ask for something narrower.)")
        assert all(hit.text in result for hit in tool.given)
    with fakes() as fake:
        tool = retrieval(fake, {"long.md": "apples " + "x" * 20_000})
        assert tool.given == []
        assert len(asked(tool, query="apples")) < RESULT_CHARS + 200
        assert len(tool.given[0].text) <= RESULT_CHARS


def test_a_search_that_fails_is_an_observation() -> None:
    """A collection that is not there yet is told to the model with the remedy."""
    with fakes() as fake:
        tool = retrieval(fake, {})
        fake.database.collections.clear()
        assert "search_documents failed: plugin fake at " in asked(tool, query="apples")
        assert asked(tool, query=" ") == "search_documents was not run: query is blank; say what to look for"
