"""Who is next at the model: one thread launches it, many calls wait for it, and where it can be launched again before
it has ended, a second thread waits for its vectors and hands them out.

A batch is made of what waits at the moment, never of what may still come: a lone caller does not wait for others.
Texts of like length go together, because a batch is padded to its longest, up to a budget of padded tokens.

The turns are those of fair queueing. Every text gets a turn: the one after its caller's last, or the present one
where that is later. A caller with a thousand texts has turns far in the future; one who comes with a single text has
the present one, and so is in the next batch or the one after. The present turn moves on with what was run, so that
newcomers, however many, do not keep a caller from its own forever.
"""

from __future__ import annotations

import asyncio
import heapq
import logging
import queue
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from itertools import count
from typing import NamedTuple

import numpy as np

from shared import logs
from shared.errors import Overloaded, Unavailable

from .backends import DeviceError, DeviceMemoryError, Floats
from .tokenizer import Tokens

Finish = Callable[[], Floats]
Launch = Callable[[Sequence[Tokens]], Finish]

# Those with the next turns, among which a batch looks for texts of like length: so many, or twice as many as it could
# hold of the first one's length.
_WINDOW = 128
# A text joins a batch only while no more than this share of it is padding.
_MOST_PADDING = 0.25
# Where memory ran out, so many batches in a row have to do with less before more is tried again.
_PATIENCE = 64
# A device that failed so often in a row is taken for lost. An error of CUDA is most often one of the whole process.
_LOST_AFTER = 3
_SOON_TOKENS = 128  # of a lone text that is soon done


class Job:
    """Texts that were submitted together."""

    def __init__(self, size: int) -> None:
        self.future: asyncio.Future[Floats] = asyncio.get_running_loop().create_future()
        self.dropped = False
        self._rows: list[Floats | None] = [None] * size
        self._left = size

    def deliver(self, place: int, row: Floats) -> Floats | None:
        """In one of the model's threads. Gives all of the vectors with the last one's."""
        self._rows[place] = row
        self._left -= 1
        return None if self._left else np.stack([row for row in self._rows if row is not None])


def _settle(outcomes: Mapping[Job, Floats | Exception]) -> None:
    """Of whole jobs, from one of the model's threads."""

    def settle(jobs: Sequence[Job]) -> None:
        for job in jobs:
            outcome = outcomes[job]
            if job.future.done():
                continue  # the caller was cancelled meanwhile
            if isinstance(outcome, Exception):
                job.future.set_exception(outcome)
            else:
                job.future.set_result(outcome)

    loops: dict[asyncio.AbstractEventLoop, list[Job]] = {}
    for job in outcomes:
        loops.setdefault(job.future.get_loop(), []).append(job)
    for loop, jobs in loops.items():  # once each: to wake it takes as long as all the rest
        with suppress(RuntimeError):  # it is closed
            loop.call_soon_threadsafe(settle, jobs)


class _Waiting(NamedTuple):
    caller: Caller
    job: Job
    place: int
    tokens: Tokens


_Entry = tuple[float, int, _Waiting]  # its turn, which of those with that turn, and what waits


class Caller:
    """One who has places in the queue. `Scheduler.caller` makes it."""

    def __init__(self, scheduler: Scheduler) -> None:
        self.turn = 0.0  # its last
        self.waiting = 0  # texts in the queue
        self.gone = False
        self.jobs: list[Job] = []
        self._scheduler = scheduler

    def submit(self, texts: Sequence[Tokens]) -> asyncio.Future[Floats]:
        """Vectors of shape (len(texts), dimensions), in order. `texts` must not be empty."""
        job = Job(len(texts))
        self.jobs = [one for one in self.jobs if not one.future.done()] + [job]
        self._scheduler.put(self, [_Waiting(self, job, index, tokens) for index, tokens in enumerate(texts)])
        return job.future


