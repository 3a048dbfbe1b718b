"""Which cores the benchmark of readers gives to whom: `benchmarks/vector_readers.py`."""

from __future__ import annotations

import pytest

from benchmarks import vector_readers


@pytest.mark.parametrize(
    ("cores", "servers", "theirs", "clients"),
    [
        (1, 1, [0], [0]),
        (2, 8, [0], [1]),
        (4, 1, [0], [1, 2, 3]),
        (4, 8, [0, 1], [2, 3]),
        (16, 4, [0, 1, 2, 3], [*range(4, 16)]),
    ],
)
def test_clients_take_no_core_of_the_servers(
    monkeypatch: pytest.MonkeyPatch, cores: int, servers: int, theirs: list[int], clients: list[int]
) -> None:
    """A server has a core where half of all are enough for that, and clients have the rest; one core is everybody's."""
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: set(range(cores)), raising=False)
    assert vector_readers._cores(servers) == (theirs, clients)
