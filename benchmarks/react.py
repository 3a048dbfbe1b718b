"""reasoning_react before an LLM and a tool provider that answer at once, against the same calls made directly.

python -m benchmarks.react
"""

from __future__ import annotations

import asyncio
import os
import secrets
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import grpc
import hector_plugins_pb2 as pb
import hector_plugins_pb2_grpc as rpc

from benchmarks.arguments import parser
from benchmarks.harness import REPEATS, Comparison, Section, Server, compare, report, running
from benchmarks.llm import _printing, _spread
from benchmarks.react_inputs import FAMILIES, TOOLS
from benchmarks.react_servers import RESULT_CHARS
from plugins.reasoning_react.engine.reader import Watcher, read
from plugins.reasoning_react.engine.state import Keys, open_state

STEPS, RUNS, TOGETHER, SLOW = 8, 40, 64, 20  # steps with an action in a run; runs; at once; milliseconds of a model
LONG = 20  # steps before the state is measured
FIRST, LAST = 100, 5_000  # runs before resident memory is read
SMALL, LARGE = 2**19, 2**20  # characters for the parser
PIECE = 64  # characters of a stream's piece
Rows = list[tuple[str, str]]


def main() -> None:
    key = secrets.token_hex(32)
    os.environ["REASONING_REACT__STATE_KEY"] = key
    with _printing("benchmarks.react_servers") as servers:
        memory = _memory(servers)
        with _plugin(servers) as server:
            sections = [_steps(server, servers), _many(server, servers)]
            rows = [*_state(server, key), *_parser(), *memory]
    report("react", [*sections, Section("State, parser, memory", columns=("what", "measured"), rows=rows)])


def _plugin(servers: str) -> Any:
    return running("reasoning_react", "--llm", servers, "--tools", servers)


class _Client:
    """One channel to the plugin, and runs of one model on it."""

    def __init__(self, server: Server, model: str, mode: pb.ReasoningMode.ValueType = pb.REASONING_MODE_NATIVE) -> None:
        self.stub = rpc.ReasoningStrategyStub(grpc.insecure_channel(server.address))
        self._new = pb.InitializeRequest(query="How much is it?", model=model, mode=mode, max_iterations=LONG + 5)

    def steps(self) -> list[float]:
        """Seconds of each step of a run that ends in an action; the last one, with the answer, is left out."""
        reply: Any = self.stub.Initialize(self._new)
        took: list[float] = []
        while True:
            began = time.perf_counter()
            reply = self.stub.ProcessIteration(pb.ProcessIterationRequest(state=reply.state))
            seconds = time.perf_counter() - began
            assert reply.success, reply.error
            if reply.done:
                assert reply.stop_reason == pb.STOP_REASON_ANSWERED
                return took
            took.append(seconds)

    def state(self, steps: int) -> bytes:
        """The state after so many."""
        reply: Any = self.stub.Initialize(self._new)
        for _ in range(steps):
            reply = self.stub.ProcessIteration(pb.ProcessIterationRequest(state=reply.state))
            assert len(reply.step.observations) == 1, reply
        return bytes(reply.state)


class _Direct:
    """The LLM's and the tool's call of a step, made by themselves, with as much in them."""

    def __init__(self, servers: str, model: str) -> None:
        channel = grpc.insecure_channel(servers)
        self._llm, self._tool = rpc.LLMProviderStub(channel), rpc.ToolProviderStub(channel)
        self._model = model
        self._tools = list(self._tool.ListTools(pb.ListToolsRequest()).tools)

    def steps(self) -> list[float]:
        took = []
        messages = [
            pb.ChatMessage(role="system", content="You answer questions. " * 50),
            pb.ChatMessage(role="user", content="How much is it?"),
        ]
        for number in range(STEPS):
            request = pb.StreamTextRequest(model=self._model, messages=messages, tools=self._tools)
            began = time.perf_counter()
            for _ in self._llm.StreamText(request):
                pass
            done = self._tool.ExecuteTool(
                pb.ExecuteToolRequest(tool="lookup", parameters_json=f'{{"n": {number}}}', call_id=f"call-{number}")
            )
            took.append(time.perf_counter() - began)
            call = pb.ToolCall(id=f"call_{number}", name="lookup", arguments_json=f'{{"n": {number}}}')
            messages += [
                pb.ChatMessage(role="assistant", tool_calls=[call]),
                pb.ChatMessage(role="tool", tool_call_id=call.id, name="lookup", content=done.result),
            ]
        return took


def _steps(server: Server, servers: str) -> Section:
    """Milliseconds of a step, over those of its LLM and tool calls alone."""
    rows = []
    for name, model, mode in (
        ("NATIVE", f"steps-{STEPS}", pb.REASONING_MODE_NATIVE),
        ("TEXT", f"text-{STEPS}", pb.REASONING_MODE_TEXT),
    ):
        ours, direct = _Client(server, model, mode), _Direct(servers, model)
        pairs = [(_p50(ours), _p50(direct)) for _ in range(REPEATS + 1)][1:]
        medians = [f"{statistics.median(side):.2f}" for side in zip(*pairs, strict=True)]
        rows.append((name, *medians, *_spread([one - other for one, other in pairs])))
    columns = ("p50 of a step", "ms", "ms of its LLM and tool calls", "outside of them, ms", "lowest … highest")
    return Section("A step", columns=columns, rows=rows)


def _p50(side: _Client | _Direct) -> float:
    """Milliseconds."""
    return 1000 * statistics.median(seconds for _ in range(RUNS) for seconds in side.steps())


