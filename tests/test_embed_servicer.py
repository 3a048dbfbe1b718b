"""embed_st's calls over a socket: what is refused, limits and loads, with a model that counts letters.

tests/test_embed_oracle.py has its vectors beside those of sentence-transformers, tests/test_embed_stream.py its stream.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import grpc
import hector_plugins_pb2 as pb
import hector_plugins_pb2_grpc as rpc
import numpy as np
import pytest
from google.protobuf.descriptor import Descriptor
from hypothesis import given
from hypothesis import strategies as st

from plugins.embed_st.engine import Engine
from plugins.embed_st.engine import engine as engine_module
from plugins.embed_st.fast import put_vector
from plugins.embed_st.servicer import Servicer
from shared.errors import TooLarge
from tests import test_embed_oracle as oracle
from tests import test_embed_stream as stream
from tests.embed_letters import FACTS, SECONDS, Letters, letters_engine
from tests.embed_wire import said, serving
from tests.servers import Served, details, health, start_plugin, wait_until

Stub = rpc.EmbedderProviderStub
Serve = Callable[..., Served]
LONG = "abcdefgh" * 5  # more than the 22 tokens that the model reads


@pytest.fixture
def letters() -> Letters:
    return Letters()


@pytest.fixture
def open_engine(letters: Letters, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Engine]]:
    made: list[Engine] = []

    def open_one(**more: Any) -> Engine:
        made.append(letters_engine(monkeypatch, letters, **more))
        return made[-1]

    yield open_one
    letters.gate.set()
    for engine in made:
        engine.close()


@pytest.fixture
def server(open_engine: Callable[..., Engine]) -> Iterator[Served]:
    with serving(open_engine()) as server:
        yield server


@pytest.fixture
def stub(server: Served) -> Stub:
    return Stub(server.channel())


def counts(text: str) -> list[int]:
    return [text.count(letter) for letter in "abcdefgh"]


# ---------------------------------------------------------------- what is answered


def test_text(stub: Stub) -> None:
    """EmbedText answers with the vector, the tokens read, whether there were more, the model, and success alone."""
    reply = stub.EmbedText(pb.EmbedTextRequest(text="cab"))
    assert said(reply)
    assert (list(reply.vector), reply.tokens, reply.truncated, reply.model) == (counts("cab"), 5, False, "letters")
    reply = stub.EmbedText(pb.EmbedTextRequest(text=LONG))
    assert said(reply)
    assert (list(reply.vector), reply.tokens, reply.truncated) == (counts(LONG[:20]), 22, True)


def test_batch(stub: Stub) -> None:
    """EmbedBatch answers each text in its place, with the sum of the tokens and the model."""
    texts = ["b", "aa", LONG, "b", "ccc"]
    reply = stub.EmbedBatch(pb.EmbedBatchRequest(texts=texts))
    assert said(reply)
    assert [list(one.vector) for one in reply.embeddings] == [counts(text[:20]) for text in texts]
    assert [(one.tokens, one.truncated) for one in reply.embeddings] == [
        (3, False),
        (4, False),
        (22, True),
        (3, False),
        (5, False),
    ]
    assert not any(one.HasField("status") for one in reply.embeddings)
    assert (reply.total_tokens, reply.model) == (37, "letters")


def test_no_texts(stub: Stub, letters: Letters) -> None:
    """No texts: success, and no embeddings or counts."""
    reply = stub.EmbedBatch(pb.EmbedBatchRequest())
    assert said(reply)
    assert not reply.embeddings
    counted = stub.CountTokens(pb.CountTokensRequest())
    assert said(counted)
    assert not counted.tokens
    assert not letters.batches


def test_dimensions(stub: Stub) -> None:
    """GetDimensions names the model, the length of its vectors, and with it those it was trained to be cut to."""
    reply = stub.GetDimensions(pb.GetDimensionsRequest())
    assert said(reply)
    assert (reply.dimensions, reply.model, list(reply.supported_dimensions)) == (8, "letters", [2, 4, 8])


def test_model_info(stub: Stub) -> None:
    """GetModelInfo says what is loaded and how it runs."""
    reply = stub.GetModelInfo(pb.GetModelInfoRequest())
    assert said(reply)
    assert (reply.model, reply.sha256, reply.dimensions, reply.max_tokens) == ("letters", FACTS.sha256, 8, 22)
    assert (reply.backend, reply.precision, dict(reply.prompts)) == ("torch", "fp32", {"query": "a: "})


def test_count_tokens(stub: Stub, letters: Letters) -> None:
    """CountTokens counts each text whole, special tokens included, also a blank one; the model is left alone."""
    reply = stub.CountTokens(pb.CountTokensRequest(texts=["", " ", "abc", LONG]))
    assert said(reply)
    assert list(reply.tokens) == [2, 3, 5, 42]
    assert not letters.batches


def test_truncate(stub: Stub) -> None:
    """Each value of `truncate` does with a long text as it says, and unset is RIGHT."""
    for value in pb.Truncate.values():
        options = pb.EmbedOptions(truncate=value)
        reply = stub.EmbedText(pb.EmbedTextRequest(text=LONG, options=options))
        if value == pb.TRUNCATE_ERROR:
            assert details(reply.status).reason == "TEXT_TOO_LONG"
            continue
        assert said(reply)
        assert reply.truncated
        assert list(reply.vector) == counts(LONG[-20:] if value == pb.TRUNCATE_LEFT else LONG[:20])


def test_chunk_mean(stub: Stub) -> None:
    """With LONG_TEXT_CHUNK_MEAN a long text is read whole, nothing is cut, and the tokens are those of all pieces."""
    options = pb.EmbedOptions(long_text=pb.LONG_TEXT_CHUNK_MEAN, truncate=pb.TRUNCATE_ERROR)
    reply = stub.EmbedText(pb.EmbedTextRequest(text=LONG, options=options))
    assert said(reply)
    assert (list(reply.vector), reply.tokens, reply.truncated) == ([2.5] * 8, 44, False)


def test_normalize(stub: Stub) -> None:
    """`normalize` unset and false leave vectors as they are, and true makes their length 1; a vector that is cut has
    length 1 unless it is false."""
    for normalize, expected in ((None, [3, 4]), (False, [3, 4]), (True, [0.6, 0.8])):
        options = pb.EmbedOptions(normalize=normalize)
        reply = stub.EmbedText(pb.EmbedTextRequest(text="aaabbbb", options=options))
        assert list(reply.vector) == pytest.approx([*expected, *[0] * 6])
    for normalize, expected in ((None, [0.6, 0.8]), (False, [3, 4]), (True, [0.6, 0.8])):
        options = pb.EmbedOptions(normalize=normalize, dimensions=2)
        reply = stub.EmbedText(pb.EmbedTextRequest(text="aaabbbbcccc", options=options))
        assert list(reply.vector) == pytest.approx(expected)


def test_prompts(stub: Stub, letters: Letters) -> None:
    """Each input type puts the model's prompt for it before a text, and prompt_name wins over it."""
    for value in pb.InputType.values():
        stub.EmbedText(pb.EmbedTextRequest(text="x", options=pb.EmbedOptions(input_type=value)))
    named = pb.EmbedOptions(input_type=pb.INPUT_TYPE_DOCUMENT, prompt_name="query")
    stub.EmbedBatch(pb.EmbedBatchRequest(texts=["x"], options=named))
    assert letters.batches == [["x"], ["a: x"], ["x"], ["a: x"]]


