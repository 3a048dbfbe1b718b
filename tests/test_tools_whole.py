"""The tool provider as it is run: a process with a settings file, called through its socket, before a real server."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hector_plugins_pb2 as pb
import hector_plugins_pb2_grpc as rpc
import pytest
from google.protobuf.json_format import MessageToDict

from shared.errors import Code
from shared.json_schema import schema_problem
from tests.servers import ROOT, SECONDS, Plugin, details, run_plugin, start_plugin
from tests.tools_apis import not_for_every_model
from tests.tools_world import Play, Seen, Server

CASES: dict[str, dict[str, Any]] = {
    case["id"]: case for case in json.loads((ROOT / "tests/tools_cases.json").read_text(encoding="utf-8"))
}
JSON = [("Content-Type", "application/json")]
KEY = "open-sesame-4711"
TOKEN = "token-of-the-day-0815"
DOCUMENT = {
    "openapi": "3.0.3",
    "info": {"title": "Things", "version": "1"},
    "servers": [{"url": "/api/v3"}],
    "paths": {
        "/x": {
            "get": {
                "operationId": "listThings",
                "parameters": [
                    {"name": "limit", "in": "query", "required": True, "schema": {"type": "integer", "maximum": 100}}
                ],
                "responses": {"200": {"description": "ok"}},
            },
            "post": {
                "operationId": "elsewhere",
                "servers": [{"url": "http://169.254.169.254/v9"}],
                "responses": {"200": {"description": "ok"}},
            },
        },
        "/picture": {"get": {"operationId": "picture", "responses": {"200": {"description": "ok"}}}},
    },
}


@dataclass
class Whole:
    plugin: Plugin
    server: Server

    def __post_init__(self) -> None:
        self.stub = rpc.ToolProviderStub(self.plugin.channel())

    def call(self, tool: str, arguments: Any = None, **more: Any) -> pb.ExecuteToolResponse:
        text = json.dumps({} if arguments is None else arguments)
        return self.stub.ExecuteTool(
            pb.ExecuteToolRequest(tool=tool, parameters_json=text, **more), timeout=SECONDS, wait_for_ready=True
        )

    def url(self, path: str) -> str:
        return self.server.url + path


def echo(seen: Seen) -> Play:
    """What was sent, as JSON."""
    told = {"target": seen.target, "headers": dict(seen.headers), "body": seen.body.decode("latin-1")}
    return Play([json.dumps(told).encode()], headers=JSON)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Whole]:
    server = Server()
    server.on("*", echo)
    server.on("/openapi.json", Play([json.dumps(DOCUMENT).encode()], headers=JSON))
    server.on("/token", Play([json.dumps({"access_token": TOKEN, "expires_in": 600}).encode()], headers=JSON))
    settings = {
        "allowed_networks": ["127.0.0.0/8"],
        "allowed_ports": [str(server.port)],
        "allowed_methods": ["GET", "POST"],
        "credentials": {server.url: {"headers": {"X-API-Key": KEY}}},
        "openapi": {"things": {"document": f"{server.url}/openapi.json"}},
        "tools": {
            "find_city": {
                "description": "Finds cities.",
                "url": f"{server.url}/cities/{{country}}",
                "parameters": {"country": {"type": "string"}, "name": {"type": "string", "required": True}},
                "answer": "{asked: target}",
            },
            "with_token": {
                "description": "Needs a token.",
                "url": f"{server.url}/with-token",
                "credential": {
                    "oauth2": {"token_url": f"{server.url}/token", "client_id": "me", "client_secret": "abracadabra"}
                },
            },
        },
    }
    file = tmp_path_factory.mktemp("tools") / "settings.yaml"
    file.write_text(json.dumps(settings), encoding="utf-8")
    try:
        with start_plugin("plugins.tools_http", "--config", str(file)) as plugin:
            yield Whole(plugin, server)
            log = plugin.stderr()
            assert "event=bug" not in log
            for secret in (KEY, TOKEN, "abracadabra"):
                assert secret not in log
    finally:
        server.close()


def test_every_case_is_a_test() -> None:
    """Each of the cases in tests/tools_cases.json is named by a test that holds it."""
    tests = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests").glob("test_tools_*.py"))
    missing = [name for name in CASES if not re.search(rf'^    """(Case )?{name}\b', tests, re.MULTILINE)]
    assert missing == []


