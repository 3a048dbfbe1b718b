"""Parameters and body of an operation as the properties of one tool, and how each goes into the request."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from shared.errors import InvalidArgument

from .. import headers
from ..bodies import FILE_SCHEMA, Body, Kind, Part, media_type_problem
from ..parameters import STYLES, Parameter, Place, as_place
from ..tool import ABSENT
from ..wire_names import WireNames
from .document import References
from .flat import UNION
from .schemas import FILE, FILES, Remarks, Schemas, TooLarge, hashed_name, is_small, safe_name, words_of
from .security import Covered

_MOST_ARGUMENTS = 100
_LONGEST_EXAMPLE = 300  # characters
_OWN_HEADERS = ("accept", "content-type", "authorization", "cookie")  # by OpenAPI, no parameter describes the first 3
_IDEMPOTENCY = "idempotency-key"
_ANY_TYPE = "*/*"


class Refused(Exception):
    """The operation cannot be a tool. The message says why."""


@dataclass
class Arguments:
    """What a tool's arguments are, and where they go."""

    properties: dict[str, dict[str, Any]] = field(default_factory=dict)
    required: list[str] = field(default_factory=list)
    parameters: list[Parameter] = field(default_factory=list)
    body: Body | None = None
    idempotency_header: str = ""

    def schema(self) -> dict[str, Any]:
        schema: dict[str, Any] = {"type": "object", "properties": self.properties, "additionalProperties": False}
        return schema | {"required": self.required} if self.required else schema

    def example(self) -> str:
        """A call's arguments as JSON, where the document has a value for each that is required; else empty."""
        values: dict[str, Any] = {}
        for name in self.required:
            about = self.properties[name]
            known = [*about.get("examples", ()), *about.get("enum", ())[:1]]
            if "default" in about:
                known.append(about["default"])
            if not known:
                return ""
            values[name] = known[0]
        text = json.dumps(values, ensure_ascii=False) if values else ""
        return text if len(text) <= _LONGEST_EXAMPLE else ""


