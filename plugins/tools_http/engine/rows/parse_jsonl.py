"""parse_jsonl: JSON Lines as rows."""

from __future__ import annotations

from typing import Any

from shared.errors import InvalidArgument

from .algorithm import Algorithm, Options, Result, too_many_rows
from .json_text import BadJson, read
from .values import kind_of


def run(text: str, options: Options, most_rows: int) -> Result:
    skip = options.get("invalid", "error") == "skip"
    rows: list[Any] = []
    skipped = []
    # Only line feeds end a line: other line ends may stand within a text.
    for number, line in enumerate(text.removeprefix("\ufeff").split("\n"), start=1):
        if not line or line.isspace():
            continue
        try:
            row = read(line.encode())
            problem = (
                "" if isinstance(row, dict | list) else f"it is {kind_of(row)}, and a row is an object or an array"
            )
        except BadJson as error:
            problem = str(error)
        if problem and not skip:
            raise InvalidArgument(
                f"data: line {number} is no row: {problem}; with invalid set to skip such lines are left out",
                reason="BAD_LINE",
                field="data",
            )
        if problem:
            skipped.append(number)
            continue
        if len(rows) == most_rows:
            raise too_many_rows(most_rows + 1, most_rows, "the text has at least")
        rows.append(row)
    return Result(value=rows, facts={"skipped_lines": len(skipped), "first_skipped": skipped[:10]} if skip else {})


ALGORITHM = Algorithm(
    name="parse_jsonl",
    summary="JSON Lines (data is a text, one object or array a line) as rows. Blank lines are skipped.",
    example={"invalid": "skip"},
    takes="text",
    options={
        "type": "object",
        "properties": {
            "invalid": {"type": "string", "enum": ["error", "skip"], "description": "of lines that are no row"}
        },
        "additionalProperties": False,
    },
    run=run,
)
