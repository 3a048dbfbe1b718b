"""llm_openai on bad days: the contract's error table, retries, fallbacks, deadlines, cancels, what is left behind."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import hector_plugins_pb2 as pb
import hector_plugins_pb2_grpc as rpc
import pytest

from plugins.llm_openai.engine import Engine, Message, Request, Settings, listening
from tests.llm_endpoint import BUSY, OVERFLOWS, Endpoint
from tests.llm_tools import WEATHER, generate, refused, said, started, started_alone, stream, stub_of, text_of
from tests.servers import SECONDS, details, wait_until


@pytest.fixture(scope="module")
def endpoint() -> Iterator[Endpoint]:
    with Endpoint() as running:
        yield running


@pytest.fixture(scope="module")
def stub(endpoint: Endpoint) -> Iterator[rpc.LLMProviderStub]:
    with started(endpoint) as plugin:
        yield stub_of(plugin)


@pytest.fixture(scope="module")
def impatient(endpoint: Endpoint) -> Iterator[rpc.LLMProviderStub]:
    """For an endpoint that says nothing; one that answers may take longer than that on a busy machine."""
    with started(endpoint, "--read-timeout", "500ms") as plugin:
        yield stub_of(plugin)


@contextlib.contextmanager
def nowhere() -> Iterator[Endpoint]:
    """One that nobody serves; its port is kept from whoever asks the system for any."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        endpoint = Endpoint()
        endpoint.url = f"http://127.0.0.1:{taken.getsockname()[1]}/v1"
        yield endpoint


# ---------------------------------------------------------------- the error table

TABLE = [
    ("status-400", "INVALID_ARGUMENT", "UPSTREAM_INVALID_REQUEST"),
    ("too-long", "INVALID_ARGUMENT", "CONTEXT_LENGTH_EXCEEDED"),
    ("status-401", "UNAUTHENTICATED", "UPSTREAM_UNAUTHENTICATED"),
    ("status-402", "RESOURCE_EXHAUSTED", "UPSTREAM_QUOTA"),
    ("status-403", "PERMISSION_DENIED", "UPSTREAM_PERMISSION_DENIED"),
    ("status-404", "NOT_FOUND", "UPSTREAM_NOT_FOUND"),
    ("status-408", "DEADLINE_EXCEEDED", "UPSTREAM_TIMEOUT"),
    ("status-413", "INVALID_ARGUMENT", "UPSTREAM_INVALID_REQUEST"),
    ("status-422", "INVALID_ARGUMENT", "UPSTREAM_INVALID_REQUEST"),
    ("status-429", "RESOURCE_EXHAUSTED", "UPSTREAM_RATE_LIMITED"),
    ("status-500", "UNAVAILABLE", "UPSTREAM_UNAVAILABLE"),
    ("status-502", "UNAVAILABLE", "UPSTREAM_UNAVAILABLE"),
    ("status-503", "UNAVAILABLE", "UPSTREAM_UNAVAILABLE"),
    ("status-504", "DEADLINE_EXCEEDED", "UPSTREAM_TIMEOUT"),
    ("status-529", "UNAVAILABLE", "UPSTREAM_UNAVAILABLE"),
    ("error-200", "NOT_FOUND", "UPSTREAM_NOT_FOUND"),
    ("page", "UNAVAILABLE", "UPSTREAM_MALFORMED"),
    ("other-json", "UNAVAILABLE", "UPSTREAM_MALFORMED"),
    ("plain", "UNAVAILABLE", "UPSTREAM_MALFORMED"),
    ("gzip-bomb", "INVALID_ARGUMENT", "UPSTREAM_INVALID_REQUEST"),
    ("moved", "UNAVAILABLE", "UPSTREAM_MALFORMED"),
    ("huge-error", "INVALID_ARGUMENT", "UPSTREAM_INVALID_REQUEST"),
    ("open-tags", "INVALID_ARGUMENT", "UPSTREAM_INVALID_REQUEST"),
    ("odd-charset", "INVALID_ARGUMENT", "UPSTREAM_INVALID_REQUEST"),
    ("odd-location", "INVALID_ARGUMENT", "UPSTREAM_INVALID_REQUEST"),
    ("long-detail", "UNAVAILABLE", "UPSTREAM_UNAVAILABLE"),
    ("a-million-values", "UNAVAILABLE", "UPSTREAM_MALFORMED"),
    ("too-many-calls", "UNAVAILABLE", "UPSTREAM_MALFORMED"),
]


