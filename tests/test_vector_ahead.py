"""The parts of a batch are made in order, one ahead of its use, and what goes wrong is raised where it is used."""

from __future__ import annotations

import threading
import time

import pytest

from plugins.vector_hnsw.engine.ahead import ahead
from tests.servers import SECONDS


@pytest.mark.parametrize("count", range(6))
def test_all_in_order(count: int) -> None:
    """Every part is there, in order, however fast the caller is, and however slow."""
    for pause in (0.0, 0.002):

        def work(part: int, pause: float = pause) -> int:
            time.sleep(pause)
            return part * part

        found = []
        for result in ahead(work, range(count)):
            found.append(result)
            time.sleep(0.002 - pause)
        assert found == [part * part for part in range(count)]


def test_the_next_is_made_meanwhile() -> None:
    """While one is used the next is made, and never two at once."""
    made = [threading.Event() for _ in range(4)]
    under_way = threading.Lock()

    def work(part: int) -> int:
        assert under_way.acquire(blocking=False)
        made[part].set()
        time.sleep(0.002)
        under_way.release()
        return part

    for part in ahead(work, range(4)):
        assert made[min(part + 1, 3)].wait(SECONDS)


def test_what_goes_wrong() -> None:
    """A part that fails raises where it would have come; the others are as they would be."""

    def work(part: int) -> int:
        if part == 1:
            raise ValueError("this one")
        return part

    parts = ahead(work, range(3))
    assert next(parts) == 0
    with pytest.raises(ValueError, match="this one"):
        next(parts)
