"""The process in which documents are read that a stranger may have made to hang or to eat memory.

    python -m host.readers.worker BYTES SECONDS

A job is a line of JSON, {"kind": "pdf", "bytes": 123}, and so many bytes; the answer is one line of JSON, either
{"lines": [[number, text, level, code, place], ...]} or {"problem": "damaged PDF"}. SECONDS are of the processor's time
for a job, BYTES of memory beyond what the interpreter has. A job that takes more time is ended by the kernel, with the
process; one that takes more memory gets a MemoryError, or that.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import math
import os
import signal
import sys

from host.chunks import Line
from host.readers.unreadable import Unreadable

MOST_TEXT = 2**22  # characters of one document; some 1,500 pages
TOO_MUCH_MEMORY = "takes too much memory to read"
_READERS = {"pdf": "pdf_lines", "docx": "docx_lines", "notebook": "notebook_lines"}


def main(memory: int, cpu_seconds: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # it is the host's, which ends this
    jobs, answers = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints is no answer
    _bound_memory(memory)
    for head in jobs:
        job = json.loads(head)
        content = jobs.read(job["bytes"])
        _bound_time(cpu_seconds)
        try:
            answer: dict[str, object] = {"lines": _read(job["kind"], content)}
        except Unreadable as error:
            answer = {"problem": str(error)}
        except MemoryError:
            answer = {"problem": TOO_MUCH_MEMORY}
        answers.write(json.dumps(answer).encode() + b"\n")
        answers.flush()
        if answer.get("problem") == TOO_MUCH_MEMORY:
            return  # not to go on with what is left of it


def _read(kind: str, content: bytes) -> list[Line]:
    name = _READERS[kind]
    module = importlib.import_module(f"host.readers.{kind}")  # only what is needed: some take half a second
    try:
        lines: list[Line] = getattr(module, name)(content)
    except RecursionError:
        raise Unreadable(f"damaged {kind}") from None
    if sum(len(line.text) + 1 for line in lines) > MOST_TEXT:
        raise Unreadable(f"over {MOST_TEXT // 2**20} million characters")
    return lines


def _bound_memory(memory: int) -> None:
    with contextlib.suppress(ImportError, ValueError, OSError):  # not every system has such bounds
        import resource

        with open("/proc/self/statm") as file:
            now = int(file.read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (now + memory, now + memory))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))


def _bound_time(seconds: int) -> None:
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource

        used = resource.getrusage(resource.RUSAGE_SELF)
        soft = math.ceil(used.ru_utime + used.ru_stime) + seconds
        resource.setrlimit(resource.RLIMIT_CPU, (soft, resource.RLIM_INFINITY))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
