"""embed_st over gRPC against `SentenceTransformer.encode` and its own backend called directly, on the same texts.

python -m benchmarks.embed
"""

from __future__ import annotations

import os
import random
import statistics
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import hector_plugins_pb2 as pb
import hector_plugins_pb2_grpc as rpc
import numpy as np
from grpc_health.v1 import health_pb2, health_pb2_grpc

from benchmarks import embed_reference as reference
from benchmarks.arguments import parser
from benchmarks.embed_reference import Process, process
from benchmarks.harness import REPEATS, RESULTS, Comparison, Section, Server, compare, rate, report, running
from benchmarks.sentences import texts
from plugins.embed_st.engine.backends import Floats

BATCH, CALLERS, LONE, BULK = 32, 32, 64, 10_000
WAYS = (
    ("torch", "fp32"),
    ("onnx", "fp32"),
    ("openvino", "fp32"),
    ("openvino", "bf16"),
    ("onnx", "int8"),
)
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")


def main() -> None:
    short, medium, mixed = _texts(1, 512), _texts(6, 192), _texts(0, 512)
    with process() as library:
        library(reference.load_and_encode)
        sections = [_auto(library, short, medium, mixed), _ways(library, short, medium)]
        sections.append(_start(library))
    report("embed", sections)


def _texts(sentences: int, count: int) -> list[str]:
    """Real text: of so many sentences each, about 22 tokens a sentence; 0: of one to ten."""
    chance = random.Random(sentences)
    source = iter(texts(20_000)[sentences * 1000 :])
    return [" ".join(next(source) for _ in range(sentences or chance.randint(1, 10))) for _ in range(count)]


class _Client:
    def __init__(self, server: Server) -> None:
        self.server = server
        self._channel = grpc.insecure_channel(server.address, options=[("grpc.max_receive_message_length", -1)])
        self.stub = rpc.EmbedderProviderStub(self._channel)
        self.health = health_pb2_grpc.HealthStub(self._channel)

    def batches(self, given: Sequence[str]) -> float:
        """Texts a second, in calls of 32."""
        requests = [pb.EmbedBatchRequest(texts=given[start : start + BATCH]) for start in range(0, len(given), BATCH)]
        return rate(len(given), lambda: [self.stub.EmbedBatch(request) for request in requests])

    def singles(self, given: Sequence[str], callers: int) -> float:
        """Texts a second, each in a call of its own, from so many threads."""
        requests = [pb.EmbedTextRequest(text=text) for text in given]
        with ThreadPoolExecutor(callers) as pool:
            return rate(len(given), lambda: list(pool.map(self.stub.EmbedText, requests)))

    def vectors(self, given: Sequence[str]) -> Floats:
        return np.array([self.stub.EmbedText(pb.EmbedTextRequest(text=text)).vector for text in given], np.float32)

    def info(self) -> str:
        info = self.stub.GetModelInfo(pb.GetModelInfoRequest())
        return f"{info.backend} {info.precision}"


def _auto(library: Process, short: list[str], medium: list[str], mixed: list[str]) -> Section:
    with running("embed_st", "--device", "cpu", "--max-reply-bytes", "64MiB") as server, process() as direct:
        client = _Client(server)
        comparisons = [
            compare(
                f"EmbedBatch of {BATCH}, {name}",
                "texts/s",
                lambda given=given: client.batches(given),  # type: ignore[misc]
                lambda given=given: library(reference.encode_rate, given),  # type: ignore[misc]
                reference_name=f"encode of {BATCH}",
            )
            for name, given in (("short", short[:128]), ("medium", medium[:64]), ("mixed", mixed[:64]))
        ]
        comparisons.append(
            compare(
                f"EmbedText, {CALLERS} callers, mixed",
                "texts/s",
                lambda: client.singles(mixed, CALLERS),
                lambda: direct(reference.backend_sorted_rate, mixed, str(CACHE)),
                reference_name="the backend, all sorted",
            )
        )
        comparisons.append(
            compare(
                "EmbedText, a lone caller, short",
                "texts/s",
                lambda: client.singles(short[:LONE], 1),
                lambda: direct(reference.backend_single_rate, short[:LONE], str(CACHE)),
                reference_name="the backend, one by one",
            )
        )
        some = short[:200] + medium[:100]
        cosine = reference.least_cosine(client.vectors(some), library(reference.encode, some))
        facts = {
            "model": reference.MODEL,
            "backend": f"{client.info()}, least cosine to encode {cosine:.7f}",
            f"health check while {BULK:,} texts are embedded, p99": f"{1000 * _health(client):.0f} ms",
        }
        _plot({"auto": _by_callers(client, mixed)} | _torch_by_callers(mixed))
    return Section("auto", comparisons, facts)


