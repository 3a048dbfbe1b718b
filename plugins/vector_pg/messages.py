"""Requests to the engine's values and back: counted before they are converted, sized before they are packed.

A few megabytes can hold a million empty messages, and each costs a hundred times what it weighs once it is a value.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import hector_plugins_pb2 as pb
import numpy as np
from google.protobuf.struct_pb2 import Struct, Value

from shared.errors import CallerError, InvalidArgument, TooLarge
from shared.give_way import give_way
from shared.status import failure, to_status
from shared.structs import dump, fill, from_value, read_object

from .engine import Change, Description, Hit, Item, MetadataMode, Metric, Mode, Query, SearchResult, checks
from .engine.filters import (
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
from .engine.values import Floats

Result = TypeVar("Result")

METRICS = {
    pb.METRIC_UNSPECIFIED: Metric.COSINE,
    pb.METRIC_COSINE: Metric.COSINE,
    pb.METRIC_DOT: Metric.DOT,
    pb.METRIC_EUCLIDEAN: Metric.EUCLIDEAN,
}
_METRIC_NUMBERS = {metric: number for number, metric in METRICS.items() if number}
MODES = {
    pb.UPSERT_MODE_UNSPECIFIED: Mode.UPSERT,
    pb.UPSERT_MODE_INSERT_ONLY: Mode.INSERT_ONLY,
    pb.UPSERT_MODE_UPDATE_ONLY: Mode.UPDATE_ONLY,
}
METADATA_MODES = {
    pb.METADATA_MODE_UNSPECIFIED: MetadataMode.MERGE,
    pb.METADATA_MODE_MERGE: MetadataMode.MERGE,
    pb.METADATA_MODE_REPLACE: MetadataMode.REPLACE,
}
_OPERATORS = {pb.OPERATOR_UNSPECIFIED: Operator.EQ} | {
    pb.Operator.Value(f"OPERATOR_{operator.name}"): operator for operator in Operator
}
# What gRPC clients take by default, less what stands around an item in a reply.
LARGEST_ITEM = 4 * 2**20 - 1024
# Of metadata in a reply, whatever it is: four in UTF-8, and a Struct takes up to six times its JSON.
_MOST_BYTES_A_CHARACTER = 30
# A character of stored JSON takes at least a sixth of a byte in a reply: `\u0001` is one byte there.
_CHARACTERS_A_BYTE = 6


# ---------------------------------------------------------------- messages to values


def known(values: dict[Any, Result], number: int, field: str) -> Result:
    if number not in values:
        raise InvalidArgument(
            f"{field} {number} is not one of the contract's",
            reason=f"BAD_{field.rpartition('.')[2].upper()}",
            field=field,
        )
    return values[number]


def read_items(request: pb.UpsertVectorsRequest, most: int = LARGEST_ITEM) -> tuple[list[Item], dict[int, CallerError]]:
    """The items, and what is already known to be wrong with which. Raises InvalidArgument when they are too many.

    An item that takes more than `most` bytes in a reply is wrong: nobody could ever read it.
    """
    checks.check_batch("vectors", len(request.vectors))
    items: list[Item] = []
    wrong: dict[int, CallerError] = {}
    for index, vector in enumerate(request.vectors):
        numbers, metadata = _NONE, "{}"
        try:
            numbers = _numbers(vector.vector, f"vectors[{index}].vector")
            if vector.metadata_json or vector.HasField("metadata"):
                metadata = _metadata(vector, f"vectors[{index}].metadata", most)
        except CallerError as error:
            wrong[index] = error.let_go()
        items.append(Item(vector.id, numbers, metadata))
        give_way()
    return items, wrong


def _metadata(vector: pb.Vector, field: str, most: int) -> str:
    value = _read_metadata(vector, field)
    return dumped(vector.id, value, len(vector.vector), field + ("_json" if vector.metadata_json else ""), most)


def _read_metadata(message: pb.Vector | pb.MetadataUpdate, field: str) -> dict[str, Any]:
    text = message.metadata_json
    if len(text) > checks.LARGEST_METADATA or (not text and message.metadata.ByteSize() > checks.LARGEST_METADATA):
        raise _too_large(field + ("_json" if text else ""))
    return read_object(message.metadata, text, field)


def dumped(name: str, value: Mapping[str, Any], dimension: int, field: str, most: int = LARGEST_ITEM) -> str:
    """The metadata of the item `name` as JSON text.

    Raises InvalidArgument, naming `field`, where with a vector of this dimension it takes more than `most` bytes in a
    reply.
    """
    give_way()
    metadata = dump(value)
    if _MOST_BYTES_A_CHARACTER * len(metadata) <= most:
        return metadata
    if len(metadata.encode()) > checks.LARGEST_METADATA:
        raise _too_large(field)
    # Short JSON can be a long Struct: `0,` is two bytes and eleven.
    packed = pb.Vector(id=name[: checks.LONGEST_ID])
    if not fill(packed.metadata, dict(value)):
        packed.metadata_json = metadata
    size = packed.ByteSize() + 4 * dimension
    if size <= most:
        return metadata
    raise InvalidArgument(
        f"{field.rpartition('.')[0]} would take {size} bytes in a reply, over the {most} that one may have; "
        "keep the bulk of its metadata elsewhere and its address here",
        reason="METADATA_TOO_LARGE",
        field=field,
    )


def _too_large(field: str) -> InvalidArgument:
    return InvalidArgument(
        f"{field} is of more than {checks.LARGEST_METADATA} bytes; keep the bulk elsewhere and its address here",
        reason="METADATA_TOO_LARGE",
        field=field,
    )


def read_changes(request: pb.UpdateMetadataRequest) -> tuple[list[Change], dict[int, CallerError]]:
    """The changes, and what is already known to be wrong with which. Raises InvalidArgument when they are too many."""
    checks.check_batch("updates", len(request.updates))
    checks.check_batch("remove_keys", sum(len(update.remove_keys) for update in request.updates))
    changes: list[Change] = []
    wrong: dict[int, CallerError] = {}
    for index, update in enumerate(request.updates):
        metadata = None
        try:
            if update.metadata_json or update.HasField("metadata"):
                metadata = _read_metadata(update, f"updates[{index}].metadata")
        except CallerError as error:
            wrong[index] = error.let_go()
        changes.append(Change(update.id, metadata, tuple(update.remove_keys)))
        give_way()
    return changes, wrong


def read_change_of_all(request: pb.UpdateMetadataRequest) -> Change:
    """The one change that every match of the request's filter gets. Raises InvalidArgument."""
    if len(request.updates) != 1 or request.updates[0].id:
        raise InvalidArgument(
            "with a filter `updates` has one update, without an id, which every match gets; or leave the filter unset",
            reason="BAD_UPDATE",
            field="updates",
        )
    (change,), wrong = read_changes(request)
    checks.check_wrong(wrong, False, "updates")
    return change


