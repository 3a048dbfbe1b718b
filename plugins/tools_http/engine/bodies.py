"""The body of a request: JSON, a form, a multipart form with files, text, or bytes."""

from __future__ import annotations

import base64
import binascii
import json
import re
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple
from urllib.parse import quote

from shared.errors import InvalidArgument, LimitReached

from .parameters import Parameter, query_parts, text_of
from .tool import JSON
from .wire_names import WireNames, to_wire

Kind = Literal["json", "form", "multipart", "text", "binary"]

FILE_SCHEMA: Mapping[str, Any] = {
    "type": "object",
    "description": "A file: its bytes as base64, or its text.",
    "properties": {
        "base64": {"type": "string", "description": "The bytes of the file as base64."},
        "text": {"type": "string", "description": "The file as text, in place of base64."},
        "filename": {"type": "string", "description": "Such as `photo.png`."},
        "content_type": {"type": "string", "description": "Such as `image/png`."},
    },
    "additionalProperties": False,
}

_TYPE = r"[A-Za-z0-9!#$&^_.+-]{1,100}"
_MEDIA_TYPE = re.compile(rf"{_TYPE}/{_TYPE}(; ?{_TYPE}={_TYPE}){{0,5}}")


@dataclass(frozen=True, kw_only=True)
class Part:
    """How one property of a form travels, where that is not the usual way."""

    style: str = ""  # of a form: one of a query's
    explode: bool = True
    allow_reserved: bool = False
    content_type: str = ""  # of the part
    file: bool = False  # the argument is a file (FILE_SCHEMA), or a list of files


@dataclass(frozen=True, kw_only=True)
class Body:
    kind: Kind
    content_type: str
    argument: str = ""  # the whole body is this argument; else it is an object of `properties`
    properties: Mapping[str, str] = field(default_factory=dict)  # argument → name on the wire
    wire_names: WireNames | None = None  # of the whole body, as of an object
    parts: Mapping[str, Part] = field(default_factory=dict)  # by the name on the wire
    fixed: Mapping[str, JSON] = field(default_factory=dict)  # by the name on the wire; always sent
    required: bool = False

    def value(self, arguments: Mapping[str, JSON]) -> JSON | None:
        """The body as a value with the API's names; None where no argument is of it and it may be missing."""
        if self.argument:
            return to_wire(arguments[self.argument], self.wire_names) if self.argument in arguments else None
        known = self.wire_names.properties if self.wire_names else {}
        value = {
            name: to_wire(arguments[argument], known.get(name, (name, None))[1])
            for argument, name in self.properties.items()
            if argument in arguments
        }
        return {**value, **self.fixed} if value or self.fixed or self.required else None


class Encoded(NamedTuple):
    data: bytes
    content_type: str


def encoded(body: Body, arguments: Mapping[str, JSON], most: int) -> Encoded | None:
    """The body's bytes, at most `most`, and their type; None where there is no body.

    Raises InvalidArgument where an argument cannot be sent as it must be, LimitReached where the body is too large.
    """
    if body.argument and body.argument not in arguments:
        return None
    value = body.value(arguments)
    if value is None and not body.argument:
        return None
    try:
        result = _ENCODERS[body.kind](body, value)
    except UnicodeEncodeError:
        raise InvalidArgument("the body has half a character in it (a lone surrogate); send whole ones") from None
    if len(result.data) > most:
        raise LimitReached(
            f"the body has {len(result.data)} bytes and may have {most} (setting max_body_bytes); send less",
            reason="BODY_TOO_LARGE",
        )
    return result


def _json(body: Body, value: JSON) -> Encoded:
    return Encoded(json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode(), body.content_type)


