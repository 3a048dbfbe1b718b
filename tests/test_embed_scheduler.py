"""embed_st's scheduler with a model that is a function: who is run when, with whom, and what everybody gets."""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import random
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from plugins.embed_st.engine import scheduler as scheduler_module
from plugins.embed_st.engine.backends import Floats
from plugins.embed_st.engine.scheduler import Caller, Launch, Scheduler
from plugins.embed_st.engine.tokenizer import Tokens
from shared.errors import Overloaded

SECONDS = 120  # the longest wait for anything; a busy machine is slow


def at_once(run: Callable[[Sequence[Tokens]], Floats]) -> Launch:
    """A backend's `launch` that comes back with the vectors."""

    def launch(batch: Sequence[Tokens]) -> Callable[[], Floats]:
        vectors = run(batch)
        return lambda: vectors

    return launch


def text(number: int, length: int = 1) -> Tokens:
    """One that the fake model's vector tells from any other."""
    return Tokens(np.full(length, number, np.int64), length)


class Model:
    """A text's vector is its number and its length. While `held`, every batch waits for a `let_go`."""

    def __init__(self) -> None:
        self.held = False
        self.batches: list[list[tuple[int, int]]] = []
        self.threads: set[int] = set()
        self._began = threading.Semaphore(0)
        self._go = threading.Semaphore(0)

    def __call__(self, batch: Sequence[Tokens]) -> Floats:
        vectors = np.array([[one.ids[0], len(one.ids)] for one in batch], np.float32)
        self.threads.add(threading.get_ident())
        self.batches.append([(int(number), int(length)) for number, length in vectors])
        self._began.release()
        if self.held:
            assert self._go.acquire(timeout=SECONDS)
        return vectors

    async def began(self) -> None:
        """Returns when one more batch than at the last call has begun."""
        assert await asyncio.to_thread(self._began.acquire, timeout=SECONDS)

    def let_go(self) -> None:
        """The batch that is under way may end."""
        self._go.release()

    def open(self) -> None:
        """So may all others."""
        self.held = False
        self.let_go()

    def numbers(self) -> list[int]:
        """Every text that was run, in order."""
        return [number for batch in self.batches for number, _ in batch]


@pytest.fixture
def model() -> Model:
    return Model()


@asynccontextmanager
async def running(model: Model, *, batch_tokens: int = 100, places: int = 10_000) -> AsyncIterator[Scheduler]:
    scheduler = Scheduler(at_once(model), batch_tokens=batch_tokens, places=places)
    scheduler.start()
    try:
        yield scheduler
    finally:
        scheduler.close()
        model.open()


@asynccontextmanager
async def busy(scheduler: Scheduler, model: Model) -> AsyncIterator[None]:
    """The model is with text 0 meanwhile: what is submitted here waits."""
    model.held = True
    with scheduler.caller(1) as caller:
        first = caller.submit([text(0)])
        await model.began()
        yield
        model.open()
        await first


async def embed(scheduler: Scheduler, texts: Sequence[Tokens]) -> Floats:
    with scheduler.caller(len(texts)) as caller:
        return await asyncio.wait_for(caller.submit(texts), SECONDS)


# ---------------------------------------------------------------- what is run together


async def _alone(model: Model) -> None:
    async with running(model) as scheduler:
        for number in (5, 6):
            assert (await embed(scheduler, [text(number)])).tolist() == [[number, 1]]


def test_a_lone_text_is_run_alone(model: Model) -> None:
    """A text that comes when nothing else waits is run with no other, though the batch had room for a hundred."""
    asyncio.run(_alone(model))
    assert model.batches == [[(5, 1)], [(6, 1)]]


def test_what_waits_is_run_together(model: Model) -> None:
    """Texts of several callers that wait for the model go through it as one batch, and each caller gets its own."""

    async def calls() -> list[Floats]:
        async with running(model) as scheduler, busy(scheduler, model):
            waiting = [asyncio.create_task(embed(scheduler, [text(number), text(-number)])) for number in range(1, 9)]
            await asyncio.sleep(0)
            model.open()
            return await asyncio.gather(*waiting)

    found = asyncio.run(calls())
    assert [rows.tolist() for rows in found] == [[[number, 1], [-number, 1]] for number in range(1, 9)]
    assert len(model.batches) == 2
    assert len(model.batches[1]) == 16


