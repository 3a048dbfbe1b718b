"""The README of vector_hnsw shows what was measured last."""

from __future__ import annotations

import json

from benchmarks import vector_readme
from benchmarks.harness import RESULTS


def test_the_figures_are_those_of_the_last_run() -> None:
    """Else `python -m benchmarks.vector_readme` puts them in."""
    readme = vector_readme.README.read_text(encoding="utf-8")
    content = json.loads((RESULTS / "vector.json").read_text(encoding="utf-8"))
    assert vector_readme.filled(readme, content) == readme
    content["sections"][0]["facts"]["server CPU of a search / (of a health check + a raw search)"] = 9.75
    assert "| 9.75; 1.3 at most |" in vector_readme.filled(readme, content)
