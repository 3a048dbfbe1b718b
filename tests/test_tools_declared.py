"""Tools that an operator writes in YAML: what they send, take from an answer, and what is refused at the start."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import pytest
import yaml

from plugins.tools_http.engine.credentials import read_credentials
from plugins.tools_http.engine.declared import read_tools
from plugins.tools_http.engine.exchange import Request, Response
from plugins.tools_http.engine.redaction import Redactor
from plugins.tools_http.engine.tool import Call, Output, Tool
from plugins.tools_http.engine.workers import Workers
from shared.errors import CallerError, InvalidArgument, LimitReached, StartError
from shared.json_schema import complaint
from tests.tools_apis import FakeClient, call, named, response, sender

CITIES = """
find_city:
  description: Finds cities.
  url: https://api.test/v1/{country}/cities?fields=all
  parameters:
    country: {in: path, type: string, enum: [de, fr]}
    name: {type: string, required: true, description: The name or its beginning.}
    limit: {schema: {type: integer, maximum: 100}, default: 10}
    trace: {in: header, name: X-Trace, type: string}
    lang: {in: cookie, type: string}
    version: {in: header, name: X-Api-Version, value: "2024-06"}
  headers: {X-API-Key: sesame-open, Accept: application/json}
  answer: "cities[].{id: id, name: name}"
"""
ORDER = """
place_order:
  description: Places an order.
  method: POST
  url: https://shop.test/orders
  parameters:
    item: {type: string, required: true}
    count: {type: integer, name: quantity}
    source: {value: agent}
    dry: {in: query, name: dry_run, type: boolean}
  credential: {basic: "me:secret", query: {tenant: t-1234567}}
  idempotency_key: Idempotency-Key
"""


def tools(
    text: str,
    client: FakeClient | None = None,
    credentials: dict[str, Any] | None = None,
    redactor: Redactor | None = None,
) -> list[Tool]:
    client, redactor = client or FakeClient(), redactor or Redactor()
    sources = read_credentials(credentials or {}, client, redactor)
    return read_tools(yaml.safe_load(text), sender(client, redactor=redactor), sources, None, 5)


def test_a_get_with_everything() -> None:
    """Path, query, header, cookie and fixed parameters go where they are declared, a default goes along, and a secret
    header goes as a credential bound to the origin."""
    client = FakeClient(lambda request: response({"cities": [{"id": 1, "name": "Ulm", "x": 2}]}))
    tool = tools(CITIES, client)[0]
    output = call(tool, {"country": "de", "name": "U&l m", "trace": "t1", "lang": "en"})
    assert output.structured == [{"id": 1, "name": "Ulm"}]
    assert json.loads(output.text) == output.structured
    [request] = client.requests
    assert request.url == "https://api.test/v1/de/cities?fields=all&name=U%26l%20m&limit=10"
    assert (request.method, request.body) == ("GET", None)
    assert dict(request.headers) == {
        "Accept": "application/json", "X-Trace": "t1", "Cookie": "lang=en", "X-Api-Version": "2024-06",
    }  # fmt: skip
    assert request.credential is not None
    assert request.credential.origin == "https://api.test"
    assert request.credential.headers == {"X-API-Key": "sesame-open"}
    assert tool.read_only
    assert tool.idempotent
    assert not tool.destructive
    assert set(tool.parameters["properties"]) == {"country", "name", "limit", "trace", "lang"}
    assert tool.parameters["required"] == ["country", "name"]


def test_a_post_with_a_body() -> None:
    """Parameters of a POST are fields of a JSON body under the API's names, fixed ones included; the idempotency key
    is the same for the same call and makes it repeatable."""
    client = FakeClient()
    tool = tools(ORDER, client)[0]
    call(tool, {"item": "tea", "count": 2.0, "dry": True}, "call-1")
    call(tool, {"item": "tea", "count": 2.0, "dry": True}, "call-1")
    call(tool, {"item": "tea", "count": 3}, "call-1")
    call(tool, {"item": "tea"})
    call(tool, {"item": "tea"})
    first = client.requests[0]
    assert first.url == "https://shop.test/orders?dry_run=true"
    assert first.body == b'{"item":"tea","quantity":2,"source":"agent"}'
    assert first.repeatable
    assert first.credential is not None
    assert first.credential.headers == {"Authorization": "Basic bWU6c2VjcmV0"}
    assert first.credential.query == {"tenant": "t-1234567"}
    keys = [dict(request.headers)["Idempotency-Key"] for request in client.requests]
    assert keys[0] == keys[1]
    assert len(set(keys)) == 4
    assert (tool.read_only, tool.idempotent) == (False, True)


@pytest.mark.parametrize(
    "arguments",
    [{}, {"country": "de"}, {"country": "it", "name": "x"}, {"country": "de", "name": "x", "limit": 500},
     {"country": "de", "name": "x", "limt": 5}],
)  # fmt: skip
def test_schemas_refuse(arguments: dict[str, Any]) -> None:
    """What is missing, past a bound, or has an unknown name does not hold to the tool's schema."""
    assert complaint(arguments, tools(CITIES)[0].parameters)


