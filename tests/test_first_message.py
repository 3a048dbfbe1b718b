"""Calls before their first message, and those that never have one: `shared/accept.py`, `shared/wakeups.py`."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import grpc
import hector_plugins_pb2 as pb
import pytest
from hector_plugins_pb2_grpc import LLMProviderStub

from shared import calls, wakeups
from shared.config import BaseConfig
from shared.units import Secret
from tests import http2
from tests.fuzz.http2 import Connection
from tests.servers import SECONDS, Served, environment, served, wait_until
from tests.toy_plugin import SERVICE, Toy, register

GENERATE = f"/{SERVICE}/GenerateText"
REFLECTION = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"


@contextlib.contextmanager
def toy(token: str = "") -> Iterator[Served]:
    with served(BaseConfig(token=Secret(token)), SERVICE, lambda server: register(Toy(), server)) as plugin:
        yield plugin


def tasks(plugin: Served) -> int:
    """How many there are in the plugin's loop, but for the one that counts."""

    async def count() -> int:
        return len(asyncio.all_tasks()) - 1

    return asyncio.run_coroutine_threadsafe(count(), plugin.loop).result(SECONDS)


def works(plugin: Served, token: str = "") -> bool:
    stub = LLMProviderStub(plugin.channel(token=token))
    return bool(stub.GenerateText(pb.GenerateTextRequest(prompt="echo yes"), timeout=SECONDS).text == "yes")


@pytest.mark.parametrize("path", [GENERATE, REFLECTION])
def test_a_call_without_a_message_is_one_task(path: str) -> None:
    """A call takes one task until its message comes, and none when its client has gone."""
    with toy() as plugin:
        before = tasks(plugin)
        assert works(plugin)
        wait_until(lambda: not plugin.server._calls, "end of that call")
        wait_until(lambda: tasks(plugin) == before, "end of its tasks, which may come a little later")
        with http2.connections(plugin.address, 1) as (stranger,):
            for stream in range(1, 101, 2):
                stranger.call(stream, path)
            wait_until(lambda: len(plugin.server._calls) == 50, "50 calls")
            assert tasks(plugin) == before + 50
        wait_until(lambda: not plugin.server._calls, "end of the calls")
        wait_until(lambda: tasks(plugin) == before, "end of the tasks")
        assert works(plugin)
        assert "raceback" not in plugin.log()


def test_an_upload_without_messages() -> None:
    """A stream of requests that ends without one is answered by its servicer: with no reply, and OK."""
    with toy() as plugin:
        upload: Any = plugin.channel().stream_stream(REFLECTION)
        replies = upload(iter(()), timeout=SECONDS)
        assert list(replies) == []
        assert replies.code() is grpc.StatusCode.OK
        wait_until(lambda: not plugin.server._calls, "end of the call")


def test_a_client_that_goes_while_nothing_is_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that goes while its call without a message is worked on ends that work."""
    begun, ended = threading.Event(), threading.Event()

    async def endless(*_: object) -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    monkeypatch.setattr(calls.CallInterceptor, "_around", endless)
    with toy() as plugin:
        upload: Any = plugin.channel().stream_stream(REFLECTION)
        replies = upload(iter(()), timeout=SECONDS)
        assert begun.wait(SECONDS)
        replies.cancel()
        assert ended.wait(SECONDS)
        wait_until(lambda: not plugin.server._calls, "end of the call")


def test_a_flood_of_strangers_is_reset(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the calls without a token in a second only so many get their error; the others are reset, and whoever has the
    token is answered."""
    monkeypatch.setattr(calls, "_ANSWERED_A_SECOND", 10)
    with toy("open sesame") as plugin:
        connection = Connection(plugin.address, seconds=SECONDS)
        streams = [connection.open(GENERATE) for _ in range(300)]

        def ended() -> bool:
            connection.read(0.05)
            return set(streams) <= connection.statuses.keys()

        wait_until(ended, "end of all")
        assert 10 <= [*connection.statuses.values()].count("16") <= 150  # UNAUTHENTICATED
        assert works(plugin, "open sesame")
        wait_until(lambda: not plugin.server._calls, "end of the calls")
        connection.close()


def test_only_strangers_make_a_flood_of_strangers(monkeypatch: pytest.MonkeyPatch) -> None:
    """However often callers with the token ask for what there is not, they hear so, and a stranger beside them hears
    why."""
    monkeypatch.setattr(calls, "_ANSWERED_A_SECOND", 10)
    with toy("open sesame") as plugin:
        unknown: Any = plugin.channel(token="open sesame").unary_unary("/no/such")
        stranger: Any = plugin.channel().unary_unary(GENERATE)
        begun = [unknown.future(b"", timeout=SECONDS) for _ in range(50)]
        assert {call.code() for call in begun} == {grpc.StatusCode.UNIMPLEMENTED}
        assert stranger.future(b"", timeout=SECONDS).code() is grpc.StatusCode.UNAUTHENTICATED


def test_a_call_whose_message_never_came_is_in_the_log() -> None:
    """A client that goes before its message has come leaves a line."""
    with toy() as plugin:
        with http2.connections(plugin.address, 1) as (stranger,):
            stranger.call(1, GENERATE)
            wait_until(lambda: len(plugin.server._calls) == 1, "the call")
        wait_until(lambda: "method=GenerateText code=CANCELLED" in plugin.log(), "its line")


def test_a_quiet_upload_is_none_that_hangs() -> None:
    """A stream of requests may take its time, so that it does not count as one whose message does not arrive."""
    with toy() as plugin, http2.connections(plugin.address, 1) as (client,):
        for stream, path in ((1, REFLECTION), (3, GENERATE)):
            client.call(stream, path)
        wait_until(lambda: len(plugin.server._calls) == 2, "the calls")
        wait_until(lambda: all(call.awaits_since for call in plugin.server._calls), "that they wait")
        assert sorted(call.is_first for call in plugin.server._calls) == [False, True]


def test_one_turn_for_all_events() -> None:
    """gRPC's reader is called once for all that was told since, and again for what comes after."""
    here, there = socket.socketpair()
    turns: list[bytes] = []

    def _handle_events() -> None:  # as grpc.aio's is called, and takes one byte as it does
        turns.append(here.recv(1))

    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        loop.add_reader(here, _handle_events)
        assert wakeups.gather(loop)
        for _ in range(2):
            there.send(b"12345")
            await asyncio.sleep(0.05)
        loop.remove_reader(here)

    with here, there:
        asyncio.run(scenario())
    assert len(turns) == 2


def test_other_loops_are_not_robbed() -> None:
    """A server in a process that may have other loops with grpc.aio leaves grpc.aio's reader in its place."""
    with toy() as plugin:
        keys = list(plugin.loop._selector.get_map().values())  # type: ignore[attr-defined]
        readers = [getattr(key.data[0], "_callback", None) for key in keys]
        assert not any(isinstance(reader, wakeups._Reader) for reader in readers)


def test_the_reader_of_grpc_is_found() -> None:
    """In a loop with a server of grpc.aio there is the reader whose turns are gathered."""
    program = (
        "import asyncio, grpc\nfrom shared import wakeups\n"
        "async def main():\n"
        "    before = wakeups.gather(asyncio.get_running_loop())\n"
        "    server = grpc.aio.server()\n"
        "    print(before, wakeups.gather(asyncio.get_running_loop()))\n"
        "asyncio.run(main())\n"
    )
    argv = [sys.executable, "-c", program]
    done = subprocess.run(argv, capture_output=True, text=True, env=environment(), check=True)
    assert done.stdout.split() == ["False", "True"]