def test_every_tool_is_one_that_models_take(whole: Whole) -> None:
    """Names, schemas and descriptions of all tools are what every model's API takes."""
    tools = whole.stub.ListTools(pb.ListToolsRequest(), timeout=SECONDS).tools
    assert [tool.name for tool in tools] == [
        *("custom_api_call", "custom_data_processing", "fetch_page", "find_city", "with_token", "read_result"),
        *("listThings", "picture"),
    ]
    for tool in tools:
        schema = json.loads(tool.parameters_json)
        assert re.fullmatch(r"[A-Za-z0-9_-]{1,64}", tool.name)
        assert 10 <= len(tool.description) <= 1_024, tool.name
        assert schema["type"] == "object"
        assert not schema.keys() & {"anyOf", "oneOf", "allOf", "not", "enum", "$ref", "$defs"}
        assert not_for_every_model(schema) == [], tool.name
        assert all(re.fullmatch(r"[A-Za-z0-9_.-]{1,64}", name) for name in schema["properties"])
        assert schema_problem(schema) == ""
        if tool.name in ("custom_api_call", "custom_data_processing", "fetch_page", "read_result"):
            assert "Example: {" in tool.description
            example = json.loads(tool.description.partition("Example: ")[2])
            assert example.keys() <= schema["properties"].keys()


def test_arguments_of_an_operation(whole: Whole) -> None:
    """oa-args: nothing is sent where an argument is missing, too large or unknown; the error names each of them, its
    rule and the nearest name."""
    calls = CASES["oa-args"]["input"]["calls"]
    words = (
        ["limit is missing", "it must be an integer and be at most 100"],
        ["limit must be at most 100, it is 500"],
        ["limt is not an argument of listThings", "did you mean limit?"],
    )
    before = len(whole.server.seen)
    for arguments, wanted in zip(calls, words, strict=True):
        reply = whole.call("listThings", arguments)
        assert not reply.success
        assert details(reply.status).status.code == Code.INVALID_ARGUMENT
        assert [word for word in wanted if word not in reply.error] == []
    assert len(whole.server.seen) == before
    assert whole.call("listThings", {"limit": 5}).success


def test_servers_of_a_document(whole: Whole) -> None:
    """oa-servers: a relative server is the document's own host; an operation's own server is under the policy, too."""
    assert json.loads(whole.call("listThings", {"limit": 5}).result)["target"] == "/api/v3/x?limit=5"
    reply = whole.call("elsewhere")
    assert reply.error == "Unknown tool: elsewhere"
    whole.plugin.wait_for_log("2 usable, 1 refused")


def test_a_binary_answer(whole: Whole) -> None:
    """oa-binary: of an operation too, what is no text comes as base64 with its media type, byte for byte."""
    about = CASES["oa-binary"]["input"]["response"]
    raw = base64.b64decode(about["body_b64"])
    whole.server.on("/api/v3/picture", Play([raw], headers=[("Content-Type", about["content_type"])]))
    reply = whole.call("picture")
    assert (reply.content_type, base64.b64decode(reply.result)) == ("image/png", raw)
    assert reply.metadata["encoding"] == "base64"


def test_too_many_requests(whole: Whole) -> None:
    """err-429: the wait is in the status, in metadata and in the words; the body is there."""
    about = CASES["err-429"]["input"]
    whole.server.on("/busy", Play([about["body"].encode()], about["status"], [*about["headers"].items()]))
    reply = whole.call("custom_api_call", {"url": whole.url("/busy"), "timeout": 6})  # not for 7 s
    told = details(reply.status)
    assert (reply.success, reply.result) == (False, "slow")
    assert (told.status.code, told.reason, told.retry_after) == (Code.RESOURCE_EXHAUSTED, "RATE_LIMITED", 7)
    metadata = MessageToDict(reply.metadata)
    assert (metadata["status"], metadata["retryable"], metadata["retry_after_s"]) == (429, True, 7)