# ---------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("text", "options", "code", "reason", "field"),
    [
        ("", {}, 3, "BLANK_TEXT", "text"),
        (" \n", {}, 3, "BLANK_TEXT", "text"),
        (LONG, {"truncate": pb.TRUNCATE_ERROR}, 3, "TEXT_TOO_LONG", "text"),
        ("x", {"dimensions": 9}, 3, "BAD_DIMENSIONS", "options.dimensions"),
        ("x", {"dimensions": 2**32 - 1}, 3, "BAD_DIMENSIONS", "options.dimensions"),
        ("x", {"prompt_name": "nope"}, 3, "UNKNOWN_PROMPT", "options.prompt_name"),
        ("x", {"input_type": 9}, 3, "INVALID_ARGUMENT", "options.input_type"),
        ("x", {"truncate": 9}, 3, "INVALID_ARGUMENT", "options.truncate"),
        ("x", {"long_text": 9}, 3, "INVALID_ARGUMENT", "options.long_text"),
    ],
)
def test_refused(
    stub: Stub, letters: Letters, text: str, options: dict[str, Any], code: int, reason: str, field: str
) -> None:
    """What cannot be done is success=false with code, reason and the field at fault, of a text and of a batch alike;
    the stream says it of that text; and the model is left alone."""
    chosen = pb.EmbedOptions(**options)
    single = stub.EmbedText(pb.EmbedTextRequest(text=text, options=chosen))
    batch = stub.EmbedBatch(pb.EmbedBatchRequest(texts=["fine", text], options=chosen))
    for reply, name in ((single, field), (batch, "texts[1]" if field == "text" else field)):
        assert not reply.success
        said = details(reply.status)
        assert (reply.status.code, said.reason, said.domain) == (code, reason, "plugins.hector.dev")
        assert reply.error == reply.status.message
        assert [violation[0] for violation in said.violations] == [name]
        assert name.removeprefix("options.") in reply.error or "letters" in reply.error
    assert not batch.embeddings
    assert not single.vector
    (answer,) = stub.EmbedStream(iter([pb.EmbedStreamRequest(text=text, options=chosen)]))
    assert (answer.embedding.status.code, details(answer.embedding.status).reason) == (code, reason)
    assert not letters.batches


