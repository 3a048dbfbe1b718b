"""vector_hnsw against other vector databases, each at the recall that is asked for."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np

from benchmarks.harness import Comparison, Section, compare
from benchmarks.peers import running_peer
from benchmarks.sets import VectorSet, least_ef
from benchmarks.vector_client import IN_FLIGHT, Client
from benchmarks.vector_plot import EFS, Curve


def against_peers(chosen: VectorSet, client: Client, ef: int) -> tuple[Section, list[Curve]]:
    """`client`'s server holds the set; with this `ef` it reaches the recall. Its clients are threads of this process,
    a peer's are threads of another; each begins with an array and ends with number, score and metadata read."""
    comparisons: list[Comparison] = []
    curves: list[Curve] = []
    facts: dict[str, object] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        vectors, queries, nearest = folder / "vectors.npy", folder / "queries.npy", folder / "nearest.npy"
        np.save(vectors, chosen.vectors)
        np.save(queries, chosen.queries)
        np.save(nearest, chosen.nearest)
        for kind in ("chroma", "pgvector"):
            with running_peer(kind, vectors, queries) as peer:
                took = peer.load()
                enough = least_ef(lambda one, peer=peer: peer.recall(one, nearest))  # type: ignore[misc]
                recall = peer.recall(enough, nearest)
                facts[peer.name] = f"recall@10 {recall:.4f} at ef {enough}, loaded in {took:.0f} s"
                for clients in (1, IN_FLIGHT):
                    comparisons.append(
                        compare(
                            f"search, {clients} client{'s' * (clients > 1)}",
                            "queries/s",
                            lambda clients=clients: client.query_rate(chosen.queries, ef, clients),  # type: ignore[misc]
                            lambda clients=clients, peer=peer, enough=enough: peer.rate(clients, enough),  # type: ignore[misc]
                            reference_name=peer.name,
                        )
                    )
                curve = Curve(f"{peer.name}, {IN_FLIGHT}")
                for one in EFS:
                    curve.add(peer.recall(one, nearest), peer.rate(IN_FLIGHT, one))
                curves.append(curve)
    return Section(f"{len(chosen.vectors):,} {chosen.name}, against other databases", comparisons, facts), curves
