"""DatabaseProvider over the engine: messages in, messages out, nothing else.

Every method does the same: unpack, call the engine, pack; a CallerError becomes `success=false`. Writes run in a
thread of their own. A search that is quick and need not wait runs right here, because a hop to a thread costs more
than such a search; anything longer would keep other calls waiting, health among them.
"""

from __future__ import annotations

import asyncio
import functools
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import grpc
import hector_plugins_pb2 as pb
import numpy as np
from hector_plugins_pb2_grpc import DatabaseProviderServicer

from plugins.vector_hnsw.engine import Engine, Hit, Item, Metric, Query, SearchResult
from shared.errors import CallerError, InvalidArgument, Unsupported
from shared.status import failure
from shared.structs import dump, fill, read_object

Context = grpc.aio.ServicerContext[Any, Any]
Result = TypeVar("Result")

TOO_LARGE_HINTS = {"SearchVectors": "page with limit and offset, or leave include_vectors unset"}

_METRICS = {
    pb.METRIC_UNSPECIFIED: Metric.COSINE,
    pb.METRIC_COSINE: Metric.COSINE,
    pb.METRIC_DOT: Metric.DOT,
    pb.METRIC_EUCLIDEAN: Metric.EUCLIDEAN,
}
_MODEL_KEY = "x-embedding-model"
# A larger request takes long enough to unpack to keep other calls waiting.
_INLINE_BYTES = 256 * 1024


class Servicer(DatabaseProviderServicer):
    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._writer = ThreadPoolExecutor(max_workers=1, thread_name_prefix="writer")

    async def CreateCollection(
        self, request: pb.CreateCollectionRequest, context: Context
    ) -> pb.CreateCollectionResponse:
        try:
            created = await self._write(
                self._engine.create,
                request.name,
                request.dimension,
                metric=_metric(request.metric),
                m=request.index.m,
                ef_construction=request.index.ef_construction,
                ef_search=request.index.ef_search,
                embedding_model=request.embedding_model,
                if_not_exists=request.if_not_exists,
            )
            return pb.CreateCollectionResponse(success=True, created=created)
        except CallerError as error:
            return failure(pb.CreateCollectionResponse(), error)

    async def DeleteCollection(
        self, request: pb.DeleteCollectionRequest, context: Context
    ) -> pb.DeleteCollectionResponse:
        try:
            count = await self._write(self._engine.delete, request.name)
            return pb.DeleteCollectionResponse(success=True, deleted_count=count)
        except CallerError as error:
            return failure(pb.DeleteCollectionResponse(), error)

    async def UpsertVectors(self, request: pb.UpsertVectorsRequest, context: Context) -> pb.UpsertVectorsResponse:
        try:
            if request.mode or request.allow_partial:
                raise Unsupported("this version does not have `mode` and `allow_partial`; leave them unset")
            large = request.ByteSize() > _INLINE_BYTES
            items = await asyncio.to_thread(_items, request) if large else _items(request)
            count, sequence = await self._write(
                self._engine.upsert, request.collection, items, embedding_model=_named_model(context)
            )
            return pb.UpsertVectorsResponse(success=True, upserted_count=count, sequence=sequence)
        except CallerError as error:
            return failure(pb.UpsertVectorsResponse(), error)

    async def SearchVectors(self, request: pb.SearchVectorsRequest, context: Context) -> pb.SearchVectorsResponse:
        try:
            query = _query(request, _named_model(context))
            result = self._engine.search_now(request.collection, query)
            if result is not None:
                return _found(request, result)
            return await asyncio.to_thread(lambda: _found(request, self._engine.search(request.collection, query)))
        except CallerError as error:
            return failure(pb.SearchVectorsResponse(), error)

    async def DeleteVectors(self, request: pb.DeleteVectorsRequest, context: Context) -> pb.DeleteVectorsResponse:
        try:
            if request.HasField("filter") or request.dry_run:
                raise Unsupported("this version deletes by ids only; leave `filter` and `dry_run` unset")
            if not request.ids:
                raise InvalidArgument(
                    "name the ids to delete; to delete all, delete the collection", reason="NOTHING_NAMED", field="ids"
                )
            count, sequence = await self._write(self._engine.delete_vectors, request.collection, list(request.ids))
            return pb.DeleteVectorsResponse(success=True, deleted_count=count, sequence=sequence)
        except CallerError as error:
            return failure(pb.DeleteVectorsResponse(), error)

    async def _write(self, work: Callable[..., Result], *values: Any, **options: Any) -> Result:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._writer, functools.partial(work, *values, **options))


def _metric(number: pb.Metric.ValueType) -> Metric:
    if number not in _METRICS:
        raise InvalidArgument(f"metric {number} is not one of the contract's", reason="BAD_METRIC", field="metric")
    return _METRICS[number]


def _items(request: pb.UpsertVectorsRequest) -> list[Item]:
    return [
        Item(
            vector.id,
            np.array(vector.vector, dtype=np.float32),
            dump(read_object(vector.metadata, vector.metadata_json, f"vectors[{index}].metadata")),
        )
        for index, vector in enumerate(request.vectors)
    ]


def _query(request: pb.SearchVectorsRequest, embedding_model: str) -> Query:
    if request.HasField("filter"):
        raise Unsupported("this version searches without filters; leave `filter` unset", field="filter")
    return Query(
        vector=np.array(request.vector, dtype=np.float32),
        limit=request.limit or 10,
        offset=request.offset,
        min_score=_min_score(request),
        ef=request.ef_search,
        exact=request.exact,
        with_vectors=request.include_vectors,
        embedding_model=embedding_model,
    )


def _min_score(request: pb.SearchVectorsRequest) -> float | None:
    if request.HasField("min_score"):
        return request.min_score
    return request.threshold or None


def _found(request: pb.SearchVectorsRequest, result: SearchResult) -> pb.SearchVectorsResponse:
    with_metadata = not request.HasField("include_metadata") or request.include_metadata
    return pb.SearchVectorsResponse(
        success=True,
        results=[_result(hit, with_metadata) for hit in result.hits],
        exact=result.exact,
        complete=result.complete,
        sequence=result.sequence,
    )


def _result(hit: Hit, with_metadata: bool) -> pb.VectorResult:
    result = pb.VectorResult(id=hit.id, score=hit.score)
    if with_metadata and hit.metadata != "{}" and not fill(result.metadata, json.loads(hit.metadata)):
        result.metadata_json = hit.metadata
    if hit.vector is not None:
        result.vector.extend(hit.vector.tolist())
    return result


def _named_model(context: Context) -> str:
    """The embedding model that the caller says its vectors are of."""
    return next((str(value) for key, value in context.invocation_metadata() or () if key == _MODEL_KEY), "")