@pytest.mark.parametrize("call", ["GenerateText", "StreamText"])
@pytest.mark.parametrize(("model", "code", "reason"), TABLE)
def test_the_error_table(
    stub: rpc.LLMProviderStub, endpoint: Endpoint, call: str, model: str, code: str, reason: str
) -> None:
    """Each answer of an endpoint has its code and reason; the message names the endpoint, RetryInfo is with a 429."""
    error = refused(generate if call == "GenerateText" else stream, stub, model)
    found = details(error)
    assert (error.code().name, found.reason, found.domain) == (code, reason, "plugins.hector.dev")
    assert endpoint.url in said(error)
    assert found.metadata["endpoint"] == endpoint.url
    if model.startswith("status-"):
        assert found.metadata["http_status"] == model[7:]
        assert f"this is {model[7:]}" in said(error)
    if (code == "UNAVAILABLE" and model.startswith("status-")) or model == "status-429":
        assert found.retry_after == 1
    if model == "plain":
        assert "the upstream is not configured" in said(error)
    if model == "huge-error":
        assert endpoint.seen[-1].gone.wait(SECONDS), "all of it was read"


@pytest.mark.parametrize("call", ["GenerateText", "StreamText"])
def test_silence(impatient: rpc.LLMProviderStub, endpoint: Endpoint, call: str) -> None:
    """An endpoint that never answers is DEADLINE_EXCEEDED with UPSTREAM_TIMEOUT, after read_timeout."""
    error = refused(generate if call == "GenerateText" else stream, impatient, "hang")
    assert (error.code().name, details(error).reason) == ("DEADLINE_EXCEEDED", "UPSTREAM_TIMEOUT")
    assert endpoint.url in said(error)


def test_a_strange_retry_after_is_none(endpoint: Endpoint) -> None:
    """A Retry-After that no calendar has is passed over."""
    with started(endpoint, "--max-retries", "0") as plugin:
        assert details(refused(generate, stub_of(plugin), "retry-never")).reason == "UPSTREAM_UNAVAILABLE"


def test_a_bomb_is_not_unpacked(endpoint: Endpoint) -> None:
    """A refusal that is compressed takes no more memory than it has bytes."""
    with started_alone(endpoint) as plugin:
        stub = stub_of(plugin)
        generate(stub, "hello")
        before = resident(plugin.process.pid)
        for _ in range(3):
            refused(generate, stub, "gzip-bomb")
        assert peak(plugin.process.pid) < before + 50 * 10**6


def test_an_empty_reply_is_an_error(endpoint: Endpoint) -> None:
    """Status 200 with nothing in it is a cut reply."""
    with started(endpoint, "--max-retries", "0") as plugin:
        error = refused(generate, stub_of(plugin), "nothing")
    assert details(error).reason == "STREAM_TRUNCATED"
    assert "empty" in said(error)


def test_a_page_points_at_the_v1(stub: rpc.LLMProviderStub) -> None:
    """An HTML page where a reply should be: the error says what is probably missing."""
    assert "/v1" in said(refused(generate, stub, "page"))


def test_a_redirect_is_not_followed(stub: rpc.LLMProviderStub) -> None:
    """A redirect could carry a key to another host: the error names where it leads instead."""
    assert "set endpoint to http://127.0.0.2:1/v1" in said(refused(generate, stub, "moved"))


def test_nobody_listens() -> None:
    """No connection is UNAVAILABLE with UPSTREAM_UNREACHABLE, the endpoint named."""
    with nowhere() as unserved, started(unserved, "--max-retries", "0") as plugin:
        error = refused(generate, stub_of(plugin), "hello")
    assert (error.code().name, details(error).reason) == ("UNAVAILABLE", "UPSTREAM_UNREACHABLE")
    assert unserved.url in said(error)


