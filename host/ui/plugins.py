"""A plugin on the page: its settings, its log, and any RPC of it, called by hand."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import AsyncGenerator, Iterator, Mapping
from dataclasses import asdict
from typing import Any

import grpc

from host import log_files
from host.connect import Connection, connect
from host.reflection import Method, Reflection
from host.trying import details, reflection_of, says_no
from host.ui import forms
from host.ui.current import Current
from host.ui.secrets import masked
from host.ui.streams import held, in_daemon, pumped
from shared.errors import StartError

_MOST_REPLIES = 1_000  # of a stream that are shown
_LONGEST_REPLY = 200_000  # characters of one that are shown
_MOST_REQUESTS = 1_000
_LONGEST_LINE = 4_000  # characters of a log's that are shown
_LONGEST_CALL = 3600.0  # seconds


def settings(current: Current, name: str) -> dict[str, Any]:
    """As the YAML has them: references to variables as they are, secrets masked."""
    plugin = current.plugin(name)
    security = {key: value for key, value in asdict(plugin.security).items() if value not in (None, False, (), "")}
    about: dict[str, Any] = {"kind": plugin.kind, "line": plugin.line}
    about |= {"path": plugin.path} if plugin.path else {}
    about |= {"address": plugin.address.address} if plugin.address else {}
    about |= {"args": list(plugin.arguments)} if plugin.arguments else {}
    env = {
        key: "from the host's own" if value is None else masked({key: value})[key] for key, value in plugin.env.items()
    }
    return {**about, "config": masked(dict(plugin.settings)), "env": env, "security": _plain(security)}


def _plain(value: Any) -> Any:
    return json.loads(json.dumps(value, default=str))


async def log(current: Current, name: str, lines: int = 500) -> AsyncGenerator[Mapping[str, Any], None]:
    """The newest `lines` of a plugin's log, then each new one."""
    current.plugin(name)
    over = threading.Event()
    read = log_files.read(current.config.state, name, lines, lambda: not over.is_set())
    try:
        async with contextlib.aclosing(pumped(lambda: read)) as found:
            async for line in found:
                yield {"line": line if len(line) <= _LONGEST_LINE else line[:_LONGEST_LINE] + " …"}
    finally:
        over.set()


async def rpcs(current: Current, name: str) -> dict[str, Any]:
    """Raises StartError."""
    plugin = current.plugin(name)
    async with held(connect(current.config, [plugin])) as connections:
        connection = connections[name]
        return {"services": await in_daemon(lambda: forms.offered(_reflection(connection)))}


async def form(current: Current, name: str, rpc: str) -> dict[str, Any]:
    """Raises StartError."""
    plugin = current.plugin(name)
    async with held(connect(current.config, [plugin])) as connections:
        connection = connections[name]

        def ask() -> dict[str, Any]:
            server = _reflection(connection)
            method = server.method(rpc)
            return {**forms.form(method), "example": server.example(method.request)}

        return await in_daemon(ask)


async def called(
    current: Current, name: str, rpc: str, requests: str, seconds: float
) -> AsyncGenerator[Mapping[str, Any], None]:
    """Each reply as it comes, then `status`. `requests`: a JSON object, or for a stream a list of them. Closed early,
    it cancels the call. Raises StartError where nothing was called."""
    plugin = current.plugin(name)
    async with held(connect(current.config, [plugin])) as connections:
        call = _Call(connections[name], rpc, requests, min(max(seconds, 0.001), _LONGEST_CALL))
        # Leaving `held` closes the connection, and that ends a call under way.
        async with contextlib.aclosing(pumped(call.run)) as items:
            async for item in items:
                yield item


class _Call:
    def __init__(self, connection: Connection, rpc: str, requests: str, seconds: float) -> None:
        self._connection, self._rpc, self._requests, self._seconds = connection, rpc, requests, seconds

    def run(self) -> Iterator[Mapping[str, Any]]:
        server = _reflection(self._connection)
        method = server.method(self._rpc)
        requests = _requests(method, self._requests)
        began = time.perf_counter()
        replies, failed = 0, False
        try:
            for message in server.call(method, requests, seconds=self._seconds):
                replies += 1
                failed = failed or says_no(message)
                if replies <= _MOST_REPLIES:
                    yield {"reply": _cut(server.json(message)), "seconds": time.perf_counter() - began}
        except grpc.RpcError as error:
            yield {
                "status": error.code().name,
                "message": _cut(error.details() or ""),
                "details": details(error),
                "replies": replies,
                "seconds": time.perf_counter() - began,
            }
            return
        yield {
            "status": "OK",
            "message": "the reply says success: false" if failed else "",
            "failed": failed,
            "replies": replies,
            "left_out": max(0, replies - _MOST_REPLIES),
            "seconds": time.perf_counter() - began,
        }


def _reflection(connection: Connection) -> Reflection:
    """Raises StartError."""
    try:
        return reflection_of(connection)
    except grpc.RpcError as error:
        raise StartError(f"{connection}: {error.code().name}: {' '.join((error.details() or '').split())}") from None


def _requests(method: Method, text: str) -> list[str]:
    if not method.client_streaming:
        return [text]
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise StartError(f"the requests are no JSON: {error}") from None
    values = value if isinstance(value, list) else [value]
    if len(values) > _MOST_REQUESTS:
        raise StartError(f"{len(values)} requests are more than the page sends at once, {_MOST_REQUESTS}")
    return [json.dumps(item) for item in values]


def _cut(text: str) -> str:
    if len(text) <= _LONGEST_REPLY:
        return text
    return f"{text[:_LONGEST_REPLY]}\n… {len(text) - _LONGEST_REPLY:,} more characters, not shown"
