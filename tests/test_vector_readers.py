"""Readers of a vector store: processes that search beside the one that writes, and answer as it would.

Where both are engines of this process the writer is not started twice: it looks into SQLite's files, and a process that
closes a file loses its locks on it. What takes kills and restarts has processes of its own.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from plugins.vector_hnsw.engine import (
    Change,
    Engine,
    Item,
    Metric,
    Query,
    ReaderEngine,
    backup,
    flat,
    following,
    keeping_up,
    moment,
    tuning,
    wal,
)
from plugins.vector_hnsw.engine import change_log as log
from plugins.vector_hnsw.engine.counter import AWAY, Counter
from shared.errors import FailedPrecondition, NotFound, PluginError, StartError, Unavailable
from shared.vector_messages.requests import dumped
from shared.vectors.filters import Compare, Exists, Operator
from tests.servers import environment, run_plugin, wait_until
from tests.vector_tools import all_of, contents, ids, items, opened, vectors

DIMENSION = 8
MATRIX = vectors(200, DIMENSION)


@contextlib.contextmanager
def following_of(folder: Path) -> Iterator[ReaderEngine]:
    engine = ReaderEngine(folder, threads=1)
    engine.open()
    try:
        yield engine
    finally:
        engine.close()


@contextlib.contextmanager
def both(folder: Path) -> Iterator[tuple[Engine, ReaderEngine]]:
    """A writer with a collection `c`, and a reader of the same folder."""
    with opened(folder, threads=1) as writer:
        writer.create("c", DIMENSION)
        with following_of(folder) as reader:
            yield writer, reader


@contextlib.contextmanager
def held(reader: ReaderEngine) -> Iterator[None]:
    """Within, nobody can bring the reader's memory up."""
    begun, done = threading.Event(), threading.Event()

    def hold() -> None:
        with reader._moment:
            begun.set()
            done.wait(60)

    thread = threading.Thread(target=hold)
    thread.start()
    try:
        assert begun.wait(60)
        yield
    finally:
        done.set()
        thread.join()


def assert_same(writer: Engine, reader: ReaderEngine) -> None:
    """Everything that can be asked has the same answer at both; approximate searches find every vector by itself."""
    assert [one.spec for one in reader.describe_all()] == [one.spec for one in writer.describe_all()]
    assert reader.list_aliases() == writer.list_aliases()
    assert reader.list_snapshots() == writer.list_snapshots()
    for described in writer.describe_all():
        name = described.spec.name
        there = contents(writer, name, DIMENSION)
        assert contents(reader, name, DIMENSION) == there
        assert reader.count(name) == writer.count(name) == len(there)
        assert reader.get(name, list(there)).keys() == there.keys()
        fits = all_of(Compare("n", Operator.LT, 3))
        assert reader.count(name, fits) == writer.count(name, fits)
        everything = Query(MATRIX[0], limit=1000, ef=1000, filter=fits)
        assert sorted(ids(reader.search(name, everything))) == sorted(ids(writer.search(name, everything)))
        for id_, (raw, _) in itertools.islice(there.items(), 0, None, 7):
            query = Query(np.frombuffer(raw, np.float32), limit=1000, ef=1000)
            assert id_ in ids(reader.search(name, query))
            assert set(ids(reader.search(name, query))) <= there.keys()


