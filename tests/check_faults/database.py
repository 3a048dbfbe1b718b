"""A DatabaseProvider in a dictionary, and many that are wrong in one thing."""

from __future__ import annotations

import math
import re
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import grpc
import hector_plugins_pb2 as pb
import numpy as np
from hector_plugins_pb2_grpc import DatabaseProviderServicer

from shared.errors import Code
from tests.check_faults import Fault, Refused, answering, failed


@dataclass
class Collection:
    dimension: int
    vectors: dict[str, Any] = field(default_factory=dict)


class Database(DatabaseProviderServicer):
    """The right one. What the wrong ones change are its small methods."""

    def __init__(self) -> None:
        self.collections: dict[str, Collection] = {}
        self.lock = threading.RLock()

    # ------------------------------------------------ the RPCs

    @answering(pb.CreateCollectionResponse)
    def CreateCollection(self, request: Any) -> Any:
        with self.lock:
            self.check_name(request.name)
            self.check_dimension(request.dimension)
            if request.name in self.collections:
                return self.exists(request)
            self.make(request.name, request.dimension)
        return pb.CreateCollectionResponse(success=True, created=True)

    @answering(pb.DeleteCollectionResponse)
    def DeleteCollection(self, request: Any) -> Any:
        with self.lock:
            self.collection(request.name)
            self.drop(request.name)
        return pb.DeleteCollectionResponse(success=True)

    @answering(pb.UpsertVectorsResponse)
    def UpsertVectors(self, request: Any) -> Any:
        with self.lock:
            collection = self.collection(request.collection)
            for number, vector in enumerate(request.vectors):
                self.check_id(vector.id, number)
                self.check_vector(vector.vector, collection, f"vectors[{number}].vector", f"vector {vector.id!r}")
            self.write(collection, request.vectors)
        return pb.UpsertVectorsResponse(success=True, upserted_count=len({v.id for v in request.vectors}))

    @answering(pb.SearchVectorsResponse)
    def SearchVectors(self, request: Any) -> Any:
        with self.lock:
            collection = self.collection(request.collection)
            self.check_vector(request.vector, collection, "vector", "the query")
            limit = self.limit(request.limit)
            query = np.array(request.vector, dtype=np.float64)
            results = [self.result(stored, self.score(query, stored)) for stored in collection.vectors.values()]
        results = [result for result in results if self.kept(result.score, request.threshold)]
        return pb.SearchVectorsResponse(success=True, results=self.order(results)[:limit])

    @answering(pb.DeleteVectorsResponse)
    def DeleteVectors(self, request: Any) -> Any:
        with self.lock:
            collection = self.collection(request.collection)
            if not request.ids:
                return self.delete_unsaid(collection)
            count = self.delete(collection, request.ids)
        return pb.DeleteVectorsResponse(success=True, deleted_count=count)

    # ------------------------------------------------ what they stand on

    failed = staticmethod(failed)

    def check_name(self, name: str) -> None:
        if not re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}", name):
            raise Refused(Code.INVALID_ARGUMENT, f"{name!r} is no name; take A-Za-z0-9._-", "name")

    def check_dimension(self, dimension: int) -> None:
        if not 1 <= dimension <= 16384:
            raise Refused(Code.INVALID_ARGUMENT, f"dimension is {dimension}; take 1 to 16384", "dimension")

    def exists(self, request: Any) -> Any:
        raise Refused(Code.ALREADY_EXISTS, f"collection {request.name} exists; delete it or take another name")

    def make(self, name: str, dimension: int) -> None:
        self.collections[name] = Collection(dimension)

    def drop(self, name: str) -> None:
        del self.collections[name]

    def collection(self, name: str) -> Collection:
        if name not in self.collections:
            raise Refused(Code.NOT_FOUND, f"there is no collection {name}; create it first")
        return self.collections[name]

    def check_id(self, key: str, number: int) -> None:
        if not 1 <= len(key.encode()) <= 512:
            raise Refused(Code.INVALID_ARGUMENT, "an id has 1 to 512 bytes", f"vectors[{number}].id")

    def check_vector(self, vector: Sequence[float], collection: Collection, where: str, what: str) -> None:
        if len(vector) != collection.dimension:
            raise Refused(Code.INVALID_ARGUMENT, f"{what} has {len(vector)} floats, not {collection.dimension}", where)
        self.check_values(vector, where, what)

    def check_values(self, vector: Sequence[float], where: str, what: str) -> None:
        if not all(map(math.isfinite, vector)) or not any(vector):
            raise Refused(Code.INVALID_ARGUMENT, f"{what} is not finite, or zero; send another", where)

    def write(self, collection: Collection, vectors: Sequence[Any]) -> None:
        for vector in vectors:
            collection.vectors[vector.id] = vector

    def limit(self, limit: int) -> int:
        if not 0 <= limit <= 1000:
            raise Refused(Code.INVALID_ARGUMENT, f"limit is {limit}; take 1 to 1000", "limit")
        return limit or 10

    def score(self, query: Any, stored: Any) -> float:
        vector = np.array(stored.vector, dtype=np.float64)
        return float(np.clip(query @ vector / np.linalg.norm(query) / np.linalg.norm(vector), -1, 1))

    def result(self, stored: Any, score: float) -> Any:
        return pb.VectorResult(id=stored.id, score=score, metadata=stored.metadata)

    def kept(self, score: float, threshold: float) -> bool:
        return threshold == 0 or score >= threshold

    def order(self, results: list[Any]) -> list[Any]:
        return sorted(results, key=lambda result: (-result.score, result.id))

    def delete_unsaid(self, collection: Collection) -> Any:
        raise Refused(Code.INVALID_ARGUMENT, "neither ids nor a filter; name what to delete", "ids")

    def delete(self, collection: Collection, keys: Sequence[str]) -> int:
        return sum(collection.vectors.pop(key, None) is not None for key in keys)


