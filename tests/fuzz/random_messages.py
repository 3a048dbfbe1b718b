"""Messages made from their descriptors at random, near enough to what a plugin expects to get past its first checks."""

from __future__ import annotations

import json
from random import Random
from typing import Any

from google.protobuf import message_factory
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

DEEPEST = 6  # messages within messages
COLLECTIONS = ("fuzz", "fuzz-2", "fuzz.3", "unknown", "", ".hidden", "../up", "x" * 129)
MODELS = (
    *("hello", "echo", "tool", "tool-one-function", "tool-wrong", "tool-strange", "json-body", "stream-unasked"),
    *(
        "split-emoji",
        "null-content",
        "no-finish",
        "cut-off",
        "reset",
        "error-in-stream",
        "picky",
        "no-schema",
        "fenced",
    ),
    *("mends", "rambles", "status-500", "status-429", "too-long", "usage-on-every-chunk", "think", "content-parts"),
)
TOOLS = ("custom_api_call", "custom_data_processing", "fetch_page", "read_result", "unknown", "")
ARGUMENTS = (
    {"url": "http://127.0.0.1:1/x", "method": "POST", "headers": {"X": "y"}, "query": {"a": [1, None]}, "json": {}},
    {"url": "http://0177.0.0.1/", "body": "x", "timeout": 0.5},
    {"url": "http://127.0.0.1/", "format": "text", "main_only": False},
    {"cursor": "A" * 22 + ".7", "find": "x"},
    {"data": [{"a": 1, "b": "x"}], "algorithm": "sort", "options": {"by": [{"column": "a"}]}},
    {"data": [[1, "x"], [2.5, None]], "algorithm": "group_aggregate", "options": {"by": [1]}},
    {"data": "a,b\n1,2\n", "algorithm": "parse_csv", "options": {"types": {"a": "integer"}}},
    {"data": {"a": [1]}, "algorithm": "jmespath", "options": {"expression": "a[?@ > `0`]"}},
    {"data": [{"t": "2026-01-01T00:00:00Z"}], "algorithm": "time_bucket", "options": {"column": "t", "unit": "day"}},
    {"data": [["x"]], "algorithm": "filter", "options": {"where": {"column": 0, "op": "matches", "value": "(x+)+$"}}},
)  # fmt: skip
TEXTS = (
    *("", "a", "What survives a power cut?", "\x00", "\u2028", "🦊" * 40, "e\u0301" * 50, "\ud7ff\ue000", "x" * 5_000),
    *("say hi", "refuse it", "../../etc/passwd", "${HOME}", "%s%n", "'; DROP TABLE x;--"),
)
KEYS = ("page", "title", "kind", "id", "", "a.b", "\x00", "🦊", "k" * 300)
NUMBERS = (0, 1, -1, 2, 7, 8, 100, 384, 1_000, 1_001, 16_384, 16_385, 2**31 - 1, -(2**31), 2**53 + 1, 2**63 - 1)
FLOATS = (0.0, -0.0, 1.0, -1.0, 0.5, 1e-45, 3.4e38, float("inf"), float("-inf"), float("nan"))
LIMITS = {
    FieldDescriptor.CPPTYPE_INT32: (-(2**31), 2**31 - 1),
    FieldDescriptor.CPPTYPE_UINT32: (0, 2**32 - 1),
    FieldDescriptor.CPPTYPE_INT64: (-(2**63), 2**63 - 1),
    FieldDescriptor.CPPTYPE_UINT64: (0, 2**64 - 1),
}
DIMENSIONS = (0, 1, 7, 8, 8, 8, 8, 8, 9, 64)  # 8 is that of the collections to attack


def random_message(descriptor: Descriptor, random: Random, depth: int = 0) -> Message:
    """Any message of that type. About half of its fields are set."""
    message: Message = message_factory.GetMessageClass(descriptor)()
    for field in descriptor.fields:
        if random.random() < 0.5 and field.name != "collection" and field.name != "name":
            continue
        if field.message_type is not None and depth >= DEEPEST:
            continue
        _set(message, field, random, depth)
    return message


