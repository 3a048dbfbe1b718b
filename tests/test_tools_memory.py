"""What a call held is gone when the call is."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Iterator
from typing import Any

import pytest

from plugins.tools_http.engine.engine import Engine, Invocation, Settings
from plugins.tools_http.engine.tool import Call, Output
from shared.errors import InvalidArgument, Overloaded
from tests.tools_socket import tool


@pytest.fixture
def without_collector() -> Iterator[None]:
    """What is part of a cycle stays."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


class Held:
    """Stands for the megabytes of a call."""


@pytest.mark.slow
@pytest.mark.parametrize("call_id", ["", "one"], ids=["no call_id", "call_id"])
@pytest.mark.parametrize("kind", [InvalidArgument, Overloaded, ValueError])
@pytest.mark.usefixtures("without_collector")
def test_a_call_that_failed_holds_nothing(kind: type[Exception], call_id: str) -> None:
    """However a call fails, what its tool had in its variables is freed at once, and not when cycles are looked for."""
    held: list[weakref.ref[Held]] = []

    async def run(arguments: dict[str, Any], call: Call) -> Output:
        large = Held()
        held.append(weakref.ref(large))
        try:
            raise TimeoutError
        except TimeoutError:
            raise kind("no") from None

    async def calls() -> None:
        engine = Engine([tool(run)], Settings())
        for number in range(3):
            invocation = Invocation(tool="toy", call_id=call_id and f"{call_id}{number}")
            try:
                result = await engine.execute(invocation)
            except (Overloaded, ValueError):
                continue
            assert result.error is not None
            assert result.error.message == "no"
        await engine.close()
        assert [one() for one in held] == [None] * 3

    asyncio.run(calls())
