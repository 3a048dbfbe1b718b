"""embed_st's EmbedStream over a socket: order, what fails alone, clients that do not read, stop or go."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import grpc
import hector_plugins_pb2 as pb
import hector_plugins_pb2_grpc as rpc
import numpy as np
import pytest

from plugins.embed_st.engine import Engine
from plugins.embed_st.servicer import _AHEAD, _AHEAD_CHARACTERS
from tests.embed_letters import SECONDS, Letters, letters_engine
from tests.embed_wire import said, serving
from tests.servers import Served, details, wait_until

Stub = rpc.EmbedderProviderStub
LONG = "abcdefgh" * 5


@pytest.fixture
def letters() -> Letters:
    return Letters(384)  # as long as those of a real model, for they fill the connection


@pytest.fixture
def engine(letters: Letters, monkeypatch: pytest.MonkeyPatch) -> Iterator[Engine]:
    engine = letters_engine(monkeypatch, letters)
    yield engine
    letters.gate.set()
    engine.close()


@pytest.fixture
def server(engine: Engine) -> Iterator[Served]:
    with serving(engine) as server:
        yield server


@pytest.fixture
def stub(server: Served) -> Stub:
    return Stub(server.channel())


def counts(text: str) -> list[int]:
    return [text.count(letter) for letter in "abcdefgh"]


def requests(texts: Iterable[str]) -> Iterator[pb.EmbedStreamRequest]:
    for number, text in enumerate(texts):
        yield pb.EmbedStreamRequest(id=f"id {number}", text=text)


class Talk:
    """A stream in which each message is sent when the test says so."""

    def __init__(self, stub: Stub) -> None:
        self._messages: queue.Queue[pb.EmbedStreamRequest | None] = queue.Queue()
        self.answers: Any = stub.EmbedStream(iter(self._messages.get, None), timeout=SECONDS)

    def send(self, *texts: str) -> None:
        for text in texts:
            self._messages.put(pb.EmbedStreamRequest(id=text, text=text))

    def end(self) -> None:
        self._messages.put(None)


def taken(engine: Engine) -> int:
    """Places in the queue."""
    return engine._scheduler._taken


def settled(number: Callable[[], int]) -> int:
    """That number, once it has stayed the same for half a second."""
    still = threading.Event()
    while True:
        before = number()
        still.wait(0.5)
        if before and number() == before:
            return before


# ---------------------------------------------------------------- time


@pytest.mark.slow
def test_a_stream_outlives_the_timeout(engine: Engine) -> None:
    """`timeout` bounds each text of a stream and each silence, not the stream, which may take longer."""
    with serving(engine, timeout=8) as server:
        talk, began, count = Talk(Stub(server.channel())), time.monotonic(), 0
        while time.monotonic() - began < 10:
            talk.send(f"a{count}")
            assert not next(talk.answers).embedding.HasField("status")
            count += 1
            time.sleep(0.3)
        talk.end()
        assert list(talk.answers) == []


# ---------------------------------------------------------------- answers


def test_order(stub: Stub, letters: Letters) -> None:
    """A thousand texts of any length are answered once each, in their order, with their ids."""
    texts = [f"{number} " + "abc" * (number * 7 % 11) for number in range(1000)]
    answers = list(stub.EmbedStream(requests(texts), timeout=SECONDS))
    assert [answer.id for answer in answers] == [f"id {number}" for number in range(1000)]
    assert [list(answer.embedding.vector[:8]) for answer in answers] == [counts(text[:20]) for text in texts]
    assert [answer.embedding.truncated for answer in answers] == [len(text) > 20 for text in texts]
    assert [answer.embedding.tokens for answer in answers] == [min(22, len(text) + 2) for text in texts]
    assert any(len(batch) > 1 for batch in letters.batches)


def test_a_bad_text_fails_alone(stub: Stub) -> None:
    """A bad text has the reason in its own status, under its id and in its place, and the stream goes on."""
    strict = pb.EmbedOptions(truncate=pb.TRUNCATE_ERROR)
    asked: list[tuple[str, pb.EmbedOptions | None, str]] = [
        ("a", None, ""),
        ("", None, "BLANK_TEXT"),
        (LONG, strict, "TEXT_TOO_LONG"),
        ("b", pb.EmbedOptions(dimensions=385), "BAD_DIMENSIONS"),
        ("b", pb.EmbedOptions(prompt_name="nope"), "UNKNOWN_PROMPT"),
        ("b", pb.EmbedOptions(input_type=9), "INVALID_ARGUMENT"),  # type: ignore[arg-type]
        ("b", strict, ""),
    ]
    sent = (pb.EmbedStreamRequest(id=str(place), text=one[0], options=one[1]) for place, one in enumerate(asked))
    answers = list(stub.EmbedStream(sent, timeout=SECONDS))
    assert [answer.id for answer in answers] == [str(place) for place in range(len(asked))]
    for (text, _, reason), answer in zip(asked, answers, strict=True):
        if reason:
            assert details(answer.embedding.status).reason == reason
            assert not answer.embedding.vector
        else:
            assert not answer.embedding.HasField("status")
            assert list(answer.embedding.vector[:8]) == counts(text)
    blank = details(answers[1].embedding.status)
    assert (blank.status.message, blank.violations[0][0]) == ("text is blank; leave such texts out", "text")


def test_options(stub: Stub) -> None:
    """Each text of a stream has the options that it came with."""
    texts = [
        pb.EmbedStreamRequest(text="aaabbbb"),
        pb.EmbedStreamRequest(text="aaabbbb", options=pb.EmbedOptions(dimensions=2)),
        pb.EmbedStreamRequest(text="aaabbbb", options=pb.EmbedOptions(normalize=True)),
        pb.EmbedStreamRequest(text="b", options=pb.EmbedOptions(input_type=pb.INPUT_TYPE_QUERY)),
        pb.EmbedStreamRequest(text=LONG, options=pb.EmbedOptions(truncate=pb.TRUNCATE_LEFT)),
        pb.EmbedStreamRequest(text=LONG, options=pb.EmbedOptions(long_text=pb.LONG_TEXT_CHUNK_MEAN)),
    ]
    found = [answer.embedding for answer in stub.EmbedStream(iter(texts), timeout=SECONDS)]
    assert [len(one.vector) for one in found] == [384, 2, 384, 384, 384, 384]
    expected = [[3, 4], [0.6, 0.8], [0.6, 0.8], [1, 1], counts(LONG[-20:])[:2], [2.5, 2.5]]
    for one, numbers in zip(found, expected, strict=True):
        assert list(one.vector[:2]) == pytest.approx(numbers)
    assert [one.truncated for one in found] == [False, False, False, False, True, False]


def test_half_close(stub: Stub, letters: Letters) -> None:
    """A client that has sent all and closed its side gets every answer still."""
    letters.hold()
    talk = Talk(stub)
    talk.send("a", "b", "c")
    talk.end()
    assert letters.began.wait(SECONDS)
    letters.gate.set()
    assert [answer.id for answer in talk.answers] == ["a", "b", "c"]
    assert talk.answers.code() is grpc.StatusCode.OK


# ---------------------------------------------------------------- clients that do not read, stop or go


def test_no_more_than_it_says_are_ahead(stub: Stub, engine: Engine, letters: Letters, monkeypatch: Any) -> None:
    """While the model is busy, a stream has as many texts with it as it has places in the queue, and no more."""
    under_way: set[object] = set()
    most = 0
    embed = engine.embed

    async def counted(*texts: Any, **more: Any) -> Any:
        nonlocal most
        token = object()
        under_way.add(token)
        most = max(most, len(under_way))
        try:
            return await embed(*texts, **more)
        finally:
            under_way.discard(token)

    monkeypatch.setattr(engine, "embed", counted)
    letters.hold()
    answers = stub.EmbedStream(requests(f"a{number}" for number in range(1000)), timeout=SECONDS)
    wait_until(lambda: len(under_way) == taken(engine) == _AHEAD, "texts under way")
    assert settled(lambda: len(under_way)) == most == taken(engine) == _AHEAD
    letters.gate.set()
    assert len(list(answers)) == 1000
    assert most == _AHEAD


@pytest.mark.slow
def test_a_client_that_does_not_read(server: Served, stub: Stub, engine: Engine, letters: Letters) -> None:
    """A client that sends ten thousand texts and reads none is held back when the connection is full: the model stops,
    and so does what is read of the client; others are served; and when it reads, it gets every answer in order."""
    sent = 0

    def texts() -> Iterator[str]:
        nonlocal sent
        for number in range(10_000):
            sent += 1
            yield f"{number} " + "abcdefgh" * 100

    answers = stub.EmbedStream(requests(texts()), timeout=4 * SECONDS)
    assert settled(lambda: len(letters.texts())) < 6000
    assert settled(lambda: sent) < 9000
    # What waits for the client needs no place at the model.
    wait_until(lambda: taken(engine) == 0, "empty queue")
    assert said(Stub(server.channel()).EmbedText(pb.EmbedTextRequest(text="a"), timeout=SECONDS))
    for number, answer in enumerate(answers):
        assert answer.id == f"id {number}"
        assert list(answer.embedding.vector[:8]) == counts((f"{number} " + "abcdefgh" * 100)[:20])
    assert number == 9999


def test_a_full_queue(letters: Letters, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the queue is full a stream waits for a place, unlike a single call, and then gets every answer in order."""
    engine = letters_engine(monkeypatch, letters, max_queued=2)
    with serving(engine) as server:
        stub = Stub(server.channel())
        letters.hold()
        first = [stub.EmbedText.future(pb.EmbedTextRequest(text=text)) for text in "ab"]
        wait_until(lambda: taken(engine) == 2, "full queue")
        answers = stub.EmbedStream(requests("c" * number for number in range(1, 10)), timeout=SECONDS)
        with pytest.raises(grpc.RpcError, match="max_queued is 2"):
            stub.EmbedText(pb.EmbedTextRequest(text="d"), timeout=SECONDS)
        letters.gate.set()
        assert [answer.embedding.tokens for answer in answers] == [number + 2 for number in range(1, 10)]
        assert all(said(one.result(SECONDS)) for one in first)
    engine.close()


