"""Texts to the tokens that a model reads, as sentence-transformers would feed it, and what there was before the cut."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import ceil
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import tokenizers

Ids = npt.NDArray[np.int64]
Side = Literal["right", "left"]


@dataclass(frozen=True, slots=True)
class Tokens:
    """`ids` of shape (n,), n at most the model's limit, special tokens included.

    `count`: tokens of the whole text, before the cut. `prompt`: leading ids that are the prompt's, special included.
    """

    ids: Ids
    count: int
    prompt: int = 0

    @property
    def truncated(self) -> bool:
        return self.count > len(self.ids)


class Tokenizer:
    """May be used by many threads at once.

    A megabyte of text takes 0.2 to 0.8 s and, in the worst case (all punctuation), 350 MB while it lasts.
    """

    def __init__(self, tokenizer: tokenizers.Tokenizer, max_tokens: int) -> None:
        """`tokenizer` is changed: it no longer cuts or pads."""
        tokenizer.no_truncation()
        tokenizer.no_padding()
        self._tokenizer = tokenizer
        self._prefix, self._suffix = _around(tokenizer)
        self._limit = max_tokens
        self._room = max(1, max_tokens - len(self._prefix) - len(self._suffix))

    @classmethod
    def load(cls, path: Path, max_tokens: int) -> Tokenizer:
        return cls(tokenizers.Tokenizer.from_file(str(path)), max_tokens)

    def save(self, path: Path) -> None:
        self._tokenizer.save(str(path), pretty=False)

    def count(self, texts: Sequence[str], prompt: str = "") -> list[int]:
        """Tokens of each text before any cut, prompt and special ones included."""
        return [len(ids) + len(self._prefix) + len(self._suffix) for ids in self._bare(texts, prompt)]

    def encode(self, texts: Sequence[str], prompt: str = "", *, cut: Side = "right") -> list[Tokens]:
        """What the model reads of each text: `prompt` before it, and of a text that is too long what fits.

        Cut on the left, a text keeps its prompt and its end.
        """
        opening = self._opening(prompt)
        around = len(self._prefix) + len(self._suffix)
        found = []
        for ids in self._bare(texts, prompt):
            if len(ids) <= self._room:
                kept = ids
            elif cut == "right":
                kept = ids[: self._room]
            else:
                head, body = self._split(opening, ids)
                kept = head + body[len(head) - self._room :]
            found.append(self._dressed(kept, len(ids) + around, len(opening)))
        return found

    def windows(self, text: str, prompt: str = "") -> list[Tokens]:
        """All of a text, in pieces that fit, each with the prompt; in the text's order, at least one.

        Their lengths differ by one token at most, so that the mean of their vectors weighs all of the text alike.
        """
        (ids,) = self._bare([text], prompt)
        head, body = self._split(self._opening(prompt), ids)
        pieces = max(1, ceil(len(body) / (self._room - len(head))))
        edges = [round(piece * len(body) / pieces) for piece in range(pieces + 1)]
        windows = [head + body[start:end] for start, end in pairwise(edges)]
        around = len(self._prefix) + len(self._suffix)
        return [self._dressed(window, len(window) + around, len(head)) for window in windows]

    def _bare(self, texts: Sequence[str], prompt: str) -> list[list[int]]:
        """Ids without the special tokens around them."""
        encodings = self._tokenizer.encode_batch_fast([prompt + text for text in texts], add_special_tokens=False)
        return [encoding.ids for encoding in encodings]

    def _opening(self, prompt: str) -> list[int]:
        return self._bare([""], prompt)[0] if prompt else []

    def _split(self, opening: list[int], ids: list[int]) -> tuple[list[int], list[int]]:
        """The prompt, as much of it as leaves room for a token of the text, and the text after it."""
        common = 0  # not all of it where its last token has merged with the text's first
        while common < min(len(opening), len(ids)) and opening[common] == ids[common]:
            common += 1
        return ids[: min(common, self._room - 1)], ids[common:]

    def _dressed(self, ids: list[int], count: int, prompt: int) -> Tokens:
        whole = np.array([*self._prefix, *ids, *self._suffix], dtype=np.int64)
        return Tokens(whole[: self._limit], count, prompt and prompt + len(self._prefix))


def _around(tokenizer: tokenizers.Tokenizer) -> tuple[list[int], list[int]]:
    """The special tokens before and after every text."""
    bare, whole = (tokenizer.encode("a", add_special_tokens=special).ids for special in (False, True))
    for start in range(len(whole) - len(bare) + 1):
        if whole[start : start + len(bare)] == bare:
            return whole[:start], whole[start + len(bare) :]
    raise ValueError("the tokenizer adds more than tokens before and after a text")
