"""`security:` of the guide, over real processes: memory, networks, the sandbox, and what cannot be enforced."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from host import confine, memory, security
from host.confine_answers import Networks
from tests.host_manager import Host, problems, run, serving, until, write
from tests.servers import ROOT, SECONDS

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or bool(security.why_no_sandbox()), reason="this machine can hold no plugin to anything"
)


# ---------------------------------------------------------------- max_memory


@pytest.mark.slow
@pytest.mark.parametrize("who", ["eat", "feed"])
def test_a_plugin_that_eats_memory(tmp_path: Path, who: str) -> None:
    """A plugin that takes more than max_memory, itself or by a child, is killed alone, reported as that, and comes
    back; one that stays below it is left alone."""
    file = write(tmp_path, {"hog": {"security": {"max_memory": "300MiB"}}, "other": {}})
    with serving(file) as host:
        first, other = host.pid("hog"), host.pid("other")
        assert host.ask("hog", f"{who} {50 * 2**20}") in ("eaten", f"{50 * 2**20}\n")
        assert host.pid("hog") == first
        with pytest.raises(grpc.RpcError):
            overeat(host, who)
        message = "it took more memory than security.max_memory, 300 MiB, and"
        until(lambda: re.search(rf'event=plugin_ended plugin=hog cause="{message} [^"]*killed', host.stderr))
        assert host.ask("hog", "echo back") == "back"
        assert host.pid("hog") != first
        assert host.pid("other") == other
        assert host.ask("other", "echo there") == "there"
        assert message in run("logs", "hog", "--config", str(file)).stdout


def overeat(host: Host, who: str) -> None:
    host.ask("hog", f"{who} {2 * 2**30}", timeout=100)
    host.ask("hog", "sleep 100", timeout=100)  # a child may have it all before the next look


SHARED = """
import os, sys, time
from host import memory
held = bytearray(os.urandom(2**12) * 2**8 * 100)
readers = []
for _ in range(4):
    pid = os.fork()
    if pid == 0:
        time.sleep(600)
        os._exit(0)
    readers.append(pid)
try:
    pids = [os.getpid(), *readers]
    print(sum(map(memory._resident, pids)) // 2**20, sum(map(memory._proportional, pids)) // 2**20,
          set(readers) <= set(memory.below(os.getpid())))
finally:
    for pid in readers:
        os.kill(pid, 9)
"""


def test_what_is_shared_counts_once() -> None:
    """Processes that share 100 MiB are not counted as if each had them."""
    argv = [sys.executable, "-c", SHARED]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=SECONDS, check=True)
    resident, proportional, are_below = done.stdout.split()
    assert int(resident) > 500
    assert 100 <= int(proportional) < 300
    assert are_below == "True"


def test_which_cgroup_takes_a_bound(tmp_path: Path) -> None:
    """The nearest cgroup that gives its children the memory controller and may be written is the one; none else."""
    own = tmp_path / "user" / "app" / "term"
    own.mkdir(parents=True)
    for folder, controllers in ((tmp_path, "cpu memory"), (own.parent.parent, "cpu memory pids"), (own.parent, "pids")):
        (folder / "cgroup.subtree_control").write_text(controllers)
        (folder / "cgroup.procs").touch()
    assert memory._nearest(own, tmp_path) == own.parent.parent
    (own.parent.parent / "cgroup.subtree_control").write_text("cpu")
    assert memory._nearest(own, tmp_path) == tmp_path
    (tmp_path / "cgroup.subtree_control").write_text("")
    assert memory._nearest(own, tmp_path) is None


@pytest.mark.skipif(memory.cgroup_folder() is None, reason="no cgroup here can be given a bound")
@pytest.mark.slow
def test_the_kernel_holds_the_bound(tmp_path: Path) -> None:
    """Where a cgroup can be made, the plugin runs in it, and the kernel's kill is reported; afterwards it is gone."""
    with serving(write(tmp_path, {"hog": {"security": {"max_memory": "300MiB"}}})) as host:
        folder = memory.cgroup_folder()
        assert folder
        (own,) = folder.glob("hector-*")
        assert str(host.pid("hog")) in (own / "cgroup.procs").read_text().split()
        with pytest.raises(grpc.RpcError):
            host.ask("hog", f"eat {2 * 2**30}", timeout=100)
        until(lambda: "the kernel killed it" in host.stderr)
    assert not list(folder.glob("hector-*"))


