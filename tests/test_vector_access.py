"""vector_hnsw on a folder that it may not write, and on metadata that is no text: it says so and harms nothing."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import grpc
import hector_plugins_pb2 as pb
import pytest

from plugins.vector_hnsw.engine import Item
from shared.errors import Code
from tests.servers import SECONDS, details, environment
from tests.vector_tools import killed, opened, vectors
from tests.vector_wire import Database, serving

NOBODY = 65534


@pytest.fixture
def folder() -> Iterator[Path]:
    """A store of 20 vectors that nobody may read and write, below folders that anyone may enter."""
    parent = Path(tempfile.mkdtemp(prefix="hector-access-"))
    parent.chmod(0o755)
    with opened(parent / "data") as engine:
        engine.create("c", 4)
        engine.upsert("c", [Item(f"i{n}", row) for n, row in enumerate(vectors(20, 4))])
    if os.geteuid() == 0:
        for path in [parent, *parent.rglob("*")]:
            os.chown(path, NOBODY, NOBODY)
    yield parent / "data"
    for path in [parent / "data", *(parent / "data").glob("*")]:
        path.chmod(0o755)
    shutil.rmtree(parent)


def start(folder: Path) -> subprocess.CompletedProcess[str]:
    """`python -m plugins.vector_hnsw` as somebody who is not root, for whom nothing is forbidden."""
    argv = [sys.executable, "-m", "plugins.vector_hnsw", "--port", "0", "--data-dir", str(folder)]
    if os.geteuid() == 0:
        setpriv = shutil.which("setpriv")
        if setpriv is None:
            pytest.skip("this machine has no setpriv")
        argv = [setpriv, f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", *argv]
    env = environment({"HOME": "/tmp", "PYTHONDONTWRITEBYTECODE": "1"})
    return subprocess.run(argv, capture_output=True, text=True, timeout=SECONDS, env=env, cwd="/", check=False)


def assert_refused_for_access(folder: Path) -> None:
    ended = start(folder)
    assert ended.returncode == 2, (ended.stdout, ended.stderr)
    lines = [line for line in ended.stderr.splitlines() if "level=" not in line]
    assert len(lines) == 1, ended.stderr
    assert lines[0].startswith("error: cannot ")
    assert str(folder) in lines[0]
    assert "permission" in lines[0].lower()
    assert "damaged" not in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    "what", ["store.db", "store.db unreadable", "the folder", "everything", "nothing at all", "the lock", "graphs"]
)
def test_what_may_not_be_written_is_said(folder: Path, what: str) -> None:
    """A store, folder or lock without permission ends the start with status 2 and one line about permissions."""
    before = (folder / "store.db").read_bytes()
    if what == "store.db":
        (folder / "store.db").chmod(0o444)
    elif what == "store.db unreadable":
        (folder / "store.db").chmod(0o000)
    elif what == "the folder":
        assert not (folder / "store.db-wal").exists()
        folder.chmod(0o555)
    elif what == "everything":
        for path in folder.rglob("*"):
            path.chmod(0o555 if path.is_dir() else 0o444)
        folder.chmod(0o555)
    elif what == "nothing at all":
        folder.chmod(0o000)
    elif what == "the lock":
        (folder / "lock").touch()
        (folder / "lock").chmod(0o000)
    else:
        (folder / "graphs").chmod(0o000)
    assert_refused_for_access(folder)
    folder.chmod(0o755)
    (folder / "store.db").chmod(0o644)
    if what != "graphs":  # which are looked at once the store is open
        assert (folder / "store.db").read_bytes() == before


def test_a_folder_that_may_not_be_made(folder: Path) -> None:
    """A data_dir below a folder that may not be written is refused in the same way."""
    folder.chmod(0o555)
    assert_refused_for_access(folder / "new")


def test_a_log_in_a_folder_that_may_not_be_written(folder: Path) -> None:
    """A store that was killed, in a folder made read-only, is not called damaged, and opens once it is writable."""
    with opened(folder) as engine:
        engine.delete_vectors("c", ["i1"])
        copy = killed(folder, folder.parent / "killed")
    assert (copy / "store.db-wal").exists()
    (copy / "lock").touch()
    if os.geteuid() == 0:
        for path in [copy, *copy.rglob("*")]:
            os.chown(path, NOBODY, NOBODY)
    copy.chmod(0o555)
    (copy / "store.db-wal").chmod(0o444)
    assert_refused_for_access(copy)
    copy.chmod(0o755)
    (copy / "store.db-wal").chmod(0o644)
    with opened(copy) as engine:
        assert engine.count("c") == 19


def everything_listed(database: Database) -> list[str]:
    found: list[str] = []
    request = pb.ListVectorsRequest(collection="c")
    while True:
        page = database.stub.ListVectors(request)
        found += [one.id for one in page.vectors]
        if not page.next_page_token:
            return found
        request.page_token = page.next_page_token


@pytest.mark.parametrize("column", ["metadata", "id"])
def test_text_that_is_not_utf8_is_data_loss(tmp_path: Path, column: str) -> None:
    """Bytes in the file that are no text are answered DATA_LOSS by whatever reads them; the rest goes on."""
    with serving(tmp_path / "data") as database:
        database.create()
        rows = vectors(20, 4)
        database.upsert(*[pb.Vector(id=f"i{n}", vector=row.tolist()) for n, row in enumerate(rows)])
    with sqlite3.connect(tmp_path / "data" / "store.db") as connection:
        connection.execute(f"UPDATE items_1 SET {column} = CAST(x'7b22ff227d' AS TEXT) WHERE row = 4")
    connection.close()
    with serving(tmp_path / "data") as database:
        for call in (
            lambda: database.search(rows[3].tolist(), limit=1),
            lambda: database.search(rows[3].tolist(), limit=1, exact=True),
            lambda: everything_listed(database),
        ):
            with pytest.raises(grpc.RpcError) as caught:
                call()
            assert caught.value.code().value[0] == int(Code.DATA_LOSS)
            assert "damaged" in details(caught.value).status.message
        assert database.search(rows[5].tolist(), limit=1).results[0].id == "i5"
        assert database.upsert(pb.Vector(id="new", vector=[1, 2, 3, 4])).success
        assert database.stub.CountVectors(pb.CountVectorsRequest(collection="c")).count == 21
