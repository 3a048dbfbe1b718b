"""Backups of a vector store: made while it is written to, and put back as they were, whatever happens in between."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hector_plugins_pb2 as pb
import hector_plugins_pb2_grpc as rpc
import pytest

from plugins.vector_hnsw import admin
from plugins.vector_hnsw.engine import Engine, backup, files
from plugins.vector_hnsw.engine.cache import GraphCache
from plugins.vector_hnsw.engine.snapshots import seal_of
from plugins.vector_hnsw.engine.verify import verify
from shared.errors import StartError
from tests.servers import ROOT, environment, start_plugin
from tests.vector_tools import Floats, assert_holds, contents, items, killed, opened, vectors

MODULE = "plugins.vector_hnsw"
ROWS = vectors(400, 8)
README = (ROOT / "plugins" / "vector_hnsw" / "README.md").read_text(encoding="utf-8")


def fill(folder: Path) -> None:
    with opened(folder) as engine:
        engine.create("c", 8)
        engine.upsert("c", items(ROWS[:200]))
        engine.create_snapshot("c", "s")


def holds(folder: Path, first: int, last: int) -> None:
    with opened(folder) as engine:
        assert_holds(engine, "c", {f"i{n}": ROWS[n] for n in range(first, last)})


def everything(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def run(*words: str) -> int:
    """A command of `admin`, in this process: its exit status."""
    arguments = admin._parser().parse_args(words)
    return int(arguments.work(arguments))


# ---------------------------------------------------------------- as the README says


def commands() -> list[list[str]]:
    section = README.partition("## Backing up and putting back")[2].partition("\n## ")[0]
    block = section.partition("```sh\n")[2].partition("```")[0]
    return [shlex.split(line.partition(" #")[0])[1:] for line in block.splitlines()]


@pytest.mark.slow
def test_the_readme(tmp_path: Path) -> None:
    """The commands of the README, in their order: a backup of a plugin that runs is put back after a kill and more
    writes, with its graph and snapshot, and every line of `verify` is sound."""
    backing_up, putting_back, verifying = commands()

    def call(words: list[str]) -> str:
        done = subprocess.run(
            [sys.executable, *words], cwd=tmp_path, env=environment(), capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    many = vectors(1500, 8)

    def sent(first: int, last: int) -> pb.UpsertVectorsRequest:
        new = [pb.Vector(id=f"i{n}", vector=many[n].tolist()) for n in range(first, last)]
        return pb.UpsertVectorsRequest(collection="c", vectors=new)

    with start_plugin(MODULE, "--data-dir", str(tmp_path / "data" / "vector_hnsw")) as plugin:
        stub = rpc.DatabaseProviderStub(plugin.channel())
        assert stub.CreateCollection(pb.CreateCollectionRequest(name="c", dimension=8)).success
        assert stub.UpsertVectors(sent(0, 1200)).success
        assert stub.CreateSnapshot(pb.CreateSnapshotRequest(collection="c", name="s")).success
        assert "1 collections" in call(backing_up)
        assert stub.UpsertVectors(sent(1200, 1500)).success
        assert stub.DeleteVectors(pb.DeleteVectorsRequest(collection="c", ids=["i7"])).success
        plugin.signal(signal.SIGKILL)
        plugin.wait()
    assert "what was there is in" in call(putting_back)
    assert all(line.startswith("sound") for line in call(verifying).splitlines())
    with opened(tmp_path / "data" / "vector_hnsw") as engine:
        assert_holds(engine, "c", {f"i{n}": many[n] for n in range(1200)})
        assert [one.name for one in engine.list_snapshots()] == ["s"]
    (replaced,) = (tmp_path / "data" / "vector_hnsw").glob("replaced-*")
    with opened(replaced) as engine:  # nothing was lost
        assert_holds(engine, "c", {f"i{n}": many[n] for n in range(1500) if n != 7})


# ---------------------------------------------------------------- making one


@pytest.mark.usefixtures("only_graphs")
def test_a_backup_is_of_one_moment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While batches are written and graphs and snapshots replaced, a backup has the batches up to its sequence, whole,
    and no other, and its graph is loaded."""
    monkeypatch.setattr(backup, "_PAGES", 1)  # the slowest that there is
    stop = threading.Event()
    with opened(tmp_path / "data") as engine:
        engine.create("c", 8)  # the store's first write
        engine.upsert("c", items(ROWS[:40]))
        engine._save(engine._collections["c"])
        engine.create_snapshot("c", "s0")

        def write() -> None:
            for turn in range(1, 10**6):
                engine.upsert("c", items(batch(turn), f"{turn}-i"))
                engine._save(engine._collections["c"])
                engine.create_snapshot("c", f"s{turn}")
                engine.delete_snapshot("c", f"s{turn - 1}")
                if stop.is_set():
                    return

        writer = threading.Thread(target=write)
        writer.start()
        try:
            made = [backup.make(tmp_path / "data", tmp_path / f"b{n}") for n in range(3)]
        finally:
            stop.set()
            writer.join()
    loaded: list[bool] = []
    real = GraphCache.load

    def load(*values: Any) -> Any:
        found = real(*values)
        loaded.append(found is not None)
        return found

    monkeypatch.setattr(GraphCache, "load", load)
    for number, one in enumerate(made):
        backup.put_back(tmp_path / f"back{number}", tmp_path / f"b{number}")
        with opened(tmp_path / f"back{number}") as engine:
            expected = {f"i{n}": ROWS[n] for n in range(40)}
            for turn in range(1, one.sequence - 1):
                expected |= {f"{turn}-i{n}": row for n, row in enumerate(batch(turn))}
            assert_holds(engine, "c", expected)
        assert not one.left_out
    assert loaded == [True] * 3


