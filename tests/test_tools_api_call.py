"""tools_http: custom_api_call, from the model's arguments to its result, against a real server."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plugins.tools_http.engine.api_call import api_call, request_of
from plugins.tools_http.engine.arguments import check
from plugins.tools_http.engine.credentials import Fixed
from plugins.tools_http.engine.exchange import Credential, Response
from plugins.tools_http.engine.model_schema import for_models
from plugins.tools_http.engine.outcome import MOST_STRUCTURED, json_of, media_type, output_of, text_of
from plugins.tools_http.engine.redaction import Redactor
from plugins.tools_http.engine.tool import ABSENT, Audit, Call, Output
from shared.errors import CallerError, Code, InvalidArgument
from shared.json_schema import complaint, schema_problem
from tests.tools_apis import not_for_every_model
from tests.tools_world import Play, World

TEXT = [("Content-Type", "text/plain; charset=utf-8")]
JSON = [("Content-Type", "application/json")]
KEY = "sesame-open-1"


def call(
    world: World, arguments: dict[str, Any], *, audit: Audit | None = None, seconds: float = 30.0, **how: Any
) -> Output:
    tool = api_call(world.client, **how)
    assert complaint(arguments, tool.parameters) == ""
    assert tool.run is not None
    return world.run(tool.run(arguments, Call(deadline=time.monotonic() + seconds, audit=audit or Audit())))


def refused(world: World, arguments: dict[str, Any], **how: Any) -> CallerError:
    with pytest.raises(CallerError) as error:
        call(world, arguments, **how)
    return error.value


# ---------------------------------------------------------------- what it says of itself


def test_the_schema() -> None:
    """The schema is one that every model API takes: an object without union and reference, enums, defaults, safe names;
    the description has an example that holds to it."""
    with World() as world:
        tool = api_call(world.client, longest=12)
    assert tool.name == "custom_api_call"
    assert schema_problem(tool.parameters) == ""
    assert not_for_every_model(for_models(tool.parameters)) == []
    properties = tool.parameters["properties"]
    assert set(properties) == {"url", "method", "headers", "query", "body", "json", "timeout"}
    assert all(about["type"] and about["description"] for about in properties.values())
    assert (properties["method"]["default"], properties["timeout"]["maximum"]) == ("GET", 12)
    example = json.loads(tool.description.partition("Example: ")[2])
    assert complaint(example, tool.parameters) == ""
    assert not tool.read_only
    for wrong in ({}, {"url": "x", "method": "FETCH"}, {"url": "x", "metod": "GET"}, {"url": "x", "timeout": 0}):
        assert complaint(wrong, tool.parameters)


# ---------------------------------------------------------------- what is sent


def test_the_guides_arguments() -> None:
    """url, method, headers and body, as the guide has them, become the request."""
    with World(policy={"allowed_methods": ["*"]}) as world:
        world.on("/a", Play([b"made"], status=201, headers=TEXT))
        output = call(world, {"url": world.url("/a"), "method": "PUT", "headers": {"X-One": "1"}, "body": "häh"})
        (seen,) = world.server.seen
        assert (seen.method, seen.headers["x-one"], seen.body.decode()) == ("PUT", "1", "häh")
        assert seen.headers["content-type"] == "text/plain; charset=utf-8"
        assert (output.text, output.content_type, output.error) == ("made", "text/plain", None)


def test_query() -> None:
    """The query's parameters are encoded and stand behind those of the URL; lists repeat their name, null is left out,
    numbers and booleans are written as JSON has them."""
    with World() as world:
        world.on("*", b"")
        query = {"q": "a b&c=d/ü#?", "n": 2**60, "f": 1.5, "t": True, "l": ["x", 1, None], "z": None, "ä=": "", "e": []}
        call(world, {"url": world.url("/p?a=1#top"), "query": query})
        assert world.server.targets == [
            "/p?a=1&q=a%20b%26c%3Dd%2F%C3%BC%23%3F&n=1152921504606846976&f=1.5&t=true&l=x&l=1&%C3%A4%3D="
        ]


def test_json() -> None:
    """`json` is the body, exactly, with its media type unless the caller sets one."""
    with World(policy={"allowed_methods": ["*"]}) as world:
        world.on("*", b"")
        value = {"a": [2**60, "ü", None, True, 1e5], "b": {}}
        call(world, {"url": world.url("/"), "method": "POST", "json": value})
        call(
            world,
            {"url": world.url("/"), "method": "POST", "json": value, "headers": {"content-type": "application/x+json"}},
        )
        first, second = world.server.seen
        assert json.loads(first.body) == value
        assert first.headers["content-type"] == "application/json"
        assert second.headers["content-type"] == "application/x+json"


def test_json_that_is_a_list() -> None:
    """`json` may be a list as well, such as a batch."""
    with World(policy={"allowed_methods": ["*"]}) as world:
        world.on("*", b"")
        call(world, {"url": world.url("/"), "method": "POST", "json": [1, {"a": None}]})
        (seen,) = world.server.seen
        assert (json.loads(seen.body), seen.headers["content-type"]) == ([1, {"a": None}], "application/json")


def test_json_that_is_neither() -> None:
    """Text in `json` is refused in words that say what it takes, and the schema says where other JSON goes."""
    with World() as world:
        tool = api_call(world.client)
    with pytest.raises(InvalidArgument) as error:
        check(tool, tool.parameters, {"url": "http://a.test/", "json": "[1]"})
    assert 'json must be a list or an object, it is the string "[1]"' in error.value.message
    assert "`body`" in tool.parameters["properties"]["json"]["description"]


@pytest.mark.parametrize(
    ("arguments", "field", "reason"),
    [
        ({"url": "http://127.1/"}, "url", "BAD_URL"), ({"url": "ftp://a.test"}, "url", "BLOCKED_SCHEME"),
        ({"url": "http://10.0.0.1:9999/"}, "url", "BLOCKED_ADDRESS"),
        ({"url": "http://in.test:9999/"}, "url", "BLOCKED_ADDRESS"),
        ({"url": "http://a.test:22"}, "url", "BLOCKED_PORT"),
        ({"url": "http://a.test:9999", "method": "POST"}, "method", "BLOCKED_METHOD"),
        ({"headers": {"Host": "internal.test"}}, "headers.Host", "BAD_HEADER"),
        ({"headers": {"Transfer-Encoding": "chunked"}}, "headers.Transfer-Encoding", "BAD_HEADER"),
        ({"headers": {"X-T": "a\r\nX-Evil: 1"}}, "headers.X-T", "BAD_HEADER"),
        ({"headers": {"X-T": "日本"}}, "headers.X-T", "BAD_HEADER"),
        ({"body": "a", "json": {}}, "json", "INVALID_ARGUMENT"),
        ({"query": {"a": {"b": 1}}}, "query.a", "INVALID_ARGUMENT"),
        ({"query": {"a": "\ud800"}}, "query.a", "INVALID_ARGUMENT"), ({"body": "\udfff"}, "body", "INVALID_ARGUMENT"),
        ({"json": {"\ud800": 1}}, "json", "INVALID_ARGUMENT"), ({"query": {"a": "ü" * 9000}}, "query", "BAD_URL"),
        ({"url": "http://a.test:9999/" + "ü" * 9000}, "url", "BAD_URL"),
    ],
)  # fmt: skip
def test_arguments_that_are_refused(arguments: dict[str, Any], field: str, reason: str) -> None:
    """What cannot or may not be sent is refused before a connection is made, and the error names the argument."""
    names = {"in.test": [["10.0.0.1"]]}
    with World(names=names, policy={"allowed_ports": ["9999"]}) as world:
        tool = api_call(world.client)
        assert tool.run is not None
        with pytest.raises(CallerError) as error:
            world.run(tool.run({"url": "http://127.0.0.1:9999/"} | arguments, Call(deadline=time.monotonic() + 30)))
        assert error.value.reason == reason
        assert [violated for violated, _ in error.value.violations] == [field]
        assert world.server.connections == 0


def test_the_operators_credential() -> None:
    """What the operator configured for an origin is sent there, whatever the model sets; other origins get nothing."""
    with World() as world:
        world.on("*", b"")
        credentials = {world.server.url: Fixed(Credential(world.server.url, {"Authorization": f"Bearer {KEY}"}))}
        call(world, {"url": world.url("/"), "headers": {"authorization": "mine"}}, credentials=credentials)
        other = f"http://localhost:{world.server.port}/"
        with World(names={"localhost": [["127.0.0.1"]]}) as second:
            call(second, {"url": other}, credentials=credentials)
        assert [seen.headers.get("authorization") for seen in world.server.seen] == [f"Bearer {KEY}", None]


def test_a_token_that_is_renewed() -> None:
    """Where a token is refused and can be renewed, the call is made once more with the new one, and no third time."""

    class Tokens:
        number = 1

        async def get(self, *, deadline: float, audit: Audit | None = None) -> Credential:
            return Credential(world.server.url, {"Authorization": f"Bearer {self.number}"})

        def renew(self, refused: Credential) -> bool:
            self.number += 1
            return True

    with World() as world:
        world.on("/", Play(status=401), b"ok")
        world.on("/never", Play(status=401))
        tokens = {world.server.url: Tokens()}
        assert call(world, {"url": world.url("/")}, credentials=tokens).text == "ok"
        assert call(world, {"url": world.url("/never")}, credentials=tokens).metadata["status"] == 401
        assert [seen.headers["authorization"][-1] for seen in world.server.seen] == ["1", "2", "2", "3"]


def test_timeout() -> None:
    """`timeout` bounds the call, below the operator's bound."""
    with World() as world:
        world.on("/", Play([30.0], endless=True))
        began = time.monotonic()
        assert refused(world, {"url": world.url("/"), "timeout": 0.2}).reason == "UPSTREAM_TIMEOUT"
        assert time.monotonic() - began < 20


