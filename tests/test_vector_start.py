"""vector_hnsw as a process: how it starts, what it refuses to start on, and what it says then."""

from __future__ import annotations

import resource
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import grpc
import hector_plugins_pb2 as pb
import hector_plugins_pb2_grpc as rpc
import numpy as np
import pytest
import yaml

from plugins.vector_hnsw.engine import flat
from tests.servers import SECONDS, Plugin, details, run_plugin, start_plugin, wait_until
from tests.vector_tools import graphs, items, killed, opened, vectors

MODULE = "plugins.vector_hnsw"
NUMBERS = vectors(400, 64)


def stub_of(plugin: Plugin) -> rpc.DatabaseProviderStub:
    return rpc.DatabaseProviderStub(plugin.channel())


def upsert(stub: rpc.DatabaseProviderStub, first: int, last: int) -> pb.UpsertVectorsResponse:
    new = [pb.Vector(id=f"i{n}", vector=NUMBERS[n].tolist()) for n in range(first, last)]
    return stub.UpsertVectors(pb.UpsertVectorsRequest(collection="c", vectors=new))


def found(stub: rpc.DatabaseProviderStub) -> dict[str, bytes]:
    """Everything in the collection, by id."""
    request = pb.SearchVectorsRequest(
        collection="c", vector=NUMBERS[0].tolist(), limit=1000, exact=True, include_vectors=True
    )
    reply = stub.SearchVectors(request)
    assert reply.success, reply
    return {result.id: np.array(result.vector, np.float32).tobytes() for result in reply.results}