def _form(body: Body, value: JSON) -> Encoded:
    if not isinstance(value, dict):
        raise InvalidArgument("the body is a form, so it must be an object", field=body.argument)
    pairs: list[str] = []
    for name, item in value.items():
        part = body.parts.get(name)
        # An object has no form of its own unless the document gives one: it travels as JSON.
        as_json = isinstance(item, dict) and not (part and part.style)
        if isinstance(item, list) and not (part and part.style) and any(isinstance(inner, dict) for inner in item):
            as_json = True
        parameter = Parameter(
            argument=name,
            name=name,
            place="query",
            style=(part and part.style) or "form",
            explode=part.explode if part else True,
            allow_reserved=bool(part and part.allow_reserved),
            as_json=as_json,
        )
        pairs += query_parts(parameter, item)
    # A browser writes a blank as `+`, and every server knows that.
    return Encoded("&".join(pairs).replace("%20", "+").encode(), body.content_type)


def _multipart(body: Body, value: JSON) -> Encoded:
    if not isinstance(value, dict):
        raise InvalidArgument("the body is a multipart form, so it must be an object", field=body.argument)
    boundary = secrets.token_hex(16)
    data = bytearray()
    for name, item in value.items():
        for content, content_type, filename in _parts(name, item, body.parts.get(name, Part())):
            data += f'--{boundary}\r\nContent-Disposition: form-data; name="{_in_quotes(name)}"'.encode()
            if filename is not None:
                data += f'; filename="{_in_quotes(filename)}"'.encode()
            data += f"\r\nContent-Type: {content_type}\r\n\r\n".encode() if content_type else b"\r\n\r\n"
            data += content + b"\r\n"
    data += f"--{boundary}--\r\n".encode()
    return Encoded(bytes(data), f"{body.content_type}; boundary={boundary}")


def _parts(name: str, value: JSON, part: Part) -> Iterator[tuple[bytes, str, str | None]]:
    """Content, type (may be empty) and file name of each part that a property becomes: one for each of a list."""
    for item in value if isinstance(value, list) else [value]:
        if part.file:
            yield _file(name, item, part.content_type)
        elif isinstance(item, dict | list):
            content = json.dumps(item, ensure_ascii=False, separators=(",", ":")).encode()
            yield content, part.content_type or "application/json", None
        elif item is not None:
            yield text_of(item).encode(), part.content_type, None


def _file(name: str, value: JSON, content_type: str) -> tuple[bytes, str, str]:
    if not isinstance(value, dict) or ("base64" in value) == ("text" in value):
        raise InvalidArgument(f"{name} is a file: give it as an object with either `base64` or `text`", field=name)
    content = _decoded(name, value["base64"]) if "base64" in value else str(value["text"]).encode()
    given = value.get("content_type", "")
    if given and not _MEDIA_TYPE.fullmatch(given):
        raise InvalidArgument(f"content_type of {name} must be a media type such as image/png", field=name)
    concrete = content_type if "*" not in content_type else ""
    return content, given or concrete or "application/octet-stream", value.get("filename") or name


def _text(body: Body, value: JSON) -> Encoded:
    content_type = body.content_type
    if "charset" not in content_type and content_type.startswith("text/"):
        content_type += "; charset=utf-8"
    return Encoded(text_of(value).encode(), content_type)


def _binary(body: Body, value: JSON) -> Encoded:
    if isinstance(value, dict):  # of any type: the caller says which
        content, content_type, _ = _file(body.argument, value, body.content_type)
        return Encoded(content, content_type)
    return Encoded(_decoded(body.argument, value), body.content_type)


def _decoded(name: str, text: JSON) -> bytes:
    try:
        return base64.b64decode(str(text), validate=True)
    except (binascii.Error, ValueError):
        raise InvalidArgument(f"{name} is not base64; encode the bytes as base64, on one line", field=name) from None


def _in_quotes(text: str) -> str:
    """As browsers write a name within quotes: what would end it is percent-encoded."""
    return text.replace('"', "%22").replace("\r", "%0D").replace("\n", "%0A")


def media_type_problem(text: str) -> str:
    """Why `text` cannot be sent as a Content-Type; empty where it can."""
    return "" if _MEDIA_TYPE.fullmatch(text) else f"{quote(text[:60])} is no media type"


_ENCODERS = {"json": _json, "form": _form, "multipart": _multipart, "text": _text, "binary": _binary}
