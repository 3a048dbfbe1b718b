"""On a disk that is full, whatever is to be deleted can be, as a whole or not at all."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from plugins.vector_hnsw.engine import Engine, Item, Query
from plugins.vector_hnsw.engine.collection import OpenCollection
from plugins.vector_hnsw.engine.database import Database
from plugins.vector_hnsw.engine.store import Store
from shared.errors import StorageFull
from shared.vectors.filters import Exists
from tests.servers import ROOT, environment, wait_until
from tests.vector_tools import all_of, assert_holds, ids, killed, opened, vectors

ROWS = vectors(3000, 4)


@pytest.mark.slow
@pytest.mark.parametrize("what", ["collection", "most", "half"])
def test_one_large_delete(tmp_path: Path, what: str) -> None:
    """Killed on a disk with not a byte left, a plugin starts there, and a collection, most of one, or every other item
    of one is deleted with one call; then there is room again, and the file shrinks where pages are free."""
    if shutil.which("unshare") is None or subprocess.run(["unshare", "-rm", "true"], check=False).returncode:
        pytest.skip("this machine does not let users mount in a namespace of their own")
    run = f'mount -t tmpfs -o size=16m tmpfs "{tmp_path}" && exec "{sys.executable}" -m tests.vector_full_disk'
    done = subprocess.run(
        ["unshare", "-rm", "bash", "-c", f'{run} "{tmp_path}" {what}'],
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.stdout.endswith("sound\n"), done.stdout + done.stderr


def fill(engine: Engine) -> dict[str, object]:
    engine.create("c", 4)
    about = [json.dumps({"text": "x" * 50}) for _ in ROWS]
    engine.upsert("c", [Item(f"i{n}", row, about[n]) for n, row in enumerate(ROWS)])
    return {f"i{n}": row for n, row in enumerate(ROWS) if n % 3}


GONE = [f"i{n}" for n in range(0, len(ROWS), 3)]


@pytest.fixture
def no_room_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that has no room for deleting in one transaction."""

    def full(*_: object) -> None:
        raise StorageFull("full")

    monkeypatch.setattr(OpenCollection, "delete", full)