@pytest.mark.parametrize("most", [0, 1000], ids=["graph", "flat"])
def test_a_reader_finds_what_was_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    """After each kind of write, and at once, a reader answers what the writer answers."""
    monkeypatch.setattr(flat, "MOST", most)
    with both(tmp_path) as (writer, reader):
        new = [Item(f"i{n}", vector, json.dumps({"n": n % 5})) for n, vector in enumerate(MATRIX)]
        writes: list[Callable[[], object]] = [
            lambda: writer.upsert("c", new[:150]),
            lambda: writer.upsert("c", [Item(f"i{n}", MATRIX[n + 3], '{"n":1}') for n in range(20)]),  # shared vectors
            lambda: writer.upsert("c", [Item(f"i{n}", MATRIX[n + 150], '{"n":1}') for n in range(30)]),  # moved
            lambda: writer.upsert("c", [Item("i3", MATRIX[199], '{"n":2}'), Item("new", MATRIX[0])]),
            lambda: writer.update_metadata("c", [Change("i40", {"n": 0}), Change("i41", {"m": 1})], dumped),
            lambda: writer.update_matching("c", all_of(Exists("m")), Change("", {"n": 4}), dumped),
            lambda: writer.delete_vectors("c", [f"i{n}" for n in range(10, 90)]),
            lambda: writer.delete_vectors("c", [], all_of(Compare("n", Operator.EQ, 2))),
            lambda: writer.create("d", DIMENSION, metric=Metric.DOT),
            lambda: writer.upsert("d", new[:40]),
            lambda: writer.set_alias("x", "c"),
            lambda: writer.set_alias("x", "d"),
            lambda: writer.create_snapshot("d", "s"),
            lambda: writer.delete_vectors("d", ["i0", "i1"]),
            lambda: writer.restore_snapshot("d", "s"),
            lambda: writer.upsert("d", new[60:80]),
            lambda: writer.update_index("d", m=24, ef_search=70),
            lambda: writer.delete_alias("x"),
            lambda: writer.delete("d"),
            lambda: writer.restore_snapshot("d", "s"),
            lambda: writer.delete("c"),
            lambda: writer.create("c", DIMENSION, metric=Metric.EUCLIDEAN),
            lambda: writer.upsert("c", new[10:90]),
        ]
        for write in writes:
            write()
            assert_same(writer, reader)


def test_one_request_of_many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """More than a call brings up by itself is brought up by the thread that follows, and the call waits for it."""
    monkeypatch.setattr(log, "_MANY", 10)
    monkeypatch.setattr(keeping_up, "_LOOK_EVERY", 60.0)
    with both(tmp_path) as (writer, reader):
        for start in range(0, 200, 40):
            writer.upsert("c", items(MATRIX[start : start + 40], f"{start}-"))
            assert_same(writer, reader)


def test_a_log_that_was_pruned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The log is bounded, and a reader that missed a part of it is as right as another."""
    monkeypatch.setattr(log, "MOST_ENTRIES", 6)
    monkeypatch.setattr(keeping_up, "_LOOK_EVERY", 60.0)
    looked = []
    real = following.FollowingCollection.look_through

    def look_through(self: following.FollowingCollection) -> None:
        looked.append(self)
        real(self)

    monkeypatch.setattr(following.FollowingCollection, "look_through", look_through)
    with both(tmp_path) as (writer, reader):
        for n in range(40):
            writer.upsert("c", [Item(f"i{n % 15}", MATRIX[n]), Item(f"j{n}", MATRIX[n % 9])])
            writer.delete_vectors("c", [f"j{n - 3}"])
            ((entries,),) = writer._store.database.rows("SELECT count(*) FROM changes")
            assert entries <= 7
            if n % 10 == 9:
                assert_same(writer, reader)
        assert len(looked) >= 3


def test_a_write_without_a_trace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a version wrote that keeps no log is found all the same."""
    with both(tmp_path) as (writer, reader):
        writer.upsert("c", items(MATRIX[:50]))
        assert_same(writer, reader)
        with monkeypatch.context() as without:
            without.setattr(log.ChangeLog, "note", lambda *_: None)
            without.setattr(log.ChangeLog, "note_catalogue", lambda *_: None)
            writer.upsert("c", items(MATRIX[100:130]))
            writer.delete_vectors("c", ["i40", "i41"])
            writer.create("d", DIMENSION)
            writer.set_alias("x", "d")
            assert_same(writer, reader)
        writer.upsert("d", items(MATRIX[:5]))
        assert_same(writer, reader)