def test_secrets() -> None:
    """Every header but the public ones and every credential is kept from the model, as Base64 too; names of users and
    public headers are not."""
    about = {"basic": {"username": "marianne", "password": "pw-12345"}, "headers": {"X": "Key k-123456"}}
    text = f"t: {{description: d, url: 'https://a.test/', credential: {json.dumps(about)}}}"
    redactor = Redactor()
    tools(CITIES, redactor=redactor)
    tools(text, redactor=redactor, credentials={"https://b.test": {"bearer": "tok-12345", "query": {"k": "q-123456"}}})
    for secret in ("sesame-open", "pw-12345", "k-123456", "bWFyaWFubmU6cHctMTIzNDU=", "tok-12345", "q-123456"):
        assert redactor.clean(f"<{secret}>") == "<***>"
    assert redactor.clean("marianne application/json") == "marianne application/json"


def test_credentials_by_origin() -> None:
    """The setting `credentials` serves a declared tool of that origin, and no tool of another port or scheme."""
    text = "".join(
        f"{name}: {{description: d, url: '{url}'}}\n"
        for name, url in {
            "same": "https://A.test:443/x",
            "port": "https://a.test:8443/x",
            "http": "http://a.test/",
        }.items()
    )
    client = FakeClient()
    declared = tools(text, client, {"https://a.test": {"bearer": "key"}})
    for tool in declared:
        call(tool, {})
    assert [request.credential and request.credential.headers for request in client.requests] == [
        {"Authorization": "Bearer key"}, None, None,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("value", "reason"),
    [("", "BAD_ARGUMENTS"), (".", "BAD_PATH"), ("..", "BAD_PATH"), ("../admin", "BAD_PATH"), ("a/../../b", "BAD_PATH"),
     ("..\\x", "BAD_PATH"), ("%2e%2e", "BAD_PATH"), ("%252e%252e/x", "BAD_PATH"), ("..;/x", "BAD_PATH"),
     ("a\nb", "BAD_PATH"), ("\ud800", "BAD_ARGUMENTS")],
)  # fmt: skip
def test_paths_that_lead_elsewhere(value: str, reason: str) -> None:
    """An argument cannot leave its place in a path: empty values, dot segments in every disguise and control
    characters are refused before anything is sent."""
    client = FakeClient()
    declared = tools("t: {description: d, url: 'https://a.test/v1/{x}/y', parameters: {x: {type: string}}}", client)
    with pytest.raises(InvalidArgument) as raised:
        call(declared[0], {"x": value})
    assert raised.value.reason == reason
    assert not client.requests


@pytest.mark.parametrize(
    ("value", "sent"),
    [("a/b", "a%2Fb"), ("a?b#c", "a%3Fb%23c"), ("ü ;x", "%C3%BC%20%3Bx"), ("...", "..."), ("a..b", "a..b"),
     ("{y}", "%7By%7D"), ("a.", "a.")],
)  # fmt: skip
def test_paths_that_stay(value: str, sent: str) -> None:
    """Everything else stands in its own segment, percent-encoded."""
    client = FakeClient()
    declared = tools("t: {description: d, url: 'https://a.test/v1/{x}/y', parameters: {x: {type: string}}}", client)
    call(declared[0], {"x": value})
    assert client.requests[0].url == f"https://a.test/v1/{sent}/y"


def test_two_parameters_in_one_segment() -> None:
    """Two dots from two arguments are a dot segment too."""
    declared = tools(
        "t: {description: d, url: 'https://a.test/{x}{y}', parameters: {x: {type: string}, y: {type: string}}}"
    )
    with pytest.raises(InvalidArgument):
        call(declared[0], {"x": ".", "y": "."})


