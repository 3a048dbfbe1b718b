"""embed_st over a socket on its real model, beside SentenceTransformer itself as the oracle."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import grpc
import hector_plugins_pb2 as pb
import hector_plugins_pb2_grpc as rpc
import numpy as np
import pytest
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from sentence_transformers import SentenceTransformer

from plugins.embed_st.engine import Engine
from plugins.embed_st.engine.models import locate
from plugins.embed_st.servicer import Servicer
from shared.errors import TooLarge
from tests.servers import Plugin, start_plugin

MODEL = "sentence-transformers/all-MiniLM-L6-v2"


@pytest.fixture(scope="module")
def plugin() -> Iterator[Plugin]:
    with start_plugin("plugins.embed_st", "--device", "cpu") as plugin:
        yield plugin


@pytest.fixture(scope="module")
def stub(plugin: Plugin) -> rpc.EmbedderProviderStub:
    return rpc.EmbedderProviderStub(plugin.channel())


@pytest.fixture(scope="module")
def oracle() -> Any:
    return SentenceTransformer(locate(MODEL, ""), device="cpu")


def info(reply: Any) -> error_details_pb2.ErrorInfo:
    found = error_details_pb2.ErrorInfo()
    assert reply.status.details[0].Unpack(found)
    return found


def test_text(stub: rpc.EmbedderProviderStub, oracle: Any) -> None:
    """A text's vector is what SentenceTransformer.encode gives, within 1e-6."""
    reply = stub.EmbedText(pb.EmbedTextRequest(text="What survives a power cut?"))
    assert reply.success
    assert reply.model == MODEL
    assert np.abs(np.array(reply.vector) - oracle.encode("What survives a power cut?")).max() < 1e-6


def test_batch(stub: rpc.EmbedderProviderStub, oracle: Any) -> None:
    """A batch has the order and length of its texts, and their vectors, within 1e-6."""
    texts = [f"sentence number {n} " + "and so on " * (n % 7) for n in range(70)] + ["emoji 😀 and NUL \0 too", "x"]
    reply = stub.EmbedBatch(pb.EmbedBatchRequest(texts=texts))
    assert len(reply.embeddings) == len(texts)
    assert np.abs(np.array([one.vector for one in reply.embeddings]) - oracle.encode(texts)).max() < 1e-6
    assert reply.total_tokens == sum(one.tokens for one in reply.embeddings)


def test_no_texts(stub: rpc.EmbedderProviderStub) -> None:
    """No texts: success, and no embeddings."""
    reply = stub.EmbedBatch(pb.EmbedBatchRequest())
    assert reply.success
    assert not reply.embeddings


def test_dimensions(stub: rpc.EmbedderProviderStub) -> None:
    """GetDimensions names the model, the length of its vectors, and those it was trained to be cut to."""
    reply = stub.GetDimensions(pb.GetDimensionsRequest())
    assert (reply.success, reply.dimensions, reply.model) == (True, 384, MODEL)
    assert list(reply.supported_dimensions) == [384]


def test_tokens_and_truncated(stub: rpc.EmbedderProviderStub, oracle: Any) -> None:
    """The 256th token is read and the 257th is cut off, and both texts say so; the tokens are the tokenizer's."""
    fits, cut = "word " * 254, "word " * 255  # and two special ones
    reply = stub.EmbedBatch(pb.EmbedBatchRequest(texts=[fits, cut, "three little words"]))
    assert [(one.tokens, one.truncated) for one in reply.embeddings] == [(256, False), (256, True), (5, False)]
    assert reply.embeddings[0].vector == reply.embeddings[1].vector


def test_truncate_error(stub: rpc.EmbedderProviderStub) -> None:
    """With TRUNCATE_ERROR a text that is too long is refused by name."""
    options = pb.EmbedOptions(truncate=pb.TRUNCATE_ERROR)
    reply = stub.EmbedBatch(pb.EmbedBatchRequest(texts=["ok", "word " * 300], options=options))
    assert not reply.success
    assert info(reply).reason == "TEXT_TOO_LONG"
    assert "texts[1]" in reply.error


