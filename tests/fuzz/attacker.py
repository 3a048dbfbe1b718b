"""A process that attacks one plugin: `python -m tests.fuzz.attacker PLUGIN ADDRESS --share 0.5`.

For each line of stdin, such as {"kinds": ["frames"], "seconds": 5, "seed": "1/0"}, it attacks that long, all kinds at
once, and answers with one line: what it did, what it saw, and the last steps, for a report.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import subprocess
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any

from tests.fuzz.attack import TOKEN, Problem, Sent, Target
from tests.fuzz.kinds import KINDS
from tests.fuzz.pace import Pace
from tests.fuzz.running import Running
from tests.servers import environment

LAST = 30  # steps that a report shows
PROBLEMS = 20  # that are told; there may be thousands of one kind


@dataclass
class Report:
    counts: Counter[str] = field(default_factory=Counter)  # steps of each kind, and errors by name
    last: deque[Sent] = field(default_factory=lambda: deque(maxlen=LAST))
    problems: dict[str, Problem] = field(default_factory=dict)


def attack(target: Target, kinds: Sequence[str], seconds: float, seed: str, pace: Pace) -> dict[str, Any]:
    """Attacks for so long, and says how it went. Several kinds run side by side and share the pace."""
    report, began = Report(), time.monotonic()
    works = [
        threading.Thread(target=_keep_on, args=(target, kind, began + seconds, f"{seed}/{kind}", pace, report))
        for kind in kinds
    ]
    for work in works:
        pace.wait()
        work.start()
    for work in works:
        work.join()
    return {
        "began": began,
        "ended": time.monotonic(),
        "counts": report.counts,
        "problems": [
            {"what": problem.what, **_told(problem.sent)} for problem in [*report.problems.values()][:PROBLEMS]
        ],
        "last": [_told(step) for step in report.last],
    }


def _keep_on(target: Target, kind: str, until: float, seed: str, pace: Pace, report: Report) -> None:
    random = Random(seed)
    while time.monotonic() < until:
        try:
            with contextlib.closing(KINDS[kind](target, random)) as steps:
                for step in steps:
                    if isinstance(step, Problem):
                        report.problems.setdefault(step.what[:60], step)
                    else:
                        report.counts[kind] += 1
                        report.last.append(step)
                    pace.wait()
                    if time.monotonic() > until:
                        return
        except OSError as error:
            # Cut off by the server, which is its right, or it is gone, which others will notice.
            report.counts[type(error).__name__] += 1
            time.sleep(0.05 if isinstance(error, ConnectionRefusedError) else 0)


def _told(sent: Sent) -> dict[str, str]:
    return {"sent": sent.what, "method": sent.method, "hex": sent.data.hex()}


@contextlib.contextmanager
def started(plugin: Running, share: float, token: str = TOKEN) -> Iterator[subprocess.Popen[str]]:
    """This module as a process that attacks `plugin`, for `begin` and `end`."""
    argv = [sys.executable, "-m", "tests.fuzz.attacker", plugin.plugin, plugin.address]
    argv += ["--share", str(share), "--token", token]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment()) as process:
        try:
            yield process
        finally:
            process.kill()


def begin(process: subprocess.Popen[str], kinds: Sequence[str], seconds: float, seed: str) -> None:
    assert process.stdin is not None
    process.stdin.write(json.dumps({"kinds": kinds, "seconds": seconds, "seed": seed}) + "\n")
    process.stdin.flush()


def end(process: subprocess.Popen[str]) -> dict[str, Any]:
    """Waits for the end of what was begun, and gives what `attack` gives."""
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        raise RuntimeError("the attacker itself failed; see above")
    report: dict[str, Any] = json.loads(line)
    return report


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("plugin")
    parser.add_argument("address")
    parser.add_argument("--share", type=float, default=0.5, help="of one core that this process may use")
    parser.add_argument("--token", default=TOKEN, help="that the attackers have, the plugin's or another")
    options = parser.parse_args()
    target = Target(options.plugin, options.address, options.token)
    for line in sys.stdin:
        print(json.dumps(attack(target, pace=Pace(options.share), **json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