def test_what_the_log_holds() -> None:
    """Numbers come back as they were, few and many, in order."""
    for numbers in ([], [0], [5, 3], [2**60, 1], list(range(1000, 3000)), [*range(0, 10_000, 7), 2**62]):
        assert log.unpacked(log.packed(numbers)) == sorted(numbers)


def test_writes_are_refused(tmp_path: Path) -> None:
    """Whatever writes is refused at a reader, with the remedy, and changes nothing."""
    with both(tmp_path) as (writer, reader):
        writer.upsert("c", items(MATRIX[:3]))
        refused: list[Callable[[], object]] = [
            lambda: reader.create("d", DIMENSION),
            lambda: reader.update_index("c", m=8),
            lambda: reader.delete("c"),
            lambda: reader.set_alias("x", "c"),
            lambda: reader.delete_alias("x"),
            lambda: reader.upsert("c", items(MATRIX[5:6])),
            lambda: reader.delete_vectors("c", ["i0"]),
            lambda: reader.update_metadata("c", [Change("i0", {})], dumped),
            lambda: reader.update_matching("c", all_of(Exists("n")), Change("", {"n": 1}), dumped),
            lambda: reader.create_snapshot("c", "s"),
            lambda: reader.delete_snapshot("c", "s"),
            lambda: reader.restore_snapshot("c", "s"),
        ]
        for write in refused:
            with pytest.raises(FailedPrecondition, match="writer's port") as caught:
                write()
            assert caught.value.reason == "READER_ONLY"
        assert_same(writer, reader)


def test_no_store_to_read(tmp_path: Path) -> None:
    """Without a store, on a backup, or on a store of another format a reader does not start, says why, and makes no
    file."""
    folder = tmp_path / "none"
    ended = run_plugin("plugins.vector_hnsw", "--port", "0", "--reader", "--data-dir", str(folder))
    assert ended.returncode == 2
    assert "holds no store.db" in ended.stderr
    assert "start it first" in ended.stderr
    assert not folder.exists()
    with opened(tmp_path / "data") as engine:
        engine.create("c", DIMENSION)
        backup.make(tmp_path / "data", tmp_path / "backup")
    with pytest.raises(StartError, match="is a backup"):
        ReaderEngine(tmp_path / "backup").open()
    for number, remedy in ((2, "start the plugin that writes it"), (99, "with the writer's version")):
        set_format(tmp_path / "data", number)
        with pytest.raises(StartError, match=remedy):
            ReaderEngine(tmp_path / "data").open()


def set_format(folder: Path, number: int) -> None:
    with closing(sqlite3.connect(folder / "store.db")) as connection, connection:
        connection.execute("UPDATE store SET value = ? WHERE key = 'format'", (str(number),))


def test_a_later_version_takes_over(tmp_path: Path) -> None:
    """When a later version has made another format of the store, a reader that runs answers nothing more."""
    with both(tmp_path) as (writer, reader):
        assert reader.count("c") == 0
        with writer._store.database.transaction() as transaction:
            transaction.execute("UPDATE store SET value = '99' WHERE key = 'format'")
        for ask in (lambda: reader.count("c"), lambda: reader.search("c", Query(MATRIX[0]))):
            with pytest.raises(Unavailable, match="the writer's version") as caught:
                ask()
            assert caught.value.reason == "OTHER_FORMAT"
        assert reader.search_now("c", Query(MATRIX[0])) is None


