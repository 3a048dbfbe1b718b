"""DatabaseProvider over the engine: messages in, messages out, nothing else.

Every method does the same: unpack, call the engine, pack; a CallerError becomes `success=false`. Writes run in a
thread of their own. A search that is quick and need not wait runs right here, because a hop to a thread costs more
than such a search; anything longer would keep other calls waiting, health among them.
"""

from __future__ import annotations

import asyncio
import functools
import json
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import grpc
import hector_plugins_pb2 as pb
import numpy as np
from hector_plugins_pb2_grpc import DatabaseProviderServicer

from plugins.vector_hnsw.engine import Description, Engine, Hit, Item, Metric, Mode, Query, SearchResult, Snapshot
from plugins.vector_hnsw.engine.filters import Compare, Condition, Exists, Filter, Ids, Operator
from shared.errors import CallerError, InvalidArgument
from shared.status import failure, to_status
from shared.structs import dump, fill, from_value, read_object

Context = grpc.aio.ServicerContext[Any, Any]
Result = TypeVar("Result")

TOO_LARGE_HINTS = {
    "SearchVectors": "page with limit and offset, or leave include_vectors unset",
    "SearchVectorsBatch": "send fewer searches at once",
    "GetVectors": "name fewer ids at once",
    "ListVectors": "ask for a smaller page_size",
}

_METRICS = {
    pb.METRIC_UNSPECIFIED: Metric.COSINE,
    pb.METRIC_COSINE: Metric.COSINE,
    pb.METRIC_DOT: Metric.DOT,
    pb.METRIC_EUCLIDEAN: Metric.EUCLIDEAN,
}
_METRIC_NUMBERS = {metric: number for number, metric in _METRICS.items() if number}
_MODES = {
    pb.UPSERT_MODE_UNSPECIFIED: Mode.UPSERT,
    pb.UPSERT_MODE_INSERT_ONLY: Mode.INSERT_ONLY,
    pb.UPSERT_MODE_UPDATE_ONLY: Mode.UPDATE_ONLY,
}
_OPERATORS = {pb.OPERATOR_UNSPECIFIED: Operator.EQ} | {
    pb.Operator.Value(f"OPERATOR_{operator.name}"): operator for operator in Operator
}
_MODEL_KEY = "x-embedding-model"
# A larger request takes long enough to unpack to keep other calls waiting.
_INLINE_BYTES = 256 * 1024