def test_not_normalising_a_normaliser(open_engine: Callable[..., Engine]) -> None:
    """normalize=false with a model that normalises its vectors itself is UNIMPLEMENTED, in the reply."""
    with serving(open_engine(normalizes=True)) as server:
        options = pb.EmbedOptions(normalize=False)
        reply = Stub(server.channel()).EmbedText(pb.EmbedTextRequest(text="x", options=options))
    assert (reply.success, reply.status.code, details(reply.status).reason) == (False, 12, "UNSUPPORTED")


def test_every_bad_text_is_named(stub: Stub) -> None:
    """A batch says of which texts it is, each as a violation, up to a hundred of them."""
    reply = stub.EmbedBatch(pb.EmbedBatchRequest(texts=["a", "", "b", " "]))
    assert reply.error == "texts[1] is blank; leave such texts out (and 1 more)"
    assert [violation[0] for violation in details(reply.status).violations] == ["texts[1]", "texts[3]"]
    reply = stub.EmbedBatch(pb.EmbedBatchRequest(texts=[""] * 1000))
    assert reply.error.endswith("(and 999 more)")
    assert len(details(reply.status).violations) == 100


def test_allow_partial(stub: Stub) -> None:
    """With allow_partial each bad text fails in its own status, and the others are embedded."""
    options = pb.EmbedOptions(truncate=pb.TRUNCATE_ERROR)
    texts = ["a", "", LONG, "b"]
    reply = stub.EmbedBatch(pb.EmbedBatchRequest(texts=texts, options=options, allow_partial=True))
    assert said(reply)
    first, blank, long, last = reply.embeddings
    assert (list(first.vector), list(last.vector)) == (counts("a"), counts("b"))
    assert not first.HasField("status")
    for bad, reason, name in ((blank, "BLANK_TEXT", "texts[1]"), (long, "TEXT_TOO_LONG", "texts[2]")):
        assert (bad.status.code, details(bad.status).reason) == (3, reason)
        assert details(bad.status).violations[0][0] == name
        assert (list(bad.vector), bad.tokens, bad.truncated) == ([], 0, False)
    assert reply.total_tokens == first.tokens + last.tokens == 6