def test_the_counter(tmp_path: Path) -> None:
    """It is another after each commit, the same without one, in microseconds, and AWAY once the file is another."""
    with opened(tmp_path) as engine:
        counter = Counter(tmp_path / "store.db")
        seen = [counter.look()]
        engine.create("c", DIMENSION)
        seen.append(counter.look())
        for n in range(20):
            engine.upsert("c", items(MATRIX[n : n + 1]))
            seen.append(counter.look())
        engine._store.fields.create(1, "$.n")
        seen.append(counter.look())
        engine._store.database.fold_in()
        seen.append(counter.look())
        assert len(set(seen)) >= len(seen) - 1  # folding in is no write
        engine.search("c", Query(MATRIX[0]))
        assert counter.look() == seen[-1]
        took = []
        for _ in range(5):
            began = time.thread_time()
            for _ in range(1000):
                counter.look()
            took.append(time.thread_time() - began)
        assert min(took) < 0.05, "ten times of 5 µs"
        (tmp_path / "store.db-shm").rename(tmp_path / "moved")
        assert counter.look() == AWAY
        (tmp_path / "moved").rename(tmp_path / "store.db-shm")
        assert counter.look() == seen[-1]
        counter.close()
        assert counter.look() == AWAY


def test_what_is_found_while_the_store_moves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A search in whose midst something is written is answered as of one moment: here an item that moves, between two
    looks, from one vector to another is found once, and one whose metadata fits no more is not found."""
    with both(tmp_path) as (writer, reader):
        writer.upsert("c", [Item("a", MATRIX[0], '{"n":1}'), Item("b", MATRIX[1], '{"n":1}')])
        writer.upsert("c", [Item("x", MATRIX[0], '{"n":1}')])
        fits = all_of(Compare("n", Operator.EQ, 1))
        asked = [
            Query(MATRIX[0], limit=10),
            Query(MATRIX[0], limit=10, filter=fits),
            Query(MATRIX[0], limit=10, with_vectors=True),
            Query(MATRIX[0], limit=10, exact=True, filter=fits),
        ]
        places = itertools.cycle([MATRIX[1], MATRIX[0]])
        real = type(reader._find("c")).search

        def search(self: object, query: Query, wait: bool = True) -> object:
            found = real(self, query, wait)  # type: ignore[arg-type]
            if not reader._moment.is_now:
                writer.upsert("c", [Item("x", next(places), '{"n":2}')])
            return found

        for query in asked:
            writer.upsert("c", [Item("x", MATRIX[0], '{"n":1}')])
            reader.search("c", query)
            with monkeypatch.context() as patched:
                patched.setattr(type(reader._find("c")), "search", search)
                assert reader.search_now("c", query) is None or query.exact
                found = reader.search("c", query)
            assert sorted(ids(found)) == (["a", "b"] if query.filter else ["a", "b", "x"])
            for hit in found.hits:
                if hit.id == "x":
                    assert json.loads(hit.metadata) == {"n": 2}


def test_a_reader_that_is_behind_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where memory cannot be brought up in time a call fails with UNAVAILABLE, and the next one is answered."""
    with both(tmp_path) as (writer, reader):
        with held(reader), monkeypatch.context() as hurried:
            hurried.setattr(moment, "PATIENCE", 0.05)
            writer.upsert("c", items(MATRIX[:2]))
            for ask in (lambda: reader.search("c", Query(MATRIX[0])), lambda: reader.get("c", ["i0"])):
                with pytest.raises(Unavailable, match="writer's port") as caught:
                    ask()
                assert (caught.value.reason, caught.value.retry_after) == ("READER_BEHIND", 1.0)
        assert ids(reader.search("c", Query(MATRIX[0], limit=1))) == ["i0"]


