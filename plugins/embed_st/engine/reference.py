"""Known texts, and how near a backend's vectors of them must be to those that sentence-transformers made."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from .backends import Backend, Floats, Precision
from .tokenizer import Tokenizer

# The least cosine between a backend's vector of a text and the reference. Measured for all-MiniLM-L6-v2 over 600 texts
# of docstrings, least and mean: fp32 0.999999 and more; bf16 0.99996, 0.99999; int8 0.979, 0.993.
TOLERANCES: Mapping[Precision, float] = {"fp32": 0.99999, "bf16": 0.9995, "fp16": 0.9995, "int8": 0.95}

# Of every kind that breaks differently: short, long, cut, other scripts, no words at all, the same twice.
TEXTS = (
    "cat",
    "What survives a power cut?",
    "An acknowledged write is durable and visible to the next search.",
    "The quick brown fox jumps over the lazy dog.",
    "The quick brown fox jumps over the lazy dog.",
    "THE QUICK BROWN FOX JUMPS OVER THE LAZY DOG!",
    "Ein Gerät ohne Ümläute wäre kein schönes Gerät.",
    "Съешь же ещё этих мягких французских булок.",
    "快速的棕色狐狸跳过懒狗。",
    "مرحبا بالعالم",
    "🦊 jumps over 🐶, twice 🎉🎉",
    "def f(x): return {**x, 'a': [1, 2.5e-3]}  # https://example.org/?q=1&r=%20",
    "!!! ... ???",
    "\x00 a text \t with \u200b odd\u00a0spaces ",
    "A vector store keeps what was embedded, and answers which of it is nearest to a question. " * 6,
    "Now a text that is longer than most models read, so that its end is cut off: one more sentence follows. " * 16,
)


def self_test(backend: Backend, tokenizer: Tokenizer, reference: Floats) -> float:
    """The least cosine between the backend's vectors of TEXTS and `reference`, shape (len(TEXTS), dimensions).

    0 where a vector has another length than it should have, by a tenth or more, or is not made of numbers.
    """
    tokens = tokenizer.encode(TEXTS)
    # A text alone, many short ones and long ones: what was converted must not depend on the shape of a batch.
    found = np.concatenate([backend.run(part) for part in (tokens[:1], tokens[1:14], tokens[14:])])
    lengths, expected = np.linalg.norm(found, axis=1), np.linalg.norm(reference, axis=1)
    if found.shape != reference.shape or not np.all(np.abs(lengths - expected) < 0.1 * expected):
        return 0.0
    return float(np.min(np.sum(found * reference, axis=1, dtype=np.float64) / lengths / expected))
