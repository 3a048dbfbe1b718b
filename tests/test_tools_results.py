"""Long results: cut to pages, kept, read on and searched."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import hector_plugins_pb2 as pb
import pytest
import regex
from google.protobuf.json_format import MessageToDict
from hypothesis import given, settings
from hypothesis import strategies as st

from plugins.tools_http.engine import pages, search
from plugins.tools_http.engine.results import Kept
from plugins.tools_http.engine.tool import Call, Output
from shared.errors import Code
from tests.servers import details, wait_until
from tests.tools_socket import Tools, serving, tool

LINES = "".join(f"line {number}: the quick brown fox\n" for number in range(3_000))


def giving(text: str, **more: Any) -> Callable[[dict[str, Any], Call], Any]:
    async def run(arguments: dict[str, Any], call: Call) -> Output:
        return Output(text=text, **more)

    return run


def bare(reply: pb.ExecuteToolResponse) -> str:
    """The page without its notice."""
    return re.sub(r"\n\n\[[^\[\]]*\]\Z", "", reply.result)


def found_at(reply: pb.ExecuteToolResponse) -> list[int]:
    places: list[int] = MessageToDict(reply.structured)["at"]
    return places


def read_all(tools: Tools, first: pb.ExecuteToolResponse, how: str, **more: Any) -> str:
    """Everything, page by page: by the message's `cursor`, or by read_result."""
    text, reply = bare(first), first
    while reply.next_cursor:
        assert reply.truncated
        if how == "cursor":
            reply = tools.call("toy", cursor=reply.next_cursor, **more)
        else:
            reply = tools.call("read_result", {"cursor": reply.next_cursor}, **more)
        assert reply.success, reply.error
        text += bare(reply)
    return text


@pytest.mark.parametrize("how", ["cursor", "read_result"])
@pytest.mark.parametrize("most", [0, 700, 450, 150, 7])
def test_read_on(how: str, most: int) -> None:
    """A long result is read to its end in pages of the wanted length, without running the tool again."""
    runs = []

    async def run(arguments: dict[str, Any], call: Call) -> Output:
        runs.append(1)
        return Output(text=text, content_type="text/markdown")

    text = LINES if most in (0, 700) else LINES[:3_000]
    with serving(tool(run), max_result_chars=1_000) as tools:
        first = tools.call("toy", max_result_chars=most)
        assert first.content_type == "text/markdown"
        assert len(first.result) <= (most or 1_000)
        assert read_all(tools, first, how, max_result_chars=most) == text
        assert len(runs) == 1


def test_the_notice_says_how_much_and_how_to_go_on() -> None:
    """A page that is not all says which characters it has, of how many, and the call that reads on."""
    with serving(tool(giving(LINES)), max_result_chars=2_000) as tools:
        reply = tools.call("toy")
        end = len(bare(reply))
        assert reply.result.endswith(
            f"\n\n[characters 1 to {end:,} of {len(LINES):,}. To go on, call read_result with "
            f'{{"cursor": "{reply.next_cursor}"}}; with "find" beside it, it searches all of them.]'
        )
        assert dict(reply.metadata) == {"characters": len(LINES), "characters_shown": end}
        assert bare(reply).endswith("fox\n")
        short = tools.call("toy", max_result_chars=len(LINES))
        assert (short.result, short.truncated, short.next_cursor) == (LINES, False, "")


