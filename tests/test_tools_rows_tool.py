"""custom_data_processing as a tool: through a worker process, with its time, its memory and its deadline."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from plugins.tools_http.engine.rows.tool import JOB, data_tool
from plugins.tools_http.engine.tool import Call, Output, Tool
from plugins.tools_http.engine.workers import Workers
from shared.errors import CallerError, InvalidArgument
from shared.json_schema import Checker
from shared.wording import in_words

LONG = 60.0  # seconds; nothing here takes as long


@asynccontextmanager
async def started(seconds: float = LONG, memory: int = 2**29, max_rows: int = 10_000) -> AsyncIterator[Tool]:
    workers = Workers(1, memory=memory, preload=[JOB])
    await workers.start()
    try:
        yield data_tool(workers, max_rows=max_rows, seconds=seconds)
    finally:
        await workers.close()


async def call(tool: Tool, data: Any, algorithm: str, deadline: float = LONG, **options: Any) -> Output:
    assert tool.run_text
    arguments = json.dumps({"data": data, "algorithm": algorithm, "options": options})
    return await tool.run_text(arguments, Call(deadline=time.monotonic() + deadline))


async def refused(attempt: Awaitable[Output]) -> CallerError:
    with pytest.raises(CallerError) as caught:
        await attempt
    return caught.value


def test_a_result() -> None:
    """A result is JSON text, a row a line, the same text as structured, and facts about it."""

    async def calls() -> None:
        async with started() as tool:
            output = await call(tool, [{"a": 2**63}, {"a": 2**63}], "deduplicate", keep="last")
            assert output.text == output.structured_json == '[\n{"a":9223372036854775808}\n]'
            assert (output.content_type, output.error) == ("application/json", None)
            assert output.metadata == {"rows": 1, "removed_rows": 1}
            output = await call(tool, [{"a": "é"}], "write_csv")
            assert (output.text, output.structured_json, output.content_type) == ("a\né\n", None, "text/csv")

    asyncio.run(calls())


def test_data_is_missing() -> None:
    """Where there are no data the error says what they must be, though they may be of several types."""
    parameters = data_tool(Workers(1, memory=2**29), max_rows=1, seconds=1).parameters
    (fault,) = Checker(parameters).faults({"algorithm": "sort"})[0]
    ((_, words),) = in_words(fault, "custom_data_processing", parameters, {})
    assert words == "data is missing; it must be a list or a string or an object"


def test_an_error() -> None:
    """What the worker refuses is the call's error, with its reason and field."""

    async def calls() -> None:
        async with started(max_rows=2) as tool:
            error = await refused(call(tool, [{"a": 1}], "sort", by=[{"column": "b"}]))
            assert isinstance(error, InvalidArgument)
            assert (error.reason, error.violations[0][0]) == ("UNKNOWN_COLUMN", "options.by[0].column")
            assert (await refused(call(tool, [{}] * 3, "describe"))).reason == "TOO_MANY_ROWS"

    asyncio.run(calls())


DOUBLED = " | ".join(["[@, @]"] * 40)  # a value of 2^40 parts

PAIRED = "[].{a: @}" + " | [*].[@, @, @]" * 13

HOSTILE: dict[str, tuple[Any, str, dict[str, Any]]] = {
    "a value that doubles": (1, "jmespath", {"expression": DOUBLED}),
    "rows that treble": ([list(range(3_000))] * 3, "jmespath", {"expression": PAIRED}),
    "cells without end": ("," * 19_000 + ("\n" + "," * 19_000) * 300, "parse_csv", {"ragged": "fill"}),
}


@pytest.mark.slow
@pytest.mark.parametrize("attack", HOSTILE)
def test_hostile_work_ends(attack: str) -> None:
    """What would take all time or memory ends as a clear error, or is done, and the next call is served."""

    async def calls() -> None:
        data, algorithm, options = HOSTILE[attack]
        async with started(memory=2**28) as tool:
            try:
                await call(tool, data, algorithm, deadline=1.0, **options)
            except CallerError as error:
                ended = error.reason
            else:
                ended = ""
            assert ended in ("", "WORK_TIMEOUT", "WORK_MEMORY", "WORKER_CRASHED", "TOO_DEEP")
            assert (await call(tool, [{"a": 1}], "describe")).text

    asyncio.run(calls())


def test_a_call_ends_with_its_deadline() -> None:
    """A call whose deadline comes before the time limit ends with the deadline."""

    async def calls() -> None:
        async with started() as tool:
            error = await refused(call(tool, 1, "jmespath", deadline=0.2, expression=DOUBLED))
            assert error.reason == "WORK_TIMEOUT"

    asyncio.run(calls())


def test_large_data_stops_no_loop() -> None:
    """While megabytes are worked on the event loop comes round."""

    async def calls() -> None:
        data = [{"region": f"r{n % 7}", "amount": n} for n in range(100_000)]
        async with started(max_rows=100_000) as tool:
            aggregates = [{"op": "sum", "column": "amount"}]
            task = asyncio.create_task(call(tool, data, "group_aggregate", by=["region"], aggregates=aggregates))
            turns = 0
            while not task.done():
                await asyncio.sleep(0.001)
                turns += 1
            assert sum(row["sum_amount"] for row in json.loads(task.result().text)) == 4_999_950_000
            assert turns > 10

    asyncio.run(calls())


def test_the_worker_loads_little() -> None:
    """What the job imports is no server, no event loop, no HTTP library."""

    async def calls() -> None:
        workers = Workers(1, memory=2**29, preload=[JOB, "tests.work_jobs"])
        await workers.start()
        try:
            loaded = (await workers.run("tests.work_jobs:modules", b"", seconds=LONG)).decode().split(",")
            assert JOB in loaded
            assert not {"grpc", "google", "asyncio", "yaml", "httpcore2", "numpy", "ssl"} & set(loaded)
        finally:
            await workers.close()

    asyncio.run(calls())
