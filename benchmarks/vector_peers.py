"""vector_hnsw against other vector databases, each at the recall that is asked for."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from benchmarks.harness import Comparison, Section, compare
from benchmarks.peers import Peer, running_peer
from benchmarks.sets import VectorSet, least_ef
from benchmarks.vector_client import IN_FLIGHT, Client
from benchmarks.vector_plot import EFS, Curve

Kind = Literal["chroma", "pgvector"]
KINDS: tuple[Kind, ...] = ("chroma", "pgvector")


@dataclass(frozen=True)
class Loaded:
    """A peer that holds a set, and the least ef at which it reaches the recall."""

    peer: Peer
    ef: int
    nearest: Path
    fact: str

    @property
    def name(self) -> str:
        return self.peer.name

    def recall(self, ef: int) -> float:
        return self.peer.recall(ef, self.nearest)

    def rate(self, clients: int, ef: int = 0) -> float:
        """Queries a second, at its own ef or another."""
        return self.peer.rate(clients, ef or self.ef)


@contextmanager
def loaded(kind: Kind, chosen: VectorSet) -> Iterator[Loaded]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        vectors, queries, nearest = folder / "vectors.npy", folder / "queries.npy", folder / "nearest.npy"
        np.save(vectors, chosen.vectors)
        np.save(queries, chosen.queries)
        np.save(nearest, chosen.nearest)
        with running_peer(kind, vectors, queries) as peer:
            took = peer.load()
            ef = least_ef(lambda ef: peer.recall(ef, nearest))
            yield Loaded(
                peer, ef, nearest, f"recall@10 {peer.recall(ef, nearest):.4f} at ef {ef}, loaded in {took:.0f} s"
            )


def against_peers(chosen: VectorSet, client: Client, ef: int) -> tuple[Section, list[Curve]]:
    """`client`'s server holds the set; with this `ef` it reaches the recall. Its clients are threads of this process,
    a peer's are threads of another; each begins with an array and ends with number, score and metadata read."""
    comparisons: list[Comparison] = []
    curves: list[Curve] = []
    facts: dict[str, object] = {}
    for kind in KINDS:
        with loaded(kind, chosen) as peer:
            facts[peer.name] = peer.fact
            for clients in (1, IN_FLIGHT):
                comparisons.append(
                    compare(
                        f"search, {clients} client{'s' * (clients > 1)}",
                        "queries/s",
                        lambda clients=clients: client.query_rate(chosen.queries, ef, clients),  # type: ignore[misc]
                        lambda clients=clients, peer=peer: peer.rate(clients),  # type: ignore[misc]
                        reference_name=peer.name,
                    )
                )
            curve = Curve(f"{peer.name}, {IN_FLIGHT}")
            for one in EFS:
                curve.add(peer.recall(one), peer.rate(IN_FLIGHT, one))
            curves.append(curve)
    return Section(f"{len(chosen.vectors):,} {chosen.name}, against other databases", comparisons, facts), curves