def test_waiting_for_a_place_costs_nothing(letters: Letters, monkeypatch: pytest.MonkeyPatch) -> None:
    """Streams that wait for a place in a full queue are told when there is one: each text asks for its place once."""
    engine = letters_engine(monkeypatch, letters, max_queued=2)
    asked: list[object] = []
    embed = engine.embed

    async def counted(*texts: Any, **more: Any) -> Any:
        asked.append(texts)
        return await embed(*texts, **more)

    monkeypatch.setattr(engine, "embed", counted)
    with serving(engine) as server:
        stub = Stub(server.channel())
        letters.hold()
        first = [stub.EmbedText.future(pb.EmbedTextRequest(text=text)) for text in "ab"]
        wait_until(lambda: taken(engine) == 2, "full queue")
        streams = [stub.EmbedStream(requests(["c"] * 30), timeout=SECONDS) for _ in range(3)]
        wait_until(lambda: len(asked) == 2 + 3 * 30, "texts of the streams")
        assert settled(lambda: len(asked)) == 2 + 3 * 30
        letters.gate.set()
        assert [len(list(answers)) for answers in streams] == [30] * 3
        assert all(said(one.result(SECONDS)) for one in first)
        assert len(asked) == 2 + 3 * 30
        wait_until(lambda: taken(engine) == 0, "empty queue")
    engine.close()


