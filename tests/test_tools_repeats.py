"""Calls that come again with their call_id."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import threading
from collections.abc import Iterator
from typing import Any

import grpc
import hector_plugins_pb2 as pb
import pytest

from plugins.tools_http.__main__ import build
from plugins.tools_http.config import Config
from plugins.tools_http.engine.engine import Invocation
from plugins.tools_http.engine.tool import Call, Output
from shared.errors import Code, LimitReached, NotFound, Overloaded, Unavailable
from tests.servers import SECONDS, details, wait_until
from tests.tools_socket import Tools, request, serving, tool
from tests.tools_world import Play, Server


class Counter:
    """A tool that counts its runs and ends when it is told to."""

    def __init__(self) -> None:
        self.runs = 0
        self.cancelled = 0
        self.deadlines: list[float] = []
        self.go = threading.Event()
        self.go.set()

    async def run(self, arguments: dict[str, Any], call: Call) -> Output:
        self.runs += 1
        number = self.runs
        self.deadlines.append(call.deadline)
        try:
            while not self.go.is_set():  # noqa: ASYNC110
                await asyncio.sleep(0.005)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        match arguments.get("kind"):
            case "missing":
                raise NotFound("it is not there")
            case "busy":
                raise LimitReached("try later", retry_after=1)
            case "down":
                raise Unavailable("nothing was done")
            case "bug" if number == 1:
                raise RuntimeError("a bug")
            case "long":
                return Output(text=f"run {number} " * 500)
        return Output(text=f"run {number}", structured={"run": number}, metadata={"n": number})


@pytest.fixture
def counter() -> Counter:
    return Counter()


@pytest.fixture
def tools(counter: Counter) -> Iterator[Tools]:
    """`post` may not be made twice, `get` may."""
    with serving(
        tool(counter.run, name="post"),
        tool(counter.run, name="get", read_only=True),
        tool(counter.run, name="both", is_idempotent=lambda arguments: arguments.get("method") == "GET"),
        max_result_chars=1_000,
    ) as running:
        try:
            yield running
        finally:
            counter.go.set()


def in_flight(tools: Tools, counter: Counter, name: str, **more: Any) -> Any:
    """A call that is under way, as a future."""
    before = counter.runs
    call = tools.stub.ExecuteTool.future(request(name, {"a": 1}, **more), timeout=SECONDS)
    wait_until(lambda: counter.runs > before, "run")
    return call


def test_a_repeated_call_runs_once(tools: Tools, counter: Counter) -> None:
    """The same id with equal arguments, however they are written, gives the first answer, all of it."""
    first = tools.call("post", '{"a": 1, "b": 2.0}', call_id="one")
    again = tools.call("post", '{ "b":2, "a":1 }', call_id="one")
    assert (again, counter.runs) == (first, 1)
    assert tools.call("post", '{"a": 1, "b": 2}', call_id="two").result == "run 2"
    assert tools.call("post", '{"a": 1, "b": 2}').result == "run 3"
    assert tools.call("post", '{"a": 1, "b": 2}').result == "run 4"
    lines = tools.log_lines("tool_call")
    assert [line.get("repeated") for line in lines] == [None, "True", None, None, None]


@pytest.mark.parametrize(("name", "arguments"), [("post", {"a": 2}), ("get", {"a": 1}), ("post", None)])
def test_an_id_that_was_another_calls(tools: Tools, counter: Counter, name: str, arguments: Any) -> None:
    """The same id with another tool or other arguments is refused, and nothing is run."""
    tools.call("post", {"a": 1}, call_id="one")
    told = details(tools.call(name, arguments, call_id="one").status)
    assert (told.status.code, told.reason, told.violations[0][0]) == (
        Code.INVALID_ARGUMENT,
        "CALL_ID_REUSED",
        "call_id",
    )
    assert counter.runs == 1


@pytest.mark.parametrize("name", ["post", "get"])
def test_also_while_the_first_is_under_way(tools: Tools, counter: Counter, name: str) -> None:
    """Many calls with one id at once are one run, and one of them that goes takes nothing from the others."""
    counter.go.clear()
    calls = [in_flight(tools, counter, name, call_id="one")]
    calls += [tools.stub.ExecuteTool.future(request(name, {"a": 1}, call_id="one")) for _ in range(20)]
    wait_until(lambda: sum(entry.waiting for entry in tools.engine._repeats._entries.values()) == 21, "waiters")
    calls[0].cancel()
    calls[7].cancel()
    wait_until(lambda: sum(entry.waiting for entry in tools.engine._repeats._entries.values()) == 19, "two fewer")
    counter.go.set()
    results = {call.result(SECONDS).result for number, call in enumerate(calls) if number not in (0, 7)}
    assert (results, counter.runs, counter.cancelled) == ({"run 1"}, 1, 0)


def test_a_cancelled_call_that_may_be_made_again(tools: Tools, counter: Counter) -> None:
    """When nobody waits any more, a run without effects is ended; the repeated call runs anew."""
    counter.go.clear()
    in_flight(tools, counter, "get", call_id="one").cancel()
    wait_until(lambda: counter.cancelled == 1, "end of the run")
    counter.go.set()
    assert tools.call("get", {"a": 1}, call_id="one").result == "run 2"


def test_a_cancelled_call_that_may_not_be_made_twice(tools: Tools, counter: Counter) -> None:
    """A run with effects goes on to its end though its caller has gone, and the repeated call gets its answer."""
    counter.go.clear()
    call = tools.stub.ExecuteTool.future(request("post", {"a": 1}, call_id="one"), timeout=0.3)
    with pytest.raises(grpc.RpcError) as raised:
        call.result()
    assert raised.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    again = tools.stub.ExecuteTool.future(request("post", {"a": 1}, call_id="one"))
    counter.go.set()
    assert again.result(SECONDS).result == "run 1"
    assert (counter.runs, counter.cancelled) == (1, 0)


def test_a_run_of_nobody_has_an_end() -> None:
    """A run with effects whose caller has gone ends with the server's own bound, and then nobody knows its outcome."""

    async def run(arguments: dict[str, Any], call: Call) -> Output:
        await asyncio.sleep(60)
        return Output(text="late")

    with serving(tool(run), timeout=0.3) as running:

        def outcome(timeout: float) -> str:
            try:
                reply = running.stub.ExecuteTool(request("toy", {"a": 1}, call_id="one"), timeout=timeout)
            except grpc.RpcError as error:
                return str(error.code().name)
            return details(reply.status).reason

        assert outcome(0.1) == "DEADLINE_EXCEEDED"
        # The second waits for the end of the first one's run, unless it comes too late for that.
        assert outcome(SECONDS) in ("DEADLINE_EXCEEDED", "OUTCOME_UNKNOWN")
        assert outcome(SECONDS) == "OUTCOME_UNKNOWN"


