"""How arguments of OpenAPI operations travel: every style, exploded or not, and every kind of body."""

from __future__ import annotations

import json
from email.message import Message
from email.parser import BytesParser
from typing import Any
from urllib.parse import parse_qsl

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plugins.tools_http.engine.exchange import Request
from plugins.tools_http.engine.parameters import Parameter, path_text, query_parts
from shared.errors import InvalidArgument
from tests.tools_apis import FakeClient, call, document, imported, operation, sent

TEXT, LIST, OBJECT = "blue", ["blue", "black", "brown"], {"R": 100, "G": 200, "B": 150}


def parameter(place: str, style: str, explode: bool | None = None, **more: Any) -> dict[str, Any]:
    about = {"name": "color", "in": place, "required": True, "schema": {}, **more}
    if style:
        about["style"] = style
    if explode is not None:
        about["explode"] = explode
    return about


# The tables of OpenAPI 3.0.4 and 3.1.1, "Style Examples"; `None` stands for "not what the style is for".
PATH = [
    ("matrix", False, ";color=blue", ";color=blue,black,brown", ";color=R,100,G,200,B,150"),
    ("matrix", True, ";color=blue", ";color=blue;color=black;color=brown", ";R=100;G=200;B=150"),
    ("label", False, ".blue", ".blue,black,brown", ".R,100,G,200,B,150"),
    ("label", True, ".blue", ".blue.black.brown", ".R=100.G=200.B=150"),
    ("simple", False, "blue", "blue,black,brown", "R,100,G,200,B,150"),
    ("simple", True, "blue", "blue,black,brown", "R=100,G=200,B=150"),
    ("", None, "blue", "blue,black,brown", "R,100,G,200,B,150"),
]
QUERY = [
    ("form", False, "color=blue", "color=blue,black,brown", "color=R,100,G,200,B,150"),
    ("form", True, "color=blue", "color=blue&color=black&color=brown", "R=100&G=200&B=150"),
    ("", None, "color=blue", "color=blue&color=black&color=brown", "R=100&G=200&B=150"),
    ("spaceDelimited", False, "color=blue", "color=blue%20black%20brown", "color=R%20100%20G%20200%20B%20150"),
    ("spaceDelimited", True, "color=blue", "color=blue&color=black&color=brown", "R=100&G=200&B=150"),
    ("pipeDelimited", False, "color=blue", "color=blue%7Cblack%7Cbrown", "color=R%7C100%7CG%7C200%7CB%7C150"),
    ("pipeDelimited", True, "color=blue", "color=blue&color=black&color=brown", "R=100&G=200&B=150"),
    ("deepObject", True, "color=blue", "color%5B0%5D=blue&color%5B1%5D=black&color%5B2%5D=brown",
     "color%5BR%5D=100&color%5BG%5D=200&color%5BB%5D=150"),
    ("deepObject", None, "color=blue", "color%5B0%5D=blue&color%5B1%5D=black&color%5B2%5D=brown",
     "color%5BR%5D=100&color%5BG%5D=200&color%5BB%5D=150"),
]  # fmt: skip


@pytest.mark.parametrize("row", PATH, ids=lambda row: f"{row[0]}-{row[1]}")
def test_path_styles(row: tuple[str, bool | None, str, str, str]) -> None:
    """simple, label and matrix, of a text, a list and an object, as OpenAPI's own table has them."""
    about = operation(parameter("path", row[0], row[1]))
    for value, expected in zip((TEXT, LIST, OBJECT), row[2:], strict=True):
        assert sent(about, {"color": value}, "/a/{color}/b").url == f"https://api.test/v1/a/{expected}/b"


@pytest.mark.parametrize("row", QUERY, ids=lambda row: f"{row[0]}-{row[1]}")
def test_query_styles(row: tuple[str, bool | None, str, str, str]) -> None:
    """form, spaceDelimited, pipeDelimited and deepObject, of a text, a list and an object."""
    about = operation(parameter("query", row[0], row[1]))
    for value, expected in zip((TEXT, LIST, OBJECT), row[2:], strict=True):
        assert sent(about, {"color": value}).url == f"https://api.test/v1/x?{expected}"