def test_find() -> None:
    """`find` shows each place with what stands around it and a cursor that reads there, and goes on."""
    text = LINES[:60_000] + "Needle one " + LINES[:50_000] + " nEEDLE two" + "\n" * 9
    with serving(tool(giving(text)), max_result_chars=2_000) as tools:
        cursor = tools.call("toy").next_cursor
        reply = tools.call("read_result", {"cursor": cursor, "find": "needle"})
        assert "Needle one" in reply.result
        assert "nEEDLE two" in reply.result
        assert dict(reply.structured.struct_value)["hits"] == 2
        assert found_at(reply) == [60_000, text.index("nEEDLE")]
        there = re.findall(r"cursor (\S+)\]", reply.result)[1]
        assert "nEEDLE two" in tools.call("read_result", {"cursor": there}).result
        once = tools.call("read_result", {"cursor": cursor, "find": "needle o"})
        assert once.result.endswith('\n\n["needle o" is there once]')
        nothing = tools.call("read_result", {"cursor": cursor, "find": "haystack"})
        assert nothing.success
        assert '"haystack" does not occur' in nothing.result
        shown = 0
        reply = tools.call("read_result", {"cursor": cursor, "find": "quick"})
        while True:
            shown += len(found_at(reply))
            assert len(reply.result) <= 2_000
            if not reply.next_cursor:
                break
            reply = tools.call("read_result", {"cursor": reply.next_cursor, "find": "quick"})
        assert shown == text.count("quick")


def test_cursors_that_open_nothing() -> None:
    """A cursor that was made up, altered or is another tool's opens nothing, and the error says what to do."""
    with serving(tool(giving(LINES)), tool(giving(LINES), name="other"), max_result_chars=500) as tools:
        cursor = tools.call("toy").next_cursor
        key, _, place = cursor.rpartition(".")
        assert len(key) == 22
        assert tools.call("toy").next_cursor != cursor
        for bad, reason in (
            ("x", "BAD_CURSOR"),
            (f"{key}.{10**11}", "BAD_CURSOR"),
            (f"{'A' * 22}.{place}", "RESULT_NOT_KEPT"),
            (f"{key}.{place} ", "BAD_CURSOR"),
        ):
            assert details(tools.call("toy", cursor=bad).status).reason == reason
            assert details(tools.call("read_result", {"cursor": bad}).status).reason == reason
        assert details(tools.call("other", cursor=cursor).status).reason == "BAD_CURSOR"
        assert tools.call("read_result", cursor=cursor).success


def test_bounded_in_memory() -> None:
    """Past kept_bytes the result that was used least goes; one that is larger than that is not kept, and says so."""
    text = "x" * 100_000
    with serving(tool(giving(text)), tool(giving(text * 3), name="huge"), kept_bytes=250_000) as tools:
        first = tools.call("toy").next_cursor
        second = tools.call("toy").next_cursor
        assert tools.call("read_result", {"cursor": first}).success  # now the second is the one used least
        third = tools.call("toy").next_cursor
        replies = [tools.call("read_result", {"cursor": cursor}) for cursor in (first, second, third)]
        assert [reply.success for reply in replies] == [True, False, True]
        assert details(replies[1].status).status.code == Code.NOT_FOUND
        assert "run the tool again" in replies[1].error
        huge = tools.call("huge")
        assert (huge.success, huge.truncated, huge.next_cursor) == (True, True, "")
        assert "the rest was not kept" in huge.result
        assert tools.engine._replies.kept.bytes <= 250_000


def test_bounded_in_age() -> None:
    """After kept_for a result has gone, and its memory was given back though nobody called."""
    with serving(tool(giving(LINES)), max_result_chars=500, kept_for=0.2) as tools:
        cursor = tools.call("toy").next_cursor
        assert cursor, "it was not kept"
        wait_until(lambda: tools.engine._replies.kept.bytes == 0, "end of what was kept")
        assert details(tools.call("toy", cursor=cursor).status).reason == "RESULT_NOT_KEPT"


def test_bad_lengths() -> None:
    """A max_result_chars that cannot be is refused, naming it."""
    with serving(tool(giving("x"))) as tools:
        assert details(tools.call("toy", max_result_chars=-1).status).violations[0][0] == "max_result_chars"