def test_like_lengths_go_together(model: Model) -> None:
    """Of texts that wait, long ones and short ones are not run in one batch, and those alike are run in one."""

    async def calls() -> None:
        async with running(model, batch_tokens=1000) as scheduler, busy(scheduler, model):
            waiting = asyncio.create_task(embed(scheduler, [text(one, 3 if one % 2 else 60) for one in range(1, 21)]))
            await asyncio.sleep(0)
            model.open()
            rows = await waiting
            assert rows.tolist() == [[one, 3 if one % 2 else 60] for one in range(1, 21)]

    asyncio.run(calls())
    assert [sorted({length for _, length in batch}) for batch in model.batches[1:]] == [[3], [60]]


@pytest.mark.parametrize("batch_tokens", [1, 16, 64, 1000])
def test_the_budget_and_the_padding(model: Model, batch_tokens: int) -> None:
    """No batch has more padded tokens than the budget, but for a text that is longer by itself; a quarter is padding
    at most; and every text is run once."""
    chance = random.Random(batch_tokens)
    lengths = [chance.choice([chance.randint(1, 8), chance.randint(1, 100)]) for _ in range(700)]

    async def calls() -> Floats:
        async with running(model, batch_tokens=batch_tokens) as scheduler:
            return await embed(scheduler, [text(number, length) for number, length in enumerate(lengths)])

    assert asyncio.run(calls()).tolist() == [[number, length] for number, length in enumerate(lengths)]
    assert sorted(model.numbers()) == list(range(700))
    for batch in model.batches:
        inside = [length for _, length in batch]
        padded = len(inside) * max(inside)
        assert padded <= batch_tokens or len(inside) == 1
        assert sum(inside) >= 0.75 * padded


def test_batches_are_filled(model: Model) -> None:
    """Texts of one length fill the budget: a hundred of ten tokens and a budget of 250 are four batches."""

    async def calls() -> None:
        async with running(model, batch_tokens=250) as scheduler, busy(scheduler, model):
            waiting = asyncio.create_task(embed(scheduler, [text(number, 10) for number in range(100)]))
            await asyncio.sleep(0)
            model.open()
            await waiting

    asyncio.run(calls())
    assert [len(batch) for batch in model.batches[1:]] == [25, 25, 25, 25]


def test_one_thread(model: Model) -> None:
    """Whoever calls, the model is run in one thread, and not in the caller's."""

    async def calls() -> None:
        async with running(model, batch_tokens=3) as scheduler:
            await asyncio.gather(*(embed(scheduler, [text(number)]) for number in range(40)))

    asyncio.run(calls())
    assert len(model.threads) == 1
    assert threading.get_ident() not in model.threads


# ---------------------------------------------------------------- whose turn it is


@pytest.mark.parametrize("seed", range(6))
def test_a_single_text_beside_a_bulk_caller(model: Model, seed: int) -> None:
    """A caller of a thousand texts of any lengths delays a single text by two batches at most: the one under way and
    one more."""
    chance = random.Random(seed)
    longest = chance.choice([1, 20, 100])

    async def calls() -> None:
        model.held = True
        async with running(model, batch_tokens=16) as scheduler:
            bulk = [text(number, chance.randint(1, longest)) for number in range(1000)]
            waiting = asyncio.create_task(embed(scheduler, bulk))
            await model.began()
            for single in range(-8, 0):
                for _ in range(chance.randint(0, 2)):
                    model.let_go()
                    await model.began()
                under_way = len(model.batches) - 1
                alone = asyncio.create_task(embed(scheduler, [text(single, chance.randint(1, 100))]))
                while single not in model.numbers():
                    await asyncio.sleep(0)
                    model.let_go()
                    await model.began()
                assert len(model.batches) - 1 - under_way <= 2
                assert not waiting.done(), "the bulk caller was to be there throughout"
                model.let_go()
                await model.began()
                await alone
            waiting.cancel()
            model.open()

    asyncio.run(calls())


