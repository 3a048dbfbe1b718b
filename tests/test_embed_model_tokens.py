"""embed_st's tokens: those that sentence-transformers feeds the model, what is cut, and the pieces of a long text."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from sentence_transformers import SentenceTransformer
from tokenizers import models, pre_tokenizers, processors

from plugins.embed_st.engine.backends import padded
from plugins.embed_st.engine.facts import ModelFacts
from plugins.embed_st.engine.models import find
from plugins.embed_st.engine.tokenizer import Tokenizer, Tokens
from tests.embed_models import TEXTS, tiny

REAL = find("sentence-transformers/all-MiniLM-L6-v2", "").folder


@pytest.fixture(scope="module")
def oracle() -> Any:
    return SentenceTransformer(str(REAL))


@pytest.fixture(scope="module")
def real() -> Tokenizer:
    return Tokenizer.load(REAL / "tokenizer.json", 256)


@pytest.fixture
def words() -> Tokenizer:
    """Token n is the word n; 0 stands before a text, 1 after it; 8 tokens fit."""
    vocabulary = {str(number): number for number in range(100)} | {"?": 100}
    tokenizer = tokenizers.Tokenizer(models.WordLevel(vocabulary, unk_token="?"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.post_processor = processors.TemplateProcessing(single="0 $A 1", special_tokens=[("0", 0), ("1", 1)])
    return Tokenizer(tokenizer, 8)


def numbers(start: int, end: int) -> str:
    return " ".join(map(str, range(start, end)))


def ids(tokens: Tokens) -> list[int]:
    found: list[int] = tokens.ids.tolist()
    return found


@pytest.mark.parametrize("prompt", ["", "query: ", "a"])
def test_as_the_library_feeds_the_model(oracle: Any, real: Tokenizer, prompt: str) -> None:
    """Ids are those of the library, whatever the text and its prompt, where a text fits and where it is cut."""
    for text, tokens in zip(TEXTS, real.encode(TEXTS, prompt), strict=True):
        assert ids(tokens) == oracle.preprocess([text], prompt=prompt)["input_ids"][0].tolist()


@settings(max_examples=60, deadline=None)
@given(text=st.text(st.characters(exclude_categories=["Cs"]), max_size=600), prompt=st.sampled_from(["", "find: "]))
def test_any_text(oracle: Any, real: Tokenizer, text: str, prompt: str) -> None:
    """Any text has the library's ids, and as many tokens as it would have without the cut."""
    (tokens,) = real.encode([text], prompt)
    assert ids(tokens) == oracle.preprocess([text], prompt=prompt)["input_ids"][0].tolist()
    whole = oracle.tokenizer(prompt + text, truncation=False, verbose=False)["input_ids"]
    assert tokens.count == len(whole) == real.count([text], prompt)[0]
    assert tokens.truncated == (len(whole) > 256)


def test_lower_case(tmp_path: Path) -> None:
    """A model that lowers the case of a text by its own setting, not its tokenizer's, has its texts lowered."""
    from plugins.embed_st.engine.backends.pytorch import Torch

    path = tiny(tmp_path, lower_case=True)
    tokenizer = Torch(path, name="tiny", sha256="").tokenizer
    tokenizer.save(tmp_path / "tokenizer.json")
    for each in (tokenizer, Tokenizer.load(tmp_path / "tokenizer.json", 24)):
        upper, lower = each.encode(["WHAT survives", "what survives"])
        assert ids(upper) == ids(lower)


def test_cut_on_the_right(words: Tokenizer) -> None:
    """A text that is too long keeps its beginning, and says how many tokens it had."""
    (tokens,) = words.encode([numbers(10, 20)])
    assert (ids(tokens), tokens.count, tokens.truncated) == ([0, 10, 11, 12, 13, 14, 15, 1], 12, True)


def test_cut_on_the_left(words: Tokenizer) -> None:
    """Cut on the left, a text keeps its end, and the prompt before it."""
    (tokens,) = words.encode([numbers(10, 20)], cut="left")
    assert (ids(tokens), tokens.count) == ([0, 14, 15, 16, 17, 18, 19, 1], 12)
    (tokens,) = words.encode([numbers(10, 20)], "7 8 ", cut="left")
    assert (ids(tokens), tokens.count) == ([0, 7, 8, 16, 17, 18, 19, 1], 14)


