"""DatabaseProvider over the engine: every method unpacks, calls the engine and packs; a CallerError becomes
`success=false`. How messages and values become each other is `shared/vector_messages`'.

The engine awaits the database. Large requests and replies are converted in a thread.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, TypeVar

import grpc
import hector_plugins_pb2 as pb
from hector_plugins_pb2_grpc import DatabaseProviderServicer

from shared.errors import CallerError, PluginError, Unsupported
from shared.off_loop import in_thread
from shared.status import failure
from shared.vector_messages import enums, replies, requests
from shared.vector_messages.enums import known
from shared.vector_messages.filters import read_filter
from shared.vector_messages.replies import TOO_LARGE_HINTS, Room
from shared.vector_messages.requests import (
    LARGEST_ITEM,
    named_model,
    read_change_of_all,
    read_changes,
    read_items,
    read_query,
)
from shared.vectors.checks import LARGEST_SEARCH_BATCH, check_batch

from . import messages
from .engine import Engine, Prepared, SearchResult, time_left

Context = grpc.aio.ServicerContext[Any, Any]
Reply = TypeVar("Reply")
Result = TypeVar("Result")

_LARGE = 16 * 1024  # bytes of a request, or of a reply, that are converted in a thread
_AT_ONCE = 8  # searches of a batch


def _answered(reply: Callable[[], Any]) -> Callable[[Callable[..., Awaitable[Reply]]], Callable[..., Awaitable[Reply]]]:
    """An RPC whose CallerError goes into a `reply`, and whose deadline bounds what the database is asked for."""

    def decorate(rpc: Callable[..., Awaitable[Reply]]) -> Callable[..., Awaitable[Reply]]:
        @functools.wraps(rpc)
        async def call(self: Servicer, request: Any, context: Context, *values: Any) -> Reply:
            time_left.set(context.time_remaining())
            try:
                return await rpc(self, request, context, *values)
            except CallerError as error:
                failed: Reply = failure(reply(), error)
                return failed

        return call

    return decorate


class Servicer(DatabaseProviderServicer):
    def __init__(self, engine: Engine, *, max_reply_bytes: int = 4 * 2**20) -> None:
        self._engine = engine
        self._max_reply_bytes = max_reply_bytes
        self._most_of_an_item = min(LARGEST_ITEM, max_reply_bytes - 1024)

    # -- collections --------------------------------------------------------------------------------------------

    @_answered(pb.CreateCollectionResponse)
    async def CreateCollection(
        self, request: pb.CreateCollectionRequest, context: Context
    ) -> pb.CreateCollectionResponse:
        created = await self._engine.create(
            request.name,
            request.dimension,
            metric=known(messages.METRICS, request.metric, "metric"),
            index=_index(request.index),
            embedding_model=request.embedding_model,
            if_not_exists=request.if_not_exists,
        )
        return pb.CreateCollectionResponse(success=True, created=created)

    @_answered(pb.DeleteCollectionResponse)
    async def DeleteCollection(
        self, request: pb.DeleteCollectionRequest, context: Context
    ) -> pb.DeleteCollectionResponse:
        return pb.DeleteCollectionResponse(success=True, deleted_count=await self._engine.delete(request.name))

    @_answered(pb.ListCollectionsResponse)
    async def ListCollections(self, request: pb.ListCollectionsRequest, context: Context) -> pb.ListCollectionsResponse:
        descriptions = await self._engine.describe_all()
        return pb.ListCollectionsResponse(success=True, collections=map(messages.collection_info, descriptions))

    @_answered(pb.DescribeCollectionResponse)
    async def DescribeCollection(
        self, request: pb.DescribeCollectionRequest, context: Context
    ) -> pb.DescribeCollectionResponse:
        description = await self._engine.describe(request.name)
        return pb.DescribeCollectionResponse(success=True, collection=messages.collection_info(description))

    @_answered(pb.UpdateCollectionResponse)
    async def UpdateCollection(
        self, request: pb.UpdateCollectionRequest, context: Context
    ) -> pb.UpdateCollectionResponse:
        description = await self._engine.update_index(request.name, _index(request.index))
        return pb.UpdateCollectionResponse(success=True, collection=messages.collection_info(description))

    @_answered(pb.SetAliasResponse)
    async def SetAlias(self, request: pb.SetAliasRequest, context: Context) -> pb.SetAliasResponse:
        expected = request.expected_collection if request.HasField("expected_collection") else None
        before = await self._engine.set_alias(request.alias, request.collection, expected)
        return pb.SetAliasResponse(success=True, previous_collection=before)

    @_answered(pb.DeleteAliasResponse)
    async def DeleteAlias(self, request: pb.DeleteAliasRequest, context: Context) -> pb.DeleteAliasResponse:
        return pb.DeleteAliasResponse(success=True, collection=await self._engine.delete_alias(request.alias))

    @_answered(pb.ListAliasesResponse)
    async def ListAliases(self, request: pb.ListAliasesRequest, context: Context) -> pb.ListAliasesResponse:
        targets = await self._engine.list_aliases(request.collection)
        aliases = [pb.Alias(alias=alias, collection=target) for alias, target in targets]
        return pb.ListAliasesResponse(success=True, aliases=aliases)

    # -- vectors ------------------------------------------------------------------------------------------------

    @_answered(pb.UpsertVectorsResponse)
    async def UpsertVectors(self, request: pb.UpsertVectorsRequest, context: Context) -> pb.UpsertVectorsResponse:
        return await self._write(request, context, await self._prepare(request))

    async def UpsertVectorsStream(
        self, request_iterator: AsyncIterator[pb.UpsertVectorsRequest], context: Context
    ) -> AsyncIterator[pb.UpsertVectorsResponse]:
        async def read() -> tuple[pb.UpsertVectorsRequest, Prepared | CallerError] | None:
            if (request := await anext(request_iterator, None)) is None:
                return None
            time_left.set(context.time_remaining())
            try:
                return request, await self._prepare(request)
            except CallerError as error:
                return request, error.let_go()

        # While one message is written the next is read and prepared, and no more: that holds a fast client back.
        following = asyncio.create_task(read())
        try:
            while (one := await following) is not None:
                following = asyncio.create_task(read())
                request, prepared = one
                if isinstance(prepared, CallerError):
                    yield failure(pb.UpsertVectorsResponse(), prepared)
                else:
                    yield await self._write(request, context, prepared)
                del one, request, prepared  # while the next is waited for
        finally:
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)

    @_answered(pb.UpdateMetadataResponse)
    async def UpdateMetadata(self, request: pb.UpdateMetadataRequest, context: Context) -> pb.UpdateMetadataResponse:
        mode = known(enums.METADATA_MODES, request.mode, "mode")
        dump = functools.partial(requests.dumped, most=self._most_of_an_item)
        if request.HasField("filter"):
            change, fits = read_change_of_all(request), read_filter(request.filter)
            written = await self._engine.update_matching(request.collection, fits, change, dump, mode=mode)
        else:
            changes, wrong = await _converted(request, read_changes, request)
            written = await self._engine.update_metadata(
                request.collection, changes, dump, mode=mode, partial=request.allow_partial, wrong=wrong
            )
        errors = replies.item_errors(request.updates, dict(written.wrong))
        return pb.UpdateMetadataResponse(
            success=True, updated_count=written.count, errors=errors, sequence=written.sequence
        )

    @_answered(pb.DeleteVectorsResponse)
    async def DeleteVectors(self, request: pb.DeleteVectorsRequest, context: Context) -> pb.DeleteVectorsResponse:
        check_batch("ids", len(request.ids))
        count, sequence = await self._engine.delete_vectors(
            request.collection,
            list(request.ids),
            await _converted(request, read_filter, request.filter) if request.HasField("filter") else None,
            dry_run=request.dry_run,
        )
        return pb.DeleteVectorsResponse(success=True, deleted_count=count, sequence=sequence)

    @_answered(pb.SearchVectorsResponse)
    async def SearchVectors(self, request: pb.SearchVectorsRequest, context: Context) -> pb.SearchVectorsResponse:
        room = self._room("SearchVectors")
        result = await self._search(request, named_model(context), room)
        return await _packed(result, replies.search_reply, request, result, room)

    async def SearchVectorsBatch(
        self, request: pb.SearchVectorsBatchRequest, context: Context
    ) -> pb.SearchVectorsBatchResponse:
        time_left.set(context.time_remaining())
        check_batch("searches", len(request.searches), LARGEST_SEARCH_BATCH)
        room, places = self._room("SearchVectorsBatch"), asyncio.Semaphore(_AT_ONCE)
        model = named_model(context)

        async def search(request: pb.SearchVectorsRequest) -> SearchResult | CallerError:
            async with places:
                try:
                    result = await self._search(request, model, room)
                    room.take(replies.least_bytes(request, result))
                    return result
                except CallerError as error:
                    return error.let_go()

        try:
            async with asyncio.TaskGroup() as group:  # where one fails, the others are cancelled
                tasks = [group.create_task(search(each)) for each in request.searches]
        except* PluginError as failed:
            raise failed.exceptions[0] from None
        results = [task.result() for task in tasks]
        return await in_thread(replies.batch_reply, request.searches, results, self._room("SearchVectorsBatch"))

    async def SearchVectorsStream(
        self, request_iterator: AsyncIterator[pb.SearchVectorsRequest], context: Context
    ) -> AsyncIterator[pb.SearchVectorsResponse]:
        async for request in request_iterator:
            yield await self.SearchVectors(request, context)

    @_answered(pb.GetVectorsResponse)
    async def GetVectors(self, request: pb.GetVectorsRequest, context: Context) -> pb.GetVectorsResponse:
        check_batch("ids", len(request.ids))
        room = self._room("GetVectors")
        with room.hinting():
            stored = await self._engine.get(
                request.collection,
                list(request.ids),
                with_vectors=request.include_vectors,
                with_metadata=requests.with_metadata(request),
            )
        missing = [name for name in request.ids if name not in stored]
        room.take(sum(map(len, missing)))
        reply = pb.GetVectorsResponse(success=True, missing_ids=missing)
        items = [stored[name] for name in request.ids if name in stored]
        await in_thread(replies.pack_items, reply.vectors, items, room, request.metadata_as_json)
        return reply

    @_answered(pb.ListVectorsResponse)
    async def ListVectors(self, request: pb.ListVectorsRequest, context: Context) -> pb.ListVectorsResponse:
        room = self._room("ListVectors")
        with room.hinting():
            items, token = await self._engine.page(
                request.collection,
                token=request.page_token,
                size=request.page_size,
                filter=await _converted(request, read_filter, request.filter) if request.HasField("filter") else None,
                with_vectors=request.include_vectors,
                with_metadata=requests.with_metadata(request),
            )
        reply = pb.ListVectorsResponse(success=True, next_page_token=token)
        await in_thread(replies.pack_items, reply.vectors, items, room, request.metadata_as_json)
        return reply

    @_answered(pb.CountVectorsResponse)
    async def CountVectors(self, request: pb.CountVectorsRequest, context: Context) -> pb.CountVectorsResponse:
        fits = await _converted(request, read_filter, request.filter) if request.HasField("filter") else None
        return pb.CountVectorsResponse(success=True, count=await self._engine.count(request.collection, fits))

    # -- snapshots ----------------------------------------------------------------------------------------------

    @_answered(pb.CreateSnapshotResponse)
    async def CreateSnapshot(self, request: pb.CreateSnapshotRequest, context: Context) -> pb.CreateSnapshotResponse:
        raise _no_snapshots()

    @_answered(pb.ListSnapshotsResponse)
    async def ListSnapshots(self, request: pb.ListSnapshotsRequest, context: Context) -> pb.ListSnapshotsResponse:
        raise _no_snapshots()

    @_answered(pb.RestoreSnapshotResponse)
    async def RestoreSnapshot(self, request: pb.RestoreSnapshotRequest, context: Context) -> pb.RestoreSnapshotResponse:
        raise _no_snapshots()

    @_answered(pb.DeleteSnapshotResponse)
    async def DeleteSnapshot(self, request: pb.DeleteSnapshotRequest, context: Context) -> pb.DeleteSnapshotResponse:
        raise _no_snapshots()

    # -----------------------------------------------------------------------------------------------------------

    async def _prepare(self, request: pb.UpsertVectorsRequest) -> Prepared:
        items, wrong = await _converted(request, read_items, request, self._most_of_an_item)
        return await self._engine.prepare(request.collection, items, wrong)

    @_answered(pb.UpsertVectorsResponse)
    async def _write(
        self, request: pb.UpsertVectorsRequest, context: Context, prepared: Prepared
    ) -> pb.UpsertVectorsResponse:
        written = await self._engine.put(
            request.collection,
            prepared,
            embedding_model=named_model(context),
            mode=known(enums.MODES, request.mode, "mode"),
            partial=request.allow_partial,
        )
        errors = replies.item_errors(request.vectors, dict(written.wrong))
        return pb.UpsertVectorsResponse(
            success=True, upserted_count=written.count, errors=errors, sequence=written.sequence
        )

    async def _search(self, request: pb.SearchVectorsRequest, model: str, room: Room) -> SearchResult:
        query = await _converted(request, read_query, request, model)
        with room.hinting():
            return await self._engine.search(request.collection, query)

    def _room(self, method: str) -> Room:
        return Room(self._max_reply_bytes, TOO_LARGE_HINTS[method])


async def _converted(request: Any, convert: Callable[..., Result], *values: Any) -> Result:
    """What `convert` makes of the values, in a thread where the request is large."""
    return await in_thread(convert, *values) if request.ByteSize() > _LARGE else convert(*values)


async def _packed(result: SearchResult, pack: Callable[..., Result], *values: Any) -> Result:
    size = sum(len(hit.metadata) + (hit.vector.nbytes if hit.vector is not None else 0) for hit in result.hits)
    return await in_thread(pack, *values) if size > _LARGE else pack(*values)


def _index(index: pb.IndexParams) -> dict[str, int]:
    if index.target_recall:
        raise Unsupported(
            "no recall is kept here: leave index.target_recall unset, set index.ef_search, and see in "
            "DescribeCollection what recall that gives",
            reason="NO_TARGET_RECALL",
            field="index.target_recall",
        )
    return {"m": index.m, "ef_construction": index.ef_construction, "ef_search": index.ef_search}


def _no_snapshots() -> Unsupported:
    return Unsupported(
        "snapshots are PostgreSQL's own affair here; use pg_dump, or a base backup with point-in-time recovery",
        reason="NO_SNAPSHOTS",
    )