def test_headers_hold_one_line_of_ascii() -> None:
    """A header argument with a line end or more than ASCII is refused by its name."""
    declared = tools(CITIES)
    for value in ("a\r\nX-Evil: 1", "日本"):
        with pytest.raises(InvalidArgument, match="trace") as raised:
            call(declared[0], {"country": "de", "name": "x", "trace": value})
        assert raised.value.violations[0][0] == "trace"


def test_an_answer_of_another_shape() -> None:
    """Where the expression does not fit, or the answer is no JSON, the call fails and the answer is kept."""
    for body, content_type in (("<html>", "text/html"), ('{"cities": 5}', "application/json")):
        client = FakeClient(lambda request, body=body, kind=content_type: response(body, 200, kind))  # type: ignore[misc]
        text = CITIES.replace('"cities[].{id: id, name: name}"', "length(cities)")
        output = call(tools(text, client)[0], {"country": "de", "name": "x"})
        assert output.error is not None
        assert output.error.reason == "ANSWER_MISMATCH"
        assert output.text == body


def test_a_number_that_json_cannot_hold() -> None:
    """1e999 in an answer is read as infinity, which is no JSON: the call fails, and the answer is kept."""
    body = '{"cities": [{"id": 1e999, "name": "x"}]}'
    output = call(tools(CITIES, FakeClient(lambda request: response(body)))[0], {"country": "de", "name": "x"})
    assert output.error is not None
    assert output.error.reason == "ANSWER_MISMATCH"
    assert output.text == body


def test_an_error_is_not_taken_apart() -> None:
    """The body of a 404 comes whole, the expression is not used on it."""
    client = FakeClient(lambda request: response({"why": "gone"}, 404))
    output = call(tools(CITIES, client)[0], {"country": "de", "name": "x"})
    assert output.error is not None
    assert output.structured == {"why": "gone"}


def test_large_answers_go_to_a_worker() -> None:
    """An answer of more than some kB is taken apart by a process, within the time that the call has left."""
    jobs: list[tuple[str, float]] = []

    class Workers:
        async def run(self, job: str, payload: bytes, *, seconds: float) -> bytes:
            jobs.append((job, seconds))
            from plugins.tools_http.engine import answers

            return answers.job(payload)

    client = FakeClient(lambda request: response({"cities": [{"id": i, "name": "x" * 50} for i in range(5_000)]}))
    declared = read_tools(yaml.safe_load(CITIES), sender(client), {}, Workers(), 5)
    output = call(declared[0], {"country": "de", "name": "x"})
    assert output.structured_json == output.text
    assert len(json.loads(output.text)) == 5_000
    [(job, seconds)] = jobs
    assert job == "plugins.tools_http.engine.answers:job"
    assert 0 < seconds <= 5


def test_a_large_answer_for_real() -> None:
    """A real process takes a large answer apart, and one that is no JSON is an error that keeps it."""
    body = json.dumps({"cities": [{"id": f"{i:05}", "name": "x" * 50} for i in range(5_000)]}).encode()
    client = FakeClient(lambda request: response(body))

    async def run() -> list[Output]:
        workers = Workers(1, memory=2**29)
        await workers.start()
        try:
            [tool] = read_tools(yaml.safe_load(CITIES), sender(client), {}, workers, 30)
            assert tool.run is not None
            first = await tool.run({"country": "de", "name": "x"}, Call(time.monotonic() + 60))
            client.answer = lambda request: response(body[:-1])
            return [first, await tool.run({"country": "de", "name": "x"}, Call(time.monotonic() + 60))]
        finally:
            await workers.close()

    good, broken = asyncio.run(run())
    assert json.loads(good.structured_json or "")[4_999] == {"id": "04999", "name": "x" * 50}
    assert broken.error is not None
    assert broken.error.reason == "ANSWER_MISMATCH"
    assert broken.text == body[:-1].decode()


def test_a_large_body_leaves_the_loop_free() -> None:
    """Arguments of a megabyte are written by a thread."""
    client = FakeClient()
    call(tools(ORDER, client)[0], {"item": "x" * 900_000})
    assert len(client.requests[0].body or b"") > 900_000