@pytest.mark.parametrize(("method", "runs"), [("GET", 2), ("POST", 1)])
def test_the_arguments_may_say_it(tools: Tools, counter: Counter, method: str, runs: int) -> None:
    """Where it depends on the arguments whether a call may be made twice, they are asked."""
    arguments = {"method": method, "kind": "bug"}
    with pytest.raises(grpc.RpcError):
        tools.call("both", arguments, call_id="one")
    assert tools.call("both", arguments, call_id="one").success == (method == "GET")
    assert counter.runs == runs


def test_without_an_id_a_cancelled_call_ends(tools: Tools, counter: Counter) -> None:
    """A call without an id is over when its caller goes."""
    counter.go.clear()
    in_flight(tools, counter, "post").cancel()
    wait_until(lambda: counter.cancelled == 1, "end of the run")


def test_what_is_kept_of_failures(tools: Tools, counter: Counter) -> None:
    """A failure is an answer too, but not one that says that the same call can succeed later."""
    for kind, runs in (("missing", 1), ("busy", 2)):
        counter.runs = 0
        replies = [tools.call("post", {"kind": kind}, call_id=kind) for _ in range(2)]
        assert not replies[0].success
        assert replies[0].error == replies[1].error
        assert counter.runs == runs, kind


def test_what_the_service_could_not_do_is_not_kept(tools: Tools, counter: Counter) -> None:
    """An error that nobody asked for is forgotten where the call did nothing or may be made again."""
    for name, kind in (("post", "down"), ("get", "down"), ("get", "bug")):
        counter.runs = 0
        with pytest.raises(grpc.RpcError):
            tools.call(name, {"kind": kind}, call_id=name + kind)
        if kind == "bug":
            assert tools.call(name, {"kind": kind}, call_id=name + kind).result == "run 2"
        else:
            with pytest.raises(grpc.RpcError):
                tools.call(name, {"kind": kind}, call_id=name + kind)
        assert counter.runs == 2