class Reader:
    """Reads one operation. Raises Refused and BadReference."""

    def __init__(self, references: References, schemas: Schemas, remarks: Remarks, covered: Sequence[Covered]) -> None:
        self._references = references
        self._schemas = schemas
        self._remark = remarks
        self._covered = {(cover.place, _key(cover.place, cover.name)) for cover in covered}
        self._arguments = Arguments()

    def read(self, shared: Any, own: Any, in_path: Sequence[str], body: Any, method: str) -> Arguments:
        """`shared` and `own` are the parameters of the path item and of the operation, `in_path` the names that its
        path has."""
        described = self._described(shared, own)
        for name in in_path:
            if ("path", name) not in described:
                self._remark(f"the path's {{{name[:60]}}} is not described; it is taken for a text")
                described["path", name] = {"name": name, "in": "path", "schema": {"type": "string"}}
        # Those of the path first: they are the ones that a name is kept for.
        for (place, _), parameter in sorted(described.items(), key=lambda entry: entry[0][0] != "path"):
            self._parameter(place, parameter, in_path)
        if body is not None:
            self._body(body, method)
        if len(self._arguments.properties) > _MOST_ARGUMENTS:
            raise Refused(f"it has more than {_MOST_ARGUMENTS} arguments")
        return self._arguments

    # ---------------------------------------------------------------- parameters

    def _described(self, shared: Any, own: Any) -> dict[tuple[Place, str], dict[str, Any]]:
        """By place and name: the operation's own count for more than its path's."""
        described: dict[tuple[Place, str], dict[str, Any]] = {}
        for parameter in [*_listed(shared), *_listed(own)]:
            parameter, _ = self._references.resolve(parameter)
            name, place = (parameter.get("name"), parameter.get("in")) if isinstance(parameter, dict) else (None, None)
            known = as_place(place) if isinstance(place, str) else None
            if not isinstance(name, str) or not name or known is None:
                if isinstance(parameter, dict) and parameter.get("required") is True:
                    raise Refused(f"a parameter that it requires has no name, or is `in: {str(place)[:40]}`")
                self._remark("a parameter without a name, or in no place that is known, is left out")
                continue
            described[known, name] = parameter
            if len(described) > 2 * _MOST_ARGUMENTS:
                raise Refused(f"it has more than {_MOST_ARGUMENTS} arguments")
        return described

    def _parameter(self, place: Place, about: dict[str, Any], in_path: Sequence[str]) -> None:
        name: str = about["name"]
        if (place, _key(place, name)) in self._covered:
            self._remark(f"{name[:60]} is filled with the credential")
            return
        if place == "path" and name not in in_path:
            self._remark(f"the path has no {{{name[:60]}}}: that parameter is left out")
            return
        if place == "header" and self._is_own_header(name):
            return
        value_schema, as_json = self._schema_of(about, place)
        shown = self._schemas.shown(value_schema)
        schema = shown.schema
        if text := words_of(about.get("description")):
            schema["description"] = text
        for example in self._examples(about):
            schema["examples"] = [example]
        if about.get("deprecated") is True:
            schema["description"] = f"Deprecated. {schema.get('description', '')}".strip()
        argument = self._add(name, place, schema, required=place == "path" or about.get("required") is True)
        style = self._style(about, place, name)
        explode = about.get("explode")
        self._arguments.parameters.append(
            Parameter(
                argument=argument,
                name=name,
                place=place,
                style=style,
                explode=explode if isinstance(explode, bool) else style in ("form", "deepObject"),
                allow_reserved=place == "query" and about.get("allowReserved") is True,
                as_json=as_json,
                wire_names=shown.names,
            )
        )

    def _is_own_header(self, name: str) -> bool:
        lower = name.lower()
        if lower in _OWN_HEADERS:
            self._remark(f"the header {name[:60]} is left out: it is set here")
            return True
        if lower == _IDEMPOTENCY:
            self._arguments.idempotency_header = name
            self._remark(f"the header {name[:60]} is filled in for each call")
            return True
        try:
            headers.check([(name, "x")])
        except InvalidArgument:
            self._remark(f"{name[:60]!r} is no name of a header, or of one that the transport sets: it is left out")
            return True
        return False

    def _schema_of(self, about: dict[str, Any], place: Place) -> tuple[Any, bool]:
        """The parameter's schema, and whether its value travels as JSON."""
        content = about.get("content")
        if isinstance(content, dict) and content:
            media_type, media = next(iter(content.items()))
            media = media if isinstance(media, dict) else {}
            is_json = _is_json(str(media_type))
            if not is_json:
                self._remark(f"{about['name'][:60]} travels as {str(media_type)[:60]}, which the caller has to write")
            return media.get("schema", {}) if is_json else {"type": "string"}, is_json
        if "schema" not in about:
            self._remark(f"{about['name'][:60]} has no schema; it is taken for a text")
            return {"type": "string"}, False
        return about["schema"], False

    def _examples(self, about: dict[str, Any]) -> list[Any]:
        if "example" in about and is_small(about["example"]):
            return [about["example"]]
        examples = about.get("examples")
        first = next(iter(examples.values()), None) if isinstance(examples, dict) else None
        value = first.get("value", ABSENT) if isinstance(first, dict) else ABSENT
        return [value] if value is not ABSENT and is_small(value) else []

    def _style(self, about: dict[str, Any], place: Place, name: str) -> str:
        style = about.get("style", STYLES[place][0])
        if style in STYLES[place]:
            return str(style)
        self._remark(
            f"the style {str(style)[:40]} is none for a {place} parameter: {name[:60]} is sent as {STYLES[place][0]}"
        )
        return STYLES[place][0]

    def _add(self, name: str, place: str, schema: dict[str, Any], *, required: bool) -> str:
        """Takes in an argument under a name that is free, and says which."""
        argument = safe_name(name)
        if argument in self._arguments.properties:
            argument = safe_name(f"{place}_{argument}")
        if argument in self._arguments.properties:
            argument = hashed_name(f"{place} {name}")
        if argument != name:
            self._remark(f"the {place} parameter {name[:80]!r} is called {argument}")
            schema["description"] = f"{schema.get('description', '')} Sent as `{name[:100]}`.".strip()
        self._arguments.properties[argument] = schema
        if required:
            self._arguments.required.append(argument)
        return argument

    # ---------------------------------------------------------------- body

    def _body(self, about: Any, method: str) -> None:
        about, _ = self._references.resolve(about)
        content = about.get("content") if isinstance(about, dict) else None
        if not isinstance(content, dict) or not content:
            self._remark("its body has no content, and is left out")
            return
        if method in ("GET", "HEAD"):
            self._remark(f"a {method} has no body: it is left out")
            return
        required = about.get("required") is True
        media_type, media, kind = self._media(content)
        description = words_of(about.get("description"))
        if kind in ("text", "binary"):
            self._whole_text(kind, media_type, description, required)
            return
        schema = media.get("schema", {})
        try:
            flat = self._schemas.flat(schema)
        except TooLarge:
            flat = {}
        encoding = media.get("encoding")
        parts = self._parts(flat, encoding if isinstance(encoding, dict) else {}, kind) if kind != "json" else {}
        if files := {name for name, part in parts.items() if part.file}:
            schema = _with_files(flat, files, self._schemas)
        shown = self._schemas.shown(schema)
        if self._is_open(flat, shown.schema, required):
            self._whole(kind, media_type, shown.schema, shown.names, parts, description, required)
        else:
            self._fields(kind, media_type, shown.schema, shown.names, parts, required)

    def _media(self, content: dict[str, Any]) -> tuple[str, dict[str, Any], Kind]:
        """The kind of body that a model words best."""
        ranked: list[tuple[int, str, Kind]] = []
        for media_type in list(content)[:20]:
            plain = media_type.partition(";")[0].strip().lower()
            if _is_json(plain):
                ranked.append((0, media_type, "json"))
            elif plain == "multipart/form-data":
                ranked.append((2, media_type, "multipart"))
            elif plain == "application/x-www-form-urlencoded":
                ranked.append((1, media_type, "form"))
            elif plain.startswith("text/") or plain.endswith(("xml", "yaml", "javascript")):
                ranked.append((3, media_type, "text"))
            elif plain == _ANY_TYPE and "schema" in _mapping(content[media_type]):
                ranked.append((4, media_type, "json"))
            else:
                ranked.append((5, media_type, "binary"))
        _, media_type, kind = min(ranked, key=lambda entry: entry[0])
        if len(content) > 1:
            self._remark(f"of its bodies {media_type[:60]} is sent")
        media = _mapping(self._references.resolve(content[media_type])[0])
        sent = "application/json" if media_type == _ANY_TYPE and kind == "json" else media_type
        if kind != "binary" and media_type_problem(sent):
            raise Refused(f"its body has the type {sent[:60]!r}, which is none")
        return sent, media, kind

    def _is_open(self, flat: Mapping[str, Any], shown: Mapping[str, Any], required: bool) -> bool:
        """Whether the body is an argument of its own: its fields are not all known, or only together."""
        fields = shown.get("properties")
        is_object = shown.get("type", "object") in ("object", ["object", "null"])
        if not fields or not is_object or "anyOf" in shown or UNION in flat:
            return True
        if shown.get("additionalProperties") not in (None, False) or shown.keys() & {"minProperties", "maxProperties"}:
            return True
        if not required and shown.get("required"):
            return True
        return len(fields) + len(self._arguments.properties) > _MOST_ARGUMENTS

    def _fields(
        self,
        kind: Kind,
        media_type: str,
        schema: dict[str, Any],
        names: WireNames | None,
        parts: Mapping[str, Part],
        required: bool,
    ) -> None:
        known = names.properties if names else {}
        properties: dict[str, str] = {}
        wire_names: dict[str, tuple[str, WireNames | None]] = {}
        for safe, inside in schema["properties"].items():
            wire, inner = known.get(safe, (safe, None))
            argument = safe
            if safe in self._arguments.properties:
                argument = self._add(wire, "body", inside, required=safe in schema.get("required", ()))
            else:
                self._arguments.properties[safe] = inside
                if safe in schema.get("required", ()):
                    self._arguments.required.append(safe)
            properties[argument] = wire
            wire_names[wire] = wire, inner
        self._arguments.body = Body(
            kind=kind,
            content_type=media_type,
            properties=properties,
            wire_names=WireNames(wire_names),
            parts=parts,
            required=required,
        )

    def _whole(
        self,
        kind: Kind,
        media_type: str,
        schema: dict[str, Any],
        names: WireNames | None,
        parts: Mapping[str, Part],
        description: str,
        required: bool,
    ) -> None:
        if kind in ("form", "multipart") and "type" not in schema:
            schema = {"type": "object"} | schema
        schema["description"] = description or schema.get("description") or "The body of the request."
        argument = self._add_body(schema, required)
        self._arguments.body = Body(
            kind=kind, content_type=media_type, argument=argument, wire_names=names, parts=parts, required=required
        )

    def _whole_text(self, kind: Kind, media_type: str, description: str, required: bool) -> None:
        schema: dict[str, Any] = {"type": "string"}
        if kind == "text":
            schema["description"] = f"{description} The body as {media_type[:60]}.".strip()
        elif "*" in media_type or media_type_problem(media_type):
            schema = dict(FILE_SCHEMA)
        else:
            schema["description"] = f"{description} The body ({media_type[:60]}) as base64.".strip()
            schema["contentEncoding"] = "base64"
        argument = self._add_body(schema, required)
        self._arguments.body = Body(kind=kind, content_type=media_type, argument=argument, required=required)

    def _add_body(self, schema: dict[str, Any], required: bool) -> str:
        argument = "body" if "body" not in self._arguments.properties else "request_body"
        if argument in self._arguments.properties:
            argument = hashed_name("request body")
        self._arguments.properties[argument] = schema
        if required:
            self._arguments.required.append(argument)
        return argument

    def _parts(self, flat: Mapping[str, Any], encoding: Mapping[str, Any], kind: Kind) -> dict[str, Part]:
        """How the fields of a form travel, those that need saying."""
        parts: dict[str, Part] = {}
        fields = dict(flat.get("properties", {}))
        for branch in list(flat.get(UNION, ()))[:20]:
            try:
                fields = {**self._schemas.flat(branch).get("properties", {}), **fields}
            except TooLarge:
                break
        for name, schema in list(fields.items())[: 2 * _MOST_ARGUMENTS]:
            about = _mapping(encoding.get(name))
            written = about.get("contentType")
            content_type = written.partition(",")[0].strip() if isinstance(written, str) else ""
            if content_type and "*" not in content_type and media_type_problem(content_type):
                self._remark(f"the type {content_type[:40]!r} of the field {name[:60]} is none, and left out")
                content_type = ""
            style = about.get("style")
            file_type = self._file_type(schema, content_type) if kind == "multipart" else None
            is_file = file_type is not None
            content_type = file_type if file_type is not None else "" if "*" in content_type else content_type
            if about.get("headers"):
                self._remark(f"headers of the part {name[:60]} are not sent")
            if kind == "form" and (style in STYLES["query"] or "explode" in about or "allowReserved" in about):
                chosen = str(style) if style in STYLES["query"] else "form"
                explode = about.get("explode")
                parts[name] = Part(
                    style=chosen,
                    explode=explode if isinstance(explode, bool) else chosen in ("form", "deepObject"),
                    allow_reserved=about.get("allowReserved") is True,
                )
            elif kind == "multipart" and (is_file or content_type):
                parts[name] = Part(content_type=content_type, file=is_file)
        return parts

    def _file_type(self, schema: Any, content_type: str) -> str | None:
        """The media type of a field that is a file or a list of files, empty where none is said; None of others."""
        try:
            flat = self._schemas.flat(schema)
            if flat.get("type") == ["array"]:
                flat = self._schemas.flat(flat.get("items", {}))
        except TooLarge:
            return None
        if flat.get("contentEncoding") or flat.get("type", ["string"])[:1] != ["string"]:
            return None
        written = flat.get("contentMediaType")
        if flat.get("format") == "binary" or written:
            is_type = isinstance(written, str) and not media_type_problem(written)
            return content_type or (str(written) if is_type else "")
        plain = content_type.lower()
        textual = _is_json(plain) or plain.startswith("text/") or plain.endswith("xml")
        return content_type if (plain and not textual) or not flat else None


def _with_files(flat: dict[str, Any], files: set[str], schemas: Schemas) -> dict[str, Any]:
    """The schema of a form with a mark in the place of each file."""

    def marked(properties: Mapping[str, Any]) -> dict[str, Any]:
        return {
            name: (FILES if schemas.flat(inner).get("type") == ["array"] else FILE) if name in files else inner
            for name, inner in properties.items()
        }

    result = {name: value for name, value in flat.items() if name != UNION}
    try:
        result["properties"] = marked(flat.get("properties", {}))
        if UNION in flat:
            branches = [schemas.flat(branch) for branch in flat[UNION]]
            result["anyOf"] = [{**branch, "properties": marked(branch.get("properties", {}))} for branch in branches]
    except TooLarge:
        return {"type": "object"}
    return result


def _key(place: str, name: str) -> str:
    return name.lower() if place == "header" else name


def _listed(value: Any) -> list[Any]:
    return value[: 4 * _MOST_ARGUMENTS] if isinstance(value, list) else []


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _is_json(media_type: str) -> bool:
    plain = media_type.partition(";")[0].strip().lower()
    return plain in ("application/json", "text/json") or plain.endswith("+json")
