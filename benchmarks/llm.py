"""llm_openai over gRPC against the `openai` package used directly, a bare gRPC stream and LiteLLM's proxy.

python -m benchmarks.llm [--no-peers]
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import grpc
import hector_plugins_pb2 as pb
import hector_plugins_pb2_grpc as rpc
import openai

from benchmarks.harness import REPEATS, RESULTS, Section, Server, compare, rate, report, running
from benchmarks.llm_endpoint import WORD

CALLS, CHUNKS, STREAMS, CANCELS = 200, 20_000, 64, 20
BY_STREAMS = (1, 4, 16, 64)
PEERS = Path(__file__).parents[1] / ".venv-llm-peers/bin"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--no-peers", action="store_true", help="leave out LiteLLM's proxy")
    options = parser.parse_args()
    with _printing("benchmarks.llm_endpoint") as url, _printing("benchmarks.llm_bare") as bare:
        start = _start(url)
        with running("llm_openai", "--endpoint", url) as server:
            sections = [_added(url, server, peers=not options.no_peers), _streams(server, bare)]
            sections.append(Section("Start, cancel, deadline", facts=start | _ends(url, server)))
    report("llm", sections)


class _Client:
    """One channel to one server."""

    def __init__(self, address: str) -> None:
        self.stub = rpc.LLMProviderStub(grpc.insecure_channel(address))

    def call(self) -> None:
        assert self.stub.GenerateText(pb.GenerateTextRequest(prompt="Hi", model="one")).text

    def first_token(self) -> None:
        call = self.stub.StreamText(pb.StreamTextRequest(prompt="Hi", model="chunks-20"))
        next(reply for reply in call if reply.text)
        call.cancel()

    def chunks(self) -> float:
        """Chunks a second of one stream."""
        request = pb.StreamTextRequest(prompt="Hi", model=f"chunks-{CHUNKS}")

        def read() -> None:
            assert sum(len(reply.text) for reply in self.stub.StreamText(request)) == CHUNKS * len(WORD)

        return rate(CHUNKS, read)


class _Direct:
    """The `openai` package, against any server of its kind."""

    def __init__(self, url: str) -> None:
        self._client = openai.OpenAI(api_key="none", base_url=url, max_retries=0)

    def call(self) -> None:
        assert self._client.chat.completions.create(model="one", messages=[{"role": "user", "content": "Hi"}]).choices

    def first_token(self) -> None:
        stream = self._client.chat.completions.create(
            model="chunks-20", messages=[{"role": "user", "content": "Hi"}], stream=True
        )
        next(chunk for chunk in stream if chunk.choices and chunk.choices[0].delta.content)
        stream.close()


def _added(url: str, server: Server, *, peers: bool) -> Section:
    """Milliseconds that stand between the caller and the endpoint, over those of the package alone."""
    client, direct = _Client(server.address), _Direct(url)
    rows, facts = [], dict[str, object]()
    for what, ours, theirs in (
        ("a call", client.call, direct.call),
        ("the first token", client.first_token, direct.first_token),
    ):
        pairs = [(_p50(ours), _p50(theirs)) for _ in range(REPEATS + 1)][1:]
        added = [one - other for one, other in pairs]
        rows.append((what, "llm_openai", *_medians(pairs), *_spread(added)))
    if peers:
        with _litellm(url) as proxy:
            through = _Direct(proxy)
            trios = [(_p50(through.call), _p50(direct.call), _p50(client.call)) for _ in range(REPEATS + 1)][1:]
            pairs = [(one, other) for one, other, _ in trios]
            rows.append(("a call", _litellm_name(), *_medians(pairs), *_spread([one - other for one, other in pairs])))
            times = [(proxied - alone) / (ours - alone) for proxied, alone, ours in trios]
        facts["what LiteLLM adds to a call, in multiples of what llm_openai adds"] = " ".join(_spread(times))
    columns = ("p50 of", "through", "ms", "ms without", "added, ms", "lowest … highest")
    return Section("Added to the openai package alone", facts=facts, columns=columns, rows=rows)


def _streams(server: Server, bare: str) -> Section:
    ours, theirs = _Client(server.address), _Client(bare)
    comparison = compare(
        "one stream", "chunks/s", ours.chunks, theirs.chunks, reference_name="a bare gRPC stream of equal messages"
    )
    speeds: dict[int, list[float]] = {count: [] for count in BY_STREAMS}
    unfair = []
    for _ in range(REPEATS):
        for count in BY_STREAMS:
            speed, ends = asyncio.run(_together(server.address, count))
            speeds[count].append(speed)
            if count == STREAMS:
                unfair.append(max(ends) / min(ends))
    many = [together / alone for together, alone in zip(speeds[STREAMS], speeds[1], strict=True)]
    _plot({count: statistics.median(found) for count, found in speeds.items()})
    facts = {
        f"{STREAMS} streams at once, chunks/s over those of one": " ".join(_spread(many)),
        "the slowest of them over the fastest, from start to end": " ".join(_spread(unfair)),
    }
    return Section("Streams", [comparison], facts)


async def _together(address: str, count: int) -> tuple[float, list[float]]:
    """(chunks a second of so many streams at once, the seconds that each took)."""
    each = max(CHUNKS // count, 4_000)
    async with grpc.aio.insecure_channel(address) as channel:
        stub = rpc.LLMProviderStub(channel)

        async def read() -> float:
            got = 0
            async for reply in stub.StreamText(pb.StreamTextRequest(prompt="Hi", model=f"chunks-{each}")):
                got += len(reply.text)
            assert got == each * len(WORD)
            return time.perf_counter() - began

        await stub.GenerateText(pb.GenerateTextRequest(prompt="Hi", model="one"))
        began = time.perf_counter()
        ends = await asyncio.gather(*(read() for _ in range(count)))
        return count * each / max(ends), list(ends)


def _start(url: str) -> dict[str, object]:
    seconds, resident = [], 0
    for _ in range(REPEATS):
        began = time.perf_counter()
        with running("llm_openai", "--endpoint", url) as server:
            seconds.append(time.perf_counter() - began)
            _Client(server.address).call()
            resident = max(resident, server.resident_bytes())
    return {
        "start to SERVING": f"{statistics.median(seconds):.2f} s",
        "resident memory after a call": f"{resident / 1e6:.0f} MB",
    }


def _ends(url: str, server: Server) -> dict[str, object]:
    client = _Client(server.address)
    cancelled, late = [], []
    for _ in range(CANCELS):
        call = client.stub.GenerateText.future(pb.GenerateTextRequest(prompt="Hi", model="hang"))
        time.sleep(0.05)  # the endpoint has it by then
        began = time.monotonic()
        call.cancel()
        cancelled.append(_gone_after(url, began) - began)
    for _ in range(REPEATS):
        began = time.monotonic()
        with contextlib.suppress(grpc.RpcError):
            client.stub.GenerateText(pb.GenerateTextRequest(prompt="Hi", model="hang"), timeout=1)
        late.append(time.monotonic() - began)
    return {
        "from a cancel to the end of the connection to the endpoint": f"{1000 * statistics.median(cancelled):.1f} ms, "
        f"at most {1000 * max(cancelled):.1f}",
        "a call with a deadline of 1 s to an endpoint that hangs": f"{statistics.median(late):.3f} s, "
        f"at most {max(late):.3f}",
    }


def _gone_after(url: str, began: float) -> float:
    while True:
        with urllib.request.urlopen(f"{url}/gone") as answer:
            at = float(json.load(answer)["at"])
        if at >= began:
            return at
        assert time.monotonic() < began + 10, "the cancel did not reach the endpoint"
        time.sleep(0.005)


def _p50(call: Callable[[], None]) -> float:
    """Milliseconds."""
    took = []
    for _ in range(CALLS):
        began = time.perf_counter()
        call()
        took.append(time.perf_counter() - began)
    return 1000 * statistics.median(took)


def _medians(pairs: Sequence[tuple[float, float]]) -> tuple[str, str]:
    return f"{statistics.median(a for a, _ in pairs):.2f}", f"{statistics.median(b for _, b in pairs):.2f}"


def _spread(values: Sequence[float]) -> tuple[str, str]:
    return f"{statistics.median(values):.2f}", f"{min(values):.2f} … {max(values):.2f}"


@contextlib.contextmanager
def _printing(module: str, *arguments: str) -> Iterator[str]:
    """Runs `python -m module`; the line it prints."""
    with subprocess.Popen([sys.executable, "-m", module, *arguments], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield process.stdout.readline().strip()
        finally:
            process.kill()


@contextlib.contextmanager
def _litellm(url: str) -> Iterator[str]:
    """LiteLLM's proxy in front of the same endpoint; its base URL."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    models = [{"model_name": "one", "litellm_params": {"model": "openai/one", "api_base": url, "api_key": "none"}}]
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "config.yaml"
        config.write_text(json.dumps({"model_list": models}))  # JSON is YAML
        argv = [str(PEERS / "litellm"), "--config", str(config), "--host", "127.0.0.1", "--port", str(port)]
        env = os.environ | {"LITELLM_LOCAL_MODEL_COST_MAP": "True"}
        quiet = subprocess.DEVNULL
        with subprocess.Popen(argv, stdout=quiet, stderr=quiet, stdin=quiet, env=env) as process:
            try:
                proxy = _Direct(f"http://127.0.0.1:{port}/v1")
                for _ in range(600):
                    with contextlib.suppress(openai.APIError):
                        proxy.call()
                        break
                    assert process.poll() is None, "LiteLLM's proxy did not start"
                    time.sleep(0.1)
                yield f"http://127.0.0.1:{port}/v1"
            finally:
                process.terminate()


def _litellm_name() -> str:
    code = "import importlib.metadata as m; print(m.version('litellm'))"
    version = subprocess.run([str(PEERS / "python"), "-c", code], capture_output=True, text=True, check=True).stdout
    return f"LiteLLM {version.strip()}"


def _plot(speeds: dict[int, float]) -> None:
    """Writes `results/llm.svg`."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "llm"
    from matplotlib import pyplot

    figure, panel = pyplot.subplots(figsize=(6.2, 4.2))
    panel.plot(list(speeds), list(speeds.values()), marker="o")
    panel.set(xlabel="streams at once", ylabel="chunks a second, all together", xscale="log", ylim=(0, None))
    panel.set_xticks(list(speeds), [str(count) for count in speeds])
    panel.grid(alpha=0.25)
    figure.tight_layout()
    figure.savefig(RESULTS / "llm.svg", metadata={"Date": None})


if __name__ == "__main__":
    main()