@pytest.mark.slow
def test_silence_in_the_middle(endpoint: Endpoint) -> None:
    """An endpoint that falls silent in mid-text: the text so far, then DEADLINE_EXCEEDED after read_timeout."""
    messages: list[pb.StreamTextResponse] = []
    # Long enough for the text to come where the machine is busy.
    with started(endpoint, "--read-timeout", "3s") as plugin:
        error = refused(stream, stub_of(plugin), "stall", messages)
    assert text_of(messages) == "Hel"
    assert (error.code().name, details(error).reason) == ("DEADLINE_EXCEEDED", "UPSTREAM_TIMEOUT")


# ---------------------------------------------------------------- tries


def test_retry_after_is_honoured(endpoint: Endpoint) -> None:
    """A 429 that says when is tried again then, not before."""
    with started(endpoint) as plugin:
        began = time.monotonic()
        assert generate(stub_of(plugin), "busy-once").text == "Hello"
        assert time.monotonic() - began >= 0.2


@pytest.mark.parametrize("model", BUSY)
def test_a_delay_is_found(endpoint: Endpoint, model: str) -> None:
    """Wherever an endpoint says when to come again, it is tried again then, not before."""
    with started(endpoint, "--max-retries", "1") as plugin:
        began = time.monotonic()
        assert generate(stub_of(plugin), model).text == "Hello"
        assert 0.3 <= time.monotonic() - began < 60, "not after the 62 minutes of another limit"


@pytest.mark.parametrize("model", ["used-up", "used-up-today"])
def test_what_is_used_up_is_not_tried_again(stub: rpc.LLMProviderStub, endpoint: Endpoint, model: str) -> None:
    """No money, or no quota of the day: one try, and a reason of its own without RetryInfo."""
    before = len(endpoint.seen)
    found = details(refused(generate, stub, model))
    assert (found.reason, found.retry_after) == ("UPSTREAM_QUOTA", None)
    assert len(endpoint.seen) == before + 1


@pytest.mark.parametrize("number", range(len(OVERFLOWS)))
def test_an_overflow_is_known(stub: rpc.LLMProviderStub, endpoint: Endpoint, number: int) -> None:
    """In the words of many servers, whatever the status: one try, and CONTEXT_LENGTH_EXCEEDED."""
    before = len(endpoint.seen)
    error = refused(generate, stub, "overflows", prompt=str(number))
    assert (error.code().name, details(error).reason) == ("INVALID_ARGUMENT", "CONTEXT_LENGTH_EXCEEDED")
    assert len(endpoint.seen) == before + 1


def test_a_call_that_was_not_read(endpoint: Endpoint) -> None:
    """A tool call that the endpoint itself cannot read is tried once more, without retries too; its text is kept."""
    with started(endpoint, "--max-retries", "0") as plugin:
        stub = stub_of(plugin)
        assert [call.name for call in generate(stub, "call-not-read-once", tools=[WEATHER]).tool_calls] == ["weather"]
        before = len(endpoint.seen)
        error = refused(generate, stub, "call-not-read", tools=[WEATHER])
    assert len(endpoint.seen) == before + 2
    found = details(error)
    assert (error.code().name, found.reason) == ("FAILED_PRECONDITION", "TOOL_CALL_NOT_READ")
    assert found.metadata["failed_generation"] == '<function=weather{"city": "Rome"}'


def test_a_long_retry_after_is_told(endpoint: Endpoint) -> None:
    """When the wait would outlast the caller's deadline it is not begun: the caller hears at once how long it is."""
    with started(endpoint) as plugin:
        began = time.monotonic()
        error = refused(generate, stub_of(plugin), "busy-long", timeout=29)
        assert time.monotonic() - began < 20
    assert (error.code().name, details(error).retry_after) == ("RESOURCE_EXHAUSTED", 30)


def test_a_failing_endpoint_is_tried_again(endpoint: Endpoint) -> None:
    """A 503 is tried again, at most max_retries times; a 400 is not."""
    with started(endpoint, "--max-retries", "1") as plugin:
        stub = stub_of(plugin)
        assert generate(stub, "down-once").text == "Hello"
        before = len(endpoint.seen)
        refused(generate, stub, "reset")
        assert len(endpoint.seen) == before + 2
        refused(generate, stub, "too-long")
        assert len(endpoint.seen) == before + 3


