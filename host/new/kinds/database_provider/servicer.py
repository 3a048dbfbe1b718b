"""DatabaseProvider over the engine: messages in, messages out. What is raised here becomes the reply's error."""

from __future__ import annotations

import re
from typing import Any

import grpc
import hector_plugins_pb2 as pb
from hector_plugins_pb2_grpc import DatabaseProviderServicer

from shared.errors import InvalidArgument
from shared.fields import take_only
from shared.off_loop import threaded
from shared.structs import dump, fill, read_object

from .engine import Engine, Hit, Item, check_vector

Context = grpc.aio.ServicerContext[Any, Any]

# Counted before a request is converted, which takes time.
MOST_ITEMS = {"UpsertVectors": {"vectors": 100_000}, "DeleteVectors": {"ids": 100_000}}
_MOST_HITS = 1000
_NAME = re.compile(r"(?!\.)[A-Za-z0-9._-]{1,128}")


class Servicer(DatabaseProviderServicer):
    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    @threaded
    def CreateCollection(self, request: pb.CreateCollectionRequest, context: Context) -> pb.CreateCollectionResponse:
        take_only(request, "name", "dimension", "embedding_model", "if_not_exists")
        if not _NAME.fullmatch(request.name):
            raise InvalidArgument("name must be 1 to 128 of A-Z a-z 0-9 . _ - with no dot at its start", field="name")
        if not 1 <= request.dimension <= 16_384:
            raise InvalidArgument("dimension must be between 1 and 16384", field="dimension")
        model, if_not_exists = request.embedding_model, request.if_not_exists
        created = self._engine.create(request.name, request.dimension, model, if_not_exists=if_not_exists)
        return pb.CreateCollectionResponse(success=True, created=created)

    @threaded
    def DeleteCollection(self, request: pb.DeleteCollectionRequest, context: Context) -> pb.DeleteCollectionResponse:
        return pb.DeleteCollectionResponse(success=True, deleted_count=self._engine.drop(request.name))

    @threaded
    def UpsertVectors(self, request: pb.UpsertVectorsRequest, context: Context) -> pb.UpsertVectorsResponse:
        take_only(request, "collection", "vectors")
        dimension = self._engine.collection(request.collection, _model(context)).dimension
        items = {}
        for index, sent in enumerate(request.vectors):
            field = f"vectors[{index}]"
            if not 1 <= len(sent.id.encode()) <= 512:
                raise InvalidArgument(f"{field}.id must be of 1 to 512 bytes", field=f"{field}.id")
            check_vector(sent.vector, dimension, f"{field}.vector")
            metadata = read_object(sent.metadata, sent.metadata_json, f"{field}.metadata")
            items[sent.id] = Item(list(sent.vector), metadata)
        self._engine.upsert(request.collection, items)
        return pb.UpsertVectorsResponse(success=True, upserted_count=len(items))

    @threaded
    def SearchVectors(self, request: pb.SearchVectorsRequest, context: Context) -> pb.SearchVectorsResponse:
        take_only(request, "collection", "vector", "limit", "threshold")
        if not 0 <= request.limit <= _MOST_HITS:
            raise InvalidArgument(f"limit must be between 1 and {_MOST_HITS}, or 0 for 10", field="limit")
        check_vector(request.vector, self._engine.collection(request.collection, _model(context)).dimension, "vector")
        threshold = request.threshold or -1.0
        hits = self._engine.search(request.collection, request.vector, request.limit or 10, threshold)
        return pb.SearchVectorsResponse(success=True, results=map(_result, hits), exact=True, complete=True)

    @threaded
    def DeleteVectors(self, request: pb.DeleteVectorsRequest, context: Context) -> pb.DeleteVectorsResponse:
        take_only(request, "collection", "ids")
        if not request.ids:
            raise InvalidArgument("ids is empty; name what to delete", field="ids")
        count = self._engine.delete(request.collection, request.ids)
        return pb.DeleteVectorsResponse(success=True, deleted_count=count)


def _model(context: Context) -> str:
    """Whose vectors the caller sends, where it says so."""
    return str(dict(context.invocation_metadata() or ()).get("x-embedding-model", ""))


def _result(hit: Hit) -> pb.VectorResult:
    result = pb.VectorResult(id=hit.id, score=hit.score)
    if not fill(result.metadata, hit.metadata):
        result.metadata_json = dump(hit.metadata)
    return result
