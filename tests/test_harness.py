"""What `make bench` leaves behind: `benchmarks/harness.py`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import harness


def test_a_report_is_a_table_and_json(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A report leaves every repeat as JSON, and beside it a table that names the command and the machine."""
    monkeypatch.setattr(harness, "RESULTS", tmp_path)
    one = harness.Comparison("search", "queries/s", "the library", [100, 300, 200], [400, 400, 400])
    harness.report("vector", [one], {"set": "20 x 3"})
    entry = json.loads((tmp_path / "vector.json").read_text())["comparisons"][0]
    assert (entry["ours"], entry["ratio"]) == ([100, 300, 200], 0.5)
    table = (tmp_path / "vector.md").read_text()
    assert "| search | 200 queries/s | 400 queries/s | the library | 0.50 | 0.25 … 0.75 |" in table
    assert "`make bench-vector`" in table
    assert "cores of" in table
    assert "- set: 20 x 3" in table


@pytest.mark.parametrize("path", sorted(harness.RESULTS.glob("*.json")), ids=lambda path: path.stem)
def test_committed_results(path: Path) -> None:
    """The committed tables are those of the committed JSON."""
    content = json.loads(path.read_text())
    ones = [harness.Comparison(**{k: v for k, v in one.items() if k != "ratio"}) for one in content["comparisons"]]
    expected = harness.markdown(path.stem, ones, content["facts"], content["machine"])
    assert path.with_suffix(".md").read_text() == expected
