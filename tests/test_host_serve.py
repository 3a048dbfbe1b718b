"""`python -m host serve` and `demo` as processes that start other processes, the fakes of `tests/host_fakes.py`."""

from __future__ import annotations

import fcntl
import io
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from host import commands, health, run_file
from host.child import LONGEST_LINE, lines_of
from host.config import load
from host.modules import import_path
from host.run_file import RunFile
from host.runner import Runner
from host.supervisor import supervise
from shared import logs
from shared.client import Address
from shared.errors import StartError
from tests.host_fakes import fakes, write_config

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals and process groups are POSIX's")
FAKE = str(Path(__file__).with_name("host_fakes.py"))
SECONDS = 120.0  # longest wait for anything here; a busy machine is slow


def config_in(folder: Path, embedder: dict[str, Any] | None = None, database: dict[str, Any] | None = None) -> Path:
    """The YAML of a host that starts two fakes; the arguments are `config` of their blocks."""
    return write_config(
        folder,
        {
            "plugins": {
                "database_providers": {"vectors": {"path": FAKE, "config": database or {}}},
                "embedder_providers": {"words": {"path": FAKE, "config": embedder or {}}},
            },
            "databases": {"store": {"type": "plugin:vectors", "config": {"collection": "docs"}}},
            "embedders": {"default": {"type": "plugin:words"}},
        },
    )


def environment(extra: dict[str, str]) -> dict[str, str]:
    """That of a host: it finds the same modules in whatever folder it runs."""
    return {**os.environ, **extra, "PYTHONPATH": import_path("", Path.cwd())}


def until(condition: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + SECONDS
    while not (value := condition()):
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)
    return value


class Host:
    """A host in a process of its own, with its output in files."""

    def __init__(self, config: Path, *arguments: str) -> None:
        self.state = config.parent / ".hector"
        self._output = {name: config.parent / f"host.{name}" for name in ("stdout", "stderr")}
        with self._output["stdout"].open("w") as stdout, self._output["stderr"].open("w") as stderr:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "host", *arguments, "--config", str(config)],
                stdout=stdout,
                stderr=stderr,
                env=environment({"COLUMNS": "120"}),
                start_new_session=True,
            )

    @property
    def stdout(self) -> str:
        return self._output["stdout"].read_text()

    @property
    def stderr(self) -> str:
        return self._output["stderr"].read_text()

    def table(self) -> dict[str, list[str]]:
        """Its rows by name, once it is there and the commands beside can find the host."""
        until(lambda: run_file.read(self.state) or self.process.poll() is not None)
        assert self.process.poll() is None, self.stderr
        rows = [re.findall(r"[^│\s]+", line) for line in self.stdout.splitlines() if "│" in line]
        return {row[0]: row[1:] for row in rows}

    def pids(self) -> list[int]:
        return [int(row[-1]) for row in self.table().values()]

    def end(self, number: signal.Signals = signal.SIGINT) -> int:
        self.process.send_signal(number)
        return self.process.wait(SECONDS)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Host]]:
    """Starts a host on a config (the one of two fakes by default); afterwards it has ended."""
    started: list[Host] = []

    def starter(*arguments: str, config: Path | None = None) -> Host:
        started.append(Host(config or config_in(tmp_path), *(arguments or ("serve",))))
        return started[-1]

    yield starter
    for host in started:
        if host.process.poll() is None:
            host.end()


def gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    # Where the parent has died and nobody reaps, it stays a zombie.
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:  # it has ended since, or there is no /proc
        return Path("/proc/self").exists()


@pytest.mark.slow
def test_serve_shows_every_plugin_once_it_serves(start: Callable[..., Host], tmp_path: Path) -> None:
    """The table has name, type, address, status and pid of each plugin, after the slowest one is SERVING."""
    with fakes() as running:
        config = config_in(tmp_path, embedder={"load_seconds": 1})
        tools = f"plugins:\n  tool_providers: {{ext: {{address: '{running.address}'}}}}"
        config.write_text(config.read_text().replace("plugins:", tools))
        began = time.monotonic()
        table = start(config=config).table()
        assert time.monotonic() - began > 1
        assert table["ext"] == ["tool_provider", running.address, "SERVING", "-"]
    kind, address, status, pid = table["words"]
    assert (kind, status) == ("embedder_provider", "SERVING")
    assert re.fullmatch(r"127\.0\.0\.1:\d+", address)
    assert Path(f"/proc/{pid}").exists() or sys.platform != "linux"
    assert table["vectors"][0] == "database_provider"


