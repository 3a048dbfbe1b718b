"""What of the messages is this store's own: how its metrics, collections and snapshots are named there, and which
messages are converted faster than a thread could take them. The rest is `shared/vector_messages`.
"""

from __future__ import annotations

import hector_plugins_pb2 as pb

from shared.vector_messages.replies import CHARACTERS_A_BYTE
from shared.vector_messages.requests import with_metadata

from .engine import Description, Metric, SearchResult, Snapshot

METRICS = {
    pb.METRIC_UNSPECIFIED: Metric.COSINE,
    pb.METRIC_COSINE: Metric.COSINE,
    pb.METRIC_DOT: Metric.DOT,
    pb.METRIC_EUCLIDEAN: Metric.EUCLIDEAN,
}
_METRIC_NUMBERS = {metric: number for number, metric in METRICS.items() if number}
# A filter of more conditions, values and hundreds of characters is not converted between other calls.
_LIGHT = 50
# Of metadata and vectors, in bytes: what is packed between other calls.
_LIGHT_REPLY = 64 * 1024


def is_light(message: pb.Filter) -> bool:
    """Whether it is converted faster than a thread could take it."""
    return _left_of(message, _LIGHT) > 0


def _left_of(message: pb.Filter, left: int) -> int:
    left -= len(message.must) + len(message.should) + len(message.must_not)
    if left <= 0:
        return 0
    for conditions in (message.must, message.should, message.must_not):
        for condition in conditions:
            kind = condition.WhichOneof("kind")
            if kind == "compare":
                compare = condition.compare
                left -= (len(compare.field) + len(compare.value.string_value) + len(compare.value_json)) // 100
                left -= len(compare.value.list_value.values)
            elif kind == "filter":
                left = _left_of(condition.filter, left)
            elif kind == "ids":
                left -= len(condition.ids.ids)
            if left <= 0:
                return 0
    return left


def is_light_reply(result: SearchResult) -> bool:
    """Whether it is packed faster than a thread could take it. What was packed before does not count."""
    size = 0
    for hit in result.hits:
        if hit.vector is not None:
            size += hit.vector.nbytes
        if hit.item.memo is None:
            size += len(hit.metadata)
    return size <= _LIGHT_REPLY


def least_bytes(request: pb.SearchVectorsRequest, result: SearchResult) -> int:
    """As `shared/vector_messages` has it, and twice as fast: a batch asks for it twice for each search."""
    text = size = 0
    for hit in result.hits:
        item = hit.item
        text += len(item.metadata)
        size += len(item.id)
        if hit.vector is not None:
            size += hit.vector.nbytes
    return size + (text // CHARACTERS_A_BYTE if with_metadata(request) else 0)


def target_recall(index: pb.IndexParams) -> float | None:
    """None where it is not set."""
    return index.target_recall if index.HasField("target_recall") else None


def collection_info(description: Description) -> pb.CollectionInfo:
    spec = description.spec
    return pb.CollectionInfo(
        name=spec.name,
        dimension=spec.dimension,
        metric=_METRIC_NUMBERS[spec.metric],
        index=pb.IndexParams(
            m=spec.m,
            ef_construction=spec.ef_construction,
            ef_search=spec.ef_search,
            target_recall=spec.target_recall or None,
        ),
        embedding_model=spec.embedding_model,
        count=description.count,
        sequence=description.sequence,
        bytes_on_disk=description.bytes_on_disk,
        health=pb.IndexHealth(
            sampled_recall=description.sampled_recall,
            tombstone_ratio=description.tombstone_ratio,
            rebuilding=description.rebuilding,
            rebuild_progress=description.rebuild_progress,
        ),
        aliases=description.aliases,
    )


def snapshot_info(snapshot: Snapshot) -> pb.SnapshotInfo:
    return pb.SnapshotInfo(
        name=snapshot.name,
        collection=snapshot.collection,
        sequence=snapshot.sequence,
        size_bytes=snapshot.size,
        sha256=snapshot.sha256,
        created_unix_ms=snapshot.created,
    )
