"""embed_st over a socket: the ways it can run a model, a server of any engine, and what a reply says."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import hector_plugins_pb2_grpc as rpc
import numpy as np
import openvino
import pytest

from plugins.embed_st.config import Config
from plugins.embed_st.engine import Engine
from plugins.embed_st.engine.backends import Floats
from plugins.embed_st.engine.model import _CHOICES
from plugins.embed_st.engine.reference import TOLERANCES
from plugins.embed_st.servicer import MOST_ITEMS, TOO_LARGE_HINTS, Servicer
from tests.servers import Served, served

REAL = "sentence-transformers/all-MiniLM-L6-v2"
_NATIVE = openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
_LACKING = {way for way in _CHOICES if way[1] in ("bf16", "fp16") and way[1].upper() not in _NATIVE}


def ways(quick: tuple[str, str] | None = None, *, without: Sequence[str] = ()) -> list[Any]:
    """Every backend and precision as a fixture's parameters; all but `quick` are slow."""
    return [
        pytest.param(
            way,
            id="-".join(way),
            marks=[
                *([] if way == quick else [pytest.mark.slow]),
                pytest.mark.skipif(way in _LACKING, reason=f"this CPU has no {way[1]}"),
            ],
        )
        for way in _CHOICES
        if way[1] not in without
    ]


@contextmanager
def serving(engine: Engine, **settings: Any) -> Iterator[Served]:
    """A server of that engine, in this process."""
    config = Config(port=0, **settings)
    servicer = Servicer(engine, max_reply_bytes=config.max_reply_bytes)
    with served(
        config,
        "hector.plugins.v1.EmbedderProvider",
        lambda server: rpc.add_EmbedderProviderServicer_to_server(servicer, server),
        too_large_hints=TOO_LARGE_HINTS,
        most_items=MOST_ITEMS,
    ) as server:
        yield server


def check(found: Any, expected: Any, precision: str, what: str = "") -> None:
    """That these vectors are sentence-transformers': by cosine, each, and in fp32 each number within 1e-5."""
    vectors, wanted = np.atleast_2d(np.array(found, np.float32)), np.atleast_2d(np.array(expected, np.float32))
    assert vectors.shape == wanted.shape, what
    lengths, right = np.linalg.norm(vectors, axis=1), np.linalg.norm(wanted, axis=1)
    cosines = np.sum(vectors * wanted, axis=1, dtype=np.float64) / lengths / right
    assert cosines.min() >= TOLERANCES[precision], what  # type: ignore[index]
    assert np.abs(lengths / right - 1).max() < (1e-4 if precision == "fp32" else 0.1), what
    if precision == "fp32":
        assert np.abs(vectors - wanted).max() <= 1e-5 * max(1, np.abs(wanted).max()), what


def unit(vectors: Any) -> Floats:
    shaped = np.array(vectors, np.float32)
    found: Floats = shaped / np.linalg.norm(shaped, axis=-1, keepdims=True)
    return found


def said(reply: Any) -> bool:
    """Whether it says success, and nothing against it."""
    return bool(reply.success) and not reply.error and not reply.HasField("status")
