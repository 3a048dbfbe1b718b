"""How values are written in settings: `shared/units.py`."""

from __future__ import annotations

import contextlib
import copy
import math
import pickle
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.units import READERS, Duration, Secret, Size, read_bool, read_duration, read_list, read_mapping, read_size
from tests.servers import unhurried


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("30s", 30),
        ("500ms", 0.5),
        ("2m", 120),
        ("1h", 3600),
        ("1.5", 1.5),
        (" 5 S ", 5),
        (30, 30),
        (0.25, 0.25),
        (0, 0),
    ],
)
def test_duration_units(text: object, seconds: float) -> None:
    """A duration is seconds, whatever unit it is written in, and a bare number is seconds."""
    assert read_duration(text) == seconds


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("1GB", 10**9),
        ("1GiB", 2**30),
        ("64MiB", 2**26),
        ("64 mib", 2**26),
        ("1.5kB", 1500),
        ("4096", 4096),
        (4096, 4096),
        ("7b", 7),
        ("2TiB", 2**41),
    ],
)
def test_size_units(text: object, count: int) -> None:
    """A size is bytes: decimal units are powers of ten, binary ones powers of two."""
    assert read_size(text) == count


@pytest.mark.parametrize(
    "value", ["", "s", "-5s", "5 parsecs", "5s5s", "1e3", "0x10", "٣s", True, None, [], math.inf, math.nan, "9" * 400]
)
@pytest.mark.parametrize("kind", [Duration, Size])
def test_not_a_quantity(kind: Any, value: object) -> None:
    """What is no number with a known unit is a ValueError, however large or odd, and never another exception."""
    with pytest.raises(ValueError, match=r"expected a (duration|size)"):
        READERS[kind](value)


@pytest.mark.parametrize("value", [True, "true", "Yes", "on", "1", 1, " TRUE "])
def test_true(value: object) -> None:
    """The usual words for yes are True."""
    assert read_bool(value) is True


@pytest.mark.parametrize("value", [False, "false", "No", "off", "0", 0])
def test_false(value: object) -> None:
    """The usual words for no are False."""
    assert read_bool(value) is False


@pytest.mark.parametrize("value", ["", "maybe", 2, None, "truefalse"])
def test_not_a_bool(value: object) -> None:
    """A word that is neither yes nor no is refused, not taken for no."""
    with pytest.raises(ValueError, match="true or false"):
        read_bool(value)


def test_lists() -> None:
    """A list is written with commas or as JSON; blanks around and between are dropped."""
    assert read_list("a, b ,,c") == ("a", "b", "c")
    assert read_list('["a, b", "c"]') == ("a, b", "c")
    assert read_list(["a", {"b": 1}]) == ("a", '{"b": 1}')
    assert read_list("") == ()


def test_mappings() -> None:
    """A mapping is a mapping or its JSON; its keys become text."""
    assert read_mapping({"a": 1, 2: "b"}) == {"a": 1, "2": "b"}
    assert read_mapping('{"a": {"b": [1]}}') == {"a": {"b": [1]}}


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (int, "1.5"),
        (int, True),
        (int, 1.0),
        (int, "9" * 5000),
        (float, "nan"),
        (float, "inf"),
        (float, 10**400),
        (float, True),
        (float, "one"),
        (str, 10),
        (str, None),
        (Path, 5),
        (tuple[str, ...], "[1"),
        (tuple[str, ...], 5),
        (dict[str, Any], "{"),
        (dict[str, Any], "[]"),
        (dict[str, Any], 5),
        (Secret, 1234),
    ],
)
def test_wrong_type(kind: Any, value: object) -> None:
    """A value of another type is a ValueError that says what was expected."""
    with pytest.raises(ValueError, match="expected "):
        READERS[kind](value)


@unhurried
@given(st.sampled_from(sorted(READERS, key=str)), st.text() | st.integers() | st.floats() | st.none() | st.binary())
def test_readers_raise_value_errors_only(kind: Any, value: object) -> None:
    """No value whatever makes a reader raise anything but ValueError."""
    with contextlib.suppress(ValueError):
        READERS[kind](value)


def test_a_secret_hides() -> None:
    """A secret shows itself in no way of formatting it; only `reveal` gives it away."""
    secret = Secret("open sesame")
    shown = [str(secret), repr(secret), f"{secret}", f"{secret!r}", f"{secret:>20}", "%s %r" % (secret, secret)]  # noqa: UP031
    shown += ["-".join(map(str, [secret])), str([secret]), str({"a": secret})]
    assert not [text for text in shown if "sesame" in text]
    assert secret.reveal() == "open sesame"
    assert type(secret.reveal()) is str


def test_a_copied_secret_hides_too() -> None:
    """Copies of a secret, as dataclasses make them, are secrets."""
    secret = Secret("open sesame")
    for copied in (copy.deepcopy(secret), copy.copy(secret), pickle.loads(pickle.dumps(secret))):
        assert isinstance(copied, Secret)
        assert copied.reveal() == "open sesame"


def test_no_secret_shows_as_nothing() -> None:
    """An empty secret prints as empty, so that one can see that none is set."""
    assert (str(Secret()), repr(Secret())) == ("", "''")
    assert not Secret()
