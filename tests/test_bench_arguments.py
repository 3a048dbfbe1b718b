"""The command lines of the benches."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import pytest

from tests.servers import ROOT

BENCHES = sorted(
    path.stem for path in (ROOT / "benchmarks").glob("*.py") if '__name__ == "__main__"' in path.read_text()
)


@pytest.mark.slow
@pytest.mark.parametrize("bench", BENCHES)
def test_help_starts_nothing(bench: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """`--help` of every module of benchmarks/ that can be run tells what its docstring tells, and ends; a word too many
    is refused."""
    for argument, status in (("--help", 0), ("--no-such-option", 2)):
        monkeypatch.setattr(sys, "argv", [str(Path("benchmarks", f"{bench}.py")), argument])
        with pytest.raises(SystemExit) as ended:
            runpy.run_path(str(ROOT / "benchmarks" / f"{bench}.py"), run_name="__main__")
        assert ended.value.code == status
    first = (ROOT / "benchmarks" / f"{bench}.py").read_text().partition("\n")[0].removeprefix('"""')
    assert first in capsys.readouterr().out


def test_there_are_benches() -> None:
    """They are found where this looks for them."""
    assert {"vector", "embed", "llm", "tools", "react", "attack"} <= set(BENCHES)