def test_nothing_is_tried_again_once_text_went_out(endpoint: Endpoint) -> None:
    """A stream that breaks after its first text is not begun again, whatever the settings say."""
    with Endpoint() as other:
        fallbacks = json.dumps({"other": {"endpoint": other.url, "model": "hello"}})
        with started(endpoint, "--max-retries", "3", env={"LLM_OPENAI__FALLBACKS": fallbacks}) as plugin:
            before = len(endpoint.seen)
            messages: list[pb.StreamTextResponse] = []
            refused(stream, stub_of(plugin), "reset", messages)
        assert text_of(messages) == "Hel"
        assert len(endpoint.seen) == before + 1
        assert other.seen == []


@pytest.mark.parametrize(
    "model",
    [
        "status-401",
        "status-404",
        "status-429",
        "status-503",
        "page",
        "error-200",
        pytest.param("hang", marks=pytest.mark.slow),
    ],
)
def test_a_fallback_is_asked(endpoint: Endpoint, model: str) -> None:
    """Another endpoint, or another model of the same, answers where the first does not."""
    with Endpoint() as other:
        for fallback in ({"endpoint": other.url, "model": "hello"}, {"model": "hello"}):
            env = {"LLM_OPENAI__FALLBACKS": json.dumps({"second": fallback})}
            args = ["--max-retries", "0", *(["--read-timeout", "2s"] if model == "hang" else [])]
            with started(endpoint, *args, env=env) as plugin:
                assert text_of(stream(stub_of(plugin), model)) == "Hello"
                assert generate(stub_of(plugin), model).text == "Hello"
        assert len(other.seen) == 2


def test_a_fallback_is_asked_when_no_model_is_named() -> None:
    """An endpoint that cannot even say which models it has is passed over like any other that fails."""
    with Endpoint() as other, nowhere() as unserved:
        fallbacks = json.dumps({"b": {"endpoint": other.url, "model": "named"}})
        args = ["--max-retries", "0", "--aliases", '{"named": "hello"}']
        with started(unserved, *args, env={"LLM_OPENAI__FALLBACKS": fallbacks}) as plugin:
            assert generate(stub_of(plugin), "").text == "Hello"


def test_a_wrong_request_is_wrong_everywhere(endpoint: Endpoint) -> None:
    """A 400 is the caller's: no fallback is bothered with it."""
    with started(endpoint, env={"LLM_OPENAI__FALLBACKS": '{"second": {"model": "hello"}}'}) as plugin:
        assert refused(generate, stub_of(plugin), "too-long").code() is grpc.StatusCode.INVALID_ARGUMENT


# ---------------------------------------------------------------- time


def test_a_deadline_ends_a_hanging_call(endpoint: Endpoint) -> None:
    """A deadline ends a call to an endpoint that hangs (in time: the bench), and the endpoint sees it go."""
    with started(endpoint) as plugin:
        stub = stub_of(plugin)
        generate(stub, "hello")  # so that the time to connect is none of the call's
        before, began = len(endpoint.seen), time.monotonic()
        error = refused(generate, stub, "hang", timeout=2)
        assert time.monotonic() - began < 60
        assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        (asked,) = endpoint.seen[before:]
        assert asked.gone.wait(SECONDS)


def test_a_cancel_reaches_the_endpoint(endpoint: Endpoint) -> None:
    """A stream that is cancelled closes its connection to the endpoint (100 ms: the bench)."""
    with started(endpoint) as plugin:
        call = stub_of(plugin).StreamText(pb.StreamTextRequest(prompt="Hi", model="endless"))
        next(call)
        call.cancel()
        assert endpoint.seen[-1].gone.wait(SECONDS)


def test_the_plugins_timeout(endpoint: Endpoint) -> None:
    """The setting `timeout` bounds a call whose caller sets no deadline."""
    with started(endpoint, "--timeout", "500ms") as plugin:
        error = refused(stub_of(plugin).GenerateText, pb.GenerateTextRequest(prompt="Hi", model="hang"))
        assert (error.code().name, details(error).reason) == ("DEADLINE_EXCEEDED", "TIMEOUT")


