"""A store's log that is not of the file beside it is noticed, and one that is never taken for another's."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from plugins.vector_hnsw.engine import Engine, backup, wal
from shared.errors import StartError
from tests.servers import run_plugin
from tests.vector_tools import assert_holds, contents, items, killed, opened, vectors

ROWS = vectors(400, 8)


def copy_of(data: Path, to: Path) -> Path:
    """As `sqlite3 store.db ".backup copy.db"` makes it."""
    with closing(sqlite3.connect(data / "store.db")) as there, closing(sqlite3.connect(to)) as copy:
        there.backup(copy)
    return to


def vacuumed(data: Path, to: Path) -> Path:
    with closing(sqlite3.connect(data / "store.db")) as there:
        there.execute("VACUUM INTO ?", (str(to),))
    return to


def backed_up(data: Path, to: Path) -> Path:
    backup.make(data, to.with_suffix(""))
    return to.with_suffix("") / "store.db"


def stopped_and_copied(data: Path, to: Path) -> Path:
    return Path(shutil.copy(data / "store.db", to))


COPIES: dict[str, Callable[[Path, Path], Path]] = {
    ".backup": copy_of,
    "VACUUM INTO": vacuumed,
    "admin backup": backed_up,
}


def assert_noticed(data: Path, expected: int) -> None:
    """The start is refused and changes nothing; done as it says, the store is the backup's."""
    before = {path.name: path.read_bytes() for path in data.glob("store.db*")}
    assert len(before["store.db-wal"]) > 0
    with pytest.raises(StartError, match=r"move store\.db-wal and store\.db-shm away"):
        Engine(data).open()
    with pytest.raises(StartError, match=r"move store\.db-wal and store\.db-shm away"):
        backup.make(data, data.with_name("never"))
    assert {path.name: path.read_bytes() for path in data.glob("store.db*")} == before
    for name in ("store.db-wal", "store.db-shm"):
        (data / name).rename(data.with_name(name))
    with opened(data) as engine:
        assert_holds(engine, "c", {f"i{n}": ROWS[n] for n in range(expected)})


@pytest.mark.parametrize("make", COPIES.values(), ids=COPIES)
@pytest.mark.parametrize("when", ["in this log", "before this log", "before this run"])
def test_a_copy_put_back_beside_an_old_log(tmp_path: Path, make: Callable[[Path, Path], Path], when: str) -> None:
    """However a store that was running was copied, put back beside the log of a plugin that was killed since it is
    noticed: a little later, after the log was folded in, and after a restart."""
    live = tmp_path / "live"
    engine = Engine(live)
    engine.open()
    engine.create("c", 8)
    engine.upsert("c", items(ROWS[:100]))
    copy = make(live, tmp_path / "copy.db")
    if when == "before this log":
        engine._store.database.fold_in()
    if when == "before this run":
        engine.close()
        engine = Engine(live)
        engine.open()
    engine.delete_vectors("c", [f"i{n}" for n in range(50)])
    engine.upsert("c", items(ROWS[100:200], "later"))
    data = killed(live, tmp_path / "data")
    engine.close()
    shutil.copy(copy, data / "store.db")
    assert_noticed(data, 100)


def test_a_stopped_plugins_file_put_back_beside_a_later_log(tmp_path: Path) -> None:
    """A plain copy of store.db, made while the plugin was stopped, is noticed beside the log of the next run."""
    live = tmp_path / "live"
    with opened(live) as engine:
        engine.create("c", 8)
        engine.upsert("c", items(ROWS[:100]))
    shutil.copy(live / "store.db", tmp_path / "copy.db")
    with opened(live) as engine:
        engine.upsert("c", items(ROWS[100:110], "later"))
        data = killed(live, tmp_path / "data")
    shutil.copy(tmp_path / "copy.db", data / "store.db")
    assert_noticed(data, 100)


def test_another_store_beside_a_log(tmp_path: Path) -> None:
    """The file of another store is noticed, too."""
    for name, count in (("a", 100), ("b", 50)):
        with opened(tmp_path / name) as engine:
            engine.create("c", 8)
            engine.upsert("c", items(ROWS[:count]))
            killed(tmp_path / name, tmp_path / f"{name}-killed")
    shutil.copy(tmp_path / "b" / "store.db", tmp_path / "a-killed" / "store.db")
    assert_noticed(tmp_path / "a-killed", 50)


