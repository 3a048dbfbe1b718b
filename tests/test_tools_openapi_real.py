"""Parts of three known APIs become tools, and each kind of operation is called for real, through the policy and over a
connection to a local server."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator, Mapping
from email.message import Message
from email.parser import BytesParser
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import jsonschema_rs
import pytest

from plugins.tools_http.engine.declared import read_tools
from plugins.tools_http.engine.model_schema import for_models
from plugins.tools_http.engine.openapi import Imported, import_document
from plugins.tools_http.engine.openapi.settings import read_settings
from plugins.tools_http.engine.operation import Sender
from plugins.tools_http.engine.outcome import output_of
from plugins.tools_http.engine.redaction import Redactor
from plugins.tools_http.engine.tool import Call, Output, Tool
from shared.json_schema import complaint
from tests.tools_apis import named, not_for_every_model
from tests.tools_world import Play, Seen, World

DOCUMENTS = Path(__file__).parent / "openapi"
NAMES = ("github", "stripe", "openai")
SERVERS = {"https://api.github.com": "", "https://uploads.github.com": "/uploads", "https://api.stripe.com": "",
           "https://files.stripe.com": "/files", "https://api.openai.com": ""}  # fmt: skip
JSON = [("Content-Type", "application/json")]


@pytest.fixture
def world() -> Iterator[World]:
    with World(policy={"allowed_methods": ["*"]}) as world:
        world.on("*", Play([b'{"ok": true}'], headers=JSON))
        yield world


def load(world: World, name: str, **settings: Any) -> Imported:
    """The document with its servers led to the world's."""
    text = (DOCUMENTS / f"{name}.yaml").read_text(encoding="utf-8")
    for server, path in SERVERS.items():
        text = text.replace(server, world.server.url + path)
    about = read_settings({name: {"document": f"{name}.yaml", **settings}})[0]
    sender = Sender(world.client, output_of, Redactor(), 2**20)

    def refusal(url: str, method: str) -> str:
        error = world.rules.decide(url, method).error
        return error.message if error else ""

    return import_document(text.encode(), "", about, sender, {}, 60, refusal)


def run(world: World, tool: Tool, **arguments: Any) -> Output:
    assert not (problem := complaint(arguments, tool.parameters)), problem
    assert tool.run is not None
    return world.run(tool.run(arguments, Call(time.monotonic() + 30)))


def last(world: World) -> Seen:
    return world.server.seen[-1]


def everything(schema: Any) -> Iterator[Mapping[str, Any]]:
    pending = [schema]
    while pending:
        node = pending.pop()
        if isinstance(node, dict):
            yield node
            pending += node.values()
        elif isinstance(node, list):
            pending += node


@pytest.mark.parametrize("name", NAMES)
def test_schemas_that_models_take(name: str, world: World) -> None:
    """Each operation becomes a tool whose schema is one by draft 2020-12 and has nothing that a model's API refuses."""
    result = load(world, name, deprecated=True)
    assert all(operation.status == "tool" for operation in result.report.operations), result.report.table()
    assert result.tools
    for tool in result.tools:
        assert re.fullmatch(r"[A-Za-z0-9_-]{1,64}", tool.name)
        assert 0 < len(tool.description) <= 1024
        jsonschema_rs.meta.validate({"$schema": "https://json-schema.org/draft/2020-12/schema", **tool.parameters})
        assert tool.parameters["type"] == "object"
        assert not tool.parameters.keys() & {"anyOf", "oneOf", "allOf", "not", "enum", "$ref", "$defs"}
        assert not_for_every_model(for_models(tool.parameters)) == [], tool.name
        for node in everything(tool.parameters):
            assert not isinstance(node.get("$ref"), str)
            if isinstance(properties := node.get("properties"), dict):
                assert all(re.fullmatch(r"[A-Za-z0-9_-]{1,64}", key) for key in properties)


