"""JSON as lines that say where each value stands: `users[3].name: Ada`."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

from host.chunks import Line, lines_of

_LONG = 2_000  # characters; a line as long as that was not written to be read
_PLAIN = re.compile(r"[A-Za-z_][\w-]*")
_LONGEST_PATH = 500  # characters; every value below repeats it


def json_lines(text: str) -> list[Line]:
    """What was written to be read, in lines, is kept as it is. Where a line number says nothing a value's path does."""
    lines = lines_of(text)
    if all(len(line.text) < _LONG for line in lines):
        return lines
    value = _parsed(text)
    if value is None:
        return lines
    return [
        Line(number, f"{path}: {' '.join(leaf.split())}", place=path)
        for number, (path, leaf) in enumerate(_values(value), start=1)
    ]


def records_lines(text: str) -> list[Line]:
    """JSON Lines: each record in its own line."""
    return [Line(line.number, _record(line.text)) for line in lines_of(text)]


def _record(text: str) -> str:
    value = _parsed(text)
    if not isinstance(value, dict | list):
        return text
    return "; ".join(f"{path}: {' '.join(leaf.split())}" for path, leaf in _values(value))


def _parsed(text: str) -> object:
    """None where it is no JSON. Numbers are as they are written."""
    try:
        value: object = json.loads(text, parse_int=str, parse_float=str, parse_constant=str)
    except (ValueError, RecursionError):
        return None
    return value


def _values(document: object) -> Iterator[tuple[str, str]]:
    """Path and text of each value that is no object or array, in the order of the document. Not recursive."""
    pending: list[Iterator[tuple[str, object]]] = [iter([("", document)])]
    while pending:
        path, value = next(pending[-1], ("", pending))
        if value is pending:
            pending.pop()
        elif isinstance(value, dict):
            pending.append(iter([(_below(path, key), inner) for key, inner in value.items()]))
        elif isinstance(value, list):
            pending.append(iter([(f"{path}[{at}]"[-_LONGEST_PATH:], inner) for at, inner in enumerate(value)]))
        elif value is not None and value != "":
            yield path or "value", value if isinstance(value, str) else json.dumps(value)


def _below(path: str, key: str) -> str:
    if not _PLAIN.fullmatch(key):
        key = f"[{json.dumps(key, ensure_ascii=False)}]"
        return (path + key)[-_LONGEST_PATH:]
    return (f"{path}.{key}" if path else key)[-_LONGEST_PATH:]