# ---------------------------------------------------------------- what comes back


def test_json_comes_back_twice() -> None:
    """JSON is the text as it came and, exactly, a value; null is a value too."""
    with World() as world:
        text = '{"a": [1, 12345678901234567890, "\\u00fc", null],\n "b": 1e5}'
        world.on("/", Play([text.encode()], headers=JSON))
        world.on("/null", Play([b"null"], headers=[("Content-Type", "application/problem+json; charset=utf-8")]))
        output = call(world, {"url": world.url("/")})
        assert output.text == text
        assert output.structured == {"a": [1, 12345678901234567890, "ü", None], "b": 100000.0}
        assert call(world, {"url": world.url("/null")}).structured is None


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"NaN", b"[Infinity]", b"1e999", b"[" * 100_000, b"\xff", b"9" * 5_000, b'{"a":' * 50_000,
     b"[1,]", b"'a'"],
    ids=lambda content: ascii(content)[:20],
)  # fmt: skip
def test_what_only_says_that_it_is_json(content: bytes) -> None:
    """What is no JSON, or none that can be written again, is text only."""
    with World() as world:
        world.on("/", Play([content], headers=JSON))
        output = call(world, {"url": world.url("/")})
        assert output.structured is ABSENT
        assert output.text == content.decode("cp1252", "replace")


