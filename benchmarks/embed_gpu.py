"""embed_st on a GPU against `SentenceTransformer.encode` and the bare forward pass, on the same texts.

python -m benchmarks.embed_gpu
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import grpc
import hector_plugins_pb2 as pb
import hector_plugins_pb2_grpc as rpc
import torch

from benchmarks import embed_gpu_reference as reference
from benchmarks.embed_reference import Process, process
from benchmarks.harness import RESULTS, Section, Server, report, running
from plugins.embed_st.engine.models import locate

BULK, LONE = 1024, 200
CALLERS = (4, 8, 16, 32, 64, 128, 256)
ENCODE_BATCHES = (32, 256, 1024)
# Texts for `encode`, which takes a while: a batch at least, and so many tokens.
FEW, FEW_TOKENS = 256, 100_000
PROCESSES = 4  # of callers: one cannot call as fast as a server on a GPU answers
HOW = "medians of {repeats} repeats, both sides in turn; texts a second unless it says otherwise."


# (address, texts, callers) to when it began and when it ended.
Work = Callable[[str, Sequence[str], int], tuple[float, float]]


@dataclass(frozen=True)
class Load:
    name: str
    model: str  # a folder
    tokens: int
    texts: int
    at_once: int = 1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda", help="cpu, to try the bench itself")
    parser.add_argument("--model", default="sentence-transformers/all-MiniLM-L6-v2", help="a name, or a folder")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--texts", type=int, default=4096, help="of a row; fewer where they are long")
    parser.add_argument("--bare", action="store_true", help="leave out encode in fp32 and the plot")
    options = parser.parse_args()
    if options.device != "cpu" and not torch.cuda.is_available():
        print("no NVIDIA GPU here: nothing was measured")
        return
    with tempfile.TemporaryDirectory() as folder, process() as library:
        mini = Path(locate(options.model, ""))
        base = reference.base_model(mini, Path(folder))
        bench = Bench(library, options.device, options.repeats, bare=options.bare)
        most = options.texts
        sections = [
            bench.section(
                "MiniLM",
                [
                    Load("EmbedBatch of 1,024, 22 tokens", str(mini), 22, most),
                    Load("EmbedBatch of 1,024, 136 tokens", str(mini), 136, most),
                    Load("EmbedBatch of 1,024, 136 tokens, four at once", str(mini), 136, 2 * most, 4),
                ],
                singles=True,
            ),
            bench.section(
                "BERT base, random weights",
                [
                    Load("EmbedBatch of 1,024, 136 tokens", str(base), 136, most),
                    Load("EmbedBatch of 1,024, 512 tokens", str(base), 512, max(1, most // 2)),
                ],
            ),
        ]
        name = library(reference.device_name, options.device)
    report("embed-gpu", sections, how=f"{name}: " + HOW.format(repeats=options.repeats))


class Bench:
    def __init__(self, library: Process, device: str, repeats: int, *, bare: bool) -> None:
        self._library, self._device, self._repeats, self._bare = library, device, repeats, bare
        self._half = "float16" if device != "cpu" else "float32"
        self._brain = "bfloat16" if device != "cpu" else "float32"

    def section(self, title: str, loads: Sequence[Load], *, singles: bool = False) -> Section:
        model = loads[0].model
        began = time.perf_counter()
        options = ("--model", model, "--device", self._device, "--max-reply-bytes", "64MiB", "--max-queued", "100000")
        rows, facts = [], {}
        with running("embed_st", *options, "--backend", "torch") as server, Callers(server) as callers:
            facts["start to SERVING"] = f"{time.perf_counter() - began:.1f} s"
            facts["model"] = callers.info()
            rows += [self._row(callers, load) for load in loads]
            if singles:
                for tokens in (22, 136):
                    given = reference.texts(min(2 * BULK, loads[0].texts), tokens)
                    callers.singles(given, 64)
                    speeds = [callers.singles(given, 64) for _ in range(self._repeats)]
                    rows.append((f"EmbedText, 64 callers, {tokens} tokens", f"{_median(speeds):,.0f}", *[""] * 5))
                facts["EmbedText alone, 22 tokens, p50"] = f"{1000 * callers.alone(reference.texts(LONE, 22)):.2f} ms"
            facts["health check meanwhile, p99"] = f"{1000 * self._health(callers, loads):.0f} ms"
            facts["memory"] = f"{_card_memory()} of the card, {server.resident_bytes() / 2**20:,.0f} MiB of the host"
            if singles and not self._bare:
                _plot([(count, callers.singles(given[: 64 * count], count)) for count in CALLERS])
        self._library(reference.forget)
        columns = ("what", "ours", "forward, bf16", "of it", "encode fp16, best batch", "times it", "encode fp32, best")
        return Section(title, facts=facts, columns=columns, rows=rows)

    def _row(self, callers: Callers, load: Load) -> tuple[str, ...]:
        given = reference.texts(load.texts, load.tokens)

        def ours() -> float:
            return callers.batches(given, load.at_once)

        def forward() -> float:
            return self._library(reference.forward_rate, load.model, self._device, self._brain, given)

        few = given[: max(FEW, FEW_TOKENS // load.tokens)]
        encoded = self._best(load.model, self._half, few)

        def encode() -> float:
            return self._library(reference.encode_rate, load.model, self._device, self._half, few, encoded)

        sides: tuple[Callable[[], float], ...] = (ours, forward, encode)
        for side in sides:
            side()
        rounds = [[side() for side in sides] for _ in range(self._repeats)]
        speed, bare, library = (_median([figures[place] for figures in rounds]) for place in range(3))
        of_it = _median([figures[0] / figures[1] for figures in rounds])
        times_it = _median([figures[0] / figures[2] for figures in rounds])
        row = [load.name, f"{speed:,.0f}", f"{bare:,.0f}", f"{of_it:.2f}", f"{library:,.0f} ({encoded})"]
        full = ""
        if not self._bare:
            batch = self._best(load.model, "float32", few)
            speed = self._library(reference.encode_rate, load.model, self._device, "float32", few, batch)
            full = f"{speed:,.0f} ({batch})"
        return (*row, f"{times_it:.1f}", full)

    def _best(self, model: str, precision: str, given: Sequence[str]) -> int:
        def speed(batch: int) -> float:
            self._library(reference.encode_rate, model, self._device, precision, given[:batch], batch)
            return self._library(reference.encode_rate, model, self._device, precision, given, batch)

        return max(ENCODE_BATCHES, key=speed)

    def _health(self, callers: Callers, loads: Sequence[Load]) -> float:
        """The worst of the loads'."""
        worst = 0.0
        with ProcessPoolExecutor(1, get_context("spawn")) as pool:
            for load in loads:
                given = reference.texts(load.texts, load.tokens)
                checks = pool.submit(reference.health_p99, callers.server.address, 2.0)
                while not checks.done():
                    callers.batches(given, load.at_once)
                worst = max(worst, checks.result())
        return worst


