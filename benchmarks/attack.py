"""What a client with the token notices while three plugins are attacked in every way at once: its errors and times.

python -m benchmarks.attack [--seconds 60] [--share 0.5] [--without KIND,KIND]

The attackers (`tests/fuzz/attacks`) are held to half a core in all. First they are strangers, who have a wrong token;
then half of what they send, or all where a kind of attack needs it, has the right one. Nobody reads the plugins' logs.
The same calls without an attack stand beside.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from benchmarks.attack_client import LONGEST
from benchmarks.harness import Section, Server, report
from tests.fuzz import attacker, memory, running
from tests.fuzz.attack import TOKEN
from tests.fuzz.kinds import KINDS
from tests.fuzz.latency import Latency, sampling

PLUGINS = {"vector_hnsw": "search", "embed_st": "embed", "llm_openai": "generate"}
CALM = 20.0  # seconds without an attack
WHO = {"strangers": "no-token-of-yours", "strangers and callers with the token": TOKEN}
PROBES = "0.1"  # seconds between two questions for health: enough of them, and little of the two cores
HOW = "times in milliseconds, lower is better; errors are calls that failed, answers that were wrong included."


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--share", type=float, default=0.5, help="of one core that all attackers may use together")
    parser.add_argument("--seed", default=str(random.randrange(10**6)))
    parser.add_argument("--without", default="", help="kinds of attack to leave out, of " + ", ".join(KINDS))
    options = parser.parse_args()
    left_out = options.without.split(",")
    kinds = [kind for kind in KINDS if kind not in left_out]
    sections = [measure(who, kinds, options.seconds, options.share, options.seed) for who in WHO]
    report("attack", sections, HOW)


def measure(who: str, kinds: Sequence[str], seconds: float, share: float, seed: str) -> Section:
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        endpoint = stack.enter_context(running.endpoint())
        servers = {}
        for plugin in PLUGINS:
            (folder / plugin).mkdir()
            server = running.running(plugin, folder / plugin, endpoint=endpoint, timeout="", read_log=False)
            servers[plugin] = stack.enter_context(server)
            servers[plugin].prepare()
        addresses = {plugin: server.address for plugin, server in servers.items()}
        probes = stack.enter_context(sampling("tests.fuzz.prober", addresses, "--every", PROBES))
        calls = stack.enter_context(sampling("benchmarks.attack_client", addresses))
        peaks = {name: stack.enter_context(memory.peak(server.process.pid)) for name, server in servers.items()}
        attacks = [
            stack.enter_context(attacker.started(server, share / len(servers), WHO[who])) for server in servers.values()
        ]
        time.sleep(5)  # everything has been called by then
        began = time.monotonic()
        time.sleep(CALM)
        calm = {plugin: peak.take() for plugin, peak in peaks.items()}
        whose = {
            "the attackers": [Server("", attack.pid) for attack in attacks],
            "the plugins": [Server("", server.process.pid) for server in servers.values()],
        }
        used = {name: -_cpu_seconds(processes) for name, processes in whose.items()}
        attacked = time.monotonic()
        for attack in attacks:
            attacker.begin(attack, kinds, seconds, seed)
        steps = Counter[str]()
        for attack in attacks:
            steps.update(attacker.end(attack)["counts"])
        ended = time.monotonic()
        cores = {name: (used[name] + _cpu_seconds(processes)) / (ended - attacked) for name, processes in whose.items()}
        time.sleep(LONGEST + 2)  # until the last call of that time has been answered
        rows = []
        for plugin, what in PLUGINS.items():
            for name, how, source, right in ((what, "call", calls, "OK"), ("health", "kept", probes, "SERVING")):
                before = source.between(plugin, how, began, attacked, right)
                during = source.between(plugin, how, attacked, ended, right)
                rows.append([f"{plugin}: {name}", *_cells(before), *_cells(during)])
        growth = {
            f"memory of {plugin}, MiB, at most without and under attack": f"{calm[plugin] / 2**20:.0f}, "
            f"{peak.take() / 2**20:.0f}"
            for plugin, peak in peaks.items()
        }
    facts: dict[str, object] = {
        "attackers": f"{share:g} of one core in all, for {seconds:g} s, seed {seed}",
        "cores that were used meanwhile": ", ".join(f"{number:.2f} by {name}" for name, number in cores.items()),
        "steps of the attacks": ", ".join(f"{kind} {steps[kind]:,}" for kind in kinds),
        **growth,
    }
    columns = ("what", "p50", "p99", "longest", "errors/calls", "attacked: p50", "p99", "longest", "errors/calls")
    return Section(f"A client while {who} attack every plugin", facts=facts, columns=columns, rows=rows)


def _cpu_seconds(processes: Sequence[Server]) -> float:
    return sum(process.cpu_seconds() for process in processes)


def _cells(latency: Latency) -> list[str]:
    errors = ", ".join(f"{count} {name}" for name, count in latency.errors.items()) or "0"
    times = [f"{ms:.1f}" for ms in (latency.p50, latency.p99, latency.longest)]
    return [*times, f"{errors} / {latency.count:,}"]


if __name__ == "__main__":
    main()
