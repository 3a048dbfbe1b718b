"""tools_http over gRPC against the libraries that it stands on, used directly, and a loopback HTTP server.

python -m benchmarks.tools
"""

from __future__ import annotations

import asyncio
import json
import statistics
import time
from collections.abc import Callable, Sequence

import grpc
import hector_plugins_pb2 as pb
import hector_plugins_pb2_grpc as rpc
import httpcore2

from benchmarks.harness import REPEATS, Section, Server, compare, report, running
from benchmarks.llm import _printing, _spread

CALLS, ALONE, IN_FLIGHT = 2_000, 300, 32
FIRST, LAST = 100, 10_000  # calls before resident memory is read


def main() -> None:
    with _printing("benchmarks.tools_endpoint") as url, running("tools_http", *_allowing(url)) as server:
        sections = [_calls(url, server), _memory(url)]
    report("tools", sections)


def _allowing(url: str) -> tuple[str, ...]:
    return ("--allowed-networks", "127.0.0.0/8", "--allowed-ports", url.rpartition(":")[2])


def _request(url: str) -> pb.ExecuteToolRequest:
    return pb.ExecuteToolRequest(tool="custom_api_call", parameters_json=json.dumps({"url": url}))


class _Client:
    """One channel to the plugin."""

    def __init__(self, server: Server, url: str) -> None:
        self._address, self._url = server.address, url
        self.stub = rpc.ToolProviderStub(grpc.insecure_channel(server.address))
        self._request = _request(f"{url}/json")

    def alone(self) -> None:
        reply = self.stub.ExecuteTool(self._request)
        assert reply.success, reply.error

    def together(self, count: int = CALLS) -> float:
        """Calls a second, IN_FLIGHT at once."""

        async def run() -> float:
            async with grpc.aio.insecure_channel(self._address) as channel:
                stub = rpc.ToolProviderStub(channel)

                async def call() -> None:
                    reply = await stub.ExecuteTool(self._request)
                    assert reply.success, reply.error

                return await _rate(call, count)

        return asyncio.run(run())


class _Direct:
    """The HTTP library, with a pool of connections as large as the plugin's."""

    def __init__(self, url: str) -> None:
        self._url = f"{url}/json"

    def alone(self) -> float:
        """Milliseconds of a call, p50."""

        async def run() -> float:
            async with httpcore2.AsyncConnectionPool() as pool:
                took = []
                for _ in range(ALONE):
                    began = time.perf_counter()
                    await self._call(pool)
                    took.append(time.perf_counter() - began)
                return 1000 * statistics.median(took)

        return asyncio.run(run())

    def together(self) -> float:
        async def run() -> float:
            async with httpcore2.AsyncConnectionPool(max_connections=256, max_keepalive_connections=256) as pool:
                return await _rate(lambda: self._call(pool), CALLS)

        return asyncio.run(run())

    async def _call(self, pool: httpcore2.AsyncConnectionPool) -> None:
        response = await pool.request("GET", self._url)
        assert json.loads(response.content)["id"] == 7


async def _rate(call: Callable[[], object], count: int) -> float:
    left = count

    async def worker() -> None:
        nonlocal left
        while left > 0:
            left -= 1
            await call()  # type: ignore[misc]

    began = time.perf_counter()
    await asyncio.gather(*(worker() for _ in range(IN_FLIGHT)))
    return count / (time.perf_counter() - began)


def _calls(url: str, server: Server) -> Section:
    client, direct = _Client(server, url), _Direct(url)
    together = compare(
        f"custom_api_call, {IN_FLIGHT} in flight",
        "calls/s",
        client.together,
        direct.together,
        reference_name="httpcore2 used directly",
    )
    pairs = [(_p50(client.alone), direct.alone()) for _ in range(REPEATS + 1)][1:]
    added = [one - other for one, other in pairs]
    row = (
        "custom_api_call",
        f"{statistics.median(a for a, _ in pairs):.2f}",
        f"{statistics.median(b for _, b in pairs):.2f}",
        *_spread(added),
    )
    columns = ("p50 of one call", "ms", "ms without", "added, ms", "lowest … highest")
    return Section("Calls of an API", [together], columns=columns, rows=[row])


def _memory(url: str) -> Section:
    with running("tools_http", *_allowing(url)) as server:
        client = _Client(server, url)
        client.together(FIRST)
        first = server.resident_bytes()
        client.together(LAST - FIRST)
        last = server.resident_bytes()
    facts = {
        f"resident memory after {FIRST} calls": f"{first / 1e6:.0f} MB",
        f"after {LAST:,} calls, in multiples of that": f"{last / first:.3f}",
    }
    return Section("Memory", facts=facts)


def _p50(call: Callable[[], object]) -> float:
    """Milliseconds."""
    took = []
    for _ in range(ALONE):
        began = time.perf_counter()
        call()
        took.append(time.perf_counter() - began)
    return 1000 * statistics.median(took)


def _medians(values: Sequence[float]) -> str:
    return f"{statistics.median(values):.2f}"


if __name__ == "__main__":
    main()