def expected(count: int) -> dict[str, bytes]:
    return {f"i{n}": NUMBERS[n].tobytes() for n in range(count)}


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with 300 vectors, closed in peace. To be copied, not used."""
    folder = tmp_path_factory.mktemp("kept") / "data"
    with start_plugin(MODULE, "--data-dir", str(folder)) as plugin:
        stub = stub_of(plugin)
        assert stub.CreateCollection(pb.CreateCollectionRequest(name="c", dimension=64)).success
        assert upsert(stub, 0, 300).success
        assert plugin.terminate() == 0
    return folder


@pytest.fixture
def folder(kept: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(kept, tmp_path / "data"))


def assert_refuses(folder: Path, *said: str) -> None:
    """The start ends with status 2 and one line on stderr that holds what is `said`; the folder is left as it was."""
    before = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()} if folder.is_dir() else {}
    ended = run_plugin(MODULE, "--port", "0", "--data-dir", str(folder))
    lines = [line for line in ended.stderr.splitlines() if "level=" not in line]
    assert ended.returncode == 2, ended.stderr
    assert len(lines) == 1, ended.stderr
    assert lines[0].startswith("error: ")
    for text in said:
        assert text in lines[0]
    after = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()} if folder.is_dir() else {}
    assert after.get("store.db") == before.get("store.db")


def test_what_was_written_is_there_after_a_restart(folder: Path) -> None:
    """Stopped with SIGTERM and started again, everything is there, and stdout has the one line it may have."""
    with start_plugin(MODULE, "--data-dir", str(folder)) as plugin:
        assert found(stub_of(plugin)) == expected(300)
        assert plugin.terminate() == 0
    assert plugin.stdout() == f"listening on {plugin.address}\n"


def test_a_second_process_is_refused(folder: Path) -> None:
    """On a folder in use a second process ends with status 2, one line on stderr and nothing on stdout."""
    with start_plugin(MODULE, "--data-dir", str(folder)) as plugin:
        second = run_plugin(MODULE, "--port", "0", "--data-dir", str(folder))
        assert (second.returncode, second.stdout) == (2, "")
        assert second.stderr.count("\n") == 1
        assert f"{folder} is in use by another process" in second.stderr
        assert found(stub_of(plugin)) == expected(300)
        plugin.process.kill()
        plugin.wait()
    with start_plugin(MODULE, "--data-dir", str(folder)) as plugin:
        assert found(stub_of(plugin)) == expected(300)


@pytest.mark.parametrize("where", ["a file", "below a file", "/proc/nowhere/data"])
def test_a_folder_that_cannot_be_used(tmp_path: Path, where: str) -> None:
    """A data_dir that is a file, or cannot be made, ends the start with status 2 and one line that names it."""
    (tmp_path / "file").write_text("here")
    path = {"a file": tmp_path / "file", "below a file": tmp_path / "file" / "data"}.get(where, Path(where))
    ended = run_plugin(MODULE, "--port", "0", "--data-dir", str(path))
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr.count("\n") == 1
    assert f"cannot use data_dir {path}" in ended.stderr
    assert (tmp_path / "file").read_text() == "here"


def test_a_place_taken_by_something_else(folder: Path) -> None:
    """A folder where the database should be, or a file where the graphs should, is refused in one line."""
    shutil.rmtree(folder / "graphs")
    (folder / "graphs").write_text("")
    ended = run_plugin(MODULE, "--port", "0", "--data-dir", str(folder))
    assert ended.returncode == 2
    assert f"error: cannot use data_dir {folder}" in ended.stderr
    assert "Traceback" not in ended.stderr
    (folder / "store.db").unlink()
    (folder / "store.db").mkdir()
    ended = run_plugin(MODULE, "--port", "0", "--data-dir", str(folder))
    assert ended.returncode == 2
    assert "store.db" in ended.stderr
    assert "Traceback" not in ended.stderr


def _header(raw: bytearray) -> None:
    raw[:100] = b"\xff" * 100


def _page(raw: bytearray) -> None:
    middle = len(raw) // 2 // 8192 * 8192
    raw[middle : middle + 8192] = b"\xa5" * 8192


def _truncated(raw: bytearray) -> None:
    del raw[len(raw) // 2 :]


@pytest.mark.parametrize("damage", [_header, _page, _truncated])
def test_a_damaged_database_is_refused(folder: Path, damage: Callable[[bytearray], None]) -> None:
    """A database with a broken header, page or end is refused: the line names the file and how to restore it."""
    raw = bytearray((folder / "store.db").read_bytes())
    damage(raw)
    (folder / "store.db").write_bytes(raw)
    assert_refuses(folder, str(folder / "store.db"), "damaged", "restore it from a backup", ".recover")


def test_an_emptied_database_is_refused(folder: Path) -> None:
    """A store.db of no bytes is not taken for a new one: what was acknowledged is not silently gone."""
    (folder / "store.db").write_bytes(b"")
    assert_refuses(folder, str(folder / "store.db"))


def test_a_foreign_database_is_refused(folder: Path) -> None:
    """An SQLite file of another program is refused and left as it is, one with a table named like ours too."""
    for table in ("recipes (name TEXT)", "store (name TEXT)", "store (key TEXT, value TEXT)"):
        (folder / "store.db").unlink()
        with sqlite3.connect(folder / "store.db") as connection:
            connection.execute(f"CREATE TABLE {table}")
        connection.close()
        assert_refuses(folder, str(folder / "store.db"), "not this plugin's", "choose another data_dir")


def test_a_newer_format_is_refused(folder: Path) -> None:
    """A database of a later version is refused, naming both formats."""
    with sqlite3.connect(folder / "store.db") as connection:
        connection.execute("UPDATE store SET value = '99' WHERE key = 'format'")
    connection.close()
    assert_refuses(folder, str(folder / "store.db"), "format 99", "use the plugin's version that wrote it")


def test_a_vector_of_the_wrong_size_is_refused(folder: Path) -> None:
    """Damage that SQLite does not see, met while the graph is built, is one line and status 2, not a traceback."""
    shutil.rmtree(folder / "graphs")
    with sqlite3.connect(folder / "store.db") as connection:
        connection.execute("UPDATE vectors_1 SET vector = x'00' WHERE row = 7")
    connection.close()
    ended = run_plugin(MODULE, "--port", "0", "--data-dir", str(folder))
    assert ended.returncode == 2
    assert "wrong size; restore a backup" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_damaged_graph_is_rebuilt(folder: Path) -> None:
    """A flipped byte in the graph costs a rebuild and a log line, and nothing else."""
    with opened(folder) as engine:
        engine.create("many", 8)
        engine.upsert("many", items(vectors(flat.MOST + 1, 8)))
    graph = next(graphs(folder).glob("*.hnsw"))
    raw = bytearray(graph.read_bytes())
    raw[len(raw) // 3] ^= 0x40
    graph.write_bytes(raw)
    with start_plugin(MODULE, "--data-dir", str(folder)) as plugin:
        plugin.wait_for_log("event=graph_rebuilt")
        stub = stub_of(plugin)
        assert found(stub) == expected(300)
        reply = stub.SearchVectors(pb.SearchVectorsRequest(collection="c", vector=NUMBERS[5].tolist(), limit=1))
        assert [result.id for result in reply.results] == ["i5"]
        assert plugin.terminate() == 0


def test_check_shows_the_settings_and_starts_nothing(tmp_path: Path) -> None:
    """`--check` prints every setting with its source, exits 0, and makes no folder."""
    ended = run_plugin(MODULE, "--data-dir", str(tmp_path / "data"), "--max-limit", "7", "--check")
    assert ended.returncode == 0
    shown = yaml.safe_load(ended.stdout)
    assert (shown["data_dir"], shown["max_limit"], shown["port"]) == (str(tmp_path / "data"), 7, 8082)
    assert not (tmp_path / "data").exists()
    wrong = run_plugin(MODULE, "--data-dir", str(tmp_path / "data"), "--max-limit", "0", "--check")
    assert wrong.returncode == 2
    assert "max_limit" in wrong.stderr


def test_the_configured_limit_is_kept(tmp_path: Path) -> None:
    """`max_limit` bounds the limit of a search."""
    with start_plugin(MODULE, "--data-dir", str(tmp_path), "--max-limit", "7") as plugin:
        stub = stub_of(plugin)
        stub.CreateCollection(pb.CreateCollectionRequest(name="c", dimension=64))
        for limit, fine in ((7, True), (8, False)):
            request = pb.SearchVectorsRequest(collection="c", vector=NUMBERS[0].tolist(), limit=limit)
            assert stub.SearchVectors(request).success is fine


# ---------------------------------------------------------------- a full disk


def assert_full(call: Callable[[], object]) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        call()
    assert caught.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert details(caught.value).reason == "STORAGE_FULL"
    assert "free some space" in details(caught.value).status.message


def fill(stub: rpc.DatabaseProviderStub) -> int:
    """Writes until the disk is full: how many vectors were acknowledged."""
    assert stub.CreateCollection(pb.CreateCollectionRequest(name="c", dimension=64)).success
    for count in range(0, 400, 2):
        try:
            assert upsert(stub, count, count + 2).success
        except grpc.RpcError:
            assert_full(lambda count=count: upsert(stub, count, count + 2))  # type: ignore[misc]
            return count
    raise AssertionError("the disk did not get full")


def assert_goes_on(stub: rpc.DatabaseProviderStub, count: int, make_room: Callable[[], None]) -> None:
    """Nothing is lost while the disk is full; when there is room again, writes go on."""
    assert_full(lambda: upsert(stub, 0, 390))
    assert found(stub) == expected(count)
    make_room()
    assert upsert(stub, count, count + 20).success
    assert found(stub) == expected(count + 20)


def test_a_folder_that_may_not_grow(tmp_path: Path) -> None:
    """Under a limit on file sizes writes are refused as STORAGE_FULL; lifted, they go on; nothing is lost."""
    argv = ["bash", "-c", f'ulimit -S -f 160; exec "{sys.executable}" -m {MODULE} --port 0 --data-dir "{tmp_path}"']
    with start_plugin(argv) as plugin:
        stub, pid = stub_of(plugin), plugin.process.pid
        hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)[1]
        count = fill(stub)
        assert_goes_on(stub, count, lambda: resource.prlimit(pid, resource.RLIMIT_FSIZE, (hard, hard)) and None)
        plugin.process.kill()
        plugin.wait()
    with start_plugin(MODULE, "--data-dir", str(tmp_path)) as plugin:
        assert found(stub_of(plugin)) == expected(count + 20)


@pytest.fixture
def small_disk(tmp_path: Path) -> Callable[[str], list[str]]:
    """Makes a command run with a disk of 3 MiB at tmp_path/disk, of which 2.7 MiB are taken by the file `ballast`."""
    if shutil.which("unshare") is None or subprocess.run(["unshare", "-rm", "true"], check=False).returncode:
        pytest.skip("this machine does not let users mount in a namespace of their own")
    disk = tmp_path / "disk"
    disk.mkdir()
    setup = f'mount -t tmpfs -o size=3m tmpfs "{disk}" && head -c 2770K /dev/zero > "{disk}/ballast" && exec '
    return lambda command: ["unshare", "-rm", "bash", "-c", setup + command]


def test_a_full_disk(tmp_path: Path, small_disk: Callable[[str], list[str]]) -> None:
    """On a disk that is full writes are refused as STORAGE_FULL; with room again they go on; nothing is lost."""
    data = tmp_path / "disk" / "data"
    with start_plugin(small_disk(f'"{sys.executable}" -m {MODULE} --port 0 --data-dir "{data}"')) as plugin:
        inside = Path(f"/proc/{plugin.process.pid}/root{tmp_path}/disk")
        stub = stub_of(plugin)
        count = fill(stub)
        assert_goes_on(stub, count, (inside / "ballast").unlink)
        killed(inside / "data", tmp_path / "copy")
        assert plugin.terminate() == 0
    with start_plugin(MODULE, "--data-dir", str(tmp_path / "copy")) as plugin:
        assert found(stub_of(plugin)) == expected(count + 20)


def test_a_full_disk_has_a_way_out(tmp_path: Path, small_disk: Callable[[str], list[str]]) -> None:
    """On a full disk vectors and collections can be deleted, and then there is room for as many again."""
    data = tmp_path / "disk" / "data"
    with start_plugin(small_disk(f'"{sys.executable}" -m {MODULE} --port 0 --data-dir "{data}"')) as plugin:
        stub = stub_of(plugin)
        count = fill(stub)
        for start in range(0, count - 20, 10):
            gone = [f"i{n}" for n in range(start, start + 10)]
            assert stub.DeleteVectors(pb.DeleteVectorsRequest(collection="c", ids=gone)).success
        deadline = time.monotonic() + SECONDS
        while True:
            try:
                assert upsert(stub, 0, 20).success
                break
            except grpc.RpcError:
                assert time.monotonic() < deadline, plugin.stderr()[-3000:]
                time.sleep(0.2)
        assert stub.DeleteCollection(pb.DeleteCollectionRequest(name="c")).success
        assert plugin.terminate() == 0


@pytest.mark.slow
def test_the_file_shrinks(tmp_path: Path) -> None:
    """With everything deleted the store takes a few pages, log included, while it runs and after a restart."""
    with opened(tmp_path) as engine:
        for name in ("a", "b"):
            engine.create(name, 256)
            engine.upsert(name, items(vectors(3000, 256)))

        def size() -> int:
            return sum((tmp_path / name).stat().st_size for name in ("store.db", "store.db-wal"))

        full = size()
        engine.delete_vectors("a", [f"i{n}" for n in range(3000)])
        engine.delete("b")
        wait_until(lambda: size() < 0.1 * full, "a smaller file")
        engine.upsert("a", items(vectors(10, 256)))
        assert engine.count("a") == 10
    with opened(tmp_path) as engine:
        assert engine.count("a") == 10
    assert (tmp_path / "store.db").stat().st_size < 0.1 * full


def test_a_disk_that_is_full_from_the_start(tmp_path: Path, small_disk: Callable[[str], list[str]]) -> None:
    """With no room for even an empty store the start ends with status 2 and says that the disk is full."""
    disk = tmp_path / "disk"
    command = f'"{sys.executable}" -m {MODULE} --port 0 --data-dir "{disk}/data"'
    argv = small_disk(f"bash -c 'head -c 9M /dev/zero > \"{disk}/rest\"; {command}'")
    with start_plugin(argv, wait="nothing") as plugin:
        assert plugin.wait() == 2
    assert "is full" in plugin.stderr()
    assert "Traceback" not in plugin.stderr()
