"""tools_http over gRPC against the libraries that it stands on, used directly, and a loopback HTTP server.

python -m benchmarks.tools
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from pathlib import Path

import grpc
import hector_plugins_pb2 as pb
import hector_plugins_pb2_grpc as rpc
import httpcore2
import turbohtml

from benchmarks.arguments import parser
from benchmarks.harness import REPEATS, Section, Server, compare, rate, report, running
from benchmarks.llm import _printing, _spread
from benchmarks.tools_endpoint import page
from plugins.tools_http.engine.page import convert
from plugins.tools_http.engine.rows import group_aggregate
from plugins.tools_http.engine.rows.table import Table

CALLS_OF_WORK, ROWS, OPERATIONS = 10, 100_000, 1_000
OPTIONS = {"by": ["region"], "aggregates": [{"op": "sum", "column": "amount"}, {"op": "mean", "column": "price"}]}
CALLS, ALONE, IN_FLIGHT = 2_000, 300, 32
FIRST, LAST = 100, 10_000  # calls before resident memory is read


def main() -> None:
    with _printing("benchmarks.tools_endpoint") as url, running("tools_http", *_allowing(url)) as server:
        sections = [*_calls(url, server), _work(url, server), _memory(url)]
    sections.append(_operations())
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

    def data(self, arguments: str) -> None:
        request = pb.ExecuteToolRequest(tool="custom_data_processing", parameters_json=arguments)
        reply = self.stub.ExecuteTool(request)
        assert reply.success, reply.error

    def page(self) -> None:
        arguments = json.dumps({"url": f"{self._url}/page"})
        reply = self.stub.ExecuteTool(pb.ExecuteToolRequest(tool="fetch_page", parameters_json=arguments))
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


async def _rate(call: Callable[[], Awaitable[None]], count: int) -> float:
    left = count

    async def worker() -> None:
        nonlocal left
        while left > 0:
            left -= 1
            await call()

    began = time.perf_counter()
    await asyncio.gather(*(worker() for _ in range(IN_FLIGHT)))
    return count / (time.perf_counter() - began)


def _calls(url: str, server: Server) -> list[Section]:
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
    times = (f"{statistics.median(side):.2f}" for side in zip(*pairs, strict=True))
    columns = ("p50 of", "ms", "ms without", "added, ms", "lowest … highest")
    alone = Section("Added to one call", columns=columns, rows=[("custom_api_call", *times, *_spread(added))])
    return [Section("Calls of an API", [together]), alone]


def _work(url: str, server: Server) -> Section:
    """Data and pages, a call at a time."""
    client = _Client(server, url)
    arguments = json.dumps({"data": _rows(), "algorithm": "group_aggregate", "options": OPTIONS})
    html = page()

    def group() -> float:
        return rate(ROWS * CALLS_OF_WORK, lambda: _times(lambda: client.data(arguments)))

    def group_directly() -> float:
        return rate(ROWS * CALLS_OF_WORK, lambda: _times(lambda: _grouped(arguments)))

    job = convert.request(
        html.encode(), url=url, content_type="text/html", main_only=True, markdown=True, pages=(1, 0), seconds=30
    )

    def converted() -> float:
        return rate(CALLS_OF_WORK, lambda: _times(lambda: convert.convert(job)))

    def read() -> float:
        return rate(CALLS_OF_WORK, lambda: _times(client.page))

    def read_directly() -> float:
        return rate(CALLS_OF_WORK, lambda: _times(lambda: _extracted(html)))

    return Section(
        "Data and pages",
        [
            compare(
                f"group_aggregate of {ROWS:,} rows",
                "rows/s",
                group,
                group_directly,
                reference_name="json.loads and the same function, called directly",
            ),
            compare(
                "a page of 1 MB as Markdown, the conversion alone",
                "pages/s",
                converted,
                read_directly,
                reference_name="turbohtml's main content as Markdown, called directly",
            ),
            compare(
                "the same, fetched and through gRPC",
                "pages/s",
                read,
                read_directly,
                reference_name="turbohtml's main content as Markdown, called directly",
            ),
        ],
    )


def _times(call: Callable[[], object]) -> None:
    for _ in range(CALLS_OF_WORK):
        call()


def _rows() -> list[dict[str, object]]:
    return [{"id": f"{n:05}", "region": f"r{n % 100}", "amount": n * 7 % 1_000, "price": n / 8} for n in range(ROWS)]


def _grouped(arguments: str) -> str:
    read = json.loads(arguments)
    result = group_aggregate.run(Table(read["data"]), read["options"], ROWS)
    return json.dumps(result.value)


def _extracted(html: str) -> str:
    part = turbohtml.parse(html).main_content()
    assert part is not None
    return part.to_markdown()


def _operations() -> Section:
    """A document with many operations, each a tool."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "many.json"
        file.write_text(json.dumps(_document()), encoding="utf-8")
        setting = {"TOOLS_HTTP__OPENAPI": json.dumps({"many": {"document": str(file)}})}
        first, starts, later = [], [], []
        for _ in range(REPEATS):
            starts.append(_started([], {})[0])
            options = ["--max-operations", str(OPERATIONS), "--allowed-methods", "GET,POST"]
            seconds, lists = _started(options, setting)
            first.append(seconds - starts[-1])
            later.append(lists)
    facts = {
        "from the file to the first ListTools, beside a start without it": f"{statistics.median(first):.2f} s",
        "a start without it, to the first ListTools": f"{statistics.median(starts):.2f} s",
        "ListTools afterwards, p50": f"{statistics.median(later):.1f} ms",
    }
    return Section(f"An OpenAPI document with {OPERATIONS:,} operations", facts=facts)


