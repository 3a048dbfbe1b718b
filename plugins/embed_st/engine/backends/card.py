"""What CUDA does for gpu.py, and nothing else does: pinned memory, copies that do not wait, events, graphs.

The one edge to the device: tests put another class in its place, and run all the rest on a CPU.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, cast

import torch

from . import DeviceError, DeviceMemoryError

Tensor = Any  # torch.Tensor, whose types torch does not all give


class Card:
    """One GPU and the stream on it on which everything runs, in the order of the calls. One thread uses it at a time;
    what `mark` gives may be called in another."""

    memory_error: type[Exception] = torch.cuda.OutOfMemoryError

    def __init__(self, device: str) -> None:
        """`device`: "cuda", or "cuda:1" for the second."""
        self.device = torch.device(device)
        self._stream = torch.cuda.Stream(device)
        # One for all graphs: they run one after another, and nothing is kept in it between two of them.
        self._pool = torch.cuda.graph_pool_handle()
        self._broken: list[Any] = []

    @contextmanager
    def work(self) -> Iterator[None]:
        """What is asked of torch in here goes to the stream. Raises DeviceMemoryError where memory runs out,
        DeviceError where CUDA fails otherwise."""
        with (
            self._named_errors(),
            torch.inference_mode(),
            torch.cuda.device(self.device),
            torch.cuda.stream(self._stream),
        ):
            yield

    @contextmanager
    def _named_errors(self) -> Iterator[None]:
        try:
            yield
        except RuntimeError as error:
            # torch and the libraries under it say it in words only.
            words = str(error).partition("\n")[0]
            if isinstance(error, self.memory_error) or re.search("out of memory|ALLOC_FAILED", words):
                torch.cuda.empty_cache()
                raise DeviceMemoryError(words.partition(".")[0]) from error
            if words.startswith("CUDA error"):
                raise DeviceError(words) from error
            raise

    def catch_up(self) -> None:
        """What was asked of torch outside of `work` is done."""
        torch.cuda.synchronize(self.device)

    def host(self, *shape: int, dtype: Tensor) -> Tensor:
        """Memory of the host that the card reads and writes by itself."""
        return torch.zeros(*shape, dtype=dtype, pin_memory=True)

    def mark(self, *, soon: bool) -> Callable[[], None]:
        """A call that returns when all that was asked up to now is done, with the errors of `work`. It does not hold
        the interpreter, but a core where that is `soon`: to sleep and be woken takes as long as a lone text."""
        event = torch.cuda.Event(blocking=not soon)
        event.record(self._stream)

        def wait() -> None:
            with self._named_errors():
                event.synchronize()

        return wait

    def capture(self, work: Callable[[], None]) -> Callable[[], None]:
        """A call that does on the card what `work` asked of it, in one go. Inside of `work()`. Raises where that
        cannot be recorded."""
        # Not torch.cuda.graph, which first stops the card, collects garbage and gives all free memory back.
        graph = torch.cuda.CUDAGraph()
        graph.capture_begin(pool=self._pool, capture_error_mode="thread_local")
        try:
            work()
        except BaseException:
            # Kept: where it is let go of, torch takes memory back that all other graphs use.
            self._broken.append(graph)
            with suppress(RuntimeError):
                graph.capture_end()
            raise
        graph.capture_end()
        return cast("Callable[[], None]", graph.replay)

    def has_bf16(self) -> bool:
        with torch.cuda.device(self.device):
            return bool(torch.cuda.is_bf16_supported(including_emulation=False))
