"""Metadata by the megabyte, of clients that have not acknowledged the settings: `shared/call_metadata.py`."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from grpc._cython import cygrpc
from hyperframe.frame import ContinuationFrame, HeadersFrame

from benchmarks.harness import Server
from shared import call_metadata, quiet
from tests.fuzz.http2 import Connection
from tests.servers import SECONDS, Plugin, start_plugin, wait_until
from tests.test_strangers import CHECK, GENERATE, TOY, most_resident, resident, works

EMPTY = b"\x8f"  # by HPACK "accept-charset" without a value, of the table that every connection has
LATEST = b"\xbe"  # the last entry that the connection put into its own table


def send_call(stranger: Connection, path: str, piece: bytes, *, extra: Any = (), complete: bool = True) -> int:
    """Begins a call whose metadata goes on with `piece`, and gives its stream's number."""
    stream, stranger._next_stream = stranger._next_stream, stranger._next_stream + 2
    pieces = [piece[start : start + 16_000] for start in range(0, len(piece), 16_000)]
    frames = [ContinuationFrame(stream, each) for each in pieces]
    if complete:
        frames[-1].flags.add("END_HEADERS")
    stranger.send(HeadersFrame(stream, stranger.headers(path, extra=extra)), *frames)
    return stream


def ends(stranger: Connection, stream: int) -> bool:
    """Whether the call gets a status, before the connection ends."""
    until = time.monotonic() + SECONDS
    while stream not in stranger.statuses and not stranger.ended and time.monotonic() < until:
        stranger.read(SECONDS)
    return stream in stranger.statuses


def test_entries_by_the_hundred_thousand() -> None:
    """Calls of 350,000 entries of metadata, before the settings are acknowledged, end at once and leave no memory."""
    with start_plugin(TOY) as plugin:
        assert works(plugin)
        before = resident(plugin)
        with most_resident(plugin) as most:
            for path in (CHECK, GENERATE, "/nobody/has", *[CHECK] * 12):
                with contextlib.closing(Connection(plugin.address, seconds=SECONDS)) as stranger:
                    assert ends(stranger, send_call(stranger, path, EMPTY * 350_000))
            assert works(plugin)
        plugin.wait_for_log("reason=METADATA_TOO_LARGE", times=10)
        assert most[0] - before < 300
        wait_until(lambda: resident(plugin) - before < 100, "memory back")


def cpu_ms(plugin: Plugin, call: Callable[[Connection], int]) -> float:
    """Milliseconds of CPU time that a call costs the plugin: of 200 on five connections."""
    server = Server("", plugin.process.pid)
    before = server.cpu_seconds()
    for _ in range(5):
        with contextlib.closing(Connection(plugin.address, seconds=SECONDS)) as stranger:
            for _ in range(40):
                stream = call(stranger)
            assert ends(stranger, stream)
    assert works(plugin)
    return (server.cpu_seconds() - before) * 1000 / 200


def test_what_much_metadata_costs() -> None:
    """16 MB of metadata in 8 kB, or 400 entries that are no text in as many bytes, cost little."""

    def ordinary(stranger: Connection) -> int:
        stream = stranger.open(CHECK)
        stranger.message(stream, b"", end=True)
        return stream

    def large(stranger: Connection) -> int:
        return send_call(stranger, CHECK, LATEST * 4_100, extra=[("x-large", "y" * 4_000)])

    def no_text(stranger: Connection) -> int:
        return send_call(stranger, CHECK, LATEST * 400, extra=[("x", b"\xff")])

    with start_plugin(TOY) as plugin:
        assert works(plugin)
        costs = {each: cpu_ms(plugin, each) for each in (ordinary, large, no_text)}
        assert costs[large] < 40 * costs[ordinary], costs
        assert costs[no_text] < 8 * costs[ordinary], costs
        assert "raceback" not in plugin.stderr()