def test_streams_leave_room_for_calls(letters: Letters, monkeypatch: pytest.MonkeyPatch) -> None:
    """However much streams send, a quarter of the queue is left to single calls, which would be refused."""
    engine = letters_engine(monkeypatch, letters, max_queued=8)
    with serving(engine) as server:
        letters.hold()
        streams = [Stub(server.channel()).EmbedStream(requests("c" * 40), timeout=SECONDS) for _ in range(3)]
        wait_until(lambda: taken(engine) == 6, "three quarters of the queue")
        assert settled(lambda: taken(engine)) == 6
        call = Stub(server.channel()).EmbedText.future(pb.EmbedTextRequest(text="ab"), timeout=SECONDS)
        wait_until(lambda: call.done() or taken(engine) == 7, "the call")
        assert taken(engine) == 7
        letters.gate.set()
        assert said(call.result(SECONDS))
        assert [len(list(answers)) for answers in streams] == [40] * 3
    engine.close()


def test_idle_streams_hold_nothing(engine: Engine) -> None:
    """A stream that sends nothing, from the start or any more, has no place in the queue and counts as no caller."""
    with serving(engine, max_concurrent=300) as server:
        talks = [Talk(Stub(server.channel())) for _ in range(5) for _ in range(20)]
        for talk in talks[::2]:
            talk.send("a")
        for talk in talks[::2]:
            assert next(talk.answers).id == "a"
        wait_until(lambda: taken(engine) == engine._scheduler._callers == 0, "empty queue")
        assert said(Stub(server.channel()).EmbedText(pb.EmbedTextRequest(text="a"), timeout=SECONDS))
        for talk in talks:
            talk.end()
        assert all(list(talk.answers) == [] for talk in talks)


