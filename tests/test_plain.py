"""What is there for speed alone can be left out: the suite of the vector store's calls, scores and pages, and that of
serving, pass without it."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.plain import OUT
from tests.servers import ROOT, environment

SUITES = ("calls", "scores", "lists", "servicer")


@pytest.mark.slow
def test_all_works_without() -> None:
    """Together, ahead, paced, packed from bytes, kept, giving way, timed by one clock, logged by a thread: none of it
    is needed for a right answer."""
    files = [f"tests/test_vector_{suite}.py" for suite in SUITES] + ["tests/test_serving.py"]
    command = [sys.executable, "-m", "pytest", "-v", "-p", "tests.plain", "-m", "not slow", *files]
    ran = subprocess.run(command, cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=600)
    assert ran.returncode == 0, ran.stdout[-10_000:]
    assert f"without {OUT[0]}" in ran.stdout