class Servicer(DatabaseProviderServicer):
    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._writer = ThreadPoolExecutor(max_workers=1, thread_name_prefix="writer")

    # -- collections --------------------------------------------------------------------------------------------

    async def CreateCollection(
        self, request: pb.CreateCollectionRequest, context: Context
    ) -> pb.CreateCollectionResponse:
        try:
            created = await self._write(
                self._engine.create,
                request.name,
                request.dimension,
                metric=_known(_METRICS, request.metric, "metric"),
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

    async def ListCollections(self, request: pb.ListCollectionsRequest, context: Context) -> pb.ListCollectionsResponse:
        try:
            found = await asyncio.to_thread(self._engine.describe_all)
            return pb.ListCollectionsResponse(success=True, collections=[_info(one) for one in found])
        except CallerError as error:
            return failure(pb.ListCollectionsResponse(), error)

    async def DescribeCollection(
        self, request: pb.DescribeCollectionRequest, context: Context
    ) -> pb.DescribeCollectionResponse:
        try:
            found = await asyncio.to_thread(self._engine.describe, request.name)
            return pb.DescribeCollectionResponse(success=True, collection=_info(found))
        except CallerError as error:
            return failure(pb.DescribeCollectionResponse(), error)

    # -- vectors ------------------------------------------------------------------------------------------------

    async def UpsertVectors(self, request: pb.UpsertVectorsRequest, context: Context) -> pb.UpsertVectorsResponse:
        try:
            large = request.ByteSize() > _INLINE_BYTES
            items, bad = await asyncio.to_thread(_items, request) if large else _items(request)
            written = await self._write(
                self._engine.upsert,
                request.collection,
                items,
                embedding_model=_named_model(context),
                mode=_known(_MODES, request.mode, "mode"),
                partial=request.allow_partial,
                wrong=bad,
            )
            return pb.UpsertVectorsResponse(
                success=True,
                upserted_count=written.count,
                errors=[
                    pb.ItemError(index=index, id=request.vectors[index].id, status=to_status(error))
                    for index, error in sorted(written.wrong.items())
                ],
                sequence=written.sequence,
            )
        except CallerError as error:
            return failure(pb.UpsertVectorsResponse(), error)

    async def UpsertVectorsStream(
        self, request_iterator: AsyncIterator[pb.UpsertVectorsRequest], context: Context
    ) -> AsyncIterator[pb.UpsertVectorsResponse]:
        # The next message is read only when the last is answered: that is what holds a fast client back.
        async for request in request_iterator:
            yield await self.UpsertVectors(request, context)

    async def DeleteVectors(self, request: pb.DeleteVectorsRequest, context: Context) -> pb.DeleteVectorsResponse:
        try:
            count, sequence = await self._write(
                self._engine.delete_vectors,
                request.collection,
                list(request.ids),
                _filter(request.filter) if request.HasField("filter") else None,
                dry_run=request.dry_run,
            )
            return pb.DeleteVectorsResponse(success=True, deleted_count=count, sequence=sequence)
        except CallerError as error:
            return failure(pb.DeleteVectorsResponse(), error)

    async def SearchVectors(self, request: pb.SearchVectorsRequest, context: Context) -> pb.SearchVectorsResponse:
        try:
            return found(request, await self.search(request, context))
        except CallerError as error:
            return failure(pb.SearchVectorsResponse(), error)

    async def SearchVectorsBatch(
        self, request: pb.SearchVectorsBatchRequest, context: Context
    ) -> pb.SearchVectorsBatchResponse:
        results = await self.search_batch(request, context)
        return await asyncio.to_thread(_batch, request.searches, results)

    async def GetVectors(self, request: pb.GetVectorsRequest, context: Context) -> pb.GetVectorsResponse:
        try:
            return await asyncio.to_thread(self._get, request)
        except CallerError as error:
            return failure(pb.GetVectorsResponse(), error)

    async def ListVectors(self, request: pb.ListVectorsRequest, context: Context) -> pb.ListVectorsResponse:
        try:
            items, token = await asyncio.to_thread(
                self._engine.page,
                request.collection,
                token=request.page_token,
                size=request.page_size,
                filter=_filter(request.filter) if request.HasField("filter") else None,
                with_vectors=request.include_vectors,
            )
            return pb.ListVectorsResponse(
                success=True, vectors=[_vector(item) for item in items], next_page_token=token
            )
        except CallerError as error:
            return failure(pb.ListVectorsResponse(), error)

    async def CountVectors(self, request: pb.CountVectorsRequest, context: Context) -> pb.CountVectorsResponse:
        try:
            wanted = _filter(request.filter) if request.HasField("filter") else None
            count = await asyncio.to_thread(self._engine.count, request.collection, wanted)
            return pb.CountVectorsResponse(success=True, count=count)
        except CallerError as error:
            return failure(pb.CountVectorsResponse(), error)

    # -- snapshots ----------------------------------------------------------------------------------------------

    async def CreateSnapshot(self, request: pb.CreateSnapshotRequest, context: Context) -> pb.CreateSnapshotResponse:
        try:
            made = await asyncio.to_thread(self._engine.create_snapshot, request.collection, request.name)
            return pb.CreateSnapshotResponse(success=True, snapshot=_snapshot(made))
        except CallerError as error:
            return failure(pb.CreateSnapshotResponse(), error)

    async def ListSnapshots(self, request: pb.ListSnapshotsRequest, context: Context) -> pb.ListSnapshotsResponse:
        try:
            found = await asyncio.to_thread(self._engine.list_snapshots, request.collection)
            return pb.ListSnapshotsResponse(success=True, snapshots=[_snapshot(one) for one in found])
        except CallerError as error:
            return failure(pb.ListSnapshotsResponse(), error)

    async def RestoreSnapshot(self, request: pb.RestoreSnapshotRequest, context: Context) -> pb.RestoreSnapshotResponse:
        try:
            await asyncio.to_thread(self._engine.restore_snapshot, request.collection, request.name)
            found = await asyncio.to_thread(self._engine.describe, request.collection, sample=False)
            return pb.RestoreSnapshotResponse(success=True, collection=_info(found))
        except CallerError as error:
            return failure(pb.RestoreSnapshotResponse(), error)

    async def DeleteSnapshot(self, request: pb.DeleteSnapshotRequest, context: Context) -> pb.DeleteSnapshotResponse:
        try:
            await asyncio.to_thread(self._engine.delete_snapshot, request.collection, request.name)
            return pb.DeleteSnapshotResponse(success=True)
        except CallerError as error:
            return failure(pb.DeleteSnapshotResponse(), error)

    # -- in a thread --------------------------------------------------------------------------------------------

    async def _write(self, work: Callable[..., Result], *values: Any, **options: Any) -> Result:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._writer, functools.partial(work, *values, **options))

    def _get(self, request: pb.GetVectorsRequest) -> pb.GetVectorsResponse:
        found = self._engine.get(request.collection, list(request.ids), with_vectors=request.include_vectors)
        return pb.GetVectorsResponse(
            success=True,
            vectors=[_vector(found[name]) for name in request.ids if name in found],
            missing_ids=[name for name in request.ids if name not in found],
        )

    # -- searching, for the methods above and for fast.py ---------------------------------------------------------

    async def search(self, request: pb.SearchVectorsRequest, context: Context) -> SearchResult:
        """Raises CallerError."""
        query = _query(request, _named_model(context))
        result = self._engine.search_now(request.collection, query)
        if result is not None:
            return result
        return await asyncio.to_thread(self._engine.search, request.collection, query)

    async def search_batch(
        self, request: pb.SearchVectorsBatchRequest, context: Context
    ) -> list[SearchResult | CallerError]:
        """One for each search, in order."""
        return await asyncio.to_thread(self._search_batch, request.searches, _named_model(context))

    def _search_batch(
        self, searches: Sequence[pb.SearchVectorsRequest], embedding_model: str
    ) -> list[SearchResult | CallerError]:
        """Searches of one collection that ask for the same go through the graph together, on all threads."""
        results: list[SearchResult | CallerError | None] = [None] * len(searches)
        together: dict[tuple[Any, ...], list[tuple[int, Query]]] = {}
        for index, request in enumerate(searches):
            try:
                query = _query(request, embedding_model)
                alone = index if query.filter or query.exact or query.with_vectors else None
                key = (request.collection, query.limit, query.offset, query.ef, len(query.vector), alone)
                together.setdefault(key, []).append((index, query))
            except CallerError as error:
                results[index] = error
        for (collection, *_), group in together.items():
            for (index, _), result in zip(group, self._search_group(collection, group), strict=True):
                results[index] = result
        return [result for result in results if result is not None]

    def _search_group(
        self, collection: str, group: Sequence[tuple[int, Query]]
    ) -> Sequence[SearchResult | CallerError]:
        queries = [query for _, query in group]
        try:
            return self._engine.search_many(collection, queries)
        except CallerError as error:
            if len(queries) == 1:
                return [error]
            # One of them is at fault; each gets its own answer.
            return [self._search_group(collection, [one])[0] for one in group]