def test_metadata_that_is_no_text_is_not_told(caplog: pytest.LogCaptureFixture) -> None:
    """No record is made of what any client can cause; whatever else grpc.aio says is logged."""
    quiet.be_quiet()
    for message in ("Invalid encoding on %s", "ExecuteBatchError raised in core by servicer method [/a/B]"):
        cygrpc._LOGGER.exception(message, b"x")
    cygrpc._LOGGER.exception("Unexpected [%s]", "x")
    cygrpc._LOGGER.error("Exiting")
    assert [record.getMessage() for record in caplog.records] == ["Unexpected [x]", "Exiting"]


def test_core_writes_no_line() -> None:
    """Headers that gRPC's core cannot read make no line beside the plugin's log."""
    with start_plugin(TOY) as plugin:
        assert works(plugin)
        for _ in range(5):
            with contextlib.closing(Connection(plugin.address, seconds=SECONDS)) as stranger:
                assert ends(stranger, stranger.open(CHECK, extra=[("grpc-timeout", "soon")]))
        assert works(plugin)
        assert "hpack_parser" not in plugin.stderr()


def test_metadata_within_the_bound() -> None:
    """What clients send as metadata is read, up to the bounds, and a call beyond them is refused."""
    entry = b"\x00\x01x\x7f\x9d\x0f" + b"y" * 2_076  # 2,109 bytes
    with start_plugin(TOY) as plugin:
        for piece, is_read in ((entry * 7, True), (entry * 8, False), (EMPTY * 90, True), (EMPTY * 110, False)):
            with contextlib.closing(Connection(plugin.address, seconds=SECONDS)) as stranger:
                stream = send_call(stranger, CHECK, piece)
                stranger.message(stream, b"", end=True)
                assert ends(stranger, stream)
                assert (stranger.statuses[stream] == "0") is is_read


@pytest.mark.slow
def test_settings_that_are_not_acknowledged() -> None:
    """A connection whose client does not acknowledge the settings is closed after 5 seconds."""
    with start_plugin(TOY) as plugin:
        assert works(plugin)
        with contextlib.closing(Connection(plugin.address, seconds=SECONDS)) as stranger:
            stranger._take = lambda frame: None  # type: ignore[method-assign]
            send_call(stranger, CHECK, EMPTY * 350_000, complete=False)
            began = time.monotonic()
            with contextlib.suppress(ConnectionResetError):
                while not stranger.ended and time.monotonic() - began < 30:
                    stranger.read(1)
            assert time.monotonic() - began < 30


def test_only_the_thread_that_reads_is_bounded() -> None:
    """While one thread reads metadata up to the bound, another makes entries without one."""
    call_metadata.bound()
    large, made = "y" * 20_000, []

    class Context:
        def invocation_metadata(self) -> tuple[Any, ...]:
            other = threading.Thread(target=lambda: made.append(cygrpc._Metadatum("x", large)))
            other.start()
            other.join(SECONDS)
            return (cygrpc._Metadatum("a", "b"),)

    assert call_metadata.read(Context()) == (("a", "b"),)
    assert made[0].value == large
    assert cygrpc._Metadatum("x", large).value == large


def test_the_bound_counts_as_http2_does() -> None:
    """An entry counts as its key, its value and 32 bytes."""
    call_metadata.bound()

    class Context:
        def __init__(self, entries: int, size: int) -> None:
            self.entries, self.value = entries, "v" * (size - 8)

        def invocation_metadata(self) -> tuple[Any, ...]:
            return tuple(cygrpc._Metadatum("k" * 8, self.value) for _ in range(self.entries))

    for size, most in ((300, call_metadata.MOST_BYTES // 332), (0, call_metadata.MOST_ENTRIES)):
        assert len(call_metadata.read(Context(most, size)) or ()) == most
        assert call_metadata.read(Context(most + 1, size)) is None
        assert len(call_metadata.read(Context(most, size)) or ()) == most  # each read has the whole bound
