"""A plugin in another language, in `tests/node_plugin/`: written from the .proto alone, run by the host beside ours."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import hector_plugins_pb2 as pb
import pytest
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub
from hector_plugins_pb2_grpc import ToolProviderStub

from host.check.runner import FAILED
from host.check.subject import Options
from host.config import ANY_KIND, load
from host.connect import Connection, connect
from host.kinds import kind_of
from shared.errors import StartError
from tests.check_kit import results
from tests.host_fakes import write_config
from tests.react_endpoint import Asked, Model, Reply, call, says

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ROOT / ".node-plugin" / "node_modules"
BLOCK = {
    "path": str(ROOT / "tests" / "node_plugin" / "words.js"),
    "config": {"token": "${NODE_WORDS_TOKEN}"},
    "env": {"NODE_PATH": str(PACKAGES)},
}


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Connection]:
    """A connection to the plugin, started by the host, with a token that it asks for."""
    if not PACKAGES.exists():
        pytest.fail(f"{PACKAGES} is not there; `make test-slow` installs it")
    with pytest.MonkeyPatch.context() as environ:
        environ.setenv("NODE_WORDS_TOKEN", "sesame")
        file = write_config(tmp_path_factory.mktemp("node"), {"plugins": {"tool_providers": {"words": BLOCK}}})
        config = load(file)
        with connect(config, config.plugins.values()) as connections:
            yield connections["words"]


def test_the_kit(words: Connection) -> None:
    """It passes every claim of the guide, but that its reflection describes what the .proto imports."""
    options = Options(token="yes", tool="count_words", arguments='{"text": "a b c"}')
    tried = results("", "tools", at=words.address, options=options)
    failed = {result.claim.name: result.message for result in tried if result.outcome == FAILED}
    assert set(failed) == {"reflected"}, failed


def execute(words: Connection, tool: str = "count_words", **request: object) -> pb.ExecuteToolResponse:
    stub = ToolProviderStub(words.channel)
    reply = stub.ExecuteTool(
        pb.ExecuteToolRequest(tool=tool, **request),  # type: ignore[arg-type]
        timeout=60,
        metadata=words.address.metadata,
    )
    assert isinstance(reply, pb.ExecuteToolResponse)
    return reply


def test_its_tools_are_listed(words: Connection) -> None:
    """It lists its tool with the schemas of arguments and result, the same by name."""
    stub = ToolProviderStub(words.channel)
    (tool,) = stub.ListTools(pb.ListToolsRequest(), timeout=60, metadata=words.address.metadata).tools
    assert (tool.name, tool.read_only, tool.idempotent, tool.destructive) == ("count_words", True, True, False)
    assert json.loads(tool.parameters_json)["required"] == ["text"]
    schema = words.call(stub.GetToolSchema, pb.GetToolSchemaRequest(tool="count_words"), {})
    assert schema.schema_json == tool.parameters_json
    assert schema.output_schema_json == tool.output_schema_json


@pytest.mark.parametrize(
    ("arguments", "words_and_sentences"),
    [
        ({"text": "One. Two, three!"}, (3, 2)),
        ({"text": "我喜欢读书。你呢？", "language": "zh"}, (5, 2)),
        ({"text": ""}, (0, 0)),
    ],
)
def test_its_tool_runs(words: Connection, arguments: dict[str, str], words_and_sentences: tuple[int, int]) -> None:
    """A call, its arguments as JSON or as a Struct, gives text for the model and the same as data."""
    as_struct = pb.ExecuteToolRequest()
    as_struct.parameters.update(arguments)
    for request in ({"parameters_json": json.dumps(arguments)}, {"parameters": as_struct.parameters}):
        reply = execute(words, **request)
        count, sentences = words_and_sentences
        assert (reply.success, reply.result) == (True, f"{count} words, {sentences} sentences")
        assert json.loads(reply.structured_json) == {"words": count, "sentences": sentences}


@pytest.mark.parametrize(
    ("tool", "arguments", "code", "error"),
    [
        ("count_wrods", "{}", 5, "Unknown tool: count_wrods"),
        ("count_words", "{", 3, "parameters_json is no JSON; send an object with `text`"),
        ("count_words", "[1]", 3, "count_words: the arguments must be an object with `text`"),
        (
            "count_words",
            '{"txt": "a", "language": 7}',
            3,
            "count_words: there is no argument txt; text must be a text of at most 1000000 characters; "
            "language must be a tag such as en or zh",
        ),
    ],
)
def test_what_it_cannot_run(words: Connection, tool: str, arguments: str, code: int, error: str) -> None:
    """An unknown tool and wrong arguments are failures in the reply that name everything at fault."""
    reply = execute(words, tool, parameters_json=arguments)
    assert (reply.success, reply.error, reply.status.code) == (False, error, code)


def test_its_reflection_says_what_it_is(words: Connection, tmp_path: Path) -> None:
    """Straight under `plugins:`, where its block says nothing of it, it is a tool provider by its reflection."""
    config = load(write_config(tmp_path, {"plugins": {"words": {"address": words.address.address}}}))
    plugin = replace(config.plugins["words"], address=words.address)
    assert (plugin.kind, kind_of(plugin, words.address)) == (ANY_KIND, "tool_provider")
    with pytest.raises(StartError, match="is a tool_provider, but is configured as a llm_provider"):
        kind_of(replace(plugin, kind="llm_provider"), words.address)


def test_its_health_is_told(words: Connection) -> None:
    """It answers health, without its token, for itself as a whole and by its service's name."""
    for service in ("", "plugin", "hector.plugins.v1.ToolProvider"):
        reply = HealthStub(words.channel).Check(HealthCheckRequest(service=service), timeout=60)
        assert reply.status == HealthCheckResponse.SERVING


