"""The engine. It knows no gRPC and no settings: try it in a Python prompt.

YOUR IDEA goes here: keep `open`, `embed` and what they promise, and put your own model in the place of this one, which
hashes words and parts of words: texts with the same words are near each other, and nothing has to be downloaded.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

_WORD = re.compile(r"\w+")
_PART = 4  # characters


class Embedded(NamedTuple):
    vectors: NDArray[np.float32]  # (texts, dimension), each of length 1
    tokens: list[int]  # of each text


class Engine:
    def __init__(self, dimension: int) -> None:
        self.dimension = dimension
        self.model = f"hashed-words-{dimension}"  # collections are told apart by it: another vector, another name

    def open(self) -> None:
        """Runs before the first call; until it returns, health is NOT_SERVING. The place to load a model."""

    def embed(self, texts: Sequence[str]) -> Embedded:
        """A vector for each text, in their order; none of the texts is blank."""
        vectors = np.zeros((len(texts), self.dimension), np.float32)
        tokens = []
        for vector, text in zip(vectors, texts, strict=True):
            features = list(_features(text))
            tokens.append(len(features))
            for feature in features:
                number = int.from_bytes(hashlib.blake2b(feature.encode(), digest_size=8).digest(), "big")
                vector[number % self.dimension] += 1 if number >> 63 else -1
            if not vector.any():  # what was added has cancelled out
                vector[0] = 1
        return Embedded(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), tokens)


def _features(text: str) -> Iterator[str]:
    for word in _WORD.findall(text.casefold()) or [text]:
        yield word
        for start in range(len(word) - _PART + 1):
            yield "…" + word[start : start + _PART]