@pytest.mark.parametrize(("first", "second"), [(10, 10), (5, 50), (50, 5)])
def test_two_bulk_callers(model: Model, first: int, second: int) -> None:
    """Two callers with a thousand texts each have about as many texts run, whoever came first and whatever the
    lengths."""

    async def calls() -> None:
        model.held = True
        async with running(model, batch_tokens=300) as scheduler:
            one = asyncio.create_task(embed(scheduler, [text(1, first)] * 1000))
            await model.began()
            for _ in range(5):
                model.let_go()
                await model.began()
            before = len(model.batches)
            two = asyncio.create_task(embed(scheduler, [text(2, second)] * 1000))
            await asyncio.sleep(0)
            while sum(map(len, model.batches[before:])) < 600:
                model.let_go()
                await model.began()
            since = [number for batch in model.batches[before:] for number, _ in batch]
            assert abs(since.count(1) - since.count(2)) <= 128  # those among which a batch is looked for
            one.cancel()
            two.cancel()
            model.open()

    asyncio.run(calls())


@pytest.mark.parametrize("idle", [0, 1500])
def test_newcomers_do_not_starve_a_bulk_caller(model: Model, idle: int) -> None:
    """While 150 clients send one text after the other, more than the model keeps up with, a bulk caller gets about as
    much as each of them, also beside streams that have come and send nothing."""
    clients, rounds = 150, 12

    async def calls() -> int:
        answered = 0
        async with running(model, batch_tokens=10) as scheduler, busy(scheduler, model):

            async def client() -> None:
                nonlocal answered
                while not bulk.done():
                    await embed(scheduler, [text(1)])
                    answered += 1
                    assert answered <= 3 * clients * rounds, "the bulk caller starves"

            async with contextlib.AsyncExitStack() as streams, asyncio.TaskGroup() as tasks:
                for _ in range(idle):
                    streams.enter_context(scheduler.caller(0))
                bulk: asyncio.Future[Floats] = asyncio.get_running_loop().create_future()
                for _ in range(clients):
                    tasks.create_task(client())
                await asyncio.sleep(0)
                with scheduler.caller(rounds) as caller:
                    waiting = caller.submit([text(2, 9)] * rounds)
                    while not waiting.done():
                        model.let_go()
                        await model.began()
                        for _ in range(5):
                            await asyncio.sleep(0)  # who was answered comes again
                bulk.set_result(waiting.result())
                model.open()
        return answered

    assert asyncio.run(calls()) >= clients * rounds / 3


def test_a_caller_keeps_its_turn_from_call_to_call(model: Model) -> None:
    """A caller who submits a hundred texts one by one has no more of the model than one who submits them at once."""

    async def calls() -> None:
        model.held = True
        async with running(model, batch_tokens=10) as scheduler:
            with scheduler.caller(100) as stream, scheduler.caller(100) as bulk:
                stream.submit([text(0)])
                await model.began()
                bulk.submit([text(1)] * 100)
                for _ in range(100):
                    stream.submit([text(2)])
                for _ in range(10):
                    model.let_go()
                    await model.began()
                numbers = model.numbers()
                assert abs(numbers.count(1) - numbers.count(2)) <= 2
            model.open()

    asyncio.run(calls())


# ---------------------------------------------------------------- the queue's bound, and who leaves it


def test_a_full_queue(model: Model) -> None:
    """A caller for whom there is no place is refused at once, with a time to wait; nothing of it is queued, and the
    others are served."""

    async def calls() -> None:
        async with running(model, places=10) as scheduler, busy(scheduler, model):
            with scheduler.caller(9) as caller:
                waiting = caller.submit([text(1)] * 9)
                with pytest.raises(Overloaded, match=r"10 texts wait .* max_queued is 10") as caught:
                    await embed(scheduler, [text(2)])
                assert (caught.value.reason, caught.value.retry_after) == ("QUEUE_FULL", 1)
                model.open()
                await waiting
            assert (await embed(scheduler, [text(3)] * 9)).tolist() == [[3, 1]] * 9

    asyncio.run(calls())
    assert 2 not in model.numbers()


