"""What the tests of vector_hnsw share: engines on a folder, vectors from a seed, and exact answers from numpy."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from plugins.vector_hnsw.engine import Engine, Item, Metric, Query, SearchResult
from shared.vectors.filters import Condition, Filter

Floats = npt.NDArray[np.float32]


@contextlib.contextmanager
def opened(folder: Path, **options: int) -> Iterator[Engine]:
    """An engine on the folder, closed in the end."""
    engine = Engine(folder, **options)
    engine.open()
    try:
        yield engine
    finally:
        engine.close()


def all_of(*conditions: Condition) -> Filter:
    return Filter(must=conditions)


def vectors(count: int, dimension: int, seed: int = 1) -> Floats:
    return np.random.default_rng(seed).normal(size=(count, dimension)).astype(np.float32)


def items(matrix: Floats, prefix: str = "i") -> list[Item]:
    return [Item(f"{prefix}{index}", vector) for index, vector in enumerate(matrix)]


def exact_scores(metric: Metric, query: Floats, matrix: Floats) -> npt.NDArray[np.float64]:
    """The contract's scores, in double precision."""
    q, rows = query.astype(np.float64), matrix.astype(np.float64)
    if metric is Metric.DOT:
        return np.asarray(rows @ q)
    if metric is Metric.EUCLIDEAN:
        return np.asarray(1 / (1 + np.linalg.norm(rows - q, axis=1)))
    return np.asarray(np.clip(rows @ q / (np.linalg.norm(rows, axis=1) * np.linalg.norm(q)), -1, 1))


def labels_of(engine: Engine, collection: str, names: Sequence[str]) -> dict[str, int]:
    """By which label the graph knows each of these items."""
    number = engine.describe(collection, sample=False).spec.number
    return {name: place.label for name, place in engine._store.places(number, names).items()}


def graphs(folder: Path) -> Path:
    """Where the one store in the folder keeps its graphs."""
    (found,) = (folder / "graphs").iterdir()
    return found


def killed(folder: Path, to: Path) -> Path:
    """The folder as a kill would leave it now: files as they are, nothing closed.

    All files are of one moment. A thread of the store may be at work, after deletes above all: it folds the log into
    the file and empties it, and a copy of the file from before that, with the log from behind it, has neither.
    """
    for _ in range(1000):
        before = _states(folder)
        try:
            shutil.copytree(folder, to, ignore=shutil.ignore_patterns("lock"))
            if _states(folder) == before:
                return to
        except shutil.Error:  # a file went while it was copied
            if _states(folder) == before:
                raise
        shutil.rmtree(to)
    raise AssertionError(f"{folder} does not come to rest")


def _states(folder: Path) -> dict[Path, tuple[int, ...]]:
    """By what each file would be another one: all but that of the log's index, which is memory."""
    states: dict[Path, tuple[int, ...]] = {}
    for path in folder.rglob("*"):
        with contextlib.suppress(FileNotFoundError):
            about = path.lstat()
            if not path.name.endswith("-shm"):
                states[path] = about.st_ino, about.st_size, about.st_mtime_ns
    return states


def ids(result: SearchResult) -> list[str]:
    return [hit.id for hit in result.hits]


def contents(engine: Engine, collection: str, dimension: int) -> dict[str, tuple[bytes, str]]:
    """Everything in a collection: id to vector bytes and metadata. Fails when an id is there twice."""
    query = Query(np.ones(dimension, np.float32), limit=1000, exact=True, with_vectors=True)
    found: dict[str, tuple[bytes, str]] = {}
    for offset in range(0, 10**9, 1000):
        page = engine.search(collection, query._replace(offset=offset))
        for hit in page.hits:
            assert hit.id not in found, f"{hit.id} came twice"
            assert hit.vector is not None
            found[hit.id] = (hit.vector.tobytes(), hit.metadata)
        if len(page.hits) < 1000:
            return found
    raise AssertionError("no end")


def assert_holds(
    engine: Engine, collection: str, expected: Mapping[str, Floats], metric: Metric = Metric.COSINE
) -> None:
    """The collection has exactly these vectors, and a search by graph finds each of them and scores it right."""
    dimension = len(next(iter(expected.values()))) if expected else engine.describe(collection).spec.dimension
    stored = {id_: raw for id_, (raw, _) in contents(engine, collection, dimension).items()}
    assert stored == {id_: vector.tobytes() for id_, vector in expected.items()}
    names, matrix = list(expected), np.array(list(expected.values()), np.float32).reshape(len(expected), dimension)
    for name, vector in list(expected.items())[:100]:
        truth = dict(zip(names, exact_scores(metric, vector, matrix), strict=True))
        found = engine.search(collection, Query(vector, limit=10))
        assert len(found.hits) == min(10, len(names)), name
        assert len(set(ids(found))) == len(found.hits), name
        for hit in found.hits:
            assert abs(hit.score - truth[hit.id]) <= 1e-5 * max(1, abs(truth[hit.id])), (name, hit)
        assert abs(found.hits[0].score - max(truth.values())) <= 1e-5 * max(1, max(truth.values())), name
