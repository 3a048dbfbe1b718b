"""JSON values in google.protobuf.Struct and in the text beside it: `shared/structs.py`."""

from __future__ import annotations

import json
import math
import time
from typing import Any

import hector_plugins_pb2 as pb
import pytest
from google.protobuf.struct_pb2 import Struct
from hypothesis import given
from hypothesis import strategies as st

from shared import structs
from shared.errors import InvalidArgument
from shared.structs import dump, fill, read_object, struct_size
from tests.servers import unhurried

TEXT = st.text(st.characters(exclude_categories=["Cs"]))
SCALARS = st.none() | st.booleans() | st.floats(allow_nan=False, allow_infinity=False) | TEXT
VALUES = st.recursive(
    SCALARS | st.integers(), lambda inner: st.lists(inner) | st.dictionaries(TEXT, inner), max_leaves=20
)
OBJECTS = st.dictionaries(TEXT, VALUES)
BIG = 2**53


LARGE = st.integers(0, 40_000).map("ä".__mul__) | st.integers(2**1000, 2**1100)


def nested(levels: int, inner: Any = None, *, lists: bool = False) -> dict[str, Any]:
    """A JSON object of so many levels, `inner` in the innermost."""
    value: Any = {"a": inner}
    for level in range(levels - 1):
        value = [value] if lists and level % 2 else {"a": value}
    return value if isinstance(value, dict) else {"a": value[0]}


def has_big_integer(value: Any) -> bool:
    if isinstance(value, dict | list):
        return any(map(has_big_integer, value.values() if isinstance(value, dict) else value))
    return type(value) is int and abs(value) > BIG


@unhurried
@given(OBJECTS)
def test_text_is_exact(value: dict[str, Any]) -> None:
    """What goes out as JSON text comes in as it was: big integers, 1 and 1.0, the order of keys."""
    read = read_object(Struct(), dump(value), "metadata")
    assert json.dumps(read) == json.dumps(value)


@unhurried
@given(st.dictionaries(TEXT | LARGE.map(str), VALUES | LARGE | st.lists(VALUES | LARGE, max_size=300)))
def test_the_size_of_a_struct(value: dict[str, Any]) -> None:
    """A Struct's size, and whether it is exact, are known without making it: as of the one that is made."""
    struct = Struct()
    exact = fill(struct, value)
    assert struct_size(value) == (struct.ByteSize(), exact)


@pytest.mark.parametrize("levels", [31, 32, 33, 40])
@pytest.mark.parametrize("lists", [False, True])
def test_the_size_of_a_deep_struct(levels: int, lists: bool) -> None:
    """What a Struct cannot hold, since it is too deep, takes no bytes of it and is not exact."""
    value, struct = nested(levels, 2**60, lists=lists), Struct()
    assert not fill(struct, value)
    assert struct_size(value) == (struct.ByteSize(), False)
    assert (struct.ByteSize() == 0) == (levels > 32)


@unhurried
@given(OBJECTS)
def test_struct_is_exact_when_it_says_so(value: dict[str, Any]) -> None:
    """A Struct that was filled exactly reads as an equal value; it is inexact just for integers above 2^53."""
    struct = Struct()
    exact = fill(struct, value)
    assert exact == (not has_big_integer(value))
    if exact:
        assert read_object(Struct.FromString(struct.SerializeToString()), "", "metadata") == value


@pytest.mark.parametrize("number", [BIG, -BIG, 0, 1, -1])
def test_integers_that_fit(number: int) -> None:
    """Integers of up to 2^53 are held exactly."""
    assert fill(Struct(), {"a": number})


@pytest.mark.parametrize("number", [BIG + 1, -BIG - 1, 10**30, 10**400, -(10**400)])
def test_integers_that_do_not_fit(number: int) -> None:
    """Larger integers are not, also those that no double comes near to, and inside of lists."""
    assert not fill(Struct(), {"a": number})
    assert not fill(Struct(), {"a": [1, {"b": number}]})


def test_the_text_wins() -> None:
    """Where both are sent, the text counts."""
    struct = Struct()
    fill(struct, {"a": 1})
    assert read_object(struct, '{"b": 2}', "metadata") == {"b": 2}
    assert read_object(struct, "", "metadata") == {"a": 1.0}


