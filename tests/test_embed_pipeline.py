"""embed_st beside a GPU, end to end but for the card: one batch runs while the next is launched. A fake card
(tests/embed_card.py) plays CUDA, the model is real and runs on the CPU."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
import pytest

from plugins.embed_st.engine import Embedding, Engine, Floats, Options, engine
from plugins.embed_st.engine.backends import DeviceError, DeviceMemoryError
from plugins.embed_st.engine.backends.gpu import Gpu
from plugins.embed_st.engine.backends.pytorch import Torch
from plugins.embed_st.engine.model import Model
from plugins.embed_st.engine.tokenizer import Tokens
from shared.errors import Overloaded, Unavailable
from tests.embed_card import SECONDS, CardMemoryError, FakeCard
from tests.embed_models import tiny

WORDS = ("what", "a", "power", "text", "of", "the", "and", "survives", "cut", "rest")


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Torch:
    return Torch(tiny(tmp_path_factory.mktemp("model")), name="tiny", sha256="")


class Machine:
    """An open engine on a fake card. `launched`: the texts' lengths of each batch, in order."""

    def __init__(self, loaded: Torch, monkeypatch: pytest.MonkeyPatch, **settings: Any) -> None:
        self.card = FakeCard()
        self.loaded = loaded
        self.backend = Gpu(loaded, self.card)  # type: ignore[arg-type]
        self.backend.batch_tokens = 64
        self.launched: list[list[int]] = []
        self._launch, self._began = self.backend.launch, threading.Semaphore(0)
        monkeypatch.setattr(self.backend, "launch", self._watched)
        model = Model(loaded.facts, loaded.tokenizer, self.backend)
        monkeypatch.setattr(engine, "open_model", lambda *_, **__: model)
        self.engine = Engine("tiny", **settings)
        self.engine.open()
        self.launched.clear()  # of the first text, which is none of a caller's
        self._began = threading.Semaphore(0)

    def _watched(self, batch: Sequence[Tokens]) -> Callable[[], Floats]:
        finish = self._launch(batch)
        self.launched.append([len(tokens.ids) for tokens in batch])
        self._began.release()
        return finish

    async def batches(self, count: int) -> None:
        """Returns when so many more have been launched."""
        for _ in range(count):
            assert await asyncio.to_thread(self._began.acquire, timeout=SECONDS)

    async def embed(self, texts: Sequence[str]) -> None:
        """Asserts that each gets its own vector."""
        outcomes = await asyncio.wait_for(self.engine.embed(texts, Options()), SECONDS)
        expected = self.loaded.run(self.loaded.tokenizer.encode(texts))
        for outcome, vector in zip(outcomes, expected, strict=True):
            assert isinstance(outcome, Embedding)
            assert np.abs(outcome.vector - vector).max() < 1e-5

    async def waits(self, callers: int = 1) -> None:
        """Returns when the texts of so many are in the queue."""
        scheduler = self.engine._scheduler
        while scheduler._callers < callers:  # noqa: ASYNC110 - it tells nobody
            await asyncio.sleep(0.01)

    @asynccontextmanager
    async def busy(self) -> AsyncIterator[None]:
        """Two batches are on the card meanwhile, and not done before the end."""
        self.card.gate.clear()
        tasks = []
        for text in ("first", "second"):
            tasks.append(asyncio.create_task(self.embed([text, text + " of two"])))
            await self.batches(1)
        yield
        self.card.gate.set()
        await asyncio.gather(*tasks)


