"""embed_st over a socket beside SentenceTransformer: every option, on every backend (all but one of them slow).

The vectors of each backend are held to `TOLERANCES` by cosine, text by text; in fp32 also each number within 1e-5.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import hector_plugins_pb2 as pb
import hector_plugins_pb2_grpc as rpc
import numpy as np
import pytest
from sentence_transformers import SentenceTransformer

from plugins.embed_st.engine import Engine
from plugins.embed_st.engine.models import locate
from tests.embed_models import TEXTS, tiny
from tests.embed_wire import REAL, check, said, serving, unit, ways
from tests.servers import details, start_plugin

Stub = rpc.EmbedderProviderStub
# A token each, so that a text can be cut without a tokenizer.
WORDS = ["cat", "river", "stone", "green", "letter", "music", "seven", "window", "bread", "north"]


@dataclass
class Beside:
    """A running embedder and the library itself on the same model."""

    stub: Stub
    oracle: Any
    backend: str
    precision: str

    def encode(self, texts: list[str], **more: Any) -> Any:
        return self.oracle.encode(texts, show_progress_bar=False, **more)

    def embed(self, text: str, **options: Any) -> Any:
        reply = self.stub.EmbedText(pb.EmbedTextRequest(text=text, options=pb.EmbedOptions(**options)), timeout=60)
        assert said(reply), reply.error
        return reply

    def check(self, found: Any, expected: Any, what: str = "") -> None:
        check(found, expected, self.precision, what)


@pytest.fixture(scope="module", params=ways())
def real(request: pytest.FixtureRequest) -> Iterator[Beside]:
    """all-MiniLM-L6-v2 in a process of its own."""
    backend, precision = request.param
    oracle = SentenceTransformer(locate(REAL, ""), device="cpu")
    options = ("--backend", backend, "--precision", precision, "--device", "cpu")
    with start_plugin("plugins.embed_st", *options) as plugin:
        yield Beside(Stub(plugin.channel()), oracle, backend, precision)


def words(count: int, start: int = 0) -> str:
    """The words from `start` to `count` of an endless text."""
    return " ".join(WORDS[(place * place + place // 7) % len(WORDS)] for place in range(start, count))


@pytest.mark.slow
def test_text(real: Beside) -> None:
    """A text's vector is SentenceTransformer.encode's, whatever the text."""
    for text, expected in zip(TEXTS, real.encode(TEXTS), strict=True):
        reply = real.embed(text)
        assert reply.model == REAL
        real.check(reply.vector, expected, text[:40])


@pytest.mark.slow
def test_batch(real: Beside) -> None:
    """A batch has its texts' vectors, in their order, whatever they are padded with."""
    texts = [f"sentence number {n} " + "and so on " * (n % 17) for n in range(120)] + TEXTS
    reply = real.stub.EmbedBatch(pb.EmbedBatchRequest(texts=texts), timeout=60)
    assert said(reply)
    real.check([one.vector for one in reply.embeddings], real.encode(texts))


def test_stream(real: Beside) -> None:
    """So has a stream."""
    requests = [pb.EmbedStreamRequest(id=str(place), text=text) for place, text in enumerate(TEXTS)]
    answers = list(real.stub.EmbedStream(iter(requests), timeout=60))
    assert [answer.id for answer in answers] == [request.id for request in requests]
    real.check([answer.embedding.vector for answer in answers], real.encode(TEXTS))


def test_tokens(real: Beside) -> None:
    """Tokens are the library's, counted whole by CountTokens, and up to 256 of them are read; a 257th is cut off, and
    the text says so."""
    texts = [*TEXTS, "word " * 254, "word " * 255]
    whole = [len(real.oracle.tokenizer(text, truncation=False, verbose=False)["input_ids"]) for text in texts]
    assert whole[-2:] == [256, 257]
    counted = real.stub.CountTokens(pb.CountTokensRequest(texts=texts))
    assert (said(counted), list(counted.tokens)) == (True, whole)
    reply = real.stub.EmbedBatch(pb.EmbedBatchRequest(texts=texts))
    assert [one.tokens for one in reply.embeddings] == [min(256, count) for count in whole]
    assert [one.truncated for one in reply.embeddings] == [count > 256 for count in whole]
    assert reply.total_tokens == sum(min(256, count) for count in whole)
    real.check(reply.embeddings[-1].vector, reply.embeddings[-2].vector)


def test_dimensions(real: Beside) -> None:
    """`dimensions` gives the head of the vector, of length 1, as truncate_dim with normalize_embeddings does."""
    for length in (1, 64, 383, 384):
        reply = real.embed("a question", dimensions=length)
        expected = real.encode(["a question"], truncate_dim=length, normalize_embeddings=True)
        real.check(reply.vector, expected, str(length))
        assert np.linalg.norm(reply.vector) == pytest.approx(1, abs=1e-5)