def batch(turn: int) -> Floats:
    at = turn * 4 % len(ROWS)
    return ROWS[at : at + 4]


def test_a_backup_of_a_store_that_was_killed(tmp_path: Path) -> None:
    """What is only in the log of a plugin that was killed is in the backup, and the folder is as good as before."""
    with opened(tmp_path / "live") as engine:
        engine.create("c", 8)
        engine.upsert("c", items(ROWS))
        killed(tmp_path / "live", tmp_path / "data")
    assert (tmp_path / "data" / "store.db-wal").stat().st_size
    assert run("backup", "--data-dir", str(tmp_path / "data"), str(tmp_path / "b")) == 0
    assert run("restore-backup", "--data-dir", str(tmp_path / "new" / "data"), str(tmp_path / "b")) == 0
    holds(tmp_path / "new" / "data", 0, 400)
    holds(tmp_path / "data", 0, 400)


def test_a_backup_is_for_its_owner_alone(tmp_path: Path) -> None:
    """Whatever the umask, what a backup is made of and what is put back has modes 0700 and 0600."""
    fill(tmp_path / "data")
    before = os.umask(0)
    try:
        backup.make(tmp_path / "data", tmp_path / "b")
        backup.put_back(tmp_path / "new", tmp_path / "b")
    finally:
        os.umask(before)
    for folder in (tmp_path / "b", tmp_path / "new"):
        for path in [folder, *folder.rglob("*")]:
            assert path.stat().st_mode & 0o777 == (0o700 if path.is_dir() else 0o600), path


def taken(folder: Path) -> None:
    (folder / "b").mkdir()
    (folder / "b" / "mine").write_text("")


def damaged_page(folder: Path) -> None:
    content = bytearray((folder / "data" / "store.db").read_bytes())
    content[3 * 8192 : 3 * 8192 + 200] = b"\xff" * 200
    (folder / "data" / "store.db").write_bytes(content)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (taken, "is there already"),
        (lambda folder: (folder / ".b.partial").mkdir(), "under way or was cut off"),
        (lambda folder: (folder / "data" / "store.db").unlink(), "holds no store.db"),
        (damaged_page, "cannot be backed up"),
    ],
)
def test_what_is_not_backed_up(tmp_path: Path, spoil: Callable[[Path], None], words: str) -> None:
    """A target that is taken, a folder without a store and a damaged store are refused, and nothing is left behind."""
    fill(tmp_path / "data")
    spoil(tmp_path)
    before = everything(tmp_path).keys()
    with pytest.raises(StartError, match=words):
        backup.make(tmp_path / "data", tmp_path / "b")
    assert everything(tmp_path).keys() == before