_NONE = np.empty(0, np.float32)


def _numbers(vector: Any, field: str) -> Floats:
    if len(vector) > checks.LARGEST_DIMENSION:
        raise InvalidArgument(
            f"{field} has {len(vector)} numbers, a collection's dimension is at most {checks.LARGEST_DIMENSION}",
            reason="WRONG_DIMENSION",
            field=field,
        )
    return np.array(vector, dtype=np.float32)


def read_query(request: pb.SearchVectorsRequest, embedding_model: str) -> Query:
    return Query(
        vector=_numbers(request.vector, "vector"),
        limit=request.limit or 10,
        offset=request.offset,
        min_score=_min_score(request),
        filter=read_filter(request.filter) if request.HasField("filter") else None,
        ef=request.ef_search,
        exact=request.exact,
        with_vectors=request.include_vectors,
        with_metadata=with_metadata(request),
        embedding_model=embedding_model,
    )


def _min_score(request: pb.SearchVectorsRequest) -> float | None:
    if request.HasField("min_score"):
        return request.min_score
    return request.threshold or None


def with_metadata(request: pb.SearchVectorsRequest | pb.GetVectorsRequest | pb.ListVectorsRequest) -> bool:
    return not request.HasField("include_metadata") or request.include_metadata


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
            must=tuple(self._condition(one, f"{at}.must[{i}]") for i, one in enumerate(message.must)),
            should=tuple(self._condition(one, f"{at}.should[{i}]") for i, one in enumerate(message.should)),
            must_not=tuple(self._condition(one, f"{at}.must_not[{i}]") for i, one in enumerate(message.must_not)),
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
            return Ids(tuple(one for one in message.ids.ids if len(one) <= checks.LONGEST_ID))
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
            return [[] if isinstance(one, list) else {} if isinstance(one, dict) else one for one in value]
        return {} if isinstance(value, dict) else value

    def _value(self, value: Value, at: str, inside: bool = False) -> Any:
        """A scalar, or a list of scalars. What is inside of anything deeper fits no operator and stays behind."""
        kind = value.WhichOneof("kind")
        if kind == "list_value":
            if inside:
                return []
            self._add_values(len(value.list_value.values), at)
            return [self._value(one, at, inside=True) for one in value.list_value.values]
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


# ---------------------------------------------------------------- values to messages