def _set(message: Any, field: FieldDescriptor, random: Random, depth: int) -> None:
    kind = field.message_type
    if kind is not None and kind.GetOptions().map_entry:
        _set_map(message, field, random, depth)
    elif field.is_repeated:
        place = getattr(message, field.name)
        count = random.choice(DIMENSIONS) if field.name == "vector" else random.choice((0, 1, 1, 2, 3, 12))
        for _ in range(count if depth < 3 else min(count, 2)):
            if kind is not None:
                place.add().CopyFrom(random_message(kind, random, depth + 1))
            else:
                place.append(_scalar(field, random))
    elif kind is not None:
        getattr(message, field.name).CopyFrom(random_message(kind, random, depth + 1))
    else:
        setattr(message, field.name, _scalar(field, random))


def _set_map(message: Any, field: FieldDescriptor, random: Random, depth: int) -> None:
    assert field.message_type is not None
    place, value = getattr(message, field.name), field.message_type.fields_by_name["value"]
    for _ in range(random.choice((0, 1, 3))):
        key = random.choice(KEYS)
        if value.message_type is not None:
            place[key].CopyFrom(random_message(value.message_type, random, depth + 1))
        else:
            place[key] = _scalar(value, random)


def _scalar(field: FieldDescriptor, random: Random) -> Any:
    kind = field.cpp_type
    if kind == FieldDescriptor.CPPTYPE_STRING:
        if field.type == FieldDescriptor.TYPE_BYTES:
            return random.randbytes(random.choice((0, 1, 20, 1_000)))
        return _text(field.name, random)
    if kind == FieldDescriptor.CPPTYPE_BOOL:
        return random.random() < 0.5
    if kind in (FieldDescriptor.CPPTYPE_FLOAT, FieldDescriptor.CPPTYPE_DOUBLE):
        return random.choice(FLOATS) if random.random() < 0.1 else random.uniform(-1, 1)
    if kind == FieldDescriptor.CPPTYPE_ENUM:
        return random.choice((0, 1, 2, 3, 99))
    low, high = LIMITS[kind]
    return max(low, min(high, random.choice(NUMBERS)))


def _text(name: str, random: Random) -> str:
    if name == "parameters_json" and random.random() < 0.6:
        return json.dumps(_changed(random.choice(ARGUMENTS), random))
    if name.endswith(("_json", "_schema")):
        return random_json(random)
    if name in ("collection", "name", "snapshot"):
        return random.choice(COLLECTIONS) if random.random() < 0.9 else random.choice(TEXTS)
    if name == "tool":
        return random.choice(TOOLS)
    if name == "model":
        return random.choice(MODELS)
    if name in ("id", "ids"):
        return f"id-{random.randrange(200)}"
    return random.choice(TEXTS)


def _changed(value: Any, random: Random) -> Any:
    """The value, with now and then a part of it something else."""
    if random.random() < 0.05:
        return _json_value(random, 2)
    if isinstance(value, dict):
        return {key: _changed(item, random) for key, item in value.items() if random.random() < 0.95}
    return [_changed(item, random) for item in value] if isinstance(value, list) else value


SCHEMA_WORDS = (
    *("type", "properties", "items", "anyOf", "allOf", "oneOf", "not", "enum", "const", "default", "$ref", "$defs"),
    *("pattern", "minimum", "required", "additionalProperties", "format", "if", "then", "patternProperties", "$id"),
)


def random_json(random: Random) -> str:
    """JSON text, mostly; of schemas, options and arguments, or of anything."""
    if random.random() < 0.1:
        return random.choice(
            ("", "{", "[1]", "null", '"text"', "NaN", "{}x", "[" * 500, '{"a":' * 300, "1e999", "\ufeff{}")
        )
    return json.dumps(_json_value(random, 0))


def _json_value(random: Random, depth: int) -> Any:
    leaves: tuple[Any, ...] = (
        *(
            None,
            True,
            0,
            -1,
            2**53 + 1,
            0.5,
            1e300,
            "",
            "object",
            "string",
            "array",
            "#",
            "#/$defs/a",
            "http://127.0.0.1:1/x",
        ),
        *("(a+)+$", "[", "\ud83d"),
    )
    if depth > 4 or (depth and random.random() < 0.4):
        return random.choice(leaves)
    if random.random() < 0.25:
        return [_json_value(random, depth + 1) for _ in range(random.randrange(4))]
    keys = (*SCHEMA_WORDS, *KEYS, "city", "temperature", "messages", "stream", "n", "tools")
    return {random.choice(keys): _json_value(random, depth + 1) for _ in range(random.randrange(5))}
