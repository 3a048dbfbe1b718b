"""One part of a batch is searched, without Python and on all cores, while the part before it is ranked, in Python and
on one. Leave it out (`map` does the same, one after the other) and all works, slower.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Part = TypeVar("Part")
Result = TypeVar("Result")

_threads = ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="ahead")


def ahead(work: Callable[[Part], Result], parts: Sequence[Part]) -> Iterator[Result]:
    """What `work` makes of each, in order, in a thread that goes on to the next while the caller uses the last."""
    futures: tuple[Future[Result], ...] = tuple(Future() for _ in parts)

    def make() -> None:
        # One after the other: two at once would be ready at the same time, and nothing would be won.
        for part, future in zip(parts, futures, strict=True):
            try:
                future.set_result(work(part))
            except BaseException as error:  # it is raised where it is waited for
                future.set_exception(error)

    if len(parts) > 1:
        _threads.submit(make)
    else:
        make()  # nothing is ahead of it
    for future in futures:
        yield future.result()
