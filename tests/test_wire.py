"""Requests from bytes to messages: `shared/wire.py`."""

from __future__ import annotations

from typing import Any

import hector_plugins_pb2 as pb
import pytest
from google.protobuf.internal.encoder import _VarintBytes  # type: ignore[attr-defined]
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st

from shared import wire
from shared.errors import InvalidArgument, Malformed
from tests.servers import unhurried

MESSAGES = pb.GenerateTextRequest.DESCRIPTOR.fields_by_name["messages"].number
METADATA = pb.Vector.DESCRIPTOR.fields_by_name["metadata"].number


def packed(number: int, payload: bytes) -> bytes:
    """A field that holds bytes, a text or a message."""
    return bytes([number << 3 | 2]) + bytes(_VarintBytes(len(payload))) + payload


def upsert(count: int, dimension: int = 8, keys: int = 3) -> pb.UpsertVectorsRequest:
    request = pb.UpsertVectorsRequest(collection="docs", allow_partial=True)
    for number in range(count):
        vector = request.vectors.add(id=f"id{number}")
        vector.vector.extend([number / 7] * dimension)
        for key in range(keys):
            vector.metadata.fields[f"key{key}"].string_value = f"value {number}"
    return request


def nested(count: int) -> bytes:
    """An upsert of one vector whose metadata is a list of so many empty values."""
    values = packed(6, packed(1, b"") * count)
    return packed(2, packed(METADATA, packed(1, packed(1, b"list") + packed(2, values))))


@pytest.mark.parametrize("request_", [upsert(3_000), upsert(10, 20_000), upsert(1, 100_000), upsert(20_000, 1, 0)])
def test_large_requests_in_pieces(request_: pb.UpsertVectorsRequest) -> None:
    """A request that is parsed in pieces is the one that was sent."""
    data = request_.SerializeToString()
    assert not wire.is_small(data)
    assert wire.parse(pb.UpsertVectorsRequest, data, {"vectors": 20_000}) == request_


@unhurried
@given(st.data())
def test_any_bytes(data: st.DataObject) -> None:
    """What protobuf refuses is Malformed, and what it takes is the same message, whatever was done to a request."""
    raw = bytearray(_LARGE)
    for _ in range(data.draw(st.integers(0, 3))):
        place = data.draw(st.integers(0, len(raw) - 1))
        raw[place] = data.draw(st.integers(0, 255))
    del raw[len(raw) - data.draw(st.integers(0, 5)) :]
    try:
        expected = pb.UpsertVectorsRequest.FromString(bytes(raw))
    except DecodeError:
        with pytest.raises(Malformed):
            wire.parse(pb.UpsertVectorsRequest, bytes(raw), {})
        return
    try:
        assert wire.parse(pb.UpsertVectorsRequest, bytes(raw), {}).SerializeToString() == expected.SerializeToString()
    except Malformed:
        # Groups, which the contract does not have, are taken by protobuf alone.
        assert any(byte & 7 in (3, 4) for byte in raw)


_LARGE = upsert(2_500).SerializeToString()


@pytest.mark.parametrize("count", [100_000, 1_000_000])
def test_items_are_counted_before_they_are_made(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """More items than the plugin takes are refused by name, and none of them is made."""
    monkeypatch.setattr(wire, "_pieces", _fail)
    with pytest.raises(InvalidArgument, match=r"^vectors has more than 1,000 items; send at most 1,000") as caught:
        wire.parse(pb.UpsertVectorsRequest, packed(2, b"") * count, {"vectors": 1_000})
    assert (caught.value.reason, caught.value.violations[0][0]) == ("TOO_MANY_ITEMS", "vectors")


@pytest.mark.parametrize("updates", [[250_000], [60_000] * 4])
def test_items_inside_of_others_are_counted(updates: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    """More items inside of others than the plugin takes in all are refused by name, and none of them is made."""
    monkeypatch.setattr(wire, "_pieces", _fail)
    keys = pb.MetadataUpdate.DESCRIPTOR.fields_by_name["remove_keys"].number
    data = b"".join(packed(2, packed(keys, b"k") * count) for count in updates)
    with pytest.raises(InvalidArgument, match=r"^updates.remove_keys has more than 200,000 items") as caught:
        wire.parse(pb.UpdateMetadataRequest, data, {"updates": 1_000, "updates.remove_keys": 200_000})
    assert (caught.value.reason, caught.value.violations[0][0]) == ("TOO_MANY_ITEMS", "updates.remove_keys")


def test_as_many_inside_of_others_as_there_may_be() -> None:
    """Just as many as the plugin takes are made, with the small ones beside them that it counts itself."""
    request = pb.UpdateMetadataRequest(updates=[pb.MetadataUpdate(remove_keys=["k"] * count) for count in (99_990, 10)])
    limits = {"updates": 2, "updates.remove_keys": 99_990}
    assert wire.parse(pb.UpdateMetadataRequest, request.SerializeToString(), limits) == request


def test_bytes_of_a_text() -> None:
    """A text of more bytes than the plugin takes is refused by name."""
    request = pb.EmbedTextRequest(text="x" * 200_001)
    with pytest.raises(InvalidArgument, match=r"^text has more than 200,000 bytes") as caught:
        wire.parse(pb.EmbedTextRequest, request.SerializeToString(), {"text": 200_000})
    assert caught.value.reason == "TOO_MANY_BYTES"
    assert wire.parse(pb.EmbedTextRequest, request.SerializeToString(), {"text": 200_001}) == request


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        (pb.UpsertVectorsRequest, packed(2, b"") * 110_000),
        (pb.UpsertVectorsRequest, nested(110_000)),
        (pb.UpsertVectorsRequest, nested(400) * 300),  # many small ones with many inside
        (pb.EmbedBatchRequest, packed(1, b"") * 110_000),
        (pb.GenerateTextRequest, packed(MESSAGES, packed(4, b"") * 110_000)),  # tool calls
    ],
)
def test_messages_are_counted_at_any_depth(kind: Any, data: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """More than MOST_MESSAGES messages, or texts in lists, are refused wherever they lie, and none of them is made."""
    monkeypatch.setattr(wire, "MOST_MESSAGES", 100_000)
    monkeypatch.setattr(wire, "_pieces", _fail)
    with pytest.raises(InvalidArgument, match="the request holds more than 100,000 messages") as caught:
        wire.parse(kind, data, {})
    assert caught.value.reason == "TOO_MANY_MESSAGES"


def test_as_many_as_there_may_be() -> None:
    """Just MOST_MESSAGES are taken, also where an estimate would say more."""
    lists = nested(190) * 5_000  # 5 messages around 190, and one for each vector itself
    assert len(wire.parse(pb.UpsertVectorsRequest, lists, {}).vectors) == 5_000
    with pytest.raises(InvalidArgument):
        wire.parse(pb.UpsertVectorsRequest, lists + nested(190) * 500, {})


def _fail(data: bytes) -> Any:
    raise AssertionError("it was converted")
