"""Asks in the terminal before a tool is called, with the exact arguments.

    allow? fetch_url {"url": "https://example.org/"}
    y yes, a yes to every call of this tool from now on, n no, or say why not:

What others wrote is shown as text, whatever it would have a terminal do. What was typed before the question came does
not count as its answer.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from typing import TextIO

from host.agents.events import ActionAsked
from host.agents.tool_server import Tool
from host.agents.toolbox import Approve, Decision
from shared.errors import StartError
from shared.visible import visible

_LONGEST_REASON = 500  # characters


def has_terminal() -> bool:
    return sys.stdin.isatty() and sys.stderr.isatty()


def in_terminal() -> Approve:
    """Raises StartError where there is no terminal to ask in."""
    source, out = sys.stdin, sys.stderr
    if not has_terminal():
        raise StartError(
            "--approve asks in the terminal before each call, and there is none here: run it in a terminal, or leave "
            "--approve out and bound the tools by the plugins' own policies"
        )
    allowed: set[str] = set()

    async def approve(action: ActionAsked, tool: Tool) -> Decision:
        if action.tool in allowed:
            return Decision(True)
        _forget_typed(source)
        warning = " (may delete or overwrite)" if tool.destructive else " (only reads)" if tool.read_only else ""
        out.write(f"\nallow? {visible(action.tool)} {visible(action.arguments)}{warning}\n")
        out.write("y yes, a yes to every call of this tool from now on, n no, or say why not: ")
        out.flush()
        answer = await _line(source)
        if answer is None:  # the terminal is gone
            return Decision(False, "nobody answered")
        match answer.strip().lower():
            case "y" | "yes":
                return Decision(True)
            case "a" | "all":
                allowed.add(action.tool)
                return Decision(True)
            case "n" | "no" | "":
                return Decision(False)
        return Decision(False, answer.strip()[:_LONGEST_REASON])

    return approve


def _forget_typed(source: TextIO) -> None:
    with contextlib.suppress(ImportError, OSError):
        import termios

        with contextlib.suppress(termios.error):
            termios.tcflush(source.fileno(), termios.TCIFLUSH)


async def _line(source: TextIO) -> str | None:
    """The next line; None at the end of the input. Cancelled, it leaves nothing behind that would wait on."""
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()
    try:
        loop.add_reader(source.fileno(), _set, ready)
    except NotImplementedError:  # Windows
        return await asyncio.to_thread(source.readline) or None
    try:
        await ready
        return source.readline() or None
    finally:
        loop.remove_reader(source.fileno())


def _set(ready: asyncio.Future[None]) -> None:
    if not ready.done():
        ready.set_result(None)
