"""What index and search ask of their two plugins, in plain Python values. Raises CallFailed (`host/connect.py`)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import hector_plugins_pb2 as pb
from hector_plugins_pb2_grpc import DatabaseProviderStub, EmbedderProviderStub

from host import config
from host.connect import CallFailed, Connection, connect
from shared.errors import Code, StartError

_DELETE_AT_ONCE = 1000
_LIST_AT_ONCE = 200  # with their texts
_READER_SECONDS = 15.0  # after which a search goes to the plugin itself; a reader that is behind says so after ten


@dataclass(frozen=True)
class Embedded:
    """Vectors in the order of the texts, and how many texts were longer than the model reads."""

    vectors: list[Sequence[float]]
    truncated: int


@dataclass(frozen=True)
class Hit:
    """A vector that was found; a higher score is nearer."""

    id: str
    score: float
    metadata: Mapping[str, Any]


class Embedder:
    """An embedder plugin whose model and dimension are those that the YAML names. Raises StartError otherwise."""

    def __init__(self, connection: Connection, wanted: config.Embedder) -> None:
        self._connection = connection
        self._stub = EmbedderProviderStub(connection.channel)
        reply = connection.call(self._stub.GetDimensions, pb.GetDimensionsRequest(), {})
        where = f"embedders.{wanted.name}.config"
        if wanted.model and reply.model and wanted.model != reply.model:
            raise StartError(f"{where}.model is {wanted.model}, but {connection} has {reply.model}; change one")
        if wanted.dimension and wanted.dimension != reply.dimensions:
            raise StartError(
                f"{where}.dimension is {wanted.dimension}, but {connection} has {reply.dimensions}; change one"
            )
        self.model: str = reply.model or wanted.model
        self.dimension: int = reply.dimensions

    def documents(self, texts: Sequence[str]) -> Embedded:
        return self._embed(texts, pb.INPUT_TYPE_DOCUMENT)

    def query(self, text: str) -> Sequence[float]:
        return self._embed([text], pb.INPUT_TYPE_QUERY).vectors[0]

    def _embed(self, texts: Sequence[str], kind: pb.InputType.ValueType) -> Embedded:
        request = pb.EmbedBatchRequest(texts=texts, options=pb.EmbedOptions(input_type=kind))
        reply = self._connection.call(self._stub.EmbedBatch, request, {})
        embeddings = reply.embeddings
        # A plugin can be started anew with other settings meanwhile.
        if reply.model and self.model and reply.model != self.model:
            raise StartError(f"{self._connection} had model {self.model} and has {reply.model} now; run this again")
        if len(embeddings) != len(texts):
            raise StartError(f"{self._connection} gave {len(embeddings)} vectors for {len(texts)} texts")
        return Embedded([embedding.vector for embedding in embeddings], sum(e.truncated for e in embeddings))


class Collection:
    """One collection of a database plugin. Every upsert and search says which model its vectors are of."""

    def __init__(self, connection: Connection, name: str, model: str) -> None:
        self.name = name
        self._connection = connection
        self._stub = DatabaseProviderStub(connection.channel)
        self._readers = DatabaseProviderStub(connection.readers) if connection.readers else None
        self._model = model
        self._sequence = 0  # the store's, as of the last look or write of this run
        self._is_alone = True  # as far as one can tell, nobody else has written into the store since the last look

    def state(self) -> tuple[int, int] | None:
        """How many vectors it has, and the store's sequence at its last write; None where the plugin does not say."""
        try:
            collections = self._call(self._stub.ListCollections, pb.ListCollectionsRequest()).collections
        except CallFailed as error:
            if error.code == Code.UNIMPLEMENTED:
                return None
            raise
        self._sequence, self._is_alone = max((each.sequence for each in collections), default=0), True
        return next(
            ((each.count, each.sequence) for each in collections if self.name in (each.name, *each.aliases)), None
        )

    def state_if_alone(self, before: tuple[int, int] | None) -> tuple[int, int] | None:
        """The state after this run's writes; None where somebody else may have written since it was `before`."""
        written, is_alone = self._sequence, self._is_alone
        after = self.state()
        return after if before and after and is_alone and after[1] in (before[1], written) else None

    def stored(self) -> Iterator[tuple[str, Mapping[str, Any]]]:
        """Id and metadata of everything in it."""
        token, page_size = "", _LIST_AT_ONCE
        while True:
            request = pb.ListVectorsRequest(collection=self.name, page_size=page_size, page_token=token)
            try:
                reply = self._call(self._stub.ListVectors, request)
            except CallFailed as error:
                if error.code != Code.RESOURCE_EXHAUSTED or page_size == 1:
                    raise
                page_size //= 2  # their texts are long
                continue
            for vector in reply.vectors:
                yield vector.id, dict(vector.metadata)
            token = reply.next_page_token
            if not token:
                return

    def get(self, ids: Sequence[str]) -> dict[str, tuple[Sequence[float], Mapping[str, Any]]]:
        """Vector and metadata of those of `ids`, a few dozen, that are there."""
        request = pb.GetVectorsRequest(collection=self.name, ids=ids, include_vectors=True)
        try:
            vectors = self._call(self._stub.GetVectors, request).vectors
        except CallFailed as error:
            if error.code != Code.RESOURCE_EXHAUSTED or len(ids) == 1:
                raise
            half = len(ids) // 2
            return self.get(ids[:half]) | self.get(ids[half:])
        return {vector.id: (vector.vector, dict(vector.metadata)) for vector in vectors}

    def create(self, dimension: int) -> bool:
        """Makes it where it is missing; whether it was. One of another model or dimension is an error."""
        request = pb.CreateCollectionRequest(
            name=self.name, dimension=dimension, if_not_exists=True, embedding_model=self._model
        )
        try:
            created: bool = self._call(self._stub.CreateCollection, request).created
        except CallFailed as error:
            if error.code != Code.ALREADY_EXISTS:
                raise
            raise CallFailed(
                f"{error}; name another `collection` under databases: for model {self._model or 'unknown'} "
                f"with {dimension} dimensions, or delete this one",
                error.code,
                answered=True,
            ) from None
        return created

    def upsert(self, vectors: Mapping[str, Sequence[float]], metadata: Mapping[str, Mapping[str, Any]]) -> None:
        """`metadata` has the ids of `vectors`."""
        request = pb.UpsertVectorsRequest(collection=self.name)
        for key, vector in vectors.items():
            request.vectors.add(id=key, vector=vector).metadata.update(metadata[key])
        self._wrote(self._call(self._stub.UpsertVectors, request).sequence)

    def delete(self, ids: Sequence[str]) -> int:
        """How many of `ids` were there."""
        deleted = 0
        for start in range(0, len(ids), _DELETE_AT_ONCE):
            request = pb.DeleteVectorsRequest(collection=self.name, ids=ids[start : start + _DELETE_AT_ONCE])
            reply = self._call(self._stub.DeleteVectors, request)
            deleted += reply.deleted_count
            if reply.deleted_count:
                self._wrote(reply.sequence)
        return deleted

    def _wrote(self, sequence: int) -> None:
        """A write counts one: where the count has a gap, there was another one."""
        self._is_alone = self._is_alone and sequence == self._sequence + 1
        self._sequence = sequence

    def search(self, vector: Sequence[float], limit: int) -> list[Hit]:
        """The nearest first."""
        request = pb.SearchVectorsRequest(collection=self.name, vector=vector, limit=limit)
        try:
            reply = self._found(request)
        except CallFailed as error:
            if error.code != Code.NOT_FOUND:
                raise
            remedy = "`python -m host index DIR` makes and fills it"
            raise CallFailed(f"{error}; {remedy}", error.code, answered=True) from None
        return [Hit(result.id, result.score, dict(result.metadata)) for result in reply.results]

    def _found(self, request: pb.SearchVectorsRequest) -> Any:
        """A reader's reply; the plugin's own where it has no readers, or the one whose turn it is cannot answer now."""
        if self._readers:
            try:
                return self._call(self._readers.SearchVectors, request, _READER_SECONDS)
            except CallFailed as error:
                if error.answered and error.code not in (Code.UNAVAILABLE, Code.RESOURCE_EXHAUSTED):
                    raise
        return self._call(self._stub.SearchVectors, request)

    def _call(self, rpc: Any, request: Any, most_seconds: float = math.inf) -> Any:
        metadata = {"x-embedding-model": self._model} if self._model else {}
        return self._connection.call(rpc, request, metadata, most_seconds)


@contextmanager
def opened(settings: config.HostConfig, database: config.Database) -> Iterator[tuple[Embedder, Collection]]:
    """The embedder and the collection of `database`, their plugins started where need be. Raises StartError."""
    wanted = settings.embedder(database)
    with connect(settings, [database.plugin, wanted.plugin]) as connections:
        embedder = Embedder(connections[wanted.plugin.name], wanted)
        if database.dimension and database.dimension != embedder.dimension:
            raise StartError(
                f"databases.{database.name}.config.dimension is {database.dimension}, but "
                f"{connections[wanted.plugin.name]} has {embedder.dimension}; change one"
            )
        yield embedder, Collection(connections[database.plugin.name], database.collection, embedder.model)