def test_a_megabyte(stub: rpc.EmbedderProviderStub) -> None:
    """A text of 1 MB is embedded, cut."""
    reply = stub.EmbedText(pb.EmbedTextRequest(text="lorem ipsum " * 90_000), timeout=60)
    assert (reply.success, reply.truncated, reply.tokens) == (True, True, 256)


def test_options(stub: rpc.EmbedderProviderStub, oracle: Any) -> None:
    """`dimensions` gives the normalised head of the vector; input types and normalize=true change nothing here."""
    whole = oracle.encode("a question")
    options = pb.EmbedOptions(dimensions=64, input_type=pb.INPUT_TYPE_QUERY, truncate=pb.TRUNCATE_RIGHT)
    reply = stub.EmbedText(pb.EmbedTextRequest(text="a question", options=options))
    assert np.array(reply.vector) == pytest.approx(whole[:64] / np.linalg.norm(whole[:64]), abs=1e-6)
    options = pb.EmbedOptions(normalize=True, input_type=pb.INPUT_TYPE_DOCUMENT)
    reply = stub.EmbedText(pb.EmbedTextRequest(text="a question", options=options))
    assert np.array(reply.vector) == pytest.approx(whole, abs=1e-6)


@pytest.mark.parametrize(
    ("text", "options", "code", "reason"),
    [
        ("", {}, 3, "BLANK_TEXT"),
        (" \n", {}, 3, "BLANK_TEXT"),
        ("x", {"dimensions": 385}, 3, "BAD_DIMENSIONS"),
        ("x", {"prompt_name": "nope"}, 3, "UNKNOWN_PROMPT"),
        ("x", {"input_type": 9}, 3, "INVALID_ARGUMENT"),
        ("x", {"truncate": 9}, 3, "INVALID_ARGUMENT"),
        ("x", {"long_text": 9}, 3, "INVALID_ARGUMENT"),
        ("x", {"normalize": False}, 12, "UNSUPPORTED"),
        ("x", {"truncate": pb.TRUNCATE_LEFT}, 12, "UNSUPPORTED"),
        ("x", {"long_text": pb.LONG_TEXT_CHUNK_MEAN}, 12, "UNSUPPORTED"),
    ],
)
def test_refused(stub: rpc.EmbedderProviderStub, text: str, options: dict[str, Any], code: int, reason: str) -> None:
    """What cannot be done is success=false with code and reason, and the same from a batch."""
    chosen = pb.EmbedOptions(**options)
    single = stub.EmbedText(pb.EmbedTextRequest(text=text, options=chosen))
    batch = stub.EmbedBatch(pb.EmbedBatchRequest(texts=["fine", text], options=chosen))
    for reply in (single, batch):
        assert (reply.success, reply.status.code, info(reply).reason) == (False, code, reason)
        assert reply.error
    assert not batch.embeddings


def test_a_single_text_is_named_by_its_own_field(stub: rpc.EmbedderProviderStub) -> None:
    """An error of EmbedText names `text`, the field that it has, and not a place in a list."""
    strict = pb.EmbedOptions(truncate=pb.TRUNCATE_ERROR)
    for request in (pb.EmbedTextRequest(), pb.EmbedTextRequest(text="word " * 300, options=strict)):
        reply = stub.EmbedText(request)
        bad = error_details_pb2.BadRequest()
        assert reply.status.details[1].Unpack(bad)
        assert [violation.field for violation in bad.field_violations] == ["text"]
        assert reply.error.startswith("text ")


def test_allow_partial(stub: rpc.EmbedderProviderStub) -> None:
    """allow_partial is refused, not ignored."""
    reply = stub.EmbedBatch(pb.EmbedBatchRequest(texts=["a"], allow_partial=True))
    assert (reply.success, reply.status.code) == (False, 12)


def test_any_length_up_to_the_native_one(stub: rpc.EmbedderProviderStub) -> None:
    """`dimensions` takes any length up to the native one, trained for or not."""
    for length in (1, 100, 384):
        reply = stub.EmbedText(pb.EmbedTextRequest(text="x", options=pb.EmbedOptions(dimensions=length)))
        assert len(reply.vector) == length