def test_what_is_wrong_with_all_texts_is_not_partial(stub: Stub) -> None:
    """With allow_partial an option that no text can have still fails the call."""
    request = pb.EmbedBatchRequest(texts=["a"], options=pb.EmbedOptions(dimensions=9), allow_partial=True)
    reply = stub.EmbedBatch(request)
    assert (reply.success, details(reply.status).reason) == (False, "BAD_DIMENSIONS")


def test_bad_utf8(server: Served, stub: Stub) -> None:
    """Text that is not UTF-8 is refused by gRPC, and the server goes on."""
    raw: Any = server.channel().unary_unary("/hector.plugins.v1.EmbedderProvider/EmbedText")
    with pytest.raises(grpc.RpcError, match="bad UTF-8"):
        raw(b"\x0a\x02\xff\xfe", timeout=SECONDS)
    assert said(stub.EmbedText(pb.EmbedTextRequest(text="a")))


# ---------------------------------------------------------------- sizes


@pytest.fixture
def wide(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Letters, Engine]]:
    """Vectors as long as those of a real model."""
    letters = Letters(384)
    engine = letters_engine(monkeypatch, letters)
    yield letters, engine
    engine.close()


TEN_THOUSAND = [f"{number} " + "ab" * (number % 7) for number in range(10_000)]


def test_ten_thousand_texts(wide: tuple[Letters, Engine]) -> None:
    """Ten thousand texts in one call are refused by the size of the reply before the model runs, naming the ways out;
    fewer dimensions or a larger max_reply_bytes have them answered, all and in order."""
    letters, engine = wide
    request = pb.EmbedBatchRequest(texts=TEN_THOUSAND)
    with serving(engine) as server:
        with pytest.raises(grpc.RpcError) as caught:
            Stub(server.channel()).EmbedBatch(request, timeout=SECONDS)
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        refused = details(caught.value)
        assert refused.reason == "REPLY_TOO_LARGE"
        assert "15360000 bytes" in refused.status.message
        assert "send fewer texts at once, ask for fewer dimensions, or use EmbedStream" in refused.status.message
        assert not letters.batches
        short = pb.EmbedBatchRequest(texts=TEN_THOUSAND, options=pb.EmbedOptions(dimensions=8))
        assert len(Stub(server.channel()).EmbedBatch(short, timeout=SECONDS).embeddings) == 10_000
    with serving(engine, max_reply_bytes=32 * 2**20) as server:
        reply = Stub(server.channel()).EmbedBatch(request, timeout=SECONDS)
    assert said(reply)
    found = np.array([one.vector for one in reply.embeddings])
    assert found.shape == (10_000, 384)
    assert found[:, :8].tolist() == [counts(text) for text in TEN_THOUSAND]


def test_reply_too_large_is_seen_beforehand() -> None:
    """A batch whose vectors cannot fit the reply is refused before the model runs; one that just fits is not."""

    class Counting:
        model, dimensions = "letters", 8
        batches = 0

        async def embed(self, texts: Any, options: Any, *, allow_partial: bool) -> list[Any]:
            self.batches += 1
            return []

    engine: Any = Counting()
    servicer = Servicer(engine, max_reply_bytes=320)
    for count, dimensions, fits in ((10, 0, True), (11, 0, False), (20, 4, True), (21, 4, False), (11, 99, False)):
        request = pb.EmbedBatchRequest(texts=["x"] * count, options=pb.EmbedOptions(dimensions=dimensions))
        before = engine.batches
        if fits:
            asyncio.run(servicer.EmbedBatch(request, SimpleNamespace()))  # type: ignore[arg-type]
        else:
            with pytest.raises(TooLarge, match="max_reply_bytes of 320: send fewer texts at once"):
                asyncio.run(servicer.EmbedBatch(request, SimpleNamespace()))  # type: ignore[arg-type]
        assert engine.batches == before + fits