# ---------------------------------------------------------------- networks and the sandbox


@pytest.fixture
def outside(tmp_path: Path) -> Iterator[tuple[int, str]]:
    """A TCP server on loopback by its port, and a unix one by its path: what is not the plugin's own."""
    path = str(tmp_path / "outside.sock")
    with socket.create_server(("127.0.0.1", 0)) as tcp, socket.socket(socket.AF_UNIX) as unix:
        unix.bind(path)
        unix.listen()
        yield tcp.getsockname()[1], path


@pytest.mark.slow
def test_a_network_that_was_not_allowed(tmp_path: Path, outside: tuple[int, str]) -> None:
    """A plugin dials its allowed_networks and nothing else, by no means and in no child; it is called as ever."""
    port, path = outside
    blocks = {
        "none": {"security": {"allowed_networks": []}},
        "local": {"security": {"allowed_networks": ["localhost"]}},
        "other": {"security": {"allowed_networks": "10.9.0.0/16, 2001:db8::/32"}},
        "free": {},
    }
    child = f"shell {sys.executable} -c 'import socket;socket.create_connection((\"127.0.0.1\",{port}))' 2>&1 | tail -1"
    with serving(write(tmp_path, blocks)) as host:
        for name, expected in (("none", "PermissionError"), ("local", "connected"), ("free", "connected")):
            assert host.ask(name, f"dial 127.0.0.1 {port}") == expected
            assert host.ask(name, f"dial ::ffff:127.0.0.1 {port}") == expected
            assert host.ask(name, f"dial 0.0.0.0 {port}") == expected
            assert ("PermissionError" in host.ask(name, child)) == (name == "none")
        for name in ("none", "local", "other"):
            assert host.ask(name, "dial 10.8.0.1 80") == "PermissionError"
            assert host.ask(name, "dial 2001:db9::1 80") in ("PermissionError", "OSError")
            assert host.ask(name, f"udp 127.0.0.1 {port}") == "PermissionError"
            assert host.ask(name, "listen 0.0.0.0") == "PermissionError"
            assert host.ask(name, "listen 127.0.0.1") == "listening"
        assert host.ask("none", f"unix {path}") == "connected"  # a file, not a network; the sandbox has a say in that


@pytest.mark.slow
def test_the_sandbox(tmp_path: Path, outside: tuple[int, str]) -> None:
    """A sandboxed plugin writes in its own folders alone, changes no file's mode, reaches no socket and no process of
    others, and gains no privilege; neither does what it starts."""
    port, path = outside
    block = {"config": {"data_dir": "./own"}, "security": {"sandbox": True}}
    (tmp_path / "mine").write_text("mine")
    mode = (tmp_path / "mine").stat().st_mode & 0o777
    with serving(write(tmp_path, {"boxed": block, "free": {}})) as host:

        def boxed(prompt: str) -> str:
            return host.ask("boxed", prompt)

        environment = json.loads(boxed("environment"))
        assert boxed(f"write {tmp_path}/own/file") == "written"
        assert boxed(f"write {environment['TMPDIR']}/file") == "written"
        assert boxed("write /dev/null") == "written"
        for place in (
            tmp_path / "mine",
            tmp_path / "new",
            Path("/var/tmp/of-a-sandboxed-plugin"),
            host.state / "run.json",
            host.file,
        ):
            assert boxed(f"write {place}") == "PermissionError"
        assert (tmp_path / "mine").read_text() == "mine"
        assert boxed(f"mode {tmp_path}/own/file") == "changed"
        (tmp_path / "own" / "link").symlink_to(tmp_path / "mine")
        for place in (tmp_path / "mine", tmp_path / "own" / "link", tmp_path / "own" / ".." / "mine"):
            assert boxed(f"mode {place}") == "PermissionError"
        assert "not permitted" in boxed(f"shell cd {tmp_path}/own; chmod 777 ../mine 2>&1")
        assert boxed(f"shell cd {tmp_path}/own; chmod 700 file 2>&1; stat -c %a file") == "700\n"
        assert (tmp_path / "mine").stat().st_mode & 0o777 == mode
        assert "Permission denied" in boxed(f"shell echo x > {tmp_path}/new")
        assert "denied" in boxed(f"shell rm {tmp_path}/mine 2>&1")
        assert "denied" in boxed(f"shell mv {tmp_path}/mine {tmp_path}/own/ 2>&1")
        assert boxed(f"dial 127.0.0.1 {port}") == "PermissionError"
        assert boxed(f"unix {path}") == "PermissionError"
        assert re.findall(r"(NoNewPrivs|CapEff):\s+(\S+)", boxed("shell cat /proc/self/status")) == [
            ("CapEff", "0" * 16),
            ("NoNewPrivs", "1"),
        ]
        for other in (host.process.pid, host.pid("free")):
            assert "denied" in boxed(f"shell cat /proc/{other}/environ 2>&1")
            if confine.landlock_version() >= 6:
                assert "not permitted" in boxed(f"shell kill -9 {other} 2>&1")
        assert host.ask("free", "echo alive") == "alive"
        assert not (tmp_path / "new").exists()
        assert stays(host)