def test_header_and_cookie_styles() -> None:
    """A header is simple and not percent-encoded; a cookie is form, and exploded it is several cookies."""
    for explode, expected in (
        (False, ("blue", "blue,black,brown", "R,100,G,200,B,150")),
        (True, ("blue", "blue,black,brown", "R=100,G=200,B=150")),
    ):
        about = operation(parameter("header", "simple", explode))
        for value, text in zip((TEXT, LIST, OBJECT), expected, strict=True):
            assert dict(sent(about, {"color": value}).headers)["color"] == text
    assert dict(sent(operation(parameter("header", "")), {"color": "a b/c?"}).headers)["color"] == "a b/c?"
    for explode, expected in (
        (False, ("color=blue", "color=blue,black,brown", "color=R,100,G,200,B,150")),
        (True, ("color=blue", "color=blue; color=black; color=brown", "R=100; G=200; B=150")),
    ):
        about = operation(parameter("cookie", "form", explode))
        for value, text in zip((TEXT, LIST, OBJECT), expected, strict=True):
            assert dict(sent(about, {"color": value}).headers)["Cookie"] == text


def test_a_cookie_cannot_bring_another() -> None:
    """What would end a cookie is percent-encoded."""
    request = sent(operation(parameter("cookie", "")), {"color": "a; admin=1\r\nX: y"})
    assert dict(request.headers)["Cookie"] == "color=a%3B%20admin%3D1%0D%0AX%3A%20y"


@pytest.mark.parametrize("value", [True, False, 0, 1.5, 2.0, 10**20, "", "null"])
def test_plain_values(value: Any) -> None:
    """Numbers and booleans are written as in JSON, a whole number without a point; an empty text stays."""
    expected = "2" if value == 2.0 else value if isinstance(value, str) else json.dumps(value)
    assert sent(operation(parameter("query", "")), {"color": value}).url == f"https://api.test/v1/x?color={expected}"


def test_nothing_to_send() -> None:
    """A null and an empty list leave a query as it is; in a path nothing is refused."""
    about = operation(parameter("query", ""))
    nothing: list[Any] = [None, [], {}, [None]]
    for value in nothing:
        assert sent(about, {"color": value}).url == "https://api.test/v1/x"
    for style in ("simple", "label", "matrix"):
        for value in ["", [""], *nothing]:
            with pytest.raises(InvalidArgument, match="color is empty"):
                sent(operation(parameter("path", style)), {"color": value}, "/{color}")


def test_allow_reserved() -> None:
    """With allowReserved characters of URLs stay as they are, but none by which a query or URL is taken apart."""
    about = operation(parameter("query", "", allowReserved=True))
    url = sent(about, {"color": "a/b?c=d&e#f+g@h:i,j[k]"}).url
    assert url == "https://api.test/v1/x?color=a/b?c%3Dd%26e%23f%2Bg@h:i,j%5Bk%5D"
    url = sent(operation(parameter("query", "")), {"color": "a/b?c"}).url
    assert url == "https://api.test/v1/x?color=a%2Fb%3Fc"


def test_json_in_content() -> None:
    """A parameter with `content` of JSON travels as JSON, in each place."""
    value = {"a": [1, 2.0, None], "b": "x y"}
    text = '{"a":[1,2,null],"b":"x y"}'
    encoded = "%7B%22a%22%3A%5B1%2C2%2Cnull%5D%2C%22b%22%3A%22x%20y%22%7D"
    for place, path in (("query", "/x"), ("path", "/x/{f}"), ("header", "/x"), ("cookie", "/x")):
        about = {"name": "f", "in": place, "required": True, "content": {"application/json": {"schema": {}}}}
        request = sent(operation(about), {"f": value}, path)
        assert {"query": request.url.endswith(f"?f={encoded}"), "path": request.url.endswith(f"/x/{encoded}"),
                "header": dict(request.headers).get("f") == text,
                "cookie": dict(request.headers).get("Cookie") == f"f={encoded}"}[place]  # fmt: skip


def test_names_are_encoded() -> None:
    """A parameter's name is percent-encoded too, and called otherwise where models do not take it."""
    about = operation({"name": "filter[a b]&x", "in": "query", "schema": {"type": "string"}})
    assert sent(about, {"filter_a_b_x": "1"}).url == "https://api.test/v1/x?filter%5Ba%20b%5D%26x=1"