def test_an_outcome_that_nobody_knows(tools: Tools, counter: Counter) -> None:
    """A call with effects that ended in a bug is not made a second time: the repeated one is told what is known."""
    with pytest.raises(grpc.RpcError):
        tools.call("post", {"kind": "bug"}, call_id="one")
    told = details(tools.call("post", {"kind": "bug"}, call_id="one").status)
    assert (told.status.code, told.reason) == (Code.ABORTED, "OUTCOME_UNKNOWN")
    assert counter.runs == 1


def test_a_repeat_may_want_another_length(tools: Tools, counter: Counter) -> None:
    """A repeated call is cut as long as it wants, and can be read on."""
    first = tools.call("post", {"kind": "long"}, call_id="one")
    again = tools.call("post", {"kind": "long"}, call_id="one", max_result_chars=300)
    whole = tools.call("post", {"kind": "long"}, call_id="one", max_result_chars=100_000)
    assert first.truncated
    assert len(again.result) <= 300
    assert again.next_cursor.split(".")[0] == first.next_cursor.split(".")[0]
    assert whole.result == "run 1 " * 500
    assert counter.runs == 1


def test_bounded_in_number_age_and_size() -> None:
    """Of many answers the last are kept, of old ones none, and together no more than a quarter of kept_bytes."""

    async def run(arguments: dict[str, Any], call: Call) -> Output:
        runs.append(1)
        return Output(text="x" * arguments.get("length", 1))

    runs: list[int] = []
    with serving(tool(run), kept_calls=3, kept_bytes=400_000) as tools:
        for number in range(4):
            tools.call("toy", {}, call_id=str(number))
        tools.call("toy", {}, call_id="3")
        assert len(runs) == 4
        tools.call("toy", {}, call_id="0")
        assert len(runs) == 5
        for number in range(40):
            tools.call("toy", {"length": 20_000}, call_id=f"long {number}")
        assert tools.engine._repeats._bytes <= 100_000
        assert len(tools.engine._repeats) <= 3
    with serving(tool(run), kept_for=0.05) as tools:
        runs.clear()
        tools.call("toy", {}, call_id="one")
        wait_until(lambda: bool(tools.call("toy", {}, call_id="one")) and len(runs) == 2, "second run")
    with serving(tool(run), kept_calls=0) as tools:
        runs.clear()
        tools.call("toy", {}, call_id="one")
        tools.call("toy", {}, call_id="one")
        assert len(runs) == 2


def test_an_id_that_is_too_long(tools: Tools) -> None:
    """A call_id of kilobytes is refused, naming it."""
    assert details(tools.call("post", {}, call_id="x" * 600).status).violations[0][0] == "call_id"


def abandoned(tools: Tools, counter: Counter, number: int, text: str = "") -> None:
    """A call with effects that goes on though its caller has gone."""
    before = counter.runs
    call = tools.stub.ExecuteTool.future(request("post", {"text": text}, call_id=f"gone {number}"), timeout=SECONDS)
    wait_until(lambda: counter.runs > before, "run")
    call.cancel()
    wait_until(lambda: all(not entry.waiting for entry in tools.engine._repeats._entries.values()), "end of the wait")


def refused(tools: Tools, name: str = "post", **more: Any) -> str:
    with pytest.raises(grpc.RpcError) as raised:
        tools.call(name, **more)
    assert raised.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    return str(raised.value.details())


def test_runs_of_nobody_are_bounded_in_number(counter: Counter) -> None:
    """Past `most_runs` none begins that may not be made again; others go on, and the refused one succeeds later."""
    with serving(tool(counter.run, name="post"), tool(counter.run, name="get", read_only=True), most_runs=3) as tools:
        counter.go.clear()
        for number in range(3):
            abandoned(tools, counter, number)
        assert "nothing was done" in refused(tools, call_id="next")
        assert counter.runs == 3
        waiting = [in_flight(tools, counter, "get", call_id="read"), in_flight(tools, counter, "post")]
        counter.go.set()
        assert [call.result(SECONDS).success for call in waiting] == [True, True]
        wait_until(lambda: tools.engine._repeats._runs == 0, "end of the runs")
        assert tools.call("post", call_id="next").success
        assert tools.engine._repeats._held == 0