def stays(host: Host) -> bool:
    """Whether no plugin had to be started again."""
    return all(host.plugin(name)["restarts"] == 0 for name in ("boxed", "free"))


@pytest.mark.slow
def test_a_sandbox_around_our_own_plugins(tmp_path: Path) -> None:
    """The vector database serves in a sandbox, with its data in its own folder."""
    databases = {
        "vectors": {"path": "plugins.vector_hnsw", "config": {"data_dir": "./data"}, "security": {"sandbox": True}}
    }
    file = write(tmp_path, {}, plugins={"database_providers": databases})
    with serving(file) as host:
        assert host.plugin("vectors")["status"] == "SERVING"
        assert list((tmp_path / "data").iterdir())


@pytest.mark.parametrize(
    ("address", "allowed"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("::ffff:127.0.0.1", True),
        ("0.0.0.0", True),
        ("::", True),
        ("10.1.255.255", True),
        ("10.2.0.0", False),
        ("::ffff:10.2.0.0", False),
        ("128.0.0.1", False),
        ("fe80::1", False),
    ],
)
def test_addresses(address: str, allowed: bool) -> None:
    """An address is judged by what it stands for, however it is written."""
    assert Networks(["127.0.0.0/8", "::1/128", "10.1.0.0/16"]).allow(address) is allowed


# ---------------------------------------------------------------- what cannot be enforced


def test_what_cannot_be_enforced_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the kernel lacks what it takes, the start is refused, and the plugin and the key are named."""
    from host.config import load
    from host.supervisor import Supervisor
    from shared.errors import StartError

    cases = {
        "sandbox": (True, "it needs Landlock"),
        "allowed_networks": ([], "it needs Landlock"),
        "max_memory": ("1GB", "only Linux tells"),
    }
    monkeypatch.setattr(security, "why_no_sandbox", lambda: "it needs Landlock")
    monkeypatch.setattr(memory, "enforceable", lambda: False)
    for key, (value, reason) in cases.items():
        config = load(write(tmp_path, {"boxed": {"security": {key: value}}}))
        with pytest.raises(StartError, match=rf"plugin boxed: security.{key} cannot be enforced here: {reason}"):
            Supervisor(config, config.plugins.values())


@pytest.mark.parametrize("key", ["sandbox", "max_memory", "allowed_networks"])
def test_a_server_that_runs_already_is_held_to_nothing(tmp_path: Path, key: str) -> None:
    """For a plugin with an `address` the host cannot enforce what its `security` asks for, and says so."""
    value = {"sandbox": True, "max_memory": "1GB", "allowed_networks": ["localhost"]}[key]
    file = tmp_path / "hector.yaml"
    block = {"address": "127.0.0.1:1", "security": {key: value}}
    file.write_text(json.dumps({"plugins": {"llm_providers": {"far": block}}}))
    assert f"plugin far: security.{key} is for a plugin that the host starts" in problems(file)


@pytest.mark.slow
def test_timeout_bounds_calls(tmp_path: Path) -> None:
    """security.timeout ends a call that takes longer, by the plugin itself, and by the host where that does not."""
    with serving(write(tmp_path, {"slow": {"security": {"timeout": "1s"}}})) as host:
        with pytest.raises(grpc.RpcError) as caught:
            host.ask("slow", "sleep 100")
        assert caught.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
