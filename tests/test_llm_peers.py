"""llm_openai in front of servers that others wrote: LiteLLM's proxy and npm's aimock. `make test-slow` has both."""

from __future__ import annotations

import contextlib
import json
import os
import random
import socket
import subprocess
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import hector_plugins_pb2 as pb
import hector_plugins_pb2_grpc as rpc
import pytest

from tests.llm_endpoint import Endpoint
from tests.llm_tools import CITY, MODULE, QUIET, WEATHER, generate, reasoning_of, refused, stream, stub_of, text_of
from tests.servers import ROOT, details, start_plugin, wait_until

pytestmark = pytest.mark.slow

LITELLM = ROOT / ".venv-llm-peers/bin/litellm"
AIMOCK = ROOT / ".llm-peers/node_modules/.bin/llmock"


@contextlib.contextmanager
def running(argv: Sequence[str | Path], port: int, ready: str, folder: Path) -> Iterator[str]:
    """Starts a server; its base URL once it answers at `ready`."""
    if not Path(argv[0]).exists():
        pytest.fail(f"{argv[0]} is not there; `make test-slow` installs it")
    url = f"http://127.0.0.1:{port}"

    def answers() -> bool:
        assert process.poll() is None, (folder / "log").read_text()[-2000:]
        try:
            with urllib.request.urlopen(url + ready, timeout=5) as reply:
                return bool(reply.status == 200)
        except OSError:
            return False

    env = os.environ | QUIET | {"LITELLM_LOCAL_MODEL_COST_MAP": "True"}
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            list(map(str, argv)), stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=env, cwd=folder
        )
    try:
        wait_until(answers, f"answer of {argv[0]}", 120, lambda: (folder / "log").read_text()[-2000:])
        yield f"{url}/v1"
    finally:
        process.kill()
        process.wait()


def free_port() -> int:
    """None of those that the system gives whoever asks for any: it is taken some seconds later."""
    while True:
        port = random.randrange(10_000, 30_000)
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            return port


@contextlib.contextmanager
def plugin_at(url: str, *args: str) -> Iterator[rpc.LLMProviderStub]:
    with start_plugin(MODULE, "--endpoint", url, *args, env=QUIET) as plugin:
        yield stub_of(plugin)


# ---------------------------------------------------------------- LiteLLM's proxy

PASSED_ON = (
    "hello",
    "tool",
    "tool-one-function",
    "reasoning-content",
    "status-401",
    "status-503",
    "too-long",
    "error-in-stream",
)


@pytest.fixture(scope="module")
def litellm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[rpc.LLMProviderStub]:
    """With an answer of its own, and in front of the tests' endpoint."""
    folder = tmp_path_factory.mktemp("litellm")
    with Endpoint() as behind:
        models: list[dict[str, Any]] = [
            {
                "model_name": "mocked",
                "litellm_params": {"model": "openai/mocked", "api_key": "none", "mock_response": "Mock."},
            },
            {
                "model_name": "busy",
                "litellm_params": {"model": "openai/b", "api_key": "none", "mock_response": "litellm.RateLimitError"},
            },
        ]
        models += [
            {
                "model_name": name,
                "litellm_params": {
                    "model": f"openai/{name}",
                    "api_base": behind.url,
                    "api_key": "none",
                    "max_retries": 0,
                },
            }
            for name in PASSED_ON
        ]
        settings = {"router_settings": {"num_retries": 0, "disable_cooldowns": True}}
        (folder / "config.yaml").write_text(json.dumps({"model_list": models} | settings))
        port = free_port()
        argv: list[str | Path] = [
            LITELLM,
            "--config",
            str(folder / "config.yaml"),
            "--host",
            "127.0.0.1",
            "--port",
            str(port),
        ]
        with running(argv, port, "/health/liveliness", folder) as url, plugin_at(url, "--max-retries", "0") as stub:
            yield stub


def test_litellm_answers(litellm: rpc.LLMProviderStub) -> None:
    """Its own mock answer, whole and streamed, with usage."""
    reply = generate(litellm, "mocked")
    assert (reply.text, reply.finish_reason) == ("Mock.", pb.FINISH_REASON_STOP)
    assert reply.usage.total_tokens > 0
    messages = stream(litellm, "mocked")
    assert text_of(messages) == "Mock."
    assert messages[-1].done
    assert messages[-1].usage.total_tokens > 0


def test_litellm_passes_on(litellm: rpc.LLMProviderStub) -> None:
    """What a server behind it sends comes out the same: text, tool calls, reasoning."""
    assert text_of(stream(litellm, "hello")) == "Hello"
    for name, cities in (("tool", ["Rome"]), ("tool-one-function", ["Rome", "Oslo"])):
        last = stream(litellm, name, tools=[WEATHER])[-1]
        calls = [(call.name, json.loads(call.arguments_json), call.arguments_valid) for call in last.tool_calls]
        assert calls == [("weather", {"city": city}, True) for city in cities]
        assert len({call.id for call in last.tool_calls}) == len(cities)
        assert last.finish_reason == pb.FINISH_REASON_TOOL_CALLS
    messages = stream(litellm, "reasoning-content")
    assert (reasoning_of(messages), text_of(messages)) == ("Two and two.", "Four.")


def test_litellm_calls_a_tool(litellm: rpc.LLMProviderStub) -> None:
    """CallTool through the proxy ends in a checked call."""
    reply = litellm.CallTool(pb.CallToolRequest(prompt="Hi", model="tool", tools=[WEATHER]))
    assert [(call.id, dict(call.arguments)) for call in reply.tool_calls] == [("c1", {"city": "Rome"})]


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        ("busy", "UPSTREAM_RATE_LIMITED"),
        ("status-401", "UPSTREAM_UNAUTHENTICATED"),
        ("status-503", "UPSTREAM_UNAVAILABLE"),
        ("too-long", "CONTEXT_LENGTH_EXCEEDED"),
        ("no-such-model", "UPSTREAM_INVALID_REQUEST"),
    ],
)
def test_litellm_errors(litellm: rpc.LLMProviderStub, model: str, reason: str) -> None:
    """Its errors, in shapes of its own, have the contract's reasons."""
    assert details(refused(generate, litellm, model)).reason == reason
    assert details(refused(stream, litellm, model)).reason == reason