def _many(server: Server, servers: str) -> Section:
    """Many runs at once, beside one alone; and the same of what does nothing but a step's calls."""

    def comparison(name: str, model: str, address: str) -> Comparison:
        def at_once(count: int, runs: int) -> float:
            return asyncio.run(_runs(address, model, runs, count))

        reference = RUNS if model.count("-") == 1 else RUNS // 8
        return compare(
            name,
            "steps/s",
            lambda: at_once(TOGETHER, 2 * TOGETHER),
            lambda: at_once(1, reference),
            reference_name="one run",
        )

    slow = f"{TOGETHER} runs at once, with a model that takes {SLOW} ms"
    quick = f"steps-{STEPS}"
    with _printing("benchmarks.react_bare", servers) as bare:
        rows = [
            comparison(f"{TOGETHER} runs at once", quick, server.address),
            comparison(slow, f"{quick}-{SLOW}", server.address),
            comparison(f"{TOGETHER} runs at once of a bare gRPC server that makes the same calls", quick, bare),
        ]
    return Section("Many runs", rows)


async def _runs(address: str, model: str, runs: int, together: int) -> float:
    """Steps a second of so many runs, so many of them at once."""
    left, steps = runs, 0
    async with grpc.aio.insecure_channel(address) as channel:
        stub = rpc.ReasoningStrategyStub(channel)
        new = pb.InitializeRequest(query="How much is it?", model=model, mode=pb.REASONING_MODE_NATIVE)

        async def work() -> None:
            nonlocal left, steps
            while left > 0:
                left -= 1
                reply: Any = await stub.Initialize(new)
                while not (isinstance(reply, pb.ProcessIterationResponse) and reply.done):
                    reply = await stub.ProcessIteration(pb.ProcessIterationRequest(state=reply.state))
                    assert reply.success, reply.error
                    steps += 1

        began = time.perf_counter()
        await asyncio.gather(*(work() for _ in range(together)))
        return steps / (time.perf_counter() - began)


def _state(server: Server, key: str) -> Rows:
    """What a run carries along."""
    state = _Client(server, f"steps-{LONG + 1}").state(LONG)
    keys = Keys(key.encode())
    now = time.time()
    run = open_state(state, keys, now=now, most_bytes=2**20)
    assert len(run.steps) == LONG
    medians = []
    for _ in range(REPEATS):
        took = []
        for _ in range(200):
            began = time.thread_time()
            open_state(state, keys, now=now, most_bytes=2**20)
            took.append(time.thread_time() - began)
        medians.append(1000 * statistics.median(took))
    return [
        (f"state after {LONG} steps with results of {RESULT_CHARS:,} characters", f"{len(state) / 1000:.1f} kB"),
        ("to verify and load it, p50", f"{statistics.median(medians):.2f} ms"),
    ]


def _parser() -> Rows:
    """Every family of inputs, as a whole and as a stream."""
    worst: dict[str, tuple[float, str]] = {}
    for name, family in FAMILIES.items():
        for how, work in (("as a whole", _whole), ("as a stream", _streamed)):
            small, large = _fastest(work, family(SMALL), family(LARGE))
            # What ends at once has no ratio worth the name.
            for what, value in (("ratio", large / small if large > 0.05 else 0.0), ("seconds", large)):
                worst[f"{what} {how}"] = max(worst.get(f"{what} {how}", (0.0, "")), (value, name))
    rows = []
    for how in ("as a whole", "as a stream"):
        (ratio, hardest), (seconds, slowest) = worst[f"ratio {how}"], worst[f"seconds {how}"]
        rows += [
            (f"1 MiB of output read {how}, the slowest of {len(FAMILIES)} families", f"{seconds:.2f} s ({slowest})"),
            ("the same in multiples of 512 KiB, the worst of them", f"{ratio:.2f} ({hardest})"),
        ]
    return rows


def _fastest(work: Callable[[str], float], small: str, large: str) -> tuple[float, float]:
    """Of some times, in turn: what else runs on the machine makes none faster, and is the same for both."""
    pairs: list[tuple[float, float]] = []
    while len(pairs) < 5 and sum(map(sum, pairs)) < 5:
        pairs.append((work(small), work(large)))
    return min(pair[0] for pair in pairs), min(pair[1] for pair in pairs)


def _whole(text: str) -> float:
    began = time.thread_time()
    read(text, TOOLS)
    return time.thread_time() - began


def _streamed(text: str) -> float:
    pieces: Sequence[str] = [text[at : at + PIECE] for at in range(0, len(text), PIECE)]
    began = time.thread_time()
    watcher = Watcher(TOOLS)
    for piece in pieces:
        watcher.feed(piece)
        if watcher.enough or watcher.rambling:
            break
    watcher.close()
    return time.thread_time() - began


def _memory(servers: str) -> Rows:
    with _plugin(servers) as server:
        asyncio.run(_runs(server.address, f"steps-{STEPS}", FIRST, TOGETHER))
        first = server.resident_bytes()
        asyncio.run(_runs(server.address, f"steps-{STEPS}", LAST - FIRST, TOGETHER))
        last = server.resident_bytes()
    return [
        (f"resident memory after {FIRST} runs of {STEPS + 1} steps", f"{first / 1e6:.0f} MB"),
        (f"after {LAST:,} runs, in multiples of that", f"{last / first:.3f}"),
    ]


if __name__ == "__main__":
    parser(__doc__).parse_args()
    main()
