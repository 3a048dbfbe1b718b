"""Every algorithm of custom_data_processing agrees with plain Python, on data that Hypothesis makes."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import hypothesis
import hypothesis.strategies as st
import pytest

from plugins.tools_http.engine.rows.algorithms import ALGORITHMS
from tests.rows_oracles import (
    check_any_text,
    check_anything,
    check_csv,
    check_deduplicate,
    check_describe,
    check_filter,
    check_group_aggregate,
    check_histogram,
    check_jmespath,
    check_join,
    check_json_lines,
    check_sort,
    check_time_bucket,
)
from tests.rows_strategies import (
    ANY_JSON,
    ANY_OPTIONS,
    BINS,
    BY,
    CELLS,
    COLUMNS,
    CONDITIONS,
    EXPRESSIONS,
    NUMBERED,
    PLAIN,
    ZONES,
    tables,
)

CHECKS: dict[Callable[..., None], tuple[st.SearchStrategy[Any], ...]] = {
    check_sort: (tables(), BY),
    check_filter: (tables(), CONDITIONS),
    check_group_aggregate: (NUMBERED, st.lists(st.sampled_from(["k", "m"]), max_size=2, unique=True)),
    check_deduplicate: (
        tables(),
        st.none() | st.lists(st.sampled_from(COLUMNS), min_size=1, max_size=3, unique=True),
        st.sampled_from(["first", "last"]),
    ),
    check_join: (
        tables(PLAIN, 6),
        tables(PLAIN, 6),
        st.lists(st.sampled_from(COLUMNS), min_size=1, max_size=2, unique=True),
        st.sampled_from(["inner", "left", "right", "full", "semi", "anti"]),
    ),
    check_histogram: (
        NUMBERED,
        BINS,
    ),
    check_describe: (tables(),),
    check_time_bucket: (
        st.lists(st.integers(0, 10**9), min_size=1, max_size=20),
        st.sampled_from(ZONES),
        st.sampled_from(["hour", "day", "week", "month", "quarter", "year"]),
    ),
    check_jmespath: (tables(), EXPRESSIONS),
    check_csv: (
        st.lists(CELLS.filter(bool), min_size=1, max_size=4, unique=True).filter(lambda names: names[0][0] != "\ufeff"),
        st.lists(st.lists(CELLS, max_size=4), max_size=5),
        st.sampled_from([",", ";", "\t", "|", " ", "x"]),
        st.sampled_from(["lf", "crlf"]),
    ),
    check_json_lines: (tables(),),
    check_anything: (tables() | ANY_JSON | CELLS, st.sampled_from(list(ALGORITHMS)), ANY_OPTIONS),
    check_any_text: (st.text(max_size=40) | ANY_JSON.map(json.dumps),),
}
every_check = pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__.removeprefix("check_"))


def examples(check: Callable[..., None], count: int) -> None:
    hypothesis.settings(max_examples=count)(hypothesis.given(*CHECKS[check])(check))()


@every_check
def test_algorithms_agree_with_plain_python(check: Callable[..., None]) -> None:
    """On twenty tables each, every algorithm gives what its oracle gives."""
    examples(check, 20)


@pytest.mark.slow
@every_check
def test_algorithms_agree_with_plain_python_on_many(check: Callable[..., None]) -> None:
    """On five hundred tables each, every algorithm gives what its oracle gives."""
    examples(check, 500)


def test_every_algorithm_has_an_oracle() -> None:
    """No algorithm is without a check of its own."""
    checked = {check.__name__.removeprefix("check_") for check in CHECKS}
    for name in ALGORITHMS:
        assert name in checked or name.partition("_")[2].replace("jsonl", "json_lines") in checked, name
