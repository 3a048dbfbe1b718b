"""The worker's side of custom_data_processing: arguments as JSON text in, the result as text out."""

from __future__ import annotations

import json
from typing import Any

from shared.errors import InvalidArgument, quoted

from ..tool import ABSENT
from .algorithm import Algorithm, Result, too_many_rows
from .algorithms import ALGORITHMS
from .json_text import BadJson, read
from .options import check, nearest
from .table import Table
from .values import compact, kind_of

_ARGUMENTS = ("data", "algorithm", "options")


def run(payload: bytes) -> bytes:
    """Takes a line of JSON, {"max_rows"}, and the arguments; gives one, {"content_type", "facts"}, and the text."""
    limits, _, text = payload.partition(b"\n")
    most_rows = json.loads(limits)["max_rows"]
    algorithm, data, options = _arguments(text)
    try:
        result = algorithm.run(_data(algorithm, data, most_rows), options, most_rows)
        return _packed(result, most_rows)
    except RecursionError:
        raise InvalidArgument("data is nested too deep", reason="TOO_DEEP", field="data") from None


def _arguments(text: bytes) -> tuple[Algorithm, Any, dict[str, Any]]:
    try:
        arguments = read(text)
    except BadJson as error:
        raise InvalidArgument(f"the arguments are no JSON that can be used: {error}", reason="BAD_JSON") from None
    if not isinstance(arguments, dict):
        raise InvalidArgument(f"the arguments are {kind_of(arguments)}, not an object", reason="BAD_JSON")
    for name in arguments:
        if name not in _ARGUMENTS:
            raise _wrong(name, f"there is no argument {quoted(name)}{nearest(name, _ARGUMENTS)}")
    for name in _ARGUMENTS[:2]:
        if name not in arguments:
            raise _wrong(name, f"{name} is required")
    name, options = arguments["algorithm"], arguments.get("options", {})
    algorithm = ALGORITHMS.get(name) if isinstance(name, str) else None
    if algorithm is None:
        shown = name if isinstance(name, str) else kind_of(name)
        raise _wrong("algorithm", f"algorithm is {quoted(shown)}, which it cannot be{nearest(shown, ALGORITHMS)}")
    options = {} if options is None else options
    if not isinstance(options, dict):
        raise _wrong(
            "options", f"options is {kind_of(options)}, and it is an object such as {compact(algorithm.example)}"
        )
    visible = {
        key: [] if key in algorithm.unread and isinstance(value, list) else value for key, value in options.items()
    }
    check(visible, algorithm.options, "options", f"The options of {algorithm.name}")
    # To JSON Schema 10.0 is an integer.
    whole = {key for key, inner in algorithm.options["properties"].items() if inner.get("type") == "integer"}
    options = {key: int(value) if key in whole else value for key, value in options.items()}
    return algorithm, arguments["data"], options


def _data(algorithm: Algorithm, data: Any, most_rows: int) -> Any:
    if algorithm.takes == "text":
        if not isinstance(data, str):
            raise _wrong("data", f"data is {kind_of(data)}, and {algorithm.name} takes a text")
        return data
    if isinstance(data, list) and len(data) > most_rows:
        raise too_many_rows(len(data), most_rows, "data has")
    if algorithm.takes == "anything":
        return data
    if not isinstance(data, list):
        hint = ": read it with parse_csv or parse_jsonl first" if isinstance(data, str) else ""
        raise _wrong("data", f"data is {kind_of(data)}, and {algorithm.name} takes an array of rows{hint}")
    return Table(data)


def _packed(result: Result, most_rows: int) -> bytes:
    facts = dict(result.facts)
    text = result.text
    if result.value is not ABSENT:
        value = result.value
        if isinstance(value, list):
            facts["rows"] = len(value)
        # A row a line, so that a long result can be cut between two.
        rows = isinstance(value, list) and value
        text = "[\n" + ",\n".join(map(compact, value)) + "\n]" if rows else compact(value)
    head = compact({"content_type": result.content_type, "facts": facts})
    return f"{head}\n{text}".encode()


def _wrong(field: str, message: str) -> InvalidArgument:
    return InvalidArgument(message, reason="BAD_ARGUMENTS", field=field)
