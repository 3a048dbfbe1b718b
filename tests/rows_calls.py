"""Calls of custom_data_processing's algorithms as its worker makes them, without the process around it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from plugins.tools_http.engine.rows import job
from shared.errors import CallerError

MOST_ROWS = 10_000


def run_text(arguments: str, most_rows: int = MOST_ROWS) -> tuple[str, dict[str, Any]]:
    """The result's text, and its content type and facts."""
    head, _, text = job.run(json.dumps({"max_rows": most_rows}).encode() + b"\n" + arguments.encode()).partition(b"\n")
    return text.decode(), json.loads(head)


def text_of(data: Any, algorithm: str, options: dict[str, Any] | None = None) -> str:
    return run_text(json.dumps({"data": data, "algorithm": algorithm, "options": options or {}}))[0]


def facts_of(data: Any, algorithm: str, **options: Any) -> dict[str, Any]:
    facts: dict[str, Any] = run_text(json.dumps({"data": data, "algorithm": algorithm, "options": options}))[1]["facts"]
    return facts


def process(data: Any, algorithm: str, **options: Any) -> Any:
    """The result as JSON."""
    return json.loads(text_of(data, algorithm, options), parse_constant=_not_json)


def column(result: list[dict[str, Any]], name: str) -> list[Any]:
    return [row[name] for row in result]


def refusal(data: Any, algorithm: str, most_rows: int = MOST_ROWS, **options: Any) -> CallerError:
    """The error of a call that must fail."""
    with pytest.raises(CallerError) as caught:
        run_text(json.dumps({"data": data, "algorithm": algorithm, "options": options}), most_rows)
    return caught.value


def _not_json(name: str) -> None:
    raise AssertionError(f"{name} is no JSON")
