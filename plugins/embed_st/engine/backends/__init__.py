"""What runs a model: a few texts' tokens to their vectors. Another way of running it is another class like these.

pytorch.py   sentence-transformers itself: the reference, any model
gpu.py       the same model on an NVIDIA GPU, one batch after another without a pause; card.py, what CUDA does for it,
             graphs.py, its small batches
openvino.py  a converted model on the CPU, in fp32 or bf16
onnx.py      a converted model on the CPU, in fp32 or int8
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from math import ceil
from typing import ClassVar, Literal

import numpy as np
import numpy.typing as npt

from ..facts import ModelFacts
from ..tokenizer import Ids, Tokens

Floats = npt.NDArray[np.float32]
Name = Literal["torch", "openvino", "onnx"]
Precision = Literal["fp32", "bf16", "fp16", "int8"]


class Backend(ABC):
    """Not thread-safe: one thread calls it."""

    name: ClassVar[Name]
    batch_tokens = 1024
    """Longest text times texts of a batch, at most, that it is best at."""
    most_tokens = 2**31
    most_texts = 128
    """Of a batch, with which it can do at all."""
    under_way = 1
    """Batches that may be launched before the first has ended."""
    tokenizing = 1
    """Threads that turn texts into tokens for it. Where it leaves the CPU alone, they may have the cores."""

    @property
    @abstractmethod
    def precision(self) -> Precision: ...

    @abstractmethod
    def run(self, batch: Sequence[Tokens]) -> Floats:
        """Vectors of shape (len(batch), dimensions) in the batch's order, as the model publishes them.

        The batch, of one text at least, is padded to its longest: texts of like length go well together.
        Raises DeviceMemoryError and DeviceError.
        """

    def launch(self, batch: Sequence[Tokens]) -> Callable[[], Floats]:
        """As `run`, but it may come back before the vectors are there: the call of what it gives waits for them, which
        another thread may do. Every launch is to be followed by that call, in the order of the launches."""
        vectors = self.run(batch)
        return lambda: vectors


class DeviceMemoryError(Exception):
    """The device has no memory for a batch of this size. A smaller one may fit."""


class DeviceError(Exception):
    """It is the device that failed, not the batch. Mostly no later batch of this process can do better."""


class UnfitError(Exception):
    """This backend cannot serve this model on this machine. The message says why, in one clause."""

    lasts = False  # it will be so at the next start too


def padded(batch: Sequence[Tokens], facts: ModelFacts, multiple: int = 1) -> tuple[Ids, Ids]:
    """Ids and attention mask, each of shape (len(batch), longest), that rounded up to a multiple if the model can."""
    longest = max(len(tokens.ids) for tokens in batch)
    width = max(longest, min(ceil(longest / multiple) * multiple, facts.max_tokens))
    ids = np.full((len(batch), width), facts.pad_id, dtype=np.int64)
    mask = np.zeros((len(batch), width), dtype=np.int64)
    for row, tokens in enumerate(batch):
        start = width - len(tokens.ids) if facts.pad_left else 0
        ids[row, start : start + len(tokens.ids)] = tokens.ids
        mask[row, start : start + len(tokens.ids)] = 1
    return ids, mask
