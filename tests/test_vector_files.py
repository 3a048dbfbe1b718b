"""Whose files are whose: vector_hnsw removes only what it wrote, and what it makes is for its owner alone."""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hector_plugins_pb2 as pb
import hector_plugins_pb2_grpc as rpc
import pytest

from plugins.vector_hnsw.engine import Engine, flat
from plugins.vector_hnsw.engine import snapshots as snapshots_module
from plugins.vector_hnsw.engine.cache import GraphCache
from plugins.vector_hnsw.engine.files import sync_folder
from shared.errors import StartError
from tests.servers import environment, run_plugin, start_plugin
from tests.vector_tools import assert_holds, graphs, items, killed, opened, vectors

MODULE = "plugins.vector_hnsw"
ROWS = vectors(40, 4)


def fill(folder: Path) -> None:
    with opened(folder) as engine:
        engine.create("c", 4)
        engine.upsert("c", items(ROWS))
        engine.create_snapshot("c", "s")


def everything(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# ---------------------------------------------------------------- what is not ours

FOREIGN = (
    "graphs/figure-1.png",
    "graphs/paper.pdf",
    "graphs/7.json",
    "graphs/7-12.hnsw",
    "graphs/notes.tmp",
    "graphs/1.json",
    "graphs/deep/99-1.hnsw.tmp",
    "snapshots/holiday/beach.tmp",
    "snapshots/holiday/beach.jpg.tmp",
    "snapshots/c/s.db.tmp",
    "snapshots/c/new.db.tmp",
    "lock",
)


def test_a_folder_that_was_somebodys_is_left_alone(tmp_path: Path) -> None:
    """Figures, a PDF, files named nearly or just like ours in graphs/ and snapshots/ outlive starts, saves, a snapshot,
    a delete and a stop."""
    with opened(tmp_path) as engine:  # so that there is a store
        engine.create("gone", 4)
        engine.upsert("gone", items(ROWS))
    for name in FOREIGN:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(f"mine: {name}".encode())
    with start_plugin(MODULE, "--data-dir", str(tmp_path)) as plugin:
        stub = rpc.DatabaseProviderStub(plugin.channel())
        assert stub.CreateCollection(pb.CreateCollectionRequest(name="c", dimension=4)).success
        new = [pb.Vector(id="a", vector=[1, 0, 0, 0])]
        assert stub.UpsertVectors(pb.UpsertVectorsRequest(collection="c", vectors=new)).success
        assert stub.CreateSnapshot(pb.CreateSnapshotRequest(collection="c", name="new")).success
        assert stub.DeleteCollection(pb.DeleteCollectionRequest(name="gone")).success
        assert plugin.terminate() == 0
    fill(tmp_path / "other")
    found = everything(tmp_path)
    assert {name: found.get(name) for name in FOREIGN} == {name: f"mine: {name}".encode() for name in FOREIGN}


def test_pictures_before_the_first_start(tmp_path: Path) -> None:
    """Folders of the names that the plugin uses, with somebody's pictures, are no reason to refuse or to delete."""
    for name in ("graphs/a.png", "snapshots/b.png"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_bytes(b"picture")
    fill(tmp_path)
    with opened(tmp_path) as engine:
        assert_holds(engine, "c", {f"i{n}": row for n, row in enumerate(ROWS)})
    assert (tmp_path / "graphs/a.png").read_bytes() == (tmp_path / "snapshots/b.png").read_bytes() == b"picture"


def test_what_a_kill_leaves_half_written_is_removed(tmp_path: Path) -> None:
    """Half a graph and half a snapshot are gone after the next start, and so are graphs of deleted collections."""
    fill(tmp_path)
    ours = graphs(tmp_path)
    before = everything(tmp_path)
    for name in ("1-99.hnsw.tmp", "1.json.tmp", "5-3.hnsw", "5.json"):
        (ours / name).write_bytes(b"half")
    aside = tmp_path / "snapshots" / f".{ours.name}"
    aside.mkdir()
    (aside / "snapshot.db.tmp").write_bytes(b"half")
    with opened(tmp_path) as engine:
        assert [one.name for one in engine.list_snapshots()] == ["s"]
    assert everything(tmp_path).keys() == before.keys()
    assert not aside.exists()


def test_a_kill_between_the_two_renames_of_a_snapshot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A snapshot whose file is in place and whose header is not yet is completed at the next start: no orphan."""
    engine = Engine(tmp_path / "live")
    engine.open()
    engine.create("c", 4)
    engine.upsert("c", items(ROWS))
    copies: list[Path] = []
    real = sync_folder

    def copying(folder: Path) -> None:
        real(folder)
        if folder.name == "c" and not copies:
            copies.append(killed(tmp_path / "live", tmp_path / "killed"))

    monkeypatch.setattr(snapshots_module, "sync_folder", copying)
    engine.create_snapshot("c", "s")
    engine.close()
    (copy,) = copies
    assert sorted(path.name for path in (copy / "snapshots" / "c").iterdir()) == ["s.db"]
    with opened(copy) as engine:
        assert [one.name for one in engine.list_snapshots()] == ["s"]
        engine.delete("c")
        engine.restore_snapshot("c", "s")
        assert engine.count("c") == len(ROWS)
    assert sorted(path.name for path in (copy / "snapshots").rglob("*")) == ["c", "s.db", "s.json"]


@pytest.mark.usefixtures("only_graphs")
def test_graphs_of_an_earlier_version_are_taken_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A graph that lies in graphs/ itself and says that it is this store's is used, not built anew."""
    fill(tmp_path)
    ours = graphs(tmp_path)
    for path in ours.iterdir():
        path.rename(tmp_path / "graphs" / path.name)
    ours.rmdir()
    loaded: list[bool] = []
    real = GraphCache.load

    def load(*values: Any) -> Any:
        found = real(*values)
        loaded.append(found is not None)
        return found

    monkeypatch.setattr(GraphCache, "load", load)
    with opened(tmp_path):
        assert loaded == [True]
    assert [path.name for path in (tmp_path / "graphs").iterdir()] == [ours.name]


def test_admin_export_overwrites_nothing_but_its_target(tmp_path: Path) -> None:
    """`export docs out.jsonl` leaves somebody's out.jsonl.tmp alone, and what it writes is for the owner only."""
    fill(tmp_path / "data")
    (tmp_path / "out.jsonl.tmp").write_text("mine")
    with start_plugin(MODULE, "--data-dir", str(tmp_path / "data")) as plugin:
        for name in ("out.jsonl", "out.npz"):
            before = os.umask(0)
            try:
                done = run_plugin(f"{MODULE}.admin", "export", "c", name, "--address", plugin.address, cwd=tmp_path)
            finally:
                os.umask(before)
            assert done.returncode == 0, done.stderr
            assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o600
    assert (tmp_path / "out.jsonl.tmp").read_text() == "mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "out.jsonl", "out.jsonl.tmp", "out.npz"]


# ---------------------------------------------------------------- a store that is missing


@pytest.mark.parametrize("left", ["both", "graphs", "snapshots"])
@pytest.mark.usefixtures("only_graphs")
def test_a_missing_store_is_not_replaced_by_an_empty_one(tmp_path: Path, left: str) -> None:
    """Without store.db beside graphs or snapshots the start is refused with the remedy; put back, all is there."""
    fill(tmp_path / "data")
    (tmp_path / "data" / "store.db").rename(tmp_path / "saved.db")
    for folder in {"both": (), "graphs": ("snapshots",), "snapshots": ("graphs",)}[left]:
        (tmp_path / "data" / folder).rename(tmp_path / folder)
    ended = run_plugin(MODULE, "--port", "0", "--data-dir", str(tmp_path / "data"))
    assert ended.returncode == 2
    assert ended.stderr.count("\n") == 1
    assert "store.db" in ended.stderr
    assert "put it back from a backup, or move" in ended.stderr
    assert not (tmp_path / "data" / "store.db").exists()
    (tmp_path / "saved.db").rename(tmp_path / "data" / "store.db")
    with opened(tmp_path / "data") as engine:
        assert engine.count("c") == len(ROWS)


def test_a_copy_on_its_way_to_store_db_is_not_thrown_away(tmp_path: Path) -> None:
    """A whole store named store.db.new, as a backup may be called, is not deleted where store.db is missing."""
    fill(tmp_path / "data")
    shutil.rmtree(tmp_path / "data" / "graphs")
    shutil.rmtree(tmp_path / "data" / "snapshots")
    (tmp_path / "data" / "store.db").rename(tmp_path / "data" / "store.db.new")
    for raw in (None, b"something else"):
        if raw is not None:
            (tmp_path / "data" / "store.db.new").rename(tmp_path / "saved.db")
            (tmp_path / "data" / "store.db.new").write_bytes(raw)
        kept = (tmp_path / "data" / "store.db.new").read_bytes()
        with pytest.raises(StartError, match=r"store\.db\.new"):
            Engine(tmp_path / "data").open()
        assert (tmp_path / "data" / "store.db.new").read_bytes() == kept
    (tmp_path / "saved.db").rename(tmp_path / "data" / "store.db")
    (tmp_path / "data" / "store.db.new").unlink()
    with opened(tmp_path / "data") as engine:
        assert engine.count("c") == len(ROWS)


# ---------------------------------------------------------------- permissions


def modes(folder: Path) -> Iterator[tuple[str, int, bool]]:
    for path in [folder, *folder.rglob("*")]:
        with contextlib.suppress(FileNotFoundError):  # a graph that was just being saved has its own name by now
            yield str(path.relative_to(folder)), stat.S_IMODE(path.lstat().st_mode), path.is_dir()


@pytest.mark.slow
@pytest.mark.parametrize("umask", ["000", "022", "277"])
def test_new_files_are_for_their_owner_alone(tmp_path: Path, umask: str) -> None:
    """Whatever the umask, new folders have mode 0700 and new files 0600, while the plugin runs and afterwards."""
    data = tmp_path / "new" / "data"
    command = f'umask {umask}; exec "{sys.executable}" -B -m {MODULE} --port 0 --data-dir "{data}"'
    with start_plugin(["bash", "-c", command], env=environment()) as plugin:
        stub = rpc.DatabaseProviderStub(plugin.channel())
        assert stub.CreateCollection(pb.CreateCollectionRequest(name="c", dimension=4)).success
        new = [pb.Vector(id=f"i{n}", vector=[1, n, 0, 0]) for n in range(flat.MOST + 1)]
        assert stub.UpsertVectors(pb.UpsertVectorsRequest(collection="c", vectors=new)).success
        assert stub.CreateSnapshot(pb.CreateSnapshotRequest(collection="c", name="s")).success
        running = list(modes(tmp_path / "new"))
        assert plugin.terminate() == 0
    names = {name for name, *_ in running}
    assert {"data/store.db", "data/store.db-wal", "data/store.db-shm", "data/lock", "data/snapshots/c/s.db"} <= names
    stopped = list(modes(tmp_path / "new"))
    assert any(name.endswith(".hnsw") for name, *_ in stopped)
    wrong = [(name, oct(mode)) for name, mode, folder in running + stopped if mode != (0o700 if folder else 0o600)]
    assert wrong == []