def test_a_damaged_snapshot_is_left_out_and_said_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The backup has all the rest, its exit status is 1, and it names the snapshot."""
    fill(tmp_path / "data")
    file = tmp_path / "data" / "snapshots" / "c" / "s.db"
    file.write_bytes(file.read_bytes()[:-1] + b"!")
    assert run("backup", "--data-dir", str(tmp_path / "data"), str(tmp_path / "b")) == 1
    assert "snapshot s in c is damaged" in capsys.readouterr().err
    assert run("restore-backup", "--data-dir", str(tmp_path / "new"), str(tmp_path / "b")) == 0
    holds(tmp_path / "new", 0, 200)


# ---------------------------------------------------------------- putting it back


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """A backup of 200 vectors; meanwhile tmp_path/data has 400."""
    fill(tmp_path / "data")
    backup.make(tmp_path / "data", tmp_path / "b")
    with opened(tmp_path / "data") as engine:
        engine.upsert("c", items(ROWS))
        engine.create_snapshot("c", "later")
    return tmp_path / "b"


def test_it_is_put_back_as_it_was(tmp_path: Path, made: Path) -> None:
    """With --replace the store is what it was, snapshots too; what was there is whole in a folder of its own."""
    data = tmp_path / "data"
    assert run("restore-backup", "--data-dir", str(data), str(made), "--replace") == 0
    with opened(data) as engine:
        assert [one.name for one in engine.list_snapshots()] == ["s"]
    holds(data, 0, 200)
    (replaced,) = data.glob("replaced-*")
    holds(replaced, 0, 400)
    with opened(replaced) as engine:
        assert [one.name for one in engine.list_snapshots()] == ["later", "s"]
    assert all(line.startswith("sound") for line in verify(made))  # and can be used again


def flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


@pytest.mark.usefixtures("only_graphs")
def test_a_damaged_backup_changes_nothing(tmp_path: Path, made: Path) -> None:
    """Whichever file of it was changed or is missing, it is named, and the store there stays as it is."""
    before = everything(tmp_path / "data")
    names = list(everything(made))
    assert len(names) == 6, names  # the manifest, the store, a graph and a snapshot with a header each
    for name in names:
        for spoil in (flip, Path.unlink):
            bad = Path(shutil.copytree(made, tmp_path / "bad"))
            spoil(bad / name)
            with pytest.raises(StartError, match=Path(name).name):
                backup.put_back(tmp_path / "data", bad, instead=True)
            assert everything(tmp_path / "data") == before
            if name != backup.MANIFEST:
                assert sum(line.startswith("damaged") for line in verify(bad)) == 1
            shutil.rmtree(bad)


def test_what_is_refused(tmp_path: Path, made: Path) -> None:
    """A store that is in use, one that was not to be replaced, a folder that is no backup, and a backup whose manifest
    leads out of it."""
    before = everything(tmp_path / "data")
    with pytest.raises(StartError, match="--replace"):
        backup.put_back(tmp_path / "data", made)
    with pytest.raises(StartError, match="is not a backup"):
        backup.put_back(tmp_path / "data", tmp_path, instead=True)
    manifest = backup._read_manifest(made)
    manifest["files"]["../../outside"] = manifest["files"]["store.db"]
    (made / backup.MANIFEST).write_text(json.dumps(manifest | {"seal": seal_of(manifest)}))
    with pytest.raises(StartError, match="damaged"):
        backup.put_back(tmp_path / "data", made, instead=True)
    assert everything(tmp_path / "data") == before
    with opened(tmp_path / "data"), pytest.raises(StartError, match="stop the plugin"):
        backup.put_back(tmp_path / "data", backup_again(tmp_path), instead=True)
    holds(tmp_path / "data", 0, 400)


def backup_again(folder: Path) -> Path:
    backup.make(folder / "data", folder / "again")
    return folder / "again"


@pytest.mark.slow
def test_a_kill_while_it_is_put_back(tmp_path: Path, made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a kill at any step the folder holds the old store or refuses to start, never an empty one or a mixture;
    putting it back once more is all it takes."""
    with opened(tmp_path / "data"):
        data = killed(tmp_path / "data", tmp_path / "killed")
    states: list[Path] = []
    real = files.move

    def move(path: Path, to: Path) -> None:
        states.append(killed(data, tmp_path / f"state{len(states)}"))
        real(path, to)

    monkeypatch.setattr(backup, "move", move)
    backup.put_back(data, made, instead=True)
    monkeypatch.setattr(backup, "move", real)
    assert len(states) == 5 + 2  # two of them not in the backup: the log and its index; and no graph is
    for number, state in enumerate(states):
        kept = Path(shutil.copytree(state, tmp_path / "kept"))
        if number == 0:
            with opened(kept) as engine:
                assert len(contents(engine, "c", 8)) == 400
                assert [one.name for one in engine.list_snapshots()] == ["later", "s"]
        else:
            with pytest.raises(StartError, match="run it again"):
                Engine(kept).open()
        shutil.rmtree(kept)
        backup.put_back(state, made, instead=True)
        holds(state, 0, 200)
        assert not (state / backup.ASIDE).exists()