class Room:
    """What is left of `max_reply_bytes` while a reply is packed, so that one that is too large is not packed whole."""

    def __init__(self, most: int, hint: str) -> None:
        self._most, self._left, self._hint = most, most, hint

    def take(self, count: int) -> None:
        """Raises TooLarge when a reply with `count` bytes more is refused anyway."""
        self._left -= count
        if self._left < 0:
            raise self.too_large()

    def too_large(self) -> TooLarge:
        return TooLarge(
            f"the reply has more bytes than max_reply_bytes of {self._most}: {self._hint}", reason="REPLY_TOO_LARGE"
        )

    def check(self, count: int) -> None:
        """As `take`, for bytes that are taken later."""
        self.take(count)
        self._left += count


def least_bytes(request: pb.SearchVectorsRequest, result: SearchResult) -> int:
    """What the reply has at least."""
    text = sum(len(hit.metadata) for hit in result.hits) if with_metadata(request) else 0
    return text // _CHARACTERS_A_BYTE + sum(
        len(hit.id) + (hit.vector.nbytes if hit.vector is not None else 0) for hit in result.hits
    )


def search_reply(
    request: pb.SearchVectorsRequest, result: SearchResult, room: Room | None = None
) -> pb.SearchVectorsResponse:
    """Raises TooLarge where there is not `room` for it."""
    metadata = with_metadata(request)
    reply = pb.SearchVectorsResponse(
        success=True, exact=result.exact, complete=result.complete, sequence=result.sequence
    )
    if room is not None:
        room.check(least_bytes(request, result))
    for hit in result.hits:
        packed = _result(hit, metadata, request.metadata_as_json)
        if room is not None:
            room.take(packed.ByteSize())
        reply.results.append(packed)
    return reply


def batch_reply(
    searches: Sequence[pb.SearchVectorsRequest], results: Sequence[SearchResult | CallerError], room: Room | None = None
) -> pb.SearchVectorsBatchResponse:
    """Raises TooLarge where there is not `room` for it."""
    reply = pb.SearchVectorsBatchResponse()
    for request, result in zip(searches, results, strict=True):
        if isinstance(result, CallerError):
            failed = failure(reply.responses.add(), result)
            if room is not None:
                room.take(failed.ByteSize())
        else:
            reply.responses.append(search_reply(request, result, room))
    return reply


def _result(hit: Hit, with_metadata: bool, as_json: bool) -> pb.VectorResult:
    result = pb.VectorResult(id=hit.id, score=hit.score)
    if with_metadata and as_json:
        result.metadata_json = hit.metadata
    elif with_metadata:
        fill_metadata(result, hit.metadata)
    if hit.vector is not None:
        result.vector.extend(hit.vector.tolist())
    return result


def pack_items(into: Any, items: Sequence[Item], room: Room, as_json: bool = False) -> None:
    """Appends each to the repeated field `into`, `as_json` with its metadata as stored. Raises TooLarge where there is
    not `room` for them."""
    vectors = sum(item.vector.nbytes for item in items if item.vector is not None)
    room.check(vectors + sum(len(item.metadata) for item in items) // _CHARACTERS_A_BYTE)
    for item in items:
        vector = into.add(id=item.id)
        if as_json:
            vector.metadata_json = item.metadata
        else:
            fill_metadata(vector, item.metadata)
        if item.vector is not None:
            vector.vector.extend(item.vector.tolist())
        room.take(vector.ByteSize())
        give_way()


def fill_metadata(message: pb.VectorResult | pb.Vector, metadata: str) -> None:
    if metadata not in ("{}", "") and not fill(message.metadata, json.loads(metadata)):
        message.metadata_json = metadata


def item_errors(
    items: Sequence[pb.Vector] | Sequence[pb.MetadataUpdate], wrong: dict[int, CallerError]
) -> list[pb.ItemError]:
    return [
        pb.ItemError(index=index, id=items[index].id[: 2 * checks.LONGEST_ID], status=to_status(error))
        for index, error in sorted(wrong.items())
    ]


def collection_info(found: Description) -> pb.CollectionInfo:
    spec = found.spec
    return pb.CollectionInfo(
        name=spec.name,
        dimension=spec.dimension,
        metric=_METRIC_NUMBERS[spec.metric],
        index=pb.IndexParams(m=spec.m, ef_construction=spec.ef_construction, ef_search=spec.ef_search),
        embedding_model=spec.embedding_model,
        count=spec.count,
        sequence=spec.sequence,
        bytes_on_disk=found.bytes_on_disk,
        health=pb.IndexHealth(
            sampled_recall=found.sampled_recall,
            tombstone_ratio=found.tombstone_ratio,
            rebuilding=found.rebuilding,
            rebuild_progress=found.rebuild_progress,
        ),
        aliases=found.aliases,
    )
