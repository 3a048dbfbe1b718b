"""The process that `workers.py` starts: one job after the other, bytes in and bytes out.

Its descriptor 0 is a socket to the server, used both ways. A request is the lengths of a job's name, `module:function`,
and of its payload, then these two; a reply is an Outcome, whether this process should be replaced, the answer's length,
and the answer. Nothing large is imported here; what jobs need is imported before the first comes.
"""

from __future__ import annotations

import ctypes
import gc
import importlib
import json
import os
import resource
import signal
import struct
import sys
import traceback
from collections.abc import Callable, Sequence
from enum import IntEnum
from io import BufferedReader

from shared.errors import CallerError

REQUEST = struct.Struct("!HQ")
REPLY = struct.Struct("!B?Q")

_PR_SET_PDEATHSIG = 1
LONGEST_REFUSAL = 20_000  # bytes
_MOST_KEPT = 256 * 2**20  # bytes that a process may stay with after a job; it is replaced where it has more


class Outcome(IntEnum):
    DONE = 0
    OUT_OF_MEMORY = 1
    FAILED = 2  # with an exception that the job did not foresee: the answer says where, without its message
    TOO_LONG = 3  # the answer
    REFUSED = 4  # with a CallerError: the answer is what `refusal` makes of it


def main(server: int, memory: int, most_reply: int, preload: Sequence[str]) -> None:
    """Works until the server closes the socket. `server` is its process id, the bounds are in bytes."""
    _end_with(server)
    _limit(memory)
    try:
        for name in preload:
            importlib.import_module(name)
    except Exception as error:
        # Nothing of a caller's is here yet, so the message may be shown.
        reason = f"{type(error).__name__}: {error}".encode()[:LONGEST_REFUSAL]
        _send(REPLY.pack(Outcome.FAILED, True, len(reason)), reason)
        return
    # What stands now is looked at by no later collection, and within a job there is none: work on rows makes many
    # objects and no cycles, and memory is bounded anyway.
    gc.collect()
    gc.freeze()
    gc.disable()
    with os.fdopen(0, "rb", closefd=False) as requests:
        _send(REPLY.pack(Outcome.DONE, False, 0))  # ready
        while header := requests.read(REQUEST.size):
            _answer(header, requests, most_reply)


def _answer(header: bytes, requests: BufferedReader, most_reply: int) -> None:
    outcome, answer = Outcome.DONE, b""
    try:
        name_length, length = REQUEST.unpack(header)
        name = requests.read(name_length).decode()
        answer = _job(name)(requests.read(length))
        if len(answer) > most_reply:
            outcome, answer = Outcome.TOO_LONG, b""
    except CallerError as error:
        outcome, answer = Outcome.REFUSED, refusal(error)
    except MemoryError:
        outcome = Outcome.OUT_OF_MEMORY
    except Exception as error:
        # What is no Exception, such as a panic of a library in Rust that found no memory, ends the process.
        outcome, answer = Outcome.FAILED, _where(error).encode()
    # After a MemoryError a library may be in any state.
    replace = outcome is Outcome.OUT_OF_MEMORY
    if not replace:
        gc.collect()
        replace = _resident() > _MOST_KEPT
    _send(REPLY.pack(outcome, replace, len(answer)), answer)


def refusal(error: CallerError) -> bytes:
    """The error as JSON, for the server to raise it again; one that is too long loses its details."""
    said = {
        "code": int(error.code),
        "message": error.message[:2_000],
        "reason": error.reason,
        "violations": error.violations[:10],
        "metadata": error.metadata,
    }
    text = json.dumps(said).encode()
    return text if len(text) <= LONGEST_REFUSAL else json.dumps(said | {"violations": (), "metadata": {}}).encode()


def _job(name: str) -> Callable[[bytes], bytes]:
    module, _, function = name.partition(":")
    job: Callable[[bytes], bytes] = getattr(importlib.import_module(module), function)
    return job


def _where(error: BaseException) -> str:
    """The kind of an exception and where it was raised; its message could quote what the caller sent."""
    frames = traceback.extract_tb(error.__traceback__)[-5:]
    places = ", ".join(f"{frame.name} in {os.path.basename(frame.filename)}:{frame.lineno}" for frame in frames)
    return f"{type(error).__name__} at {places}"


def _send(*parts: bytes) -> None:
    for part in parts:
        view = memoryview(part)
        while view:
            view = view[os.write(0, view) :]


def _end_with(server: int) -> None:
    """Has the kernel kill this process when the server is gone, however it went; a job could not notice that."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != server:  # it went before that was said
        sys.exit()


def _limit(memory: int) -> None:
    for kind, most in ((resource.RLIMIT_AS, memory), (resource.RLIMIT_CORE, 0), (resource.RLIMIT_FSIZE, 0)):
        _, hard = resource.getrlimit(kind)
        most = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(kind, (most, most))


def _resident() -> int:
    with open("/proc/self/statm", "rb") as file:
        return int(file.read().split()[1]) * resource.getpagesize()