@pytest.mark.slow
def test_a_megabyte(stub: Stub, monkeypatch: pytest.MonkeyPatch) -> None:
    """A text of a megabyte is counted whole, and read whole where that is asked for; its 50,000 pieces are looked at in
    no event loop."""
    in_loop: list[bool] = []

    def noted(name: str) -> None:
        real = getattr(engine_module, name)

        def look(pieces: Any) -> Any:
            in_loop.append(asyncio._get_running_loop() is not None)
            return real(pieces)

        monkeypatch.setattr(engine_module, name, look)

    noted("_with_tokens")
    noted("_read_of")
    text = "ab" * 500_000
    assert list(stub.CountTokens(pb.CountTokensRequest(texts=[text]), timeout=SECONDS).tokens) == [1_000_002]
    options = pb.EmbedOptions(long_text=pb.LONG_TEXT_CHUNK_MEAN)
    reply = stub.EmbedText(pb.EmbedTextRequest(text=text, options=options), timeout=SECONDS)
    assert (said(reply), reply.tokens, reply.truncated) == (True, 1_000_000 + 2 * 50_000, False)
    assert list(reply.vector) == [10, 10, 0, 0, 0, 0, 0, 0]
    assert in_loop == [False, False]


def test_three_million_texts(stub: Stub, letters: Letters) -> None:
    """More texts than a call may have are counted and not looked at: that does not hold up the loop, nor the model."""
    few = pb.EmbedOptions(dimensions=1)
    calls: list[tuple[Any, Any]]
    for texts in ([""] * 3_000_000, ["a"] * 20_001):
        calls = [
            (stub.EmbedBatch, pb.EmbedBatchRequest(texts=texts, options=few)),
            (stub.EmbedBatch, pb.EmbedBatchRequest(texts=texts, options=few, allow_partial=True)),
            (stub.CountTokens, pb.CountTokensRequest(texts=texts)),
        ]
        for call, request in calls:
            reply = call(request, timeout=SECONDS)
            assert details(reply.status).reason == "TOO_MANY_ITEMS"
            assert "more than 20,000 items" in reply.error or "20001 texts are more than the 20,000" in reply.error
    assert not letters.batches


@pytest.mark.slow
def test_many_bad_texts(open_engine: Callable[..., Engine], letters: Letters) -> None:
    """Twenty thousand texts, blank or many bytes each, do not hold up the loop, whatever is to be said of them."""
    with serving(open_engine(), max_reply_bytes=2**24) as server:
        stub = Stub(server.channel())
        for text, reason in ((" ", "BLANK_TEXT"), (LONG, "TEXT_TOO_LONG")):
            options = pb.EmbedOptions(truncate=pb.TRUNCATE_ERROR)
            request = pb.EmbedBatchRequest(texts=[text] * 20_000, options=options)
            reply = stub.EmbedBatch(request, timeout=SECONDS)
            assert details(reply.status).reason == reason
            assert reply.error.endswith("(and 19999 more)")
            request.allow_partial = True
            del request.texts[10_000:]
            reply = stub.EmbedBatch(request, timeout=SECONDS)
            assert len(reply.embeddings) == 10_000
            assert {details(one.status).reason for one in reply.embeddings[::1000]} == {reason}
        letters.batches.clear()
        request = pb.EmbedBatchRequest(texts=["漢" * 700 for _ in range(2_400)] + [""])  # 5 MB; gRPC copies them
        reply = stub.EmbedBatch(request, timeout=SECONDS)
        assert reply.error == "texts[2400] is blank; leave such texts out"
        counted = stub.CountTokens(pb.CountTokensRequest(texts=request.texts[:2_000]), timeout=SECONDS)
        assert set(counted.tokens) == {702}
    assert not letters.batches


@pytest.fixture(scope="module")
def any_stub() -> Iterator[Stub]:
    with pytest.MonkeyPatch.context() as patch:
        engine = letters_engine(patch, Letters())
        with serving(engine) as server:
            yield Stub(server.channel())
        engine.close()


