"""Filters from messages to values, counted over all their levels before anything is converted."""

from __future__ import annotations

from typing import Any

import hector_plugins_pb2 as pb
from google.protobuf.struct_pb2 import Struct, Value

from ..errors import InvalidArgument
from ..give_way import give_way
from ..structs import from_value, read_object
from ..vectors.checks import LONGEST_ID
from ..vectors.filters import (
    MOST,
    MOST_IDS,
    MOST_LIST_TEXT,
    MOST_TEXT,
    MOST_VALUES,
    Compare,
    Condition,
    Exists,
    Filter,
    Ids,
    Operator,
    refused,
    too_many,
    too_many_values,
)
from .enums import known

_OPERATORS = {pb.OPERATOR_UNSPECIFIED: Operator.EQ} | {
    pb.Operator.Value(f"OPERATOR_{operator.name}"): operator for operator in Operator
}


def read_filter(message: pb.Filter) -> Filter:
    """Raises InvalidArgument, naming the condition at fault as `filter.must[0]`."""
    return _FilterReader().filter(message, "filter")


class _FilterReader:
    """Counts over all levels of one filter, before what it counts is converted."""

    def __init__(self) -> None:
        self._count = self._values = self._ids = self._text = self._list_text = 0

    def filter(self, message: pb.Filter, at: str) -> Filter:
        self._add(len(message.must) + len(message.should) + len(message.must_not), at)
        return Filter(
            must=tuple(self._condition(condition, f"{at}.must[{i}]") for i, condition in enumerate(message.must)),
            should=tuple(self._condition(condition, f"{at}.should[{i}]") for i, condition in enumerate(message.should)),
            must_not=tuple(
                self._condition(condition, f"{at}.must_not[{i}]") for i, condition in enumerate(message.must_not)
            ),
        )

    def _condition(self, message: pb.Condition, at: str) -> Condition:
        kind = message.WhichOneof("kind")
        if kind == "compare":
            compare = message.compare
            operator = known(_OPERATORS, compare.op, f"{at}.compare.op")
            self._add_text(compare.field, at)
            if compare.value_json:
                return Compare(compare.field, operator, self._json_value(compare.value_json, at))
            return Compare(compare.field, operator, self._value(compare.value, at))
        if kind == "filter":
            return self.filter(message.filter, f"{at}.filter")
        if kind == "exists":
            self._add_text(message.exists, at)
            return Exists(message.exists)
        if kind == "ids":
            self._ids += len(message.ids.ids)
            if self._ids > MOST_IDS:
                raise refused(at, f"has one of more than {MOST_IDS} ids")
            # A longer one than any item's fits none, so it need not be looked for.
            return Ids(tuple(name for name in message.ids.ids if len(name) <= LONGEST_ID))
        raise InvalidArgument(f"{at} is empty: set compare, filter, exists or ids", reason="BAD_FILTER", field=at)

    def _json_value(self, text: str, at: str) -> Any:
        """As `_value`, of JSON."""
        self._add_text(text, at)
        # Counted before it is converted: each value but the first has a comma before it.
        self._add_values(text.count(",") if text.lstrip()[:1] == "[" else 0, at)
        parsed = read_object(Struct(), f'{{"value":{text}}}', f"{at}.compare.value")
        if parsed.keys() != {"value"}:
            raise refused(at, "has a value_json that is not one JSON value")
        value = parsed["value"]
        if isinstance(value, list):
            return [[] if isinstance(part, list) else {} if isinstance(part, dict) else part for part in value]
        return {} if isinstance(value, dict) else value

    def _value(self, value: Value, at: str, inside: bool = False) -> Any:
        """A scalar, or a list of scalars. What is inside of anything deeper fits no operator and stays behind."""
        kind = value.WhichOneof("kind")
        if kind == "list_value":
            if inside:
                return []
            self._add_values(len(value.list_value.values), at)
            return [self._value(part, at, inside=True) for part in value.list_value.values]
        if kind == "struct_value":
            return {}
        if kind is None:
            # Taken for null it would fit nearly everything under NE, and a delete would lose that.
            raise refused(at, "has no value to compare with; set value or value_json, also where null is meant")
        if kind == "string_value" and inside:
            self._add_list_text(value.string_value, at)
        elif kind == "string_value":
            self._add_text(value.string_value, at)
        if inside:
            give_way()
        return from_value(value)

    def _add(self, more: int, at: str) -> None:
        self._count += more
        if self._count > MOST:
            raise too_many(at)

    def _add_values(self, more: int, at: str) -> None:
        self._values += more
        if self._values > MOST_VALUES:
            raise too_many_values(at)

    def _add_list_text(self, text: str, at: str) -> None:
        self._list_text += len(text)
        if self._list_text > MOST_LIST_TEXT:
            raise refused(at, f"has one of more than {MOST_LIST_TEXT} characters in lists")

    def _add_text(self, text: str, at: str) -> None:
        self._text += len(text)
        if self._text > MOST_TEXT:
            raise refused(at, f"has one of more than {MOST_TEXT} characters")