def test_more_than_the_queue_holds(model: Model) -> None:
    """A caller who wants more places than there are gets them all, when nobody else has one."""

    async def calls() -> None:
        async with running(model, places=10) as scheduler:
            assert len(await embed(scheduler, [text(1)] * 50)) == 50
            with scheduler.caller(1), pytest.raises(Overloaded):
                await embed(scheduler, [text(1)] * 50)

    asyncio.run(calls())


def test_cancelled(model: Model) -> None:
    """What a cancelled caller has waiting never reaches the model, and its places are free at once."""

    async def calls() -> None:
        async with running(model, places=11) as scheduler, busy(scheduler, model):
            gone = asyncio.create_task(embed(scheduler, [text(1)] * 10))
            await asyncio.sleep(0)
            with pytest.raises(Overloaded):
                await embed(scheduler, [text(2)])
            gone.cancel()
            with pytest.raises(asyncio.CancelledError):
                await gone
            stays = asyncio.create_task(embed(scheduler, [text(3)] * 10))
            await asyncio.sleep(0)
            model.open()
            assert (await stays).tolist() == [[3, 1]] * 10

    asyncio.run(calls())
    assert model.numbers() == [0] + [3] * 10


def test_cancelled_half_way(model: Model) -> None:
    """A caller who leaves with a part of its texts run costs no more than the batch under way."""

    async def calls() -> None:
        model.held = True
        async with running(model, batch_tokens=10) as scheduler:
            gone = asyncio.create_task(embed(scheduler, [text(1)] * 1000))
            for _ in range(3):
                await model.began()
                model.let_go()
            await model.began()
            gone.cancel()
            with pytest.raises(asyncio.CancelledError):
                await gone
            model.open()
            await embed(scheduler, [text(2)])

    asyncio.run(calls())
    assert model.numbers() == [1] * 40 + [2]


def test_an_exception_in_the_model(model: Model) -> None:
    """An exception fails the callers who had a text in that batch, and the next batch is run as if nothing was."""

    def run(batch: Sequence[Tokens]) -> Floats:
        rows = model(batch)
        if 13 in rows[:, 0]:
            raise MemoryError("no room")
        return rows

    async def calls() -> None:
        scheduler = Scheduler(at_once(run), batch_tokens=4, places=100)
        scheduler.start()
        async with busy(scheduler, model):
            numbers = ([1, 1], [13, 2, 2, 2, 2, 2, 2], [3] * 5)
            waiting = [asyncio.create_task(embed(scheduler, [text(one) for one in some])) for some in numbers]
            await asyncio.sleep(0)
            model.open()
            found = await asyncio.gather(*waiting, return_exceptions=True)
        failed = [isinstance(one, MemoryError) for one in found]
        # Callers take turns, so the first of each went with the bad one.
        assert failed == [True, True, True]
        assert (await embed(scheduler, [text(4)] * 5)).tolist() == [[4, 1]] * 5
        assert model.numbers().count(2) < 6, "what was left of a failed caller was dropped"
        scheduler.close()

    asyncio.run(calls())


def test_an_exception_spares_other_batches(model: Model) -> None:
    """An exception in one batch leaves alone who waits for another one."""

    def run(batch: Sequence[Tokens]) -> Floats:
        rows = model(batch)
        if 13 in rows[:, 0]:
            raise ValueError("bad")
        return rows

    async def calls() -> None:
        scheduler = Scheduler(at_once(run), batch_tokens=100, places=100)
        scheduler.start()
        async with busy(scheduler, model):
            bad = asyncio.create_task(embed(scheduler, [text(13, 50)]))
            good = asyncio.create_task(embed(scheduler, [text(1, 3)] * 3))
            await asyncio.sleep(0)
            model.open()
            assert (await good).tolist() == [[1, 3]] * 3
            with pytest.raises(ValueError, match="bad"):
                await bad
        scheduler.close()

    asyncio.run(calls())


def test_a_model_that_loses_a_text(model: Model) -> None:
    """A model that gives fewer vectors than texts fails that batch; it neither swaps them nor ends the thread."""

    def run(batch: Sequence[Tokens]) -> Floats:
        rows = model(batch)
        return rows[:-1] if len(rows) > 1 else rows

    async def calls() -> None:
        scheduler = Scheduler(at_once(run), batch_tokens=100, places=100)
        scheduler.start()
        with pytest.raises(ValueError, match="shorter"):
            await embed(scheduler, [text(1), text(2)])
        assert (await embed(scheduler, [text(3)])).tolist() == [[3, 1]]
        scheduler.close()

    asyncio.run(calls())


