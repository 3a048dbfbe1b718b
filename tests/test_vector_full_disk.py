"""On a disk that is full, whatever is to be deleted can be, as a whole or not at all."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from plugins.vector_hnsw.engine import Engine, Item
from plugins.vector_hnsw.engine.collection import OpenCollection
from plugins.vector_hnsw.engine.database import Database
from shared.errors import StorageFull
from tests.servers import ROOT, environment
from tests.vector_tools import assert_holds, killed, opened, vectors

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