def test_a_body_that_is_too_large() -> None:
    """A body past max_body_bytes is refused, the setting named."""
    client = FakeClient()
    declared = read_tools(yaml.safe_load(ORDER), sender(client, 100), {}, None, 5)
    with pytest.raises(LimitReached, match="max_body_bytes"):
        call(declared[0], {"item": "x" * 100})
    assert not client.requests


def test_nested_past_all_depth() -> None:
    """A value of a thousand levels is an error of the caller's."""
    declared = tools("t: {description: d, method: POST, url: 'https://a.test/', parameters: {x: {type: object}}}")
    deep: Any = {}
    for _ in range(5_000):
        deep = {"x": deep}
    assert declared[0].run is not None
    with pytest.raises(CallerError):
        asyncio.run(declared[0].run({"x": deep}, Call(time.monotonic() + 5)))  # type: ignore[arg-type]


FORM = """
send_form:
  description: d
  method: POST
  url: https://a.test/form
  body: form
  parameters:
    name: {type: string}
    tags: {type: array, items: {type: string}}
    where: {type: object}
    filter: {type: object, style: deepObject}
upload:
  description: d
  method: POST
  url: https://a.test/upload
  body: multipart
  parameters:
    title: {type: string}
    photo: {file: true}
note:
  description: d
  method: PUT
  url: https://a.test/note
  body: text/markdown
  parameters: {text: {in: whole_body, type: string}}
"""


def test_forms() -> None:
    """A form has repeated names for arrays, JSON for objects, brackets where deepObject is declared."""
    client = FakeClient()
    arguments = {"name": "a b&c", "tags": ["x", "y"], "where": {"z": 1}, "filter": {"a": {"b": 2}}}
    call(named(tools(FORM, client), "send_form"), arguments)
    assert client.requests[0].body == b"name=a+b%26c&tags=x&tags=y&where=%7B%22z%22%3A1%7D&filter%5Ba%5D%5Bb%5D=2"
    assert dict(client.requests[0].headers)["Content-Type"] == "application/x-www-form-urlencoded"


def test_files() -> None:
    """A file comes as base64 and leaves as a part with its name and type."""
    client = FakeClient()
    tool = named(tools(FORM, client), "upload")
    call(
        tool,
        {"title": "Tür", "photo": {"base64": "iVBORw0KGgoAAf/+", "filename": 'a"b.png', "content_type": "image/png"}},
    )
    request = client.requests[0]
    content_type = dict(request.headers)["Content-Type"]
    boundary = content_type.partition("boundary=")[2]
    assert (
        request.body
        == (
            f'--{boundary}\r\nContent-Disposition: form-data; name="title"\r\n\r\nTür\r\n'
            f'--{boundary}\r\nContent-Disposition: form-data; name="photo"; filename="a%22b.png"\r\n'
            "Content-Type: image/png\r\n\r\n"
        ).encode()
        + b"\x89PNG\r\n\x1a\n\x00\x01\xff\xfe"
        + f"\r\n--{boundary}--\r\n".encode()
    )
    for file in ({"base64": "!"}, {"base64": "YQ==", "text": "a"}, {}, {"base64": "YQ==", "content_type": "a\r\nb: c"}):
        with pytest.raises(InvalidArgument, match="photo"):
            call(tool, {"photo": file})


def test_text_bodies() -> None:
    """A whole body of text goes as it is, as UTF-8, with the media type that is declared."""
    client = FakeClient()
    call(named(tools(FORM, client), "note"), {"text": "# Tür"})
    assert client.requests[0].body == "# Tür".encode()
    assert dict(client.requests[0].headers)["Content-Type"] == "text/markdown; charset=utf-8"
    assert client.requests[0].method == "PUT"