@pytest.mark.slow
def test_a_killed_plugin_comes_back_at_its_port(start: Callable[..., Host]) -> None:
    """After kill -9 a plugin is started again on the port it had, and stderr says so."""
    host = start()
    address = host.table()["words"][1]
    os.kill(int(host.table()["words"][-1]), signal.SIGKILL)
    until(lambda: re.search(r"event=plugin_ended plugin=words cause=\"signal 9\" restart_in=1s", host.stderr))
    until(lambda: len(re.findall(rf"event=plugin_serving plugin=words address={address} ", host.stderr)) == 2)


@pytest.mark.slow
def test_a_plugin_that_cannot_restart_is_tried_again(start: Callable[..., Host], tmp_path: Path) -> None:
    """A plugin that refuses to start again is named with its reason and tried until it works."""
    host = start("serve", "--no-reload")
    pid = int(host.table()["words"][-1])
    config_in(tmp_path, embedder={"refuse": "the disk is gone"})
    os.kill(pid, signal.SIGKILL)
    until(lambda: 'cause="the disk is gone (exit status 2)" restart_in=2s' in host.stderr)
    config_in(tmp_path)
    until(lambda: host.stderr.count("event=plugin_serving plugin=words") == 2)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_and_sigterm_stop_all(start: Callable[..., Host], number: signal.Signals) -> None:
    """Ctrl-C and SIGTERM end every plugin, take run.json away, and the host's status is 0."""
    host = start()
    pids = host.pids()
    assert host.end(number) == 0
    assert all(map(gone, pids))
    assert not run_file.path_in(host.state).exists()


def test_a_second_ctrl_c_kills_what_does_not_stop(start: Callable[..., Host], tmp_path: Path) -> None:
    """A plugin that ignores SIGTERM is killed at the second Ctrl-C."""
    host = start(config=config_in(tmp_path, embedder={"stubborn": True}))
    pids = host.pids()
    host.process.send_signal(signal.SIGINT)
    until(lambda: "stopping" in host.stderr)
    time.sleep(0.3)
    assert host.process.poll() is None
    assert host.end() == 130
    assert all(map(gone, pids))


def test_ctrl_c_counts_as_soon_as_the_host_can_be_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Ctrl-C right after run.json was written stops the host with the same line and the same status as later."""
    write = run_file.write

    def write_and_interrupt(state: Path, run: RunFile) -> None:
        write(state, run)
        raise KeyboardInterrupt

    monkeypatch.setattr(run_file, "write", write_and_interrupt)
    monkeypatch.setattr(logs, "setup", lambda level: None)  # it is for a process: no later test would see its log
    try:
        status = commands.serve(load(config_in(tmp_path)), reload=False)
    except KeyboardInterrupt:
        pytest.fail("Ctrl-C ended serve as it ends a host that has not started")
    assert status == 0
    assert "stopping" in capfd.readouterr().err
    assert run_file.read(tmp_path / ".hector") is None


def test_a_second_ctrl_c_before_all_were_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second Ctrl-C that comes while the host tells its plugins to stop, and has not told all, leaves none behind."""
    stop, interrupted = Runner.stop, threading.Event()

    def stop_or_not(runner: Runner) -> None:
        if interrupted.is_set():
            stop(runner)
        else:
            interrupted.set()
            raise KeyboardInterrupt

    monkeypatch.setattr(Runner, "stop", stop_or_not)
    config = load(config_in(tmp_path))
    with pytest.raises(KeyboardInterrupt), supervise(config, config.plugins.values()) as supervisor:
        pids = [status.pid for status in supervisor.statuses()]
    assert len(pids) == 2
    assert all(pid and gone(pid) for pid in pids)


