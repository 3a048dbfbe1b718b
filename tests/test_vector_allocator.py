"""The memory setting of vector_hnsw: `plugins/vector_hnsw/allocator.py`."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

_PROGRAM = """
import ctypes, sys, threading
from plugins.vector_hnsw.allocator import few_arenas
if sys.argv[1] == "few":
    assert few_arenas()
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
meeting = threading.Barrier(8)
def work():
    libc.malloc(ctypes.c_size_t(1000))
    meeting.wait(120)
threads = [threading.Thread(target=work) for _ in range(8)]
for thread in threads: thread.start()
for thread in threads: thread.join()
libc.fopen.restype = ctypes.c_void_p
out = ctypes.c_void_p(libc.fopen(b"/dev/stdout", b"w"))
libc.malloc_info(0, out)
libc.fflush(out)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has arenas")
def test_threads_share_arenas() -> None:
    """With `few_arenas` eight threads allocate from two arenas; without it from more."""
    arenas = {}
    for how in ("few", "many"):
        done = subprocess.run(
            [sys.executable, "-c", _PROGRAM, how], capture_output=True, text=True, check=True, timeout=240
        )
        arenas[how] = done.stdout.count("<heap nr=")
    assert arenas["few"] <= 2 < arenas["many"], arenas