# ---------------------------------------------------------------- the wrong ones


class CreatesAgain(Database):
    def exists(self, request: Any) -> Any:
        self.make(request.name, request.dimension)
        return pb.CreateCollectionResponse(success=True)


class RefusesAndEmpties(Database):
    def exists(self, request: Any) -> Any:
        self.make(request.name, request.dimension)
        return super().exists(request)


class KeepsDeletedCollection(Database):
    def drop(self, name: str) -> None:
        pass


class DeletedComesBack(Database):
    def drop(self, name: str) -> None:
        self.attic = getattr(self, "attic", {})
        self.attic[name] = self.collections.pop(name).vectors

    def make(self, name: str, dimension: int) -> None:
        self.collections[name] = Collection(dimension, getattr(self, "attic", {}).get(name, {}))

    def score(self, query: Any, stored: Any) -> float:
        return super().score(query, stored) if len(stored.vector) == len(query) else 0.0


class AnyDimension(Database):
    def check_dimension(self, dimension: int) -> None:
        pass


class AnyName(Database):
    def check_name(self, name: str) -> None:
        pass


class MakesWhatIsMissing(Database):
    def collection(self, name: str) -> Collection:
        if name not in self.collections:
            self.make(name, 2)
        return self.collections[name]


class OneCollection(Database):
    def make(self, name: str, dimension: int) -> None:
        self.all = getattr(self, "all", {})
        self.collections[name] = Collection(dimension, self.all)

    def drop(self, name: str) -> None:
        super().drop(name)
        self.all.clear()


class ErrorNamesNothing(Database):
    def collection(self, name: str) -> Collection:
        if name not in self.collections:
            raise Refused(Code.NOT_FOUND, "not found")
        return self.collections[name]


class GrpcStatus(Database):
    """A wrong argument is a gRPC status, as one is used to it."""

    def SearchVectors(self, request: Any, context: grpc.ServicerContext) -> Any:
        reply = super().SearchVectors(request, context)
        if not reply.success:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, reply.error)
        return reply


class Traceback(Database):
    @staticmethod
    def failed(reply: type[Any], error: Refused) -> Any:
        text = f'Traceback (most recent call last):\n  File "/srv/db.py", line 3, in search\n{error}'
        return reply(success=False, error=text)


class SilentError(Database):
    @staticmethod
    def failed(reply: type[Any], error: Refused) -> Any:
        return reply(success=False)


class NotWritten(Database):
    """Acknowledged but not written."""

    def write(self, collection: Collection, vectors: Sequence[Any]) -> None:
        pass


class WrittenLater(Database):
    def write(self, collection: Collection, vectors: Sequence[Any]) -> None:
        threading.Timer(0.3, super().write, (collection, list(vectors))).start()