def test_a_large_structured_result_is_left_out() -> None:
    """Data that no reply could hold is left out, and metadata says so; the text has it, in pages."""
    data = [{"id": number} for number in range(200_000)]
    with serving(tool(giving(json.dumps(data), structured=data))) as tools:
        reply = tools.call("toy")
        assert reply.success
        assert not reply.HasField("structured")
        assert not reply.structured_json
        assert "too large" in str(reply.metadata["structured_left_out"])
        assert reply.ByteSize() < 100_000


def test_a_page_fits_a_reply() -> None:
    """Whatever a caller asks for, a page is small enough to be sent."""
    text = "日本" * 2_000_000
    with serving(tool(giving(text))) as tools:
        reply = tools.call("toy", max_result_chars=2**31 - 1)
        assert reply.success
        assert reply.truncated
        assert 1_000_000 < reply.ByteSize() < 4 * 2**20


# ---------------------------------------------------------------- where it is cut

FLAGS = "🇳🇴🇸🇪" * 20
PIECES = ["word ", "\n", "e\u0301", "👨‍👩‍👧", "🇳🇴", "x" * 30, "| a | b |\n", "\r\n", "각", "नि", "🏽", "."]


@given(st.lists(st.sampled_from(PIECES), max_size=60), st.integers(1, 80))
@settings(max_examples=100)
def test_pages_make_the_whole(pieces: list[str], room: int) -> None:
    """Pages, joined, are the text; none is longer than wanted, and none splits what a reader sees as one character
    that would have fitted."""
    text = "".join(pieces)
    bounds = {0, *(cluster.end() for cluster in regex.finditer(r"\X", text))}
    longest = max((len(cluster) for cluster in regex.findall(r"\X", text)), default=0)
    start = 0
    while start < len(text):
        end = pages.cut(text, start, room)
        assert start < end <= start + room
        if longest <= room:
            assert end in bounds, (text[start:end], text[end:])
        start = end


def test_cut_at_sensible_places() -> None:
    """A page ends with a line where that leaves half of it, else at a blank, and a table's row stays whole."""
    assert pages.cut("aaaa bbbb\ncccc dddd", 0, 12) == 10
    assert pages.cut("a\n" + "word " * 20, 0, 43) == 42  # the line's end is too far back
    table = "text\n| a | b |\n| - | - |\n| " + "long " * 30 + "| x |\n| 1 | 2 |\n"
    assert pages.cut(table, 0, 60) == table.index("| long")
    assert pages.cut(FLAGS, 0, 21) == 20


# ---------------------------------------------------------------- what is found


@given(st.text(alphabet="abİßςσΣ é\n", max_size=200), st.text(alphabet="abİßσς é", min_size=1, max_size=4))
@settings(max_examples=100)
def test_hits_are_all_hits(text: str, words: str) -> None:
    """Each place that holds the words, capitals or not, is found, as a plain search finds it."""

    def same(one: str) -> str:
        return "".join({"İ": "i", "ς": "σ", "Σ": "σ"}.get(letter, letter.lower()) for letter in one)

    expected, place = [], 0
    while (place := same(text).find(same(words), place)) >= 0:
        expected.append(place)
        place += len(words)
    assert list(search.hits(text, words)) == expected


def test_hits_across_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    """Words are found wherever they stand, also where two slices meet."""
    text = "xy" * 50 + "needle" + "needleneedle" + "y" * 30
    expected = [100, 106, 112]
    for size in range(1, 40):
        monkeypatch.setattr(search, "_SLICE", size)
        assert list(search.hits(text, "NEEDLE")) == expected
        assert list(search.hits("a" * 50, "aa")) == list(range(0, 50, 2))


def test_a_search_shows_at_least_one() -> None:
    """However little room there is, a hit is shown, and the next one is told."""
    kept = Kept("toy", "needle " * 3 + "hay " * 500 + "needle", "text/plain")
    found = search.search(kept, "needle", 0, 1)
    assert found.places == (0, 7, 14)
    assert found.total == 4
    assert found.after == len(kept.text) - 6