def _ways(library: Process, short: list[str], medium: list[str]) -> Section:
    """Every backend beside `encode`."""
    rows = []
    some = short[:200] + medium[:100]
    theirs = library(reference.encode, some)
    for backend, precision in WAYS:
        options = ("--backend", backend, "--precision", precision, "--device", "cpu")
        with running("embed_st", *options) as server:
            client = _Client(server)
            speeds = [_beside(client, library, given) for given in (short[:128], medium[:64])]
            rows.append(
                (
                    client.info(),
                    *(f"{_median(one.ours):,.0f} ({_median(one.ratios):.2f})" for one in speeds),
                    f"{reference.least_cosine(client.vectors(some), theirs):.7f}",
                    f"{server.resident_bytes() / 1e6:,.0f}",
                )
            )
    columns = ("backend", "short, texts/s (of encode)", "medium, texts/s (of encode)", "least cosine", "memory, MB")
    return Section("Backends side by side", columns=columns, rows=rows)


def _start(library: Process) -> Section:
    """From nothing to an answer, the converted model being in the cache."""
    ours, theirs = [], []
    for _ in range(REPEATS):
        began = time.perf_counter()
        with running("embed_st", "--device", "cpu"):
            ours.append(time.perf_counter() - began)
        with process() as fresh:
            theirs.append(fresh(reference.load_and_encode))
    ratios = [mine / other for mine, other in zip(ours, theirs, strict=True)]
    facts = {
        "start to SERVING": f"{_median(ours):.2f} s",
        "SentenceTransformer, imported, loaded, first encode": f"{_median(theirs):.2f} s",
        "ratio (lower is better)": f"{_median(ratios):.2f}",
    }
    return Section("Start", (), facts)


def _beside(client: _Client, library: Process, given: list[str]) -> Comparison:
    return compare(
        "",
        "texts/s",
        lambda: client.batches(given),
        lambda: library(reference.encode_rate, given),
        reference_name="",
    )


def _health(client: _Client) -> float:
    """The 99th percentile in seconds."""
    request = pb.EmbedBatchRequest(texts=texts(BULK))
    ended = threading.Event()
    times: list[float] = []

    def check() -> None:
        due = time.perf_counter()
        while not ended.is_set():
            client.health.Check(health_pb2.HealthCheckRequest())
            now = time.perf_counter()
            times.append(now - due)  # from when it was meant to be asked: one that is late delays the next
            due = max(due + 0.01, now - 1)
            time.sleep(max(0, due - now))

    with ThreadPoolExecutor(1) as pool:
        checking = pool.submit(check)
        try:
            client.stub.EmbedBatch(request)
        finally:
            ended.set()
        checking.result()
    return statistics.quantiles(times, n=100)[98]


def _by_callers(client: _Client, given: list[str]) -> list[tuple[int, float]]:
    client.singles(given[:64], 8)
    return [(callers, client.singles(given[:256], callers)) for callers in (1, 2, 4, 8, 16, 32, 64)]


def _torch_by_callers(given: list[str]) -> dict[str, list[tuple[int, float]]]:
    with running("embed_st", "--backend", "torch", "--device", "cpu") as server:
        return {"torch": _by_callers(_Client(server), given)}


def _plot(curves: dict[str, list[tuple[int, float]]]) -> None:
    """Writes `results/embed.svg`."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "embed"
    from matplotlib import pyplot

    figure, panel = pyplot.subplots(figsize=(6.2, 4.4))
    for name, points in curves.items():
        callers, speeds = zip(*points, strict=True)
        panel.plot(callers, speeds, marker="o", markersize=4, label=name)
    panel.set(title="EmbedText, mixed texts", xlabel="callers", ylabel="texts a second", xscale="log", ylim=(0, None))
    panel.set_xticks(callers, map(str, callers))
    panel.grid(alpha=0.25)
    panel.legend()
    figure.tight_layout()
    RESULTS.mkdir(exist_ok=True)
    figure.savefig(RESULTS / "embed.svg", metadata={"Date": None})


def _median(values: Sequence[float]) -> float:
    return statistics.median(values)


if __name__ == "__main__":
    parser(__doc__).parse_args()
    main()