def test_a_plugin_that_has_started_is_shown_as_serving(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However late the status of a plugin changes: once all count as started, it is SERVING."""
    become = Runner._become

    def late(runner: Runner, status: str, cause: str = "") -> None:
        time.sleep(0.3)
        become(runner, status, cause)

    monkeypatch.setattr(Runner, "_become", late)
    config = load(config_in(tmp_path))
    with supervise(config, [config.plugins["words"]]) as supervisor:
        assert [status.status for status in supervisor.statuses()] == ["SERVING"]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_ctrl_c_that_python_loses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Ctrl-C in a moment in which Python drops what is raised, as in the end of an object, stops the host as ever."""
    write = run_file.write

    class Ending:
        def __del__(self) -> None:
            signal.raise_signal(signal.SIGINT)

    def write_and_lose(state: Path, run: RunFile) -> None:
        write(state, run)
        Ending()

    monkeypatch.setattr(run_file, "write", write_and_lose)
    monkeypatch.setattr(logs, "setup", lambda level: None)
    rescue = threading.Timer(SECONDS, os.kill, (os.getpid(), signal.SIGINT))
    rescue.start()
    try:
        assert commands.serve(load(config_in(tmp_path)), reload=False) == 0
        assert rescue.is_alive(), "it was lost"
    finally:
        rescue.cancel()
    assert "stopping" in capfd.readouterr().err
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process that its parent died")
def test_plugins_end_when_the_host_is_killed(start: Callable[..., Host], tmp_path: Path) -> None:
    """A host that dies by SIGKILL takes its plugins with it, even a stuck one, and its run.json counts as none."""
    host = start(config=config_in(tmp_path, embedder={"stubborn": True}))
    pids = host.pids()
    assert host.end(signal.SIGKILL) == -signal.SIGKILL
    until(lambda: all(map(gone, pids)))
    assert run_file.path_in(host.state).exists()
    assert run_file.read(host.state) is None


def test_a_plugin_that_refuses_to_start_ends_serve(start: Callable[..., Host], tmp_path: Path) -> None:
    """A plugin that exits at start is named with its reason, the others are stopped, and the status is 2."""
    host = start(config=config_in(tmp_path, embedder={"refuse": "data_dir is not a folder"}))
    assert host.process.wait(SECONDS) == 2
    assert host.stderr.splitlines()[-1] == (
        "error: plugin words did not start: data_dir is not a folder (exit status 2)"
    )
    assert not run_file.path_in(host.state).exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("plugins.no_such_plugin", "plugin words did not start: .*No module named plugins.no_such_plugin"),
        ("./nothing", "plugin words: there is no .*nothing; `path` is an executable or a Python module"),
        ("./hector.yaml", "plugin words: .*hector.yaml is not executable; chmod"),
    ],
)
def test_a_path_that_cannot_be_run_is_named(
    start: Callable[..., Host], tmp_path: Path, path: str, message: str
) -> None:
    """A `path` that is nothing that can be run is one line on stderr and status 2."""
    config = write_config(tmp_path, {"plugins": {"embedder_providers": {"words": {"path": path}}}})
    host = start(config=config)
    assert host.process.wait(SECONDS) == 2
    assert re.match(r"error: (\S+/hector.yaml:\d+: )?" + message, host.stderr.splitlines()[-1])


@pytest.mark.slow
def test_run_json_holds_addresses_for_this_user_only(start: Callable[..., Host], tmp_path: Path) -> None:
    """run.json has the host's pid and the addresses, nobody else may read it, and a second host refuses to start."""
    host = start()
    table = host.table()
    file = run_file.path_in(host.state)
    written = json.loads(file.read_text())
    plugins = written.pop("plugins")
    assert written == {
        "pid": host.process.pid,
        "config": str(tmp_path / "hector.yaml"),
        "addresses": {name: row[1] for name, row in table.items()},
    }
    assert {
        name: [one["kind"], one["address"], one["status"], str(one["pid"])] for name, one in plugins.items()
    } == table
    assert file.stat().st_mode & 0o777 == 0o600
    second = subprocess.run(
        [sys.executable, "-m", "host", "serve", "--config", str(tmp_path / "hector.yaml")],
        capture_output=True,
        text=True,
        env=environment({}),
        check=False,
    )
    assert second.returncode == 2
    assert f"a host runs already for {tmp_path / 'hector.yaml'} (pid {host.process.pid})" in second.stderr
    assert file.exists()


def test_a_stale_run_json_counts_as_none(start: Callable[..., Host], tmp_path: Path) -> None:
    """A run.json whose process is gone is replaced by the next host."""
    with subprocess.Popen([sys.executable, "-c", ""]) as dead:
        pass
    run_file.write(tmp_path / ".hector", RunFile(dead.pid, "x", {}))
    assert (tmp_path / ".hector").stat().st_mode & 0o777 == 0o700
    assert run_file.read(tmp_path / ".hector") is None
    host = start()
    until(lambda: (run := run_file.read(host.state)) and run.pid == host.process.pid)


