"""A schema of a document with its `$ref` and `allOf` put together into one mapping of keywords.

A value that holds to the whole holds to the mapping; where `allOf` asks for what one mapping cannot say, the mapping
asks for less, and a remark says so.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .document import References

_LOWER = ("minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties")  # of two the larger counts
_UPPER = ("maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties")  # of two the smaller counts
_FLAGS = ("nullable", "readOnly", "writeOnly", "deprecated", "uniqueItems")  # true where one part says so
_FIRST = ("title", "description", "format", "pattern", "default", "example", "examples", "multipleOf",
          "contentMediaType", "contentEncoding", "discriminator")  # fmt: skip
# They can only narrow down, so without them more is taken; the API says the rest.
_UNUSED = ("not", "if", "then", "else", "dependentSchemas", "dependentRequired", "patternProperties", "propertyNames",
           "contains", "minContains", "maxContains", "prefixItems", "unevaluatedProperties", "unevaluatedItems",
           "$dynamicRef", "$recursiveRef")  # fmt: skip

_PER_STEP = 50  # names or values that are copied for one step

NEVER = "never"  # a keyword of ours: no value holds
CYCLE = "cycle"  # a keyword of ours: the `$ref` by which the schema holds itself
UNION = "union"  # oneOf or anyOf, whose difference is not checked


class Flattener:
    """`step` is told how much work comes, and may raise; `remark` is told what was left out."""

    def __init__(
        self, references: References, siblings: bool, step: Callable[[int], None], remark: Callable[[str], None]
    ) -> None:
        self._references = references
        self._siblings = siblings  # keywords beside a `$ref` count, as they do from OpenAPI 3.1 on
        self._step = step
        self._remark = remark

    def flat(
        self, schema: Any, above: frozenset[str], inherited: frozenset[str] = frozenset()
    ) -> tuple[dict[str, Any], frozenset[str]]:
        """The keywords, and the references that led to them. `above` are those of the schemas that this one is in, and
        `inherited` those of the one whose choices this one is: Cat has all of Pet, but not again Pet's choice of Cat
        and Dog. Raises BadReference."""
        flat: dict[str, Any] = {}
        references: set[str] = set()
        parts = [schema]
        while parts:
            self._step(1)
            part = parts.pop()
            if part is False:
                flat[NEVER] = True
            if not isinstance(part, dict):
                continue
            reference = part.get("$ref")
            if isinstance(reference, str):
                part = self._beside(part)
                if reference in above:
                    flat[CYCLE] = reference
                elif reference not in references:
                    references.add(reference)
                    target = self._references.at(reference)
                    if reference in inherited and isinstance(target, dict):
                        target = {name: value for name, value in target.items() if name not in ("oneOf", "anyOf")}
                    parts.append(target)
            if isinstance(part.get("allOf"), list):
                self._step(len(part["allOf"]))
                parts.extend(reversed(part["allOf"]))
            self._merge(flat, part)
        return flat, frozenset(references)

    def _beside(self, part: dict[str, Any]) -> dict[str, Any]:
        names = part.keys() if self._siblings else part.keys() & {"description", "summary"}
        return {name: part[name] for name in names if name != "$ref"}

    def _merge(self, flat: dict[str, Any], part: dict[str, Any]) -> None:
        for name, value in part.items():
            if isinstance(value, dict | list):
                self._step(len(value) // _PER_STEP)
            if name in _FIRST:
                flat.setdefault(name, value)
            elif name == "properties":
                if isinstance(value, dict):
                    self._merge_properties(flat, value)
            elif name == "required":
                if isinstance(value, list):
                    wanted = [item for item in value if isinstance(item, str)]
                    names = dict.fromkeys([*flat.get("required", ()), *wanted])
                    flat["required"] = list(names)
            elif name == "type":
                self._merge_type(flat, value)
            elif name in ("enum", "const"):
                self._merge_enum(flat, [value] if name == "const" else value)
            elif name in ("oneOf", "anyOf"):
                if isinstance(value, list) and value:
                    if UNION in flat:
                        self._remark(f"a second choice ({name}) beside another is not checked")
                    flat.setdefault(UNION, value)
            elif name == "items":
                flat[name] = {"allOf": [flat[name], value]} if name in flat else value
            elif name == "additionalProperties":
                self._merge_additional(flat, value)
            elif name in _LOWER or name in _UPPER:
                self._merge_bound(flat, name, value)
            elif name in _FLAGS:
                flat[name] = value is True or flat.get(name) is True
            elif name in _UNUSED:
                self._remark(f"`{name}` is not checked")

    def _merge_properties(self, flat: dict[str, Any], properties: dict[str, Any]) -> None:
        known = flat.get("properties")
        if known is None:
            flat["properties"] = dict(properties)
            return
        for name, value in properties.items():
            # The very same schema comes twice where two parts have one base.
            if name in known and known[name] is not value:
                known[name] = {"allOf": [known[name], value]}
            else:
                known[name] = value

    def _merge_additional(self, flat: dict[str, Any], value: Any) -> None:
        if "additionalProperties" in flat and flat["additionalProperties"] is not value:
            # `false` in one part forbids what another part declares: nobody means that.
            flat["additionalProperties"] = True
        else:
            flat["additionalProperties"] = value

    def _merge_type(self, flat: dict[str, Any], value: Any) -> None:
        types = [kind for kind in (value[:10] if isinstance(value, list) else [value]) if isinstance(kind, str)]
        if "type" in flat:
            both = [kind for kind in flat["type"] if kind in types]
            if not both:
                self._remark("two types at once (allOf) hold for no value; the first is taken")
            types = both or flat["type"]
        flat["type"] = types

    def _merge_enum(self, flat: dict[str, Any], values: Any) -> None:
        if not isinstance(values, list):
            return
        if "enum" in flat:
            # Compared by what they are: true is not 1.
            known = {(type(value), value) for value in values if _is_plain(value)}
            both = [value for value in flat["enum"] if _is_plain(value) and (type(value), value) in known]
            values = both or flat["enum"]
        flat["enum"] = values

    def _merge_bound(self, flat: dict[str, Any], name: str, value: Any) -> None:
        if isinstance(value, bool):  # OpenAPI 3.0's exclusiveMinimum
            flat.setdefault(name, value)
        elif isinstance(value, int | float):
            known = flat.get(name)
            if known is None or isinstance(known, bool):
                flat[name] = value
            else:
                flat[name] = max(known, value) if name in _LOWER else min(known, value)


def _is_plain(value: Any) -> bool:
    return value is None or isinstance(value, str | int | float)