def test_much_json_is_text_only() -> None:
    """JSON that takes long to read comes as text, and the metadata say so."""
    response = Response(
        status=200,
        url="",
        headers=[("content-type", "application/json")],
        body=b"[%b]" % (b" " * MOST_STRUCTURED),
        wire_bytes=0,
    )
    output = asyncio.run(output_of(response))
    assert output.structured is ABSENT
    assert "structured_left_out" in output.metadata


def test_binary() -> None:
    """oa-binary: what is no text comes as base64 with its media type, byte for byte."""
    content = base64.b64decode("iVBORw0KGgoAAf/+")
    with World() as world:
        world.on("/", Play([content], headers=[("Content-Type", "Image/PNG; x=y")]))
        output = call(world, {"url": world.url("/")})
        assert (base64.b64decode(output.text), output.content_type) == (content, "image/png")
        assert (output.metadata["encoding"], output.structured) == ("base64", ABSENT)


def text_and_type(body: bytes, content_type: str | None) -> tuple[str | None, str]:
    headers = [("content-type", content_type)] if content_type is not None else []
    response = Response(status=200, url="", headers=headers, body=body, wire_bytes=0)
    return text_of(response), media_type(response)


@pytest.mark.parametrize(
    ("body", "content_type", "expected"),
    [
        ("ü".encode(), "text/plain", "ü"), ("ü".encode("latin-1"), "text/plain", "ü"),
        ("“ü”".encode("cp1252"), "text/html; charset=ISO-8859-1", "“ü”"), ("ü".encode("utf-16"), "text/plain", "ü"),
        ("\ufeffü".encode(), "text/plain; charset=latin-1", "ü"),
        ("ж".encode("koi8-r"), 'text/plain; Charset="KOI8-R"', "ж"),
        ("日本".encode("shift_jis"), "text/csv; charset=Shift_JIS", "日本"),
        ("苹果".encode("gb18030"), "text/plain;charset=gb18030", "苹果"),
        ("ü".encode(), "application/json; charset=latin-1", "ü"), ("ü".encode(), "text/plain; charset=rot13", "ü"),
        ("ü".encode(), "text/plain; charset=idna", "ü"), ("ü".encode(), "text/plain; charset=\0", "ü"),
        ("ü".encode(), "text/plain; charset=unicode_escape", "ü"),
        (b"\xff\xfe", "text/plain; charset=utf-8", "\ufeff"[1:]),
        (b"a\xffb", "text/plain; charset=utf-8", "a\ufffdb"), (b"{}", "application/vnd.api+json", "{}"),
        (b"<a/>", "image/svg+xml", "<a/>"),
        (b"text", None, "text"), (b"text", "", "text"), (b"text", "nonsense", "text"), (b"a\0b", None, None),
        (b"\xff", None, None),
        (b"text", "application/octet-stream", None), (b"text", "application/pdf", None), (b"", "image/png", ""),
    ],
)  # fmt: skip
def test_text(body: bytes, content_type: str | None, expected: str | None) -> None:
    """Text is read by its byte order mark, its charset where that is one, strict UTF-8 and only then as Windows-1252;
    by its media type, or its look where it has none, it is text or not."""
    assert text_and_type(body, content_type)[0] == expected


