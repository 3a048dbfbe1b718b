"""Measures two sides in turn and reports medians and their ratio, as tables, in Markdown too, and as JSON.

A machine's speed drifts by a factor of two with what else runs on it, so no absolute figure is kept alone: each
repeat measures both sides, one straight after the other, and the ratio is the median of the repeats' ratios.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from rich.console import Console
from rich.table import Table

RESULTS = Path(__file__).parent / "results"
REPEATS = 5
HOW = f"medians of {REPEATS} repeats, both sides in turn. Higher is better."


@dataclass(frozen=True)
class Comparison:
    """Rates of both sides, one entry a repeat, in `unit`; higher is better."""

    name: str
    unit: str
    reference_name: str
    ours: list[float]
    reference: list[float]

    @property
    def ratios(self) -> list[float]:
        return [one / other for one, other in zip(self.ours, self.reference, strict=True)]


def compare(
    name: str,
    unit: str,
    ours: Callable[[], float],
    reference: Callable[[], float],
    *,
    reference_name: str,
) -> Comparison:
    """Both sides in turn, REPEATS times after one uncounted round. Each callable returns a rate."""
    ours(), reference()
    pairs = [(ours(), reference()) for _ in range(REPEATS)]
    return Comparison(name, unit, reference_name, [a for a, _ in pairs], [b for _, b in pairs])


def rate(count: int, work: Callable[[], object]) -> float:
    """`count` things a second, for `work` that does that many."""
    started = time.perf_counter()
    work()
    return count / (time.perf_counter() - started)


@dataclass(frozen=True)
class Section:
    """What belongs together in a report. `facts` says what was measured: sizes, recall."""

    title: str
    comparisons: Sequence[Comparison] = ()
    facts: Mapping[str, object] = field(default_factory=dict)
    columns: Sequence[str] = ()
    rows: Sequence[Sequence[str]] = ()  # a table of its own, with `columns`


def report(name: str, sections: Sequence[Section], how: str = HOW) -> None:
    """Prints the tables and writes `results/NAME.json` and `.md`. `how` says what the figures are."""
    RESULTS.mkdir(exist_ok=True)
    content = {"machine": _machine(), "sections": [_as_json(section) for section in sections], "how": how}
    (RESULTS / f"{name}.json").write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    (RESULTS / f"{name}.md").write_text(markdown(name, sections, _machine(), how), encoding="utf-8")
    for section in sections:
        _print(section)


def markdown(name: str, sections: Sequence[Section], machine: Mapping[str, object], how: str = HOW) -> str:
    """The report for people, with the command that measured it and the machine it ran on."""
    head = f"`make bench-{name}`, {machine['cores']} cores of {machine['cpu']}, Python {machine['python']}: {how}"
    lines = [f"# {name}", "", head, ""]
    for section in sections:
        lines += [f"## {section.title}", ""]
        if table := tables(section):
            lines += [*table, ""]
        if section.facts:
            lines += [f"- {key}: {value}" for key, value in section.facts.items()] + [""]
    return "\n".join(lines)


def tables(section: Section) -> list[str]:
    """What a section has measured, as lines of Markdown."""
    lines: list[str] = []
    if section.comparisons:
        lines += ["| what | ours | reference | | ratio | lowest … highest |", "|---|---:|---:|---|---:|---:|"]
        lines += [f"| {' | '.join(_row(one))} |" for one in section.comparisons]
    if section.rows:
        lines += [""] * bool(lines) + [f"| {' | '.join(section.columns)} |", "|" + "---:|" * len(section.columns)]
        lines += [f"| {' | '.join(row)} |" for row in section.rows]
    return lines


def from_json(content: Mapping[str, Any]) -> list[Section]:
    """The sections of a report's JSON."""
    return [
        Section(
            **section
            | {
                "comparisons": [
                    Comparison(**{key: value for key, value in one.items() if key != "ratio"})
                    for one in section["comparisons"]
                ]
            }
        )
        for section in content["sections"]
    ]


def _as_json(section: Section) -> dict[str, object]:
    ratios = [{"ratio": round(statistics.median(one.ratios), 3)} for one in section.comparisons]
    content = asdict(section)
    content["comparisons"] = [one | ratio for one, ratio in zip(content["comparisons"], ratios, strict=True)]
    return content


def _print(section: Section) -> None:
    table = Table(title=section.title)
    columns = ("what", "ours", "reference", "", "ratio", "lowest … highest") if section.comparisons else section.columns
    for column in columns:
        table.add_column(column, justify="left" if column in ("what", "") else "right")
    for row in [*map(_row, section.comparisons), *section.rows]:
        table.add_row(*row)
    Console(width=130).print(table)
    for key, value in section.facts.items():
        print(f"{key}: {value}")


def _row(one: Comparison) -> list[str]:
    return [
        one.name,
        f"{statistics.median(one.ours):,.0f} {one.unit}",
        f"{statistics.median(one.reference):,.0f} {one.unit}",
        one.reference_name,
        f"{statistics.median(one.ratios):.2f}",
        f"{min(one.ratios):.2f} … {max(one.ratios):.2f}",
    ]


@dataclass(frozen=True)
class Server:
    """A plugin that runs as a process of its own. What it costs is read from /proc, so on Linux only."""

    address: str
    pid: int

    def cpu_seconds(self) -> float:
        """User and system time so far."""
        fields = Path(f"/proc/{self.pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def resident_bytes(self) -> int:
        pages = Path(f"/proc/{self.pid}/statm").read_text(encoding="utf-8").split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")


@contextmanager
def running(plugin: str, *options: str, env: Mapping[str, str] | None = None) -> Iterator[Server]:
    """The plugin, SERVING. `env` comes on top of this process's environment."""
    command = [sys.executable, "-m", f"plugins.{plugin}", "--port", "0", "--log-level", "warning", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, **(env or {})}) as process:
        try:
            assert process.stdout is not None
            address = process.stdout.readline().split()[-1]
            with grpc.insecure_channel(address) as channel:
                watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(), timeout=300)
                next(reply for reply in watch if reply.status == health_pb2.HealthCheckResponse.SERVING)
                watch.cancel()
            yield Server(address, process.pid)
        finally:
            process.terminate()


def _machine() -> dict[str, object]:
    model = ""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        lines = cpuinfo.read_text(encoding="utf-8").splitlines()
        model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    return {"cores": os.cpu_count(), "cpu": model or platform.processor(), "python": platform.python_version()}
