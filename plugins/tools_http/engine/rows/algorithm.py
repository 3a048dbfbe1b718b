"""What an algorithm is, and what it gives back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from shared.errors import LimitReached

from ..tool import ABSENT, JSON

Options = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Result:
    """`value` is JSON, or `text` is a text of `content_type`. `facts` tell what a reader of the result cannot see."""

    value: JSON = ABSENT
    text: str = ""
    content_type: str = "application/json"
    facts: Mapping[str, JSON] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Algorithm:
    """`run(data, options, most_rows)` gets options that hold to `options`, and data as `takes` says: rows as a Table,
    text as a str, anything as what JSON made of it. It raises InvalidArgument where the data does not fit, and
    LimitReached where the result would have more than `most_rows` rows.
    """

    name: str
    summary: str  # for the model
    example: Mapping[str, Any]  # options
    takes: str  # "rows", "text" or "anything"
    options: Mapping[str, Any]  # a JSON Schema of type object
    run: Callable[[Any, Options, int], Result]
    unread: tuple[str, ...] = ()  # options that hold rows, which `run` looks at itself


def too_many_rows(rows: int, most_rows: int, what: str = "the result would have") -> LimitReached:
    return LimitReached(
        f"{what} {rows} rows, and {most_rows} are allowed (setting max_rows): ask for less, or work in parts",
        reason="TOO_MANY_ROWS",
    )
