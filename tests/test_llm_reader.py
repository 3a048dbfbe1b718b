"""The reader of llm_openai without a server: any bytes, cut anywhere, and any JSON."""

from __future__ import annotations

import itertools
import json
import time
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from plugins.llm_openai.engine.assembler import Assembler
from plugins.llm_openai.engine.calls import CallAssembler
from plugins.llm_openai.engine.failures import Failure, Kind, describe
from plugins.llm_openai.engine.halves import HalfJoiner
from plugins.llm_openai.engine.json_text import GrowingObject, is_cut
from plugins.llm_openai.engine.messages import Delta, Reply
from plugins.llm_openai.engine.reading import ChunkReader
from plugins.llm_openai.engine.sse import LONGEST, LineReader, TooLong
from plugins.llm_openai.engine.stops import StopCutter
from plugins.llm_openai.engine.think import ThinkSplitter
from shared.errors import LimitReached
from tests.servers import unhurried

LARGEST = 64 * 2**20

STREAM = (
    "\ufeff: hello\r\n"
    'event: x\r\ndata: {"a": "ä\u2028b"}\r\n\r\n'
    'data: {"one": 1}\rdata:{"two": 2}\r\rid: 5\n\n'
    'data:\n\n{"line": 1}\n'
    'data: {"a": 1} {"b": 2}\ndata: {"c": 3}data: {"d": 4}\n'
    '{\n"over": {\n"lines": "}"\n}\n}\n'
    "retry: 10\n\ndata: [DONE]"
).encode()
CHUNKS: list[Any] = [{"a": "ä\u2028b"}, {"one": 1}, {"two": 2}, {"line": 1}, {"a": 1}, {"b": 2}, {"c": 3}, {"d": 4},
                     {"over": {"lines": "}"}}]  # fmt: skip


def cut(data: Any, places: list[int]) -> list[Any]:
    bounds = sorted({0, len(data), *(place % (len(data) + 1) for place in places)})
    return [data[start:end] for start, end in itertools.pairwise(bounds)]


@unhurried
@given(st.lists(st.integers(0, 10_000), max_size=40))
@example([1, 2, 3])
@example(list(range(len(STREAM))))
def test_chunks_are_the_same_however_the_bytes_are_cut(places: list[int]) -> None:
    """Every cut of the bytes, inside of a character or a line end too, gives the same chunks."""
    reader = ChunkReader(LARGEST)
    found = [chunk for piece in cut(STREAM, places) for chunk in reader.feed(piece)]
    assert found + list(reader.close()) == CHUNKS
    assert (reader.done, reader.cut) == (True, False)


@pytest.mark.parametrize("end", [b"\n\n", b"\n", b""])
def test_a_chunk_goes_out_when_its_line_ends(end: bytes) -> None:
    """Neither the blank line nor the next chunk is waited for; what the end cut off is told."""
    reader = ChunkReader(LARGEST)
    assert list(reader.feed(b'data: {"a": 1}\n')) == [{"a": 1}]
    if end == b"\n\n":
        with pytest.raises(Failure, match="no JSON"):
            list(reader.feed(b'data: {"b": ' + end))
        return
    assert list(reader.feed(b'data: {"b": ' + end)) == []
    assert list(reader.close()) == []
    assert (reader.done, reader.cut) == (False, True)


