"""Puts what `make bench-vector` has measured into the READMEs of vector_hnsw and vector_pg, between two marks.

python -m benchmarks.vector_readme
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.harness import HOW, RESULTS, Comparison, Section, from_json, tables

PLUGINS = Path(__file__).parents[1] / "plugins"
BEGIN, END = "<!-- python -m benchmarks.vector_readme -->", "<!-- to here -->"
# What the speed is held to: row, comparison, what that is measured beside, and the goals for each of the sets.
_SHARED = "search, 8 clients, a reader a core, which clients share"
_HELD = (
    ("search, 8 in flight / hnswlib, one thread", "search, 8 in flight", "hnswlib", (0.42, 0.24)),
    ("SearchVectorsStream / hnswlib, one thread", "SearchVectorsStream", "hnswlib", ()),
    ("SearchVectorsBatch of 64 / hnswlib, two threads", "SearchVectorsBatch of 64", "hnswlib", (0.70, 0.52)),
    ("durable upsert of 1,000 / hnswlib in memory", "durable upsert, batches of 1,000", "hnswlib", (0.77, 0.77)),
    ("8 clients / Chroma's server", "search, 8 clients", "Chroma", (3, 5)),
    ("8 clients / pgvector", "search, 8 clients", "pgvector", (1.35, 0.8)),
    ("8 clients, a reader a core / Chroma's server", _SHARED, "Chroma", ()),
    ("8 clients, a reader a core / pgvector", _SHARED, "pgvector", (1.6, 1.2)),
    ("searches a second of CPU, 8 readers / 8 servers with a folder each", "8 readers", "8 servers", (0.9, 0.9)),
)
_MOST_CPU = (1.3, 1.6)
_CPU = "server CPU of a search / (of a health check + a raw search)"
_SETS = ("sentence embeddings", "synthetic mixture")


def main(arguments: Sequence[str] = ()) -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args(
        list(arguments)
    )
    content = json.loads((RESULTS / "vector.json").read_text(encoding="utf-8"))
    for plugin in FIGURES:
        readme = PLUGINS / plugin / "README.md"
        readme.write_text(filled(plugin, readme.read_text(encoding="utf-8"), content), encoding="utf-8")


def filled(plugin: str, readme: str, content: Mapping[str, Any]) -> str:
    """The plugin's README with the figures of a report's JSON in it."""
    before, _, rest = readme.partition(BEGIN)
    old, _, after = rest.partition(END)
    if not old or not after:
        raise SystemExit(f"the README of {plugin} lacks {BEGIN} or {END}")
    return f"{before}{BEGIN}\n{FIGURES[plugin](content)}\n{END}{after}"


def _where(content: Mapping[str, Any]) -> str:
    machine = content["machine"]
    on = f"on {machine['cores']} cores of {machine['cpu']}, Python {machine['python']}"
    return f"`make bench-vector`, {on}: {HOW}"


def _of_pg(content: Mapping[str, Any]) -> str:
    lines = [_where(content)]
    for section in from_json(content):
        if section.title.endswith("vector_pg"):
            lines += ["", f"{section.title} ({section.facts['machine']}; recall@10 {section.facts['recall@10']}):"]
            lines += ["", *tables(section)]
    return "\n".join(lines)


def _of_hnsw(content: Mapping[str, Any]) -> str:
    sections = from_json(content)
    own = [section for section in sections if section.title.endswith(_SETS) and section.comparisons]
    size = own[0].title.partition(" ")[0]
    lines = [
        _where(content),
        f"{size} vectors of 384 dimensions where no other number is named, at recall@10 of 0.99; the client is",
        "a process of its own.",
        "",
    ]
    lines += [f"| ratio (lowest … highest); goal | {' | '.join(_SETS)} |", "|---|---:|---:|"]
    lines += [f"| {' | '.join(row)} |" for row in _held(sections, size)]
    for section in sections:
        # Of the other set the ratios above are enough, and vector_pg's tables are its own README's.
        if _SETS[1] not in section.title and "vector_pg" not in section.title:
            facts = [f"{section.title} ({section.facts['set']}):"] if "set" in section.facts else [f"{section.title}:"]
            lines += ["", *facts, "", *tables(section)]
    return "\n".join(lines)


def _held(sections: Sequence[Section], size: str) -> Iterator[list[str]]:
    cpu = [section.facts.get(_CPU, "") for name in _SETS for section in sections if section.title.endswith(name)]
    cells = [f"{value}; {most} at most" for value, most in zip(cpu, _MOST_CPU, strict=False)]
    yield ["server CPU of a search / (empty call + hnswlib, one thread)", *cells]
    for row, name, beside, goals in _HELD:
        found = [_one(sections, of, name, beside) for of in _SETS]
        cells = [_shown(one, goal) for (one, _), goal in zip(found, goals or (None, None), strict=True)]
        if any(cells):
            # The readers may have been measured with another number of vectors than the rest.
            counts = " and ".join(dict.fromkeys(count for _, count in found if count))
            yield [row if counts == size else f"{row}; {counts} vectors", *cells]


def _one(sections: Sequence[Section], of: str, name: str, beside: str) -> tuple[Comparison | None, str]:
    """The comparison, and of how many vectors it is."""
    for section in sections:
        for one in section.comparisons if of in section.title else ():
            if one.name == name and one.reference_name.startswith(beside):
                return one, section.title.partition(" ")[0]
    return None, ""


def _shown(one: Comparison | None, goal: float | None) -> str:
    if one is None:
        return ""
    held = f"; {goal:g}" if goal else ""
    return f"{statistics.median(one.ratios):.2f} ({min(one.ratios):.2f} … {max(one.ratios):.2f}){held}"


FIGURES: Mapping[str, Callable[[Mapping[str, Any]], str]] = {"vector_hnsw": _of_hnsw, "vector_pg": _of_pg}


if __name__ == "__main__":
    main(sys.argv[1:])