class LosesTheLast(Database):
    def write(self, collection: Collection, vectors: Sequence[Any]) -> None:
        super().write(collection, vectors[:-1] if len(vectors) > 500 else vectors)


class LosesWhatCollides(Database):
    """Reads, and writes back later, without a lock."""

    def UpsertVectors(self, request: Any, context: grpc.ServicerContext) -> Any:
        collection = self.collections[request.collection]
        copy = dict(collection.vectors)
        time.sleep(0.02)
        copy.update({vector.id: vector for vector in request.vectors})
        collection.vectors = copy
        return pb.UpsertVectorsResponse(success=True)


class Appends(Database):
    """An id that exists comes twice."""

    def write(self, collection: Collection, vectors: Sequence[Any]) -> None:
        for vector in vectors:
            collection.vectors[f"{vector.id}#{len(collection.vectors)}"] = vector


class KeepsTheFirst(Database):
    def write(self, collection: Collection, vectors: Sequence[Any]) -> None:
        for vector in vectors:
            collection.vectors.setdefault(vector.id, vector)


class FirstWins(Database):
    def write(self, collection: Collection, vectors: Sequence[Any]) -> None:
        super().write(collection, list(reversed(vectors)))


class MergesMetadata(Database):
    def write(self, collection: Collection, vectors: Sequence[Any]) -> None:
        for vector in vectors:
            merged = pb.Vector()
            merged.CopyFrom(vector)
            if vector.id in collection.vectors:
                for key, value in collection.vectors[vector.id].metadata.fields.items():
                    if key not in merged.metadata.fields:
                        merged.metadata.fields[key].CopyFrom(value)
            collection.vectors[vector.id] = merged


class WritesTheGoodOnes(Database):
    def UpsertVectors(self, request: Any, context: grpc.ServicerContext) -> Any:
        reply = super().UpsertVectors(request, context)
        if not reply.success and request.collection in self.collections:
            collection = self.collections[request.collection]
            self.write(collection, [v for v in request.vectors if len(v.vector) == collection.dimension])
        return reply


class TakesAnyValues(Database):
    def check_values(self, vector: Sequence[float], where: str, what: str) -> None:
        pass


class TakesAnyLength(Database):
    def check_vector(self, vector: Sequence[float], collection: Collection, where: str, what: str) -> None:
        if where != "vector":
            super().check_vector(vector, collection, where, what)

    def score(self, query: Any, stored: Any) -> float:
        return super().score(np.resize(query if query.size else np.ones(1), len(stored.vector)), stored)


class NoSuchItem(Database):
    def check_vector(self, vector: Sequence[float], collection: Collection, where: str, what: str) -> None:
        try:
            super().check_vector(vector, collection, where, what)
        except Refused as error:
            raise Refused(error.code, "a vector is wrong") from None


class TakesAnyId(Database):
    def check_id(self, key: str, number: int) -> None:
        pass


class TrimsIds(Database):
    def write(self, collection: Collection, vectors: Sequence[Any]) -> None:
        for vector in vectors:
            kept = pb.Vector()
            kept.CopyFrom(vector)
            kept.id = vector.id.strip()
            collection.vectors[kept.id] = kept


class LowerCaseIds(Database):
    def delete(self, collection: Collection, keys: Sequence[str]) -> int:
        return super().delete(collection, [key for stored in list(collection.vectors) for key in keys
                                           if stored.lower() == key.lower() for key in (stored,)])  # fmt: skip


class ForgetsMetadata(Database):
    def result(self, stored: Any, score: float) -> Any:
        return pb.VectorResult(id=stored.id, score=score)


class NullIsNothing(Database):
    def result(self, stored: Any, score: float) -> Any:
        kept = super().result(stored, score)
        for key in [key for key, value in kept.metadata.fields.items() if value.WhichOneof("kind") == "null_value"]:
            del kept.metadata.fields[key]
        return kept


class WrongDirection(Database):
    """A distance where a score belongs."""

    def score(self, query: Any, stored: Any) -> float:
        return 1 - super().score(query, stored)


class WorstFirst(Database):
    def order(self, results: list[Any]) -> list[Any]:
        return sorted(results, key=lambda result: (result.score, result.id))