def test_a_failure_keeps_its_body() -> None:
    """err-429: from status 400 on the call fails with reason, remedy and when to try again; the body is kept."""
    with World() as world:
        world.on("/", Play([b"slow"], status=429, headers=[*TEXT, ("Retry-After", "700"), ("X-RateLimit-Limit", "5")]))
        output = call(world, {"url": world.url("/")})
        assert output.text == "slow"
        assert output.error is not None
        assert (output.error.reason, output.error.code, output.error.retry_after) == (
            "RATE_LIMITED",
            Code.RESOURCE_EXHAUSTED,
            700.0,
        )
        facts = dict(output.metadata)
        assert facts["headers"]["x-ratelimit-limit"] == "5"
        assert (facts["status"], facts["retryable"], facts["retry_after_s"]) == (429, True, 700)
        assert len(world.server.seen) == 1


@pytest.mark.parametrize(
    ("status", "reason", "code", "retryable"),
    [
        (400, "UPSTREAM_BAD_REQUEST", Code.INVALID_ARGUMENT, False),
        (401, "UPSTREAM_UNAUTHENTICATED", Code.UNAUTHENTICATED, False),
        (403, "UPSTREAM_FORBIDDEN", Code.PERMISSION_DENIED, False), (404, "UPSTREAM_NOT_FOUND", Code.NOT_FOUND, False),
        (409, "UPSTREAM_CONFLICT", Code.ABORTED, False), (418, "UPSTREAM_REFUSED", Code.FAILED_PRECONDITION, False),
        (422, "UPSTREAM_UNPROCESSABLE", Code.INVALID_ARGUMENT, False),
        (429, "RATE_LIMITED", Code.RESOURCE_EXHAUSTED, True),
        (500, "UPSTREAM_ERROR", Code.UNAVAILABLE, True), (503, "UPSTREAM_ERROR", Code.UNAVAILABLE, True),
        (504, "UPSTREAM_TIMEOUT", Code.DEADLINE_EXCEEDED, True), (599, "UPSTREAM_ERROR", Code.UNAVAILABLE, False),
    ],
)  # fmt: skip
def test_failures(status: int, reason: str, code: Code, retryable: bool) -> None:
    """Each status has its reason, its code and whether to try again, and JSON in it is a value too."""
    with World() as world:
        world.on("/", Play([b'{"error": "why"}'], status=status, headers=JSON))
        output = call(world, {"url": world.url("/")})
        assert output.error is not None
        assert (output.error.reason, output.error.code) == (reason, code)
        assert str(status) in output.error.message
        assert (output.structured, output.metadata["retryable"]) == ({"error": "why"}, retryable)