def test_bringing_up_that_is_cut_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever fails while memory is brought up, what is answered afterwards is right."""
    monkeypatch.setattr(flat, "MOST", 0)
    monkeypatch.setattr(keeping_up, "_AGAIN", 0.01)
    with both(tmp_path) as (writer, reader):
        writer.upsert("c", items(MATRIX[:60]))
        assert_same(writer, reader)
        failing: list[tuple[type, str]] = [
            (following.SeenLabels, "settle"),
            (following.FollowingCollection, "_bring"),
            (type(reader._find("c").graph), "put"),
            (type(reader._find("c").graph), "delete"),
        ]
        for n, (kind, name) in enumerate(failing):
            writer.upsert("c", [Item("i0", MATRIX[100 + n]), *items(MATRIX[110 + n : 112 + n], f"{n}-")])
            writer.delete_vectors("c", [f"i{n + 10}"])
            with monkeypatch.context() as patched:

                def fail(*_: object) -> None:
                    raise MemoryError

                patched.setattr(kind, name, fail)
                with contextlib.suppress(MemoryError):
                    reader.count("c")
            assert_same(writer, reader)
            wait_until(lambda: reader._find("c").graph is not None, "a graph once more")
            assert_same(writer, reader)


def test_a_large_collection_appears(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that appears at once, as from a snapshot, is compared until it has its graph; others are searched."""
    monkeypatch.setattr(flat, "MOST", 0)
    monkeypatch.setattr(following, "_SMALL", 10)
    with both(tmp_path) as (writer, reader):
        writer.upsert("c", items(MATRIX))
        writer.create_snapshot("c", "s")
        writer.delete_vectors("c", [f"i{n}" for n in range(100)])
        assert_same(writer, reader)
        writer.restore_snapshot("c", "s")
        assert reader.count("c") == 200
        assert_same(writer, reader)
        wait_until(lambda: reader._find("c").graph is not None, "its graph")
        writer.upsert("c", items(MATRIX[:5] + 1, "more"))
        assert_same(writer, reader)


def test_a_backup_is_put_back_while_it_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While no plugin has opened what was put back a reader says so; from then on it reads that store."""
    with opened(tmp_path / "data") as writer:
        writer.create("c", DIMENSION)
        writer.upsert("c", items(MATRIX[:20]))
        backup.make(tmp_path / "data", tmp_path / "backup")
        writer.upsert("c", items(MATRIX[20:90], "later"))
        reader = ReaderEngine(tmp_path / "data")
        reader.open()
        assert reader.count("c") == 90
    with closing(reader):
        assert reader.count("c") == 90
        backup.put_back(tmp_path / "data", tmp_path / "backup", instead=True)
        with monkeypatch.context() as patched:
            patched.setattr(moment, "PATIENCE", 0.1)
            with pytest.raises(Unavailable, match="writer's port"):
                reader.count("c")
        with pytest.raises(StartError, match="start the plugin that writes it"):
            ReaderEngine(tmp_path / "data").open()
        with opened(tmp_path / "data") as writer:
            assert sorted(ids(reader.search("c", Query(MATRIX[0], limit=100)))) == sorted(f"i{n}" for n in range(20))
            writer.delete_vectors("c", ["i0"])
            assert_same(writer, reader)


def test_a_reader_leaves_no_trace(tmp_path: Path) -> None:
    """A reader changes nothing that the writer has, also where it finds it damaged or stale."""
    with opened(tmp_path, threads=1) as writer:
        writer.create("c", DIMENSION)
        writer.upsert("c", items(vectors(1500, DIMENSION)))
    (saved,) = (tmp_path / "graphs").glob("*/*.hnsw")
    saved.write_bytes(b"not a graph")
    (tmp_path / "snapshots" / ".x").mkdir(parents=True)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with following_of(tmp_path) as reader:
        assert reader.count("c") == 1500
        assert len(reader.search("c", Query(MATRIX[0])).hits) == 10
    after = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    for path in before:
        assert after[path] == before[path], path
    assert {path.name for path in after.keys() - before.keys()} <= {"store.db-wal", "store.db-shm"}


def test_a_field_gets_an_index_while_it_reads(tmp_path: Path) -> None:
    """Indexes of fields that the writer makes and drops are used and given up."""
    with both(tmp_path) as (writer, reader):
        writer.upsert("c", [Item(f"i{n}", vector, f'{{"n":{n % 5}}}') for n, vector in enumerate(MATRIX)])
        fits = all_of(Compare("n", Operator.EQ, 2))
        for change in (lambda: None, lambda: writer._store.fields.create(1, "$.n"), writer._store.fields.drop_all):
            change()
            assert reader.count("c", fits) == 40
            assert len(reader._store.fields.of(1)) == len(writer._store.fields.of(1))
            assert len(reader.search("c", Query(MATRIX[0], limit=100, filter=fits)).hits) == 40


def test_a_recall_that_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The writer finds the `ef_search` that keeps a recall; a reader uses it, and finds none of its own."""
    monkeypatch.setattr(flat, "MOST", 0)
    monkeypatch.setattr(tuning, "_REST", 0.02)
    with both(tmp_path) as (writer, reader):
        writer.create("kept", DIMENSION, ef_search=4000, target_recall=0.9)
        writer.upsert("kept", items(MATRIX))
        wait_until(lambda: writer.describe("kept", sample=False).spec.ef_search < 4000, "an ef_search")
        # The writer uses it from before it is committed on.
        wait_until(lambda: not writer._collections["kept"].tuning, "its commit")
        assert reader.describe("kept", sample=False).spec == writer.describe("kept", sample=False).spec
        assert not reader._collections["kept"].tuning
    assert "ef_not_tuned" not in caplog.text


