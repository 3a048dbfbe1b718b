"""Plugins that try to get out of what the host holds them to, or to have it wait for ever."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from host import confine_answers, gate, runner, security
from host.child import Child
from host.config import load
from host.config.security import LOCALHOST
from host.gate import Gate
from host.supervisor import Supervisor
from shared.errors import StartError
from tests.host_manager import gone, problems, until, write
from tests.servers import ROOT, SECONDS

linux = pytest.mark.skipif(sys.platform != "linux", reason="processes are held to nothing elsewhere")
sandboxes = pytest.mark.skipif(
    sys.platform != "linux" or bool(security.why_no_sandbox()), reason="this machine can hold no plugin to anything"
)


def script(folder: Path, code: str) -> Path:
    file = folder / "plugin.py"
    file.write_text(code)
    return file


def child(folder: Path, code: str, options: Mapping[str, Any], *arguments: str) -> Child:
    """A plugin's process, its output in `folder/output`."""

    def note(line: str) -> None:
        with (folder / "output").open("a") as output:
            output.write(line + "\n")

    command = [sys.executable, str(script(folder, code)), *arguments]
    return Child(command, cwd=folder, environment=dict(os.environ), output=note, confinement=options)


def output_of(process: Child, folder: Path) -> str:
    until(process.ended)
    process.cause()
    process.stop(threading.Event())
    process.close()
    return (folder / "output").read_text()


# ---------------------------------------------------------------- out of the sandbox


WRITES = """
import sys
try:
    print(open(sys.argv[1], "w").write("x"))
except OSError as error:
    print(type(error).__name__)
"""


@sandboxes
def test_a_folder_that_has_become_a_link(tmp_path: Path) -> None:
    """A sandboxed plugin that puts a link in the place of its own folder gets nothing by it when it starts again."""
    (tmp_path / "outside").mkdir()
    (tmp_path / "own").symlink_to(tmp_path / "outside")
    options = {"networks": [], "writable": [str(tmp_path / "own")]}
    process = child(tmp_path, WRITES, options, str(tmp_path / "outside" / "file"))
    assert "error: cannot be confined" in output_of(process, tmp_path)
    assert not list((tmp_path / "outside").iterdir())


@sandboxes
def test_a_folder_within_a_folder_is_not_looked_at(tmp_path: Path) -> None:
    """Of a sandboxed plugin's folders one that lies in another is neither made nor followed, since it may be a link."""
    (tmp_path / "outside").mkdir()
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "cache").symlink_to(tmp_path / "outside")
    config = load(
        write(tmp_path, {"boxed": {"config": {"data_dir": "data", "cache_dir": "data/cache"}, "security": SANDBOX}})
    )
    home = tmp_path / ".hector" / "data" / "boxed"
    assert security.confinement(config.plugins["boxed"], config)["writable"] == [str(home), str(tmp_path / "data")]


SANDBOX = {"sandbox": True}


@sandboxes
@pytest.mark.parametrize("folder", [".", "..", ".hector", "./.hector/data"])
def test_a_sandbox_that_holds_the_hosts_own_files(tmp_path: Path, folder: str) -> None:
    """A sandboxed plugin whose folder has the YAML or the host's state in it could free itself, and is refused."""
    (tmp_path / "yaml").mkdir()
    config = load(write(tmp_path / "yaml", {"boxed": {"config": {"data_dir": folder}, "security": SANDBOX}}))
    with pytest.raises(StartError, match=r"plugin boxed: security.sandbox would hold nothing: in its folder"):
        Supervisor(config, config.plugins.values())


INTO_THE_TETHER = """
import ctypes, os
for name in ("mem", "environ"):
    try:
        open(f"/proc/{os.getppid()}/{name}", "r+b" if name == "mem" else "rb", buffering=0).read(0)
        print(name, "opened")
    except OSError as error:
        print(name, type(error).__name__)
print("traced" if ctypes.CDLL(None).ptrace(0x4206, os.getppid(), 0, 0) == 0 else "not traced")
"""
# As the host of somebody who is not root: root's own privileges would keep the plugin, which has none, out as well.
UNPRIVILEGED = """
import sys
from pathlib import Path
from host import confine
confine.no_new_privileges()
from tests.test_host_attack import INTO_THE_TETHER, child, output_of
folder = Path(sys.argv[1])
print(output_of(child(folder, INTO_THE_TETHER, {"networks": []}), folder))
"""


@sandboxes
def test_nobody_takes_over_the_tether(tmp_path: Path) -> None:
    """A plugin that is held to networks alone can neither read nor write the process that dials for it."""
    done = subprocess.run(
        [sys.executable, "-c", UNPRIVILEGED, str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=True,
    )
    assert done.stdout.split("\n")[:3] == ["mem PermissionError", "environ PermissionError", "not traced"]


def test_a_socket_that_is_bound_anew_in_between(monkeypatch: pytest.MonkeyPatch) -> None:
    """A socket that was on loopback when it was looked at, and is not any more once it listens, is shut."""
    looks = iter([True, False])
    monkeypatch.setattr(confine_answers, "_may_listen", lambda own, networks: next(looks))
    with socket.socket() as own:
        own.bind(("127.0.0.1", 0))
        assert confine_answers._listen(own, 1, confine_answers.Networks([])) == errno.EACCES
        assert not own.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)


