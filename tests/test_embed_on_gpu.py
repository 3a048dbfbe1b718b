"""embed_st on an NVIDIA GPU: its vectors, two hundred callers for a minute, memory of card and host."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Iterator

import hector_plugins_pb2 as pb
import hector_plugins_pb2_grpc as rpc
import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer

from plugins.embed_st.config import Config
from plugins.embed_st.engine.models import locate
from tests.servers import Plugin, start_plugin
from tests.test_embed_soak import GROWTH, SECONDS, Soak, halves, soaked, some_texts

pytestmark = [
    pytest.mark.loop_may_stall("under 200 callers a collection of garbage takes 60 ms now and then"),
    pytest.mark.gpu,
    pytest.mark.slow,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no NVIDIA GPU"),
]

# Most by which a number of a vector may be off when its text was in a batch of another shape, in bf16.
NEAR = 8e-3
CARD_GROWTH = 256 * 2**20


@pytest.fixture(scope="module")
def plugin() -> Iterator[Plugin]:
    options = ("--model", locate(Config().model, ""), "--max-queued", "2048", "--log-level", "warning")
    with start_plugin("plugins.embed_st", *options) as plugin:
        yield plugin


def card_memory() -> int:
    """Bytes in use, as the driver counts them."""
    query = ["nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits"]
    return int(subprocess.run(query, capture_output=True, text=True, check=True).stdout.splitlines()[0]) * 2**20


def test_vectors(plugin: Plugin) -> None:
    """In half precision, alone and in a batch, texts have the vectors of SentenceTransformer.encode in fp32."""
    stub = rpc.EmbedderProviderStub(plugin.channel())
    info = stub.GetModelInfo(pb.GetModelInfoRequest())
    assert (info.backend, info.precision) == ("torch", "bf16")
    texts = some_texts()
    expected = SentenceTransformer(locate(Config().model, ""), device="cuda").encode(texts, show_progress_bar=False)
    batch = [one.vector for one in stub.EmbedBatch(pb.EmbedBatchRequest(texts=texts)).embeddings]
    alone = [stub.EmbedText(pb.EmbedTextRequest(text=text)).vector for text in texts]
    for vectors in (np.array(batch), np.array(alone)):
        assert np.sum(vectors * expected, axis=1).min() >= 0.9995


def test_soak(plugin: Plugin, capsys: pytest.CaptureFixture[str]) -> None:
    """Two hundred callers with deadlines and cancels beside a bulk stream: each answer is its own text's, health
    answers throughout, memory stays on the host and on the card."""
    texts = some_texts()
    stub = rpc.EmbedderProviderStub(plugin.channel())
    reply = stub.EmbedBatch(pb.EmbedBatchRequest(texts=texts), timeout=120)
    vectors = np.array([one.vector for one in reply.embeddings], np.float32)
    apart = np.abs(vectors[:, None, :] - vectors[None, :, :]).max(axis=2) + np.eye(len(texts))
    assert apart.min() > NEAR, "the texts cannot be told apart"

    async def half_way() -> int:
        await asyncio.sleep(SECONDS / 2)
        return await asyncio.to_thread(card_memory)

    async def both() -> tuple[int, Soak, list[tuple[float, int]]]:
        memory = asyncio.create_task(half_way())
        soak, watched = await soaked(plugin, texts, vectors, NEAR)
        return await memory, soak, watched

    card_before, soak, watched = asyncio.run(both())
    card_after = card_memory()
    first, second = halves(watched)
    with capsys.disabled():
        print("\nsoak:", ", ".join(f"{what} {count}" for what, count in sorted(soak.seen.items())))
        print(f"host: {first / 2**20:.0f} MiB, then {second / 2**20:.0f} MiB; ", end="")
        print(f"card: {card_before / 2**20:.0f} MiB, then {card_after / 2**20:.0f} MiB")
    assert soak.wrong == []
    for what in ("text answered", "batch answered", "stream answered", "text cancelled", "batch cancelled", "health"):
        assert soak.seen[what], what
    assert second - first < GROWTH
    assert card_after - card_before < CARD_GROWTH
    assert "event=bug" not in plugin.stderr()
