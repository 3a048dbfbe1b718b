"""A call's arguments: read from JSON text, held against the tool's schema, and told from those of another call.

A model reads the errors, so they say what to change: the argument, the rule, the nearest name.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Collection, Mapping
from typing import Any, NoReturn

from shared.errors import InvalidArgument, LimitReached, quoted
from shared.json_schema import MOST_STEPS, CannotCheck, Checker
from shared.wording import in_words, kind_of

from .tool import JSON, Tool

MOST_VALUES = 100_000  # in the arguments of one call: read in 20 ms, in which no other thread runs
DEEPEST = 200  # levels of lists and objects
_MOST_TOLD = 20  # faults in one sentence; all are in the violations, up to
_MOST_VIOLATIONS = 100
# Also one that never ends, so that no text makes it look twice at the same characters.
_STRING = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*(?:"|\\?\Z)', re.DOTALL)
_FIELD = "parameters_json"
_REASON = "BAD_ARGUMENTS"
_COPIES, _SIZE_OF_VALUE = 3, 64  # bytes of a value beside its characters


def read(text: str, longest: int) -> dict[str, JSON]:
    """The arguments as a JSON object; an empty text is {}. Raises InvalidArgument, LimitReached past `longest`
    characters or MOST_VALUES values. What is too much is refused before it is read."""
    if not text.strip():
        return {}
    if len(text) > longest:
        raise LimitReached(
            f"the arguments have {len(text):,} characters, and this tool takes {longest:,}; send less at once",
            reason="ARGUMENTS_TOO_LARGE",
            field=_FIELD,
        )
    if _values(text) > MOST_VALUES and _values(_STRING.sub('""', text)) > MOST_VALUES:
        raise LimitReached(
            f"the arguments hold more than {MOST_VALUES:,} values; send less at once",
            reason="ARGUMENTS_TOO_LARGE",
            field=_FIELD,
        )
    try:
        value = json.loads(text, parse_constant=_no_json, object_pairs_hook=_object)
    except RecursionError:
        raise _too_deep() from None
    except ValueError as error:
        raise InvalidArgument(
            f"the arguments are not JSON: {_told(error)}; send a JSON object", reason=_REASON, field=_FIELD
        ) from None
    if not isinstance(value, dict):
        raise InvalidArgument(
            f"the arguments must be a JSON object, such as {{}}, and are {kind_of(value)}", reason=_REASON, field=_FIELD
        )
    if _depth(value) > DEEPEST:
        raise _too_deep()
    if "\\u" in text or "e" in text or "E" in text:
        _refuse_odd(value)
    return value


def written(arguments: dict[str, JSON]) -> str:
    """The arguments as JSON text."""
    return json.dumps(arguments, ensure_ascii=False, separators=(",", ":"))


def check(
    tool: Tool,
    schema: Mapping[str, Any],
    arguments: dict[str, JSON],
    steps: int = MOST_STEPS,
    checker: Checker | None = None,
    field: str = "parameters",
    left_out: Collection[str] = (),
) -> None:
    """Raises InvalidArgument with every argument at fault, and CannotCheck where that may take more than `steps`.

    `checker` is the schema's, if there is one; `field` is where in the request the arguments stand; of the keywords
    `left_out` somebody else can tell more.
    """
    try:
        found, is_all = (checker or Checker(schema)).faults(arguments, steps)
    except CannotCheck as error:
        if steps < MOST_STEPS:
            raise
        raise InvalidArgument(
            f"{tool.name} was not run: the arguments are too large: {error}", reason=_REASON, field=_FIELD
        ) from None
    found = [fault for fault in found if fault.keyword not in left_out]
    if not found:
        return
    told = [pair for fault in found[:_MOST_VIOLATIONS] for pair in in_words(fault, tool.name, schema, arguments)]
    sentence = "; ".join(words for _, words in told[:_MOST_TOLD])
    if len(told) > _MOST_TOLD:
        sentence += f"; and {len(told) - _MOST_TOLD} more"
    raise InvalidArgument(
        f"{tool.name} was not run: {sentence}{'' if is_all else '; and perhaps more'}",
        reason=_REASON,
        violations=[(".".join([field, *path]), words) for path, words in told],
    )


def closed(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """The schema to check by: one that lists arguments and says nothing of others takes no others."""
    says = ("additionalProperties", "unevaluatedProperties", "patternProperties", "allOf", "anyOf", "oneOf", "$ref")
    if any(key in parameters for key in says):
        return dict(parameters)
    return {"properties": {}, **parameters, "additionalProperties": False}


def with_whole_numbers(value: JSON, schema: Any) -> JSON:
    """`value` with 5.0 as 5 where the schema wants an integer, as deep as its properties and items say so."""
    if not isinstance(schema, Mapping):
        return value
    if isinstance(value, float):
        kinds = schema.get("type")
        kinds = kinds if isinstance(kinds, list) else [kinds]
        return int(value) if value.is_integer() and "integer" in kinds and "number" not in kinds else value
    if isinstance(value, dict) and isinstance(properties := schema.get("properties"), Mapping):
        return {name: with_whole_numbers(item, properties.get(name)) for name, item in value.items()}
    if isinstance(value, list) and isinstance(items := schema.get("items"), Mapping):
        return [with_whole_numbers(item, items) for item in value]
    return value


def held(given: str | dict[str, JSON]) -> int:
    """Bytes that arguments take while a tool is run with them, about: as values, as the body that is sent, and as what
    the socket has not taken yet."""
    if isinstance(given, dict):
        given = written(given)
    return _COPIES * len(given) + _SIZE_OF_VALUE * min(_values(given), MOST_VALUES)


def digest(tool: str, arguments: str | dict[str, JSON]) -> bytes:
    """Equal for calls of one tool with equal arguments, however these are ordered and spaced; text that nobody has read
    is compared as it is."""
    if isinstance(arguments, dict):
        arguments = json.dumps(_plain(arguments), ensure_ascii=False, separators=(",", ":"), sort_keys=True)
    return hashlib.sha256(f"{tool}\n{arguments}".encode("utf-8", "surrogatepass")).digest()


def _plain(value: JSON) -> JSON:
    """With 5.0 as 5."""
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() and abs(value) <= 2**53 else value


# ---------------------------------------------------------------- reading


def _values(text: str) -> int:
    """How many values there are at most; what stands in strings is counted too."""
    return text.count(",") + text.count("[") + text.count("{")


def _object(pairs: list[tuple[str, JSON]]) -> dict[str, JSON]:
    value = dict(pairs)
    if len(value) < len(pairs):
        seen: set[str] = set()
        twice = next(name for name, _ in pairs if name in seen or seen.add(name))  # type: ignore[func-returns-value]
        raise ValueError(f"{quoted(twice)} is there twice")
    return value


def _no_json(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


def _told(error: ValueError) -> str:
    # Python's own words for a number of thousands of digits are of its settings.
    return "a number has too many digits" if "integer string conversion" in str(error) else str(error)


def _too_deep() -> InvalidArgument:
    return InvalidArgument(f"the arguments are nested more than {DEEPEST} levels deep", reason=_REASON, field=_FIELD)


def _depth(value: JSON) -> int:
    deepest, level = 0, [value]
    while level:
        deepest += 1
        level = [
            inner
            for item in level
            for inner in (item.values() if isinstance(item, dict) else item)
            if isinstance(inner, dict | list)
        ]
    return deepest


def _refuse_odd(value: JSON) -> None:
    """What JSON can spell and nothing can hold: numbers past all measure, halves of a surrogate pair."""
    waiting: list[JSON] = [value]
    while waiting:
        item = waiting.pop()
        if isinstance(item, dict):
            waiting += item.keys()
            waiting += item.values()
        elif isinstance(item, list):
            waiting += item
        elif isinstance(item, float) and not math.isfinite(item):
            raise InvalidArgument(
                "the arguments hold a number that is too large to be one", reason=_REASON, field=_FIELD
            )
        elif isinstance(item, str) and not item.isascii():
            try:
                item.encode()
            except UnicodeEncodeError:
                raise InvalidArgument(
                    "the arguments hold half of a surrogate pair (\\ud800 to \\udfff), which is no character",
                    reason=_REASON,
                    field=_FIELD,
                ) from None
