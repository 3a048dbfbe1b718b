"""The edge to a GPU played on the CPU: a card whose memory is counted, and whose work ends when the test says so."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from plugins.embed_st.engine.backends import DeviceMemoryError

SECONDS = 120  # the longest wait for anything; a busy machine is slow


class CardMemoryError(Exception):
    """As torch.cuda.OutOfMemoryError."""


class FakeCard:
    """Does on the CPU, at once, what plugins/embed_st/engine/backends/card.py has CUDA do. `gate`: clear, nothing is
    done before it is set. `recorded`: shapes' graphs; `unrecordable`: what recording raises,
    `fails`: what the wait for the end does. A graph is the same calls again: what is fixed when CUDA records one does
    not show."""

    memory_error: type[Exception] = CardMemoryError

    def __init__(self) -> None:
        self.device = torch.device("cpu")
        self.gate = threading.Event()
        self.gate.set()
        self.marks = self.recorded = self.replayed = 0
        self.unrecordable: Exception | None = None
        self.fails: Exception | None = None
        self.threads: set[int] = set()
        self.working = False

    @contextmanager
    def work(self) -> Iterator[None]:
        self.threads.add(threading.get_ident())
        self.working = True
        try:
            with torch.inference_mode():
                yield
        except self.memory_error as error:
            raise DeviceMemoryError(str(error)) from error
        finally:
            self.working = False

    def catch_up(self) -> None:
        pass

    def host(self, *shape: int, dtype: Any) -> Any:
        return torch.zeros(*shape, dtype=dtype)

    def mark(self, *, soon: bool) -> Callable[[], None]:
        self.marks += 1

        def wait() -> None:
            assert self.gate.wait(SECONDS)
            if self.fails:
                raise self.fails

        return wait

    def capture(self, work: Callable[[], None]) -> Callable[[], None]:
        if self.unrecordable:
            raise self.unrecordable
        self.recorded += 1

        def replay() -> None:
            self.replayed += 1
            work()

        return replay

    def has_bf16(self) -> bool:
        return True
