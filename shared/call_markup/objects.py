"""Calls written as JSON objects, in the many shapes that APIs and training data have for them."""

from __future__ import annotations

from typing import Any

from ..loose_json import NotRead, read_whole
from .source import Problem, Source
from .types import kinds, only_property, properties_of, typed

JSON = Any
Calls = tuple[tuple[str, dict[str, JSON]], ...]

_NAMES = ("name", "function_name", "tool_name", "recipient_name", "tool", "function", "action", "api_name")
_ARGUMENTS = (
    "arguments", "parameters", "args", "action_input", "tool_input", "input", "params", "kwargs", "tool_arguments",
    "tool_parameters", "tool_args", "function_args", "function_arguments",
)  # fmt: skip
_WRAPPERS = (
    "tool_call",
    "function_call",
    "functionCall",
    "toolCall",
    "tool_calls",
    "tool_uses",
    "function_calls",
    "calls",
)
_PARALLEL = ("multi_tool_use.parallel", "parallel")
_DEEPEST = 4
_MOST = 256  # calls in one list


def calls_in(value: JSON, source: Source, *, marked: bool) -> Calls | None:
    """None: it is no call. `marked`: it stands in markup for calls, so that a name is enough, and need not be known.
    Raises Problem."""
    pairs = _pairs(value, source, marked, 0)
    if pairs is None:
        return None
    if not marked and not all(source.names.known(name) for name, _ in pairs):
        return None
    return tuple(call(name, arguments, source) for name, arguments in pairs)


def call(name: str, arguments: JSON, source: Source) -> tuple[str, dict[str, JSON]]:
    """A call whose arguments are a value of JSON. Raises Problem."""
    name = source.names.resolved(name)
    if not name:
        raise Problem("a call has no name")
    parameters = source.tools.get(name, {})
    if isinstance(arguments, str) and arguments.strip():
        arguments = _of_text(name, arguments, source)
    if not arguments and not isinstance(arguments, bool | int | float):
        return name, {}
    if not isinstance(arguments, dict):
        only = only_property(parameters)
        wanted = kinds(properties_of(parameters).get(only), parameters)
        if not only or (isinstance(arguments, list) and "array" not in wanted):
            raise Problem(f"the arguments of {name} must be a JSON object")
        arguments = {only: arguments}
    _refuse_nested(name, arguments, source)
    return name, typed(arguments, parameters)


def _of_text(name: str, text: str, source: Source) -> JSON:
    """Arguments that came as text: JSON once more, or the value of the only parameter."""
    try:
        value = read_whole(text)
    except NotRead as error:
        if text.lstrip()[:1] == "{":
            raise Problem(f"the arguments of {name} cannot be read: {error}") from None
        return text
    return value if value is None or isinstance(value, dict) else text


def _pairs(value: JSON, source: Source, marked: bool, depth: int) -> list[tuple[str, JSON]] | None:
    if depth > _DEEPEST:
        return None
    if isinstance(value, list):
        if len(value) > _MOST:
            return None
        pairs: list[tuple[str, JSON]] = []
        for item in value:
            inner = _pairs(item, source, marked, depth + 1)
            if inner is None:
                return None
            pairs += inner
        return pairs if pairs or marked else None
    if not isinstance(value, dict):
        return None
    for wrapper in _WRAPPERS:
        if isinstance(value.get(wrapper), dict | list) and not _named(value):
            return _pairs(value[wrapper], source, marked, depth + 1)
    if isinstance(function := value.get("function"), dict):
        return _pairs(function, source, marked, depth + 1)
    name = _named(value)
    if not name:
        return _by_name(value, source) if marked else None
    given = [key for key in _ARGUMENTS if key in value and key != name]
    if name_of(value, name) in _PARALLEL and given and isinstance(value[given[0]], dict):
        return _pairs(value[given[0]], source, marked, depth + 1)
    filled = [key for key in given if value[key]]
    if len(filled) > 1:
        raise Problem(f"a call has both {filled[0]} and {filled[1]}; write its arguments in one of them")
    if given:
        return [(name_of(value, name), value[(filled or given)[0]])]
    if not marked:
        return None
    rest = {key: item for key, item in value.items() if key not in (name, "type", "id")}
    known = source.names.known(name_of(value, name))
    properties = properties_of(source.tools[known]) if known else {}
    return [(name_of(value, name), {key: item for key, item in rest.items() if key in properties})]


def name_of(value: dict[str, JSON], key: str) -> str:
    return str(value[key])


def _named(value: dict[str, JSON]) -> str:
    """The key under which the call's name stands."""
    return next((key for key in _NAMES if isinstance(value.get(key), str) and value[key].strip()), "")


def _by_name(value: dict[str, JSON], source: Source) -> list[tuple[str, JSON]] | None:
    """`{"fetch": {"url": …}}`, as Apertus writes calls."""
    if value and all(isinstance(item, dict) and source.names.known(key) for key, item in value.items()):
        return list(value.items())
    return None


def looks_like_call(value: JSON, source: Source) -> bool:
    if not isinstance(value, dict):
        return False
    name = _named(value)
    return (
        bool(name) and bool(source.names.known(value[name])) and any(key in value for key in _ARGUMENTS if key != name)
    )


def _refuse_nested(name: str, arguments: dict[str, JSON], source: Source) -> None:
    """A call as an argument of a call: nobody would run the inner one."""
    properties = properties_of(source.tools.get(name, {}))
    if looks_like_call(arguments, source) and not set(arguments) <= set(properties):
        raise Problem(f"the arguments of {name} are a call themselves; write one call after the other")
    for key, value in arguments.items():
        schema = properties.get(key)
        wants_object = isinstance(schema, dict) and schema.get("type") in ("object", "array", None)
        items = value[:_MOST] if isinstance(value, list) else [value]
        if not wants_object and any(looks_like_call(item, source) for item in items):
            raise Problem(
                f"the argument {key} of {name} is a call itself; call that tool first, and then {name} with its result"
            )
