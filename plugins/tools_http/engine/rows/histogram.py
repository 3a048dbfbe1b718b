"""histogram: how many values of a column fall into each of some ranges."""

from __future__ import annotations

import math
from bisect import bisect_right
from fractions import Fraction
from itertools import pairwise
from typing import Any

from shared.errors import InvalidArgument

from .algorithm import Algorithm, Options, Result
from .arithmetic import Number
from .table import COLUMN, Table
from .values import numbers, too_large

_EXACT = 2**53  # from here on doubles are whole and have gaps


def run(table: Table, options: Options, most_rows: int) -> Result:
    column = options["column"]
    values = numbers(table.values(column, "options.column"), column, "options.column")
    if math.inf in values or -math.inf in values:
        raise too_large("options.column")
    if "edges" in options and "bins" in options:
        raise InvalidArgument(
            "options: edges and bins exclude each other: edges say all", reason="BAD_ARGUMENTS", field="options.bins"
        )
    if "edges" in options:
        edges = _increasing(options["edges"])
    else:
        edges = _equal_widths(min(values), max(values), options.get("bins", 10)) if values else []
    counts = [0] * max(len(edges) - 1, 0)
    below = above = 0
    for value in values:
        place = bisect_right(edges, value) - 1
        if place < 0:
            below += 1
        elif value > edges[-1]:
            above += 1
        else:
            counts[min(place, len(counts) - 1)] += 1
    bins = [
        {"from": low, "to": high, "count": count} for low, high, count in zip(edges, edges[1:], counts, strict=False)
    ]
    without = len(table.rows) - len(values)
    return Result(value={"bins": bins, "values": len(values), "without_value": without, "below": below, "above": above})


def _increasing(edges: list[Any]) -> list[Any]:
    if any(high <= low for low, high in pairwise(edges)):
        raise InvalidArgument(
            "options.edges: each edge must be larger than the one before",
            reason="BAD_ARGUMENTS",
            field="options.edges",
        )
    return edges


def _equal_widths(low: Number, high: Number, bins: int) -> list[Number]:
    """From the least to the most value, rounded to numbers that JSON can show, and fewer where these would be equal.
    The values are counted between the edges as they are shown.
    """
    if low == high:
        return [low, high]
    width = Fraction(high) - Fraction(low)
    between = (_shown(Fraction(low) + width * number / bins) for number in range(1, bins))
    edges = [low]
    for edge in between:
        if edges[-1] < edge < high:
            edges.append(edge)
    return [*edges, high]


def _shown(edge: Fraction) -> Number:
    if edge.denominator == 1 or abs(edge) >= _EXACT:
        return round(edge)
    return edge.numerator / edge.denominator


ALGORITHM = Algorithm(
    name="histogram",
    summary=(
        "How many numbers of a column fall into each bin: {bins: [{from, to, count}], values, without_value, below, "
        "above}. A bin holds from <= value < to, the last one also its end. Bins of equal width reach from the least "
        "to the most; with edges they are where you say, and below and above count what is outside."
    ),
    example={"column": "age", "edges": [0, 18, 40, 65, 120]},
    takes="rows",
    options={
        "type": "object",
        "properties": {
            "column": COLUMN,
            "bins": {"type": "integer", "minimum": 1, "maximum": 10_000, "description": "how many; 10 when left out"},
            "edges": {"type": "array", "items": {"type": "number"}, "minItems": 2, "maxItems": 10_001,
                      "description": "increasing numbers"},
        },
        "required": ["column"],
        "additionalProperties": False,
    },
    run=run,
)  # fmt: skip
