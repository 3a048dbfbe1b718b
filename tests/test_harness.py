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
    growth = harness.Section("Growth", columns=["vectors", "seconds"], rows=[["10", "1"], ["100", "2"]])
    harness.report("vector", [harness.Section("Searches", [one], {"set": "20 x 3"}), growth])
    entry = json.loads((tmp_path / "vector.json").read_text())["sections"][0]["comparisons"][0]
    assert (entry["ours"], entry["ratio"]) == ([100, 300, 200], 0.5)
    table = (tmp_path / "vector.md").read_text()
    assert "| search | 200 queries/s | 400 queries/s | the library | 0.50 | 0.25 … 0.75 |" in table
    assert "`make bench-vector`" in table
    assert "cores of" in table
    assert "- set: 20 x 3" in table
    assert "| vectors | seconds |\n|---:|---:|\n| 10 | 1 |\n| 100 | 2 |" in table


@pytest.mark.parametrize("path", sorted(harness.RESULTS.glob("*.json")), ids=lambda path: path.stem)
def test_committed_results(path: Path) -> None:
    """The committed tables are those of the committed JSON."""
    content = json.loads(path.read_text())
    how = content.get("how", harness.HOW)
    expected = harness.markdown(path.stem, harness.from_json(content), content["machine"], how)
    assert path.with_suffix(".md").read_text() == expected


@pytest.mark.parametrize(
    ("bench", "plugin"),
    [
        ("vector", "vector_hnsw"),
        ("embed", "embed_st"),
        ("llm", "llm_openai"),
        ("tools", "tools_http"),
        ("react", "reasoning_react"),
    ],
)
def test_the_readme_has_the_measured_table(bench: str, plugin: str) -> None:
    """A plugin's README shows the tables that were measured last."""
    section = ""
    readme = (harness.RESULTS.parents[1] / f"plugins/{plugin}/README.md").read_text()
    shown = []
    for line in (harness.RESULTS / f"{bench}.md").read_text().splitlines():
        section = line if line.startswith("## ") else section
        # Of the synthetic set the plugin shows ratios alone, and vector_pg's tables are in its own README.
        if line.startswith("|") and "mixture" not in section and not section.endswith("vector_pg"):
            shown.append(line)
    assert shown
    assert [line for line in shown if line not in readme] == []
