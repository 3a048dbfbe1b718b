"""Metadata by the megabyte, of clients that have not acknowledged the settings: `shared/call_metadata.py`."""

from __future__ import annotations

import contextlib
import threading
import time
from typing import Any

import pytest
from grpc._cython import cygrpc
from hyperframe.frame import ContinuationFrame, HeadersFrame

from benchmarks.harness import Server
from shared import call_metadata
from tests.fuzz.http2 import Connection
from tests.servers import SECONDS, start_plugin
from tests.test_strangers import CHECK, GENERATE, TOY, most_resident, works

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
    """Whether the call is answered or reset, before the connection ends."""
    while stream not in stranger.statuses and not stranger.ended:
        stranger.read(SECONDS)
    return stream in stranger.statuses


def test_entries_by_the_hundred_thousand() -> None:
    """Calls of 350,000 entries of metadata, before the settings are acknowledged, are reset and hold no memory."""
    with start_plugin(TOY) as plugin:
        assert works(plugin)
        with (
            most_resident(plugin) as most,
            contextlib.closing(Connection(plugin.address, seconds=SECONDS)) as stranger,
        ):
            before = most[0]
            for path in (CHECK, GENERATE, "/nobody/has", *[CHECK] * 7):
                send_call(stranger, path, EMPTY * 350_000)
            plugin.wait_for_log("reason=METADATA_TOO_LARGE", times=10)
            assert works(plugin)
            assert ends(stranger, 19)
        assert most[0] - before < 300
        assert "raceback" not in plugin.stderr()


def test_entries_of_one_byte_each() -> None:
    """200 calls of 16 MB of metadata, 8 kB on the wire, cost little of a plugin's time."""
    with start_plugin(TOY) as plugin:
        assert works(plugin)
        server = Server("", plugin.process.pid)
        before = server.cpu_seconds()
        for _ in range(5):
            with contextlib.closing(Connection(plugin.address, seconds=SECONDS)) as stranger:
                for _ in range(40):
                    stream = send_call(stranger, CHECK, LATEST * 4_100, extra=[("x-large", "y" * 4_000)])
                assert ends(stranger, stream)
        assert works(plugin)
        assert server.cpu_seconds() - before < 4  # 7 where all of it is read, and 0.6 where not


def test_metadata_within_the_bound() -> None:
    """What clients send as metadata is read, up to the bound, and a call beyond it is refused."""
    entry = b"\x00\x01x\x64" + b"y" * 100
    with start_plugin(TOY) as plugin:
        for entries, is_read in ((60, True), (200, False)):
            with contextlib.closing(Connection(plugin.address, seconds=SECONDS)) as stranger:
                stream = send_call(stranger, CHECK, entry * entries)
                stranger.message(stream, b"", end=True)
                assert ends(stranger, stream)
                assert (stranger.statuses[stream] == "0") is is_read


@pytest.mark.slow
def test_settings_that_are_not_acknowledged() -> None:
    """A connection whose client does not acknowledge the settings is closed, and what it held is free."""
    with start_plugin(TOY) as plugin:
        assert works(plugin)
        with contextlib.closing(Connection(plugin.address, seconds=SECONDS)) as stranger:
            stranger._take = lambda frame: None  # type: ignore[method-assign]
            send_call(stranger, CHECK, EMPTY * 350_000, complete=False)
            began = time.monotonic()
            while not stranger.ended:
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
        def __init__(self, size: int) -> None:
            self.size = size

        def invocation_metadata(self) -> tuple[Any, ...]:
            return tuple(cygrpc._Metadatum("k" * 8, "v" * 8) for _ in range(self.size))

    most = call_metadata.MOST_BYTES // 48
    assert len(call_metadata.read(Context(most)) or ()) == most
    assert call_metadata.read(Context(most + 1)) is None
    assert len(call_metadata.read(Context(most)) or ()) == most  # each read has the whole bound
