"""What several threads do at once in one process that reads a vector store beside the one that writes it."""

from __future__ import annotations

import contextlib
import itertools
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from plugins.vector_hnsw.engine import (
    Item,
    Metric,
    Query,
    ReaderEngine,
    SearchResult,
    change_log,
    flat,
    following,
    keeping_up,
    moment,
    read_only,
)
from plugins.vector_hnsw.engine.graph import Graph
from plugins.vector_hnsw.engine.read_only import AtLabel
from plugins.vector_hnsw.engine.searching import Changed
from shared.errors import Unavailable
from shared.vectors.filters import Compare, Operator
from tests.servers import wait_until
from tests.test_vector_readers import DIMENSION, MATRIX, assert_same, both, held
from tests.vector_tools import all_of, ids, items, vectors


def in_a_thread(work: Callable[[], object]) -> None:
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()


class Waited(threading.Event):
    """`waits` has the seconds for which somebody has begun to wait for it."""

    def __init__(self) -> None:
        super().__init__()
        self.waits: list[float | None] = []

    def wait(self, timeout: float | None = None) -> bool:
        self.waits.append(timeout)
        return super().wait(timeout)


def let_rest(reader: ReaderEngine, patch: pytest.MonkeyPatch) -> None:
    """Afterwards the thread that follows has looked for the last time, and waits to be wanted."""
    waited = reader._moment.is_wanted = Waited()  # before the next line: it would wait so long for the old one
    patch.setattr(keeping_up, "_LOOK_EVERY", 600.0)
    wait_until(lambda: 600.0 in waited.waits, "rest of the thread that follows")


@pytest.mark.parametrize("most", [0, 1000], ids=["graph", "flat"])
def test_what_others_read_is_not_of_this_moment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    """A search within a moment answers as of it, whatever others read meanwhile that was written since."""
    monkeypatch.setattr(flat, "MOST", most)
    with both(tmp_path) as (writer, reader):
        writer.upsert("c", [Item(f"i{n}", vector, '{"n":1}') for n, vector in enumerate(MATRIX[:50])])
        fits = all_of(Compare("n", Operator.EQ, 1))
        asked = Query(MATRIX[3], limit=1, ef=100)
        queries = [asked, asked._replace(filter=fits), asked._replace(exact=True, filter=fits)]
        with reader._moment:
            writer.upsert("c", [Item("i3", MATRIX[100], '{"n":2}')])

            def read() -> None:  # as whoever has looked, a moment ago, whether the store has moved
                for query in queries:
                    with contextlib.suppress(Changed):
                        reader._find("c").search(query)

            in_a_thread(read)
            for query in queries:
                found = reader.search("c", query)
                assert [(hit.id, hit.metadata) for hit in found.hits] == [("i3", '{"n":1}')]
            batch: list[SearchResult] = reader.search_many("c", [asked, asked])
            assert [ids(found) for found in batch] == [["i3"], ["i3"]]
        for query in queries[1:]:
            assert ids(reader.search("c", query)) != ["i3"]
        assert reader.search("c", asked._replace(limit=50, filter=None)).hits[-1].metadata


def test_indexes_are_forgotten_between_two_looks(tmp_path: Path) -> None:
    """A filter is answered also where another thread, which brings memory up, forgets the fields' indexes meanwhile."""

    class Forgotten(dict[int, set[str]]):
        """Empty after each look."""

        def __contains__(self, number: object) -> bool:
            found = super().__contains__(number)
            self.clear()
            return found

        def get(self, number: int, default: Any = None) -> Any:
            found = super().get(number, default)
            self.clear()
            return found

    with both(tmp_path) as (writer, reader):
        writer.upsert("c", [Item(f"i{n}", vector, '{"n":1}') for n, vector in enumerate(MATRIX[:5])])
        fields = reader._store.fields
        fields._paths = Forgotten()
        for _ in range(2):
            assert reader.count("c", all_of(Compare("n", Operator.EQ, 1))) == 5
        assert fields.of(1) == fields.of(1) == set()


def test_a_count_is_of_a_whole_write() -> None:
    """Whoever counts while a write is brought into memory gets how many there were before it, or after."""
    labels = following.SeenLabels()
    labels.load([(label, 1, bytes([label])) for label in range(10)])
    counted = set()

    class Looked(dict[int, AtLabel]):
        """What is there now. With each look somebody counts."""

        def get(self, label: int, default: Any = None) -> Any:
            counted.add(labels.count)
            return super().get(label, default)

    there = Looked({label: AtLabel(2, label, 1) for label in range(8, 16)})
    labels.settle({label: labels.items(label) for label in range(16)}, there)
    assert counted <= {10, 8}
    assert labels.count == 8


