"""A graph goes to a disk that makes it wait, and nothing else waits with it."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from plugins.vector_hnsw.engine import saving
from plugins.vector_hnsw.engine.graph import Graph
from plugins.vector_hnsw.engine.metric import Metric
from tests.servers import SECONDS
from tests.vector_tools import vectors

_SLOW = 3.0  # seconds for which the file takes no more than a pipe's buffer
_READER = f"import sys, time; pipe = open(sys.argv[1], 'rb'); time.sleep({_SLOW}); print(len(pipe.read()))"


def graph() -> Graph:
    rows = vectors(2000, 64)
    made = Graph(Metric.COSINE, 64, m=16, ef_construction=50, threads=1)
    made.reserve(len(rows))
    made.put(range(len(rows)), rows, range(len(rows)))
    return made


@pytest.mark.slow
def test_python_goes_on_while_a_slow_disk_takes_a_graph(tmp_path: Path) -> None:
    """While a file takes nothing for 3 s, another thread is never kept waiting for even half of that."""
    path = tmp_path / "slow"
    os.mkfifo(path)
    made = graph()
    # Once is enough: a machine that stands for so long keeps the thread waiting too.
    for _ in range(3):
        gaps = gaps_while_written(made, path)
        assert sum(gaps) > _SLOW / 2
        if max(gaps) < _SLOW / 2:
            return
    pytest.fail(f"another thread waited for {max(gaps):.1f} s")


def gaps_while_written(made: Graph, path: Path) -> list[float]:
    """The times for which a thread that looks every 10 ms did not run meanwhile."""
    gaps: list[float] = []
    done = threading.Event()

    def tick() -> None:
        last = time.monotonic()
        while not done.wait(0.01):
            now = time.monotonic()
            gaps.append(now - last)
            last = now

    ticking = threading.Thread(target=tick)
    with subprocess.Popen([sys.executable, "-c", _READER, str(path)], stdout=subprocess.PIPE, text=True) as reader:
        ticking.start()
        size = made.write_file(str(path))
        done.set()
        assert reader.communicate(timeout=SECONDS)[0] == f"{size}\n"
    ticking.join(SECONDS)
    return gaps


@pytest.mark.parametrize("most", [0, saving.MOST_IN_MEMORY], ids=["straight", "through memory"])
def test_both_ways_write_the_same_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    """Straight to the disk or through memory, a file has the graph's bytes and none of what was there before."""
    monkeypatch.setattr(saving, "MOST_IN_MEMORY", most)
    path, plain = tmp_path / "graph", tmp_path / "plain"
    path.write_bytes(b"x" * 10_000_000)
    made = graph()
    size = made.write_file(str(path))
    made._index.save_index(str(plain))
    assert path.stat().st_size == size
    assert path.read_bytes() == plain.read_bytes()
