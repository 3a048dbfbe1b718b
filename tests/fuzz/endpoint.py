"""The misbehaving endpoint of the tests as a process, one that does not remember what it was asked.

python -m tests.fuzz.endpoint    prints its base URL

What attackers ask of it keeps it busy for seconds: it parses 8 MB of JSON, or makes up 100 MB. A calm client's call is
small and for the model `hello`; it must not wait for that, as with a real endpoint, which is not one Python process. So
there are two: this one answers the calm calls and passes the others on to the second, which has a low priority, for it
stands for another machine.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import subprocess
import sys
from typing import Any

from tests.llm_endpoint import Endpoint

SMALL = 10_000  # bytes of a calm call
CALM = re.compile(rb'"model":\s*"hello"')
PIECE, BEHIND = 2**18, "--behind"


class _Forgetful(list[Any]):
    """A list of requests that stays empty: of an hour of them there would be too many."""

    def append(self, _: Any) -> None:
        pass


async def _connection(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, calm: tuple[str, int], others: tuple[str, int]
) -> None:
    """One connection of the plugin's: each request goes where it belongs, and what comes back comes back here."""
    ways: dict[tuple[str, int], tuple[asyncio.StreamWriter, asyncio.Task[None]]] = {}
    try:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            length = re.search(rb"(?i)\r\ncontent-length:\s*(\d+)", head)
            body = await reader.readexactly(int(length[1]) if length else 0)
            way = calm if len(body) < SMALL and CALM.search(body) else others
            if way not in ways:
                back, there = await asyncio.open_connection(*way, limit=PIECE)
                ways[way] = there, asyncio.create_task(_copy(back, writer))
            ways[way][0].write(head + body)
            await ways[way][0].drain()
    except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
        pass
    finally:
        for there, copying in ways.values():
            copying.cancel()
            there.close()
        writer.close()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Until either end is closed; then the whole connection is, also where a reply is cut off."""
    with contextlib.suppress(OSError):
        while data := await reader.read(PIECE):
            writer.write(data)
            await writer.drain()
    writer.close()


async def _front(calm: str, others: str) -> None:
    ways = [(host, int(port)) for host, _, port in (address.rpartition(":") for address in (calm, others))]
    server = await asyncio.start_server(lambda *streams: _connection(*streams, *ways), "127.0.0.1", 0, limit=PIECE)
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1", flush=True)
    await server.serve_forever()


def main() -> None:
    if is_behind := BEHIND in sys.argv:
        os.nice(19)  # before there are threads: each has its own
    with Endpoint() as endpoint:
        endpoint.seen = _Forgetful()
        if is_behind:
            print(endpoint.address, flush=True)
            sys.stdin.read()  # until the other one has gone
            return
        argv = [sys.executable, "-m", "tests.fuzz.endpoint", BEHIND]
        with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as behind:
            assert behind.stdout is not None
            asyncio.run(_front(endpoint.address, behind.stdout.readline().strip()))


if __name__ == "__main__":
    main()
