"""Data and options for custom_data_processing that Hypothesis makes: few different values, so that rows meet."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import hypothesis.strategies as st

from plugins.tools_http.engine.rows.algorithms import ALGORITHMS

Row = dict[str, Any]

COLUMNS = ("a", "b", "c")
# Some are at the edges of what numbers can be.
NUMBERS = st.one_of(
    st.integers(-3, 3),
    st.sampled_from(
        [1.0, -0.0, 0.5, 2.0, 2**53, 2**53 + 1, 2.0**53, 2**63 - 1, 2**64, -(2**70), 1e300, 1.7e308, 5e-324]
    ),
    st.integers(),
    st.floats(allow_nan=False, allow_infinity=False),
)
TEXTS = st.one_of(st.sampled_from(["", "1", "true", "null", "00123", "é", "e\u0301"]), st.text(max_size=5))
PLAIN = st.one_of(st.none(), st.booleans(), NUMBERS, TEXTS)
VALUES = st.recursive(
    PLAIN,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["x", "y"]), inner, max_size=2),
    max_leaves=3,
)


def tables(values: st.SearchStrategy[Any] = VALUES, most: int = 12) -> st.SearchStrategy[list[Row]]:
    """Rows that may lack any column; but some row has each."""
    some = st.lists(st.dictionaries(st.sampled_from(COLUMNS), values), max_size=most)
    return st.builds(
        lambda rows, whole: [*rows, dict(zip(COLUMNS, whole, strict=True))], some, st.tuples(*[values] * 3)
    )


COMPARED = [
    (["is_null", "is_missing", "has_value"], None),
    (["eq", "ne"], VALUES),
    (["in", "not_in"], st.lists(VALUES, max_size=3)),
    (["contains", "starts_with", "ends_with"], TEXTS),
    (["gt", "ge", "lt", "le"], NUMBERS | TEXTS),
]
COMPARISONS = st.one_of(
    *(
        st.fixed_dictionaries(
            {"column": st.sampled_from(COLUMNS), "op": st.sampled_from(ops)}
            | ({} if value is None else {"value": value})
        )
        for ops, value in COMPARED
    )
)
CONDITIONS = st.recursive(
    COMPARISONS,
    lambda inner: st.one_of(
        st.builds(lambda each: {"not": each}, inner),
        st.builds(
            lambda name, each: {name: each}, st.sampled_from(["and", "or"]), st.lists(inner, min_size=1, max_size=3)
        ),
    ),
    max_leaves=4,
)
BY = st.lists(st.tuples(st.sampled_from(COLUMNS), st.booleans(), st.booleans()), min_size=1, max_size=3)
NUMBERED = st.lists(
    st.fixed_dictionaries(
        {}, optional={"n": st.none() | NUMBERS, "k": PLAIN, "m": st.sampled_from(["x", 1, 1.0, True])}
    ),
    max_size=10,
).map(lambda rows: [*rows, {"n": 1, "k": 1, "m": 1}])
EDGES = st.lists(NUMBERS, min_size=2, max_size=5, unique_by=Fraction).map(lambda edges: sorted(edges, key=Fraction))
BINS = st.one_of(
    st.just({}),
    st.builds(lambda bins: {"bins": bins}, st.integers(1, 20)),
    st.builds(lambda edges: {"edges": edges}, EDGES),
)
EXPRESSIONS = st.sampled_from(["@", "[].a", "[?a].b", "[*].{x: a, y: [b, c]}", "length(@)", "[-1]", "[0:2]"])
ZONES = ["UTC", "Europe/Berlin", "America/Sao_Paulo", "Asia/Kathmandu", "Australia/Lord_Howe", "Pacific/Apia"]
CELLS = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=6) | st.sampled_from(
    ["", '"', '""', ",", ";", "\n", "\r", "\r\n", "\t", " ", "\ufeff", "'", "=1", "\u2028", "\x85", "\\"]
)
ANY_JSON = st.recursive(
    PLAIN,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS | st.sampled_from(COLUMNS), inner, max_size=4),
)
OPTION_NAMES = sorted({name for algorithm in ALGORITHMS.values() for name in algorithm.options["properties"]})
WORDS = st.sampled_from(
    ["a", "b", "sum", "count", "day", "inner", "first", "auto", "column", "op", "value", "eq", "gt"]
)
RULES = st.dictionaries(st.sampled_from(["column", "op", "as", "descending"]), WORDS | st.booleans())
ANY_OPTIONS = st.dictionaries(
    st.sampled_from(OPTION_NAMES),
    st.one_of(ANY_JSON, WORDS, st.lists(WORDS, max_size=3), CONDITIONS, st.lists(RULES, max_size=3)),
    max_size=4,
)
