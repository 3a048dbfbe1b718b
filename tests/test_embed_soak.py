"""embed_st with two hundred callers at once for a minute: nothing lost, swapped or answered twice, nothing piles up."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import hector_plugins_pb2 as pb
import hector_plugins_pb2_grpc as rpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from plugins.embed_st.engine.backends import Floats
from tests.servers import Plugin, details, start_plugin

pytestmark = pytest.mark.slow

SECONDS = 60.0
CALLERS = 200
QUEUED = 512  # --max-queued: so few that it is full at times
GROWTH = 48 * 2**20  # most bytes by which memory in the second half may be above that of the first
NEAR = 2e-5  # most by which a number of a vector may be off its precomputed one


@dataclass
class Soak:
    stub: Any
    texts: list[str]
    vectors: Floats
    ends: float
    near: float
    seen: Counter[str] = field(default_factory=Counter)
    retries: set[float] = field(default_factory=set)
    wrong: list[str] = field(default_factory=list)
    slowest_refusal: float = 0.0

    def going_on(self) -> bool:
        return time.monotonic() < self.ends and not self.wrong

    def check(self, place: int, vector: Any, what: str) -> None:
        if len(vector) != 384 or np.abs(np.array(vector) - self.vectors[place]).max() > self.near:
            self.wrong.append(f"{what}: text {place} has another's vector")

    def error(self, error: grpc.RpcError, what: str, seconds: float) -> None:
        """Of all there are, those that a caller must expect here."""
        code = error.code()
        self.seen[f"{what} {code.name}"] += 1
        if code is grpc.StatusCode.RESOURCE_EXHAUSTED:
            found = details(error)
            self.retries.add(found.retry_after or 0)
            self.slowest_refusal = max(self.slowest_refusal, seconds)
            if found.reason != "QUEUE_FULL":
                self.wrong.append(f"{what}: {error.details()}")
        elif code is not grpc.StatusCode.DEADLINE_EXCEEDED:
            self.wrong.append(f"{what}: {code.name} {error.details()}")


async def caller(soak: Soak, seed: int) -> None:
    """One call after the other: a text or many, with a deadline that is sometimes short, sometimes cancelled."""
    chance = random.Random(seed)
    while soak.going_on():
        many = chance.random() < 0.3
        places = chance.sample(range(len(soak.texts)), chance.randint(2, 40)) if many else [0]
        if not many:
            places = [chance.randrange(len(soak.texts))]
        deadline = chance.choice([0.02, 0.3, 120, 120, 120])
        began = time.monotonic()
        call = (
            soak.stub.EmbedBatch(pb.EmbedBatchRequest(texts=[soak.texts[one] for one in places]), timeout=deadline)
            if many
            else soak.stub.EmbedText(pb.EmbedTextRequest(text=soak.texts[places[0]]), timeout=deadline)
        )
        what = "batch" if many else "text"
        if chance.random() < 0.1:
            await asyncio.sleep(chance.random() * 0.2)
            call.cancel()
        try:
            reply = await call
        except grpc.RpcError as error:
            soak.error(error, what, time.monotonic() - began)
            await asyncio.sleep(chance.random() * 0.2)
            continue
        except asyncio.CancelledError:
            if not call.cancelled():
                raise
            soak.seen[f"{what} cancelled"] += 1
            continue
        soak.seen[f"{what} answered"] += 1
        vectors = [one.vector for one in reply.embeddings] if many else [reply.vector]
        if len(vectors) != len(places):
            soak.wrong.append(f"{len(vectors)} vectors for {len(places)} texts")
        for place, vector in zip(places, vectors, strict=False):
            soak.check(place, vector, what)


async def bulk(soak: Soak) -> None:
    """A stream that never ends, each answer the next one's."""
    asked: list[int] = []
    answered = 0

    async def requests() -> AsyncIterator[pb.EmbedStreamRequest]:
        chance = random.Random(-1)
        while soak.going_on():
            asked.append(chance.randrange(len(soak.texts)))
            yield pb.EmbedStreamRequest(id=str(len(asked) - 1), text=soak.texts[asked[-1]])

    while soak.going_on():
        try:
            async for answer in soak.stub.EmbedStream(requests(), timeout=4 * SECONDS):
                if answer.id != str(answered) or answer.embedding.HasField("status"):
                    soak.wrong.append(f"the stream's answer {answered} is {answer.id}: {answer.embedding.status}")
                    return
                soak.check(asked[answered], answer.embedding.vector, "stream")
                answered += 1
                soak.seen["stream answered"] += 1
        except grpc.RpcError as error:
            soak.error(error, "stream", 0)
            if answered:
                soak.wrong.append("the stream was refused after it had begun")
            asked.clear()
            await asyncio.sleep(0.2)
    if len(asked) != answered:
        soak.wrong.append("the stream was not answered whole")


