"""The body of an operation as arguments of a tool: its fields where they are known, else all of it as one argument."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..bodies import FILE_SCHEMA, Body, Kind, Part, media_type_problem
from ..parameters import STYLES
from ..wire_names import WireNames
from .arguments_of import MOST_ARGUMENTS, Arguments, Refused, as_mapping, is_json
from .document import References
from .flat import UNION
from .names import hashed_name
from .schemas import FILE, FILES, Remarks, Schemas, TooLarge
from .values import words_of

_ANY_TYPE = "*/*"


class BodyReader:
    """Adds to `arguments`. Raises Refused and BadReference."""

    def __init__(self, references: References, schemas: Schemas, remarks: Remarks, arguments: Arguments) -> None:
        self._references = references
        self._schemas = schemas
        self._remark = remarks
        self._arguments = arguments

    def read(self, about: Any, method: str) -> None:
        """`about` is the operation's requestBody."""
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
            if is_json(plain):
                ranked.append((0, media_type, "json"))
            elif plain == "multipart/form-data":
                ranked.append((2, media_type, "multipart"))
            elif plain == "application/x-www-form-urlencoded":
                ranked.append((1, media_type, "form"))
            elif plain.startswith("text/") or plain.endswith(("xml", "yaml", "javascript")):
                ranked.append((3, media_type, "text"))
            elif plain == _ANY_TYPE and "schema" in as_mapping(content[media_type]):
                ranked.append((4, media_type, "json"))
            else:
                ranked.append((5, media_type, "binary"))
        _, media_type, kind = min(ranked, key=lambda entry: entry[0])
        if len(content) > 1:
            self._remark(f"of its bodies {media_type[:60]} is sent")
        media = as_mapping(self._references.resolve(content[media_type])[0])
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
        return len(fields) + len(self._arguments.properties) > MOST_ARGUMENTS

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
                argument = self._arguments.add(wire, "body", inside, required=safe in schema.get("required", ()))
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
        for name, schema in list(fields.items())[: 2 * MOST_ARGUMENTS]:
            about = as_mapping(encoding.get(name))
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
        textual = is_json(plain) or plain.startswith("text/") or plain.endswith("xml")
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