def test_metadata() -> None:
    """Status, final URL, redirects, bytes and headers worth having; no cookie, and nothing long."""
    with World() as world:
        world.server.redirect("/", "/next")
        headers = [
            ("ETag", '"1"'),
            ("Link", "a"),
            ("Link", "b"),
            ("Set-Cookie", f"id={KEY}"),
            ("X-Powered-By", "x"),
            ("Age", "9" * 2_000),
        ]
        world.on("/next", Play([b"ok"], headers=[*TEXT, *headers]))
        facts = dict(call(world, {"url": world.url("/")}).metadata)
        wire = facts.pop("bytes")
        assert facts == {
            "status": 200, "url": world.url("/next"), "redirects": [world.url("/")],
            "headers": {"etag": '"1"', "link": "a, b", "age": "9" * 500},
        }  # fmt: skip
        assert 2 < wire < 5_000


def test_again_is_told() -> None:
    """A call that was made twice says so."""
    with World() as world:
        world.on("/", Play(status=503, headers=[("Retry-After", "0")]), b"ok")
        assert call(world, {"url": world.url("/")}).metadata["attempts"] == 2


def test_a_post_is_not_repeated_on_a_models_word() -> None:
    """An Idempotency-Key that the model sets makes no POST repeatable: it need not count there."""
    with World(policy={"allowed_methods": ["*"]}) as world:
        world.on("/", Play(status=503, headers=[("Retry-After", "0")]))
        call(world, {"url": world.url("/"), "method": "POST", "headers": {"Idempotency-Key": "1"}})
        assert len(world.server.seen) == 1


def test_the_audit() -> None:
    """Host, status, bytes and rule; no path, no query."""
    with World() as world:
        world.on("/", b"ok")
        audit = Audit()
        call(world, {"url": world.url("/?key=" + KEY)}, audit=audit)
        assert (audit.host, audit.status, audit.rule) == ("127.0.0.1", 200, "allowed_networks")
        assert KEY not in str(audit)


# ---------------------------------------------------------------- secrets


def test_secrets_are_taken_out() -> None:
    """A secret is taken out of texts, values, names and bytes, in the spellings that servers use; the longest first."""
    redactor = Redactor(["open sesame", "open sesame street", "short"])
    redactor.add("später-1")
    texts = [
        "open sesame",
        "open%20sesame",
        "open+sesame",
        "a open sesame street b",
        'x"später-1"',
        "sp\\u00e4ter-1",
        "sp%C3%A4ter-1",
    ]
    assert [redactor.clean(text) for text in texts] == ["***", "***", "***", "a *** b", 'x"***"', "***", "***"]
    assert redactor.clean("short") == "short"
    assert redactor.clean_bytes(b"\0open sesame\xff") == b"\0***********\xff"
    value = {"open sesame": ["a open sesame", {"b": ["später-1", 1, None]}]}
    assert redactor.clean_value(value) == {"***": ["a ***", {"b": ["***", 1, None]}]}
    assert value["open sesame"][0] == "a open sesame"
    assert Redactor().clean_value(value) is value
    deep: Any = "open sesame"
    for _ in range(100_000):
        deep = [deep]
    cleaned = redactor.clean_value(deep)
    while isinstance(cleaned, list):
        (cleaned,) = cleaned
    assert cleaned == "***"