def test_what_the_start_says(tmp_path: Path) -> None:
    """It ends with status 2 and one line that names the log and the remedy."""
    with opened(tmp_path / "live") as engine:
        engine.create("c", 8)
        copy = copy_of(tmp_path / "live", tmp_path / "copy.db")
        engine.create("d", 8)
        data = killed(tmp_path / "live", tmp_path / "data")
    shutil.copy(copy, data / "store.db")
    ended = run_plugin("plugins.vector_hnsw", "--port", "0", "--data-dir", str(data))
    assert ended.returncode == 2
    assert ended.stderr.count("\n") == 1
    assert "was a backup put back?" in ended.stderr
    assert "move store.db-wal and store.db-shm away" in ended.stderr


# ---------------------------------------------------------------- its own


STEPS = st.lists(
    st.sampled_from(["write", "large write", "fold", "fold a part", "begin to read", "end reading", "kill", "restart"]),
    min_size=1,
    max_size=14,
)


@pytest.mark.slow
@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(STEPS)
def test_its_own_log_is_never_refused(tmp_path_factory: pytest.TempPathFactory, steps: list[str]) -> None:
    """Whatever was written, folded in as a whole or in part beside readers, killed and started again before: after a
    kill everything is there."""
    folder = tmp_path_factory.mktemp("own")
    engine = Engine(folder / "0")
    engine.open()
    engine.create("c", 8)
    readers: list[sqlite3.Connection] = []
    written = turn = 0
    for number, step in enumerate([*steps, "kill"], start=1):
        match step:
            case "write" | "large write":
                size = 1 if step == "write" else 60
                engine.upsert("c", items(vectors(size, 8, number), f"{number}-"))
                written += size
            case "fold":
                engine._store.database._writer.execute("PRAGMA wal_checkpoint(RESTART)" if not readers else "SELECT 1")
            case "fold a part":
                engine._store.database._writer.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
            case "begin to read":
                readers.append(sqlite3.connect(folder / str(turn) / "store.db", isolation_level=None))
                readers[-1].execute("BEGIN")
                readers[-1].execute("SELECT count(*) FROM collections").fetchone()
            case "end reading" if readers:
                readers.pop().close()
            case "kill" | "restart":
                if step == "kill":
                    killed(folder / str(turn), folder / str(turn + 1))
                    turn += 1
                while readers:
                    readers.pop().close()
                engine.close()
                engine = Engine(folder / str(turn))
                engine.open()
                assert len(contents(engine, "c", 8)) == written
    engine.close()


def test_a_kill_in_the_midst_of_folding_in(tmp_path: Path) -> None:
    """A kill that left some pages of the file as they were and others as they will be is no reason to refuse it."""
    with opened(tmp_path / "live") as engine:
        for name in "abc":
            engine.create(name, 8)
        for name in "abc":  # so that there are free pages, and the file will not grow
            engine.delete(name)
        engine._store.database.fold_in()
        before = (tmp_path / "live" / "store.db").read_bytes()
        for name in "abc":
            engine.create(name, 8)
            engine.upsert(name, items(ROWS[:5]))
        engine._store.database._writer.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
        data = killed(tmp_path / "live", tmp_path / "data")
    after = (data / "store.db").read_bytes()
    assert len(after) == len(before)
    for pages in (0, 1, 2, 3, 4, 6, 10, len(after) // 8192):
        done = pages * 8192
        (data / "store.db").write_bytes(after[:done] + before[done:])
        assert not wal.is_foreign(data / "store.db"), pages
        with opened(Path(shutil.copytree(data, tmp_path / f"{pages}"))) as engine:
            assert [engine.count(name) for name in "abc"] == [5, 5, 5]


@pytest.mark.parametrize("cut", [0, 10, 32, 40, 56, 5000, 9000])
def test_a_log_that_is_cut_off(tmp_path: Path, cut: int) -> None:
    """A log of which a power cut left a few bytes is no reason to refuse the start."""
    with opened(tmp_path / "live") as engine:
        engine.create("c", 8)
        data = killed(tmp_path / "live", tmp_path / "data")
    log = data / "store.db-wal"
    log.write_bytes(log.read_bytes()[:cut].ljust(cut * 2, b"\0"))
    with opened(data) as engine:
        assert engine.describe_all() == []


def test_after_the_machine_was_down(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The log's index may be of any time then, so that it is not believed."""
    with opened(tmp_path / "live") as engine:
        engine.create("c", 8)
        early = (tmp_path / "live" / "store.db-shm").read_bytes()
        engine.upsert("c", items(ROWS[:100]))
        engine._store.database._writer.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
        data = killed(tmp_path / "live", tmp_path / "data")
    (data / "store.db-shm").write_bytes(early)
    assert wal.is_foreign(data / "store.db")  # it would be
    monkeypatch.setattr(wal, "_boot", lambda: "another")
    with opened(data) as engine:
        assert engine.count("c") == 100
