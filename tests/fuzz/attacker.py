"""A process that attacks one plugin: `python -m tests.fuzz.attacker PLUGIN ADDRESS --share 0.5`.

For each line of stdin, such as {"kinds": ["frames"], "seconds": 5, "seed": "1/frames"}, it attacks that long, the kinds
taking turns, and answers with one line: what it did, what it saw, and the last steps, for a report.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import time
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from random import Random
from typing import Any

from tests.fuzz.attack import Problem, Sent, Target
from tests.fuzz.kinds import KINDS
from tests.fuzz.pace import Pace

LAST = 30  # steps that a report shows
PROBLEMS = 20  # that are told; there may be thousands of one kind


def attack(target: Target, kinds: Sequence[str], seconds: float, seed: str, pace: Pace) -> dict[str, Any]:
    """Attacks for so long, and says how it went."""
    counts, last = Counter[str](), deque[Sent](maxlen=LAST)
    problems: dict[str, Problem] = {}
    randoms = {kind: Random(f"{seed}/{kind}") for kind in kinds}
    running: dict[str, Iterator[Sent | Problem]] = {}
    began = time.monotonic()
    with contextlib.ExitStack() as stack:
        stack.callback(lambda: [generator.close() for generator in running.values() if hasattr(generator, "close")])
        while time.monotonic() - began < seconds:
            for kind in kinds:
                pace.wait()
                generator = running.setdefault(kind, KINDS[kind](target, randoms[kind]))
                try:
                    step = next(generator)
                except OSError as error:
                    # Cut off by the server, which is its right, or it is gone, which others will notice.
                    del running[kind]
                    counts[f"{type(error).__name__}"] += 1
                    if isinstance(error, ConnectionRefusedError):
                        time.sleep(0.05)
                    continue
                if isinstance(step, Problem):
                    problems.setdefault(step.what[:60], step)
                else:
                    counts[kind] += 1
                    last.append(step)
    return {
        "began": began,
        "ended": time.monotonic(),
        "counts": counts,
        "problems": [{"what": problem.what, **_told(problem.sent)} for problem in [*problems.values()][:PROBLEMS]],
        "last": [_told(step) for step in last],
    }


def _told(sent: Sent) -> dict[str, str]:
    return {"sent": sent.what, "method": sent.method, "hex": sent.data.hex()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("plugin")
    parser.add_argument("address")
    parser.add_argument("--share", type=float, default=0.5, help="of one core that this process may use")
    options = parser.parse_args()
    target = Target(options.plugin, options.address)
    for line in sys.stdin:
        print(json.dumps(attack(target, pace=Pace(options.share), **json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