def test_its_token_reached_it(words: Connection) -> None:
    """It got its token out of the host's environment by `${VAR}`, and refuses a call without it."""
    assert words.address.token.reveal() == "sesame"
    with pytest.raises(grpc.RpcError) as refusal:
        ToolProviderStub(words.channel).ListTools(pb.ListToolsRequest(), timeout=60)
    assert refusal.value.code() == grpc.StatusCode.UNAUTHENTICATED


@pytest.mark.parametrize("reasoning", [False, True])
def test_an_agent_uses_it(tmp_path: Path, reasoning: bool) -> None:
    """An agent, with and without a reasoning plugin, calls its tool and answers with what it gave."""
    document: dict[str, Any] = {
        "plugins": {
            "tool_providers": {"words": BLOCK},
            "llm_providers": {"chat": {"path": "plugins.llm_openai", "config": {"model": "scripted"}}},
        },
        "llms": {"default": {"type": "plugin:chat"}},
        "tools": {"counter": {"type": "plugin:words", "config": {"tool_name": "count_words"}}},
        "agents": {"helper": {"llm": "default", "tools": ["counter"]}},
    }
    if reasoning:
        document["plugins"]["reasoning_strategies"] = {"react": {"path": "plugins.reasoning_react"}}
        document["agents"]["helper"]["reasoning"] = {"engine": "plugin:react"}

    def counts(asked: Asked) -> Reply:
        (tool,) = asked.tools if not reasoning else [name for name in asked.tools if "count" in name]
        return call(tool, text="One. Two, three!")

    model = Model()
    with model:
        model.plays(counts, lambda asked: says(f"There are {re.findall(r'[0-9]+ words', asked.text)[-1]}."))
        document["plugins"]["llm_providers"]["chat"]["config"]["endpoint"] = model.url
        file = write_config(tmp_path, document)
        command = [sys.executable, "-m", "host", "call", "helper", "How many words?", "--config", str(file)]
        ran = subprocess.run(
            command,
            cwd=ROOT,
            env={**os.environ, "NODE_WORDS_TOKEN": "sesame"},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
    assert (ran.returncode, ran.stdout.strip()) == (0, "There are 3 words."), ran.stderr
