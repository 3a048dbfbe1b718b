"""`readers: N` in a block of the host's YAML: processes beside a plugin that only read, and searches over them."""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import hector_plugins_pb2 as pb
import pytest
from hector_plugins_pb2_grpc import DatabaseProviderStub

from host import child, commands, run_file
from host.clients import Collection, opened
from host.config import ConfigError, Plugin, load
from host.connect import Connection
from host.health import SERVING
from host.runner import Runner, launch_of
from host.supervisor import Supervisor, supervise
from shared.client import Address, channel
from tests.host_fakes import DIMENSION, fakes, vector_of, write_config
from tests.host_manager import Host, gone, run, serving, until
from tests.servers import SECONDS
from tests.test_host_serve import FAKE

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


def configured(folder: Path, readers: int = 2, **block: Any) -> Path:
    vectors = {"path": "plugins.vector_hnsw", "config": {"data_dir": "./vectors"}, "readers": readers} | block
    return write_config(
        folder,
        {
            "plugins": {
                "database_providers": {"vectors": vectors},
                "embedder_providers": {"words": {"path": FAKE}},
            },
            "databases": {"store": {"type": "plugin:vectors", "config": {"collection": "docs"}}},
            "embedders": {"default": {"type": "plugin:words"}},
        },
    )


def test_readers_are_plugins_of_their_own(tmp_path: Path) -> None:
    """Each reader is a plugin named after the one that writes, and another number of them leaves that one as it was."""
    two, three = (load(configured(tmp_path, number)).plugins for number in (2, 3))
    assert [*two] == ["vectors", "vectors-reader-1", "vectors-reader-2", "words"]
    assert two["vectors"] == three["vectors"]
    command = child.command(two["vectors-reader-2"], load(configured(tmp_path)))
    assert command[-3:] == ["--name", "vectors", "--reader"]


@pytest.mark.parametrize(
    ("block", "message"),
    [
        (
            {"args": ["--port", "0"]},
            r"vectors\.readers: readers are started with the host's own arguments; remove `args`",
        ),
        ({"path": "plugins.vector_pg"}, r"vectors\.readers: only `path: plugins\.vector_hnsw` has readers"),
    ],
)
def test_what_has_no_readers(tmp_path: Path, block: dict[str, Any], message: str) -> None:
    """`readers` of a plugin that has none, or whose command line is given, is an error that names the setting."""
    with pytest.raises(ConfigError, match=message):
        load(configured(tmp_path, **block))


def test_a_name_that_a_reader_has(tmp_path: Path) -> None:
    """A plugin that has the name of a reader is an error in its line."""
    file = configured(tmp_path)
    document = file.read_text().replace("words", "vectors-reader-2")
    file.write_text(document)
    with pytest.raises(ConfigError, match="plugin vectors-reader-2: a reader of vectors has this name; rename one"):
        load(file)


def test_a_writer_that_is_about_to_change(tmp_path: Path) -> None:
    """A plugin that serves is not what a reader may start beside once it is to start anew, in another folder say."""
    config = load(configured(tmp_path))
    runner = Runner(launch_of(config.plugins["vectors"], config), state=None, quiet=True, on_change=lambda: None)
    assert not runner.is_up
    runner.status = SERVING
    assert runner.is_up
    runner.change(runner.launch)
    assert not runner.is_up


def test_a_reader_whose_writer_is_away(tmp_path: Path) -> None:
    """A reader that has served is started again while its writer is away; one that has not yet, or in another folder,
    waits for the writer, which makes the store."""
    config = load(configured(tmp_path, 1))
    supervisor = Supervisor(config, config.plugins.values())
    plugin, reader = config.plugins["vectors-reader-1"], supervisor._runners["vectors-reader-1"]
    assert supervisor._wired(plugin) is None
    reader.served = True
    assert supervisor._wired(plugin) is not None
    reader.change(reader.launch)
    assert supervisor._wired(plugin) is None
    supervisor._runners["vectors"].status = SERVING
    assert supervisor._wired(plugin) is not None