def test_no_more_characters_than_it_says_are_ahead(
    stub: Stub, engine: Engine, letters: Letters, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stream reads no further ahead than a number of characters, ids included; a text that is longer goes alone."""
    lengths: dict[object, int] = {}
    most = 0
    embed = engine.embed

    async def counted(texts: Any, *more: Any, **options: Any) -> Any:
        nonlocal most
        token = object()
        lengths[token] = len(texts[0]) + 50_000
        most = max(most, sum(lengths.values()) if len(lengths) > 1 else 0)
        try:
            return await embed(texts, *more, **options)
        finally:
            del lengths[token]

    monkeypatch.setattr(engine, "embed", counted)
    letters.hold()
    sizes = [10_000] * 9 + [400_000] + [10_000] * 9
    asked = (pb.EmbedStreamRequest(id="i" * 50_000, text="abcdefgh" * (size // 8)) for size in sizes)
    answers = stub.EmbedStream(asked, timeout=SECONDS)
    wait_until(lambda: len(lengths) == 3, "texts under way")
    assert settled(lambda: len(lengths)) == 3
    letters.gate.set()
    assert [len(answer.id) for answer in answers] == [50_000] * len(sizes)
    assert 0 < most <= _AHEAD_CHARACTERS


@pytest.mark.parametrize("reads", [0, 3])
def test_a_client_that_goes(stub: Stub, engine: Engine, letters: Letters, reads: int) -> None:
    """A client that cancels in the middle leaves its places; what waited is not run; and others are served."""
    talk = Talk(stub)
    for number in range(reads):
        talk.send(f"a{number}")
        next(talk.answers)
    letters.hold()
    talk.send(*(f"b{number}" for number in range(50)))
    assert letters.began.wait(SECONDS)
    talk.answers.cancel()
    wait_until(lambda: taken(engine) == 0, "empty queue")
    before = len(letters.texts())
    letters.gate.set()
    assert said(stub.EmbedText(pb.EmbedTextRequest(text="c"), timeout=SECONDS))
    assert letters.texts()[before:] == ["c"]
    talk.end()


@pytest.mark.slow
def test_a_client_that_stops(stub: Stub, engine: Engine, letters: Letters) -> None:
    """A client that neither sends nor reads any more holds no places, and is let go by its deadline."""
    messages: queue.Queue[pb.EmbedStreamRequest | None] = queue.Queue()
    messages.put(pb.EmbedStreamRequest(text="a"))
    answers = stub.EmbedStream(iter(messages.get, None), timeout=6)
    assert len(next(answers).embedding.vector) == 384
    wait_until(lambda: taken(engine) == 0, "empty queue")
    with pytest.raises(grpc.RpcError) as caught:
        next(answers)
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    messages.put(None)
    assert said(stub.EmbedText(pb.EmbedTextRequest(text="c"), timeout=SECONDS))


def test_a_client_that_breaks(stub: Stub, engine: Engine) -> None:
    """A client whose own side fails half way leaves nothing behind."""

    def texts() -> Iterator[pb.EmbedStreamRequest]:
        yield pb.EmbedStreamRequest(text="a")
        raise OSError("the client's own file ended")

    with pytest.raises(grpc.RpcError):
        list(stub.EmbedStream(texts(), timeout=SECONDS))
    wait_until(lambda: taken(engine) == 0, "empty queue")
    assert said(stub.EmbedText(pb.EmbedTextRequest(text="c"), timeout=SECONDS))


@pytest.mark.slow
def test_streams_beside_one_another(server: Served) -> None:
    """Twenty streams at once get each their own answers, in their own order."""
    found: dict[int, bool] = {}

    def one(number: int) -> None:
        texts = ["abcdefgh"[number % 8] * (place % 13 + 1) for place in range(number, number + 100)]
        vectors = [answer.embedding.vector for answer in Stub(server.channel()).EmbedStream(requests(texts))]
        found[number] = np.array(vectors)[:, :8].tolist() == [counts(text) for text in texts]

    threads = [threading.Thread(target=one, args=(number,)) for number in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SECONDS)
    assert found == dict.fromkeys(range(20), True)
