"""Attacks every plugin for so many minutes and says what that brought to light; status 1 if anything.

python -m tests.fuzz [--minutes 10] [--seed N] [--plugins vector_hnsw,toy] [--kinds frames,settings] [--share 0.5]
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from pathlib import Path

from tests.fuzz import running, settings
from tests.fuzz.campaign import Plan, campaign
from tests.fuzz.findings import FOLDER, Finding
from tests.fuzz.kinds import KINDS
from tests.fuzz.running import MODULES, lacking

SETTINGS = "settings"  # the kind that attacks no port, but --check
ROUND = 3.0  # seconds of each kind, in the warm-up too
QUIET = 20.0  # seconds
SHOWN = 8  # findings a row; the files have all


def main() -> int:
    every = [*KINDS, SETTINGS]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0, help="about so long in all")
    parser.add_argument("--seed", default=str(random.randrange(10**6)), help="makes the attacks be the same again")
    parser.add_argument("--plugins", default=",".join(MODULES), help="some of " + ", ".join(MODULES))
    parser.add_argument("--kinds", default=",".join(every), help="some of " + ", ".join(every))
    parser.add_argument("--without", default="", help="kinds to leave out")
    parser.add_argument("--share", type=float, default=0.5, help="of one core that the attackers may use")
    parser.add_argument("--slack", type=float, default=1.0, help="multiplies the times that health may take")
    options = parser.parse_args()
    plugins = []
    for plugin in _chosen(options.plugins, [*MODULES]):
        if absent := lacking(plugin):
            print(f"{plugin} is left out: not installed: {absent}")
        else:
            plugins.append(plugin)
    if not plugins:
        return 0
    left_out = _chosen(options.without, every)
    kinds = [kind for kind in _chosen(options.kinds, every) if kind not in left_out]
    print(f"seed {options.seed}", flush=True)
    findings: list[Finding] = []
    with tempfile.TemporaryDirectory() as folder, running.endpoint() as endpoint:
        seconds = options.minutes * 60 / len(plugins)
        on_port = [kind for kind in kinds if kind in KINDS]
        if SETTINGS in kinds:
            mine = seconds / 6 if on_port else seconds
            seconds -= mine
            for plugin in (name for name in plugins if name in settings.MODULES):
                findings += settings.attack(plugin, mine, options.seed, Path(folder), print)
        for plugin in plugins if on_port else []:
            began = time.monotonic()
            until = began + seconds - QUIET - len(on_port) * ROUND / 2
            plan = Plan(on_port, options.seed, ROUND, ROUND, until, QUIET, options.share, options.slack)
            for row in campaign(plugin, plan, Path(folder) / plugin, endpoint):
                print(row, flush=True)
                for finding in row.findings[:SHOWN]:
                    print(f"    {finding.what[:200]}", flush=True)
                findings += row.findings
            print(f"{plugin}: {time.monotonic() - began:.0f} s", flush=True)
    for finding in findings:
        finding.write()
    where = f"; each is a file in {FOLDER.name}/" if findings else ""
    print(f"{len(findings)} findings with seed {options.seed}{where}")
    return 1 if findings else 0


def _chosen(names: str, every: list[str]) -> list[str]:
    chosen = [name for name in names.split(",") if name]
    for name in chosen:
        if name not in every:
            sys.exit(f"error: there is no {name}; there are {', '.join(every)}")
    return chosen


if __name__ == "__main__":
    sys.exit(main())