def _started(options: Sequence[str], environ: Mapping[str, str]) -> tuple[float, float]:
    """(seconds from the start of the process to the first ListTools, p50 of the next ones in ms)."""
    began = time.perf_counter()
    with _environment(environ), running("tools_http", *options) as server:
        stub = rpc.ToolProviderStub(grpc.insecure_channel(server.address))
        stub.ListTools(pb.ListToolsRequest())
        seconds = time.perf_counter() - began
        return seconds, _p50(lambda: stub.ListTools(pb.ListToolsRequest()), 50)


@contextlib.contextmanager
def _environment(extra: Mapping[str, str]) -> Iterator[None]:
    os.environ.update(extra)
    try:
        yield
    finally:
        for name in extra:
            del os.environ[name]


def _document() -> dict[str, object]:
    text, number = {"type": "string", "maxLength": 100}, {"type": "integer", "minimum": 1, "maximum": 100}
    path = {"name": "id", "in": "path", "required": True, "schema": text}
    limit = {"name": "limit", "in": "query", "description": "How many to return.", "schema": number}
    body = {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/Thing"}}}}
    answer = {"200": {"description": "It went well."}}
    paths: dict[str, object] = {}
    for n in range(OPERATIONS // 2):
        get = {"operationId": f"getThing{n}", "summary": f"Gets thing {n}.", "parameters": [path, limit]}
        add = {"operationId": f"addThing{n}", "summary": f"Adds thing {n}.", "parameters": [path], "requestBody": body}
        paths[f"/things{n}/{{id}}"] = {"get": get | {"responses": answer}, "post": add | {"responses": answer}}
    size = {"type": "object", "properties": {"width": {"type": "number"}, "height": {"type": "number"}}}
    thing = {"name": text, "kind": {"enum": ["a", "b"]}, "tags": {"type": "array", "items": text}, "size": size}
    schemas = {"Thing": {"type": "object", "required": ["name"], "properties": thing}}
    return {
        "openapi": "3.1.0",
        "info": {"title": "Things", "version": "1"},
        "servers": [{"url": "https://api.example.com/v1"}],
        "paths": paths,
        "components": {"schemas": schemas},
    }


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


def _p50(call: Callable[[], object], count: int = ALONE) -> float:
    """Milliseconds."""
    took = []
    for _ in range(count):
        began = time.perf_counter()
        call()
        took.append(time.perf_counter() - began)
    return 1000 * statistics.median(took)


if __name__ == "__main__":
    parser(__doc__).parse_args()
    main()
