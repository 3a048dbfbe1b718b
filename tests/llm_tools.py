"""The LLM provider in tests: the plugin as a process in front of the misbehaving endpoint, and its messages."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from typing import Any

import grpc
import hector_plugins_pb2 as pb
import hector_plugins_pb2_grpc as rpc
import pytest

from plugins.llm_openai.__main__ import build, configured
from plugins.llm_openai.servicer import MOST_ITEMS, TOO_LARGE_HINTS, Servicer
from tests.llm_endpoint import Endpoint
from tests.servers import SECONDS, Plugin, Served, served, start_plugin

MODULE = "plugins.llm_openai"
SERVICE = "hector.plugins.v1.LLMProvider"
KEY = "sk-test-0123456789"
# Neither the key nor the proxy of whoever runs the tests.
QUIET = {"OPENAI_API_KEY": "", "OPENAI_BASE_URL": "", "OPENAI_ORG_ID": "", "HTTP_PROXY": "", "http_proxy": "",
         "ALL_PROXY": "", "all_proxy": "", "NO_PROXY": "127.0.0.1"}  # fmt: skip
WEATHER = pb.Tool(
    name="weather",
    description="The weather of a city.",
    parameters_json=json.dumps(
        {
            "type": "object",
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
            "additionalProperties": False,
        }
    ),
)
CITY = json.dumps({"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]})


@contextlib.contextmanager
def started(endpoint: Endpoint, *args: str, env: dict[str, str] | None = None) -> Iterator[Served]:
    """The plugin with these options and variables, in a thread of this process: a start takes no time."""
    environ = QUIET | (env or {})
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environ.items():
            patch.setenv(name, value)
        config = configured(["--port", "0", "--endpoint", endpoint.url, *args])
        servicer = Servicer(build(config), timeout=config.timeout, max_reply_bytes=config.max_reply_bytes)
        with served(
            config,
            SERVICE,
            lambda server: rpc.add_LLMProviderServicer_to_server(servicer, server),
            too_large_hints=TOO_LARGE_HINTS,
            most_items=MOST_ITEMS,
        ) as plugin:
            yield plugin


@contextlib.contextmanager
def started_alone(endpoint: Endpoint, *args: str, env: dict[str, str] | None = None) -> Iterator[Plugin]:
    """The same as a process of its own, for tests of memory, logs and ends."""
    with start_plugin(MODULE, "--endpoint", endpoint.url, *args, env=QUIET | (env or {})) as plugin:
        yield plugin


def stub_of(plugin: Plugin | Served) -> rpc.LLMProviderStub:
    return rpc.LLMProviderStub(plugin.channel())


def generate(stub: rpc.LLMProviderStub, model: str, timeout: float = SECONDS, **more: Any) -> pb.GenerateTextResponse:
    request = pb.GenerateTextRequest(**({"prompt": "Hi"} | more), model=model)
    return stub.GenerateText(request, timeout=timeout)


def stream(
    stub: rpc.LLMProviderStub,
    model: str,
    into: list[pb.StreamTextResponse] | None = None,
    timeout: float = SECONDS,
    **more: Any,
) -> list[pb.StreamTextResponse]:
    """All messages; `into` has those that came before an error."""
    messages = [] if into is None else into
    request = pb.StreamTextRequest(**({"prompt": "Hi"} | more), model=model)
    for message in stub.StreamText(request, timeout=timeout):
        messages.append(message)
    return messages


def text_of(messages: list[pb.StreamTextResponse]) -> str:
    return "".join(message.text for message in messages)


def reasoning_of(messages: list[pb.StreamTextResponse]) -> str:
    return "".join(message.reasoning for message in messages)


def refused(call: Any, *args: Any, **more: Any) -> grpc.RpcError:
    """The error that the call ends in."""
    with pytest.raises(grpc.RpcError) as caught:
        call(*args, **more)
    return caught.value


def said(error: grpc.RpcError) -> str:
    return error.details() or ""
