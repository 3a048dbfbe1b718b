"""Messages that are legal and odd: whatever a caller sends, INTERNAL is never the answer."""

from __future__ import annotations

import contextlib
import os
import random
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import hector_plugins_pb2 as pb
import pytest
from google.protobuf import message_factory
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.struct_pb2 import Struct, Value

from tests.vector_tools import vectors
from tests.vector_wire import Database, serving, vector

_TEXTS = ["", "c", "c", "c", "s", "a", "a\0b", "é", "🙂", ".", "..", "/", "n", "text", '"a.b".c', "x" * 600, "\n", "\\",
          "'", '"', "$", "{}", '{"n":1}', '{"n":1e400}', '{"a":[[[]]]}', "[]", "MQ==", "MS4x", "٣"]  # fmt: skip
_NUMBERS = [
    0,
    1,
    2,
    3,
    4,
    5,
    10,
    100,
    1000,
    1001,
    16_384,
    16_385,
    2**31 - 1,
    2**32 - 1,
    2**53 + 1,
    2**63 - 1,
    2**64 - 1,
]
_FLOATS = [0.0, -0.0, 1.0, -1.0, 0.5, 1e-45, 1e-38, 3e38, -3e38, 1e19, float("inf"), float("-inf"), float("nan")]
_RANGES = {
    FieldDescriptor.CPPTYPE_INT32: (-(2**31), 2**31 - 1),
    FieldDescriptor.CPPTYPE_UINT32: (0, 2**32 - 1),
    FieldDescriptor.CPPTYPE_INT64: (-(2**63), 2**63 - 1),
    FieldDescriptor.CPPTYPE_UINT64: (0, 2**64 - 1),
    FieldDescriptor.CPPTYPE_ENUM: (-(2**31), 2**31 - 1),
}
SECONDS = float(os.environ.get("FUZZ_SECONDS", "4"))


class Odd:
    """Messages of any kind with values that tend to break things."""

    def __init__(self, seed: int) -> None:
        self._chance = random.Random(seed)

    def message(self, kind: Any, depth: int = 0) -> Any:
        made = kind()
        if isinstance(made, Struct):
            for _ in range(self._chance.randrange(3)):
                made.fields[self._text()].CopyFrom(self.message(Value, depth + 1))
            return made
        for field in kind.DESCRIPTOR.fields:
            if self._chance.random() < (0.65 if depth < 4 else 0.15):
                self._fill(made, field, depth)
        return made

    def request(self, kind: Any) -> Any:
        """A message with so much in order that some of them get past the first check."""
        made = self.message(kind)
        fields = kind.DESCRIPTOR.fields_by_name
        if "collection" in fields and self._chance.random() < 0.7:
            made.collection = "c"
        for one in [made, *getattr(made, "searches", ())]:
            if isinstance(one, pb.SearchVectorsRequest) and self._chance.random() < 0.7:
                one.vector[:] = [self._chance.uniform(-1, 1) for _ in range(4)]
                one.collection, one.limit = "c", self._chance.choice([0, 1, 10, 1000])
        for one in getattr(made, "vectors", ()):
            if self._chance.random() < 0.7:
                one.id, one.vector[:] = self._chance.choice("abcdef"), [self._chance.uniform(-1, 1) for _ in range(4)]
                if self._chance.random() < 0.7:
                    one.metadata_json = self._chance.choice(["", '{"n":1}', '{"a":{"b":[1,null]}}', '{"":"\\u0000"}'])
        return made

    def _fill(self, made: Any, field: FieldDescriptor, depth: int) -> None:
        if field.is_repeated:
            repeated = getattr(made, field.name)
            for _ in range(self._chance.choice([0, 1, 1, 2, 4, 4, 4, 5])):
                if field.message_type is None:
                    repeated.append(self._scalar(field))
                else:
                    repeated.append(self.message(self.kind(field.message_type), depth + 1))
        elif field.message_type is not None:
            getattr(made, field.name).CopyFrom(self.message(self.kind(field.message_type), depth + 1))
        else:
            setattr(made, field.name, self._scalar(field))

    def kind(self, descriptor: Descriptor) -> Any:
        return message_factory.GetMessageClass(descriptor)

    def _scalar(self, field: FieldDescriptor) -> Any:
        if field.cpp_type == FieldDescriptor.CPPTYPE_STRING:
            return self._text()
        if field.cpp_type == FieldDescriptor.CPPTYPE_BOOL:
            return self._chance.random() < 0.5
        if field.cpp_type in (FieldDescriptor.CPPTYPE_FLOAT, FieldDescriptor.CPPTYPE_DOUBLE):
            if self._chance.random() < 0.7:
                return round(self._chance.uniform(-2, 2), 3)
            if self._chance.random() < 0.5:
                (odd,) = struct.unpack("<f", self._chance.randbytes(4))
                return odd
            return self._chance.choice(_FLOATS)
        least, most = _RANGES[field.cpp_type]
        number = self._chance.choice(_NUMBERS[:12] if self._chance.random() < 0.8 else _NUMBERS)
        return max(least, min(most, number if self._chance.random() < 0.9 else -number))

    def _text(self) -> str:
        return self._chance.choice(_TEXTS)


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    with serving(tmp_path / "data", max_collections=20) as database:
        yield database


@pytest.mark.slow
def test_odd_messages(database: Database) -> None:
    """No call answers INTERNAL or UNKNOWN, or with a failure that names no code, whatever stands in the message."""
    seed = random.SystemRandom().randrange(10**6)
    print(f"seed {seed}")
    odd = Odd(seed)
    service = pb.DESCRIPTOR.services_by_name["DatabaseProvider"]
    seen: dict[str, set[bool]] = {}
    deadline, calls = time.monotonic() + SECONDS, 0
    while time.monotonic() < deadline or calls < 300:
        if calls % 200 == 0:
            with contextlib.suppress(AssertionError):
                database.create()
            rows = vectors(30, 4)
            database.upsert(*[vector(f"i{n}", *row.tolist(), metadata_json='{"n":1}') for n, row in enumerate(rows)])
        calls += 1
        for method in service.methods:
            request = odd.request(odd.kind(method.input_type))
            if method.name == "DeleteCollection" and calls % 50:
                continue
            try:
                if method.client_streaming:
                    replies = list(getattr(database.stub, method.name)(iter([request, request]), timeout=60))
                    assert len(replies) == 2
                    reply = replies[0]
                else:
                    reply = getattr(database.stub, method.name)(request, timeout=60)
            except grpc.RpcError as error:
                if error.code() in (grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.INVALID_ARGUMENT):
                    continue
                raise AssertionError(f"{method.name}({request})\n{database.server.log()[-6000:]}") from error
            success = getattr(reply, "success", True)
            seen.setdefault(method.name, set()).add(success)
            assert success or reply.status.code not in (0, 2, 13), f"{method.name}({request}): {reply}"
    for name in ("UpsertVectors", "SearchVectors", "GetVectors", "ListVectors", "CountVectors"):
        assert seen[name] == {True, False}, f"{name} was never answered or never refused"