_TEXTS = st.text(max_size=60) | st.sampled_from(["", "\x00", "\u200b", "\ufeff", LONG, "\U0010ffff" * 30])
_NUMBERS = st.integers(0, 3) | st.integers(-(2**31), 2**31 - 1)
_OPTIONS = st.builds(
    pb.EmbedOptions,
    input_type=_NUMBERS,
    prompt_name=st.sampled_from(["", "query", "document"]) | st.text(max_size=10),
    normalize=st.none() | st.booleans(),
    dimensions=st.integers(0, 9) | st.integers(0, 2**32 - 1),
    truncate=_NUMBERS,
    long_text=_NUMBERS,
)


@given(texts=st.lists(_TEXTS, max_size=5), options=_OPTIONS, partial=st.booleans())
def test_nothing_that_is_asked_is_a_bug(any_stub: Stub, texts: list[str], options: Any, partial: bool) -> None:
    """Whatever the texts and options: an answer, or what is wrong in it, and never an error of ours."""
    batch = any_stub.EmbedBatch(pb.EmbedBatchRequest(texts=texts, options=options, allow_partial=partial))
    streamed = list(any_stub.EmbedStream(pb.EmbedStreamRequest(text=text, options=options) for text in texts))
    singles = [any_stub.EmbedText(pb.EmbedTextRequest(text=text, options=options)) for text in texts]
    assert any_stub.CountTokens(pb.CountTokensRequest(texts=texts)).success
    assert batch.success or (batch.status.code in (3, 12) and batch.error)
    assert [one.success for one in singles] == [not one.embedding.HasField("status") for one in streamed]
    if batch.success:
        assert [one.HasField("status") for one in batch.embeddings] == [not one.success for one in singles]


# ---------------------------------------------------------------- many at once


def taken(engine: Engine) -> int:
    """Places in the queue."""
    return engine._scheduler._taken


def test_full_queue(open_engine: Callable[..., Engine], letters: Letters) -> None:
    """Where the queue is full a call is RESOURCE_EXHAUSTED with RetryInfo while the model is still busy, and nothing
    of it is run; when there is room again it is served."""
    engine = open_engine(max_queued=2)
    with serving(engine) as server:
        stub = Stub(server.channel())
        letters.hold()
        waiting = [stub.EmbedText.future(pb.EmbedTextRequest(text=text)) for text in "ab"]
        wait_until(lambda: taken(engine) == 2, "full queue")
        for call in (
            lambda: stub.EmbedText(pb.EmbedTextRequest(text="c"), timeout=SECONDS),
            lambda: stub.EmbedBatch(pb.EmbedBatchRequest(texts=["d", "e"], allow_partial=True), timeout=SECONDS),
        ):
            with pytest.raises(grpc.RpcError) as caught:
                call()
            assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            assert caught.value.details() == "2 texts wait for the model, and max_queued is 2; try again"
            assert (details(caught.value).reason, details(caught.value).retry_after) == ("QUEUE_FULL", 1)
        assert not any(one.done() for one in waiting)
        assert health(server.channel()) == 1
        letters.gate.set()
        assert all(said(one.result(SECONDS)) for one in waiting)
        assert set(letters.texts()) == {"a", "b"}
        wait_until(lambda: taken(engine) == 0, "empty queue")
        assert said(stub.EmbedBatch(pb.EmbedBatchRequest(texts=["c"]), timeout=SECONDS))


