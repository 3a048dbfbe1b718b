"""Attacks one plugin with one kind after the other and looks at it after each: `campaign`.

After each kind: the process lives; health was answered every time, and soon; a right call is answered rightly; the log
holds no traceback and no bug; no call ended as INTERNAL or UNKNOWN; memory stayed below a peak. In the end, memory is
back to what it was after a warm-up (`tests/fuzz/memory.py`).
"""

from __future__ import annotations

import itertools
import re
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.fuzz import attacker, memory
from tests.fuzz.findings import Finding
from tests.fuzz.latency import Latency, Probes, sampling
from tests.fuzz.running import Running, running
from tests.servers import wait_until

HEALTH_P99, HEALTH_LONGEST = 50.0, 500.0  # milliseconds
ENOUGH = 100  # answers from which on a 99th percentile says more than the longest
RESTED = "rested"  # the kind of what is found when all attacks are over


@dataclass(frozen=True)
class Plan:
    """How long and how hard. `slack` multiplies the times that health may take and the memory that may stay."""

    kinds: Sequence[str]
    seed: str
    warm_up: float  # seconds of each kind
    each: float  # seconds of each kind in a round
    until: float  # monotonic seconds: no further round is begun then, but there is one after the warm-up
    quiet: float  # seconds, most, after which memory is compared
    share: float = 0.5  # of a core, for the attackers
    slack: float = 1.0
    still: float = 0.0  # milliseconds for which the machine may let the plugin's process alone stand still

    @property
    def growth(self) -> float:
        """The most memory that may stay, over what there was after the warm-up."""
        return 1 + memory.GROWTH * self.slack


@dataclass
class Row:
    """One kind of attack on one plugin, in one round."""

    plugin: str
    kind: str
    round: int
    steps: int
    health: Latency
    idle: Latency  # of a plugin that is not attacked, meanwhile
    peak: int  # bytes resident, at most
    findings: list[Finding] = field(default_factory=list)

    def __str__(self) -> str:
        mark = "  !!" if self.findings else ""
        return (
            f"{self.plugin:12} {self.kind:19} round {self.round} {self.steps:7} steps   "
            f"health p99 {self.health.p99:7.1f} longest {self.health.longest:7.1f} ms   "
            f"an idle plugin {self.idle.p99:6.1f} {self.idle.longest:6.1f}   {self.peak / 2**20:5.0f} MiB{mark}"
        )


def campaign(plugin: str, plan: Plan, folder: Path, endpoint: str) -> Iterator[Row]:
    """Yields a row for each kind as soon as it is over. The first round is the warm-up, round 0."""
    idle_folder = folder / "idle"
    idle_folder.mkdir(parents=True)
    todo = _todo(plan)
    with running("toy", idle_folder) as idle:
        for start in itertools.count():
            its_folder = folder / f"{plugin}-{start}"
            its_folder.mkdir()
            with (
                running(plugin, its_folder, endpoint=endpoint) as server,
                sampling("tests.fuzz.prober", {plugin: server.address, "idle": idle.address}) as probes,
                memory.peak(server.process.pid) as peak,
                attacker.started(server, plan.share) as attack,
            ):
                wait_until(lambda: probes.last(plugin, "kept") > 0, "answer to the prober")
                look = _Look(plan, server, probes, peak)
                yield from _attack_all(look, attack, todo, compare=start == 0)
                if not look.dead:
                    return
            # What does not survive is started again for the rest; its memory is then not compared.


def _todo(plan: Plan) -> Iterator[tuple[int, str]]:
    """Round and kind, until the time is over."""
    for number in itertools.count():
        if number > 1 and time.monotonic() > plan.until:
            return
        yield from ((number, kind) for kind in plan.kinds)


def _attack_all(
    look: _Look, attack: subprocess.Popen[str], todo: Iterator[tuple[int, str]], *, compare: bool
) -> Iterator[Row]:
    """Goes on until there is no more to do, or the plugin does not work any more."""
    plan, server = look.plan, look.server
    before = 0
    for number, kind in todo:
        if number == 1 and compare and not before:
            before = _rested(server, plan.quiet)
            look.peak.take()
        server.prepare()
        attacker.begin(attack, [kind], plan.each if number else plan.warm_up, f"{plan.seed}/{number}")
        report = attacker.end(attack)
        yield look.at(kind, number, report)
        if look.dead:
            return
    if before:
        yield look.memory(before, _rested(server, plan.quiet, before * plan.growth))