def test_litellm_error_in_a_stream(litellm: rpc.LLMProviderStub) -> None:
    """An error behind the proxy, in mid-stream, is no success."""
    messages: list[pb.StreamTextResponse] = []
    refused(stream, litellm, "error-in-stream", messages)
    assert not any(message.done for message in messages)


def test_litellm_lists_models(litellm: rpc.LLMProviderStub) -> None:
    """ListModels has the proxy's models."""
    listed = {model.id for model in litellm.ListModels(pb.ListModelsRequest()).models}
    assert listed == {"mocked", "busy", *PASSED_ON}


# ---------------------------------------------------------------- aimock

FIXTURES: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"userMessage": "hello"}, {"response": {"content": "Hello from the mock, at some length."}}),
    ({"userMessage": "think"}, {"response": {"content": "Four.", "reasoning": "Two and two."}}),
    (
        {"userMessage": "weather"},
        {"response": {"toolCalls": [{"name": "weather", "arguments": {"city": c}} for c in ("Rome", "Oslo")]}},
    ),
    ({"userMessage": "city"}, {"response": {"content": {"city": "Rome"}}}),
    (
        {"userMessage": "busy"},
        {"response": {"error": {"message": "slow down", "type": "rate_limit_error"}, "status": 429, "retryAfter": 7}},
    ),
    ({"userMessage": "broken"}, {"response": {"error": {"message": "oh no", "type": "server_error"}, "status": 500}}),
    ({"userMessage": "cut"}, {"response": {"content": "a " * 200}, "latency": 20, "truncateAfterChunks": 3}),
    ({"userMessage": "gone"}, {"response": {"content": "a " * 20_000}, "latency": 20, "disconnectAfterMs": 6000}),
]


@pytest.fixture(scope="module")
def aimock(tmp_path_factory: pytest.TempPathFactory) -> Iterator[rpc.LLMProviderStub]:
    folder = tmp_path_factory.mktemp("aimock")
    fixtures = [{"match": match} | rest for match, rest in FIXTURES]
    (folder / "fixtures.json").write_text(json.dumps({"fixtures": fixtures}))
    port = free_port()
    argv: list[str | Path] = [AIMOCK, "-p", str(port), "-f", str(folder / "fixtures.json")]
    with running(argv, port, "/v1/models", folder) as url, plugin_at(url, "--model", "m", "--max-retries", "0") as stub:
        yield stub


def test_aimock_streams(aimock: rpc.LLMProviderStub) -> None:
    """Text in many chunks, with usage, and the same whole."""
    messages = stream(aimock, "gpt-4o", prompt="hello")
    assert text_of(messages) == "Hello from the mock, at some length."
    assert len(messages) > 2
    assert messages[-1].finish_reason == pb.FINISH_REASON_STOP
    assert messages[-1].HasField("usage")
    assert generate(aimock, "gpt-4o", prompt="hello").text == text_of(messages)


def test_aimock_reasons(aimock: rpc.LLMProviderStub) -> None:
    """Its reasoning is kept apart."""
    messages = stream(aimock, "gpt-4o", prompt="think")
    assert (reasoning_of(messages), text_of(messages)) == ("Two and two.", "Four.")


def test_aimock_calls_tools(aimock: rpc.LLMProviderStub) -> None:
    """Two calls in one turn, streamed and by CallTool."""
    wanted = [{"city": "Rome"}, {"city": "Oslo"}]
    last = stream(aimock, "gpt-4o", prompt="weather", tools=[WEATHER])[-1]
    assert [dict(call.arguments) for call in last.tool_calls] == wanted
    reply = aimock.CallTool(pb.CallToolRequest(prompt="weather", model="gpt-4o", tools=[WEATHER]))
    assert [dict(call.arguments) for call in reply.tool_calls] == wanted
    assert all(call.arguments_valid for call in reply.tool_calls)


def test_aimock_writes_json(aimock: rpc.LLMProviderStub) -> None:
    """Structured output of a fixture holds to the schema."""
    options = pb.GenerationOptions(response_format=pb.RESPONSE_FORMAT_JSON_SCHEMA, json_schema=CITY)
    assert json.loads(generate(aimock, "gpt-4o", prompt="city", options=options).text) == {"city": "Rome"}


def test_aimock_fails(aimock: rpc.LLMProviderStub) -> None:
    """A 429 with its Retry-After, and a 500."""
    busy = details(refused(generate, aimock, "gpt-4o", prompt="busy"))
    assert (busy.reason, busy.retry_after) == ("UPSTREAM_RATE_LIMITED", 7)
    assert details(refused(stream, aimock, "gpt-4o", prompt="broken")).reason == "UPSTREAM_UNAVAILABLE"


@pytest.mark.parametrize("prompt", ["cut", "gone"])
def test_aimock_cuts(aimock: rpc.LLMProviderStub, prompt: str) -> None:
    """A stream that it truncates, or whose connection it drops, is the text so far and STREAM_TRUNCATED."""
    messages: list[pb.StreamTextResponse] = []
    error = refused(stream, aimock, "gpt-4o", messages, prompt=prompt)
    assert text_of(messages).startswith("a a")
    assert not any(message.done for message in messages)
    assert details(error).reason == "STREAM_TRUNCATED"
