"""The fuzzer itself, and in its short form what `make fuzz` does at length: `tests/fuzz`."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import hector_plugins_pb2 as pb
import hector_plugins_pb2_grpc as rpc
import pytest
import yaml

from tests.fuzz import attacker, running, settings
from tests.fuzz.attack import Problem, Sent, Steps, Target
from tests.fuzz.bugs import bug_of
from tests.fuzz.campaign import Plan, campaign
from tests.fuzz.findings import Finding
from tests.fuzz.http2 import Connection
from tests.fuzz.kinds import KINDS
from tests.fuzz.methods import HEALTH, methods
from tests.fuzz.mutate import LARGEST, mutate
from tests.fuzz.pace import Pace
from tests.fuzz.random_messages import random_message
from tests.servers import SECONDS, environment, missing, start_plugin

PLUGINS = [*running.MODULES]
BUG = pb.GenerateTextRequest(prompt="bug of the toy").SerializeToString()
GENERATE = "/hector.plugins.v1.LLMProvider/GenerateText"


@pytest.mark.slow
@pytest.mark.parametrize("plugin", PLUGINS)
def test_every_attack_for_a_moment(plugin: str, tmp_path: Path) -> None:
    """After a second of each kind of attack a plugin lives, works, was healthy all the time and has its memory back."""
    if absent := running.lacking(plugin):
        missing(absent)
    seed = str(random.randrange(10**6))
    plan = Plan([*KINDS], seed, warm_up=0.3, each=0.3, until=time.monotonic(), quiet=6, slack=10, still=4_500)
    with running.endpoint() as endpoint:
        findings = [finding for row in campaign(plugin, plan, tmp_path, endpoint) for finding in row.findings]
    for finding in findings:
        finding.write()
    assert [str(finding) for finding in findings] == [], f"seed {seed}"


def test_what_attacks_stored_is_taken_away(tmp_path: Path) -> None:
    """Of what the attacks stored nothing stays, not a collection that has an alias and is not deleted before it."""
    with running.running("vector_hnsw", tmp_path) as server:
        server.prepare()
        with server.channel() as channel:
            stub: Any = rpc.DatabaseProviderStub(channel)
            for alias, collection in (("other", "fuzz"), ("another", "fuzz"), ("its", "kept")):
                assert stub.SetAlias(pb.SetAliasRequest(alias=alias, collection=collection), timeout=SECONDS).success
            server.tidy()
            names = [one.name for one in stub.ListCollections(pb.ListCollectionsRequest(), timeout=SECONDS).collections]
            assert names == ["kept"]
            assert [*stub.ListAliases(pb.ListAliasesRequest(), timeout=SECONDS).aliases] == []
        assert server.works() == ""


@pytest.mark.slow
@pytest.mark.parametrize("plugin", settings.MODULES)
def test_settings_for_a_moment(plugin: str, tmp_path: Path) -> None:
    """No settings file makes --check end otherwise than well or with one line of error, take long or show a secret."""
    seed = str(random.randrange(10**6))
    findings = settings.attack(plugin, 4, seed, tmp_path, print)
    for finding in findings:
        finding.write()
    assert [str(finding) for finding in findings] == [], f"seed {seed}"


def test_what_an_attack_sees(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A call that ends as INTERNAL is a problem of the attack, and the line of its bug one of the log."""

    def bugs(target: Target, random: random.Random) -> Steps:
        connection = Connection(target.address, seconds=SECONDS)
        while True:
            stream = connection.open(GENERATE, target.token)
            connection.message_whole(stream, BUG)
            sent = Sent("a bug", BUG, GENERATE)
            yield sent
            connection.wait(stream, SECONDS)
            if bug := bug_of(connection, stream):
                yield Problem(bug, sent)

    monkeypatch.setitem(KINDS, "bugs", bugs)
    with running.running("toy", tmp_path) as toy:
        for seconds in (0.5, 5.0, 50.0):  # a time may be over before its first step where the machine is busy
            report = attacker.attack(toy.target, ["bugs"], seconds, "1", Pace(1.0))
            if report["problems"]:
                break
        assert report["counts"]["bugs"] >= 1
        assert [problem["hex"] for problem in report["problems"]] == [BUG.hex()]
        assert report["problems"][0]["what"].startswith("INTERNAL")
        assert toy.works() == ""
        toy.process.kill()
        toy.process.wait()
        assert "UNAVAILABLE" in toy.works()
    assert any("event=bug" in line for line in toy.bad_lines)


def test_http2_by_hand() -> None:
    """A connection made by hand calls a method as any client would, and reads the status of its answer."""
    with start_plugin("tests.toy_plugin") as toy:
        connection = Connection(toy.address, seconds=SECONDS)
        stream, unknown = connection.open(HEALTH), connection.open("/no.Such/Method")
        connection.message(stream, b"", end=True)
        connection.message(unknown, b"", end=True)
        assert connection.wait(stream, SECONDS) == "0"
        assert connection.wait(unknown, SECONDS) == "12"
        connection.close()