@pytest.mark.slow
@pytest.mark.parametrize("how", ["cancel", "deadline"])
def test_a_caller_who_leaves(open_engine: Callable[..., Engine], letters: Letters, how: str) -> None:
    """A call that is cancelled, or whose deadline passes, while it waits is never run and leaves its places."""
    engine = open_engine(max_queued=3)
    with serving(engine) as server:
        stub = Stub(server.channel())
        letters.hold()
        first = stub.EmbedText.future(pb.EmbedTextRequest(text="a"))
        assert letters.began.wait(SECONDS)
        gone = stub.EmbedBatch.future(
            pb.EmbedBatchRequest(texts=["b", "c"]), timeout=10 if how == "deadline" else SECONDS
        )
        wait_until(lambda: taken(engine) == 3, "full queue")
        if how == "cancel":
            gone.cancel()
        wait_until(lambda: taken(engine) == 1, "place")
        assert gone.code() is (grpc.StatusCode.CANCELLED if how == "cancel" else grpc.StatusCode.DEADLINE_EXCEEDED)
        last = stub.EmbedBatch.future(pb.EmbedBatchRequest(texts=["d", "e"]))
        wait_until(lambda: taken(engine) == 3, "full queue")
        letters.gate.set()
        assert said(last.result(SECONDS))
        assert said(first.result(SECONDS))
    assert sorted(letters.texts()) == ["a", "d", "e"]


def test_health_while_busy(server: Served, stub: Stub, letters: Letters) -> None:
    """Health and the calls that need no model are answered while the model is busy."""
    letters.hold()
    waiting = stub.EmbedText.future(pb.EmbedTextRequest(text="a"))
    assert letters.began.wait(SECONDS)
    assert health(server.channel()) == 1
    assert stub.GetDimensions(pb.GetDimensionsRequest(), timeout=SECONDS).success
    assert stub.GetModelInfo(pb.GetModelInfoRequest(), timeout=SECONDS).success
    assert list(stub.CountTokens(pb.CountTokensRequest(texts=["a" * 5000]), timeout=SECONDS).tokens) == [5002]
    assert not waiting.done()
    letters.gate.set()
    assert said(waiting.result(SECONDS))


def test_a_bug_in_the_model(server: Served, stub: Stub, letters: Letters) -> None:
    """An exception in the model is INTERNAL with a request id and not its text, and the next call is served."""
    letters.fails_on = "h"
    for call in (
        lambda: stub.EmbedText(pb.EmbedTextRequest(text="h")),
        lambda: stub.EmbedBatch(pb.EmbedBatchRequest(texts=["a", "h"], allow_partial=True)),
        lambda: list(stub.EmbedStream(iter([pb.EmbedStreamRequest(text="h")]))),
    ):
        with pytest.raises(grpc.RpcError) as caught:
            call()
        assert caught.value.code() is grpc.StatusCode.INTERNAL
        message = details(caught.value).status.message
        assert "request_id" in message
        assert "secret" not in message
    assert "the secret /path/to/something" in server.log()
    assert said(stub.EmbedText(pb.EmbedTextRequest(text="a")))


def test_direct_call(open_engine: Callable[..., Engine]) -> None:
    """The servicer can be called without a server, as the guide's unit test does."""
    request = pb.EmbedTextRequest(text="abba")
    servicer = Servicer(open_engine(), max_reply_bytes=4 * 2**20)
    reply = asyncio.run(servicer.EmbedText(request, SimpleNamespace()))  # type: ignore[arg-type]
    assert reply.success
    assert list(reply.vector) == counts("abba")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--model", "./no-such-folder"), "there is no folder ./no-such-folder"),
        (("--model", "tests"), "model tests could not be loaded"),
        (("--backend", "tensorflow"), "must be one of auto, torch"),
        (("--backend", "torch", "--precision", "bf16"), "backend torch has fp32, not bf16"),
    ],
)
def test_start_refused(options: tuple[str, str], words: str) -> None:
    """A model, backend or precision that cannot be had is one line on stderr and exit status 2."""
    with start_plugin("plugins.embed_st", *options, wait="nothing") as plugin:
        assert plugin.wait() == 2
        lines = [line for line in plugin.stderr().splitlines() if line.startswith("error: ")]
        assert len(lines) == 1
        assert words in lines[0]
        assert "Traceback" not in plugin.stderr()


# ---------------------------------------------------------------- every field