def test_deep_objects() -> None:
    """Objects within objects get one more bracket each, lists numbers, nulls nothing."""
    about = operation(parameter("query", "deepObject"))
    url = sent(about, {"color": {"a": {"b": [1, {"c": "x"}]}, "n": None, "z": True}}).url
    assert parse_qsl(url.partition("?")[2]) == [
        ("color[a][b][0]", "1"), ("color[a][b][1][c]", "x"), ("color[z]", "true"),
    ]  # fmt: skip


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=20), st.sampled_from(["form", "deepObject"]))
@settings(max_examples=30, deadline=None)
def test_no_text_leaves_its_parameter(text: str, style: str) -> None:
    """Whatever the text, a server reads back one parameter with that text."""
    parts = query_parts(Parameter(argument="q", name="q", place="query", style=style, explode=True), text)
    assert parse_qsl("&".join(parts), keep_blank_values=True) == [("q", text)]


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20))
@settings(max_examples=30, deadline=None)
def test_no_text_leaves_its_segment(text: str) -> None:
    """Whatever the text, in a path it is letters, digits, -._~ and percent-encoded bytes."""
    result = path_text(Parameter(argument="p", name="p", place="path", style="simple"), text)
    assert set(result) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~%")


# ---------------------------------------------------------------- bodies


def body(content: dict[str, Any], arguments: dict[str, Any], required: bool = True) -> Request:
    about = {"operationId": "op", "requestBody": {"required": required, "content": content}}
    return sent(about, arguments, method="post")


def content_type(request: Request) -> str:
    return dict(request.headers)["Content-Type"]


def fields(**properties: Any) -> dict[str, Any]:
    return {"schema": {"type": "object", "properties": properties}}


def test_json_bodies() -> None:
    """The fields of an object are arguments of their own, any other body is `body`."""
    text = {"type": "string"}
    request = body({"application/json": fields(name=text, n={"type": "integer"})}, {"name": "ü", "n": 2.0})
    assert request.body == '{"name":"ü","n":2}'.encode()
    assert content_type(request) == "application/json"
    request = body({"application/vnd.api+json": {"schema": {"type": "array", "items": text}}}, {"body": ["a"]})
    assert (request.body, content_type(request)) == (b'["a"]', "application/vnd.api+json")
    assert body({"application/json": fields(name=text)}, {}).body == b"{}"
    request = body({"application/json": fields(name=text)}, {}, required=False)
    assert request.body is None
    assert "Content-Type" not in dict(request.headers)
    for schema in ({}, {"type": "object"}, {"type": "object", "additionalProperties": text}):
        assert body({"application/json": {"schema": schema}}, {"body": {"k": "v"}}).body == b'{"k":"v"}'
    assert body({"*/*": {"schema": {}}}, {"body": 1}).headers[-1] == ("Content-Type", "application/json")


def test_an_optional_body_with_required_fields() -> None:
    """Where a body may be missing but not a field of it, the body is one argument."""
    schema = {"type": "object", "required": ["a"], "properties": {"a": {"type": "string"}, "b": {"type": "string"}}}
    content = {"application/json": {"schema": schema}}
    assert body(content, {}, required=False).body is None
    assert body(content, {"body": {"a": "x"}}, required=False).body == b'{"a":"x"}'
    with pytest.raises(AssertionError, match='"a" is a required property'):
        body(content, {"body": {"b": "x"}}, required=False)


def test_form_bodies() -> None:
    """Lists repeat their name, objects travel as JSON; an encoding says otherwise."""
    kind = "application/x-www-form-urlencoded"
    media = fields(a={"type": "string"}, l={"type": "array"}, o={"type": "object"}, os={"type": "array"})
    arguments = {"a": "x y&z", "l": [1, 2], "o": {"k": "v"}, "os": [{"k": 1}]}
    request = body({kind: media}, arguments)
    assert content_type(request) == kind
    assert parse_qsl(str(request.body or b"", "ascii")) == [
        ("a", "x y&z"), ("l", "1"), ("l", "2"), ("o", '{"k":"v"}'), ("os", '[{"k":1}]'),
    ]  # fmt: skip
    encoding = {
        "l": {"style": "pipeDelimited", "explode": False},
        "o": {"style": "deepObject"},
        "os": {"style": "deepObject"},
    }
    request = body({kind: {**media, "encoding": encoding}}, arguments)
    assert parse_qsl(str(request.body or b"", "ascii")) == [
        ("a", "x y&z"), ("l", "1|2"), ("o[k]", "v"), ("os[0][k]", "1"),
    ]  # fmt: skip