def test_an_endless_line_is_refused() -> None:
    """A line longer than 8 MiB ends in an error, not in the memory."""
    reader = LineReader()
    for _ in range(LONGEST // 2**20):
        reader.feed(b"x" * 2**20)
    with pytest.raises(TooLong):
        reader.feed(b"x")


@pytest.mark.slow
def test_endless_blanks_are_refused() -> None:
    """Blanks before the reply, or JSON over lines without end, end in an error too."""
    reader = ChunkReader(LARGEST)
    with pytest.raises(LimitReached):
        [list(reader.feed(b" " * 2**20)) for _ in range(70)]
    reader = ChunkReader(LARGEST)
    with pytest.raises(Failure, match="too long"):
        [list(reader.feed(b"data: {\ndata:\n" + b"data:\n" * 10**6)) for _ in range(70)]


WHOLE = '{"a":true,"b":-1.5e3,"c":"x\\u00e9\\n","d":null,"e":[false,{}]}'


def test_every_beginning_is_cut() -> None:
    """JSON that ends anywhere before its end is known for cut off; what is wrong inside is not."""
    assert [cut for n in range(1, len(WHOLE)) if not is_cut(cut := WHOLE[:n])] == []
    assert not any(map(is_cut, (WHOLE, '{"a":tru}', "{a:1}", '{"a" 1}', '{"a":1}}')))


@unhurried
@given(
    st.lists(st.sampled_from(["<think>", "</think>", "<th", "ink>", "</", "a", " ", "\n", "think>"]), max_size=12),
    st.lists(st.integers(0, 100), max_size=8),
)
def test_think_is_the_same_however_the_text_is_cut(words: list[str], places: list[int]) -> None:
    """Reasoning and answer do not depend on the pieces, and nothing but tags and blanks between gets lost."""

    def split(pieces: list[str]) -> tuple[str, str]:
        splitter = ThinkSplitter()
        pairs = [*map(splitter.feed, pieces), splitter.close()]
        return "".join(a for a, _ in pairs), "".join(b for _, b in pairs)

    text = "".join(words)
    assert split(cut(text, places)) == split([text])
    if not text.lstrip().startswith("<think>"):
        assert split([text]) == ("", text)


@unhurried
@given(
    st.text("abE", max_size=30),
    st.lists(st.text("abE", min_size=1, max_size=3), min_size=1, max_size=3),
    st.lists(st.integers(0, 100), max_size=8),
)
def test_stops_are_cut_as_in_the_whole_text(text: str, stops: list[str], places: list[int]) -> None:
    """However the text is cut, what comes through is what stands before the first stop sequence."""
    cutter = StopCutter(stops)
    got = "".join(map(cutter.feed, cut(text, places))) + cutter.close()
    found = [place for stop in stops if (place := text.find(stop)) >= 0]
    assert cutter.hit == bool(found)
    # Of two that overlap, the one that is whole first counts, as for a server that sees the text come.
    assert got == text if not found else text.startswith(got) and len(got) >= min(found)


@unhurried
@given(st.text(st.characters(), max_size=10), st.lists(st.integers(0, 100), max_size=8))
def test_halves_join_however_they_are_cut(text: str, places: list[int]) -> None:
    """Text cut between the halves of its characters comes out as it was."""
    units = text.encode("utf-16-le", "surrogatepass")
    halves = [units[n : n + 2].decode("utf-16-le", "surrogatepass") for n in range(0, len(units), 2)]
    joiner = HalfJoiner()
    got = "".join(joiner.feed("".join(piece)) for piece in cut(halves, places)) + joiner.close()
    assert got == units.decode("utf-16-le", "replace")


def read(data: bytes) -> list[Delta | Reply]:
    """As the engine reads a reply."""
    reader, assembler = ChunkReader(LARGEST), Assembler((), largest=LARGEST)
    found: list[Delta | Reply] = []
    for chunks in (reader.feed(data), reader.close()):
        for chunk in chunks:
            found += assembler.feed(chunk)
    found += assembler.close()
    return [*found, assembler.reply("m", [])]


@unhurried
@given(st.binary(max_size=200))
@example(b'data: {"choices":[{"delta":{"content":"a"}}]}\n\ndata: nonsense\n\n')
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    """Whatever an endpoint sends is a reply or a Failure, never a bug."""
    try:
        read(data)
    except Failure as failure:
        failure.error()


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 2**70) | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


