"""JSON Schema as plugins need it: is a value right, in one sentence; and a tool's parameters in either of two forms.

A schema can come from anybody, so it is held harmless: a `$ref` reaches nothing outside of it, patterns take linear
time (look-around and back references are refused), and the work is counted before it is done (`schema_work.py`),
because nothing can interrupt the validator and no other thread runs meanwhile.
"""

from __future__ import annotations

import functools
import hashlib
import json
import threading
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, NamedTuple, NoReturn

from .schema_work import Schema, TooMuch, subschemas, work

MOST_STEPS = 500_000  # of one check: counted in a second or two, done within 20 ms (a step takes 40 ns at most)
QUICK_STEPS = 1_500  # of a check that an event loop has the time for: counted and done within 5 ms
MOST_BYTES = 2**20  # of a schema as JSON
_MOST_ERROR_STEPS = 20_000  # to find what is wrong: 30 ms
_MOST_COMPLAINTS = 3  # in one sentence
_LONGEST = 200  # characters of each
_MOST_KEPT = 2**19  # bytes of the schemas whose validators are kept; these take some thirty times as much

__all__ = ["MOST_STEPS", "QUICK_STEPS", "CannotCheck", "Checker", "Fault", "as_object_schema", "complaint", "is_known",
           "schema_problem", "subschemas"]  # fmt: skip


class CannotCheck(Exception):
    """The value may hold or not: to find out is more work than was allowed. The message is a part of a sentence."""


def schema_problem(schema: Mapping[str, Any]) -> str:
    """What keeps `schema` from being used; empty where nothing does.

    >>> schema_problem({"type": "strng"})[:33]
    'the schema cannot be used: type: '
    """
    try:
        text = _text(schema)
    except RecursionError:
        return "the schema is too deep"
    validator = _validators.of(text, _digest(text))
    return validator if isinstance(validator, str) else ""


def is_known(schema: Mapping[str, Any]) -> bool:
    """Whether `schema_problem` knows the answer already and so takes no time."""
    try:
        return _validators.has(_digest(_text(schema)))
    except RecursionError:
        return False


class Fault(NamedTuple):
    """One place of a value that does not hold to its schema."""

    path: tuple[str | int, ...]  # to the place in the value
    keyword: str  # of the schema that it fails, such as `maximum`; empty where that is not known
    parameter: Any  # of that keyword: 100; of `required` the missing name, of `additionalProperties` the names
    schema_path: tuple[str | int, ...]  # to the keyword in the schema
    message: str  # the validator's words, without the path


def complaint(value: Any, schema: Mapping[str, Any], most: int = MOST_STEPS) -> str:
    """What is wrong with `value`, every field at fault by its path; empty when it holds. Draft 2020-12 unless `$schema`
    names another. Raises CannotCheck where that may take more than `most` steps.

    >>> complaint({"city": 5}, {"type": "object", "properties": {"city": {"type": "string"}}})
    'city: 5 is not of type "string"'
    """
    found, is_all = Checker(schema).faults(value, most)
    complaints = [_cut(f"{_path(fault.path)}{fault.message}") for fault in found[:_MOST_COMPLAINTS]]
    if len(found) > _MOST_COMPLAINTS:
        complaints.append(f"and {len(found) - _MOST_COMPLAINTS} more")
    return "; ".join(complaints) + ("" if is_all else "; and perhaps more")


class Checker:
    """A schema that many values are held against: what it takes to find its validator is done once."""

    def __init__(self, schema: Mapping[str, Any]) -> None:
        """Raises CannotCheck where the schema is too deep."""
        try:
            self._text = _text(schema)
        except RecursionError:
            raise CannotCheck("it cannot be checked: its schema is too deep") from None
        self._digest = _digest(self._text)

    @property
    def is_known(self) -> bool:
        """Whether its validator is at hand; to make one takes a millisecond or twenty."""
        return _validators.has(self._digest)

    def faults(self, value: Any, most: int = MOST_STEPS) -> tuple[list[Fault], bool]:
        """Each place of `value` that does not hold, in the order of their paths, and whether these are all. Raises
        CannotCheck where that may take more than `most` steps. A schema that cannot be used is a fault of all of it."""
        try:
            validator = _validators.of(self._text, self._digest)
            if isinstance(validator, str):
                return [_whole(validator)], True
            if validator.schema.is_cheap(value, most) and validator.check.is_valid(value):
                return [], True
            return _found(validator, value, most)
        except RecursionError:
            raise CannotCheck("it cannot be checked: it is too deep, or its schema is") from None
        except ValueError as error:
            raise CannotCheck(f"it cannot be checked: {_cut(str(error))}") from None
        except TooMuch:
            raise CannotCheck(f"it cannot be checked: with this schema it may take more than {most} steps") from None