SUCCESS: dict[str, Callable[..., None]] = {"success": test_text, "error": test_refused, "status": test_refused}
HELD: dict[str, dict[str, Callable[..., None]]] = {
    "EmbedOptions": {
        "input_type": oracle.test_prompts,
        "prompt_name": oracle.test_prompts,
        "normalize": oracle.test_normalize,
        "dimensions": oracle.test_dimensions,
        "truncate": oracle.test_cut_on_the_left,
        "long_text": oracle.test_chunk_mean,
    },
    "EmbedTextRequest": {"text": oracle.test_text, "options": oracle.test_dimensions},
    "EmbedTextResponse": {
        **SUCCESS,
        "vector": oracle.test_text,
        "tokens": test_text,
        "truncated": test_text,
        "model": oracle.test_text,
    },
    "EmbedBatchRequest": {"texts": oracle.test_batch, "options": test_refused, "allow_partial": test_allow_partial},
    "Embedding": {
        "vector": oracle.test_batch,
        "tokens": oracle.test_tokens,
        "truncated": oracle.test_tokens,
        "status": test_allow_partial,
    },
    "EmbedBatchResponse": {
        **SUCCESS,
        "embeddings": oracle.test_batch,
        "total_tokens": oracle.test_tokens,
        "model": test_batch,
    },
    "GetDimensionsRequest": {},
    "GetDimensionsResponse": {
        **dict.fromkeys(SUCCESS, test_dimensions),
        "dimensions": test_dimensions,
        "model": test_dimensions,
        "supported_dimensions": test_dimensions,
    },
    "GetModelInfoRequest": {},
    "GetModelInfoResponse": {
        **dict.fromkeys(SUCCESS, test_model_info),
        "model": oracle.test_model_info,
        "sha256": oracle.test_model_info,
        "dimensions": oracle.test_model_info,
        "max_tokens": oracle.test_model_info,
        "backend": oracle.test_model_info,
        "precision": oracle.test_model_info,
        "prompts": oracle.test_prompts,
    },
    "CountTokensRequest": {"texts": oracle.test_tokens},
    "CountTokensResponse": {**dict.fromkeys(SUCCESS, test_count_tokens), "tokens": oracle.test_tokens},
    "EmbedStreamRequest": {"id": stream.test_order, "text": stream.test_order, "options": stream.test_options},
    "EmbedStreamResponse": {"id": stream.test_order, "embedding": stream.test_order},
}


def test_every_field_is_held() -> None:
    """Each field of each message that a call takes or gives stands in the list above, with the test that holds it."""
    service = pb.DESCRIPTOR.services_by_name["EmbedderProvider"]
    todo: list[Descriptor] = [kind for method in service.methods for kind in (method.input_type, method.output_type)]
    found: dict[str, set[str]] = {}
    while todo:
        message = todo.pop()
        found[message.name] = {field.name for field in message.fields}
        nested = [field.message_type for field in message.fields if field.message_type]
        todo += [kind for kind in nested if kind.file is pb.DESCRIPTOR and not kind.GetOptions().map_entry]
    assert {name: set(fields) for name, fields in HELD.items()} == found


@pytest.mark.parametrize("kind", [pb.Embedding, pb.EmbedTextResponse])
def test_a_vector_as_bytes_is_the_vector(kind: type[pb.Embedding] | type[pb.EmbedTextResponse]) -> None:
    """A vector put into a message as bytes is the message that it makes number by number, whatever is in it and however
    it lies in memory."""
    odd = np.array([0, -0.0, np.inf, -np.inf, 1e-45, 3.4e38], np.float32)
    table = np.random.default_rng(0).normal(size=(400, 3)).astype(np.float32)
    for vector in (odd, odd[:1], odd[::-2], table[:, 1], table[0], table.T[2]):
        fast, plain = kind(tokens=3, truncated=True), kind(tokens=3, truncated=True)
        put_vector(fast, vector)
        plain.vector.extend(vector.tolist())
        assert fast == plain
