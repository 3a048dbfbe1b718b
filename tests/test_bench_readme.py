"""The READMEs of vector_hnsw and vector_pg show what was measured last."""

from __future__ import annotations

import json

from benchmarks import vector_readme
from benchmarks.harness import RESULTS


def test_the_figures_are_those_of_the_last_run() -> None:
    """Else `python -m benchmarks.vector_readme` puts them in."""
    content = json.loads((RESULTS / "vector.json").read_text(encoding="utf-8"))
    readmes = {plugin: (vector_readme.PLUGINS / plugin / "README.md").read_text() for plugin in vector_readme.FIGURES}
    for plugin, readme in readmes.items():
        assert vector_readme.filled(plugin, readme, content) == readme
    content["sections"][0]["facts"]["server CPU of a search / (of a health check + a raw search)"] = 9.75
    assert "| 9.75; 1.3 at most |" in vector_readme.filled("vector_hnsw", readmes["vector_hnsw"], content)
    content["machine"]["cores"] = 4711
    assert all("on 4711 cores" in vector_readme.filled(*each, content) for each in readmes.items())