def test_github(world: World) -> None:
    """Queries, JSON with nulls and choices, PATCH, PUT, DELETE, text and bytes, and a server of uploads."""
    tools = load(world, "github", credentials={"token": "ghp-s3cret"}).tools
    where = {"owner": "octo", "repo": "hello"}
    output = run(world, named(tools, "issues_list-for-repo"), **where, labels="bug,ui", per_page=5)
    assert output.structured == {"ok": True}
    assert last(world).target == "/repos/octo/hello/issues?labels=bug%2Cui&per_page=5"
    assert last(world).headers["authorization"] == "Bearer ghp-s3cret"
    create = named(tools, "issues_create")
    run(world, create, **where, title="Tür", milestone=None, labels=["bug", {"name": "new", "color": None}])
    assert (last(world).method, last(world).headers["content-type"]) == ("POST", "application/json")
    labels = ["bug", {"name": "new", "color": None}]
    assert json.loads(last(world).body) == {"title": "Tür", "milestone": None, "labels": labels}
    assert complaint({**where, "title": "x", "labels": [{"id": 5, "color": "red"}]}, create.parameters)
    run(world, named(tools, "issues_update"), **where, issue_number=7, state="closed", state_reason=None)
    assert (last(world).method, json.loads(last(world).body)) == ("PATCH", {"state": "closed", "state_reason": None})
    lock = named(tools, "issues_lock")
    run(world, lock, **where, issue_number=7)
    assert (last(world).method, last(world).body) == ("PUT", b"")
    world.on("/repos/octo/hello/labels/good%20first", Play(status=204))
    output = run(world, named(tools, "issues_delete-label"), **where, name="good first")
    assert (last(world).method, output.error, output.metadata["status"]) == ("DELETE", None, 204)
    run(world, named(tools, "repos_get-content"), **where, path="docs/a b.md")
    assert last(world).target == "/repos/octo/hello/contents/docs%2Fa%20b.md"
    run(world, named(tools, "markdown_render-raw"), body="# Tür")
    assert (last(world).headers["content-type"], last(world).body) == ("text/plain; charset=utf-8", "# Tür".encode())
    run(world, named(tools, "repos_upload-release-asset"), **where, release_id=1, name="a.bin", body="AP8K")
    assert last(world).target == "/uploads/repos/octo/hello/releases/1/assets?name=a.bin"
    assert last(world).body == b"\x00\xff\n"
    assert "activity_get-repo-subscription" not in [tool.name for tool in tools]


def test_an_error_keeps_its_body(world: World) -> None:
    """A 422 is an error whose body the model gets, a 401 as well."""
    world.on("/repos/o/r/issues", Play([b'{"message": "no title"}'], status=422, headers=JSON), Play(status=401))
    create = named(load(world, "github").tools, "issues_create")
    output = run(world, create, owner="o", repo="r", title="")
    assert output.error is not None
    assert output.structured == {"message": "no title"}
    again = run(world, create, owner="o", repo="r", title="").error
    assert again is not None
    assert again.reason == "UPSTREAM_UNAUTHENTICATED"


def test_stripe(world: World) -> None:
    """Deep objects in queries and forms, choices of an object and a text, basic authentication, a file of a form."""
    tools = load(world, "stripe", credentials={"basicAuth": {"username": "sk-test", "password": "none-at-all"}}).tools
    run(world, named(tools, "GetCustomers"), created={"gte": 1, "lt": 2}, expand=["data.tax"], limit=3)
    query = urlsplit(last(world).target).query
    assert parse_qsl(query) == [("created[gte]", "1"), ("created[lt]", "2"), ("expand[0]", "data.tax"), ("limit", "3")]
    assert last(world).headers["authorization"].startswith("Basic ")
    run(world, named(tools, "GetCustomers"), created=5)
    assert last(world).target == "/v1/customers?created=5"
    address, metadata = {"city": "Ulm", "line1": ""}, {"k y": "v"}
    run(world, named(tools, "PostCustomers"), email="a+b@c.test", address=address, metadata=metadata, expand=["x"])
    assert last(world).headers["content-type"] == "application/x-www-form-urlencoded"
    assert sorted(parse_qsl(last(world).body.decode(), keep_blank_values=True)) == [
        ("address[city]", "Ulm"), ("address[line1]", ""), ("email", "a+b@c.test"), ("expand[0]", "x"),
        ("metadata[k y]", "v"),
    ]  # fmt: skip
    run(world, named(tools, "PostCustomers"), metadata="", tax_exempt="")
    assert parse_qsl(last(world).body.decode(), keep_blank_values=True) == [("metadata", ""), ("tax_exempt", "")]
    run(world, named(tools, "PostCustomers"))
    assert last(world).body == b""
    run(world, named(tools, "PostFiles"), purpose="business_logo", file={"base64": "iVBORw==", "filename": "l.png"})
    assert last(world).target == "/files/v1/files"
    head = f"Content-Type: {last(world).headers['content-type']}\r\n\r\n".encode()
    parts = BytesParser().parsebytes(head + last(world).body).get_payload()
    assert isinstance(parts, list)
    names = [str(part["content-disposition"]) for part in parts if isinstance(part, Message)]
    assert sorted(names) == ['form-data; name="file"; filename="l.png"', 'form-data; name="purpose"']
    assert b"\r\n\r\n\x89PNG\r\n--" in last(world).body


