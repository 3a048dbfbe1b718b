"""What the prober measured: `Probes` starts it, collects its samples and sums up those of a time."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from tests.servers import environment


@dataclass(frozen=True)
class Sample:
    name: str
    how: str
    began: float  # monotonic seconds
    ms: float
    result: str

    @property
    def ended(self) -> float:
        return self.began + self.ms / 1000


@dataclass(frozen=True)
class Latency:
    """Of the questions of some time; milliseconds, 0 where there were none."""

    count: int
    p50: float
    p99: float
    longest: float
    errors: Mapping[str, int]  # result → how often

    @classmethod
    def of(cls, samples: list[Sample], right: str = "SERVING") -> Latency:
        times = sorted(sample.ms for sample in samples)
        errors: dict[str, int] = {}
        for sample in samples:
            if sample.result != right:
                errors[sample.result] = errors.get(sample.result, 0) + 1
        if not times:
            return cls(0, 0, 0, 0, errors)
        return cls(len(times), times[len(times) // 2], times[int(len(times) * 0.99)], times[-1], errors)


class Probes:
    def __init__(self) -> None:
        self._samples: list[Sample] = []

    def between(self, name: str, how: str, began: float, ended: float, right: str = "SERVING") -> Latency:
        """Of all that was begun or under way in that time."""
        mine = [sample for sample in self._samples if (sample.name, sample.how) == (name, how)]
        return Latency.of([sample for sample in mine if began <= sample.ended and sample.began < ended], right)

    def last(self, name: str, how: str) -> float:
        """When the last question was begun that has an answer, or was given up."""
        mine = (sample.began for sample in reversed(self._samples) if (sample.name, sample.how) == (name, how))
        return next(mine, 0.0)

    def read(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            name, how, began, ms, result = line.split()
            self._samples.append(Sample(name, how, float(began), float(ms), result))


@contextlib.contextmanager
def sampling(module: str, addresses: Mapping[str, str], *options: str) -> Iterator[Probes]:
    """Runs `python -m MODULE OPTIONS NAME=ADDRESS …` until the end of the block; it prints what the prober does."""
    argv = [sys.executable, "-m", module, *options, *(f"{name}={address}" for name, address in addresses.items())]
    probes = Probes()
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, env=environment()) as process:
        reader = threading.Thread(target=probes.read, args=(process,), daemon=True)
        reader.start()
        try:
            yield probes
        finally:
            process.kill()
            reader.join(10)
