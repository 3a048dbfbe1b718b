"""The server's side of custom_data_processing: the arguments go to a worker unread, and its text comes back."""

from __future__ import annotations

import json
import time
from typing import Any

from shared.off_loop import in_thread

from ..decoding import decode
from ..tool import Call, Output, Tool
from ..workers import Workers
from .algorithms import ALGORITHMS
from .options import outline

JOB = f"{__package__}.job"
"""The module that workers should import before they are needed."""

_LARGE = 2**18  # bytes: more take milliseconds to be made text

_EXAMPLE = {
    "algorithm": "group_aggregate",
    "data": [{"region": "EU", "amount": 5}, {"region": "EU", "amount": 7}],
    "options": {"by": ["region"], "aggregates": [{"op": "sum", "column": "amount", "as": "total"}]},
}


def data_tool(workers: Workers, *, max_rows: int, seconds: float) -> Tool:
    """custom_data_processing. `max_rows` bounds what comes in and what goes out, `seconds` the work on one call."""

    async def run_text(arguments: str, call: Call) -> Output:
        limits = json.dumps({"max_rows": max_rows}).encode()
        payload = (
            limits + b"\n" + (await in_thread(arguments.encode) if len(arguments) > _LARGE else arguments.encode())
        )
        answer = await workers.run(f"{JOB}:run", payload, seconds=min(seconds, call.deadline - time.monotonic()))
        head, _, text = answer.partition(b"\n")
        result = json.loads(head)
        body = await in_thread(decode, text) if len(text) > _LARGE else text.decode()
        structured = body if result["content_type"] == "application/json" else None
        return Output(
            text=body, structured_json=structured, content_type=result["content_type"], metadata=result["facts"]
        )

    return Tool(
        name="custom_data_processing",
        description=_description(),
        parameters=PARAMETERS,
        run_text=run_text,
        read_only=True,
        idempotent=True,
    )


def _description() -> str:
    return (
        "Work on rows of data, exactly: count, sum, filter, sort, group, join, read and write CSV and JSON Lines. Use "
        "it in place of reckoning yourself. Rows are objects, or arrays, whose columns are 0, 1 and so on. Example: "
        f"{json.dumps(_EXAMPLE)}"
    )


def _options_description() -> str:
    parts = [
        f"{algorithm.name}: {algorithm.summary} Options: {outline(algorithm.options)}."
        + (f" Example: {json.dumps(algorithm.example)}" if algorithm.example else "")
        for algorithm in ALGORITHMS.values()
    ]
    return "The algorithm's own options. " + " ".join(f"[{part}]" for part in parts)


# Some model APIs want a type wherever a schema may stand.
_CELLS = [{"type": kind} for kind in ("string", "number", "boolean", "null", "object")]

PARAMETERS: dict[str, Any] = {
    "type": "object",
    "properties": {
        "data": {
            "description": "The rows: objects, or arrays; for parse_csv and parse_jsonl a text; for jmespath any JSON.",
            "anyOf": [
                {"type": "array", "items": {"type": "object"}},
                {"type": "array", "items": {"type": "array", "items": {"anyOf": _CELLS}}},
                {"type": "string"},
                {"type": "object"},
            ],
        },
        "algorithm": {"type": "string", "enum": list(ALGORITHMS), "description": "What to do with the data."},
        "options": {"type": "object", "description": _options_description(), "default": {}},
    },
    "required": ["data", "algorithm"],
    "additionalProperties": False,
}
