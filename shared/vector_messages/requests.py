"""Requests from messages to values, counted before they are converted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import grpc
import hector_plugins_pb2 as pb
import numpy as np

from ..errors import CallerError, InvalidArgument
from ..give_way import give_way
from ..structs import dump, read_object, struct_size, varint_size
from ..vectors import checks
from ..vectors.changes import Change
from ..vectors.filters import MOST
from ..vectors.items import Floats, Item, Query
from .filters import read_filter

# Counted on the wire in large requests, before anything is made of them; the engine counts in all.
_IN_FILTER = {f"filter.{part}": MOST for part in ("must", "should", "must_not")}
MOST_ITEMS = {
    "UpsertVectors": {"vectors": checks.LARGEST_BATCH},
    "UpsertVectorsStream": {"vectors": checks.LARGEST_BATCH},
    "GetVectors": {"ids": checks.LARGEST_BATCH},
    "DeleteVectors": {"ids": checks.LARGEST_BATCH, **_IN_FILTER},
    "UpdateMetadata": {"updates": checks.LARGEST_BATCH, "updates.remove_keys": checks.LARGEST_BATCH, **_IN_FILTER},
    "SearchVectors": _IN_FILTER,
    "SearchVectorsStream": _IN_FILTER,
    "SearchVectorsBatch": {"searches": checks.LARGEST_SEARCH_BATCH},
    "ListVectors": _IN_FILTER,
    "CountVectors": _IN_FILTER,
}
# What gRPC clients take by default, less what stands around an item in a reply.
LARGEST_ITEM = 4 * 2**20 - 1024
# Of metadata in a reply, whatever it is: four in UTF-8, and a Struct takes up to six times its JSON.
_MOST_BYTES_A_CHARACTER = 30
_MODEL_KEY = "x-embedding-model"
_NONE = np.empty(0, np.float32)


def named_model(context: grpc.aio.ServicerContext[Any, Any]) -> str:
    """The embedding model that the caller says its vectors are of."""
    return next((str(value) for key, value in context.invocation_metadata() or () if key == _MODEL_KEY), "")


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
    struct, exact = struct_size(dict(value))
    rest = pb.Vector(id=name[: checks.LONGEST_ID], metadata_json="" if exact else metadata)
    size = rest.ByteSize() + 1 + varint_size(struct) + struct + 4 * dimension
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