def test_close(model: Model) -> None:
    """After `close` nothing that waits reaches the model, and the thread ends."""
    others = set(threading.enumerate())

    async def calls() -> None:
        scheduler = Scheduler(at_once(model), batch_tokens=100, places=100)
        model.held = True
        scheduler.start()
        with scheduler.caller(5) as caller:
            caller.submit([text(1)])
            await model.began()
            caller.submit([text(2)] * 3)
            (thread,) = [one for one in set(threading.enumerate()) - others if one.name == "inference"]
            scheduler.close()
            model.open()
            await asyncio.to_thread(thread.join, SECONDS)
            assert not thread.is_alive()

    asyncio.run(calls())
    assert model.numbers() == [1]


# ---------------------------------------------------------------- all of it at once


@pytest.mark.parametrize("seed", range(3))
def test_nothing_is_swapped(model: Model, seed: int) -> None:
    """Eighty callers who come, submit one or many texts of any length and are sometimes cancelled get each the vectors
    of their own texts, in order, and no text is run twice."""
    chance = random.Random(seed)
    unique = iter(range(10**6))
    asked: list[int] = []

    async def one(caller: Caller, texts: Sequence[Tokens]) -> None:
        rows = await asyncio.wait_for(caller.submit(texts), SECONDS)
        assert rows.tolist() == [[each.ids[0], len(each.ids)] for each in texts]

    async def caller(scheduler: Scheduler) -> int:
        answered = 0
        for _ in range(chance.randint(1, 4)):
            await asyncio.sleep(chance.choice([0, 0, 0.001]))
            calls = [
                [text(next(unique), chance.randint(1, 40)) for _ in range(chance.choice([1, 1, 5, 60]))]
                for _ in range(chance.randint(1, 3))
            ]
            asked.extend(int(one.ids[0]) for call in calls for one in call)
            with scheduler.caller(sum(map(len, calls))) as places:
                tasks = [asyncio.create_task(one(places, texts)) for texts in calls]
                if chance.random() < 0.25:
                    await asyncio.sleep(0)
                    chance.choice(tasks).cancel()
                for outcome in await asyncio.gather(*tasks, return_exceptions=True):
                    if isinstance(outcome, Exception):
                        raise outcome
                    answered += outcome is None
        return answered

    async def calls() -> int:
        async with running(model, places=20_000) as scheduler:
            return sum(await asyncio.gather(*(caller(scheduler) for _ in range(80))))

    assert asyncio.run(calls()) > 80
    numbers = model.numbers()
    assert len(numbers) == len(set(numbers))
    assert set(numbers) <= set(asked)


def test_all_callers_go_at_once(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a thousand callers go at once, what waits is not gone through for each; nothing of theirs is run, and who
    stays is served."""
    sorted_anew = 0

    def heapify(queue: list[Any]) -> None:
        nonlocal sorted_anew
        sorted_anew += 1
        heapq.heapify(queue)

    monkeypatch.setattr(
        scheduler_module, "heapq", SimpleNamespace(heapify=heapify, heappush=heapq.heappush, heappop=heapq.heappop)
    )

    async def calls() -> None:
        model.held = True
        async with running(model, places=10_000) as scheduler:
            with scheduler.caller(1) as first, scheduler.caller(1) as stays:
                waiting = first.submit([text(0)])
                await model.began()
                with contextlib.ExitStack() as callers:
                    for _ in range(1000):
                        callers.enter_context(scheduler.caller(4)).submit([text(1)] * 4)
                    last = stays.submit([text(2)])
                    assert (scheduler._callers, len(scheduler._queue)) == (1001, 4001)
                assert scheduler._callers == 1
                assert len(scheduler._queue) <= 2
                model.open()
                await waiting
                await last
            assert (scheduler._callers, scheduler._taken) == (0, 0)

    asyncio.run(calls())
    assert 0 < sorted_anew < 50
    assert sum(map(len, model.batches)) == 2
