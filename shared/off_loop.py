"""Work that takes long, in a thread, so that other calls are answered meanwhile.

Two threads and no more: each that computes keeps the event loop waiting for its turn at the interpreter.
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

from .give_way import to_its_end

LARGE = 2**18  # characters of JSON, or so: what takes up to a millisecond or two is done where it stands

_threads = ThreadPoolExecutor(2, thread_name_prefix="large")
_P = ParamSpec("_P")
_R = TypeVar("_R")
_S = TypeVar("_S")
_Request = TypeVar("_Request")
_Context = TypeVar("_Context")


async def in_thread(function: Callable[_P, _R], *args: _P.args, **kwargs: _P.kwargs) -> _R:
    """What `function` returns or raises. It goes on to its end also where the caller is cancelled."""
    context = contextvars.copy_context()  # it has the request's id

    def work() -> _R:
        return to_its_end(function, *args, **kwargs)

    return await asyncio.get_running_loop().run_in_executor(_threads, context.run, work)


def threaded(rpc: Callable[[_S, _Request, _Context], _R]) -> Callable[[_S, _Request, _Context], Awaitable[_R]]:
    """Makes a plain method of a servicer one that is awaited, with its work in a thread."""

    @functools.wraps(rpc)
    async def call(self: _S, request: _Request, context: _Context) -> _R:
        return await in_thread(rpc, self, request, context)

    return call