def test_a_command_that_stands_still_while_it_looks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A host that starts while somebody looks for one, and is stopped at that, waits for him longer than for a host."""
    monkeypatch.setattr(run_file, "_LOCK_SECONDS", 0.0)
    state = tmp_path / ".hector"
    with run_file.locked(state):
        pass
    with (state / "lock").open() as looking:
        fcntl.flock(looking, fcntl.LOCK_SH)
        going_on = threading.Timer(0.3, fcntl.flock, (looking, fcntl.LOCK_UN))
        going_on.start()
        with run_file.locked(state):
            assert run_file.held(state)
        going_on.join()


@pytest.mark.slow
def test_a_command_uses_the_running_host(start: Callable[..., Host], tmp_path: Path) -> None:
    """Beside a running `serve`, index and search start nothing: what one stored the other finds."""
    host = start()
    host.table()
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "a.md").write_text("# Cats\n\ncats purr\n")
    for arguments in (["index", str(tmp_path / "docs")], ["search", "cats purr"]):
        done = subprocess.run(
            [sys.executable, "-m", "host", *arguments, "--config", str(tmp_path / "hector.yaml")],
            capture_output=True,
            text=True,
            env=environment({}),
            check=True,
            timeout=SECONDS,
        )
    assert re.match(r"1\. .*docs/a\.md:1  score 0\.\d+  Cats\n", done.stdout)


def test_demo_shows_all_and_ends(start: Callable[..., Host], tmp_path: Path) -> None:
    """`demo` prints the table, indexes, answers and says what to try next; then nothing is left running."""
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "a.md").write_text("# Cats\n\ncats purr\n")
    host = start("demo", str(tmp_path / "docs"), "-q", "who purrs?")
    assert host.process.wait(SECONDS) == 0, host.stderr
    assert "SERVING" in host.stdout
    assert "1 files read, 0 unchanged, 1 chunks embedded, 0 removed" in host.stdout
    assert re.search(r"^1\. \S+a\.md:1  score 0\.\d+  Cats$", host.stdout, re.MULTILINE)
    assert "-m host search 'your own question' --config" in host.stdout
    assert all(gone(int(pid)) for pid in re.findall(r"(\d+) │$", host.stdout, re.MULTILINE))
    assert not run_file.path_in(host.state).exists()


def test_demo_keeps_running_when_asked_to(start: Callable[..., Host], tmp_path: Path) -> None:
    """With --keep the plugins stay up after the answer, until Ctrl-C."""
    (tmp_path / "docs").mkdir()
    host = start("demo", str(tmp_path / "docs"), "--keep")
    until(lambda: "The plugins stay up" in host.stdout)
    assert run_file.read(host.state) is not None
    assert host.end() == 0


# ---------------------------------------------------------------- what a killed host, another host, or nonsense left


def test_a_pid_that_lives_again_is_no_host(start: Callable[..., Host], tmp_path: Path) -> None:
    """A run.json that a killed host left counts as none, though its pid is another process's by now."""
    run_file.write(tmp_path / ".hector", RunFile(os.getpid(), str(tmp_path / "hector.yaml"), {"words": "127.0.0.1:1"}))
    assert run_file.read(tmp_path / ".hector") is None
    host = start()
    until(lambda: (run := run_file.read(host.state)) and run.pid == host.process.pid)


def _huge(path: Path) -> None:
    path.touch()
    os.truncate(path, 2**40)


@pytest.mark.parametrize(
    "make",
    [
        lambda path: path.write_text('{"pid": "4711", "config": "x", "addresses": {}}'),
        lambda path: path.write_text('{"pid": 1e999, "config": ["x"], "addresses": {"words": 7}}'),
        lambda path: path.write_text('{"pid": true, "config": "x", "addresses": {}}'),
        lambda path: path.write_text("[" * 200_000),
        lambda path: path.write_bytes(b"\xff\0" * 10),
        _huge,
        os.mkfifo,
        lambda path: path.symlink_to("/dev/zero"),
        Path.mkdir,
    ],
    ids=["pid is text", "types", "pid is true", "deep", "binary", "1 TB", "pipe", "device", "folder"],
)
def test_nonsense_in_run_json(tmp_path: Path, make: Callable[[Path], Any]) -> None:
    """Whatever stands in the place of run.json counts as none, even beside a running host; it is never waited for."""
    state = tmp_path / ".hector"
    state.mkdir()
    make(run_file.path_in(state))
    assert run_file.read(state) is None
    with run_file.locked(state):
        assert run_file.read(state) is None
        run_file.remove(state)
    assert run_file.read(state) is None