def parts(request: Request) -> list[Message]:
    """As a parser that is not ours reads them."""
    head = f"Content-Type: {content_type(request)}\r\n\r\n".encode()
    message = BytesParser().parsebytes(head + (request.body or b""))
    assert message.is_multipart()
    assert not message.defects
    return list(message.get_payload())


def test_multipart_bodies() -> None:
    """Files of one and of many, of OpenAPI 3.0 and 3.1, JSON and texts are parts with name, file name and type."""
    binary = {"type": "string", "format": "binary"}
    media = fields(
        title={"type": "string"},
        meta={"type": "object"},
        tags={"type": "array", "items": {"type": "string"}},
        photo=binary,
        more={"type": "array", "items": binary},
        report={"type": "string", "contentMediaType": "application/pdf"},
        inline={"type": "string", "contentEncoding": "base64", "contentMediaType": "image/png"},
    )
    media["encoding"] = {
        "photo": {"contentType": "image/png, image/jpeg"},
        "meta": {"contentType": "application/ld+json"},
    }
    request = body(
        {"multipart/form-data": media},
        {
            "title": "Tür",
            "meta": {"a": 1},
            "tags": ["x", "y"],
            "photo": {"base64": "iVBORw0KGgoAAf/+", "filename": "p.png"},
            "more": [{"text": "one"}, {"base64": "Ag==", "filename": "2.bin", "content_type": "text/x-two"}],
            "report": {"base64": "JVBERg=="},
            "inline": "aW1n",
        },
    )
    seen = [
        (part.get_param("name", header="content-disposition"), part.get_filename(), part["content-type"],
         part.get_payload(decode=True))
        for part in parts(request)
    ]  # fmt: skip
    assert seen == [
        ("title", None, None, "Tür".encode()),
        ("meta", None, "application/ld+json", b'{"a":1}'),
        ("tags", None, None, b"x"),
        ("tags", None, None, b"y"),
        ("photo", "p.png", "image/png", b"\x89PNG\r\n\x1a\n\x00\x01\xff\xfe"),
        ("more", "more", "application/octet-stream", b"one"),
        ("more", "2.bin", "text/x-two", b"\x02"),
        ("report", "report", "application/pdf", b"%PDF"),
        ("inline", None, None, b"aW1n"),
    ]


def test_text_and_binary_bodies() -> None:
    """Text goes as it is, bytes come as base64; where the type is open the caller says it."""
    request = body({"text/plain": {"schema": {"type": "string"}}}, {"body": "Tür"})
    assert (request.body, content_type(request)) == ("Tür".encode(), "text/plain; charset=utf-8")
    request = body({"application/xml": {"schema": {"type": "object"}}}, {"body": "<a/>"})
    assert (request.body, content_type(request)) == (b"<a/>", "application/xml")
    request = body({"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}, {"body": "AP8="})
    assert (request.body, content_type(request)) == (b"\x00\xff", "application/octet-stream")
    request = body({"image/*": {}}, {"body": {"base64": "AP8=", "content_type": "image/gif"}})
    assert (request.body, content_type(request)) == (b"\x00\xff", "image/gif")
    with pytest.raises(InvalidArgument, match="not base64"):
        body({"image/png": {}}, {"body": "?"})


def test_json_is_preferred() -> None:
    """Of several kinds of body the one that a model words best is sent, and the report says so."""
    about = operation()
    about["requestBody"] = {"content": {"multipart/form-data": {}, "application/xml": {}, "application/json": {}}}
    result = imported(document({"/x": {"post": about}}))
    assert "of its bodies application/json is sent" in result.report.operations[0].changes
    client = FakeClient()
    call(imported(document({"/x": {"post": about}}), client).tools[0], {"body": [1]})
    assert client.requests[0].body == b"[1]"
