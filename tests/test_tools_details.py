"""tools_http: what the details of an error say, the same whatever tool it is, and what an operator is warned of."""

from __future__ import annotations

import ast
import asyncio
import re
from collections.abc import Iterator
from typing import Any

import pytest
from google.protobuf.struct_pb2 import Value

from plugins.tools_http.__main__ import build, check
from plugins.tools_http.config import Config
from plugins.tools_http.engine.api_call import api_call
from plugins.tools_http.engine.client import Client
from plugins.tools_http.engine.declared import read_tools
from plugins.tools_http.engine.openapi.catalogue import Catalogue, Entry
from plugins.tools_http.engine.operation import Sender
from plugins.tools_http.engine.outcome import output_of
from plugins.tools_http.engine.page.tool import fetch_page
from plugins.tools_http.engine.policy import Policy
from plugins.tools_http.engine.provider import Provider
from plugins.tools_http.engine.redaction import Redactor
from shared.units import Secret, SecretMapping
from tests.page_tools import work
from tests.servers import ROOT, captured_log, details
from tests.tools_socket import Tools, serving
from tests.tools_world import LOOPBACK, Play, Server

JSON = [("Content-Type", "application/json")]


@pytest.fixture(scope="module")
def tools() -> Iterator[Tools]:
    """`repos` calls a declared tool as an operation of many; `word` takes a text out of an answer."""
    server = Server()
    server.on("/word", Play([b'{"word": "hello", "words": ["a"]}'], headers=JSON))
    client = Client(Policy(allowed_networks=LOOPBACK, allowed_ports=["1-65535"]))
    sender = Sender(client, output_of, Redactor(), 2**20)
    owner = {"in": "path", "type": "string", "required": True}
    declared = {
        "get_repo": {"description": "D.", "url": server.url + "/repos/{owner}/x", "parameters": {"owner": owner}},
        "word": {"description": "D.", "url": server.url + "/word", "answer": "word"},
        "words": {"description": "D.", "url": server.url + "/word", "answer": "words"},
    }
    offered = read_tools(declared, sender, {}, None, 5.0)
    entries = [Entry(tool, "GET", "/", "") for tool in offered if tool.name == "get_repo"]
    many = Catalogue(entries, "Repos").tools("repos")
    try:
        with serving(*offered, *many, api_call(client), fetch_page(client, work)) as running:
            yield running
    finally:
        server.close()


@pytest.mark.parametrize("tool", ["custom_api_call", "fetch_page"])
@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("http://10.0.0.1/", "BLOCKED_ADDRESS"),
        ("ftp://a.test/", "BLOCKED_SCHEME"),
        ("http://a.test:70000/", "BAD_URL"),
    ],
)
def test_a_url_at_fault(tools: Tools, tool: str, url: str, reason: str) -> None:
    """A URL that is refused is named as the argument `url`, by each tool that takes one."""
    told = details(tools.call(tool, {"url": url}).status)
    assert (told.reason, [field for field, _ in told.violations]) == (reason, ["parameters.url"])


@pytest.mark.parametrize(("owner", "reason"), [("..", "BAD_PATH"), ("a\nb", "BAD_PATH"), ("", "BAD_ARGUMENTS")])
def test_an_argument_of_an_operation(tools: Tools, owner: str, reason: str) -> None:
    """An argument at fault is named by its place in the request, also where an operation of many is called."""
    alone = details(tools.call("get_repo", {"owner": owner}).status)
    through = tools.call("repos_call_operation", {"operation": "get_repo", "arguments": {"owner": owner}}).status
    assert (alone.reason, [field for field, _ in alone.violations]) == (reason, ["parameters.owner"])
    assert [field for field, _ in details(through).violations] == ["parameters.arguments.owner"]


@pytest.mark.parametrize(
    ("tool", "arguments"),
    [
        ("custom_api_call", "no JSON"),
        ("custom_api_call", {"url": 5}),
        ("custom_api_call", {"url": "http://a.test/", "query": {"a": {"b": 1}}}),
        ("fetch_page", {"url": "http://a.test/", "pages": "7-3"}),
        ("repos_call_operation", {"operation": "get_repo", "arguments": {}}),
    ],
)
def test_one_reason_for_arguments(tools: Tools, tool: str, arguments: Any) -> None:
    """Arguments that do not hold are BAD_ARGUMENTS, whoever finds the fault."""
    assert details(tools.call(tool, arguments).status).reason == "BAD_ARGUMENTS"


def test_every_reason_is_in_the_readme() -> None:
    """The README's table of errors has every reason that the source has."""
    readme = (ROOT / "plugins/tools_http/README.md").read_text(encoding="utf-8")
    table = readme.partition("## Errors")[2].partition("\n## ")[0]
    reasons: set[str] = set()
    for path in (ROOT / "plugins/tools_http/engine").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            values = [item.value for item in getattr(node, "keywords", []) if item.arg == "reason"]
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "reason":
                values.append(node.value)
            reasons |= {str(value.value) for value in values if isinstance(value, ast.Constant) and value.value}
    assert len(reasons) > 40
    log_only = {"SHORT_SECRET"}
    assert {reason for reason in reasons - log_only if not re.search(rf"\b{reason}\b", table)} == set()


@pytest.mark.parametrize(
    ("tool", "arguments", "success", "content_type"),
    [
        ("word", {}, True, "text/plain"),
        ("words", {}, True, "application/json"),
        ("fetch_page", {"url": "http://10.0.0.1/"}, False, ""),
        ("missing", {}, False, ""),
        ("get_repo", {"owner": 5}, False, ""),
    ],
)
def test_content_type(tools: Tools, tool: str, arguments: Any, success: bool, content_type: str) -> None:
    """It is that of the text that comes: of a text taken out of JSON plain, and of nothing none."""
    reply = tools.call(tool, arguments)
    assert (reply.success, reply.content_type) == (success, content_type), reply.error
    if tool == "word":
        assert (reply.result, reply.structured) == ("hello", Value(string_value="hello"))


def test_secrets_that_are_too_short(capsys: pytest.CaptureFixture[str]) -> None:
    """--check warns of secrets that are too short to be taken out, as the start does, without showing them."""
    credentials = {"https://a.test": {"bearer": "q7"}, "https://b.test": {"bearer": "long enough"}}
    config = Config(credentials=SecretMapping(credentials))
    check(config)
    warning = capsys.readouterr().err
    assert warning.startswith("warning: 1 of the secrets")
    assert warning.count("\n") == 1
    assert "q7" not in warning
    provider = build(config)
    with captured_log() as log:
        asyncio.run(started(provider))
    assert "reason=SHORT_SECRET" in log()
    assert "q7" not in log()
    check(Config(token=Secret("long enough")))
    assert not capsys.readouterr().err


async def started(provider: Provider) -> None:
    await provider.start()
    await provider.close()