def test_options_that_change_nothing_here(real: Beside) -> None:
    """Without prompts of its own the model embeds a query and a document alike; normalize=true changes nothing."""
    expected = real.encode(["a question"])
    for options in (
        {"input_type": pb.INPUT_TYPE_QUERY},
        {"input_type": pb.INPUT_TYPE_DOCUMENT},
        {"normalize": True},
        {"truncate": pb.TRUNCATE_RIGHT},
        {"truncate": pb.TRUNCATE_ERROR},
        {"long_text": pb.LONG_TEXT_CHUNK_MEAN},
    ):
        real.check(real.embed("a question", **options).vector, expected, str(options))


def test_cut_on_the_right(real: Beside) -> None:
    """A text of a thousand words has the vector of its first 254, by default and with TRUNCATE_RIGHT."""
    for options in ({}, {"truncate": pb.TRUNCATE_RIGHT}):
        reply = real.embed(words(1000), **options)
        assert (reply.truncated, reply.tokens) == (True, 256)
        real.check(reply.vector, real.encode([words(254)]))


def test_cut_on_the_left(real: Beside) -> None:
    """With TRUNCATE_LEFT it has that of its last 254; with TRUNCATE_ERROR it is refused by its field."""
    reply = real.embed(words(1000), truncate=pb.TRUNCATE_LEFT)
    assert (reply.truncated, reply.tokens) == (True, 256)
    real.check(reply.vector, real.encode([words(1000, 746)]))
    strict = pb.EmbedOptions(truncate=pb.TRUNCATE_ERROR)
    refused = real.stub.EmbedBatch(pb.EmbedBatchRequest(texts=["fits", words(1000)], options=strict))
    assert (refused.success, details(refused.status).reason) == (False, "TEXT_TOO_LONG")
    assert "texts[1] has more than the 256 tokens" in refused.error


def test_chunk_mean(real: Beside) -> None:
    """With LONG_TEXT_CHUNK_MEAN it has the mean of its parts' vectors, brought to length 1, and nothing is cut."""
    reply = real.embed(words(1000), long_text=pb.LONG_TEXT_CHUNK_MEAN)
    assert (reply.truncated, reply.tokens) == (False, 1000 + 4 * 2)
    parts = real.encode([words(250 * part + 250, 250 * part) for part in range(4)])
    real.check(reply.vector, unit(parts.mean(axis=0)))
    short = real.embed(words(1000), long_text=pb.LONG_TEXT_CHUNK_MEAN, dimensions=32)
    real.check(short.vector, unit(parts.mean(axis=0)[:32]))


def test_model_info(real: Beside) -> None:
    """GetModelInfo says which model is served and how, and GetDimensions agrees."""
    reply = real.stub.GetModelInfo(pb.GetModelInfoRequest())
    assert said(reply)
    assert (reply.backend, reply.precision) == (real.backend, real.precision)
    assert (reply.model, reply.dimensions, reply.max_tokens, dict(reply.prompts)) == (REAL, 384, 256, {})
    assert reply.sha256 == "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
    dimensions = real.stub.GetDimensions(pb.GetDimensionsRequest())
    assert said(dimensions)
    assert (dimensions.dimensions, list(dimensions.supported_dimensions), dimensions.model) == (384, [384], REAL)


def test_a_megabyte(real: Beside) -> None:
    """A text of a megabyte is embedded, cut, and has the vector of its beginning."""
    text = words(200_000)
    assert len(text) > 1_000_000
    reply = real.embed(text)
    assert (reply.truncated, reply.tokens) == (True, 256)
    real.check(reply.vector, real.encode([words(254)]))


@pytest.mark.slow
def test_ten_thousand_texts(real: Beside) -> None:
    """Ten thousand texts are refused in one call, by the size of its reply, and come through a stream in order."""
    texts = [f"{number} {WORDS[number % 10]}" for number in range(10_000)]
    with pytest.raises(Exception, match="15360000 bytes"):
        real.stub.EmbedBatch(pb.EmbedBatchRequest(texts=texts), timeout=60)
    answers = list(real.stub.EmbedStream((pb.EmbedStreamRequest(text=text) for text in texts), timeout=600))
    assert len(answers) == 10_000
    some = list(range(0, 10_000, 97))
    real.check([answers[place].embedding.vector for place in some], real.encode([texts[place] for place in some]))


# ---------------------------------------------------------------- tiny models: prompts, and vectors of any length


def beside(path: Path, backend: str, precision: str) -> Iterator[Beside]:
    engine = Engine(str(path), backend=backend, precision=precision, device="cpu", cache_home=path.parent)
    engine.open()
    with serving(engine) as server:
        yield Beside(Stub(server.channel()), SentenceTransformer(str(path), device="cpu"), backend, precision)
    engine.close()