@pytest.mark.parametrize("plugin", PLUGINS)
def test_messages_at_random(plugin: str) -> None:
    """For each method of a plugin there are messages, different ones, the same for the same seed, however mutated."""
    for method in methods(plugin):

        def some(method: object = method) -> list[bytes]:
            chance = random.Random(1)
            return [mutate(random_message(method.input, chance).SerializeToString(), chance) for _ in range(20)]  # type: ignore[attr-defined]

        assert some() == some()
        assert len({*some()}) > 1
        assert max(map(len, some())) <= LARGEST


def test_a_calm_call_does_not_wait_for_an_attackers() -> None:
    """The endpoint answers a calm client's call also where all that attackers ask for stands still."""
    with running.endpoint() as url:
        host, _, port = url.removeprefix("http://").removesuffix("/v1").rpartition(":")
        behind = _behind(int(port))

        def ask(model: str) -> int:
            connection = http.client.HTTPConnection(host, int(port), timeout=SECONDS)
            body = json.dumps({"model": model, "messages": [{"role": "user", "content": "x"}], "stream": True})
            connection.request("POST", "/v1/chat/completions", body)
            with contextlib.closing(connection):
                return len(connection.getresponse().read())

        assert ask("huge-error") > 2**20
        os.kill(behind, signal.SIGSTOP)
        try:
            assert ask("hello") > 0
        finally:
            os.kill(behind, signal.SIGCONT)
        assert ask("no-done") > 0


def _behind(port: int) -> int:
    """The one child of the one who listens there."""
    listens = f":{port:04X} 00000000:0000 0A"
    (inode,) = [line.split()[9] for line in Path("/proc/net/tcp").read_text().splitlines() if listens in line]
    for folder in Path("/proc").glob("[0-9]*/fd"):
        with contextlib.suppress(OSError):
            if f"socket:[{inode}]" in [os.readlink(fd) for fd in folder.iterdir()]:
                return int((folder.parent / "task" / folder.parent.name / "children").read_text().split()[0])
    raise AssertionError("nobody listens there")


def test_a_finding_can_be_sent_again(tmp_path: Path) -> None:
    """A finding is a file with seed, bytes and log; `replay` sends its steps to a plugin and says what comes back."""
    steps = [{"sent": "a bug", "method": GENERATE, "hex": BUG.hex()}, {"sent": "bytes", "method": "", "hex": "0a" * 9}]
    path = Finding("toy", "messages", "INTERNAL", "7/1", steps, ["a line"]).write(tmp_path)
    content = json.loads(path.read_text())
    assert content["again"] == "make fuzz PLUGINS=toy KINDS=messages SEED=7"
    assert content["log"] == ["a line"]
    with running.running("toy", tmp_path) as toy:
        argv = [sys.executable, "-m", "tests.fuzz.replay", toy.address, str(path)]
        done = subprocess.run(argv, capture_output=True, text=True, env=environment(), check=True, timeout=SECONDS)
    first, second = done.stdout.splitlines()
    assert "grpc-status 13" in first
    assert second.startswith("bytes (9 bytes)")


@pytest.mark.parametrize(
    "plugin",
    [pytest.param(name, marks=() if name == "vector_hnsw" else pytest.mark.slow) for name in settings.MODULES],
)
def test_settings_are_tried_in_forks(plugin: str, tmp_path: Path) -> None:
    """A good file ends --check with 0, a bad one with 2, and a shown secret, a traceback and a signal are problems."""
    good, bad = tmp_path / "good.yaml", tmp_path / "bad.yaml"
    good.write_text(yaml.safe_dump({"port": 1, "token": settings.SECRET}))
    bad.write_text("port: x\n")
    argv = [sys.executable, "-c", _TRY, plugin, str(good), str(bad)]
    done = subprocess.run(argv, capture_output=True, text=True, env=environment(), check=True, timeout=SECONDS)
    first, second = json.loads(done.stdout)
    assert (first["status"], first["problem"]) == (0, "")
    assert (second["status"], second["problem"]) == (2, "")
    assert settings.Outcome(0, f"model: {settings.SECRET}", "", 0).problem(hides=True).startswith("shows the secret")
    assert settings.Outcome(0, f"model: {settings.SECRET}", "", 0).problem(hides=False) == ""
    assert settings.Outcome(1, "", "Traceback", 0).problem(hides=True).startswith("status 1")
    assert settings.Outcome(2, "", "error: a\nerror: b\n", 0).problem(hides=True).startswith("2 lines")
    assert settings.Outcome(-9, "", "", 0).problem(hides=True).startswith("status -9")


# In a process of its own, since it forks.
_TRY = """
import json, pathlib, sys
from tests.fuzz import settings
plugin, *files = sys.argv[1:]
settings.load(plugin)
outcomes = [settings.check(plugin, pathlib.Path(file)) for file in files]
print(json.dumps([{"status": one.status, "problem": one.problem(hides=True)} for one in outcomes]))
"""


def test_a_pace_is_kept() -> None:
    """A process that works as fast as it can uses no more than its share of a core."""
    pace, began, used = Pace(0.2), time.monotonic(), time.process_time()
    while time.monotonic() - began < 1.5:
        sum(range(10_000))
        pace.wait()
    assert time.process_time() - used < 0.6 * (time.monotonic() - began)