@pytest.fixture
def machine(loaded: Torch, monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    machine = Machine(loaded, monkeypatch)
    yield machine
    machine.card.gate.set()
    machine.engine.close()


def texts(count: int, start: int = 0) -> list[str]:
    """Different ones of two to eleven words."""
    numbers = range(start, start + count)
    return [f"{number} " + " ".join(WORDS[(number + n) % 10] for n in range(1 + number % 10)) for number in numbers]


def test_order(machine: Machine) -> None:
    """Many callers at once, each with texts of all lengths: everybody gets the vectors of their texts, in order."""

    async def calls() -> None:
        await asyncio.gather(*(machine.embed(texts(size, 100 * size)) for size in (1, 1, 2, 3, 30, 70, 300)))

    asyncio.run(calls())
    assert len(machine.card.threads) <= 2  # that which opened the engine, and the one that launches
    assert machine.card.replayed


def test_two_are_under_way(machine: Machine) -> None:
    """The second batch is launched before the first has ended, the third is not."""

    async def calls() -> None:
        async with machine.busy():
            third = asyncio.create_task(machine.embed(texts(3)))
            await asyncio.sleep(0.2)
            assert len(machine.launched) == 2
        await third
        assert sorted(map(len, machine.launched)) == [2, 2, 3]

    asyncio.run(calls())


def test_a_single_text_beside_bulk(machine: Machine) -> None:
    """Who comes with one text while another's hundreds wait is in the next batch, or the one after it."""

    async def calls() -> None:
        async with machine.busy():
            bulk = asyncio.create_task(machine.embed(texts(400)))
            await machine.waits()
            single = asyncio.create_task(machine.embed(["rest"]))
            await machine.waits(2)
        await single
        after = machine.launched[2:]
        assert not bulk.done() or len(after) > 4
        await bulk
        length = len(machine.loaded.tokenizer.encode(["rest"])[0].ids)
        assert any(length in batch for batch in after[:2])

    asyncio.run(calls())


def test_cancelled_texts_leave_before_they_cost(machine: Machine) -> None:
    """Of a caller who goes away nothing is launched any more, and what is on the card disturbs nobody."""

    async def calls() -> None:
        async with machine.busy():
            gone = asyncio.create_task(machine.engine.embed(texts(200), Options()))
            await machine.waits()
            gone.cancel()
            stays = asyncio.create_task(machine.embed(texts(5, 1000)))
            await asyncio.sleep(0.1)
        await stays
        assert sum(map(len, machine.launched)) == 2 + 2 + 5

    asyncio.run(calls())


def test_a_caller_leaves_while_its_batch_runs(machine: Machine) -> None:
    """A caller who is cancelled when its batch is on the card already: the next one is served as ever."""

    async def calls() -> None:
        machine.card.gate.clear()
        gone = asyncio.create_task(machine.engine.embed(texts(2), Options()))
        await machine.batches(1)
        gone.cancel()
        await asyncio.gather(gone, return_exceptions=True)
        machine.card.gate.set()
        await machine.embed(texts(9))

    asyncio.run(calls())


# ---------------------------------------------------------------- memory


def short_of_memory(monkeypatch: pytest.MonkeyPatch, card: FakeCard, most: list[int]) -> None:
    """The card has room for `most[0]` tokens at once."""
    forward = Torch.forward

    def limited(self: Torch, ids: Any, mask: Any, **more: Any) -> Any:
        if card.working and ids.numel() > most[0]:
            raise CardMemoryError("CUDA out of memory")
        return forward(self, ids, mask, **more)

    monkeypatch.setattr(Torch, "forward", limited)


@pytest.mark.slow
def test_memory_runs_out(machine: Machine, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """Where the card has no memory for a batch, halves of it are tried: every text gets its vector, the log says so,
    and when there is room again batches grow again."""
    caplog.set_level("WARNING", logger="hector")
    room = [10**6]
    short_of_memory(monkeypatch, machine.card, room)
    scheduler = machine.engine._scheduler

    async def calls() -> None:
        room[0] = 40
        await machine.embed(texts(120))
        assert scheduler._batch_tokens <= 40
        assert "device_memory_full" in caplog.text
        room[0] = 10**6
        for number in range(200):
            await machine.embed(texts(2, 10 * number))
        assert scheduler._batch_tokens == 64

    asyncio.run(calls())


def test_no_memory_for_a_single_text(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """A text for which alone there is no memory is an error that says so and when to come again; others get theirs."""
    short_of_memory(monkeypatch, machine.card, [16])
    long = " ".join(WORDS * 2)

    async def calls() -> None:
        with pytest.raises(Overloaded, match=r"no memory left for a text of \d+ tokens") as caught:
            await machine.engine.embed([long], Options())
        assert (caught.value.reason, caught.value.retry_after) == ("DEVICE_MEMORY", 1)
        await machine.embed(["cut", "the cut"])

    asyncio.run(calls())


def test_the_best_batch(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """At the start batches double while they are soon done, and halve until they fit into the card."""
    seconds = {"each": 1e-7}
    monkeypatch.setattr(Gpu, "_seconds", lambda self, tokens: tokens * seconds["each"])
    assert machine.backend._best_batch() == 65_536
    seconds["each"] = 0.9e-6
    assert machine.backend._best_batch() == 32_768
    seconds["each"] = 1.0
    assert machine.backend._best_batch() == 1_024
    monkeypatch.undo()
    short_of_memory(monkeypatch, machine.card, [5_000])
    assert machine.backend._best_batch() == 4_096


# ---------------------------------------------------------------- what goes wrong


def test_no_memory_to_record(machine: Machine) -> None:
    """Where the card has no memory to record a graph, batches run without: no text is refused for it."""
    machine.card.unrecordable = CardMemoryError("CUDA out of memory")

    async def calls() -> None:
        for _ in range(4):
            await machine.embed(texts(8))
            await machine.embed(["cut"])

    asyncio.run(calls())
    assert machine.card.recorded == 0


def test_memory_runs_out_on_the_card(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where memory runs out after the launch the batch is tried again too, though nobody else comes."""
    launch, failed = machine.backend.launch, [0]

    def later(batch: Sequence[Tokens]) -> Callable[[], Floats]:
        finish = launch(batch)
        if failed[0] or len(batch) == 1:
            return finish
        failed[0] = 1

        def out_of_memory() -> Floats:
            finish()
            raise DeviceMemoryError("out of memory")

        return out_of_memory

    monkeypatch.setattr(machine.engine._scheduler, "_launch", later)
    asyncio.run(machine.embed(["cut", "the cut"]))
    assert failed == [1]


def test_the_card_fails_again_and_again(machine: Machine) -> None:
    """However often the card fails while a batch is on it, the next one that works is served."""

    async def calls() -> None:
        machine.card.fails = RuntimeError("CUDA error")
        for number in range(6):
            with pytest.raises(RuntimeError, match="CUDA error"):
                await machine.engine.embed([WORDS[number] + " and a text"], Options())
        machine.card.fails = None
        await machine.embed(texts(4))

    asyncio.run(calls())


def test_the_card_is_lost(machine: Machine) -> None:
    """A card that fails three times in a row is told of once, and not one that works in between; callers hear that the
    device failed."""
    lost: list[Exception] = []
    machine.engine._scheduler._on_lost = lost.append
    error = DeviceError("CUDA error: an illegal memory access was encountered")

    async def fail(times: int) -> None:
        machine.card.fails = error
        for number in range(times):
            with pytest.raises(Unavailable, match="device has failed"):
                await machine.engine.embed([WORDS[number] + " and a text"], Options())
        machine.card.fails = None

    async def calls() -> None:
        for _ in range(2):
            await fail(2)
            await machine.embed(texts(1))
        assert not lost
        await fail(5)
        assert lost == [error]

    asyncio.run(calls())


def test_errors_of_cuda_are_the_devices() -> None:
    """What torch says of CUDA is told apart: memory, the device, and what is neither."""
    from plugins.embed_st.engine.backends.card import Card

    card = object.__new__(Card)
    for kind, words in (
        (DeviceError, "CUDA error: an illegal memory access was encountered\nCUDA kernel errors might be"),
        (DeviceMemoryError, "CUDA error: out of memory\nCUDA kernel errors might be"),
        (DeviceMemoryError, "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        (RuntimeError, "The size of tensor a (3) must match the size of tensor b (4)"),
    ):
        with pytest.raises(kind), card._named_errors():
            raise RuntimeError(words)


@pytest.mark.parametrize("where", ["launch", "card"])
def test_a_failing_batch(machine: Machine, monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    """A batch that fails when it is launched, or on the card, is its callers' error and nobody else's."""
    launch = machine.backend.launch

    def failing(batch: Sequence[Tokens]) -> Callable[[], Floats]:
        if not any(len(tokens.ids) > 15 for tokens in batch):
            return launch(batch)
        if where == "launch":
            raise RuntimeError("no kernel")

        def finish() -> Floats:
            raise RuntimeError("no kernel")

        return finish

    monkeypatch.setattr(machine.engine._scheduler, "_launch", failing)

    async def calls() -> None:
        bad = machine.engine.embed([" ".join(WORDS * 2)], Options())
        outcomes = await asyncio.gather(bad, return_exceptions=True)
        assert isinstance(outcomes[0], RuntimeError)
        for _ in range(5):
            await machine.embed(texts(4))

    asyncio.run(calls())


def test_no_slot_is_lost(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """However often the card fails in midst of a launch, the next one that works is served."""
    forward = Torch.forward
    fails = [True]

    def broken(self: Torch, ids: Any, mask: Any, **more: Any) -> Any:
        if fails[0] and machine.card.working:
            raise RuntimeError("no kernel")
        return forward(self, ids, mask, **more)

    monkeypatch.setattr(Torch, "forward", broken)

    async def calls() -> None:
        for number in range(6):
            with pytest.raises(RuntimeError):
                await machine.engine.embed([WORDS[number] + " and a text"], Options())
        fails[0] = False
        await machine.embed(texts(4))

    asyncio.run(calls())


def test_what_cannot_be_recorded(
    machine: Machine, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A model whose pass cannot become a graph runs without, and the log says so once."""
    caplog.set_level("WARNING", logger="hector")
    machine.card.unrecordable = RuntimeError("operation not permitted when stream is capturing")

    async def calls() -> None:
        for _ in range(4):
            await machine.embed(texts(8))

    asyncio.run(calls())
    assert caplog.text.count("event=graphs_off") == 1
    assert machine.card.replayed == 0


def test_shutdown_in_mid_batch(machine: Machine) -> None:
    """`close` comes back while batches are on the card, and the threads end when those are done."""
    before = {thread.name for thread in threading.enumerate()}
    assert {"inference", "vectors"} <= before

    async def calls() -> None:
        machine.card.gate.clear()
        for number in range(2):
            task = asyncio.create_task(machine.engine.embed(texts(2, 10 * number), Options()))
            task.add_done_callback(lambda task: task.cancelled() or task.exception())
            await machine.batches(1)
        machine.engine.close()
        threads = [thread for thread in threading.enumerate() if thread.name in ("inference", "vectors")]
        machine.card.gate.set()
        for thread in threads:
            await asyncio.to_thread(thread.join, SECONDS)
            assert not thread.is_alive()

    asyncio.run(calls())


def test_graphs_are_bounded(loaded: Torch, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond a number of shapes no more graphs are recorded, and vectors are the same."""
    from plugins.embed_st.engine.backends import graphs

    monkeypatch.setattr(graphs, "_MOST", 3)
    card = FakeCard()
    backend = Gpu(loaded, card)  # type: ignore[arg-type]
    for _ in range(3):
        for size in range(1, 30):
            tokens = loaded.tokenizer.encode(texts(size))
            assert np.abs(backend.run(tokens) - loaded.run(tokens)).max() < 1e-5
    assert card.recorded == 3


def test_the_edge_is_all_of_the_card() -> None:
    """The fake card has what the real one has, and no more."""
    from plugins.embed_st.engine.backends.card import Card

    def public(kind: type) -> set[str]:
        return {name for name in dir(kind) if not name.startswith("_")}

    assert public(FakeCard) == public(Card)