@pytest.mark.slow
def test_two_hosts_at_one_moment(start: Callable[..., Host], tmp_path: Path) -> None:
    """Of two hosts that start at one moment one serves and the other ends with status 2 and says why."""
    config = config_in(tmp_path, embedder={"load_seconds": 1})
    both = [start(config=config), start(config=config)]
    until(lambda: any(host.process.poll() is not None for host in both))
    (refused,) = [host for host in both if host.process.poll() is not None]
    (other,) = [host for host in both if host is not refused]
    assert refused.process.returncode == 2
    until(lambda: run_file.read(other.state))
    assert other.process.poll() is None
    with (
        pytest.raises(StartError, match=rf"a host runs already for .*hector.yaml \(pid {other.process.pid}\)"),
        commands.serving(load(config)),
    ):
        pass


def test_a_command_beside_a_host_that_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While a host starts, a command does not start the same plugins beside it but waits, and says so in the end."""
    monkeypatch.setattr("host.connect._STARTING_SECONDS", 0.1)
    config = load(config_in(tmp_path))
    with run_file.locked(config.state), pytest.raises(StartError, match="a host is just starting or stopping in"):
        commands.search(config, "anything", 1, config.database(), as_json=False)


# ---------------------------------------------------------------- nothing is left behind


def offspring(file: Path) -> list[int]:
    return [int(line) for line in until(lambda: file.exists() and file.read_text().splitlines())]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux hands orphans to another than init")
@pytest.mark.parametrize("end", ["plugin stops", "plugin is killed", "host is killed"])
def test_nothing_a_plugin_started_outlives_it(start: Callable[..., Host], tmp_path: Path, end: str) -> None:
    """What a plugin started ends with it, whoever is killed: also orphans, other sessions, and what ignores SIGTERM."""
    file = tmp_path / "pids"
    host = start(config=config_in(tmp_path, embedder={"offspring": str(file)}))
    plugin = int(host.table()["words"][-1])
    pids = offspring(file)
    assert len(pids) == 3
    assert not any(map(gone, pids))
    if end == "plugin stops":
        assert host.end() == 0
        assert all(map(gone, [plugin, *pids]))
    elif end == "plugin is killed":
        os.kill(plugin, signal.SIGKILL)
        until(lambda: 'plugin_ended plugin=words cause="signal 9"' in host.stderr)
        assert all(map(gone, pids))
    else:
        assert host.end(signal.SIGKILL) == -signal.SIGKILL
        until(lambda: all(map(gone, [plugin, *pids])))


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process that its parent died")
def test_a_host_that_is_killed_while_it_starts(start: Callable[..., Host], tmp_path: Path) -> None:
    """A host killed at any moment of its start leaves no process of a plugin behind."""
    config = config_in(tmp_path, embedder={"load_seconds": 600})
    for delay in (0.0, 0.05, 0.1, 0.2, 0.4):
        host = start(config=config)
        # From the moment on that it has begun to start plugins.
        until(partial(descendants, host.process.pid))
        time.sleep(delay)
        host.end(signal.SIGKILL)
        until(lambda: not [line for line in commands_running() if str(config) in line])


def commands_running() -> list[str]:
    """The command line of every process of this machine."""
    return [command_line(int(path.name)) for path in Path("/proc").glob("[0-9]*")]


def descendants(pid: int) -> list[int]:
    """Every process below `pid`, by /proc."""
    parents = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            parents[int(path.parent.name)] = int(path.read_text().rpartition(")")[2].split()[1])
    below = [child for child, parent in parents.items() if parent == pid]
    return below + [deeper for child in below for deeper in descendants(child)]


# ---------------------------------------------------------------- what a plugin writes


@pytest.mark.slow
def test_a_flood_without_line_ends(start: Callable[..., Host], tmp_path: Path) -> None:
    """A plugin that writes 400 MB without a line end costs the host no memory, and is supervised as ever."""
    host = start(config=config_in(tmp_path, embedder={"flood": 200 * 2**20}))
    pid = int(host.table()["words"][-1])
    until(lambda: host.stderr.count("words | ") >= 3)
    until(lambda: waits(pid))
    status = Path(f"/proc/{host.process.pid}/status")
    if status.exists():
        peak = int(re.findall(r"VmHWM:\s+(\d+) kB", status.read_text())[0])
        assert peak < 200 * 1024
    os.kill(pid, signal.SIGKILL)
    until(lambda: "event=plugin_ended plugin=words" in host.stderr)
    assert len(host.stderr) < 10 * LONGEST_LINE


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_host_whose_log_nobody_reads(tmp_path: Path) -> None:
    """While nobody reads the host's stderr, a plugin of 50,000 lines is started again, and SIGTERM ends all."""
    config = config_in(tmp_path, embedder={"chatter": 50_000})
    command = [sys.executable, "-m", "host", "serve", "--config", str(config)]

    def words() -> set[int]:
        """The process of the plugin, once it serves."""
        return {pid for pid in descendants(process.pid) if "--name words" in command_line(pid) and not tether(pid)}

    def tether(pid: int) -> bool:
        return "tether.py" in command_line(pid)

    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment({})) as process:
        try:
            until(lambda: run_file.read(tmp_path / ".hector"))
            (first,) = words()
            until(lambda: waits(first))  # all of its lines are out
            os.kill(first, signal.SIGKILL)
            (second,) = until(lambda: words() - {first})
            assert health.wait_until_serving(Address(address_of(tmp_path, "words")), SECONDS) == "SERVING"
            process.send_signal(signal.SIGTERM)
            until(lambda: process.poll() is not None)
            assert process.returncode == 0
            assert gone(second)
        finally:
            process.kill()


