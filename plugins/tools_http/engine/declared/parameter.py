"""One parameter of a declared tool: what a model is shown of it, and where it goes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from shared.errors import StartError
from shared.units import name_for_message, read_bool

from ..bodies import FILE_SCHEMA, Part
from ..credentials import check_headers, checked_keys, text
from ..parameters import STYLES, Parameter, as_place
from ..tool import ABSENT, NAME

_OF_A_PARAMETER = ("in", "name", "required", "value", "style", "explode", "allow_reserved", "schema", "file")
_OF_A_SCHEMA = ("type", "description", "enum", "const", "default", "examples", "format", "pattern", "minimum",
                "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf", "minLength", "maxLength", "items",
                "minItems", "maxItems", "uniqueItems", "properties", "additionalProperties", "title")  # fmt: skip


class ParameterReader:
    """Raises StartError, which names tool and parameter."""

    def __init__(self, place: str, argument: str, about: object, in_path: Sequence[str], method: str) -> None:
        if not NAME.fullmatch(argument):
            raise StartError(
                f"{place}: parameters: {name_for_message(argument, about)} is no name that every model takes, which "
                "is 1 to 64 letters, digits, _ and -; give it such a one, and the API's own as `name`"
            )
        self.place = f"{place}: parameters: {name_for_message(argument, about)}"
        self.argument = argument
        self.about = checked_keys(self.place, about, (*_OF_A_PARAMETER, *_OF_A_SCHEMA))
        self.wire = text(f"{self.place}: name", self.about.get("name", argument))
        self.value = self.about.get("value", ABSENT)
        default = "path" if self.wire in in_path else "query" if method in ("GET", "HEAD", "DELETE") else "body"
        self.into = self.about.get("in", default)
        if self.into not in (*STYLES, "body", "whole_body"):
            raise StartError(f"{self.place}: in must be one of {', '.join(STYLES)}, body, whole_body")
        if self.into == "path" and self.wire not in in_path:
            raise StartError(f"{self.place}: the url has no {{{self.wire}}}; write it there, or another `in`")
        if self.into == "header":
            check_headers(self.place, {self.wire: "x"})
        if self.into == "whole_body" and self.value is not ABSENT:
            raise StartError(f"{self.place}: a whole body is no fixed value; write the fields as `in: body`")
        self.file = self._flag("file", False)
        # A path has no gaps; elsewhere a default says that it may be left out.
        self.required = self.into == "path" or self._flag("required", False)

    def parameter(self) -> Parameter:
        place = as_place(self.into)
        assert place is not None
        fixed = self.value if self.value is not ABSENT else ABSENT
        return Parameter(
            argument=self.argument,
            name=self.wire,
            place=place,
            style=self._style(),
            explode=self._flag("explode", self._style() in ("form", "deepObject")),
            allow_reserved=self._flag("allow_reserved", False),
            fixed=fixed,
            default=self.about.get("default", ABSENT),
        )

    def part(self) -> Part:
        style = str(self.about.get("style", ""))
        if style and style not in STYLES["query"]:
            raise StartError(f"{self.place}: style must be one of {', '.join(STYLES['query'])}")
        return Part(style=style, explode=self._flag("explode", True), file=self.file)

    def schema(self) -> dict[str, Any]:
        if self.file:
            return dict(FILE_SCHEMA) | {key: self.about[key] for key in ("description",) if key in self.about}
        schema = self.about.get("schema", {})
        if not isinstance(schema, Mapping):
            raise StartError(f"{self.place}: schema must be a JSON Schema, a mapping")
        schema = dict(schema) | {key: self.about[key] for key in _OF_A_SCHEMA if key in self.about}
        if not schema.keys() & {"type", "enum", "const", "anyOf", "oneOf"}:
            raise StartError(f"{self.place}: say its `type`, such as string, integer, boolean, array")
        if problem := _not_for_models(schema):
            raise StartError(f"{self.place}: {problem}")
        return schema

    def _style(self) -> str:
        styles = STYLES[self.into]
        style = self.about.get("style", styles[0])
        if style not in styles:
            raise StartError(f"{self.place}: style must be one of {', '.join(styles)}")
        return str(style)

    def _flag(self, key: str, default: bool) -> bool:
        try:
            return read_bool(self.about.get(key, default))
        except ValueError as error:
            raise StartError(f"{self.place}: {key}: {error}") from None


def _not_for_models(schema: Any) -> str:
    """Why a schema is not one that every model's API takes; empty where it is."""
    if isinstance(schema, Mapping):
        if "$ref" in schema:
            return "not every model's API takes a $ref; write what it leads to"
        properties = schema.get("properties", {})
        for name in properties if isinstance(properties, Mapping) else ():
            if not NAME.fullmatch(str(name)):
                return f"{name_for_message(name)} is no name that every model takes, which is 1 to 64 of A-Za-z0-9_-"
        inside: Any = schema.values()
    else:
        inside = schema if isinstance(schema, list) else ()
    return next(filter(None, map(_not_for_models, inside)), "")
