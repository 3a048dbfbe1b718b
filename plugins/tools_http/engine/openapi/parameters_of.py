"""The parameters of an operation as arguments of a tool, and how each goes into the request."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from shared.errors import InvalidArgument

from .. import headers
from ..parameters import STYLES, Parameter, Place, as_place
from ..tool import ABSENT
from .arguments_of import MOST_ARGUMENTS, Arguments, Refused, is_json
from .document import References
from .schemas import Remarks, Schemas
from .security import Covered
from .values import is_small, words_of

_OWN_HEADERS = ("accept", "content-type", "authorization", "cookie")  # by OpenAPI, no parameter describes the first 3
_IDEMPOTENCY = "idempotency-key"


class ParameterReader:
    """Adds to `arguments`. Raises Refused and BadReference."""

    def __init__(
        self,
        references: References,
        schemas: Schemas,
        remarks: Remarks,
        covered: Sequence[Covered],
        arguments: Arguments,
    ) -> None:
        self._references = references
        self._schemas = schemas
        self._remark = remarks
        self._covered = {(cover.place, _key(cover.place, cover.name)) for cover in covered}
        self._arguments = arguments

    def read(self, shared: Any, own: Any, in_path: Sequence[str]) -> None:
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
            if len(described) > 2 * MOST_ARGUMENTS:
                raise Refused(f"it has more than {MOST_ARGUMENTS} arguments")
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
        argument = self._arguments.add(name, place, schema, required=place == "path" or about.get("required") is True)
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
            as_json = is_json(str(media_type))
            if not as_json:
                self._remark(f"{about['name'][:60]} travels as {str(media_type)[:60]}, which the caller has to write")
            return media.get("schema", {}) if as_json else {"type": "string"}, as_json
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


def _key(place: str, name: str) -> str:
    return name.lower() if place == "header" else name


def _listed(value: Any) -> list[Any]:
    return value[: 4 * MOST_ARGUMENTS] if isinstance(value, list) else []
