"""DatabaseProvider over the engine: every method unpacks, calls the engine and packs; a CallerError becomes
`success=false`. How messages and values become each other is `shared/vector_messages`'.

Nothing that can take more than a few milliseconds runs in the event loop, and what takes long has threads of its own,
so that it keeps nobody else waiting. A search that is quick and need not wait runs right here, because a hop to a
thread costs more than such a search.
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from typing import Any, TypeVar

import grpc
import hector_plugins_pb2 as pb
from hector_plugins_pb2_grpc import DatabaseProviderServicer

from shared.errors import CallerError, Overloaded, TooLarge
from shared.give_way import to_its_end
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
from .engine import Change, Engine, Item, Query, SearchResult, Snapshot, Written
from .engine.query import batch_key
from .engine.together import Together

Context = grpc.aio.ServicerContext[Any, Any]
Result = TypeVar("Result")

# An upsert of more items is converted while the one before it is written; so many are read between others' pages.
_FEW_ITEMS = 64
# Searches of a stream that are worked on while the first of them has yet to be answered.
_AHEAD = 16
# Searches of a batch that go through the graph at once; others have their turn in between.
_TOGETHER = 64


class Servicer(DatabaseProviderServicer):
    together = True  # whether searches go through the graph with others that wait; False leaves that module out

    def __init__(self, engine: Engine, *, max_reply_bytes: int = 4 * 2**20) -> None:
        self._engine = engine
        self._together = Together(engine)
        self._max_reply_bytes = max_reply_bytes
        self._most_of_an_item = min(LARGEST_ITEM, max_reply_bytes - 1024)
        self._writer = _threads("writer", 1)
        self._items = _threads("items", 1)  # convert large upserts
        # One thread for each length of work: most of it is Python's own, which runs in one thread at a time, so
        # that a second one would win nothing, and each would make the event loop wait longer for its turn.
        self._reader = _threads("reader", 1)  # what a caller names, and packing
        self._pager = _threads("pager", 1)  # what a caller pages through
        self._searchers = _threads("search", 16)  # may wait for a write
        self._scanners = _threads("scan", 2)  # look at each item of a collection
        self._describers = _threads("describe", 2)  # read each vector of a collection
        self._copiers = _threads("snapshot", 1)

    # -- collections --------------------------------------------------------------------------------------------

    async def CreateCollection(
        self, request: pb.CreateCollectionRequest, context: Context
    ) -> pb.CreateCollectionResponse:
        try:
            created = await _in(
                self._writer,
                self._engine.create,
                request.name,
                request.dimension,
                metric=known(messages.METRICS, request.metric, "metric"),
                m=request.index.m,
                ef_construction=request.index.ef_construction,
                ef_search=request.index.ef_search,
                target_recall=messages.target_recall(request.index),
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
            count = await _in(self._writer, self._engine.delete, request.name)
            return pb.DeleteCollectionResponse(success=True, deleted_count=count)
        except CallerError as error:
            return failure(pb.DeleteCollectionResponse(), error)

    async def ListCollections(self, request: pb.ListCollectionsRequest, context: Context) -> pb.ListCollectionsResponse:
        try:
            descriptions = await _in(self._describers, self._engine.describe_all)
            return pb.ListCollectionsResponse(success=True, collections=map(messages.collection_info, descriptions))
        except CallerError as error:
            return failure(pb.ListCollectionsResponse(), error)

    async def DescribeCollection(
        self, request: pb.DescribeCollectionRequest, context: Context
    ) -> pb.DescribeCollectionResponse:
        try:
            description = await _in(self._describers, self._engine.describe, request.name)
            return pb.DescribeCollectionResponse(success=True, collection=messages.collection_info(description))
        except CallerError as error:
            return failure(pb.DescribeCollectionResponse(), error)

    async def UpdateCollection(
        self, request: pb.UpdateCollectionRequest, context: Context
    ) -> pb.UpdateCollectionResponse:
        index = request.index
        try:
            name = await _in(
                self._writer,
                self._engine.update_index,
                request.name,
                m=index.m,
                ef_construction=index.ef_construction,
                ef_search=index.ef_search,
                target_recall=messages.target_recall(index),
            )
            description = await _in(self._describers, self._engine.describe, name, sample=False)
            return pb.UpdateCollectionResponse(success=True, collection=messages.collection_info(description))
        except CallerError as error:
            return failure(pb.UpdateCollectionResponse(), error)

    async def SetAlias(self, request: pb.SetAliasRequest, context: Context) -> pb.SetAliasResponse:
        expected = request.expected_collection if request.HasField("expected_collection") else None
        try:
            before = await _in(
                self._writer, self._engine.set_alias, request.alias, request.collection, expected=expected
            )
            return pb.SetAliasResponse(success=True, previous_collection=before)
        except CallerError as error:
            return failure(pb.SetAliasResponse(), error)

    async def DeleteAlias(self, request: pb.DeleteAliasRequest, context: Context) -> pb.DeleteAliasResponse:
        try:
            target = await _in(self._writer, self._engine.delete_alias, request.alias)
            return pb.DeleteAliasResponse(success=True, collection=target)
        except CallerError as error:
            return failure(pb.DeleteAliasResponse(), error)

    async def ListAliases(self, request: pb.ListAliasesRequest, context: Context) -> pb.ListAliasesResponse:
        try:
            aliases = self._engine.list_aliases(request.collection)
            return pb.ListAliasesResponse(
                success=True, aliases=[pb.Alias(alias=alias, collection=target) for alias, target in aliases]
            )
        except CallerError as error:
            return failure(pb.ListAliasesResponse(), error)

    # -- vectors ------------------------------------------------------------------------------------------------

    async def UpsertVectors(self, request: pb.UpsertVectorsRequest, context: Context) -> pb.UpsertVectorsResponse:
        try:
            check_batch("vectors", len(request.vectors))
            large = len(request.vectors) > _FEW_ITEMS
            read = await _in(self._items, read_items, request, self._most_of_an_item) if large else None
            written, errors = await _in(self._writer, self._upsert, request, read, named_model(context))
            return pb.UpsertVectorsResponse(
                success=True, upserted_count=written.count, errors=errors, sequence=written.sequence
            )
        except CallerError as error:
            return failure(pb.UpsertVectorsResponse(), error)

    async def UpsertVectorsStream(
        self, request_iterator: AsyncIterator[pb.UpsertVectorsRequest], context: Context
    ) -> AsyncIterator[pb.UpsertVectorsResponse]:
        # The next message is read only when the last is answered: that is what holds a fast client back.
        async for request in request_iterator:
            yield await self.UpsertVectors(request, context)

    async def UpdateMetadata(self, request: pb.UpdateMetadataRequest, context: Context) -> pb.UpdateMetadataResponse:
        try:
            large = len(request.updates) > _FEW_ITEMS and not request.HasField("filter")
            read = await _in(self._items, read_changes, request) if large else None
            written, errors = await _in(self._writer, self._update_metadata, request, read)
            return pb.UpdateMetadataResponse(
                success=True, updated_count=written.count, errors=errors, sequence=written.sequence
            )
        except CallerError as error:
            return failure(pb.UpdateMetadataResponse(), error)

    async def DeleteVectors(self, request: pb.DeleteVectorsRequest, context: Context) -> pb.DeleteVectorsResponse:
        try:
            count, sequence = await _in(self._writer, self._delete, request)
            return pb.DeleteVectorsResponse(success=True, deleted_count=count, sequence=sequence)
        except CallerError as error:
            return failure(pb.DeleteVectorsResponse(), error)

    async def SearchVectors(self, request: pb.SearchVectorsRequest, context: Context) -> pb.SearchVectorsResponse:
        try:
            result = await self.search(request, context)
            if messages.is_light_reply(result):
                return replies.search_reply(request, result)
            return await self.pack(replies.search_reply, request, result, self.room("SearchVectors"))
        except CallerError as error:
            return failure(pb.SearchVectorsResponse(), error)

    async def SearchVectorsBatch(
        self, request: pb.SearchVectorsBatchRequest, context: Context
    ) -> pb.SearchVectorsBatchResponse:
        return await self.search_batch(replies.batch_reply, request, context)

    async def SearchVectorsStream(
        self, request_iterator: AsyncIterator[pb.SearchVectorsRequest], context: Context
    ) -> AsyncIterator[pb.SearchVectorsResponse]:
        async with aclosing(in_order(self.SearchVectors, request_iterator, context)) as replies:
            async for reply in replies:
                yield reply

    async def GetVectors(self, request: pb.GetVectorsRequest, context: Context) -> pb.GetVectorsResponse:
        try:
            return await _in(self._pager if len(request.ids) > _FEW_ITEMS else self._reader, self._get, request)
        except CallerError as error:
            return failure(pb.GetVectorsResponse(), error)

    async def ListVectors(self, request: pb.ListVectorsRequest, context: Context) -> pb.ListVectorsResponse:
        try:
            return await _in(self._scanners if request.HasField("filter") else self._pager, self._list, request)
        except CallerError as error:
            return failure(pb.ListVectorsResponse(), error)

    async def CountVectors(self, request: pb.CountVectorsRequest, context: Context) -> pb.CountVectorsResponse:
        try:
            if not request.HasField("filter"):
                return pb.CountVectorsResponse(success=True, count=self._engine.count(request.collection))
            count = await _in(self._scanners, self._count, request)
            return pb.CountVectorsResponse(success=True, count=count)
        except CallerError as error:
            return failure(pb.CountVectorsResponse(), error)

    # -- snapshots ----------------------------------------------------------------------------------------------

    async def CreateSnapshot(self, request: pb.CreateSnapshotRequest, context: Context) -> pb.CreateSnapshotResponse:
        try:
            made = await _in(self._copiers, self._engine.create_snapshot, request.collection, request.name)
            return pb.CreateSnapshotResponse(success=True, snapshot=messages.snapshot_info(made))
        except CallerError as error:
            return failure(pb.CreateSnapshotResponse(), error)

    async def ListSnapshots(self, request: pb.ListSnapshotsRequest, context: Context) -> pb.ListSnapshotsResponse:
        try:
            snapshots: list[Snapshot] = await _in(self._reader, self._engine.list_snapshots, request.collection)
            return pb.ListSnapshotsResponse(success=True, snapshots=map(messages.snapshot_info, snapshots))
        except CallerError as error:
            return failure(pb.ListSnapshotsResponse(), error)

    async def RestoreSnapshot(self, request: pb.RestoreSnapshotRequest, context: Context) -> pb.RestoreSnapshotResponse:
        try:
            await _in(self._copiers, self._engine.restore_snapshot, request.collection, request.name)
            description = await _in(self._copiers, self._engine.describe, request.collection, sample=False)
            return pb.RestoreSnapshotResponse(success=True, collection=messages.collection_info(description))
        except CallerError as error:
            return failure(pb.RestoreSnapshotResponse(), error)

    async def DeleteSnapshot(self, request: pb.DeleteSnapshotRequest, context: Context) -> pb.DeleteSnapshotResponse:
        try:
            await _in(self._copiers, self._engine.delete_snapshot, request.collection, request.name)
            return pb.DeleteSnapshotResponse(success=True)
        except CallerError as error:
            return failure(pb.DeleteSnapshotResponse(), error)

    # -- in a thread --------------------------------------------------------------------------------------------

    def _upsert(
        self,
        request: pb.UpsertVectorsRequest,
        read: tuple[list[Item], dict[int, CallerError]] | None,
        embedding_model: str,
    ) -> tuple[Written, list[pb.ItemError]]:
        items, wrong = read or read_items(request, self._most_of_an_item)
        written = self._engine.upsert(
            request.collection,
            items,
            embedding_model=embedding_model,
            mode=known(enums.MODES, request.mode, "mode"),
            partial=request.allow_partial,
            wrong=wrong,
        )
        return written, replies.item_errors(request.vectors, written.wrong)

    def _update_metadata(
        self, request: pb.UpdateMetadataRequest, read: tuple[list[Change], dict[int, CallerError]] | None
    ) -> tuple[Written, list[pb.ItemError]]:
        mode = known(enums.METADATA_MODES, request.mode, "mode")
        dump = functools.partial(requests.dumped, most=self._most_of_an_item)
        if request.HasField("filter"):
            change, fits = read_change_of_all(request), read_filter(request.filter)
            return self._engine.update_matching(request.collection, fits, change, dump, mode=mode), []
        changes, wrong = read or read_changes(request)
        written = self._engine.update_metadata(
            request.collection, changes, dump, mode=mode, partial=request.allow_partial, wrong=wrong
        )
        return written, replies.item_errors(request.updates, written.wrong)

    def _delete(self, request: pb.DeleteVectorsRequest) -> tuple[int, int]:
        check_batch("ids", len(request.ids))
        return self._engine.delete_vectors(
            request.collection,
            list(request.ids),
            read_filter(request.filter) if request.HasField("filter") else None,
            dry_run=request.dry_run,
        )

    def _get(self, request: pb.GetVectorsRequest) -> pb.GetVectorsResponse:
        check_batch("ids", len(request.ids))
        room = self.room("GetVectors")
        with room.hinting():
            items = self._engine.get(
                request.collection,
                list(request.ids),
                with_vectors=request.include_vectors,
                with_metadata=requests.with_metadata(request),
            )
        missing = [name for name in request.ids if name not in items]
        room.take(sum(map(len, missing)))
        reply = pb.GetVectorsResponse(success=True, missing_ids=missing)
        replies.pack_items(
            reply.vectors, [items[name] for name in request.ids if name in items], room, request.metadata_as_json
        )
        return reply

    def _list(self, request: pb.ListVectorsRequest) -> pb.ListVectorsResponse:
        room = self.room("ListVectors")
        with room.hinting():
            items, token = self._engine.page(
                request.collection,
                token=request.page_token,
                size=request.page_size,
                filter=read_filter(request.filter) if request.HasField("filter") else None,
                with_vectors=request.include_vectors,
                with_metadata=requests.with_metadata(request),
            )
        reply = pb.ListVectorsResponse(success=True, next_page_token=token)
        replies.pack_items(reply.vectors, items, room, request.metadata_as_json)
        return reply

    def _count(self, request: pb.CountVectorsRequest) -> int:
        return self._engine.count(request.collection, read_filter(request.filter))

    # -- searching, for the methods above and for fast.py ---------------------------------------------------------

    def room(self, method: str) -> Room:
        return Room(self._max_reply_bytes, TOO_LARGE_HINTS[method])

    async def pack(self, work: Callable[..., Result], *values: Any) -> Result:
        return await _in(self._reader, work, *values)

    async def search(self, request: pb.SearchVectorsRequest, context: Context) -> SearchResult:
        """Raises CallerError."""
        model = named_model(context)
        filtered = request.HasField("filter")
        query = None
        if not filtered or messages.is_light(request.filter):
            query = read_query(request, model)
            if self.together and batch_key(query):
                result = await self._together.search(request.collection, query)
            else:
                result = self._engine.search_now(request.collection, query)
            if result is not None:
                return result
        # With a filter, what fits it may have to be found out, by looking at all there is.
        threads = self._scanners if request.exact or filtered else self._searchers
        with self.room("SearchVectors").hinting():
            if query is None:
                return await _in(threads, self._search, request, model)
            return await _in(threads, self._engine.search, request.collection, query)

    def _search(self, request: pb.SearchVectorsRequest, embedding_model: str) -> SearchResult:
        return self._engine.search(request.collection, read_query(request, embedding_model))

    async def search_batch(
        self, pack: Callable[..., Result], request: pb.SearchVectorsBatchRequest, context: Context
    ) -> Result:
        """What `pack` makes of the searches, the result or error of each, and the room for it.

        Raises InvalidArgument when they are too many, TooLarge when the results are.
        """
        check_batch("searches", len(request.searches), LARGEST_SEARCH_BATCH)
        scans = any(search.exact or search.HasField("filter") for search in request.searches)
        threads = self._scanners if scans else self._searchers
        return await _in(threads, self._packed_batch, pack, request.searches, named_model(context))

    def _packed_batch(
        self, pack: Callable[..., Result], searches: Sequence[pb.SearchVectorsRequest], embedding_model: str
    ) -> Result:
        results = self._search_batch(searches, embedding_model)
        return pack(searches, results, self.room("SearchVectorsBatch"))

    def _search_batch(
        self, searches: Sequence[pb.SearchVectorsRequest], embedding_model: str
    ) -> list[SearchResult | CallerError]:
        """Searches of one collection that ask for the same go through the graph together, on all threads."""
        room = self.room("SearchVectorsBatch")
        results: list[SearchResult | CallerError | None] = [None] * len(searches)
        together: dict[tuple[str, object], list[tuple[int, Query]]] = {}
        for index, request in enumerate(searches):
            try:
                query = read_query(request, embedding_model)
                together.setdefault((request.collection, batch_key(query) or index), []).append((index, query))
            except CallerError as error:
                results[index] = error.let_go()
        for (collection, _), group in together.items():
            for start in range(0, len(group), _TOGETHER):
                part = group[start : start + _TOGETHER]
                with room.hinting():
                    answers = self._search_group(collection, part)
                for (index, _), result in zip(part, answers, strict=True):
                    results[index] = result
                    if not isinstance(result, CallerError):
                        room.take(messages.least_bytes(searches[index], result))
        return [result for result in results if result is not None]

    def _search_group(
        self, collection: str, group: Sequence[tuple[int, Query]]
    ) -> Sequence[SearchResult | CallerError]:
        queries = [query for _, query in group]
        try:
            return self._engine.search_many(collection, queries)
        except TooLarge:
            if len(queries) == 1:
                raise
        except CallerError as error:
            if len(queries) == 1:
                return [error.let_go()]
        # One of them is at fault; each gets its own answer.
        return [self._search_group(collection, [numbered])[0] for numbered in group]


async def in_order(
    work: Callable[[Any, Context], Coroutine[Any, Any, Result]], requests: AsyncIterator[Any], context: Context
) -> AsyncGenerator[Result, None]:
    """What `work` answers to each request, while those behind it are worked on already."""
    answers: asyncio.Queue[asyncio.Task[Result] | None] = asyncio.Queue()
    room = asyncio.Semaphore(_AHEAD)

    async def read() -> None:
        try:
            async for request in requests:
                answers.put_nowait(asyncio.create_task(work(request, context)))
                await room.acquire()
        finally:
            answers.put_nowait(None)

    reader = asyncio.create_task(read())
    reader.add_done_callback(lambda task: task.cancelled() or task.exception())  # seen, also where nobody waits for it
    answer = None
    try:
        while (answer := await answers.get()) is not None:
            yield await answer
            room.release()
        await reader  # raises what it ended with
    finally:
        reader.cancel()
        while answer is not None:
            answer.cancel()
            answer = None if answers.empty() else answers.get_nowait()


def _threads(name: str, count: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max_workers=count, thread_name_prefix=name)


async def _in(threads: ThreadPoolExecutor, work: Callable[..., Result], *values: Any, **options: Any) -> Result:
    """What `work` returns, called in one of these threads."""
    call = functools.partial(contextvars.copy_context().run, _with_memory, work, *values, **options)
    return await asyncio.get_running_loop().run_in_executor(threads, call)


def _with_memory(work: Callable[..., Result], *values: Any, **options: Any) -> Result:
    try:
        return to_its_end(work, *values, **options)
    except MemoryError:
        raise Overloaded(
            "the server has no memory for this call; send or ask for less at once", reason="OUT_OF_MEMORY"
        ) from None