@pytest.mark.parametrize("cut", ["left", "right"])
def test_just_fits(words: Tokenizer, cut: Any) -> None:
    """A text of exactly as many tokens as the model reads is not cut."""
    (tokens,) = words.encode([numbers(10, 16)], cut=cut)
    assert (ids(tokens), tokens.count, tokens.truncated) == ([0, 10, 11, 12, 13, 14, 15, 1], 8, False)


def test_nothing(words: Tokenizer) -> None:
    """A text without tokens is the special ones alone; no texts are none."""
    (tokens,) = words.encode([" "])
    assert (ids(tokens), tokens.count) == ([0, 1], 2)
    assert words.encode([]) == []
    assert words.count([]) == []


@pytest.mark.parametrize("prompt", ["", "7 8 "])
@pytest.mark.parametrize("length", [0, 1, 4, 5, 6, 7, 12, 13, 80])
def test_windows(words: Tokenizer, length: int, prompt: str) -> None:
    """The windows of a text hold each of its tokens once and in order, fit, and are of one length but for one token."""
    windows = words.windows(numbers(10, 10 + length), prompt)
    head = [0, *(map(int, prompt.split()))]
    bodies = []
    for window in windows:
        assert ids(window)[: len(head)] == head
        assert ids(window)[-1] == 1
        assert len(window.ids) == window.count <= 8
        bodies.append(ids(window)[len(head) : -1])
    assert [one for body in bodies for one in body] == list(range(10, 10 + length))
    assert max(map(len, bodies)) - min(map(len, bodies)) <= 1
    assert len(windows) == max(1, -(-length // (7 - len(head))))


def test_a_prompt_longer_than_the_model(words: Tokenizer) -> None:
    """A prompt that fills the model leaves a place for the text in every window, and what is cut still fits."""
    prompt = numbers(50, 70) + " "
    for tokens in (*words.windows(numbers(10, 13), prompt), *words.encode(["10 11 12"], prompt, cut="left")):
        assert len(tokens.ids) <= 8
        assert ids(tokens)[-2] in (10, 11, 12)


def test_tiny_limits() -> None:
    """Where the special tokens alone fill the model, no more than it reads comes out."""
    for limit in (1, 2, 3):
        tokenizer = Tokenizer.load(REAL / "tokenizer.json", limit)
        texts = ["one two three four"]
        for tokens in tokenizer.encode(texts) + tokenizer.encode(texts, cut="left"):
            assert len(tokens.ids) <= limit
            assert tokens.truncated


def test_side_by_side(real: Tokenizer) -> None:
    """Threads that encode at once get what each gets alone."""
    expected = [ids(tokens) for tokens in real.encode(TEXTS)]
    with ThreadPoolExecutor(8) as threads:
        for found in threads.map(lambda _: real.encode(TEXTS), range(40)):
            assert [ids(tokens) for tokens in found] == expected


def test_a_megabyte(real: Tokenizer) -> None:
    """A megabyte is counted whole and cut."""
    words, marks = real.encode(["word " * 200_000, "!" * 1_000_000])
    assert (words.count, marks.count) == (200_002, 1_000_002)
    assert np.all(words.ids[1:-1] == words.ids[1])
    assert len(words.ids) == len(marks.ids) == 256


def test_padding() -> None:
    """A batch is filled up to its longest text, in front or behind, to a round width where the model reads as many."""
    facts = ModelFacts("x", "", 8, 10, True, {}, "", (), True, pad_id=7, pad_left=False)
    batch = [Tokens(np.array([1, 2, 3]), 3), Tokens(np.array([4]), 1)]
    filled, mask = padded(batch, facts)
    assert filled.tolist() == [[1, 2, 3], [4, 7, 7]]
    assert mask.tolist() == [[1, 1, 1], [1, 0, 0]]
    filled, mask = padded(batch, replace(facts, pad_left=True))
    assert filled.tolist() == [[1, 2, 3], [7, 7, 4]]
    assert mask.tolist() == [[1, 1, 1], [0, 0, 1]]
    for length, width in ((1, 8), (8, 8), (9, 10), (10, 10)):
        assert padded([Tokens(np.ones(length, np.int64), length)], facts, multiple=8)[0].shape == (1, width)


def test_facts() -> None:
    """Facts survive being written down."""
    facts = ModelFacts("name", "ab", 8, 10, True, {"query": "für: "}, "für: ", (2, 4), True, pad_id=7, pad_left=False)
    assert ModelFacts.from_json(facts.to_json()) == facts