@contextmanager
def stopped(pid: int) -> Iterator[None]:
    """Within, the process does nothing."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


@pytest.mark.slow
def test_readers_beside_a_writer(tmp_path: Path) -> None:
    """`serve` starts the writer and its readers, `status` shows all of them, what `index` wrote searches find at the
    readers, and a reader that is killed comes back where it was."""
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "a.md").write_text("# Cats\n\ncats purr\n")
    file = configured(tmp_path)
    names = ["vectors", "vectors-reader-1", "vectors-reader-2"]
    with serving(file) as host:
        until(lambda: all(host.plugin(name).get("status") == "SERVING" for name in names))
        status = json.loads(run("status", "--json", "--config", str(file), check=False).stdout)
        # None was started twice, and so no reader was before the store.
        assert {each["name"]: each["restarts"] for each in status["plugins"]} == dict.fromkeys([*names, "words"], 0)
        config = load(file)
        assert commands.index(config, tmp_path / "docs", config.database()) == 0
        with opened(config, config.database()) as (embedder, collection):
            query = embedder.query("cats purr")
            with stopped(host.pid("vectors")):
                hits = [hit for _ in range(4) for hit in collection.search(query, 5)]
        assert [hit.metadata["path"] for hit in hits] == ["a.md"] * 4
        before = run_file.read(host.state)
        os.kill(host.pid(names[1]), signal.SIGKILL)
        until(lambda: host.plugin(names[1]).get("restarts") == 1 and host.plugin(names[1])["status"] == "SERVING")
        after = run_file.read(host.state)
        assert before
        assert after
        assert before.addresses == after.addresses
        pids = [host.pid(name) for name in names]
        assert len(set(pids)) == 3
        assert host.end() == 0
    assert all(map(gone, pids))


def is_another(host: Host, name: str, pid: int) -> bool:
    """Whether a process that is not `pid` serves."""
    plugin = host.plugin(name)
    return bool(plugin["status"] == "SERVING" and plugin["pid"] != pid)


@pytest.mark.slow
def test_a_running_host_takes_up_an_edit(tmp_path: Path) -> None:
    """Another number of readers starts and ends readers alone; with another `data_dir` they follow the writer there."""
    with serving(configured(tmp_path, 1)) as host:
        before = {name: host.pid(name) for name in ("vectors", "vectors-reader-1")}
        configured(tmp_path, 2)
        until(lambda: host.plugin("vectors-reader-2").get("status") == "SERVING")
        configured(tmp_path, 1)
        until(lambda: not host.plugin("vectors-reader-2"))
        assert {name: host.pid(name) for name in before} == before
        configured(tmp_path, 1, config={"data_dir": "./elsewhere"})
        for name, pid in before.items():
            until(partial(is_another, host, name, pid))
        assert "plugin_broken" not in host.stderr
        with host.channel("vectors") as writer, host.channel("vectors-reader-1") as reader:
            request = pb.CreateCollectionRequest(name="there", dimension=1)
            assert DatabaseProviderStub(writer).CreateCollection(request, timeout=SECONDS).created
            told = DatabaseProviderStub(reader).ListCollections(pb.ListCollectionsRequest(), timeout=SECONDS)
            assert [collection.name for collection in told.collections] == ["there"]


@pytest.mark.slow
@pytest.mark.parametrize("is_added", [False, True], ids=["from the start", "added later"])
def test_a_reader_that_does_not_start(is_added: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader that fails at the start leaves the others running, says why, and is tried again until it starts."""
    is_broken = True
    as_usual = child.port_arguments

    def arguments(plugin: Plugin, address: str) -> list[str]:
        return ["--no-such-option"] if plugin.reader_of and is_broken else as_usual(plugin, address)

    monkeypatch.setattr(child, "port_arguments", arguments)
    config = load(configured(tmp_path, 0 if is_added else 1))
    with supervise(config, config.plugins.values(), quiet=True) as supervisor:
        writer = supervisor.statuses()[0]
        if is_added:
            supervisor.reload(load(configured(tmp_path, 1)))
        assert writer.status == "SERVING"
        until(lambda: "--no-such-option" in supervisor.statuses()[1].cause)
        is_broken = False
        until(lambda: supervisor.statuses()[1].status == "SERVING")
        assert supervisor.statuses()[0] == writer


@pytest.mark.parametrize("listens", [False, True], ids=["gone", "hangs"])
def test_searches_where_no_reader_answers(listens: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A search that no reader takes, or answers in time, is answered by the plugin itself."""
    monkeypatch.setattr("host.clients._READER_SECONDS", 0.5)
    with fakes() as fake, grpc.insecure_channel(fake.address) as there, socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        if listens:
            silent.listen()
        with channel(Address(f"ipv4:127.0.0.1:{silent.getsockname()[1]}")) as readers:
            connection = Connection("vectors", Address(fake.address), there, readers=readers)
            collection = Collection(connection, "docs", "")
            collection.create(DIMENSION)
            collection.upsert({"a": vector_of("cats purr")}, {"a": {}})
            assert [hit.id for hit in collection.search(vector_of("cats"), 5)] == ["a"]
