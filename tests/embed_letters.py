"""A model without a model, for embed_st's engine and servicer: a token is a character, a vector counts letters."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import tokenizers
from tokenizers import models, pre_tokenizers, processors

from plugins.embed_st.engine import Engine, engine
from plugins.embed_st.engine.backends import Backend, Floats, Precision
from plugins.embed_st.engine.facts import ModelFacts
from plugins.embed_st.engine.model import Model
from plugins.embed_st.engine.tokenizer import Tokenizer, Tokens

FACTS = ModelFacts(
    name="letters",
    sha256="ab" * 32,
    dimensions=8,
    max_tokens=22,
    normalizes=False,
    prompts={"query": "a: "},
    default_prompt="",
    matryoshka=(2, 4),
    pools_prompt=True,
    pad_id=0,
    pad_left=False,
)
SECONDS = 120  # the longest wait for anything; a busy machine is slow


class Letters(Backend):
    """A text's vector counts its a, b, c and so on. `gate`: clear, every batch waits. `batches`: what was run."""

    name = "torch"
    precision: Precision = "fp32"

    def __init__(self, dimensions: int = 8) -> None:
        self.batches: list[list[str]] = []
        self.began = threading.Event()
        self.gate = threading.Event()
        self.gate.set()
        self.fails_on = ""
        self._dimensions = dimensions

    def run(self, batch: Sequence[Tokens]) -> Floats:
        texts = ["".join(map(chr, tokens.ids[1:-1])) for tokens in batch]
        self.batches.append(texts)
        self.began.set()
        assert self.gate.wait(SECONDS)
        if self.fails_on and any(self.fails_on in text for text in texts):
            raise RuntimeError("the secret /path/to/something")
        letters = [chr(ord("a") + place) for place in range(min(26, self._dimensions))]
        found = np.zeros((len(texts), self._dimensions), np.float32)
        found[:, : len(letters)] = [[text.count(letter) for letter in letters] for text in texts]
        return found

    def texts(self) -> list[str]:
        """All that was run, in order."""
        return [text for batch in self.batches for text in batch]

    def hold(self) -> None:
        """From here on every batch waits for `gate`."""
        self.began.clear()
        self.gate.clear()


def letters_tokenizer(max_tokens: int) -> Tokenizer:
    """Token n is the character n; 1 stands before a text and 2 after it."""
    vocabulary = {chr(code): code for code in range(127)} | {"?": 63}
    tokenizer = tokenizers.Tokenizer(models.WordLevel(vocabulary, unk_token="?"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(tokenizers.Regex(r"[\s\S]"), "isolated")
    tokenizer.post_processor = processors.TemplateProcessing(
        single="\x01 $A \x02", special_tokens=[("\x01", 1), ("\x02", 2)]
    )
    return Tokenizer(tokenizer, max_tokens)


def letters_engine(
    patch: pytest.MonkeyPatch, backend: Letters, *, batch_tokens: int = 1024, max_queued: int = 4096, **facts: Any
) -> Engine:
    """An open engine with that backend; `facts` differ from FACTS."""
    about = replace(FACTS, dimensions=backend._dimensions, **facts)
    opened = Model(about, letters_tokenizer(about.max_tokens), backend)
    patch.setattr(engine, "open_model", lambda *_, **__: opened)
    made = Engine("letters", batch_tokens=batch_tokens, max_queued=max_queued)
    made.open()
    backend.batches.clear()  # of the first text, which is none of a caller's
    backend.began.clear()
    return made