@pytest.mark.parametrize(
    "written",
    [
        r"""{"k": "a_b*c\/d&e<f>'g\"h+ij"}""",  # PHP
        r"""{"k": "a_b*c/d\u0026e\u003cf\u003e'g\"h+ij"}""",  # Go
        r"""{"k": "a_b*c/d\u0026e\u003Cf\u003E\u0027g\u0022h\u002Bij"}""",  # .NET
        "<p>a_b*c/d&amp;e&lt;f&gt;'g\"h+ij</p>",
        "<p>a_b*c/d&amp;e&lt;f&gt;&#39;g&quot;h+ij</p>",  # JavaScript, PHP
        "<p>a_b*c/d&amp;e&lt;f&gt;&#39;g&#34;h+ij</p>",  # Go
        "<p>a_b*c/d&amp;e&lt;f&gt;&#x27;g&quot;h+ij</p>",  # Python
        r"""key a\_b\*c/d&e\<f>'g"h+ij""",  # Markdown, as fetch_page writes it
    ],
)
def test_spellings_of_a_secret(written: str) -> None:
    """A secret is found as JSON, HTML and Markdown have it, also where a language escapes more than it must."""
    secret = "a_b*c/d&e<f>'g\"h+ij"
    cleaned = Redactor([secret]).clean(written)
    assert "***" in cleaned
    assert not any(part in cleaned for part in ("a_b", "a\\_b", "ij", "e<f"))


def test_a_secret_is_not_cut_in_two() -> None:
    """What is shown of a long header has no half of a secret, which nobody would know any more."""
    with World() as world:
        world.on("/", Play([b"x"], headers=[("Content-Type", "text/plain"), ("ETag", "z" * 490 + KEY)]))
        output = call(world, {"url": world.url("/")}, redactor=Redactor([KEY]))
        assert output.metadata["headers"]["etag"] == "z" * 490 + "***"


def test_secrets_in_what_is_no_text() -> None:
    """A secret that a server sends back inside of an image is not in its base64 either."""
    with World() as world:
        world.on("/", Play([b"\0" + KEY.encode()], headers=[("Content-Type", "image/png")]))
        output = call(world, {"url": world.url("/")}, redactor=Redactor([KEY]))
        assert base64.b64decode(output.text) == b"\0" + b"*" * len(KEY)


# ---------------------------------------------------------------- anything

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)

names = st.text(max_size=8) | st.sampled_from(["X-A", "Accept"])
bodies = (
    st.binary(max_size=60)
    | st.text(max_size=20).map(lambda text: text.encode("utf-8", "replace"))
    | values.map(lambda value: json.dumps(value).encode())
)
fields = st.tuples(st.sampled_from(["content-type", "retry-after", "link", "x"]), st.text(max_size=30))


@settings(max_examples=30)
@given(
    st.fixed_dictionaries(
        {"url": st.text(max_size=30) | st.just("http://a.test/")},
        optional={
            "headers": st.dictionaries(names, st.text(max_size=8), max_size=3),
            "query": st.dictionaries(st.text(max_size=5), values, max_size=3),
            "body": st.text(max_size=20),
            "json": st.dictionaries(st.text(max_size=5), values, max_size=3),
            "method": st.sampled_from(["GET", "POST"]),
        },
    )
)
def test_any_arguments(arguments: dict[str, Any]) -> None:
    """Any arguments that hold to the schema become a request, or an error with a field; never a traceback."""
    try:
        request = request_of(arguments)
    except CallerError as error:
        fields = [field for field, _ in error.violations]
    else:
        fields = []
        assert request.url.isascii()
        assert request.method == arguments.get("method", "GET")
    assert all(field.partition(".")[0] in arguments for field in fields)


@settings(max_examples=30)
@given(
    st.integers(200, 599),
    st.lists(fields, max_size=4),
    bodies,
)
def test_any_response(status: int, headers: list[tuple[str, str]], body: bytes) -> None:
    """Any response becomes an output: text that can be written as UTF-8, a value that can be written as JSON."""
    response = Response(status=status, url="http://a.test/", headers=headers, body=body, wire_bytes=len(body))
    output = asyncio.run(output_of(response))
    output.text.encode()
    assert (output.error is not None) == (status >= 400)
    json.dumps(dict(output.metadata), allow_nan=False)
    if output.structured is not ABSENT:
        json.dumps(output.structured, allow_nan=False)
    if output.metadata.get("encoding") == "base64":
        assert base64.b64decode(output.text) == body
    assert json_of(response) is ABSENT or json_of(response) == json.loads(body)