def test_a_call_opens_no_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where another store was opened, and bringing memory up to it failed, the thread that follows builds all graphs
    and calls wait for it."""
    with both(tmp_path) as (writer, reader):
        writer.upsert("c", items(MATRIX[:5]))
        opening: list[str] = []
        real = type(reader)._read_catalogue

        def read(self: object, now: int, *, at_start: bool) -> None:
            opening.append(threading.current_thread().name)
            real(reader, now, at_start=at_start)

        with monkeypatch.context() as patched:
            patched.setattr(type(reader), "_read_catalogue", read)
            let_rest(reader, patched)
            reader._seen = None
            assert reader.count("c") == 5
            reader._moment.is_wanted.set()
        assert opening == ["follow"]


def test_a_load_starves_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A call is answered also where more is written, each time that memory was brought up, than a call brings up: once
    that was done since it began, it does the rest."""
    monkeypatch.setattr(change_log, "_MANY", 10)
    monkeypatch.setattr(moment, "PATIENCE", 20.0)
    with both(tmp_path) as (writer, reader):
        real, rounds = reader._bring_up, itertools.count()

        def write() -> None:
            seed = next(rounds)
            writer.upsert("c", items(vectors(20, DIMENSION, seed=100 + seed), f"{seed}-"))

        def bring_up(in_a_call: bool, *rest: Any) -> bool:
            done = real(in_a_call, *rest)
            if not in_a_call:
                write()
            return done

        monkeypatch.setattr(reader, "_bring_up", bring_up)
        for n in range(3):
            write()
            writer.upsert("c", [Item(f"mine{n}", MATRIX[n])])
            assert ids(reader.search("c", Query(MATRIX[n], limit=1))) == [f"mine{n}"]
            assert reader.count("c") > 20 * n


def test_who_comes_late_does_not_wait_as_long(tmp_path: Path) -> None:
    """Where a call has waited in vain for as long as one does, those behind it in the queue fail soon; and once memory
    can be brought up calls are answered."""
    with both(tmp_path) as (writer, reader):
        with held(reader):
            writer.upsert("c", items(MATRIX[:2]))
            reader._moment._shut_since = time.monotonic() - 2 * moment.PATIENCE
            began = time.monotonic()
            for _ in range(3):
                with pytest.raises(Unavailable, match="taken in"):
                    reader.search("c", Query(MATRIX[0]))
            assert time.monotonic() - began < moment.PATIENCE
        wait_until(lambda: not reader._has_moved(reader._seen), "memory that is brought up")
        assert reader.count("c") == 2


@pytest.mark.parametrize("deleted", ["nothing", "i4"])
def test_a_graph_is_saved_while_a_reader_opens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, deleted: str
) -> None:
    """What a reader loads is not newer than the moment of which it answers, and it has a graph afterwards."""
    monkeypatch.setattr(flat, "MOST", 0)
    real = read_only.SavedGraphs.load
    with both(tmp_path) as (writer, reader):
        writer.upsert("c", items(MATRIX[:50]))
        writer._save(writer._find("c"))
        let_rest(reader, monkeypatch)

        def load(self: read_only.SavedGraphs, *rest: Any) -> Any:
            monkeypatch.setattr(read_only.SavedGraphs, "load", real)
            writer.upsert("c", [Item("i3", MATRIX[100])])
            writer.delete_vectors("c", [deleted])
            writer._save(writer._find("c"))
            return real(self, *rest)

        monkeypatch.setattr(read_only.SavedGraphs, "load", load)
        reader._use(reader._store)  # as at its start
        with reader._moment:
            for n in (3, 4):
                assert ids(reader.search("c", Query(MATRIX[n], limit=1))) == [f"i{n}"]
        assert_same(writer, reader)
        assert ids(reader.search("c", Query(MATRIX[100], limit=1))) == ["i3"]
        assert reader._find("c").graph is not None
    assert "event=graph_lost" not in caplog.text


def test_what_was_saved_as_deleted_is_deleted_again(tmp_path: Path) -> None:
    """A label that a file has as deleted, and memory has not, can be deleted."""
    saved, loaded = (Graph(Metric.COSINE, DIMENSION, 8, 40, 1) for _ in range(2))
    saved.put(list(range(10)), MATRIX[:10], [1] * 10)
    saved.delete([4])
    (tmp_path / "graph").touch()
    saved.write_file(str(tmp_path / "graph"))
    loaded.adopt(loaded.read_file(str(tmp_path / "graph")), dict.fromkeys(range(10), 1))
    loaded.delete([4, 5])
    found = loaded.search(Metric.COSINE.prepare(MATRIX[4:5])[0], 8, 8)
    assert found is not None
    assert sorted(found.labels) == [0, 1, 2, 3, 6, 7, 8, 9]
