"""What a logged call costs the thread that logs it: `python -m benchmarks.logs`, or `make bench-logs`.

CPU time of the event loop's thread for the line that `shared/calls.py` writes for every call, while stderr is read and
while it is a pipe that nobody reads.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time

from benchmarks.arguments import parser
from shared import logs

ROUNDS, CALLS = 9, 5_000
PAUSE_SECONDS = 0.1  # between rounds, so that the queue is not full when it is read


def cost() -> float:
    """µs of this thread's CPU time for one call's line, the median of ROUNDS."""
    logs.setup("info", ["a-token-of-32-characters-or-more"])
    logs.request_id.set("8c1f0a77d2b94e10")
    rounds = []
    for _ in range(ROUNDS):
        started = time.thread_time()
        for _ in range(CALLS):
            logs.event("call", method="SearchVectors", code="OK", ms=0.42)
        rounds.append((time.thread_time() - started) / CALLS * 1e6)
        time.sleep(PAUSE_SECONDS)
    return statistics.median(rounds)


def main() -> None:
    command = [sys.executable, "-m", "benchmarks.logs", "--cost"]
    read = subprocess.run(command, capture_output=True, text=True, check=True)
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as unread:
        assert unread.stdout is not None
        unread_cost = unread.stdout.readline().strip()
    print(f"a logged call, stderr read:   {read.stdout.strip()} µs of the thread")
    print(f"a logged call, stderr unread: {unread_cost} µs of the thread")


if __name__ == "__main__":
    options = parser(__doc__)
    options.add_argument("--cost", action="store_true", help="print the cost alone, for stderr as it is")
    if options.parse_args().cost:
        print(f"{cost():.1f}", flush=True)
    else:
        main()
