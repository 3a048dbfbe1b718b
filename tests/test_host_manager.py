"""The host's plugin manager over real processes: environments, logs, status, and faults of one plugin among others."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import grpc
import pytest

from host import health, log_files
from host.config import load
from host.environment import PASSED, variables_in
from host.log_files import LogFile, file_name
from host.supervisor import Supervisor
from shared.client import Address
from tests.host_manager import Host, command, environ, gone, problems, run, serving, until, write
from tests.servers import SECONDS

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


def test_a_heartbeat_waits_for_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection that takes long to close does not keep whoever watches: the next question is asked meanwhile."""
    closing, may_close = threading.Event(), threading.Event()

    @contextmanager
    def slow(address: Address) -> Iterator[grpc.Channel]:
        with grpc.insecure_channel(address.address) as opened:
            yield opened
            closing.set()
            may_close.wait(SECONDS)

    monkeypatch.setattr(health, "channel", slow)
    monkeypatch.setattr(health, "ASK_SECONDS", 0.0)
    try:
        with health.Heartbeat(Address("127.0.0.1:1")) as heartbeat:
            until(lambda: heartbeat.unanswered() >= 2)
        assert closing.is_set()
    finally:
        may_close.set()


def test_statuses_are_told_one_after_another(tmp_path: Path) -> None:
    """Who begins to listen is told within the same turns as who hears of a change, so that the newest is told last."""
    supervisor = Supervisor(load(write(tmp_path, {"one": {}})), ())
    news = threading.Thread(target=supervisor._tell)
    told: list[str] = []

    def listener() -> None:
        if told:
            told.append("news")
            return
        told.append("begun")
        news.start()
        news.join(0.2)
        told.append("ended")

    supervisor.listen(listener)
    news.join(SECONDS)
    assert told == ["begun", "ended", "news"]


@pytest.mark.slow
def test_a_plugin_has_an_environment_of_its_own(tmp_path: Path) -> None:
    """A plugin sees PATH, HOME, its own variables and what its block names; no other secret of the host's."""
    file = write(
        tmp_path,
        {
            "first": {"config": {"greeting": "${FIRST_WORD}"}, "env": {"MODE": "loud", "FROM": "${SECOND_WORD}"}},
            "second": {"env": ["SECOND_WORD", "NOT_SET"]},
        },
    )
    host_environment = {
        "FIRST_WORD": "servus",
        "SECOND_WORD": "moin",
        "OPENAI_API_KEY": "sk-host",
        "FIRST__TOKEN": "",
        "MANAGED_PLUGIN__LOG_LEVEL": "debug",
        "VECTOR_HNSW__TOKEN": "of another plugin",
    }
    with serving(file, environment=host_environment) as host:
        first, second = (json.loads(host.ask(name, "environment")) for name in ("first", "second"))
        assert host.ask("first", "greet") == "servus"
    passed = set(PASSED)
    own = {"PYTHONPATH", "MANAGED_PLUGIN__LOG_LEVEL", "FIRST_GREETING", "GRPC_VERBOSITY"}  # the last is of `shared`
    assert first.keys() - passed - own == {"FIRST_WORD", "MODE", "FROM", "FIRST__TOKEN"}
    assert (first["MODE"], first["FROM"]) == ("loud", "moin")
    assert second.keys() - passed - own == {"SECOND_WORD"}
    assert first["PATH"] == os.environ["PATH"]


def test_the_variables_that_a_text_names() -> None:
    """Every `${VAR}` is seen, at any depth, with a default too; what is escaped is none."""
    value = {"a": "${ONE} and ${TWO:-2}", "b": [{"c": "$${NOT}"}, 7, "${THREE}"]}
    assert variables_in(value) == {"ONE", "TWO", "THREE"}