def test_more_calls_than_places_wait(endpoint: Endpoint) -> None:
    """With `concurrency` 1 two streams are answered one after the other."""
    with started(endpoint, "--concurrency", "1") as plugin:
        stub = stub_of(plugin)
        first = stub.StreamText(pb.StreamTextRequest(prompt="Hi", model="endless"))
        next(first)
        before = len(endpoint.seen)
        second = stub.StreamText(pb.StreamTextRequest(prompt="Hi", model="hello"))
        time.sleep(0.2)
        assert len(endpoint.seen) == before
        first.cancel()
        assert "".join(message.text for message in second) == "Hello"


def resident(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("no VmRSS")


def peak(pid: int) -> int:
    text = Path(f"/proc/{pid}/status").read_text()
    return int(text.partition("VmHWM:")[2].split()[0]) * 1024


def sockets(pid: int) -> int:
    found = 0
    for file in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            found += file.readlink().name.startswith("socket:")
    return found


@pytest.mark.slow
def test_cancelled_streams_leave_nothing_behind() -> None:
    """After 1,000 cancelled streams there are no more connections and hardly more memory than after 100."""
    with Endpoint() as endpoint, started_alone(endpoint) as plugin:
        stub = stub_of(plugin)

        def cancel(count: int) -> None:
            for _ in range(count):
                call = stub.StreamText(pb.StreamTextRequest(prompt="Hi", model="endless"))
                next(call)
                call.cancel()

        cancel(100)
        wait_until(lambda: endpoint.open == 0, "end of the connections")
        generate(stub, "hello")
        before, held = resident(plugin.process.pid), sockets(plugin.process.pid)
        cancel(1000)
        wait_until(lambda: endpoint.open <= 1, "end of the connections", otherwise=lambda: f"{endpoint.open} are open")
        assert generate(stub, "hello").text == "Hello"
        # The last stream's connection may be the one that is open, and about to end.
        wait_until(lambda: sockets(plugin.process.pid) <= held, "end of the sockets")
        assert resident(plugin.process.pid) < before + 8 * 2**20
        assert "event=bug" not in plugin.stderr()
        assert "never retrieved" not in plugin.stderr()


@pytest.mark.slow
@pytest.mark.parametrize("model", ["endless", "hang", "stall", "lingering"])
def test_cancelled_streams_leave_no_task(model: str) -> None:
    """A stream of the engine that is cancelled, wherever it is, leaves neither task nor place nor connection behind."""

    async def cancel_many(url: str) -> None:
        engine = Engine([Settings(url=url, concurrency=4)])
        before = len(asyncio.all_tasks())

        async def read() -> None:
            async for _ in engine.stream(Request((Message("user", "Hi"),), model)):
                pass

        for number in range(40):
            task = asyncio.create_task(read())
            await asyncio.sleep(0.001 * number)  # from before it is sent to the middle of the text
            if task.cancel():  # else it has ended by itself, on a machine that stood still for seconds
                with pytest.raises(asyncio.CancelledError):
                    await task
        assert len(asyncio.all_tasks()) == before
        # More than there are places were cancelled, so each gave its own back.
        assert (await engine.generate(Request((Message("user", "Hi"),), "hello"))).text == "Hello"
        await engine.close()

    with Endpoint() as endpoint:
        asyncio.run(cancel_many(endpoint.url))
        wait_until(lambda: endpoint.open == 0, "end of the connections", otherwise=lambda: f"{endpoint.open} are open")


def test_connections_are_used_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Calls one after the other, streamed and whole, need one connection to the endpoint."""
    # The end of a body is waited for as long as it takes: a tenth of a second may be too short on a busy machine.
    monkeypatch.setattr(listening, "_AFTER_DONE", SECONDS)
    with Endpoint() as own, started(own) as plugin:
        stub = stub_of(plugin)
        for model in ("hello", "json-body", "no-done", "hello"):
            stream(stub, model)
            generate(stub, model)
        assert own.open == 1
        assert own.connections == 1
