"""`python -m host check`: its exit status, what it prints, its reports, and our five plugins started by it."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import hector_plugins_pb2 as pb
import pytest
from hector_plugins_pb2_grpc import add_DatabaseProviderServicer_to_server, add_ToolProviderServicer_to_server

from host.__main__ import _parser
from host.check import command
from shared.errors import StartError
from tests.check_faults import serving
from tests.check_faults.database import Database, SilentError
from tests.check_faults.tools import Tools
from tests.servers import ROOT, SECONDS, environment


@pytest.fixture
def right() -> Iterator[str]:
    with serving(add_DatabaseProviderServicer_to_server, Database(), "DatabaseProvider") as address:
        yield address


@pytest.fixture
def wrong() -> Iterator[str]:
    with serving(add_DatabaseProviderServicer_to_server, SilentError(), "DatabaseProvider") as address:
        yield address


def check(*arguments: str) -> int:
    return command.run(_parser().parse_args(["check", *arguments]))


def test_status_0(right: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Where every claim holds the status is 0, and each claim has a line; the last says how many."""
    assert check(right, "--only", "limit", "--only", "health") == 0
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("passed") and "`limit` results at most" in line for line in lines)
    assert lines[-1] == f"{right}, level guide: 5 passed, 1 not asked"


def test_status_1(wrong: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Where one does not the status is 1, and what is wrong, request, reply and the contract's sentence are shown."""
    assert check(wrong, "--only", "bad_queries") == 1
    out = capsys.readouterr().out
    assert "what is wrong  a query with too few floats: the error has no text" in out
    assert "request        SearchVectors {collection: " in out
    assert "reply          {}" in out
    assert "the contract   NaN, infinity, a wrong dimension" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "name the ADDRESS of a running plugin"),
        (["127.0.0.1:1", "--run", "x"], "name the ADDRESS of a running plugin"),
        (["--run", "no-such-command-of-check"], "no-such-command-of-check: No such file"),
        (["--run", "'"], "--run is no command line"),
        (["--run", f"{shlex.quote(sys.executable)} -c 'print(3)'"], "did not print `listening on HOST:PORT`"),
        (["127.0.0.1:1"], "the plugin at 127.0.0.1:1 is UNREACHABLE"),
        (["127.0.0.1:1", "--token-file", "no-such-file"], "--token-file no-such-file cannot be read"),
    ],
    ids=["nothing", "both", "no command", "no words", "no announcement", "nobody there", "no token"],
)
def test_status_2(arguments: list[str], message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What could not be checked is an error that says why, which `host` ends with status 2."""
    monkeypatch.setattr(command, "REACH_SECONDS", 0.2)
    with pytest.raises(StartError, match=message):
        check(*arguments)


def test_status_2_of_a_running_server(right: str) -> None:
    """So is a server that is no plugin, and a name that no claim has."""
    with pytest.raises(StartError, match="no claim has such a name"):
        check(right, "--only", "no such claim")
    with (
        serving(add_ToolProviderServicer_to_server, Tools(), "SomethingElse") as address,
        pytest.raises(StartError, match=r"offers hector\.plugins\.v1\.SomethingElse, and none of the guide's"),
    ):
        check(address)
    with (
        serving(add_ToolProviderServicer_to_server, Tools(), "ToolProvider", reflected=False) as address,
        pytest.raises(StartError, match=r"has no reflection.*--kind checks the rest"),
    ):
        check(address)


def test_the_whole_command(wrong: str) -> None:
    """As a process it ends with that status."""
    done = subprocess.run(
        [sys.executable, "-m", "host", "check", wrong, "--only", "bad_queries"],
        capture_output=True,
        text=True,
        timeout=SECONDS,
        env=environment(),
        check=False,
    )
    assert done.returncode == 1
    assert "1 failed" in done.stdout
    assert "Traceback" not in done.stderr


def test_junit(wrong: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """JUnit XML has each claim as a case, by its sentence, with its failure; on stdout it is there alone."""
    file = tmp_path / "check.xml"
    check(wrong, "--only", "bad_", "--only", "token", "--junit", str(file))
    suites = ElementTree.fromstring(file.read_text(encoding="utf-8"))
    (suite,) = suites
    assert (suite.get("name"), suite.get("failures"), suite.get("skipped")) == ("DatabaseProvider.guide", "6", "2")
    cases = {case.get("name"): case for case in suite}
    assert len(cases) == int(suite.get("tests") or 0)
    failure = cases["A search with a vector that cannot be compared is refused."].find("failure")
    assert failure is not None
    assert "the error has no text" in (failure.get("message") or "")
    assert "SearchVectors" in (failure.text or "")
    capsys.readouterr()
    check(wrong, "--only", "bad_queries", "--junit", "-")
    captured = capsys.readouterr()
    assert ElementTree.fromstring(captured.out).tag == "testsuites"
    assert "FAILED" in captured.err


def test_json(wrong: str, capsys: pytest.CaptureFixture[str]) -> None:
    """JSON has the counts, and of each claim its sentence, its outcome and the call that it failed at."""
    check(wrong, "--only", "bad_queries", "--only", "limit", "--json", "-")
    value = json.loads(capsys.readouterr().out)
    assert (value["level"], value["passed"], value["failed"]) == ("guide", 1, 2)
    failed = next(claim for claim in value["claims"] if claim["name"] == "bad_queries")
    assert (failed["outcome"], failed["rpc"], failed["service"]) == ("failed", "SearchVectors", "DatabaseProvider")
    assert failed["contract"].startswith("NaN, infinity")
    assert failed["reply"] == "{}"


def test_what_a_server_sends_cannot_steer_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    """Control sequences and markup in a reply are shown as text."""

    class Paints(Database):
        def CreateCollection(self, request: Any, context: Any) -> Any:
            return pb.CreateCollectionResponse(error="\x1b[2J[red]gone[/red]\x07")

    with serving(add_DatabaseProviderServicer_to_server, Paints(), "DatabaseProvider") as address:
        assert check(address, "--only", "collection_life") == 1
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert "\x07" not in out
    assert "[red]gone[/red]" in out


def test_list(capsys: pytest.CaptureFixture[str]) -> None:
    """--list prints the claims of a level, and needs no plugin."""
    assert check("--list", "--kind", "tools") == 0
    guide = capsys.readouterr().out.splitlines()
    assert check("--list", "--kind", "tools", "--level", "full") == 0
    full = capsys.readouterr().out.splitlines()
    assert {line.split()[1] for line in guide} == {"guide"}
    assert set(guide) < set(full)


@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments",
    [
        "plugins.vector_hnsw --data-dir {folder}",
        "plugins.embed_st",
        "plugins.llm_openai --endpoint {upstream} --max-retries 0",
        "plugins.tools_http",
        "plugins.reasoning_react --llm {llm} --tools {tools}",
    ],
    ids=lambda arguments: arguments.split()[0],
)
def test_ours_from_start_to_end(
    arguments: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each of our five passes every claim when the kit starts, stops and kills it itself."""
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("PYTHONPATH", environment()["PYTHONPATH"])
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    run = f"{shlex.quote(sys.executable)} -m {arguments.replace('{folder}', str(tmp_path / 'data'))}"
    status = check("--run", run, "--level", "full")
    assert status == 0, capsys.readouterr().out