@pytest.mark.parametrize("lists", [False, True])
def test_deep_nesting(lists: bool) -> None:
    """A value of 32 levels fits a Struct in every message of the contract; a deeper one leaves it empty and says so."""
    deepest = nested(32, 1, lists=lists)
    vector = pb.VectorResult(id="x")
    assert fill(vector.metadata, deepest)
    reply = pb.SearchVectorsResponse.FromString(pb.SearchVectorsResponse(results=[vector]).SerializeToString())
    assert read_object(reply.results[0].metadata, "", "metadata") == deepest
    deeper = Struct()
    assert not fill(deeper, nested(33, 1, lists=lists))
    assert len(deeper.fields) == 0


def test_a_struct_in_the_deepest_message() -> None:
    """The deepest place of a Struct in the contract, a tool call in a chat message, holds 32 levels too."""
    call = pb.ToolCall(name="x")
    assert fill(call.arguments, nested(32, 1))
    request = pb.GenerateTextRequest(messages=[pb.ChatMessage(tool_calls=[call])])
    event = pb.GenerateTextRequest.FromString(request.SerializeToString())
    assert read_object(event.messages[0].tool_calls[0].arguments, "", "arguments") == nested(32, 1)


def test_deep_text() -> None:
    """Text may be nested 500 levels deep and can then be written again; deeper is refused, however deep."""
    assert json.loads(dump(read_object(Struct(), json.dumps(nested(500)), "metadata"))) == nested(500)
    for text in (
        '{"a":' * 501 + "1" + "}" * 501,
        '{"a":' + "[" * 100_000,
        '{"a":' + "[" * 100_000 + "]" * 100_000 + "}",
    ):
        with pytest.raises(InvalidArgument) as caught:
            read_object(Struct(), text, "metadata")
        assert "nested more than 500 levels deep" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "is not JSON"),
        ("[]", "must be a JSON object"),
        ("null", "must be a JSON object"),
        ("5", "must be a JSON object"),
        ('{"a": NaN}', "NaN is not JSON"),
        ('{"a": [Infinity]}', "Infinity is not JSON"),
        ('{"a": -Infinity}', "-Infinity is not JSON"),
        ('{"a": 1e400}', "not finite"),
        ('{"a": [{"b": -1.5E+999}]}', "not finite"),
        ('{"a": ' + "9" * 309 + ".5}", "not finite"),
        ('{"a": ' + "9" * 5000 + "}", "is not JSON"),
        ('{"a": "\\ud800"}', "half of a surrogate pair"),
        ('{"\\udc00": 1}', "half of a surrogate pair"),
        ('{"a": 1} {"b": 2}', "is not JSON"),
    ],
)
def test_text_that_is_refused(text: str, says: str) -> None:
    """Text that is no JSON object, or holds what JSON or UTF-8 cannot, is an error that names the text's field."""
    with pytest.raises(InvalidArgument, match=says) as caught:
        read_object(Struct(), text, "vectors[3].metadata")
    assert caught.value.violations[0][0] == "vectors[3].metadata_json"
    assert len(str(caught.value)) < 300


def test_a_whole_surrogate_pair() -> None:
    """Both halves of a pair, as JSON spells what lies beyond 16 bits, are one character."""
    assert read_object(Struct(), '{"a": "\\ud83d\\ude00"}', "metadata") == {"a": "\U0001f600"}


def test_digits_are_read_once() -> None:
    """Text of numbers that are just short of too large is looked at in a time like that of letters."""

    def cpu_seconds(text: str) -> float:
        began = time.thread_time()
        assert not structs._MAY_BE_INFINITE.search(text)
        return time.thread_time() - began

    digits, letters = ("9" * 308 + " ") * 3_000, ("x" * 308 + " ") * 3_000
    ratios = [cpu_seconds(digits) / cpu_seconds(letters) for _ in range(5)]
    assert min(ratios) < 5, ratios  # read anew from each digit on, they take eleven times as long


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_structs_that_are_refused(number: float) -> None:
    """NaN and infinity in a Struct, which JSON does not have, are refused at any depth, naming the Struct's field."""
    struct = Struct()
    fill(struct, {"a": [{"b": number}]})
    with pytest.raises(InvalidArgument, match="not finite") as caught:
        read_object(struct, "", "filter")
    assert caught.value.violations[0][0] == "filter"


def test_a_value_without_a_kind() -> None:
    """A Value that says nothing at all reads as null."""
    struct = Struct()
    struct.fields["a"].SetInParent()
    assert read_object(struct, "", "metadata") == {"a": None}