@pytest.mark.parametrize(
    ("about", "message"),
    [
        ("{url: 'https://a.test/'}", "description is missing; write it as text"),
        ("{description: d}", "url is missing"),
        ("{description: '', url: 'https://a.test/'}", "description is empty"),
        ("{description: 5, url: 'https://a.test/'}", "description must be text; put it in quotes"),
        ("{description: d, url: 'ftp://a.test/'}", "http or https"),
        ("{description: d, url: 'https://{x}.test/'}", "in its path only"),
        ("{description: d, url: 'https://me:pw@a.test/'}", "user or password"),
        ("{description: d, url: 'https://a.test/{x}'}", "{x} of the url is no parameter"),
        ("{description: d, url: 'https://a.test/?q={x}'}", "in: query"),
        ("{description: d, url: 'https://a.test/{x'}", "without its name"),
        ("{description: d, url: 'https://a.test/?appid=s3cr3t'}", "'appid' looks like a secret"),
        ("{description: d, url: 'https://a.test/', metod: GET}", "did you mean 'method'"),
        ("{description: d, url: 'https://a.test/', method: TRACE}", "method must be one of"),
        ("{description: d, url: 'https://a.test/', answer: 'a[['}", "no JMESPath"),
        ("{description: d, url: 'https://a.test/', parameters: {'a b': {type: string}}}", "no name that every model"),
        ("{description: d, url: 'https://a.test/', parameters: {a: {in: path, type: string}}}", "no {a}"),
        ("{description: d, url: 'https://a.test/', parameters: {a: {type: strng}}}", "cannot be used"),
        ("{description: d, url: 'https://a.test/', parameters: {a: {}}}", "say its `type`"),
        ("{description: d, url: 'https://a.test/', parameters: {a: {schema: {$ref: '#/x'}, type: string}}}", "$ref"),
        ("{description: d, url: 'https://a.test/', parameters: {a: {type: string, in: body}}}", "has no body"),
        ("{description: d, url: 'https://a.test/', parameters: {a: {type: string, style: form, in: header}}}", "style"),
        ("{description: d, url: 'https://a.test/', credential: {}}", "is empty"),
        ("{description: d, url: 'https://a.test/', credential: {bearer: k, basic: 'a:b'}}", "keep one"),
        ("{description: d, url: 'https://a.test/', headers: {X-Key: \"a\\nb\"}}", "printable ASCII"),
        ("{description: d, url: 'https://a.test/', body: json}", "no parameter goes there"),
        ("{description: d, url: 'https://a.test/', headers: {Host: b.test}}", "the transport sets"),
        ("{description: d, url: 'https://a.test/', idempotency_key: 'a b'}", "no name of a header"),
        ("{description: d, url: 'http://a.test', parameters: {a: {type: string, in: header, name: TE}}}", "transport"),
        ("{description: d, method: POST, url: 'https://a.test/', parameters: {a: {file: true}}}", "multipart"),
        ("{description: d, url: 'https://a.test/', read_only: maybe}", "true or false"),
    ],
)  # fmt: skip
def test_what_cannot_start(about: str, message: str) -> None:
    """A mistake in a declared tool is found at the start, in a message that names the tool and never a secret."""
    with pytest.raises(StartError) as raised:
        tools(f"broken_tool: {about}")
    assert message in str(raised.value)
    assert "broken_tool" in str(raised.value)
    assert "s3cr3t" not in str(raised.value)


def test_names_of_tools() -> None:
    """A tool's name is one that every model takes."""
    for name in ("a b", "x" * 65, "ä"):
        with pytest.raises(StartError, match="setting tools"):
            tools(f"'{name}': {{description: d, url: 'https://a.test/'}}")


def test_a_new_token_for_a_401() -> None:
    """OAuth 2: one token for many calls; a call that gets 401 is sent once more with a new token."""
    grants = iter(range(1, 10))

    def answer(request: Request) -> Response:
        if request.url.endswith("/token"):
            return response({"access_token": f"tok-{next(grants)}", "token_type": "Bearer", "expires_in": 3600})
        assert request.credential is not None
        return response({}, 401 if request.credential.headers["Authorization"] == "Bearer tok-1" else 200)

    client = FakeClient(answer)
    text = """
t:
  description: d
  url: https://a.test/x
  credential: {oauth2: {token_url: "https://id.test/token", client_id: me, client_secret: "s:/", scopes: [read, write]}}
"""
    tool = tools(text, client)[0]
    assert call(tool, {}).error is None
    assert call(tool, {}).error is None
    assert [request.url for request in client.requests] == [
        "https://id.test/token", "https://a.test/x", "https://id.test/token", "https://a.test/x", "https://a.test/x",
    ]  # fmt: skip
    token = client.requests[0]
    assert token.method == "POST"
    assert token.body == b"grant_type=client_credentials&scope=read+write"
    assert token.credential is not None
    assert token.credential.origin == "https://id.test"
    assert token.credential.headers == {"Authorization": "Basic bWU6cyUzQSUyRg=="}