@pytest.mark.parametrize(
    ("address", "options", "expected"),
    [
        ("10.1.2.3:80", {}, True),
        ("secret.example.com:80", {}, True),
        ("127.0.0.1:80", {"networks": []}, True),
        ("[::1]:80", {"networks": []}, True),
        ("localhost:80", {"networks": []}, True),
        ("10.1.2.3:80", {"networks": ["10.1.0.0/16"]}, True),
        ("10.1.2.3:80", {"networks": list(LOCALHOST)}, False),
        ("[2001:db8::1]:80", {"networks": []}, False),
        ("secret.example.com:80", {"networks": ["10.1.0.0/16"]}, False),
        ("unix:/run/other.sock", {"networks": []}, True),
        ("unix:/run/other.sock", {"networks": [], "writable": ["/own"]}, False),
        ("unix:/own/../run/other.sock", {"networks": [], "writable": ["/own"]}, False),
        ("unix:/owner/x.sock", {"networks": [], "writable": ["/own"]}, False),
        ("unix:/own/x.sock", {"networks": [], "writable": ["/own"]}, True),
    ],
)
def test_no_errands_for_what_is_confined(address: str, options: dict[str, Any], expected: bool) -> None:
    """The host dials what a confined plugin prints as its address only where the plugin itself may go."""
    assert security.may_be_dialled(address, options) is expected


@sandboxes
def test_an_address_that_tells_a_secret(tmp_path: Path) -> None:
    """A sandboxed plugin that says it listens at a name of somebody's is not dialled: looking that up would tell it."""
    says = "import time; print('listening on secret.example.invalid:80', flush=True); time.sleep(600)"
    file = write(tmp_path, {"boxed": {"path": str(script(tmp_path, says)), "security": SANDBOX}})
    assert "it says that it listens at secret.example.invalid:80, which its `security` keeps it from" in problems(file)


# ---------------------------------------------------------------- having the host wait


def test_what_goes_into_the_background_is_told_to_stay(tmp_path: Path) -> None:
    """A plugin that makes itself a daemon ends with it, and the message says what it is to do instead."""
    daemon = "import os, time\nif os.fork(): os._exit(0)\nos.setsid()\ntime.sleep(600)"
    file = write(tmp_path, {"daemon": {"path": str(script(tmp_path, daemon))}})
    assert "it ended by itself, and is to stay in the foreground (exit status 0)" in problems(file)


@pytest.mark.slow
def test_a_port_where_nobody_listens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A plugin that prints an address at which nothing answers is given up, and the address is named."""
    from host import commands

    monkeypatch.setattr(runner, "DEAF_SECONDS", 1.0)
    says = "import time; print('listening on 127.0.0.1:1', flush=True); time.sleep(600)"
    file = write(tmp_path, {"wrong": {"path": str(script(tmp_path, says))}})
    with (
        pytest.raises(StartError, match=r"plugin wrong did not start: nothing has answered at 127\.0\.0\.1:1 for"),
        commands.serving(load(file)),
    ):
        pass


STOPS_ITS_PARENT = """
import os, signal, subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
print(child.pid, flush=True)
os.kill(os.getppid(), signal.SIGSTOP)
time.sleep(600)
"""


@linux
def test_a_plugin_that_stops_its_tether(tmp_path: Path) -> None:
    """SIGSTOP to the process that is to clean up behind it saves nothing that a plugin has started."""
    process = child(tmp_path, STOPS_ITS_PARENT, {})
    offspring = int(until(lambda: (tmp_path / "output").is_file() and (tmp_path / "output").read_text()))
    until(lambda: Path(f"/proc/{process.parent}/stat").read_text().rpartition(")")[2].split()[0] == "T")
    try:
        process.stop(threading.Event())
        process.close()
        assert gone(offspring)
    finally:
        if not gone(offspring):
            os.kill(offspring, signal.SIGKILL)


def test_a_gate_that_somebody_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A call that was stopped while it passed, or a plugin that locks the file, keeps the host waiting for a bound."""
    monkeypatch.setattr(gate, "_PASSING_SECONDS", 0.2)
    closed = Gate(tmp_path, "held")
    closed.open()
    with (tmp_path / "gates" / "held.turn").open() as turn:
        fcntl.flock(turn, fcntl.LOCK_SH)
        closing = threading.Thread(target=closed.close, daemon=True)
        closing.start()
        closing.join(SECONDS)
        assert not closing.is_alive()
    closed.end()


def test_a_bug_in_the_keeping_of_one_plugin(tmp_path: Path) -> None:
    """Whatever goes wrong while a plugin is started is the reason that it did not start; nobody waits for it."""
    config = load(write(tmp_path, {"unlucky": {}}))

    def wired(plugin: object) -> dict[str, str]:
        raise ValueError("embedded null byte")

    keeper = runner.Runner(
        runner.launch_of(config.plugins["unlucky"], config), state=None, quiet=True, on_change=lambda: None, wired=wired
    )
    keeper.start()
    assert keeper.ended.wait(SECONDS)
    assert keeper.failure == "ValueError: embedded null byte"
