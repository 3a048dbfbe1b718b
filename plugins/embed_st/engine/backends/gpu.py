"""A model of sentence-transformers on a GPU: while it works on one batch, the next is on its way, and the vectors of
the one before come back.

Only the texts' ids and lengths go over; they are laid out in rows, and padded, on the card. Shapes are rounded up, so
that few of them occur and each can be a graph (graphs.py).
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from math import ceil
from queue import SimpleQueue

import numpy as np
import torch

from ..tokenizer import Tokens
from . import Backend, DeviceMemoryError, Floats, Precision
from .card import Card
from .graphs import Graphs, Shape
from .pytorch import Torch

# Of a batch. Beyond these no model that was measured gets faster.
_MOST_TOKENS, _LEAST_TOKENS, _TRIED_TOKENS = 65_536, 1_024, 8_192
# Whoever comes waits for up to two batches.
_LONGEST_SECONDS = 0.03
_MOST_TEXTS = 1_024
# A lone text of up to so many tokens finds its graph ready.
_READY_TOKENS = 128


class _Slot:
    """Memory of the host for one batch: what goes over and what comes back."""

    def __init__(self, card: Card, dimensions: int) -> None:
        self.ids = card.host(_MOST_TOKENS, dtype=torch.int64)
        self.lengths = card.host(_MOST_TEXTS, dtype=torch.int64)
        self.vectors = card.host(_MOST_TEXTS, dimensions, dtype=torch.float32)


class Gpu(Backend):
    name = "torch"
    most_texts = _MOST_TEXTS
    most_tokens = _MOST_TOKENS
    under_way = 2

    def __init__(self, source: Torch, card: Card) -> None:
        """`source`: the model, on the card."""
        self._source, self._card, self._facts = source, card, source.facts
        self.tokenizing = max(1, min(16, _cores() - 2))
        card.catch_up()
        with card.work():
            self._ids = torch.zeros(_MOST_TOKENS, dtype=torch.int64, device=card.device)
            self._lengths = torch.ones(_MOST_TEXTS, dtype=torch.int64, device=card.device)
            self._vectors = torch.zeros(_MOST_TEXTS, self._facts.dimensions, device=card.device)
        self._free: SimpleQueue[_Slot] = SimpleQueue()
        for _ in range(self.under_way):
            self._free.put(_Slot(card, self._facts.dimensions))
        self._graphs = Graphs(card, self._forward)

    @property
    def precision(self) -> Precision:
        return self._source.precision

    def warm_up(self) -> None:
        """Finds out which batches suit the card, and makes ready what a lone caller needs."""
        self.batch_tokens = self._best_batch()
        length = 0
        while length < min(_READY_TOKENS, self._facts.max_tokens):
            length = min(_rounded(length + 1, 32), self._facts.max_tokens)
            for _ in range(2):
                self.run([self._filler(length)])

    def run(self, batch: Sequence[Tokens]) -> Floats:
        return self.launch(batch)()

    def launch(self, batch: Sequence[Tokens]) -> Callable[[], Floats]:
        lengths = [len(tokens.ids) for tokens in batch]
        count, total = len(batch), sum(lengths)
        leaves_prompt = not self._facts.pools_prompt and any(tokens.prompt for tokens in batch)
        if leaves_prompt or total > _MOST_TOKENS:
            with self._card.work():
                vectors = self._source.run(batch)
            return lambda: vectors
        slot = self._free.get()
        try:
            with self._card.work():
                np.concatenate([tokens.ids for tokens in batch], out=slot.ids.numpy()[:total])
                slot.lengths.numpy()[:count] = lengths
                self._ids[:total].copy_(slot.ids[:total], non_blocking=True)
                self._lengths[:count].copy_(slot.lengths[:count], non_blocking=True)
                self._graphs.run(_shape(lengths, self._facts.max_tokens))
                slot.vectors[:count].copy_(self._vectors[:count], non_blocking=True)
                wait = self._card.mark(soon=total <= _READY_TOKENS)
        except BaseException:
            self._free.put(slot)
            raise

        def finish() -> Floats:
            try:
                wait()
                return np.array(slot.vectors.numpy()[:count])
            finally:
                self._free.put(slot)

        return finish

    def _forward(self, texts: int, width: int) -> None:
        """Of the ids and lengths that are on the card, to the vectors there. Rows past the batch's are of any text."""
        lengths = self._lengths[:texts]
        ends = lengths.cumsum(0)
        places = torch.arange(width, device=self._card.device)
        places = places - (width - lengths)[:, None] if self._facts.pad_left else places.expand(texts, width)
        mask = (places >= 0) & (places < lengths[:, None])
        at = ((ends - lengths)[:, None] + places).clamp(0, _MOST_TOKENS - 1)
        ids = torch.where(mask, self._ids[at], self._facts.pad_id)
        self._vectors[:texts].copy_(self._source.forward(ids, mask.long()))

    def _best_batch(self) -> int:
        """Tokens of the largest batch that is soon done and fits into the card."""
        tokens, seconds = _TRIED_TOKENS, _LONGEST_SECONDS
        with suppress(DeviceMemoryError):
            seconds = self._seconds(tokens)
        while tokens < _MOST_TOKENS and seconds * 2 <= _LONGEST_SECONDS:
            tokens, seconds = tokens * 2, seconds * 2
        while tokens > _LEAST_TOKENS and seconds > _LONGEST_SECONDS:
            tokens, seconds = tokens // 2, seconds / 2
        while tokens > _LEAST_TOKENS:
            with suppress(DeviceMemoryError):
                self._seconds(tokens)
                break
            tokens //= 2
        return tokens

    def _seconds(self, tokens: int) -> float:
        """That a batch of so many takes; Raises DeviceMemoryError."""
        length = min(self._facts.max_tokens, 256)
        batch = [self._filler(length)] * min(_MOST_TEXTS, max(1, tokens // length))
        for _ in range(2):  # the first of a shape is slow, and so is the second
            self.run(batch)
        began = time.perf_counter()
        self.run(batch)
        return time.perf_counter() - began

    def _filler(self, length: int) -> Tokens:
        token = next((n for n in range(4) if n != self._facts.pad_id), 0)
        return Tokens(np.full(length, token, np.int64), length)


def _cores() -> int:
    """That this process may use; only some systems tell them from those that there are."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _shape(lengths: Sequence[int], max_tokens: int) -> Shape:
    """That holds texts of these. Up to 16 rows become a power of two, more the next
    multiple of eight, from 128 on an eighth more at most; tokens a multiple of eight, from 256 on a sixteenth more."""
    texts, longest = len(lengths), max(lengths)
    rows = _rounded(texts, 16) if texts > 16 else 1 << (texts - 1).bit_length()
    width = min(_rounded(longest, 32), max(longest, max_tokens))
    return min(rows, _MOST_TEXTS), width


def _rounded(number: int, steps: int) -> int:
    """Up, so that between two powers of two there are half as many as `steps`, each a multiple of eight."""
    step = 8
    while step * steps < number:
        step *= 2
    return ceil(number / step) * step