@pytest.mark.slow
@pytest.mark.usefixtures("no_room_for_it")
def test_a_kill_in_between(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A large delete is done bit by bit; after a kill at any time everything that it named is there, or nothing."""
    monkeypatch.setattr("plugins.vector_hnsw.engine.store._PART", 400)
    copies: list[Path] = []
    real = Database.fold_in
    with opened(tmp_path / "live") as engine:
        expected = fill(engine)
        before = killed(tmp_path / "live", tmp_path / "before")

        def fold_in(database: Database) -> None:
            copies.append(killed(tmp_path / "live", tmp_path / str(len(copies))))
            real(database)

        monkeypatch.setattr(Database, "fold_in", fold_in)
        assert engine.delete_vectors("c", GONE) == (len(GONE), 3)
        monkeypatch.setattr(Database, "fold_in", real)
        assert_holds(engine, "c", expected)  # type: ignore[arg-type]
    assert len(copies) > 4
    counts = []
    for copy in [before, *copies]:
        with opened(copy) as engine:
            counts.append(engine.count("c"))
            if counts[-1] != len(ROWS):
                assert_holds(engine, "c", expected)  # type: ignore[arg-type]
            assert engine._store.sequence == (2 if counts[-1] == len(ROWS) else 3)
    assert set(counts) == {len(ROWS), len(expected)}
    assert counts == sorted(counts, reverse=True)


@pytest.mark.usefixtures("no_room_for_it")
def test_no_room_even_for_a_bit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is no room for the rest of it either, the call says so; a start with room does what was decided."""
    real = Database.transaction
    with opened(tmp_path) as engine:
        expected = fill(engine)
        calls: list[str] = []

        def transaction(database: Database, counter: str = "") -> object:
            calls.append(counter)
            if len(calls) > 2 and not counter:
                raise StorageFull("full")
            return real(database, counter)

        monkeypatch.setattr(Database, "transaction", transaction)
        with pytest.raises(StorageFull):
            engine.delete_vectors("c", GONE)
        monkeypatch.setattr(Database, "transaction", real)
        assert engine.count("c") == len(expected)
    with opened(tmp_path) as engine:
        assert_holds(engine, "c", expected)  # type: ignore[arg-type]


@pytest.mark.usefixtures("no_room_for_it")
def test_a_write_of_what_is_still_to_be_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is written after a delete that had no room to be done stays: with room the delete is done first; without,
    the write is refused. A start without room has in memory what was not deleted, and no snapshot has what was."""
    monkeypatch.setattr("plugins.vector_hnsw.engine.store._PART", 400)
    monkeypatch.setattr("plugins.vector_hnsw.engine.space._AGAIN", 3600.0)
    real = Database.transaction
    room = [2]

    def transaction(database: Database, counter: str = "") -> object:
        if not counter:
            room[0] -= 1
            if room[0] < 0:
                raise StorageFull("full")
        return real(database, counter)

    with opened(tmp_path) as engine:
        expected = fill(engine)
        monkeypatch.setattr(Database, "transaction", transaction)
        with pytest.raises(StorageFull):
            engine.delete_vectors("c", GONE)
        # Of one that was removed already, and of one that was not.
        new = [Item(GONE[0], ROWS[1]), Item(GONE[-1], ROWS[2])]
        with pytest.raises(StorageFull):
            engine.upsert("c", new)
        with pytest.raises(StorageFull):
            engine.create_snapshot("c", "s")
    with opened(tmp_path) as engine:
        assert engine.count("c") == len(expected)
        assert ids(engine.search("c", Query(ROWS[1], limit=1))) == ["i1"]
        monkeypatch.setattr(Database, "transaction", real)
        assert engine.upsert("c", new).count == 2
        expected |= {one.id: one.vector for one in new}
        assert_holds(engine, "c", expected)  # type: ignore[arg-type]
    with opened(tmp_path) as engine:
        assert_holds(engine, "c", expected)  # type: ignore[arg-type]


@pytest.mark.usefixtures("no_room_for_it")
def test_what_had_no_room_is_done_once_there_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A delete that was decided is done as soon as the disk has room, with no call in between."""
    monkeypatch.setattr("plugins.vector_hnsw.engine.space._AGAIN", 0.01)
    real = Database.transaction

    def transaction(database: Database, counter: str = "") -> object:
        if not counter:
            raise StorageFull("full")
        return real(database, counter)

    with opened(tmp_path) as engine:
        expected = fill(engine)
        monkeypatch.setattr(Database, "transaction", transaction)
        with pytest.raises(StorageFull):
            engine.delete_vectors("c", GONE)
        monkeypatch.setattr(Database, "transaction", real)
        everything = all_of(Exists("text"))
        wait_until(lambda: engine.count("c", everything) == len(expected), "the end of the delete")
        assert_holds(engine, "c", expected)  # type: ignore[arg-type]


def test_a_restore_that_cannot_even_be_undone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A restore for which the disk has no room, nor for undoing it, changes nothing, and the next one works."""

    def full(*_: object) -> int:
        raise StorageFull("full")

    with opened(tmp_path) as engine:
        engine.create("c", 4)
        engine.upsert("c", [Item("a", ROWS[0])])
        engine.create_snapshot("c", "s")
        engine.upsert("c", [Item("b", ROWS[1])])
        with monkeypatch.context() as patched:
            patched.setattr(Store, "rename", full)
            patched.setattr(Store, "drop", full)
            with pytest.raises(StorageFull):
                engine.restore_snapshot("c", "s")
        assert engine.count("c") == 2
        engine.restore_snapshot("c", "s")
        assert engine.count("c") == 1
        assert len(engine._store.collections()) == 1


@pytest.mark.slow
def test_the_reserve_is_as_large_as_the_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty store reserves 1 MiB, one that grows as much as it has, up to 48 MiB; less once it is smaller."""
    reserve, mib = tmp_path / "reserve", 2**20
    with opened(tmp_path) as engine:
        assert reserve.stat().st_size == mib
        engine.create("c", 4)
        for n in range(3):
            engine.upsert("c", [Item(f"{n}-{i}", ROWS[i], json.dumps("x" * 10_000)) for i in range(100)])
        size = (tmp_path / "store.db").stat().st_size + (tmp_path / "store.db-wal").stat().st_size
        assert max(1.1 * mib, size / 2 - mib) <= reserve.stat().st_size <= size
        monkeypatch.setattr("plugins.vector_hnsw.engine.database._MOST_RESERVED", 2 * mib)
    with opened(tmp_path) as engine:
        assert reserve.stat().st_size == 2 * mib
        engine.delete("c")
        wait_until(lambda: not engine._giving_back, "the end of giving back")
        assert reserve.stat().st_size == mib
