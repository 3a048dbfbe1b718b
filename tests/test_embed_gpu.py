"""embed_st's GPU backend on a CPU: a fake card plays CUDA at its one edge (tests/embed_card.py), all else is real."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from plugins.embed_st.engine.backends.gpu import Gpu
from plugins.embed_st.engine.backends.pytorch import Torch
from tests.embed_card import FakeCard
from tests.embed_models import TEXTS, tiny

KINDS: dict[str, dict[str, Any]] = {
    "mean": {},
    "cls": {"pooling": "cls", "normalize": False},
    "last, dense": {"pooling": "lasttoken", "dense": True},
    "distilbert": {"architecture": "distilbert"},
    "roberta": {"architecture": "roberta"},
    "prompt left out": {"include_prompt": False},
}


def on_a_card(folder: Path, **kind: Any) -> tuple[Torch, Gpu, FakeCard]:
    loaded, card = Torch(tiny(folder, **kind), name="tiny", sha256=""), FakeCard()
    return loaded, Gpu(loaded, card), card  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", KINDS)
def test_the_vectors_are_the_model_s(tmp_path: Path, kind: str) -> None:
    """Laid out and padded on the card, in rounded shapes, texts get the vectors that torch gives them, in any batch."""
    loaded, backend, card = on_a_card(tmp_path, **KINDS[kind])
    chance = random.Random(0)
    texts = [text for text in TEXTS for _ in range(4)]
    for size in (1, 1, 1, 2, 3, 17, 17, 17, 40, 5, 1):
        for prompt in ("", "search: "):
            tokens = loaded.tokenizer.encode(chance.sample(texts, size), prompt)
            assert np.abs(backend.run(tokens) - loaded.run(tokens)).max() < 1e-5
    assert card.recorded
    assert card.replayed