def test_runs_of_nobody_are_bounded_in_bytes(counter: Counter, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs that nobody waits for hold so many bytes of arguments; one that is waited for again does not count."""
    monkeypatch.setattr("plugins.tools_http.engine.engine._MOST_HELD", 500_000)
    with serving(tool(counter.run, name="post")) as tools:
        counter.go.clear()
        abandoned(tools, counter, 0, "x" * 100_000)
        assert "nothing was done" in refused(tools, arguments={"text": "x" * 100_000}, call_id="next")
        again = tools.stub.ExecuteTool.future(request("post", {"text": "x" * 100_000}, call_id="gone 0"))
        wait_until(lambda: tools.engine._repeats._held == 0, "waiter")
        other = in_flight(tools, counter, "post", call_id="other")
        counter.go.set()
        assert [call.result(SECONDS).result for call in (again, other)] == ["run 1", "run 2"]
        assert tools.engine._repeats._held == 0


def test_kept_answers_are_bounded_in_bytes() -> None:
    """Answers past a quarter of kept_bytes are forgotten, the oldest first, and then their calls run again."""

    async def run(arguments: dict[str, Any], call: Call) -> Output:
        runs.append(1)
        return Output(text="x" * 19_000)

    runs: list[int] = []
    with serving(tool(run), kept_bytes=400_000) as tools:
        for number in range(10):
            tools.call("toy", {}, call_id=str(number))
        tools.call("toy", {}, call_id="9")
        assert len(runs) == 10
        tools.call("toy", {}, call_id="0")
        assert len(runs) == 11
        assert 80_000 < tools.engine._repeats._bytes <= 100_000


def test_a_refused_call_leaves_nothing_behind(counter: Counter) -> None:
    """The request of a call that ended in an error is let go at once, and not with the next collection of garbage."""
    with serving(tool(counter.run, name="post"), most_runs=1) as tools:
        counter.go.clear()
        abandoned(tools, counter, 0)
        gc.collect()
        gc.disable()
        try:
            for number in range(3):
                # As a future: an error that is raised would hold the client's own request.
                call = tools.stub.ExecuteTool.future(request("post", {"text": "rests"}, call_id=str(number)))
                assert call.exception(SECONDS) is not None
                del call

            def gone() -> bool:
                requests = [item for item in gc.get_objects() if type(item) is pb.ExecuteToolRequest]
                return not any("rests" in item.parameters_json for item in requests)

            # Which takes the threads of client and server a moment; what waits for a collection stays.
            wait_until(gone, "end of the requests", 30)
        finally:
            gc.enable()
            counter.go.set()


def test_runs_of_nobody_leave_connections_to_others() -> None:
    """As many of them as there may be hold no connection that another call needs."""
    with contextlib.closing(Server()) as server:
        server.on("/slow", Play([60.0], head=b""))
        server.on("/", b"here")
        config = Config(
            max_concurrent=2,
            allowed_networks=("127.0.0.1",),
            allowed_ports=(str(server.port),),
            allowed_methods=("GET", "POST"),
        )

        def invocation(path: str, method: str, call_id: str = "") -> Invocation:
            arguments = {"url": server.url + path, "method": method}
            return Invocation(tool="custom_api_call", arguments=arguments, call_id=call_id)

        async def calls() -> str:
            provider = build(config)
            try:
                for number in range(2):
                    call = asyncio.create_task(provider.engine.execute(invocation("/slow", "POST", f"gone {number}")))
                    while len(server.seen) <= number:  # noqa: ASYNC110 (of another thread)
                        await asyncio.sleep(0.005)
                    call.cancel()
                with pytest.raises(Overloaded):
                    await provider.engine.execute(invocation("/", "POST", "next"))
                async with asyncio.timeout(SECONDS):
                    return (await provider.engine.execute(invocation("/", "GET"))).text
            finally:
                await provider.close()

        assert asyncio.run(calls()) == "here"