def _rested(server: Running, seconds: float, at_most: float = 0.0) -> int:
    server.tidy()
    return memory.settled(server.process.pid, seconds, at_most)


class _Look:
    """Looks at a plugin after an attack."""

    def __init__(self, plan: Plan, server: Running, probes: Probes, peak: memory.Peak) -> None:
        self.plan, self.server, self.probes, self.peak = plan, server, probes, peak
        self.start = memory.resident(server.process.pid)
        self.began = time.monotonic()
        self.dead = False  # it does not work any more

    def at(self, kind: str, number: int, report: dict[str, Any]) -> Row:
        server, name = self.server, self.server.plugin
        wrong = server.works() if server.alive else f"the process has ended with status {server.process.poll()}"
        began, ended = report["began"], time.monotonic()
        deadline = ended + 15  # the prober gives up after ten seconds
        while server.alive and self.probes.last(name, "kept") < ended and time.monotonic() < deadline:
            time.sleep(0.02)
        health = self.probes.between(name, "kept", began, ended)
        new = self.probes.between(name, "new", began, ended)
        idle = self.probes.between("idle", "kept", began, ended)
        row = Row(name, kind, number, sum(report["counts"].values()), health, idle, self.peak.take())
        seed = f"{self.plan.seed}/{number}"

        def add(what: str, steps: Any = None) -> None:
            row.findings.append(Finding(name, kind, what, seed, steps or report["last"], [*server.lines][-20:]))

        for problem in report["problems"]:
            add(problem["what"], [problem])
        for line in sorted({_gist(line) for line in server.bad_lines})[:20]:
            add(f"in the log: {line}")
        server.bad_lines.clear()
        if wrong:
            add(f"a right call afterwards: {wrong}")
        if health.errors or new.errors:
            add(f"health was refused: {dict(health.errors)} on its connection, {dict(new.errors)} on new ones")
        beside = f"(a plugin that was left alone: {idle.p99:.1f} and {idle.longest:.1f} ms)"
        # Where the plugin that was left alone is as slow, it is the machine that is.
        p99, longest = HEALTH_P99 * self.plan.slack, HEALTH_LONGEST * self.plan.slack + self.plan.still
        if health.count >= ENOUGH and health.p99 > p99 >= idle.p99:
            add(f"health took {health.p99:.1f} ms at p99 {beside}")
        if health.longest > longest >= idle.longest:
            add(f"health took {health.longest:.1f} ms at most {beside}")
        if row.peak > self.start + memory.PEAK:
            add(f"memory rose from {self.start / 2**20:.0f} to {row.peak / 2**20:.0f} MiB")
        self.dead = bool(wrong) or not server.alive
        return row

    def memory(self, before: int, after: int) -> Row:
        name, ended = self.server.plugin, time.monotonic()
        health = self.probes.between(name, "kept", self.began, ended)
        idle = self.probes.between("idle", "kept", self.began, ended)
        row = Row(name, RESTED, 0, 0, health, idle, after)
        if after > before * self.plan.growth:
            what = f"memory did not come back: {before / 2**20:.0f} MiB after the warm-up, {after / 2**20:.0f} MiB now"
            row.findings.append(Finding(name, RESTED, what, self.plan.seed))
        if health.p99 > HEALTH_P99 * self.plan.slack >= idle.p99:
            row.findings.append(Finding(name, RESTED, f"health took {health.p99:.1f} ms at p99 in all", self.plan.seed))
        return row


def _gist(line: str) -> str:
    """A log line without time, numbers, bytes and most of its traceback, so that equal ones are told once."""
    head, _, traceback = line.strip().partition("traceback=")
    last = traceback.rstrip('"').rpartition("\\n")[2]
    text = f"{head.partition(' ')[2][:250]} {last[:90]}" if traceback else head[:400]
    text = re.sub(r"b'(?:[^'\\]|\\+.)*'", "b'…'", text)
    return re.sub(r"\b(?:0x)?(?=[0-9a-f]*\d)[0-9a-f]+\b", "N", text)