def like(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """A mapping with some of these fields, each as it should be or anything else; or no mapping at all."""
    return st.fixed_dictionaries({}, optional={name: field | VALUES for name, field in fields.items()}) | VALUES


CALL = like(
    index=st.integers(0, 2), id=st.text(max_size=2), function=like(name=st.text(max_size=2), arguments=st.text())
)
SAID = like(content=st.text(), reasoning=st.text(), refusal=st.text(), tool_calls=st.lists(CALL), function_call=CALL)
CHOICE = like(index=st.just(0), delta=SAID, message=SAID, finish_reason=st.text(max_size=5), error=VALUES)
CHUNK = like(
    id=st.text(), model=st.text(), choices=st.lists(CHOICE), usage=like(total_tokens=st.integers()), error=VALUES
)


@unhurried
@given(st.lists(CHUNK, max_size=4))
def test_any_json_is_read_or_refused(chunks: list[Any]) -> None:
    """Fields of any kind in any place are a reply whose texts UTF-8 can hold, or a Failure, never a bug."""
    data = "".join(f"data: {json.dumps(chunk)}\n\n" for chunk in chunks).encode()
    try:
        found = read(data)
    except Failure as failure:
        failure.error().message.encode()
        return
    reply = found[-1]
    assert isinstance(reply, Reply)
    "".join([reply.text, reply.reasoning, reply.refusal, reply.model, reply.id, reply.raw_finish]).encode()
    for call in reply.tool_calls:
        "".join([call.id, call.name, call.arguments, call.error]).encode()
    assert len({call.id for call in reply.tool_calls}) == len(reply.tool_calls)


def test_calls_take_time_with_their_number_only() -> None:
    """30,000 pieces of a call, each with its name, and a thousand calls with one id: each piece is looked at once."""
    calls = CallAssembler()
    began = time.process_time()
    for n in range(30_000):
        list(calls.feed([{"id": "c", "function": {"name": "a", "arguments": '{"a":[' if n == 0 else "{},"}}]))
    for n in range(1, 1_000):
        list(calls.feed([{"index": n, "id": "c", "function": {"name": "a", "arguments": f"[{n}]"}}]))
    list(calls.close())
    found, _ = calls.finish(())
    assert time.process_time() - began < 10  # 0.5 s; it was minutes
    assert [call.id for call in found[:3]] == ["c", "c-2", "c-3"]
    assert len(found[0].arguments) == 3 * 30_000 + 3
    with pytest.raises(Failure):
        [list(calls.feed([{"index": n, "id": "c"}])) for n in range(1_000, 1_100)]


@unhurried
@given(st.lists(st.sampled_from(['{"a":', "1", "}", "{", "[", "]", '"', "\\", " ", "]}", '"}', "x"]), max_size=12))
def test_a_growing_object_is_whole_when_it_reads(pieces: list[str]) -> None:
    """However it grows, it is whole exactly when it is one JSON object, or blank."""
    growing, text = GrowingObject(), ""
    for piece in pieces:
        growing.add(piece)
        text += piece
        try:
            whole = not text.strip() or isinstance(json.loads(text), dict)
        except ValueError:
            whole = False
        assert growing.is_whole == whole
    assert str(growing) == text


def test_what_an_endpoint_says_at_length_is_cut() -> None:
    """Errors of megabytes in any shape are described at once, and by their beginning."""
    bodies: list[Any] = [
        "<" * 2**20,
        {"detail": [1] * 10**6},
        {"errors": [[[["x" * 10**6]] * 1000]]},
        {"detail": [{"loc": 5}]},
        {"detail": [{"loc": [[1] * 10**5, 2]}]},
        {"error": {"message": "m", "code": "c" * 10**6, "type": "t" * 10**6, "param": "p" * 10**6}},
        [{"errors": [{"errors": [{"errors": [{"msg": "deep"}]}]}]}],
    ]
    for body in bodies:
        assert sum(len(str(part)) for part in describe(body)) < 20_000


@unhurried
@given(
    VALUES
    | like(
        error=like(message=st.text(), code=VALUES, type=st.text(), param=VALUES),
        detail=VALUES | st.lists(like(loc=VALUES, msg=VALUES), max_size=2),
        errors=VALUES | st.lists(like(message=VALUES, errors=VALUES), max_size=2),
    )
)
def test_any_error_body_is_described(body: Any) -> None:
    """Whatever stands in a refusal, there is a message of bounded length, and no bug."""
    message, _, _, status = describe(body)
    failure = Failure(Kind.STATUS, message)
    failure.tell("e", ["secret"])
    assert len(failure.message) <= 401
    assert status == 0 or 300 <= status <= 599


@pytest.mark.parametrize(
    ("body", "wanted"),
    [
        ({"error": {"message": "m", "code": "c", "param": "p"}}, ("m", "c", "p")),
        ({"error": "m"}, ("m", "", "")),
        ({"message": "m", "type": "t"}, ("m", "t", "")),
        ({"object": "error", "message": "m", "code": 400}, ("m", "", "")),
        ({"detail": "m"}, ("m", "", "")),
        ({"error": {"code": 400, "message": "m", "status": "INVALID"}}, ("m", "INVALID", "")),
        ([{"error": {"message": "m"}}], ("m", "", "")),
        ("m", ("m", "", "")),
        ("<h1>m</h1>", ("m", "", "")),
    ],
)
def test_errors_in_every_shape(body: Any, wanted: tuple[str, str, str]) -> None:
    """The shapes that OpenAI, vLLM, FastAPI, Google and proxies have for an error."""
    assert describe(body)[:3] == wanted
