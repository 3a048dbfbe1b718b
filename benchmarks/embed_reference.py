"""The libraries under embed_st called directly, each in a process of its own: several in one slow each other down."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import numpy as np

from benchmarks.harness import rate
from plugins.embed_st.config import Config
from plugins.embed_st.engine.backends import Backend, Floats
from plugins.embed_st.engine.model import open_model
from plugins.embed_st.engine.models import locate

Given = ParamSpec("Given")
Result = TypeVar("Result")

MODEL = Config().model
BATCH_TOKENS = Backend.batch_tokens

_there: dict[str, Any] = {}


class Process:
    """Runs this module's functions, one after another, in a process that keeps what it has loaded."""

    def __init__(self, pool: ProcessPoolExecutor) -> None:
        self._pool = pool

    def __call__(self, work: Callable[Given, Result], *given: Given.args, **named: Given.kwargs) -> Result:
        return self._pool.submit(work, *given, **named).result()


@contextmanager
def process() -> Iterator[Process]:
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        yield Process(pool)


# ---------------------------------------------------------------- SentenceTransformer


def load_and_encode() -> float:
    """Seconds, imports included."""
    began = time.perf_counter()
    _transformer().encode(["warm up"], show_progress_bar=False)
    return time.perf_counter() - began


def encode(texts: Sequence[str]) -> Floats:
    vectors: Floats = _transformer().encode(list(texts), show_progress_bar=False)
    return vectors


def encode_rate(texts: Sequence[str]) -> float:
    """Texts a second, in batches of 32 as they come."""
    model = _transformer()
    batches = [list(texts[start : start + 32]) for start in range(0, len(texts), 32)]
    return rate(len(texts), lambda: [model.encode(batch, show_progress_bar=False) for batch in batches])


def _transformer() -> Any:
    if "transformer" not in _there:
        from sentence_transformers import SentenceTransformer

        _there["transformer"] = SentenceTransformer(locate(MODEL, ""), device="cpu")
    return _there["transformer"]


# ---------------------------------------------------------------- a backend of embed_st without its server


def backend_sorted_rate(texts: Sequence[str], cache_home: str) -> float:
    """Texts a second when all of them are there at once: sorted, in batches of 1,024 padded tokens."""
    model = _model(cache_home)

    def work() -> None:
        tokens = sorted(model.tokenizer.encode(texts), key=lambda one: len(one.ids))
        batch: list[Any] = []
        for one in tokens:
            if batch and (len(batch) + 1) * len(one.ids) > BATCH_TOKENS:
                model.backend.run(batch)
                batch = []
            batch.append(one)
        model.backend.run(batch)

    return rate(len(texts), work)


def backend_single_rate(texts: Sequence[str], cache_home: str) -> float:
    """Texts a second, one after another."""
    model = _model(cache_home)
    return rate(len(texts), lambda: [model.backend.run(model.tokenizer.encode([text])) for text in texts])


def _model(cache_home: str) -> Any:
    if "model" not in _there:
        _there["model"] = open_model(MODEL, cache_home=Path(cache_home), device="cpu")
    return _there["model"]


def least_cosine(ours: Floats, theirs: Floats) -> float:
    lengths = np.linalg.norm(ours, axis=1) * np.linalg.norm(theirs, axis=1)
    return float(((ours * theirs).sum(axis=1) / lengths).min())