def address_of(folder: Path, plugin: str) -> str:
    run = run_file.read(folder / ".hector")
    assert run is not None
    return run.addresses[plugin]


def command_line(pid: int) -> str:
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    return ""


def waits(pid: int) -> bool:
    """Whether a process has written everything: it uses no more CPU time."""
    stat = Path(f"/proc/{pid}/stat")
    if not stat.exists():
        return True
    before = stat.read_text().split()[13:15]
    time.sleep(0.5)
    return stat.read_text().split()[13:15] == before


def test_lines_are_cut() -> None:
    """A line is read up to its bound and marked, the rest of it is dropped, and the next line is whole again."""
    long = b"y" * (3 * LONGEST_LINE)
    pipe = io.BytesIO(b"first\r\n" + long + b"\nbar 1\rbar 2\n\xff\xfe\nlast")
    first, cut, *rest = lines_of(pipe)
    assert (first, rest) == ("first", ["bar 2", "\ufffd\ufffd", "last"])
    assert cut == "y" * LONGEST_LINE + "… (the rest of the line is left out)"


# ---------------------------------------------------------------- health, asked all the time


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Health is asked ten times a second."""
    monkeypatch.setattr(health, "ASK_SECONDS", 0.1)


@pytest.mark.slow
@pytest.mark.usefixtures("quick")
def test_a_plugin_whose_port_is_dead_is_started_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A plugin whose process lives while its port is shut is stopped and started again."""
    config = load(config_in(tmp_path, embedder={"deaf_after": 3}))
    with supervise(config, [config.plugins["words"]]) as supervisor:
        (first,) = supervisor.statuses()
        until(lambda: (now := supervisor.statuses()[0]).pid not in (None, first.pid) and now.status == "SERVING")
    assert "its process lives, but 3 health checks in a row got no answer" in caplog.text


@pytest.mark.slow
@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("settings", [{"check_seconds": 0.7}, {"unready_after": 3}], ids=["slow", "not ready"])
def test_a_plugin_that_answers_is_left_alone(tmp_path: Path, settings: dict[str, Any]) -> None:
    """A plugin whose health is slow, or says NOT_SERVING for a while, is no dead one."""
    config = load(config_in(tmp_path, embedder=settings))
    with supervise(config, [config.plugins["words"]]) as supervisor:
        (first,) = supervisor.statuses()
        time.sleep(4)
        assert supervisor.statuses() == [first]
