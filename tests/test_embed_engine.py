"""embed_st's engine with a backend that needs no model: order, turns, cutting, what is refused."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Mapping, Sequence

import numpy as np
import pytest

from plugins.embed_st.engine import Embedding, Engine, Options, Overflow
from plugins.embed_st.engine.backend import Floats
from shared.errors import InvalidArgument, Unsupported


class LettersBackend:
    """A text's vector counts the letters a to h of it; a token is a word."""

    dimensions = 8
    max_tokens = 5
    normalizes = False
    prompts: Mapping[str, str] = {"query": "a: "}
    default_prompt = ""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self.threads: set[str] = set()
        self.started = threading.Event()
        self.gate = threading.Event()
        self.gate.set()

    def tokens(self, texts: Sequence[str]) -> list[int]:
        return [min(len(text.split()), self.max_tokens + 1) for text in texts]

    def encode(self, texts: Sequence[str], batch_size: int) -> Floats:
        assert self.gate.wait(10)
        self.batches.append(list(texts))
        self.started.set()
        self.threads.add(threading.current_thread().name)
        return np.array([[text.count(letter) for letter in "abcdefgh"] for text in texts], dtype=np.float32)


@pytest.fixture
def backend() -> LettersBackend:
    return LettersBackend()


@pytest.fixture
def engine(backend: LettersBackend) -> Engine:
    engine = Engine("letters", batch_size=4)
    engine._backend = backend
    return engine


def embed(engine: Engine, texts: Sequence[str], options: Options | None = None) -> list[Embedding]:
    return asyncio.run(engine.embed(texts, options or Options()))


def test_order(engine: Engine, backend: LettersBackend) -> None:
    """Embeddings come in the order of the texts, though the model sees texts of like length together."""
    texts = ["a" * count for count in (9, 1, 8, 2, 7, 3, 6, 4, 5, 10)]
    assert [embedding.vector[0] for embedding in embed(engine, texts)] == [len(text) for text in texts]
    assert [[len(text) for text in batch] for batch in backend.batches] == [[1, 2, 3, 4], [5, 6, 7, 8], [9, 10]]


def test_no_texts(engine: Engine) -> None:
    """No texts give no embeddings."""
    assert embed(engine, []) == []


@pytest.mark.parametrize("blank", ["", " ", "\t\n", "\u3000"])
def test_blank(engine: Engine, backend: LettersBackend, blank: str) -> None:
    """Every blank text is named and nothing is embedded."""
    with pytest.raises(InvalidArgument, match=r"texts\[1\] is blank \(and 1 more\)") as caught:
        embed(engine, ["a", blank, "b", blank])
    assert [field for field, _ in caught.value.violations] == ["texts[1]", "texts[3]"]
    assert caught.value.reason == "BLANK_TEXT"
    assert backend.batches == []


def test_truncated(engine: Engine) -> None:
    """A text of more tokens than the model reads says so, with the number that was read; another does not."""
    long, short = embed(engine, ["a b c d e f g", "a b c d e"])
    assert (long.truncated, long.tokens) == (True, 5)
    assert (short.truncated, short.tokens) == (False, 5)


def test_overflow_error(engine: Engine) -> None:
    """With Overflow.ERROR a text that is too long is named by its place in the request."""
    with pytest.raises(InvalidArgument, match=r"texts\[0\] has more than the 5 tokens") as caught:
        embed(engine, ["a b c d e f", "a"], Options(overflow=Overflow.ERROR))
    assert caught.value.reason == "TEXT_TOO_LONG"


def test_dimensions_cut_and_normalise(engine: Engine) -> None:
    """A vector that is cut has the length asked for and norm 1, and is the head of the whole one."""
    whole = embed(engine, ["aabbbccc"])[0].vector
    cut = embed(engine, ["aabbbccc"], Options(dimensions=2))[0].vector
    assert cut == pytest.approx(whole[:2] / np.linalg.norm(whole[:2]))


def test_dimensions_without_normalising(engine: Engine) -> None:
    """normalize=False leaves a cut vector's numbers as they were."""
    assert embed(engine, ["aab"], Options(dimensions=2, normalize=False))[0].vector.tolist() == [2, 1]


def test_all_of_the_dimensions(engine: Engine) -> None:
    """Asking for all the dimensions there are changes nothing."""
    assert embed(engine, ["aab"], Options(dimensions=8))[0].vector.tolist() == [2, 1, 0, 0, 0, 0, 0, 0]


def test_normalize(engine: Engine) -> None:
    """normalize=True gives norm 1, and leaves a vector of zeros alone."""
    one, zero = embed(engine, ["aab", "z"], Options(normalize=True))
    assert np.linalg.norm(one.vector) == pytest.approx(1)
    assert not zero.vector.any()


def test_too_many_dimensions(engine: Engine) -> None:
    """More dimensions than the model has are an error that says how many it has."""
    with pytest.raises(InvalidArgument, match="letters gives 8 dimensions, not 9"):
        embed(engine, ["a"], Options(dimensions=9))


def test_not_normalising_a_normaliser(engine: Engine, backend: LettersBackend) -> None:
    """A model that normalises its vectors itself cannot be told not to."""
    backend.normalizes = True
    with pytest.raises(Unsupported, match="normalises"):
        embed(engine, ["a"], Options(normalize=False))


def test_prompts(engine: Engine, backend: LettersBackend) -> None:
    """The prompt that was named stands before each text; document is none where the model has none."""
    embed(engine, ["x"], Options(prompt="query"))
    embed(engine, ["x"], Options(prompt="document"))
    assert backend.batches == [["a: x"], ["x"]]


def test_the_default_prompt(engine: Engine, backend: LettersBackend) -> None:
    """The model's default prompt stands before a text of which nothing is said, and before no other."""
    backend.default_prompt = "d: "
    for prompt in ("", "query", "document"):
        embed(engine, ["x"], Options(prompt=prompt))
    assert backend.batches == [["d: x"], ["a: x"], ["x"]]


def test_unknown_prompt(engine: Engine) -> None:
    """A prompt that the model does not have is an error that names those it has."""
    with pytest.raises(InvalidArgument, match=r"no prompt 'quary'; it has query"):
        embed(engine, ["a"], Options(prompt="quary"))


def test_turns(engine: Engine, backend: LettersBackend) -> None:
    """A short call goes between two batches of a bulk call, on the one thread that runs the model."""

    async def both() -> None:
        bulk = asyncio.create_task(engine.embed(["aa"] * 40, Options()))
        await asyncio.to_thread(backend.started.wait, 10)
        await engine.embed(["b"], Options())
        await bulk

    asyncio.run(both())
    assert backend.batches.index(["b"]) <= 4
    assert len(backend.threads) == 1


def test_cancelled(engine: Engine, backend: LettersBackend) -> None:
    """A call that is cancelled costs no more than the batch under way."""

    async def cancel() -> None:
        backend.gate.clear()
        bulk = asyncio.create_task(engine.embed(["aa"] * 400, Options()))
        await asyncio.sleep(0)
        bulk.cancel()
        backend.gate.set()
        with pytest.raises(asyncio.CancelledError):
            await bulk
        await engine.embed(["b"], Options())

    asyncio.run(cancel())
    assert len(backend.batches) <= 2
