"""What of the messages is this store's own: how its metrics and collections are named there. The rest is
`shared/vector_messages`."""

from __future__ import annotations

import hector_plugins_pb2 as pb

from .engine import Description, Metric

METRICS = {
    pb.METRIC_UNSPECIFIED: Metric.COSINE,
    pb.METRIC_COSINE: Metric.COSINE,
    pb.METRIC_DOT: Metric.DOT,
    pb.METRIC_EUCLIDEAN: Metric.EUCLIDEAN,
}
_METRIC_NUMBERS = {metric: number for number, metric in METRICS.items() if number}


def collection_info(description: Description) -> pb.CollectionInfo:
    spec = description.spec
    return pb.CollectionInfo(
        name=spec.name,
        dimension=spec.dimension,
        metric=_METRIC_NUMBERS[spec.metric],
        index=pb.IndexParams(m=spec.m, ef_construction=spec.ef_construction, ef_search=spec.ef_search),
        embedding_model=spec.embedding_model,
        count=spec.count,
        sequence=spec.sequence,
        bytes_on_disk=description.bytes_on_disk,
        health=pb.IndexHealth(
            sampled_recall=description.sampled_recall,
            tombstone_ratio=description.tombstone_ratio,
            rebuilding=description.rebuilding,
            rebuild_progress=description.rebuild_progress,
        ),
        aliases=description.aliases,
    )