def test_additions(stub: rpc.EmbedderProviderStub) -> None:
    """The calls beyond the guide's three are UNIMPLEMENTED."""
    for call in (
        lambda: stub.GetModelInfo(pb.GetModelInfoRequest()),
        lambda: stub.CountTokens(pb.CountTokensRequest()),
        lambda: list(stub.EmbedStream(iter([pb.EmbedStreamRequest(text="x")]))),
    ):
        with pytest.raises(grpc.RpcError) as caught:
            call()
        assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_reply_too_large(stub: rpc.EmbedderProviderStub) -> None:
    """A reply past 4 MiB is refused with a way out."""
    with pytest.raises(grpc.RpcError, match="send fewer texts at once") as caught:
        stub.EmbedBatch(pb.EmbedBatchRequest(texts=["x"] * 3000), timeout=120)
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_reply_too_large_is_seen_beforehand() -> None:
    """A batch whose vectors cannot fit the reply is refused before the model runs; one that just fits is not."""

    class Counting:
        model, dimensions = "letters", 8
        batches = 0

        async def embed(self, texts: Any, options: Any) -> list[Any]:
            self.batches += 1
            return []

    engine: Any = Counting()
    servicer = Servicer(engine, max_reply_bytes=320)
    for count, dimensions, fits in ((10, 0, True), (11, 0, False), (20, 4, True), (21, 4, False), (11, 99, False)):
        request = pb.EmbedBatchRequest(texts=["x"] * count, options=pb.EmbedOptions(dimensions=dimensions))
        before = engine.batches
        if fits:
            asyncio.run(servicer.EmbedBatch(request, SimpleNamespace()))  # type: ignore[arg-type]
        else:
            with pytest.raises(TooLarge, match="max_reply_bytes of 320: send fewer texts at once"):
                asyncio.run(servicer.EmbedBatch(request, SimpleNamespace()))  # type: ignore[arg-type]
        assert engine.batches == before + fits


def test_health_while_busy(plugin: Plugin, stub: rpc.EmbedderProviderStub) -> None:
    """Health and a short call are answered while a long batch runs; a bulk call that is cancelled stops."""
    health = health_pb2_grpc.HealthStub(plugin.channel())
    bulk = stub.EmbedBatch.future(pb.EmbedBatchRequest(texts=["a long text " * 50] * 2000), timeout=300)
    try:
        for _ in range(20):
            assert health.Check(health_pb2.HealthCheckRequest(service=""), timeout=5).status == 1
        assert stub.EmbedText(pb.EmbedTextRequest(text="short"), timeout=30).success
        assert not bulk.done()
    finally:
        bulk.cancel()
    assert stub.EmbedText(pb.EmbedTextRequest(text="short"), timeout=30).success


def test_direct_call() -> None:
    """The servicer can be called without a server, as the guide's unit test does."""
    engine = Engine(MODEL, device="cpu")
    engine.open()
    request = pb.EmbedTextRequest(text="Hello, world!")
    reply = asyncio.run(Servicer(engine, max_reply_bytes=4 * 2**20).EmbedText(request, SimpleNamespace()))  # type: ignore[arg-type]
    assert reply.success
    assert len(reply.vector) == 384
    engine.close()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--model", "./no-such-folder"), "there is no folder ./no-such-folder"),
        (("--model", "tests"), "model tests could not be loaded"),
        (("--backend", "tensorflow"), "must be one of auto, torch"),
    ],
)
def test_start_refused(options: tuple[str, str], words: str) -> None:
    """A model or backend that cannot be had is one line on stderr and exit status 2."""
    with start_plugin("plugins.embed_st", *options, wait="nothing") as plugin:
        assert plugin.wait(60) == 2
        lines = [line for line in plugin.stderr().splitlines() if line.startswith("error: ")]
        assert len(lines) == 1
        assert words in lines[0]
        assert "Traceback" not in plugin.stderr()