# ---------------------------------------------------------------- messages to values


def _known(values: dict[Any, Result], number: int, field: str) -> Result:
    if number not in values:
        raise InvalidArgument(
            f"{field} {number} is not one of the contract's",
            reason=f"BAD_{field.rpartition('.')[2].upper()}",
            field=field,
        )
    return values[number]


def _items(request: pb.UpsertVectorsRequest) -> tuple[list[Item], dict[int, CallerError]]:
    """The items, and what is wrong with the metadata of which."""
    items: list[Item] = []
    wrong: dict[int, CallerError] = {}
    for index, vector in enumerate(request.vectors):
        metadata = "{}"
        try:
            if vector.metadata_json or vector.HasField("metadata"):
                metadata = dump(read_object(vector.metadata, vector.metadata_json, f"vectors[{index}].metadata"))
        except CallerError as error:
            wrong[index] = error
        items.append(Item(vector.id, np.array(vector.vector, dtype=np.float32), metadata))
    return items, wrong


def _query(request: pb.SearchVectorsRequest, embedding_model: str) -> Query:
    return Query(
        vector=np.array(request.vector, dtype=np.float32),
        limit=request.limit or 10,
        offset=request.offset,
        min_score=_min_score(request),
        filter=_filter(request.filter) if request.HasField("filter") else None,
        ef=request.ef_search,
        exact=request.exact,
        with_vectors=request.include_vectors,
        embedding_model=embedding_model,
    )


