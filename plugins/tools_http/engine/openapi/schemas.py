"""A document's schemas as those that every model's API takes: no `$ref`, safe names, bounded in depth and in size.

What a model may send is never narrowed down: where a schema cannot be said in full the result takes more, and a remark
tells the operator. Properties that are read only are left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from shared.json_schema import schema_problem

from ..bodies import FILE_SCHEMA
from ..wire_names import Ambiguous, WireNames, merged
from .document import References
from .flat import CYCLE, NEVER, UNION, Flattener
from .names import hashed_name, safe_name
from .values import cut, is_number, is_scalar, is_small, sent_as, words_of

MOST_STEPS = 2_000  # schemas and parts of schemas that are looked at for one tool
_DEPTHS = (8, 4, 2, 1)  # levels; the next one where the one before gives too large a schema
_MOST_ENUM, _MOST_ENUM_CHARACTERS = 200, 10_000
_LONGEST_PATTERN = 500
_TYPES = ("object", "array", "string", "number", "integer", "boolean", "null")
_SIZES = ("minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties")
_NUMBERS = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf")

# In a document's place of a schema: a file (by identity, so no document can say so).
FILE: dict[str, Any] = {"type": "object"}
FILES: dict[str, Any] = {"type": "array", "items": FILE}


class TooLarge(Exception):
    """More schemas than a tool may have."""


class Shown(NamedTuple):
    schema: dict[str, Any]
    names: WireNames | None


class Remarks:
    """What was changed, each thing once."""

    def __init__(self) -> None:
        self.all: dict[str, None] = {}

    def __call__(self, text: str) -> None:
        if len(self.all) < 50:
            self.all[text] = None


class Schemas:
    """The schemas of one operation. `steps` says how much was looked at."""

    def __init__(self, references: References, siblings: bool, remarks: Remarks, patterns: dict[str, bool]) -> None:
        self._references = references
        self._remarks = self._told = remarks
        self._patterns = patterns  # of the document: whether each can be checked
        self._left = MOST_STEPS
        self.steps = 0
        self._flattener = Flattener(references, siblings, self._step, self._remark)

    def flat(self, schema: Any) -> dict[str, Any]:
        """The keywords of a schema, not yet fit to be shown. Raises BadReference, TooLarge."""
        return self._flattener.flat(schema, frozenset())[0]

    def shown(self, schema: Any) -> Shown:
        """The schema as a model is shown it. Raises BadReference."""
        before = self._left
        for depth in _DEPTHS:
            self._left, self._remarks = before, Remarks()
            try:
                result = self._converted(schema, depth, frozenset())
            except (TooLarge, RecursionError):
                continue
            finally:
                tried, self._remarks = self._remarks, self._told
            for remark in tried.all:
                self._told(remark)
            return result or Shown({}, None)
        self._left = before // 2
        self._told("too large to be shown: a plain object, whose fields are the API's")
        return Shown({"type": "object"}, None)

    def _step(self, count: int) -> None:
        self.steps += count
        self._left -= count
        if self._left < 0:
            raise TooLarge

    def _remark(self, text: str) -> None:
        self._remarks(text)

    def _converted(
        self, schema: Any, depth: int, above: frozenset[str], inherited: frozenset[str] = frozenset()
    ) -> Shown | None:
        """None where no value of a request has that place: it is read only, or nothing holds to it."""
        if schema is FILE or schema is FILES:
            return Shown(dict(FILE_SCHEMA) if schema is FILE else {"type": "array", "items": dict(FILE_SCHEMA)}, None)
        flat, references = self._flattener.flat(schema, above, inherited)
        if flat.get("readOnly") or flat.get(NEVER):
            return None
        shown = _words(flat)
        if CYCLE in flat:
            self._remark(f"{cut(flat[CYCLE], 100)} holds itself; where it comes again it is a plain object")
            return Shown(self._plain(self._references.at(flat[CYCLE])) | shown, None)
        if UNION in flat:
            return self._union(flat, shown, depth, above, references)
        return self._emitted(flat, shown, depth, above | references)

    def _emitted(self, flat: dict[str, Any], shown: dict[str, Any], depth: int, above: frozenset[str]) -> Shown:
        types = [kind for kind in flat.get("type", ()) if kind in _TYPES]
        if "type" in flat and not types:
            self._remark(f"an unknown type ({cut(str(flat['type']), 40)}) is not checked")
        nullable = flat.get("nullable") is True or "null" in types
        types = [kind for kind in types if kind != "null"]
        if not types:
            types = _inferred(flat)
        if depth <= 0 and _has_inside(flat):
            self._remark("nested too deep to be shown: a plain object, whose fields are the API's")
            return Shown(self._plain(flat) | shown, None)
        names: WireNames | None = None
        if not types or "object" in types:
            inside = self._object(flat, depth, above)
            shown |= inside.schema
            names = inside.names
        if "array" in types:
            inside = self._array(flat, depth, above)
            shown |= inside.schema
            names = merged(names, inside.names)
        self._values(flat, types, nullable, shown)
        if types:
            kinds = [*types, "null"] if nullable else types
            shown["type"] = kinds[0] if len(kinds) == 1 else kinds
        return Shown(_in_order(shown), names)

    def _union(
        self, flat: dict[str, Any], shown: dict[str, Any], depth: int, above: frozenset[str], references: frozenset[str]
    ) -> Shown | None:
        """A choice of schemas, beside which there may be keywords that hold for all of them."""
        self._step(len(flat[UNION]))
        own = {name: value for name, value in flat.items() if name != UNION}
        branches = [branch for branch in flat[UNION] if not _is_null(branch)]
        own["nullable"] = flat.get("nullable") is True or len(branches) < len(flat[UNION])
        if len(branches) == 1:
            return self._converted({"allOf": [own, *branches]}, depth, above, references)
        # Cat has from Pet the choice of Cat and Dog, and has made it.
        made = any(isinstance(branch, dict) and branch.get("$ref") in references for branch in branches)
        if made or not branches:
            return self._emitted(own, shown, depth, above | references)
        if depth <= 0:
            self._remark("nested too deep to be shown: a choice of schemas, which is not checked")
            return self._emitted({name: own[name] for name in own if name != "properties"}, shown, 0, above)
        whole = self._emitted(own, shown, depth, above | references)
        options = [self._converted(branch, depth - 1, above, references) for branch in branches]
        parts = [whole, *(option for option in options if option)]
        try:
            names = None
            for part in parts:
                names = merged(names, part.names)
            _check_names(names, parts)
        except Ambiguous:
            self._remark("a choice of schemas in which one name would stand for two: a plain object instead")
            return Shown(self._plain(own) | shown, None)
        schema = whole.schema
        choices = [part.schema for part in parts[1:]]
        # Where one of them takes everything, so does the choice.
        if choices and not any(_takes_all(choice, schema) for choice in choices):
            schema["anyOf"] = [*choices, {"type": "null"}] if own["nullable"] else choices
        return Shown(_in_order(schema), names)

    def _object(self, flat: dict[str, Any], depth: int, above: frozenset[str]) -> Shown:
        properties = flat.get("properties", {})
        required = flat.get("required", [])
        missing = [name for name in required if name not in properties]
        if not properties and not missing and not isinstance(flat.get("additionalProperties"), dict):
            closed = "additionalProperties" in flat and flat["additionalProperties"] is False
            return Shown({"additionalProperties": False} if closed else {}, None)
        shown: dict[str, Any] = {}
        names: dict[str, tuple[str, WireNames | None]] = {}
        safe_of: dict[str, str] = {}
        for name in [*properties, *missing]:
            inside = self._converted(properties.get(name, {}), depth - 1, above)
            if inside is None:
                continue
            safe = safe_name(name)
            if safe in shown:
                safe = hashed_name(name)
            if safe in shown:
                self._remark(f"the field {cut(name, 80)!r} is left out: its name is like another's")
                continue
            safe_of[name] = safe
            shown[safe] = inside.schema
            if safe != name:
                self._remark(f"the field {cut(name, 80)!r} is called {safe}")
                inside.schema["description"] = sent_as(inside.schema.get("description", ""), name)
            if safe != name or inside.names:
                names[safe] = name, inside.names
        schema: dict[str, Any] = {"properties": shown} if shown else {}
        if wanted := [safe_of[name] for name in required if name in safe_of]:
            schema["required"] = wanted
        rest: WireNames | None = None
        more = flat.get("additionalProperties")
        if isinstance(more, dict):
            inside = self._converted(more, depth - 1, above)
            schema["additionalProperties"] = inside.schema if inside else False
            rest = inside.names if inside else None
        elif isinstance(more, bool):
            schema["additionalProperties"] = more
        return Shown(schema, WireNames(names, None, rest) if names or rest else None)

    def _array(self, flat: dict[str, Any], depth: int, above: frozenset[str]) -> Shown:
        inside = self._converted(flat.get("items", {}), depth - 1, above)
        # Without `items` some APIs of models take no array.
        schema: dict[str, Any] = {"items": inside.schema if inside else {}}
        if flat.get("uniqueItems") is True:
            schema["uniqueItems"] = True
        return Shown(schema, WireNames({}, inside.names) if inside and inside.names else None)

    def _values(self, flat: dict[str, Any], types: list[str], nullable: bool, shown: dict[str, Any]) -> None:
        """What says of single values which may be."""
        if isinstance(flat.get("enum"), list):
            values = list({(type(value), str(value)): value for value in flat["enum"] if is_scalar(value)}.values())
            characters = sum(len(value) for value in values if isinstance(value, str))
            if not all(is_scalar(value) for value in flat["enum"]):
                self._remark("an enum of lists or objects is not checked")
            elif len(values) > _MOST_ENUM or characters > _MOST_ENUM_CHARACTERS:
                self._remark(f"an enum of {len(values)} values is too long to be shown, and not checked")
            elif values:
                shown["enum"] = [*values, None] if nullable and None not in values else values
        for name in _SIZES:
            value = flat.get(name)
            if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
                shown[name] = value
        for name in _NUMBERS:
            if is_number(flat.get(name)) and (name != "multipleOf" or flat[name] > 0):
                shown[name] = flat[name]
        for bound, exclusive in (("minimum", "exclusiveMinimum"), ("maximum", "exclusiveMaximum")):
            if flat.get(exclusive) is True and bound in shown:  # OpenAPI 3.0
                shown[exclusive] = shown.pop(bound)
        if isinstance(flat.get("format"), str) and len(flat["format"]) <= 40:
            shown["format"] = flat["format"]
        if isinstance(flat.get("pattern"), str):
            self._pattern(flat["pattern"], shown)
        if "default" in flat and is_small(flat["default"]):
            shown["default"] = flat["default"]
        examples = [flat["example"]] if "example" in flat else flat.get("examples")
        if isinstance(examples, list) and examples and is_small(examples[0]):
            shown["examples"] = examples[:1]

    def _pattern(self, pattern: str, shown: dict[str, Any]) -> None:
        if pattern not in self._patterns:
            usable = len(pattern) <= _LONGEST_PATTERN and not schema_problem({"type": "string", "pattern": pattern})
            self._patterns[pattern] = usable
        if self._patterns[pattern]:
            shown["pattern"] = pattern
        else:
            self._remark("a pattern that cannot be checked in linear time is left out")

    def _plain(self, flat: Any) -> dict[str, Any]:
        kinds = flat.get("type") if isinstance(flat, Mapping) else None
        if kinds == "array" or kinds == ["array"]:
            return {"type": "array", "items": {}}
        return {"type": "object"}


def _check_names(names: WireNames | None, parts: list[Shown]) -> None:
    """Raises Ambiguous where a name that stands for another in one part stands for itself in another part."""
    for safe, (wire, _) in (names.properties if names else {}).items():
        for part in parts:
            known = part.names.properties if part.names else {}
            if safe in part.schema.get("properties", {}) and known.get(safe, (safe, None))[0] != wire:
                raise Ambiguous(safe)


def _takes_all(choice: dict[str, Any], whole: dict[str, Any]) -> bool:
    """Whether what holds to `whole` holds to `choice` anyway."""
    says = choice.keys() - {"description"}
    return not says or (says == {"type"} and choice["type"] == whole.get("type"))


def _words(flat: Mapping[str, Any]) -> dict[str, Any]:
    text = words_of(flat.get("description")) or words_of(flat.get("title"))
    if flat.get("deprecated"):
        text = f"Deprecated. {text}".strip()
    return {"description": text} if text else {}


def _is_null(branch: Any) -> bool:
    if not isinstance(branch, dict):
        return False
    return (
        branch.get("type") in ("null", ["null"])
        or branch.get("enum") == [None]
        or ("const" in branch and branch["const"] is None)
    )


def _has_inside(flat: Mapping[str, Any]) -> bool:
    return bool(flat.get("properties")) or any(
        isinstance(flat.get(name), dict) and flat[name] for name in ("items", "additionalProperties")
    )


def _inferred(flat: Mapping[str, Any]) -> list[str]:
    """The type that the writer forgot."""
    if flat.get("properties") or isinstance(flat.get("additionalProperties"), dict):
        return ["object"]
    if "items" in flat:
        return ["array"]
    enum = flat.get("enum")
    if isinstance(enum, list) and enum and all(isinstance(value, str) for value in enum):
        return ["string"]
    return []


def _in_order(schema: dict[str, Any]) -> dict[str, Any]:
    """What a reader wants first comes first."""
    return {name: schema[name] for name in ("type", "description", "enum") if name in schema} | schema
