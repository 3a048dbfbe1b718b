"""Whether embed_st finds what sentence-transformers finds: summaries of docstrings look for the rest of theirs."""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import hector_plugins_pb2 as pb
import hector_plugins_pb2_grpc as rpc
import numpy as np
import pytest
from sentence_transformers import SentenceTransformer

from plugins.embed_st.engine.backends import Floats
from plugins.embed_st.engine.models import locate
from tests.embed_wire import REAL, said, ways
from tests.servers import start_plugin

pytestmark = pytest.mark.slow

PAIRS = 600
# Of these, since they are here wherever the tests run.
PACKAGES = (
    "numpy",
    "torch",
    "transformers",
    "sentence_transformers",
    "grpc",
    "google.protobuf",
    "hypothesis",
    "pytest",
)


class Ranking(NamedTuple):
    """In percent."""

    recall_1: float
    recall_10: float
    mrr: float


def docstrings(package: str) -> Iterator[tuple[str, str]]:
    """The first line and the rest of every docstring in which both say something."""
    spec = importlib.util.find_spec(package)
    assert spec is not None
    assert spec.submodule_search_locations
    for path in sorted(Path(spec.submodule_search_locations[0]).rglob("*.py")):
        try:
            with warnings.catch_warnings(action="ignore"):
                tree = ast.parse(path.read_bytes())
        except (SyntaxError, ValueError):
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                summary, _, rest = (ast.get_docstring(node) or "").partition("\n\n")
                question, passage = " ".join(summary.split()), " ".join(rest.split())
                if 5 <= len(question.split()) <= 40 and len(passage.split()) >= 30:
                    yield question, passage


@pytest.fixture(scope="module")
def pairs() -> tuple[list[str], list[str]]:
    """Questions and their passages, each different from all others; the same ones on every run."""
    found = {pair for package in PACKAGES for pair in docstrings(package)}
    questions: dict[str, str] = {}
    for question, passage in sorted(found, key=lambda pair: hashlib.sha256("".join(pair).encode()).digest()):
        if question not in questions and passage not in questions.values():
            questions[question] = passage
        if len(questions) == PAIRS:
            break
    assert len(questions) == PAIRS >= 500
    return list(questions), list(questions.values())


def ranking(questions: Floats, passages: Floats) -> Ranking:
    scores = questions @ passages.T
    ranks = np.sum(scores > np.diagonal(scores)[:, None], axis=1)  # of each question's own passage, from 0
    percent = (np.mean(ranks < 1), np.mean(ranks < 10), np.mean(1 / (ranks + 1)))
    return Ranking(*(float(100 * part) for part in percent))


@pytest.fixture(scope="module")
def reference(pairs: tuple[list[str], list[str]]) -> Ranking:
    """The library's own, on PyTorch."""
    model: Any = SentenceTransformer(locate(REAL, ""), device="cpu")
    questions, passages = (model.encode(texts, show_progress_bar=False) for texts in pairs)
    found = ranking(questions, passages)
    assert found.recall_1 > 30
    assert found.recall_10 > found.mrr > found.recall_1
    return found


def embedded(stub: rpc.EmbedderProviderStub, texts: Sequence[str]) -> Floats:
    reply = stub.EmbedBatch(pb.EmbedBatchRequest(texts=texts), timeout=300)
    assert said(reply)
    return np.array([one.vector for one in reply.embeddings], np.float32)


@pytest.mark.parametrize("way", ways())
def test_ranking(
    way: tuple[str, str],
    pairs: tuple[list[str], list[str]],
    reference: Ranking,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Recall at 1 and at 10 and the mean reciprocal rank are the library's within half a point, but for int8, whose
    drift is shown."""
    backend, precision = way
    options = ("--backend", backend, "--precision", precision, "--device", "cpu")
    with start_plugin("plugins.embed_st", *options) as plugin:
        stub = rpc.EmbedderProviderStub(plugin.channel())
        found = ranking(embedded(stub, pairs[0]), embedded(stub, pairs[1]))
    with capsys.disabled():
        print(f"\n{backend} {precision}:", *(f"{name} {value:.2f}" for name, value in found._asdict().items()))
        print("   sentence-transformers:", *(f"{name} {value:.2f}" for name, value in reference._asdict().items()))
    if precision != "int8":
        for name, value, expected in zip(Ranking._fields, found, reference, strict=True):
            assert abs(value - expected) <= 0.5, name


def test_a_ranking_that_is_off() -> None:
    """The measures themselves: all right is 100, all beside it 0, and second place counts a half."""
    right = np.eye(20, dtype=np.float32)
    assert ranking(right, right) == (100, 100, 100)
    second = right + 2 * np.roll(right, 1, axis=1)
    assert ranking(right, second.T.copy()) == pytest.approx((0, 100, 50))
    beside = np.ones((20, 20), np.float32) - right
    assert ranking(right, beside).recall_10 == 0