def _min_score(request: pb.SearchVectorsRequest) -> float | None:
    if request.HasField("min_score"):
        return request.min_score
    return request.threshold or None


def _filter(message: pb.Filter, at: str = "filter") -> Filter:
    return Filter(
        must=tuple(_condition(one, f"{at}.must[{i}]") for i, one in enumerate(message.must)),
        should=tuple(_condition(one, f"{at}.should[{i}]") for i, one in enumerate(message.should)),
        must_not=tuple(_condition(one, f"{at}.must_not[{i}]") for i, one in enumerate(message.must_not)),
    )


def _condition(message: pb.Condition, at: str) -> Condition:
    kind = message.WhichOneof("kind")
    if kind == "compare":
        compare = message.compare
        operator = _known(_OPERATORS, compare.op, f"{at}.compare.op")
        return Compare(compare.field, operator, from_value(compare.value))
    if kind == "filter":
        return _filter(message.filter, f"{at}.filter")
    if kind == "exists":
        return Exists(message.exists)
    if kind == "ids":
        return Ids(tuple(message.ids.ids))
    raise InvalidArgument(f"{at} is empty: set compare, filter, exists or ids", reason="BAD_FILTER", field=at)


def _named_model(context: Context) -> str:
    """The embedding model that the caller says its vectors are of."""
    return next((str(value) for key, value in context.invocation_metadata() or () if key == _MODEL_KEY), "")


# ---------------------------------------------------------------- values to messages


def found(request: pb.SearchVectorsRequest, result: SearchResult) -> pb.SearchVectorsResponse:
    with_metadata = not request.HasField("include_metadata") or request.include_metadata
    return pb.SearchVectorsResponse(
        success=True,
        results=[_result(hit, with_metadata) for hit in result.hits],
        exact=result.exact,
        complete=result.complete,
        sequence=result.sequence,
    )


def _batch(
    searches: Sequence[pb.SearchVectorsRequest], results: Sequence[SearchResult | CallerError]
) -> pb.SearchVectorsBatchResponse:
    return pb.SearchVectorsBatchResponse(
        responses=[
            failure(pb.SearchVectorsResponse(), result) if isinstance(result, CallerError) else found(request, result)
            for request, result in zip(searches, results, strict=True)
        ]
    )


def _result(hit: Hit, with_metadata: bool) -> pb.VectorResult:
    result = pb.VectorResult(id=hit.id, score=hit.score)
    if with_metadata:
        fill_metadata(result, hit.metadata)
    if hit.vector is not None:
        result.vector.extend(hit.vector.tolist())
    return result


def _vector(item: Item) -> pb.Vector:
    vector = pb.Vector(id=item.id)
    fill_metadata(vector, item.metadata)
    if item.vector is not None:
        vector.vector.extend(item.vector.tolist())
    return vector


def fill_metadata(message: pb.VectorResult | pb.Vector, metadata: str) -> None:
    if metadata != "{}" and not fill(message.metadata, json.loads(metadata)):
        message.metadata_json = metadata


def _info(found: Description) -> pb.CollectionInfo:
    spec = found.spec
    return pb.CollectionInfo(
        name=spec.name,
        dimension=spec.dimension,
        metric=_METRIC_NUMBERS[spec.metric],
        index=pb.IndexParams(m=spec.m, ef_construction=spec.ef_construction, ef_search=spec.ef_search),
        embedding_model=spec.embedding_model,
        count=found.count,
        sequence=found.sequence,
        bytes_on_disk=found.bytes_on_disk,
        health=pb.IndexHealth(
            sampled_recall=found.sampled_recall,
            tombstone_ratio=found.tombstone_ratio,
            rebuilding=found.rebuilding,
        ),
    )


def _snapshot(made: Snapshot) -> pb.SnapshotInfo:
    return pb.SnapshotInfo(
        name=made.name,
        collection=made.collection,
        sequence=made.sequence,
        size_bytes=made.size,
        sha256=made.sha256,
        created_unix_ms=made.created,
    )
