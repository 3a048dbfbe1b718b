"""Export and import: a round trip equals the original, in bounded memory, and goes on where it was cut off."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import hector_plugins_pb2 as pb
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from plugins.vector_hnsw import transfer
from shared.errors import StartError
from tests.test_vector_admin import admin
from tests.vector_tools import contents
from tests.vector_wire import Database, serving, vector

WRITE = {"jsonl": transfer.write_lines, "npz": transfer.write_npz}
SPECS = [
    pb.CollectionInfo(dimension=3, metric=pb.METRIC_COSINE),
    pb.CollectionInfo(
        dimension=3,
        metric=pb.METRIC_DOT,
        index=pb.IndexParams(m=9, ef_construction=77, ef_search=33),
        embedding_model="all-MiniLM 1\0\n",
    ),
]
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)
ITEMS = st.lists(
    st.builds(
        lambda name, row, value: pb.Vector(id=name, vector=row.tolist(), metadata_json=json.dumps(value)),
        TEXTS.map(lambda text: text or "\0"),
        arrays.arrays(np.float32, 3, elements=st.floats(width=32, allow_nan=False, allow_infinity=False)),
        st.dictionaries(TEXTS, VALUES, max_size=3),
    ),
    max_size=8,
)


@pytest.mark.parametrize("kind", WRITE)
@given(st.sampled_from(SPECS), ITEMS)
def test_any_collection_in_a_file(
    tmp_path_factory: pytest.TempPathFactory, kind: str, about: pb.CollectionInfo, items: list[pb.Vector]
) -> None:
    """What a file was written of is read from it: how it was made, ids with NUL, numbers of any size, no items."""
    file = tmp_path_factory.mktemp("files") / f"c.{kind}"
    WRITE[kind](file, about, items)
    found_about, found = transfer.read(file)
    found_items = list(found)
    assert found_about == about
    assert [one.id for one in found_items] == [one.id for one in items]
    assert all(transfer.is_same(*pair) for pair in zip(found_items, items, strict=True))
    assert [json.loads(one.metadata_json) for one in found_items] == [json.loads(one.metadata_json) for one in items]


@pytest.mark.slow
@pytest.mark.parametrize("kind", WRITE)
def test_memory_is_bounded_by_a_batch(tmp_path: Path, kind: str) -> None:
    """5,000 items, one of them with 300 kB of text, are written, read and put into requests within 30 MB."""

    def many() -> Iterator[pb.Vector]:
        for n in range(5000):
            text = "x" * 300_000 if n == 7 else "y"
            yield pb.Vector(id=f"i{n}", vector=[float(n)] * 256, metadata_json=json.dumps({"text": text}))

    tracemalloc.start()
    try:
        WRITE[kind](tmp_path / f"c.{kind}", pb.CollectionInfo(dimension=256), many())
        sizes = [
            (len(one.vectors), one.ByteSize())
            for one in transfer.batches("c", transfer.read(tmp_path / f"c.{kind}")[1])
        ]
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert sum(count for count, _ in sizes) == 5000
    assert max(size for _, size in sizes) < 4 * 2**20
    assert peak < 30e6


def test_requests_are_bounded_in_bytes() -> None:
    """Ten items of a megabyte go in ten requests, however few they are."""
    large = [pb.Vector(id=str(n), metadata_json='"' + "x" * 2**20 + '"') for n in range(10)]
    assert [len(one.vectors) for one in transfer.batches("c", large)] == [1] * 10


@pytest.mark.parametrize("kind", WRITE)
def test_a_file_that_was_cut_off_is_named(tmp_path: Path, kind: str) -> None:
    """A file that ends too early is an error that names it, after the items before that."""
    file = tmp_path / f"c.{kind}"
    WRITE[kind](file, SPECS[0], [vector(f"i{n}", n, 1, 2, metadata_json="{}") for n in range(2000)])
    file.write_bytes(file.read_bytes()[:-40])
    with pytest.raises(StartError, match=r"c\."):
        list(transfer.read(file)[1])


# ---------------------------------------------------------------- through the command


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    with serving(tmp_path / "data") as database:
        yield database


def run(database: Database, folder: Path, *arguments: str) -> str:
    done = admin(*arguments, "--address", database.server.address, folder=folder)
    assert done.returncode == 0, done.stderr
    return done.stderr


def described(database: Database, name: str) -> pb.CollectionInfo:
    return database.stub.DescribeCollection(pb.DescribeCollectionRequest(name=name)).collection


@pytest.mark.slow
@pytest.mark.parametrize("kind", WRITE)
@pytest.mark.parametrize("count", [0, 1, 1100])
def test_a_round_trip_is_the_original(database: Database, tmp_path: Path, kind: str, count: int) -> None:
    """Metric, index parameters, embedding model, ids, vectors and metadata text are those that were exported."""
    parameters = pb.IndexParams(m=9, ef_construction=77, ef_search=33)
    database.create("a", 4, metric=pb.METRIC_EUCLIDEAN, index=parameters, embedding_model="model 1")
    rows = [
        vector(f"i{n}\0", n, 1, 0, -0.0, metadata_json=json.dumps({"z": 1, "a": 1.0, "big": 2**63 + n}))
        for n in range(count)
    ]
    if rows:
        assert database.upsert(*rows, collection="a").success
    run(database, tmp_path, "export", "a", f"a.{kind}")
    run(database, tmp_path, "import", "b", f"a.{kind}")
    for field in ("dimension", "metric", "index", "embedding_model", "count"):
        assert getattr(described(database, "a"), field) == getattr(described(database, "b"), field)
    assert contents(database.engine, "a", 4) == contents(database.engine, "b", 4)


def test_an_import_goes_on_where_it_stopped(database: Database, tmp_path: Path) -> None:
    """Started again, an import sends nothing of what is there, and all of the rest; what was changed since it sends."""
    database.create("a", 4)
    database.upsert(*[vector(f"i{n}", n, 1, 0, 0) for n in range(1700)], collection="a")
    run(database, tmp_path, "export", "a", "a.jsonl")
    lines = (tmp_path / "a.jsonl").read_text().split("\n")
    (tmp_path / "half.jsonl").write_text("\n".join(lines[:1001]) + "\n")
    run(database, tmp_path, "import", "b", "half.jsonl")
    before = described(database, "b").sequence
    assert "imported 1,700 vectors" in run(database, tmp_path, "import", "b", "a.jsonl")
    assert described(database, "b").sequence == before + 2  # of four batches
    assert contents(database.engine, "a", 4) == contents(database.engine, "b", 4)


def test_an_import_into_another_kind_of_collection_is_refused(database: Database, tmp_path: Path) -> None:
    """Vectors that were compared by another metric are not mixed in without a word."""
    database.create("a", 4, metric=pb.METRIC_DOT)
    database.create("b", 4)
    run(database, tmp_path, "export", "a", "a.jsonl")
    done = admin("import", "b", "a.jsonl", "--address", database.server.address, folder=tmp_path)
    assert done.returncode == 2
    assert "the file has metric METRIC_DOT, collection b METRIC_COSINE" in done.stderr