@pytest.mark.slow
def test_one_plugin_dies_in_mid_call(tmp_path: Path) -> None:
    """A plugin that is killed in the middle of a call fails that call alone; the others answer meanwhile, and after."""
    with serving(write(tmp_path, {"victim": {}, "other": {}})) as host:
        pid = host.pid("victim")
        failures: list[grpc.StatusCode] = []

        def long_call() -> None:
            with pytest.raises(grpc.RpcError) as caught:
                host.ask("victim", "sleep 60")
            failures.append(caught.value.code())

        caller = threading.Thread(target=long_call)
        caller.start()
        until(lambda: "event=accepted" in "".join(log_lines(host, "victim")))
        other = host.pid("other")
        os.kill(pid, signal.SIGKILL)
        assert host.ask("other", "echo during") == "during"
        caller.join()
        assert failures == [grpc.StatusCode.UNAVAILABLE]
        # Made while the plugin is away, and answered by the next process.
        assert host.ask("victim", "echo again") == "again"
        assert host.pid("victim") != pid
        assert host.pid("other") == other
        status = json.loads(run("status", "--json", "--config", str(host.file)).stdout)
        assert {each["name"]: each["restarts"] for each in status["plugins"]} == {"victim": 1, "other": 0}


@pytest.mark.slow
def test_status_and_logs(tmp_path: Path) -> None:
    """`status` shows each plugin as it is; `logs` shows what it wrote and, with --follow, what it writes."""
    file = write(tmp_path, {"alpha": {}, "beta": {}})
    with serving(file) as host:
        assert re.search(
            r"alpha +│ llm_provider +│ 127\.0\.0\.1:\d+ +│ SERVING", run("status", "--config", str(file)).stdout
        )
        log = run("logs", "alpha", "--config", str(file)).stdout
        assert "host: " in log
        assert f"pid={host.pid('alpha')}" in log
        assert "alpha |" not in log
        follower = subprocess.Popen(
            command("logs", "beta", "--follow", "-n", "1", "--config", str(file)),
            stdout=subprocess.PIPE,
            text=True,
            env=environ({}),
        )
        assert follower.stdout is not None
        assert follower.stdout.readline()
        host.ask("beta", "echo x", metadata=(("x-request-id", "followed"),))
        try:
            assert any("event=accepted" in line for line in iter(follower.stdout.readline, ""))
        finally:
            follower.send_signal(signal.SIGINT)
        assert follower.wait(60) == 0
        missing = run("logs", "alpah", "--config", str(file), check=False)
        assert "there is no plugin 'alpah'; did you mean 'alpha'?" in missing.stderr
        os.kill(host.pid("alpha"), signal.SIGSTOP)
        stopped = run("status", "--json", "--config", str(file), check=False)
        os.kill(host.pid("alpha"), signal.SIGCONT)
        assert stopped.returncode == 1
        assert [each["status"] for each in json.loads(stopped.stdout)["plugins"]] == ["UNREACHABLE", "SERVING"]
    nobody = run("status", "--config", str(file), check=False)
    assert nobody.returncode == 2
    assert "no host runs in" in nobody.stderr
    # What was written stays readable.
    assert "serving" in run("logs", "alpha", "--config", str(file)).stdout


def fails(host: Host, name: str, prompt: str) -> None:
    with pytest.raises(grpc.RpcError):
        host.ask(name, prompt)


def log_lines(host: Host, name: str) -> list[str]:
    return list(log_files.read(host.state, name, 1000, lambda: False))