class Callers:
    """In processes of their own, threads in each."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self._pool = ProcessPoolExecutor(PROCESSES, get_context("spawn"))

    def __enter__(self) -> Callers:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown()

    def info(self) -> str:
        with grpc.insecure_channel(self.server.address) as channel:
            info = rpc.EmbedderProviderStub(channel).GetModelInfo(pb.GetModelInfoRequest())
        return f"{info.backend} {info.precision}, {info.dimensions} dimensions"

    def batches(self, given: Sequence[str], at_once: int) -> float:
        """Texts a second, in calls of 1,024, so many of them at once."""
        return self._rate(_batches, given, at_once)

    def singles(self, given: Sequence[str], callers: int) -> float:
        """Texts a second, each in a call of its own."""
        return self._rate(_singles, given, callers)

    def alone(self, given: Sequence[str]) -> float:
        """The median of a call's seconds."""
        return self._pool.submit(_alone, self.server.address, given).result()

    def _rate(self, work: Work, given: Sequence[str], callers: int) -> float:
        processes = min(PROCESSES, callers)
        share = -(-len(given) // processes)
        parts = [given[start : start + share] for start in range(0, len(given), share)]
        futures = [self._pool.submit(work, self.server.address, part, callers // processes) for part in parts]
        spans = [future.result() for future in futures]
        return len(given) / (max(end for _, end in spans) - min(start for start, _ in spans))


_stubs: dict[str, rpc.EmbedderProviderStub] = {}


def _stub(address: str) -> rpc.EmbedderProviderStub:
    if address not in _stubs:
        channel = grpc.insecure_channel(address, options=[("grpc.max_receive_message_length", -1)])
        _stubs[address] = rpc.EmbedderProviderStub(channel)
        _stubs[address].GetModelInfo(pb.GetModelInfoRequest())
    return _stubs[address]


def _batches(address: str, given: Sequence[str], at_once: int) -> tuple[float, float]:
    stub = _stub(address)
    requests = [pb.EmbedBatchRequest(texts=given[start : start + BULK]) for start in range(0, len(given), BULK)]
    began = time.time()
    with ThreadPoolExecutor(at_once) as pool:
        for reply in pool.map(stub.EmbedBatch, requests):
            assert reply.success, reply.error
    return began, time.time()


def _singles(address: str, given: Sequence[str], callers: int) -> tuple[float, float]:
    stub = _stub(address)
    requests = [pb.EmbedTextRequest(text=text) for text in given]
    began = time.time()
    with ThreadPoolExecutor(callers) as pool:
        assert all(reply.success for reply in pool.map(stub.EmbedText, requests))
    return began, time.time()


def _alone(address: str, given: Sequence[str]) -> float:
    stub = _stub(address)
    requests = [pb.EmbedTextRequest(text=text) for text in given]
    for request in requests[:20]:
        stub.EmbedText(request)
    times = []
    for request in requests:
        began = time.perf_counter()
        stub.EmbedText(request)
        times.append(time.perf_counter() - began)
    return _median(times)


def _card_memory() -> str:
    """As the driver counts it, all processes."""
    query = ["nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader"]
    try:
        return subprocess.run(query, capture_output=True, text=True, check=True, timeout=30).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return "unknown"


def _plot(points: Sequence[tuple[int, float]]) -> None:
    """Writes `results/embed-gpu.svg`."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "embed-gpu"
    from matplotlib import pyplot

    figure, panel = pyplot.subplots(figsize=(6.2, 4.4))
    callers, speeds = zip(*points, strict=True)
    panel.plot(callers, speeds, marker="o", markersize=4)
    panel.set(title="EmbedText on a GPU, MiniLM, 136 tokens", xlabel="callers", ylabel="texts a second")
    panel.set(xscale="log", ylim=(0, None))
    panel.set_xticks(callers, map(str, callers))
    panel.grid(alpha=0.25)
    figure.tight_layout()
    RESULTS.mkdir(exist_ok=True)
    figure.savefig(RESULTS / "embed-gpu.svg", metadata={"Date": None})


def _median(values: Sequence[float]) -> float:
    return statistics.median(values)


if __name__ == "__main__":
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    main()