def test_pages(whole: Whole) -> None:
    """page-encoding and page-table-link, through the socket."""
    for number, page in enumerate(CASES["page-encoding"]["input"]["pages"]):
        raw = base64.b64decode(page["body_b64"])
        whole.server.on(f"/page-{number}", Play([raw], headers=[("Content-Type", page["content_type"])]))
        result = whole.call("fetch_page", {"url": whole.url(f"/page-{number}")}).result
        assert page["want"] in result
        assert "\ufffd" not in result
    case = CASES["page-table-link"]
    whole.server.on("/d/p", Play([case["input"]["html"].encode()], headers=[("Content-Type", "text/html")]))
    result = whole.call("fetch_page", {"url": whole.url("/d/p")}).result
    for wanted in case["expect"]["markdown_contains"]:
        assert wanted.replace("{PORT}", str(whole.server.port)) in result


def test_secrets_stay_here(whole: Whole) -> None:
    """Keys and tokens are sent to their origin, and are in nothing that comes back, though the server says them."""
    reply = whole.call("custom_api_call", {"url": whole.url("/echo")})
    assert whole.server.seen[-1].headers["x-api-key"] == KEY
    assert json.loads(reply.result)["headers"]["x-api-key"] == "***"
    reply = whole.call("with_token")
    assert whole.server.seen[-1].headers["authorization"] == f"Bearer {TOKEN}"
    assert "Bearer ***" in reply.result
    for text in (str(reply), reply.result):
        assert TOKEN not in text
        assert KEY not in text


def test_a_declared_tool(whole: Whole) -> None:
    """An endpoint in the settings is called as declared, and of its answer comes what the expression takes."""
    reply = whole.call("find_city", {"country": "no/se", "name": "Å"})
    assert MessageToDict(reply.structured) == {"asked": "/cities/no%2Fse?name=%C3%85"}
    assert "parameters.country" in dict(details(whole.call("find_city", {"name": "x"}).status).violations)


def test_a_refusal(whole: Whole) -> None:
    """What the policy refuses names the rule and the setting, and is a security event with the host and no query."""
    reply = whole.call("fetch_page", {"url": "http://169.254.169.254/latest?token=hidden-query"})
    told = details(reply.status)
    assert told.reason == "BLOCKED_PORT"
    assert (told.metadata["rule"], told.metadata["setting"]) == ("allowed_ports", "allowed_ports")
    whole.plugin.wait_for_log("event=security tool=fetch_page host=169.254.169.254")
    assert "hidden-query" not in whole.plugin.stderr()


def test_a_long_result_once_fetched(whole: Whole) -> None:
    """A long answer is fetched once, read to its end and searched; the same call_id gives it without a request."""
    text = "".join(f"{number} bottles of beer\n" for number in range(9_000, 0, -1))
    whole.server.on("/song", text.encode())
    before = len(whole.server.seen)
    arguments = {"url": whole.url("/song")}
    first = whole.call("custom_api_call", arguments, call_id="song")
    assert first.truncated
    parts, reply = [], first
    while True:
        parts.append(re.sub(r"\n\n\[characters [^\]]*\]\Z", "", reply.result))
        if not reply.next_cursor:
            break
        reply = whole.call("custom_api_call", cursor=reply.next_cursor)
    assert "".join(parts) == text
    found = whole.call("read_result", {"cursor": first.next_cursor, "find": "4711 bottles"})
    assert MessageToDict(found.structured)["hits"] == 1
    assert "4711 bottles of beer" in found.result
    assert whole.call("custom_api_call", arguments, call_id="song") == first
    assert len(whole.server.seen) == before + 1


def test_check_prints_the_report(tmp_path: Path) -> None:
    """--check reads the documents and says of each operation what became of it."""
    file = tmp_path / "things.json"
    file.write_text(json.dumps(DOCUMENT | {"servers": [{"url": "https://api.test"}]}), encoding="utf-8")
    setting = json.dumps({"things": {"document": str(file)}})
    done = run_plugin("plugins.tools_http", "--check", env={"TOOLS_HTTP__OPENAPI": setting})
    assert (done.returncode, done.stderr) == (0, "")
    assert "things: 2 tools of Things: 2 usable, 1 refused" in done.stdout
    assert re.search(r"GET +/x +listThings", done.stdout)
    assert re.search(r"POST +/x +\(refused\)\n +refused: .*allowed_", done.stdout)
    bad = run_plugin(
        "plugins.tools_http", "--check", env={"TOOLS_HTTP__OPENAPI": json.dumps({"a": {"document": "/x"}})}
    )
    assert bad.returncode == 2
    assert re.fullmatch(r"error: .*openapi: 'a'.*cannot be read.*\n", bad.stderr)