def test_openai(world: World) -> None:
    """OpenAPI 3.1: choices, nulls, a recursive filter, a file up, and bytes down."""
    tools = load(world, "openai", credentials={"ApiKeyAuth": "sk-s3cret"}).tools
    embed = named(tools, "createEmbedding")
    run(world, embed, model="text-embedding-3-small", input=["a", "b"])
    assert json.loads(last(world).body) == {"model": "text-embedding-3-small", "input": ["a", "b"]}
    assert last(world).headers["authorization"] == "Bearer sk-s3cret"
    for wrong in ({"model": "m"}, {"model": "m", "input": ""}, {"model": "m", "input": "x", "dimension": 3}):
        assert complaint(wrong, embed.parameters)
    equal = {"type": "eq", "key": "k", "value": 1}
    search = named(tools, "searchVectorStore")
    nested = {"type": "and", "filters": [equal, {"type": "or", "filters": [equal]}]}
    run(world, search, vector_store_id="vs_1", query="q", filters=nested, rewrite_query=None)
    assert json.loads(last(world).body)["filters"] == nested
    assert complaint({"vector_store_id": "v", "query": "q", "filters": {**equal, "type": "=="}}, search.parameters)
    run(world, named(tools, "createFile"), purpose="batch", file={"text": "{}\n", "filename": "b.jsonl"})
    assert b'name="file"; filename="b.jsonl"' in last(world).body
    picture = Play([b"\x89PNG\r\n\x1a\n\x00\x01\xff\xfe"], headers=[("Content-Type", "image/png")])
    world.on("/v1/files/f-1/content", picture)
    output = run(world, named(tools, "downloadFile"), file_id="f-1")
    assert (output.text, output.content_type) == ("iVBORw0KGgoAAf/+", "image/png")
    run(world, named(tools, "deleteFile"), file_id="f-1")
    assert (last(world).method, last(world).target) == ("DELETE", "/v1/files/f-1")


def test_credentials_stay_with_their_origin(world: World) -> None:
    """A redirect to another origin loses the key, and the policy is asked about an operation's own server too."""
    with World() as other:
        other.on("/stolen", b"{}")
        world.server.redirect("/repos/o/r/contents/x", other.server.url + "/stolen", 307)
        tools = load(world, "github", credentials={"token": "ghp-s3cret"}).tools
        run(world, named(tools, "repos_get-content"), owner="o", repo="r", path="x")
        assert other.server.targets == ["/stolen"]
        assert "authorization" not in other.server.seen[0].headers
    with World(policy={"allowed_hosts": ["api.test"]}) as closed:
        report = load(closed, "github").report
        assert {operation.status for operation in report.operations} == {"refused", "left out"}
        assert "allowed_hosts" in report.operations[0].reason


def test_a_token_for_real(world: World) -> None:
    """A token is fetched from a real server once, used, and renewed when the API says 401."""
    answers = (json.dumps({"access_token": f"token-{i}", "expires_in": 3600}).encode() for i in (1, 2))
    world.on("/token", *(Play([answer], headers=JSON) for answer in answers))

    def api(seen: Seen) -> Play:
        fresh = seen.headers.get("authorization") == "Bearer token-2"
        return Play([b'{"hits": [{"id": "00123"}]}'], status=200 if fresh else 401, headers=JSON)

    world.on("/api", api)
    oauth = {"token_url": f"{world.server.url}/token", "client_id": "me", "client_secret": "s3cret-1"}
    url = f"{world.server.url}/api"
    about = {"description": "d", "url": url, "credential": {"oauth2": oauth}, "answer": "hits[].id"}
    [tool] = read_tools({"find": about}, Sender(world.client, output_of, Redactor(), 2**20), {}, None, 5)
    for _ in range(3):
        assert run(world, tool).structured == ["00123"]
    assert world.server.targets == ["/token", "/api", "/token", "/api", "/api", "/api"]
    assert world.server.seen[0].body == b"grant_type=client_credentials"