@pytest.mark.slow
def test_a_plugin_that_never_becomes_healthy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A plugin that never serves is named with what it is doing, the start is given up, and no process is left."""
    from host import commands, runner
    from shared.errors import StartError

    monkeypatch.setattr(runner, "LOAD_SECONDS", 10.0)  # which the other one needs on a machine that stands still
    offspring = tmp_path / "pids"
    file = write(tmp_path, {"good": {}, "stuck": {"config": {"loading": "endless", "offspring": str(offspring)}}})
    with (
        pytest.raises(StartError, match="plugin stuck did not start: it is NOT_SERVING after 10 s"),
        commands.serving(load(file)),
    ):
        pass
    pids = [int(word) for word in offspring.read_text().split()]
    assert len(pids) == 2
    assert all(map(gone, pids))


@pytest.mark.slow
def test_a_plugin_that_cannot_be_dialled(tmp_path: Path) -> None:
    """Where what it takes to dial a started plugin is missing, the start ends and says so."""
    address = {"address": "127.0.0.1:8081", "tls_ca": "missing.pem"}
    file = write(tmp_path, {"sealed": {"address": address}})
    assert re.search(r"plugin sealed did not start: address 127.*cannot read .*missing.pem", problems(file))


@pytest.mark.slow
@pytest.mark.parametrize("busy", [False, True], ids=["idle", "in a call"])
def test_nothing_outlives_a_host_that_is_killed(tmp_path: Path, busy: bool) -> None:
    """After SIGKILL of the host no process of a plugin is left: at once where no call is under way, else within 12 s.

    At once: the time that is asserted is ten times what a busy machine takes."""
    offspring = tmp_path / "pids"
    file = write(tmp_path, {name: {"config": {"offspring": str(offspring)}} for name in ("one", "two")})
    with serving(file) as host:
        pids = [int(word) for word in offspring.read_text().split()]
        assert len(pids) == 4
        assert not any(map(gone, pids))
        if busy:
            threading.Thread(target=fails, args=(host, "one", "block 60")).start()
            until(lambda: "event=accepted" in "".join(log_lines(host, "one")))
        host.process.send_signal(signal.SIGKILL)
        host.process.wait()
        began = time.monotonic()
        until(lambda: all(map(gone, pids)))
        assert time.monotonic() - began < (12 if busy else 10)


# ---------------------------------------------------------------- logs


def test_logs_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However much a plugin writes, its files hold a bounded number of bytes: the newest lines, each whole."""
    monkeypatch.setattr(log_files, "LARGEST", 10_000)
    log = LogFile(tmp_path, "talker")
    for number in range(5000):
        log.line(f"line {number} " + "x" * 30)
    log.close()
    files = list((tmp_path / "logs").iterdir())
    assert len(files) == log_files.OLDER + 1
    assert all(file.stat().st_size <= 10_000 for file in files)
    assert all(file.stat().st_mode & 0o777 == 0o600 for file in files)
    lines = list(log_files.read(tmp_path, "talker", 300, lambda: False))
    assert [int(line.split()[1]) for line in lines] == list(range(4700, 5000))


def test_a_log_is_followed_across_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever follows a log sees each line once and in order, though files are changed under way."""
    monkeypatch.setattr(log_files, "LARGEST", 60_000)
    monkeypatch.setattr(log_files, "_POLL_SECONDS", 0.001)
    log = LogFile(tmp_path, "talker")
    log.line("line 0")
    seen: list[int] = []

    def follow() -> None:
        for line in log_files.read(tmp_path, "talker", 10, lambda: True):
            seen.append(int(line.split()[1]))
            if seen[-1] == 1500:
                return

    reader = threading.Thread(target=follow, daemon=True)
    reader.start()
    until(lambda: seen)
    for number in range(1, 1501):
        log.line(f"line {number}")
        if number % 100 == 0:
            until(partial(lambda number: seen and seen[-1] == number, number))
    reader.join(60)
    log.close()
    assert seen == list(range(1501))


def test_a_log_on_a_full_disk(tmp_path: Path) -> None:
    """A line that cannot be written is lost, and nothing is raised."""
    path = log_files.path_of(tmp_path, "talker")
    path.parent.mkdir()
    path.symlink_to("/dev/full")
    log = LogFile(tmp_path, "talker")
    log.line("x" * 100_000)
    log.line("more")
    log.close()


@pytest.mark.parametrize(("name", "expected"), [("a", "a"), ("../x", "%2E%2E%2Fx"), (".", "%2E"), ("a/b", "a%2Fb")])
def test_names_as_files(name: str, expected: str) -> None:
    """A plugin's name becomes a file's in the folder itself, whatever it holds."""
    assert file_name(name) == expected


def test_long_names_as_files() -> None:
    """Long names differ in their files' names, which stay short."""
    assert file_name("x" * 300) != file_name("x" * 301)
    assert len(file_name("x" * 300)) <= 100
