"""What the tests of tools_http stand on: a real HTTP server that plays what a test scripts, a resolver that lies, and a
door to them.

    with World() as world:
        world.on("/hello", b"hi")
        response = world.get("/hello")

The server speaks HTTP/1.1 by hand, so that it can cut, drip and lie at any byte. Only loopback is ever contacted:
public addresses are dialled by `Dialler`, below the vetting, which leads them to the server.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self, TypeVar

import httpcore2

from plugins.tools_http.engine.client import Client
from plugins.tools_http.engine.exchange import Credential, Request, Response
from plugins.tools_http.engine.policy import Policy
from plugins.tools_http.engine.stream import connect
from plugins.tools_http.engine.tool import Audit

T = TypeVar("T")

LOOPBACK = ("127.0.0.0/8", "::1/128")


@dataclass
class Seen:
    """A request as it came."""

    method: str
    target: str
    headers: Mapping[str, str]  # names in lower case
    body: bytes
    lines: Sequence[str]  # of the head, as they came

    @property
    def path(self) -> str:
        return self.target.partition("?")[0]


@dataclass
class Play:
    """An answer. `pieces` are sent one by one, a number is a pause in seconds; `head` goes in place of status line and
    headers. `endless` repeats the last piece until the client goes."""

    pieces: Sequence[bytes | float] = (b"",)
    status: int = 200
    headers: Sequence[tuple[str, str]] = ()
    head: bytes | None = None
    chunked: bool = False
    endless: bool = False
    close: bool = False  # the connection, when all is sent


Answer = Callable[[Seen], Play]


class Server:
    """On a port of 127.0.0.1, in a thread of its own. `seen` has every request, `connections` how many came."""

    def __init__(self, context: ssl.SSLContext | None = None) -> None:
        self.seen: list[Seen] = []
        self.connections = 0
        self._answers: dict[str, list[Answer]] = {}
        self._context = context
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._server = self.do(self._start())
        self.port: int = self._server.sockets[0].getsockname()[1]

    def on(self, path: str, *answers: Play | bytes | Answer) -> None:
        """What is answered at `path`, each time the next one, the last one for good. `*` is for all other paths."""
        self._answers[path] = [_answer(answer) for answer in answers]

    def redirect(self, path: str, location: str, status: int = 302) -> None:
        self.on(path, Play(status=status, headers=[("Location", location)]))

    def do(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(60)

    def close(self) -> None:
        self.do(self._stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(60)
        self._loop.close()

    @property
    def url(self) -> str:
        return f"{'https' if self._context else 'http'}://127.0.0.1:{self.port}"

    @property
    def targets(self) -> list[str]:
        return [seen.target for seen in self.seen]

    async def _start(self) -> asyncio.Server:
        return await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self._context, limit=2**20)

    async def _stop(self) -> None:
        self._server.close()
        tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while await self._exchange(reader, writer):
                pass
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            writer.transport.abort()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")[:-2]
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:])}
        method, target, _ = head[0].split(" ")
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        seen = Seen(method, target, headers, body, head)
        answers = self._answers.get(seen.path) or self._answers.get("*") or [lambda _: Play(status=404)]
        count = sum(1 for earlier in self.seen if earlier.path == seen.path)
        self.seen.append(seen)
        play = answers[min(count, len(answers) - 1)](seen)
        await _send(writer, play, method)
        return not play.close


async def _send(writer: asyncio.StreamWriter, play: Play, method: str) -> None:
    if play.head is not None:
        writer.write(play.head)
    else:
        lines = [f"HTTP/1.1 {play.status} Played", *(f"{name}: {value}" for name, value in play.headers)]
        if play.chunked:
            lines.append("Transfer-Encoding: chunked")
        elif not play.endless and not any(name.lower() == "content-length" for name, _ in play.headers):
            lines.append(f"Content-Length: {sum(len(p) for p in play.pieces if isinstance(p, bytes))}")
        writer.write("\r\n".join([*lines, "", ""]).encode("utf-8"))
    while True:
        for piece in play.pieces if method != "HEAD" else ():
            if isinstance(piece, bytes):
                writer.write(b"%x\r\n%b\r\n" % (len(piece), piece) if play.chunked and piece else piece)
                await writer.drain()
            else:
                await asyncio.sleep(piece)
        if not play.endless:
            break
        await asyncio.sleep(0)
    if play.chunked:
        writer.write(b"0\r\n\r\n")
    await writer.drain()


def _answer(answer: Play | bytes | Answer) -> Answer:
    if isinstance(answer, bytes):
        answer = Play([answer], headers=[("Content-Type", "text/plain")])
    if isinstance(answer, Play):
        return lambda _, play=answer: play  # type: ignore[misc]
    return answer


class FakeResolver:
    """Gives the addresses of names that a test has set, each time the next answer, the last one for good."""

    def __init__(self, names: Mapping[str, Sequence[Sequence[str]]]) -> None:
        self.names = dict(names)
        self.asked: list[str] = []

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        answers = self.names.get(host)
        if answers is None:
            raise socket.gaierror(socket.EAI_NONAME, "no such name")
        count = self.asked.count(host)
        self.asked.append(host)
        return answers[min(count, len(answers) - 1)]


class Dialler:
    """Stands in for the dialling, below the vetting: `dialled` has the addresses that got so far. Leads every one to
    the port that a test says, or nowhere."""

    def __init__(self, port: int = 0, dead: Iterable[str] = ()) -> None:
        self.port, self.dead = port, set(dead)
        self.dialled: list[str] = []

    async def __call__(self, address: str, port: int) -> Any:
        self.dialled.append(address)
        if address in self.dead or not self.port:
            raise httpcore2.ConnectError("dead")
        return await connect("127.0.0.1", self.port)


@dataclass
class World:
    """A server, and a client that may reach it: `settings` are Client's, `policy` Policy's."""

    settings: Mapping[str, Any] = field(default_factory=dict)
    policy: Mapping[str, Any] = field(default_factory=dict)
    names: Mapping[str, Sequence[Sequence[str]]] = field(default_factory=dict)
    dialler: Dialler | None = None

    def __enter__(self) -> Self:
        self.server = Server()
        self.resolver = FakeResolver(self.names)
        self._loop = asyncio.new_event_loop()
        allowed = {"allowed_ports": ["1-65535"], "allowed_networks": LOOPBACK} | dict(self.policy)
        self.rules = Policy(**allowed)
        self.client = Client(self.rules, **{"resolve": self.resolver, "dial": self.dialler} | dict(self.settings))
        return self

    def __exit__(self, *_: object) -> None:
        self.run(self.client.close())
        self._loop.close()
        self.server.close()

    def run(self, awaitable: Awaitable[T]) -> T:
        async def inner() -> T:
            return await awaitable

        return self._loop.run_until_complete(inner())

    def on(self, path: str, *answers: Play | bytes | Answer) -> None:
        self.server.on(path, *answers)

    def url(self, path: str) -> str:
        return path if "://" in path else self.server.url + path

    def send(
        self,
        path: str,
        method: str = "GET",
        *,
        headers: Sequence[tuple[str, str]] = (),
        body: bytes | None = None,
        credential: Credential | None = None,
        max_bytes: int | None = None,
        repeatable: bool | None = None,
        seconds: float = 30.0,
        audit: Audit | None = None,
    ) -> Response:
        request = Request(
            method=method,
            url=self.url(path),
            headers=headers,
            body=body,
            credential=credential,
            max_bytes=max_bytes,
            repeatable=repeatable,
        )
        return self.run(self.client.send(request, deadline=time.monotonic() + seconds, audit=audit))