class SwappedScores(Database):
    """The right ids in the right order, with one another's scores."""

    def order(self, results: list[Any]) -> list[Any]:
        ordered = super().order(results)
        scores = [result.score for result in ordered]
        for result, score in zip(ordered, scores[1:] + scores[:1], strict=True):
            result.score = score
        return ordered


class DotProduct(Database):
    def score(self, query: Any, stored: Any) -> float:
        return float(query @ np.array(stored.vector))


class ZeroToOne(Database):
    def score(self, query: Any, stored: Any) -> float:
        return (1 + super().score(query, stored)) / 2


class NoNegatives(Database):
    def kept(self, score: float, threshold: float) -> bool:
        return score >= threshold


class NotClamped(Database):
    def score(self, query: Any, stored: Any) -> float:
        return super().score(query, stored) * (1 + 5e-5)


class Overflows(Database):
    def score(self, query: Any, stored: Any) -> float:
        a, b = query.astype(np.float32), np.array(stored.vector, dtype=np.float32)
        with np.errstate(all="ignore"):
            return float(a @ b / np.sqrt(a @ a) / np.sqrt(b @ b))


class TiesAsTheyCame(Database):
    def order(self, results: list[Any]) -> list[Any]:
        return sorted(results, key=lambda result: -result.score)


class NoLimit(Database):
    def limit(self, limit: int) -> int:
        return 1000


class ZeroIsNone(Database):
    def limit(self, limit: int) -> int:
        return super().limit(limit) if limit else 0


class OneTooMany(Database):
    def limit(self, limit: int) -> int:
        return super().limit(limit) + 1


class AnyLimit(Database):
    def limit(self, limit: int) -> int:
        return max(0, limit) or 10


class IgnoresThreshold(Database):
    def kept(self, score: float, threshold: float) -> bool:
        return True


class AboveThreshold(Database):
    def kept(self, score: float, threshold: float) -> bool:
        return threshold == 0 or score > threshold + 1e-7


class EmptyIsAnError(Database):
    def order(self, results: list[Any]) -> list[Any]:
        if not results:
            raise Refused(Code.NOT_FOUND, "nothing was found; write something")
        return super().order(results)


class OthersAnswer(Database):
    """The last query that came is everybody's."""

    def SearchVectors(self, request: Any, context: grpc.ServicerContext) -> Any:
        self.last = request
        time.sleep(0.005)
        return super().SearchVectors(self.last, context)


class DeletesAll(Database):
    def delete_unsaid(self, collection: Collection) -> Any:
        collection.vectors.clear()
        return pb.DeleteVectorsResponse(success=True)


class RefusesAndDeletes(Database):
    def delete_unsaid(self, collection: Collection) -> Any:
        collection.vectors.clear()
        return super().delete_unsaid(collection)


class DeletesNothing(Database):
    def delete(self, collection: Collection, keys: Sequence[str]) -> int:
        return len(keys)


class MissingIsAnError(Database):
    def delete(self, collection: Collection, keys: Sequence[str]) -> int:
        if missing := set(keys) - set(collection.vectors):
            raise Refused(Code.NOT_FOUND, f"there is no {missing}")
        return super().delete(collection, keys)


class Tombstones(Database):
    """A deleted id stays deleted."""

    def delete(self, collection: Collection, keys: Sequence[str]) -> int:
        self.dead = getattr(self, "dead", set()) | set(keys)
        return super().delete(collection, keys)

    def write(self, collection: Collection, vectors: Sequence[Any]) -> None:
        super().write(collection, [v for v in vectors if v.id not in getattr(self, "dead", ())])


class NotSeenElsewhere(Database):
    """Each connection sees what was written over it."""

    def UpsertVectors(self, request: Any, context: grpc.ServicerContext) -> Any:
        self.peers = getattr(self, "peers", {})
        self.peers.update({vector.id: context.peer() for vector in request.vectors})
        return super().UpsertVectors(request, context)

    def SearchVectors(self, request: Any, context: grpc.ServicerContext) -> Any:
        reply = super().SearchVectors(request, context)
        kept = [result for result in reply.results if self.peers[result.id] == context.peer()]
        del reply.results[:]
        reply.results.extend(kept)
        return reply


class NoDelete(Database):
    DeleteVectors = DatabaseProviderServicer.DeleteVectors


class ShortNames(Database):
    def check_name(self, name: str) -> None:
        super().check_name(name)
        if len(name) > 64:
            raise Refused(Code.INVALID_ARGUMENT, f"{name} is longer than 64 letters; shorten it", "name")