async def watch(soak: Soak, plugin: Plugin) -> list[tuple[float, int]]:
    """Health twice a second, over a connection of its own; the time and the bytes in memory at each."""
    found = []
    async with grpc.aio.insecure_channel(plugin.address) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        while soak.going_on():
            status = await health.Check(health_pb2.HealthCheckRequest(service="plugin"), timeout=60)
            if status.status != health_pb2.HealthCheckResponse.SERVING:
                soak.wrong.append("health is not SERVING")
            soak.seen["health"] += 1
            found.append((time.monotonic(), memory(plugin)))
            await asyncio.sleep(0.5)
    return found


def memory(plugin: Plugin) -> int:
    """Bytes of it that are resident."""
    status = Path(f"/proc/{plugin.process.pid}/status").read_text(encoding="ascii")
    (line,) = [line for line in status.splitlines() if line.startswith("VmRSS:")]
    return int(line.split()[1]) * 1024


async def soaked(
    plugin: Plugin, texts: list[str], vectors: Floats, near: float
) -> tuple[Soak, list[tuple[float, int]]]:
    options = [("grpc.use_local_subchannel_pool", 1), ("grpc.max_receive_message_length", -1)]
    async with grpc.aio.insecure_channel(plugin.address, options=options) as channel:
        soak = Soak(rpc.EmbedderProviderStub(channel), texts, vectors, time.monotonic() + SECONDS, near)
        async with asyncio.TaskGroup() as tasks:
            watcher = tasks.create_task(watch(soak, plugin))
            tasks.create_task(bulk(soak))
            for number in range(CALLERS):
                tasks.create_task(caller(soak, number))
        return soak, watcher.result()


def some_texts() -> list[str]:
    """400 different ones, of one word to sixty."""
    chance = random.Random(0)
    words = ["cat", "river", "stone", "green", "letter", "music", "seven", "window", "bread", "north"]
    return [f"{number} " + " ".join(chance.choices(words, k=chance.choice([1, 5, 5, 20, 60]))) for number in range(400)]


def halves(watched: list[tuple[float, int]]) -> tuple[int, int]:
    """Most bytes in the first half, less its first third, and in the second."""
    began = watched[0][0]
    first, second = (
        max(size for at, size in watched if (at > began + SECONDS / 2) == late and at > began + SECONDS / 6)
        for late in (False, True)
    )
    return first, second


def served_in_the_end(stub: Any, texts: list[str]) -> Any:
    """The reply to all texts at once; those who went last may still be leaving."""
    until = time.monotonic() + SECONDS
    while True:
        try:
            return stub.EmbedBatch(pb.EmbedBatchRequest(texts=texts), timeout=120)
        except grpc.RpcError as error:
            if error.code() is not grpc.StatusCode.RESOURCE_EXHAUSTED or time.monotonic() > until:
                raise
        time.sleep(0.1)


@pytest.mark.loop_may_stall("under 200 callers a collection of garbage takes 60 ms now and then")
def test_soak(capsys: pytest.CaptureFixture[str]) -> None:
    """Two hundred callers with deadlines and cancels beside a bulk stream: each answer is its own text's, the queue's
    bound is told with a time to wait, the stream goes on, health answers throughout, memory stays, and all is free
    again in the end."""
    if not Path("/proc/self/status").exists():
        pytest.skip("memory is read from /proc")
    texts = some_texts()
    options = ("--backend", "openvino", "--precision", "fp32", "--max-queued", str(QUEUED), "--log-level", "warning")
    with start_plugin("plugins.embed_st", *options) as plugin:
        stub = rpc.EmbedderProviderStub(plugin.channel())
        reply = stub.EmbedBatch(pb.EmbedBatchRequest(texts=texts), timeout=120)
        vectors = np.array([one.vector for one in reply.embeddings], np.float32)
        apart = np.abs(vectors[:, None, :] - vectors[None, :, :]).max(axis=2) + np.eye(len(texts))
        assert apart.min() > 10 * NEAR, "the texts cannot be told apart"
        soak, watched = asyncio.run(soaked(plugin, texts, vectors, NEAR))
        first, second = halves(watched)
        with capsys.disabled():
            print("\nsoak:", ", ".join(f"{what} {count}" for what, count in sorted(soak.seen.items())))
            print(f"memory: {first / 2**20:.0f} MiB, then {second / 2**20:.0f} MiB; ", end="")
            print(f"slowest refusal {soak.slowest_refusal * 1000:.0f} ms")
        assert soak.wrong == []
        for what in ("text answered", "batch answered", "stream answered", "text cancelled", "batch cancelled"):
            assert soak.seen[what], what
        assert soak.seen["text DEADLINE_EXCEEDED"]
        assert soak.seen["batch RESOURCE_EXHAUSTED"]
        assert soak.retries == {1}
        assert soak.seen["health"] > SECONDS / 10  # of two a second; a busy machine is slow
        assert second - first < GROWTH
        # Nobody holds a place any more: a call that needs all of them is served.
        reply = served_in_the_end(stub, texts)
        assert np.abs(np.array([one.vector for one in reply.embeddings]) - vectors).max() <= NEAR
        assert "event=bug" not in plugin.stderr()
        assert plugin.terminate() == 0