# Random weights are not for int8: its drift is past the tolerance.
TINY = ways(("torch", "fp32"), without=["int8"])


@pytest.fixture(scope="module", params=TINY)
def prompted(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Beside]:
    prompts = {"query": "search: ", "document": "the text: ", "other": "a power cut, "}
    path = tiny(tmp_path_factory.mktemp("prompted"), prompts=prompts, default_prompt="other")
    yield from beside(path, *request.param)


@pytest.fixture(scope="module", params=TINY)
def raw(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Beside]:
    path = tiny(tmp_path_factory.mktemp("raw"), normalize=False)
    yield from beside(path, *request.param)


def test_prompts(prompted: Beside) -> None:
    """Each input type and prompt name puts the prompt before a text that the library would; a name wins over a type;
    and GetModelInfo lists them."""
    text = "what survives"
    for options, expected in (
        ({}, prompted.encode([text])),
        ({"input_type": pb.INPUT_TYPE_UNSPECIFIED}, prompted.encode([text], prompt_name="other")),
        ({"input_type": pb.INPUT_TYPE_QUERY}, prompted.oracle.encode_query([text])),
        ({"input_type": pb.INPUT_TYPE_DOCUMENT}, prompted.oracle.encode_document([text])),
        ({"prompt_name": "query"}, prompted.encode([text], prompt_name="query")),
        ({"prompt_name": "other", "input_type": pb.INPUT_TYPE_QUERY}, prompted.encode([text], prompt_name="other")),
    ):
        prompted.check(prompted.embed(text, **options).vector, expected, str(options))
    prompts = dict(prompted.stub.GetModelInfo(pb.GetModelInfoRequest()).prompts)
    assert prompts == {"query": "search: ", "document": "the text: ", "other": "a power cut, "}


def test_the_prompts_tell_texts_apart(prompted: Beside) -> None:
    """What the test above compares is not the same for all prompts."""
    found = [prompted.embed("what survives", prompt_name=name).vector for name in ("query", "document", "other")]
    distances = [np.abs(np.array(one) - np.array(other)).max() for one, other in pairwise(found)]
    assert min(distances) > 0.01


def test_a_prompt_that_fills_the_model(prompted: Beside) -> None:
    """A long text is cut behind its prompt, and cut on the left it keeps it; tokens count the prompt."""
    text = "a text of the rest " * 40
    library = prompted.oracle.tokenizer
    whole = len(library("a power cut, " + text, truncation=False, verbose=False)["input_ids"])
    assert list(prompted.stub.CountTokens(pb.CountTokensRequest(texts=[text])).tokens) == [whole]
    right = prompted.embed(text, input_type=pb.INPUT_TYPE_QUERY)
    assert (right.truncated, right.tokens) == (True, 24)
    prompted.check(right.vector, prompted.oracle.encode_query([text]))
    # 24 tokens: two special ones, two of the prompt, and the last twenty words of the text, which are a token each.
    left = prompted.embed(text, input_type=pb.INPUT_TYPE_QUERY, truncate=pb.TRUNCATE_LEFT)
    assert (left.truncated, left.tokens) == (True, 24)
    prompted.check(left.vector, prompted.oracle.encode_query([" ".join(text.split()[-20:])]))


def test_normalize(raw: Beside) -> None:
    """Of a model that does not normalise, `normalize` unset and false give vectors as they are, and true those of
    length 1; cut to fewer dimensions they have length 1 unless it is false."""
    texts = ["cat", "a power cut", "of the rest"]
    assert np.abs(np.linalg.norm(raw.encode(texts), axis=1) - 1).min() > 0.1
    for normalize in (None, False, True):
        for dimensions in (0, 5, 32):
            options = pb.EmbedOptions(normalize=normalize, dimensions=dimensions)
            reply = raw.stub.EmbedBatch(pb.EmbedBatchRequest(texts=texts, options=options))
            assert said(reply)
            again = normalize is True or (normalize is None and dimensions == 5)
            expected = raw.encode(texts, truncate_dim=dimensions or None, normalize_embeddings=again)
            raw.check([one.vector for one in reply.embeddings], expected, str(options))


def test_the_mean_of_raw_vectors(raw: Beside) -> None:
    """With LONG_TEXT_CHUNK_MEAN a model that does not normalise has the mean as it is."""
    text = " ".join(["what", "a", "power", "text", "of", "the", "rest"] * 7)[: -len(" of the rest")]  # 46 words
    assert len(text.split()) == 46
    reply = raw.embed(text, long_text=pb.LONG_TEXT_CHUNK_MEAN)
    parts = [" ".join(part) for part in np.array_split(text.split(), [15, 31])]
    assert reply.tokens == 46 + 3 * 2
    raw.check(reply.vector, raw.encode(parts).mean(axis=0))
