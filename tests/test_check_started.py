"""The conformance kit on processes: one that starts and ends as it should passes, each wrong one is found."""

from __future__ import annotations

import shlex
import sys
from contextlib import closing
from pathlib import Path

import pytest

from host.check import launch
from host.check.process import Command
from host.check.runner import FAILED, PASSED, Result, claims_for, try_claims
from host.check.subject import Subject
from shared.client import Address
from tests.check_faults.process import FAULTS
from tests.servers import ROOT, environment


def results(fault: str, folder: Path, only: str = "", kind: str = "database") -> list[Result]:
    words = [sys.executable, "-m", "tests.check_faults.process", fault, "--kind", kind, "--folder", str(folder)]
    command = Command(shlex.join(words), 5.0 if fault == "no-announcement" else 120.0)
    with closing(Subject(Address("127.0.0.1:1"), kind, level="full", run=command)) as subject:
        claims = [claim for claim in claims_for(kind, "full", run=True) if not only or claim.name == only]
        if kind == "database":
            claims = [claim for claim in claims if claim.name != "drains"]  # the embedder's says as much, sooner
        return try_claims(subject, claims, lambda result: None)


@pytest.fixture(autouse=True)
def _anywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("PYTHONPATH", environment()["PYTHONPATH"])


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["database", "embedder"])
def test_a_right_one_passes(kind: str, tmp_path: Path) -> None:
    """A plugin that starts, announces itself, drains and keeps what it acknowledged fails no claim."""
    # The database has no stream of upserts: what it does not offer is not wrong.
    found = {result.claim.name: (result.outcome, result.message) for result in results("none", tmp_path, kind=kind)}
    assert {name: outcome for name, outcome in found.items() if outcome[0] == FAILED} == {}
    assert found["drains" if kind == "embedder" else "survives_kill"][0] == PASSED


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS)
def test_a_wrong_one_is_found(fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A plugin that is wrong in one thing of its start or its end fails the claim that says so, with words for it."""
    if fault in ("deaf", "waits-for-watchers"):
        monkeypatch.setattr(launch, "STOP_SECONDS", 3.0)
    kind = "embedder" if fault == "no-drain" else "database"
    (result,) = results(fault, tmp_path, FAULTS[fault], kind)
    assert result.outcome == FAILED, f"{fault} passes {FAULTS[fault]}"
    assert result.message