class SmallDimension(Database):
    def check_dimension(self, dimension: int) -> None:
        super().check_dimension(dimension)
        if dimension > 4096:
            raise Refused(Code.INVALID_ARGUMENT, f"dimension is {dimension}; take 1 to 4096", "dimension")


class ShowsItsFiles(Database):
    def collection(self, name: str) -> Collection:
        if name not in self.collections:
            raise Refused(Code.NOT_FOUND, f"no file /home/op/data/{name}.db")
        return self.collections[name]


class FailsWithResults(Database):
    def SearchVectors(self, request: Any, context: grpc.ServicerContext) -> Any:
        reply = super().SearchVectors(request, context)
        if not reply.success:
            reply.results.add(id="a", score=1)
        return reply


class NoSuchNumber(Database):
    """It says which vector has another dimension, and not which has NaN."""

    def check_values(self, vector: Sequence[float], where: str, what: str) -> None:
        super().check_values(vector, "", "a vector")


FAULTS = [
    Fault(ShortNames, "good_collection_names"),
    Fault(SmallDimension, "largest_dimension"),
    Fault(ShowsItsFiles, "unknown_collection"),
    Fault(FailsWithResults, "bad_queries"),
    Fault(NoSuchNumber, "error_names_item"),
    Fault(NotWritten, "collection_life"),
    Fault(CreatesAgain, "existing_collection"),
    Fault(RefusesAndEmpties, "existing_collection"),
    Fault(KeepsDeletedCollection, "deleted_collection"),
    Fault(DeletedComesBack, "name_used_again"),
    Fault(AnyDimension, "bad_collection"),
    Fault(AnyName, "bad_collection_names"),
    Fault(MakesWhatIsMissing, "unknown_collection"),
    Fault(ErrorNamesNothing, "unknown_collection"),
    Fault(OneCollection, "collections_apart"),
    Fault(GrpcStatus, "bad_queries"),
    Fault(Traceback, "bad_queries"),
    Fault(SilentError, "bad_queries"),
    Fault(NotWritten, "read_your_writes"),
    Fault(WrittenLater, "read_your_writes"),
    Fault(NotSeenElsewhere, "other_connection"),
    Fault(LosesTheLast, "a_thousand"),
    Fault(LosesWhatCollides, "parallel_writes"),
    Fault(Appends, "replaces_vector"),
    Fault(KeepsTheFirst, "replaces_vector"),
    Fault(FirstWins, "last_wins"),
    Fault(MergesMetadata, "replaces_metadata"),
    Fault(WritesTheGoodOnes, "all_or_nothing"),
    Fault(TakesAnyValues, "bad_vectors"),
    Fault(TakesAnyLength, "bad_queries"),
    Fault(NoSuchItem, "error_names_item"),
    Fault(TakesAnyId, "bad_ids"),
    Fault(TrimsIds, "odd_ids"),
    Fault(LowerCaseIds, "odd_ids"),
    Fault(ForgetsMetadata, "metadata"),
    Fault(NullIsNothing, "metadata"),
    Fault(WrongDirection, "best_first"),
    Fault(WorstFirst, "best_first"),
    Fault(SwappedScores, "cosine"),
    Fault(DotProduct, "cosine"),
    Fault(ZeroToOne, "cosine"),
    Fault(NoNegatives, "threshold"),
    Fault(NotClamped, "clamped"),
    Fault(Overflows, "extremes"),
    Fault(TiesAsTheyCame, "ties"),
    Fault(NoLimit, "limit"),
    Fault(ZeroIsNone, "limit"),
    Fault(OneTooMany, "limit"),
    Fault(AnyLimit, "bad_limit"),
    Fault(IgnoresThreshold, "threshold"),
    Fault(AboveThreshold, "threshold"),
    Fault(EmptyIsAnError, "empty_collection"),
    Fault(OthersAnswer, "parallel_searches"),
    Fault(DeletesAll, "delete_nothing"),
    Fault(RefusesAndDeletes, "delete_nothing"),
    Fault(DeletesNothing, "delete_ids"),
    Fault(MissingIsAnError, "delete_missing"),
    Fault(Tombstones, "delete_and_write"),
    Fault(NoDelete, "delete_ids"),
]
