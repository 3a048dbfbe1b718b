"""join: rows of two tables side by side, where columns are equal."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Sequence
from typing import Any

from shared.errors import InvalidArgument, quoted

from .algorithm import Algorithm, Options, Result, too_many_rows
from .table import COLUMN, Column, Table
from .values import is_value, keys

Merge = Callable[[Any, Any], Any]  # of a left row and a right one; None for one that is not there


def run(left: Table, options: Options, most_rows: int) -> Result:
    how = options.get("how", "inner")
    right = _right(left, options, most_rows)
    left_on, right_on, left_option, right_option = _on(options)
    left_keys, right_keys = _keys(left, left_on, left_option), _keys(right, right_on, right_option)
    partners_of: dict[Hashable, list[int]] = defaultdict(list)
    for number, key in enumerate(right_keys):
        if key is not None:
            partners_of[key].append(number)
    # Of each left row: the right ones.
    partners: list[Sequence[int]] = [() if key is None else partners_of.get(key, ()) for key in left_keys]
    if how in ("semi", "anti"):
        wanted = how == "semi"
        return Result(value=[row for row, found in zip(left.rows, partners, strict=True) if bool(found) is wanted])
    left_stays, right_stays = how in ("left", "full"), how in ("right", "full")
    matched = set(left_keys)
    alone = (
        [number for number, key in enumerate(right_keys) if key is None or key not in matched] if right_stays else []
    )
    # Counted before any is made: a thousand rows on each side can make a million.
    count = sum(max(len(found), left_stays) for found in partners) + len(alone)
    if count > most_rows:
        raise too_many_rows(count, most_rows)
    merge = _of_arrays(left) if left.arrays or right.arrays else _of_objects(left, right, left_on, right_on, options)
    rows = []
    for row, found in zip(left.rows, partners, strict=True):
        rows += [merge(row, right.rows[number]) for number in found]
        if left_stays and not found:
            rows.append(merge(row, None))
    rows += [merge(None, right.rows[number]) for number in alone]
    return Result(value=rows)


def _right(left: Table, options: Options, most_rows: int) -> Table:
    if not isinstance(options["right"], list):
        raise _wrong("options.right is the rows to join with, an array", "options.right")
    if len(options["right"]) > most_rows:
        raise too_many_rows(len(options["right"]), most_rows, "options.right has")
    right = Table(options["right"], "options.right")
    if left.rows and right.rows and left.arrays != right.arrays:
        raise _wrong("options.right: its rows and those of data must both be objects or both arrays", "options.right")
    return right


def _on(options: Options) -> tuple[list[Column], list[Column], str, str]:
    """The columns on the left and on the right, and the options that name them."""
    if "on" in options and not {"left_on", "right_on"} & options.keys():
        return options["on"], options["on"], "options.on", "options.on"
    left_on, right_on = options.get("left_on", []), options.get("right_on", [])
    if "on" in options or len(left_on) != len(right_on) or not left_on:
        raise _wrong("options: give `on`, or `left_on` and `right_on` with as many columns each", "options.on")
    return left_on, right_on, "options.left_on", "options.right_on"


def _keys(table: Table, columns: list[Column], option: str) -> list[Hashable]:
    """For each row what it is joined by; None where one of the columns is null or missing, which equals nothing."""
    values = [table.values(column, f"{option}[{number}]") for number, column in enumerate(columns)]
    return [
        key if all(map(is_value, each)) else None
        for key, each in zip(zip(*map(keys, values), strict=True), zip(*values, strict=True), strict=True)
    ]


def _of_arrays(left: Table) -> Merge:
    width = len(left.columns()) if left.arrays else 0

    def merge(row: list[Any] | None, other: list[Any] | None) -> list[Any]:
        own = row or []
        return own if other is None else [*own, *[None] * (width - len(own)), *other]

    return merge


def _of_objects(left: Table, right: Table, left_on: list[Column], right_on: list[Column], options: Options) -> Merge:
    """Columns of the right that the left has too get a suffix, but for those that are joined by under one name."""
    joined = {name for name, other in zip(left_on, right_on, strict=True) if name == other}
    names, others, suffix = set(left.columns()), right.columns(), options.get("suffix", "_right")
    renamed = {name: f"{name}{suffix}" for name in others if name in names and name not in joined}
    clashing = names.union(others) & set(renamed.values())
    if clashing:
        name = quoted(min(map(str, clashing)))
        raise _wrong(f"options.suffix: there is a column {name} already: choose another suffix", "options.suffix")

    def merge(row: dict[str, Any] | None, other: dict[str, Any] | None) -> dict[str, Any]:
        own = row or {}
        # The left's values stand, and its columns come first.
        return own | {renamed.get(name, name): value for name, value in (other or {}).items()} | own

    return merge


def _wrong(message: str, field: str) -> InvalidArgument:
    return InvalidArgument(message, reason="BAD_ARGUMENTS", field=field)


_COLUMNS: dict[str, Any] = {"type": "array", "items": COLUMN, "minItems": 1, "maxItems": 50}

ALGORITHM = Algorithm(
    name="join",
    summary=(
        "Rows of data and of options.right side by side where the columns `on` are equal (or left_on and right_on, in "
        "their order). A null or missing column equals nothing. Every match is a row, in the order of data, then of "
        "right; rows without a match keep only their own columns: those of data with how left or full, those of right, "
        "at the end, with right or full. semi and anti give rows of data with and without a match. Columns of right "
        "whose names data has get the suffix."
    ),
    example={"right": [{"id": 1, "name": "Ann"}], "on": ["id"], "how": "left"},
    takes="rows",
    options={
        "type": "object",
        "properties": {
            "right": {"type": "array", "description": "the rows to join with"},
            "on": {**_COLUMNS, "description": "columns that must be equal"},
            "left_on": {**_COLUMNS, "description": "columns of data, where names differ"},
            "right_on": {**_COLUMNS, "description": "columns of right, where names differ"},
            "how": {"type": "string", "enum": ["inner", "left", "right", "full", "semi", "anti"]},
            "suffix": {"type": "string", "minLength": 1, "maxLength": 60, "description": "_right when left out"},
        },
        "required": ["right"],
        "additionalProperties": False,
    },
    unread=("right",),
    run=run,
)