def _found(validator: _Validator, value: Any, most: int) -> tuple[list[Fault], bool]:
    needed = work(validator.schema, value, most, _matches)
    if validator.check.is_valid(value):
        return [], True
    if most <= QUICK_STEPS and needed.errors > 2 * most:
        raise TooMuch
    if needed.errors <= _MOST_ERROR_STEPS:
        found = [_fault(error) for error in validator.check.iter_errors(value)]
        found.sort(key=lambda fault: [str(part) for part in fault.path])
        return found, True
    if needed.error <= _MOST_ERROR_STEPS:
        return _first_error(validator.check, value), False
    return [_whole("it does not hold to its schema, and is too large to say where")], True


def as_object_schema(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """A tool's parameters as a JSON Schema of type object, also when they are in the guide's flat form.

    >>> as_object_schema({"city": "string"})
    {'type': 'object', 'properties': {'city': {'type': 'string'}}}
    """
    if not parameters:
        return {"type": "object", "properties": {}}
    properties = parameters.get("properties")
    if isinstance(properties, Mapping) and all(isinstance(inner, Mapping | bool) for inner in properties.values()):
        return {"type": "object"} | dict(parameters)
    if any(key.startswith("$") for key in parameters):
        return {"type": "object"} | dict(parameters)
    if parameters.get("type") == "object" or any(isinstance(parameters.get(key), list) for key in _COMBINED):
        return dict(parameters)
    return {
        "type": "object",
        "properties": {
            name: {"type": kind} if isinstance(kind, str) else kind
            for name, kind in parameters.items()
            if isinstance(kind, str | Mapping)
        },
    }


_COMBINED = ("oneOf", "anyOf", "allOf")


class _Validator(NamedTuple):
    check: Any  # jsonschema_rs's
    schema: Schema


class _Validators:
    """The last that were used, or what was wrong with their schemas."""

    def __init__(self) -> None:
        self._kept: OrderedDict[bytes, tuple[_Validator | str, int]] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def has(self, digest: bytes) -> bool:
        return digest in self._kept

    def of(self, text: bytes, digest: bytes) -> _Validator | str:
        with self._lock:
            if digest in self._kept:
                self._kept.move_to_end(digest)
                return self._kept[digest][0]
        validator = _compiled(text)
        # Of a schema that cannot be used only its complaint is kept.
        size = 200 + (0 if isinstance(validator, str) else len(text))
        with self._lock:
            if digest not in self._kept:
                self._kept[digest] = validator, size
                self._bytes += size
            while self._bytes > _MOST_KEPT:
                self._bytes -= self._kept.popitem(last=False)[1][1]
        return validator


_validators = _Validators()


def _text(schema: Mapping[str, Any]) -> bytes:
    return json.dumps(schema, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass")


def _digest(text: bytes) -> bytes:
    return hashlib.blake2b(text, digest_size=16).digest()


def _compiled(text: bytes) -> _Validator | str:
    # The import takes time, and not every process needs it.
    import jsonschema_rs

    if len(text) > MOST_BYTES:
        return f"the schema has more than {MOST_BYTES} bytes"
    parsed = json.loads(text)
    try:
        schema = Schema(parsed)
    except TooMuch as error:
        return str(error)
    if schema.endless:
        return "the schema cannot be used: by its references it holds to itself, without end"
    if schema.unfolded > MOST_STEPS:
        return f"the schema cannot be used: by its references it unfolds into more than {MOST_STEPS} schemas"
    try:
        check = jsonschema_rs.validator_for(parsed, retriever=_refuse, pattern_options=_regex_options())
    except jsonschema_rs.ValidationError as error:
        return _cut(f"the schema cannot be used: {_path(error.instance_path)}{error.message}")
    except ValueError as error:
        return _cut(f"the schema cannot be used: {error}")
    return _Validator(check, schema)


def _regex_options() -> Any:
    import jsonschema_rs

    return jsonschema_rs.RegexOptions(size_limit=4 * 2**20)


@functools.lru_cache(maxsize=1_000)
def _pattern(pattern: str) -> Any:
    import jsonschema_rs

    return jsonschema_rs.validator_for({"pattern": pattern}, pattern_options=_regex_options())


def _matches(pattern: str, text: str) -> bool:
    return bool(_pattern(pattern).is_valid(text))


def _first_error(check: Any, value: Any) -> list[Fault]:
    import jsonschema_rs

    try:
        check.validate(value)
    except jsonschema_rs.ValidationError as error:
        return [_fault(error)]
    return []


def _fault(error: Any) -> Fault:
    path, schema_path = tuple(error.instance_path), tuple(error.schema_path)
    return Fault(path, str(error.kind.name), error.kind.value, schema_path, error.message)


def _whole(message: str) -> Fault:
    return Fault((), "", None, (), message)


def _refuse(uri: str) -> NoReturn:
    raise ValueError(f"{uri} is outside of the schema")


def _path(parts: Any) -> str:
    path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in parts).lstrip(".")
    return f"{path}: " if path else ""


def _cut(text: str) -> str:
    text = " ".join(text[: 10 * _LONGEST].split())
    return text if len(text) <= _LONGEST else text[:_LONGEST] + "…"
