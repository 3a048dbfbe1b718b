"""One argument as a part of a URL, a header or a cookie: the styles of OpenAPI, which are those of RFC 6570.

| style | in | array `[a, b]`, exploded | object `{x: 1}`, exploded |
|---|---|---|---|
| simple | path, header | `a,b`, `a,b` | `x,1`, `x=1` |
| label | path | `.a,b`, `.a.b` | `.x,1`, `.x=1` |
| matrix | path | `;name=a,b`, `;name=a;name=b` | `;name=x,1`, `;x=1` |
| form | query, cookie | `name=a,b`, `name=a&name=b` | `name=x,1`, `x=1` |
| spaceDelimited | query | `name=a%20b`, as form | `name=x%201`, as form |
| pipeDelimited | query | `name=a%7Cb`, as form | `name=x%7C1`, as form |
| deepObject | query | `name[0]=a&name[1]=b` | `name[x]=1` |

Where the OpenAPI versions differ (label, not exploded) this is what RFC 6570 and OpenAPI from 3.0.4 on say.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, cast
from urllib.parse import quote, unquote

from shared.errors import InvalidArgument, quoted

from .tool import ABSENT, JSON
from .wire_names import WireNames, to_wire

Place = Literal["path", "query", "header", "cookie"]

STYLES: dict[str, tuple[str, ...]] = {
    "path": ("simple", "label", "matrix"),
    "query": ("form", "spaceDelimited", "pipeDelimited", "deepObject"),
    "header": ("simple",),
    "cookie": ("form",),
}  # the first is the default
# What RFC 3986 lets stand in a query as it is, but for `&`, `+`, `;` and `=`, by which a query is taken apart.
_RESERVED = ":/?@!$'()*,"
_MOST_DECODINGS = 3  # that servers may do one after the other
_JOINTS = {"form": ",", "spaceDelimited": "%20", "pipeDelimited": "%7C"}


@dataclass(frozen=True, kw_only=True)
class Parameter:
    argument: str  # what the tool's schema calls it
    name: str  # what the API calls it
    place: Place
    style: str  # one of STYLES[place]
    explode: bool = False
    allow_reserved: bool = False  # in a query: `:/?@!$'()*,` stay as they are; in a path `/` does
    as_json: bool = False  # the value travels as JSON text
    wire_names: WireNames | None = None
    fixed: JSON = ABSENT  # what is always sent; then it is no argument
    default: JSON = ABSENT  # what is sent where the argument is missing


def text_of(value: JSON) -> str:
    """A value that is no object and no array as text; one of those as JSON, for where a style has no form for it."""
    if isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def path_text(parameter: Parameter, value: JSON) -> str:
    """The value in a path, percent-encoded. Raises InvalidArgument where nothing would stand there."""
    items = _items(parameter, value, "/" if parameter.allow_reserved else "")
    named = isinstance(value, dict) and not parameter.as_json
    if not any(item for item in items):
        raise _wrong(parameter, "is empty, and a part of a path cannot be; give a value")
    if parameter.style == "simple":
        return ",".join(_pairs(items) if named and parameter.explode else items)
    if parameter.style == "label":
        if parameter.explode:
            return "." + ".".join(_pairs(items) if named else items)
        return "." + ",".join(items)
    name = _encoded(parameter.name)
    if parameter.explode and named:
        return "".join(f";{pair}" for pair in _pairs(items))
    if parameter.explode and isinstance(value, list) and not parameter.as_json:
        return "".join(f";{name}={item}" if item else f";{name}" for item in items)
    return f";{name}=" + ",".join(items)


def check_path(path: str, template: str) -> None:
    """Raises InvalidArgument where arguments brought into `path`, percent-encoded, what leads to another place:
    a segment `.` or `..`, also one that shows only when a server decodes it, or a control character."""
    text = _decoded(path)
    if any(character < " " or character == "\x7f" for character in text):
        raise InvalidArgument("a part of the path has a control character in it; leave it out", reason="BAD_PATH")
    allowed = {segment for segment in template.split("/") if "{" not in segment}
    for segment in text.replace("\\", "/").split("/"):
        # Some servers cut a segment at its semicolon.
        if segment.partition(";")[0] in (".", "..") and segment not in allowed:
            raise InvalidArgument(
                f"the path would have the segment {quoted(segment)}, which leads to another place; "
                "give the name of a thing, not a way to it",
                reason="BAD_PATH",
            )


def leads_elsewhere(text: str) -> bool:
    """Whether a part of a path, percent-encoded, has a character that `check_path` may be about."""
    return any(character < " " or character in "\x7f.\\" for character in _decoded(text))


def _decoded(text: str) -> str:
    for _ in range(_MOST_DECODINGS):
        text = unquote(text)
    return text


def query_parts(parameter: Parameter, value: JSON) -> list[str]:
    """`name=value`, percent-encoded, none or several."""
    reserved = _RESERVED if parameter.allow_reserved else ""
    name = _encoded(parameter.name)
    if value is None and not parameter.as_json:
        return []
    if parameter.as_json or not isinstance(value, list | dict):
        return [f"{name}={_items(parameter, value, reserved)[0]}"]
    if parameter.style == "deepObject":
        return [f"{_encoded(key)}={_encoded(text_of(item), reserved)}" for key, item in _deep(parameter, value)]
    items = _items(parameter, value, reserved)
    if parameter.explode:
        return _pairs(items) if isinstance(value, dict) else [f"{name}={item}" for item in items]
    return [f"{name}={_JOINTS[parameter.style].join(items)}"] if items else []


def header_text(parameter: Parameter, value: JSON) -> str | None:
    """The value of a header as it is, for headers are not percent-encoded; None where there is nothing to send."""
    if parameter.as_json:
        return _checked(parameter, json.dumps(to_wire(value, parameter.wire_names), separators=(",", ":")))
    if value is None:
        return None
    items = [text_of(item) for item in _flat(to_wire(value, parameter.wire_names))]
    if isinstance(value, dict) and parameter.explode:
        items = _pairs(items)
    return _checked(parameter, ",".join(items))


def cookie_parts(parameter: Parameter, value: JSON) -> list[str]:
    """`name=value`, percent-encoded, none or several. Exploded they are cookies of their own."""
    return query_parts(parameter, value)


def _items(parameter: Parameter, value: JSON, safe: str) -> list[str]:
    """What a style puts together, percent-encoded: one text, those of an array, or names and values in turn."""
    value = to_wire(value, parameter.wire_names)
    if parameter.as_json:
        return [_encoded(json.dumps(value, ensure_ascii=False, separators=(",", ":")), safe, parameter)]
    return [_encoded(text_of(item), safe, parameter) for item in _flat(value)]


def _flat(value: JSON) -> Iterator[JSON]:
    """Without nulls, for which no style has a form."""
    if isinstance(value, dict):
        for name, item in value.items():
            if item is not None:
                yield name
                yield item
    elif isinstance(value, list):
        yield from (item for item in value if item is not None)
    elif value is not None:
        yield value


def _pairs(items: list[str]) -> list[str]:
    return [f"{name}={item}" for name, item in zip(items[::2], items[1::2], strict=True)]


def _deep(parameter: Parameter, value: JSON) -> Iterator[tuple[str, JSON]]:
    stack: list[tuple[str, JSON]] = [(parameter.name, to_wire(value, parameter.wire_names))]
    while stack:
        name, inner = stack.pop()
        if isinstance(inner, dict):
            stack.extend((f"{name}[{key}]", item) for key, item in reversed(inner.items()))
        elif isinstance(inner, list):
            stack.extend((f"{name}[{i}]", item) for i, item in reversed(list(enumerate(inner))))
        elif inner is not None:
            yield name, inner


def _encoded(text: str, safe: str = "", parameter: Parameter | None = None) -> str:
    try:
        return quote(text, safe=safe)
    except UnicodeEncodeError:
        message = "has half a character in it (a lone surrogate); send whole ones"
        raise (_wrong(parameter, message) if parameter else InvalidArgument(f"a name {message}")) from None


def _checked(parameter: Parameter, text: str) -> str:
    if not text.isascii() or any(character < " " or character == "\x7f" for character in text):
        raise _wrong(parameter, "goes into a header, which takes printable ASCII on one line; leave the rest out")
    return text


def _wrong(parameter: Parameter, what: str) -> InvalidArgument:
    return InvalidArgument(f"{parameter.argument} {what}", reason="BAD_ARGUMENTS", field=parameter.argument)


def as_place(text: str) -> Place | None:
    return cast(Place, text) if text in STYLES else None