class Scheduler:
    """`start`, then `caller` from any task, then `close`."""

    def __init__(
        self,
        launch: Launch,
        *,
        batch_tokens: int,
        places: int,
        under_way: int = 1,
        most_texts: int = _WINDOW,
        on_lost: Callable[[Exception], None] = lambda _: None,
    ) -> None:
        """`launch` is called in one thread only, what it gives in that one or in another, in order; up to `under_way`
        of them are open at once. `batch_tokens`: longest text times texts of a batch, at most, unless a text alone is
        longer; `most_texts`: of a batch. `places`: texts that may wait. `on_lost` hears, in one of the model's threads,
        of a device that is lost."""
        self._on_lost = on_lost
        self._failures = 0  # of the device, in a row
        self._launch, self._places, self._most_texts = launch, places, most_texts
        self._batch_tokens = self._most_tokens = batch_tokens
        self._since_full = 0  # batches since memory ran out
        self._taken = 0
        # Who waits for places, in their order, and for how many.
        self._wanted: dict[asyncio.Future[None], int] = {}
        self._callers = 0  # that have texts in the queue
        self._left_over = 0  # texts in the queue of callers who have gone
        self._turn = 0.0  # the present one
        self._number = count()
        self._queue: list[_Entry] = []
        self._changed = threading.Condition()
        self._closed = False
        self._under_way = under_way
        self._begun = self._ended = 0  # batches
        self._room = threading.Semaphore(under_way)
        self._launched: queue.SimpleQueue[tuple[list[_Entry], Finish] | None] = queue.SimpleQueue()

    def start(self) -> None:
        threading.Thread(target=self._work, name="inference", daemon=True).start()
        if self._under_way > 1:
            threading.Thread(target=self._hand_out, name="vectors", daemon=True).start()

    def close(self) -> None:
        """What still waits is never answered."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._launched.put(None)

    @contextmanager
    def caller(self, places: int) -> Iterator[Caller]:
        """Somebody who has that many texts waiting at once, at most. What waits at the end is dropped.

        Raises Overloaded where so many places are not free.
        """
        places = min(places, self._places)
        if places and self._taken + places > self._places:
            raise Overloaded(
                f"{self._taken} texts wait for the model, and max_queued is {self._places}; try again",
                reason="QUEUE_FULL",
                retry_after=1,
            )
        self._taken += places
        caller = Caller(self)
        try:
            yield caller
        finally:
            self._drop(caller)
            self._give_back(places)

    @asynccontextmanager
    async def places(self, places: int) -> AsyncIterator[None]:
        """So many texts of a caller that is there already. Waits until they are free."""
        places = min(places, self._places)
        if self._wanted or not self._free(places):
            mine: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._wanted[mine] = places
            try:
                await mine
            except asyncio.CancelledError:
                if mine.cancelled():
                    del self._wanted[mine]
                    self._hand_on()
                else:
                    self._give_back(places)
                raise
        else:
            self._taken += places
        try:
            yield
        finally:
            self._give_back(places)

    def _free(self, places: int) -> bool:
        # Who waits leaves a quarter to those that would be refused: else streams, all together, would shut them out.
        return self._taken + places <= max(places, self._places - self._places // 4)

    def _give_back(self, places: int) -> None:
        self._taken -= places
        self._hand_on()

    def _hand_on(self) -> None:
        while self._wanted:
            first, places = next(iter(self._wanted.items()))
            if not self._free(places):
                return
            del self._wanted[first]
            self._taken += places
            first.set_result(None)

    def put(self, caller: Caller, texts: Sequence[_Waiting]) -> None:
        with self._changed:
            self._count(caller, len(texts))
            turn = max(caller.turn + 1, self._turn)
            for text in texts:
                heapq.heappush(self._queue, (turn, next(self._number), text))
                turn += 1
            caller.turn = turn - 1
            self._changed.notify()

    def _drop(self, caller: Caller) -> None:
        for job in caller.jobs:
            job.dropped = True
        with self._changed:
            self._left_over += caller.waiting
            self._count(caller, -caller.waiting)
            caller.gone = True
            # Not at each: where all callers go at once, each would go through all that waits.
            if self._left_over > len(self._queue) // 2:
                self._queue = [entry for entry in self._queue if not entry[2].caller.gone]
                heapq.heapify(self._queue)
                self._left_over = 0

    def _count(self, caller: Caller, more: int) -> None:
        """That so many more of its texts are in the queue. One who has none there is no caller: a stream may idle."""
        self._callers += (caller.waiting + more > 0) - (caller.waiting > 0)
        caller.waiting += more

    def _work(self) -> None:
        while True:
            self._room.acquire()  # before the choice: a batch is made of what waits when it can go
            with self._changed:
                while not (self._queue or self._closed):
                    self._changed.wait()
                if self._closed:
                    return
                batch = self._next_batch()
                # A lone text is soon done, sooner than another thread has heard of it.
                alone = len(batch) == 1 and not self._queue and self._begun == self._ended
                alone = alone and len(batch[0][2].tokens.ids) <= _SOON_TOKENS
            finish = self._begin(batch) if batch else None
            if finish is None:
                self._room.release()
                continue
            self._begun += 1
            if alone or self._under_way == 1:
                self._end(batch, finish)
            else:
                self._launched.put((batch, finish))

    def _hand_out(self) -> None:
        while launched := self._launched.get():
            self._end(*launched)

    def _begin(self, batch: list[_Entry]) -> Finish | None:
        try:
            finish = self._launch([text.tokens for _, _, text in batch])
        except DeviceMemoryError as error:
            self._make_do(batch, error)
        except Exception as error:
            self._failed(batch, error)
        else:
            self._since_full += 1
            if self._batch_tokens < self._most_tokens and self._since_full >= _PATIENCE:
                self._batch_tokens, self._since_full = min(self._most_tokens, 2 * self._batch_tokens), 0
            return finish
        return None

    def _end(self, batch: list[_Entry], finish: Finish) -> None:
        whole: dict[Job, Floats | Exception] = {}
        try:
            for (_, _, text), row in zip(batch, finish(), strict=True):
                if (vectors := text.job.deliver(text.place, row)) is not None:
                    whole[text.job] = vectors
            self._failures = 0
            _settle(whole)
        except DeviceMemoryError as error:
            self._make_do(batch, error)
        except Exception as error:
            self._failed(batch, error)
        finally:
            self._ended += 1
            self._room.release()

    def _failed(self, batch: list[_Entry], error: Exception) -> None:
        if isinstance(error, DeviceError):
            # Of its own, since another thread may count one at this moment too.
            self._failures = in_a_row = self._failures + 1
            logs.event("device_failed", level=logging.ERROR, in_a_row=in_a_row, error=error)
            if in_a_row == _LOST_AFTER:
                self._on_lost(error)
            cause = Unavailable("the device has failed; try again, and where it goes on, start the plugin again")
            cause.__cause__ = error
            error = cause
        _fail(batch, error)

    def _make_do(self, batch: list[_Entry], error: DeviceMemoryError) -> None:
        """The batch waits again, and those to come are half as large."""
        longest = max(len(text.tokens.ids) for _, _, text in batch)
        logs.event("device_memory_full", level=logging.WARNING, texts=len(batch), tokens=longest, error=error)
        if len(batch) == 1:
            wait = f"the device has no memory left for a text of {longest} tokens; try again, or stop what else uses it"
            _fail(batch, Overloaded(wait, reason="DEVICE_MEMORY", retry_after=1))
            return
        with self._changed:
            self._batch_tokens, self._since_full = min(self._batch_tokens, len(batch) * longest) // 2, 0
            for entry in batch:
                if not entry[2].job.dropped:
                    self._count(entry[2].caller, 1)
                    heapq.heappush(self._queue, entry)
            self._changed.notify()

    def _next_batch(self) -> list[_Entry]:
        window: list[_Entry] = []
        size = _WINDOW
        while self._queue and len(window) < size:
            entry = heapq.heappop(self._queue)
            if entry[2].caller.gone:
                self._left_over -= 1
            elif entry[2].job.dropped:
                self._count(entry[2].caller, -1)
            else:
                if not window:
                    size = min(self._most_texts, max(size, 2 * self._batch_tokens // len(entry[2].tokens.ids)))
                window.append(entry)
        if not window:
            return []
        first = window[0]
        window.sort(key=lambda entry: len(entry[2].tokens.ids))
        chosen = _alike([len(entry[2].tokens.ids) for entry in window], window.index(first), self._batch_tokens)
        for entry in window[: chosen.start] + window[chosen.stop :]:
            heapq.heappush(self._queue, entry)
        # By one for each round in which every caller had a text, and never past the turn after the first one's: who
        # comes now is not put behind all that a bulk caller has left over for its length.
        round_share = (chosen.stop - chosen.start) / max(1, self._callers)
        self._turn = min(max(self._turn, first[0]) + round_share, first[0] + 1)
        for entry in window[chosen]:
            self._count(entry[2].caller, -1)
        return window[chosen]


def _fail(batch: Sequence[_Entry], error: Exception) -> None:
    """Each job hears of it once, and has its texts dropped that still wait."""
    failed = {text.job: error for _, _, text in batch if not text.job.dropped}
    for job in failed:
        job.dropped = True
    _settle(failed)


def _alike(lengths: Sequence[int], first: int, most: int) -> slice:
    """A run of the ascending `lengths` that holds `first`: as many as fit into `most` padded, with little padding."""
    start, stop, total = first, first + 1, lengths[first]

    def fits(size: int, longest: int, sum_of: int) -> bool:
        return size * longest <= most and sum_of >= (1 - _MOST_PADDING) * size * longest

    while True:
        size = stop - start + 1
        shorter = start > 0 and fits(size, lengths[stop - 1], total + lengths[start - 1])
        longer = stop < len(lengths) and fits(size, lengths[stop], total + lengths[stop])
        if longer and not (shorter and lengths[stop - 1] - lengths[start - 1] < lengths[stop] - lengths[stop - 1]):
            total += lengths[stop]
            stop += 1
        elif shorter:
            start -= 1
            total += lengths[start]
        else:
            return slice(start, stop)