def test_errors_are_of_now(tmp_path: Path) -> None:
    """What is not there at the writer any more is not found, and what is there now is."""
    with both(tmp_path) as (writer, reader):
        with pytest.raises(NotFound):
            reader.search("d", Query(MATRIX[0]))
        writer.create("d", DIMENSION)
        assert reader.search("d", Query(MATRIX[0])).hits == []
        writer.delete("d")
        for ask in (lambda: reader.search("d", Query(MATRIX[0])), lambda: reader.count("d")):
            with pytest.raises(NotFound):
                ask()
        assert reader.search_now("c", Query(MATRIX[0])) is not None
        reader.close()
        with pytest.raises(PluginError):
            reader.count("c")


# ---------------------------------------------------------------- the log of a store that others read

_RUN = """
import sys, os
from pathlib import Path
from plugins.vector_hnsw.engine import Engine, Item
import numpy as np
engine = Engine(Path(sys.argv[1])); engine.open()
engine.create("c", 8, if_not_exists=True)
for n in range(5):
    engine.upsert("c", [Item(f"{sys.argv[2]}-{n}", np.full(8, n + 1, np.float32))])
print("written", flush=True); sys.stdin.readline()
engine._store.database._writer.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
engine.upsert("c", [Item(f"{sys.argv[2]}-last", np.ones(8, np.float32))])
os._exit(9)
"""


@pytest.mark.slow
def test_a_log_of_several_runs_is_its_own(tmp_path: Path) -> None:
    """Somebody who reads keeps the log from being emptied when a run begins. A store whose writer is then killed after
    a part of that log was folded in starts again, with all that was written."""
    data = tmp_path / "data"
    reading_it = None
    for name in ("one", "two"):
        process = subprocess.Popen(
            [sys.executable, "-c", _RUN, str(data), name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment(),
        )
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == "written\n"
        if reading_it is not None:
            reading_it.execute("COMMIT")
        else:
            reading_it = sqlite3.connect(f"file:{data}/store.db?mode=ro", uri=True, isolation_level=None)
        reading_it.execute("BEGIN")
        reading_it.execute("SELECT count(*) FROM items_1").fetchall()
        process.stdin.write("\n")
        process.stdin.close()
        assert process.wait() == 9
        process.stdout.close()
    assert reading_it is not None
    root, _, there = wal._in_file(data / "store.db")
    with (data / "store.db-wal").open("rb") as frames:
        first = wal._Log(frames, root).rows(0)
    assert first["run"] != there["run"], "the log has one run only, so this shows nothing"
    reading_it.close()
    with opened(data) as engine:
        assert engine.count("c") == 12
