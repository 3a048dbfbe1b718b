"""How the benchmark talks to the databases it compares with: `benchmarks/peers`, without any of them."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np
import pytest

from benchmarks import peers
from benchmarks.peers import client

ONE_ANSWER_EACH = """
import json, sys
print(json.dumps({"name": "Fake 1.0 " + " ".join(sys.argv[1:])}), flush=True)
for line in sys.stdin:
    request = json.loads(line)
    if request["call"] == "load":
        print(json.dumps({"stage": "adding", "done": 1, "of": 2}))
        print(json.dumps({"stage": "building", "done": 0, "of": 0}))
        print(json.dumps({"result": 2.5}), flush=True)
    elif request["call"] == "recall":
        print(json.dumps({"result": request["ef"] / 1_000 + request["k"]}), flush=True)
    else:
        print(json.dumps({"error": "no space left"}), flush=True)
        sys.exit(1)
"""


def fake(source: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "fake.py").write_text(source)
    monkeypatch.setattr(peers, "CLIENT", folder / "fake.py")


def test_calls_and_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each call is answered by its result, past any progress, and what the peer says is wrong is raised."""
    fake(ONE_ANSWER_EACH, tmp_path, monkeypatch)
    vectors, queries = tmp_path / "v.npy", tmp_path / "q.npy"
    with peers.running_peer("chroma", vectors, queries, python=Path(sys.executable)) as peer:
        assert peer.name == f"Fake 1.0 chroma {vectors} {queries}"
        assert peer.load() == 2.5
        assert peer.recall(40, tmp_path / "nearest.npy", k=3) == 3.04
        with pytest.raises(RuntimeError, match="no space left"):
            peer.rate(8, 40)


def test_a_peer_that_dies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A peer that ends without an answer is an error, not a wait."""
    fake("raise SystemExit(3)", tmp_path, monkeypatch)
    start = peers.running_peer("pgvector", tmp_path / "v.npy", tmp_path / "q.npy", python=Path(sys.executable))
    with pytest.raises(RuntimeError, match="ended with status 3"), start:
        pass


def test_the_remedy_for_a_missing_environment(tmp_path: Path) -> None:
    """Who has not installed the peers is told how."""
    start = peers.running_peer("chroma", tmp_path, tmp_path, python=tmp_path / "none")
    with pytest.raises(FileNotFoundError, match=r"make \.venv-peers/\.installed"), start:
        pass


@pytest.mark.slow
def test_every_query_is_asked_once() -> None:
    """A rate asks each query once, by whichever client is free, unless the time is over first."""
    queries = np.arange(50, dtype=np.float32).reshape(50, 1)
    asked: list[int] = []

    def search(query: client.Floats, k: int) -> list[int]:
        asked.append(int(query[0]))
        return [0] * k

    assert client.rate([search] * 4, queries, 10, 60) > 0
    assert sorted(asked) == list(range(50))
    asked.clear()

    def slow(query: client.Floats, k: int) -> list[int]:
        time.sleep(0.1)
        return search(query, k)

    client.rate([slow], queries, 10, 2)
    assert 0 < len(asked) < 50


def test_recall() -> None:
    """Recall counts what is found of the k nearest, over the queries whose nearest are known."""
    queries = np.zeros((3, 1), dtype=np.float32)
    nearest = np.array([[1, 2, 9], [3, 4, 9]])
    assert client.recall(lambda query, k: [2, 1], queries, nearest, 2) == 0.5
