"""Nothing that a server sends keeps the event loop: what takes long is read in threads, in pieces, or in a worker.

Measured is the processor time that one callback of the loop takes, which a busy machine does not change."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import time
from collections.abc import Coroutine
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plugins.tools_http.engine import decoding
from plugins.tools_http.engine.api_call import api_call
from plugins.tools_http.engine.client import Client
from plugins.tools_http.engine.exchange import Request, Response
from plugins.tools_http.engine.outcome import _CHARSETS, output_of
from plugins.tools_http.engine.policy import Policy
from plugins.tools_http.engine.redaction import Redactor
from plugins.tools_http.engine.replies import Replies
from plugins.tools_http.engine.tool import Call, Output
from shared.errors import CallerError, InvalidArgument
from shared.off_loop import in_thread
from tests.tools_socket import tool
from tests.tools_world import Play, Server

MOST = 0.05  # seconds of processor time in one callback
LONG = 5 * 2**20 - 2**10  # bytes, nearly as many as a response may have


def longest_callback(work: Coroutine[Any, Any, Any], monkeypatch: pytest.MonkeyPatch) -> float:
    """Processor seconds of the longest callback while `work` runs."""
    longest = 0.0
    run = asyncio.events.Handle._run

    def measured(handle: asyncio.Handle) -> None:
        nonlocal longest
        began = time.thread_time()
        run(handle)
        longest = max(longest, time.thread_time() - began)

    monkeypatch.setattr(asyncio.events.Handle, "_run", measured)
    gc.collect()
    gc.freeze()  # a collection within a callback does not go through what earlier tests have left
    try:
        asyncio.run(work)
    finally:
        gc.unfreeze()
    return longest


def response(body: bytes, content_type: str) -> Response:
    return Response(
        status=200, url="http://h/", headers=[("content-type", content_type)], body=body, wire_bytes=len(body)
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b"\x00\x81" * (LONG // 2), "text/plain"),
        (b"\xff\xfe" + b"\x00\xd8" * (LONG // 2), "text/plain"),
        (b"\x81" * LONG, "text/plain; charset=gb18030"),
        ((b"[" + b"[]," * 87_000)[:-1] + b"]", "application/json"),
    ],
    ids=["neither", "half pairs", "gb18030", "lists"],
)
def test_responses(body: bytes, content_type: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A response as long as one may be, in the worst of charsets, or of many values, does not keep the loop."""

    async def work() -> None:
        output = await output_of(response(body, content_type), Redactor(["open sesame"]))
        replies = Replies(
            Redactor(["open sesame"]),
            max_result_chars=20_000,
            max_reply_bytes=4 * 2**20,
            kept_bytes=2**26,
            kept_for=60,
            fence=False,
        )
        assert (await replies.finish(tool(), output, 20_000)).size > 1_000

    assert longest_callback(work(), monkeypatch) < MOST


def test_values_are_counted_off_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """A structured result of a hundred thousand values is looked at in a thread."""
    value = json.loads("[" + "[]," * 120_000 + "[]]")

    async def work() -> None:
        replies = Replies(
            Redactor(["open sesame"]),
            max_result_chars=20_000,
            max_reply_bytes=2**24,
            kept_bytes=2**26,
            kept_for=60,
            fence=False,
        )
        finished = await replies.finish(tool(), Output(text="", structured=value), 20_000)
        assert finished.size > 4 * 240_000

    assert longest_callback(work(), monkeypatch) < MOST


@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments",
    [
        {"query": {"a": [1] * 90_000}},
        {"query": {f"name{i}": "v" for i in range(60_000)}},
        {"headers": {f"name{i}": "v" for i in range(30_000)}},
    ],
    ids=["list", "query", "headers"],
)
def test_arguments(arguments: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """As many values as arguments may hold do not keep the loop while a request is made of them."""

    client = Client(Policy())  # it reads the authorities' certificates

    async def work() -> None:
        call = Call(deadline=time.monotonic() + 60)
        run = api_call(client).run
        assert run is not None
        with pytest.raises(InvalidArgument, match="send"):
            await run({"url": "http://h/", **arguments}, call)
        await client.close()

    assert longest_callback(work(), monkeypatch) < MOST


def test_trailers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trailers of a hundred kilobytes are an error; few are passed over, and the connection serves on."""
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n"
    with contextlib.closing(Server()) as server:
        server.on("/many", Play([chunked, b"a:\r\n" * 25_000 + b"\r\n"], head=b"", close=True))
        server.on("/few", Play([chunked, b"a: b\r\n" * 1_000 + b"\r\n"], head=b""))
        server.on("/head", Play([b"ok"], headers=[(f"name{i}", "v" * 100) for i in range(500)]))

        client = Client(Policy(allowed_networks=["127.0.0.1"], allowed_ports=[str(server.port)]))

        async def work() -> None:
            async def get(path: str) -> Response:
                return await client.send(Request(method="GET", url=server.url + path), deadline=time.monotonic() + 60)

            with pytest.raises(CallerError):
                await get("/many")
            assert (await get("/few")).body == b"ok"
            assert (await get("/head")).body == b"ok"
            assert server.connections == 2
            await client.close()

        assert longest_callback(work(), monkeypatch) < MOST


@given(data=st.binary(max_size=60), charset=st.sampled_from(sorted(_CHARSETS)), piece=st.integers(1, 7))
@settings(max_examples=60, deadline=None)
def test_pieces_are_the_whole(data: bytes, charset: str, piece: int) -> None:
    """Decoded in pieces, a text is what it is decoded at once, with what cannot be decoded too."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(decoding, "_PIECE", piece)
        assert decoding.decode(data, charset, "replace") == data.decode(charset, "replace")
        try:
            whole = data.decode(charset)
        except UnicodeError:
            with pytest.raises(UnicodeError):
                decoding.decode(data, charset)
        else:
            assert decoding.decode(data, charset) == whole


def test_threads_take_turns() -> None:
    """While a long text is decoded in a thread, the loop has its turns."""

    async def work() -> None:
        body = b"\xff\xfe" + b"\x00\xd8" * (LONG // 4)
        turns = 0
        decoded = asyncio.ensure_future(in_thread(decoding.decode, body, "utf-16-le", "replace"))
        while not decoded.done():
            await asyncio.sleep(0.001)
            turns += 1
        assert turns > 2
        assert len(decoded.result()) == len(body) // 2

    asyncio.run(work())
