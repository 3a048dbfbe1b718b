"""A plugin before vector_hnsw that passes on every call, and many that change one thing in passing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import grpc
import hector_plugins_pb2 as pb
from hector_plugins_pb2_grpc import DatabaseProviderServicer, DatabaseProviderStub

from shared.errors import Code
from tests.check_faults import Fault


class Proxy(DatabaseProviderServicer):
    """Passes on. What the wrong ones change is what is sent (`out`) or what comes back (`back`)."""

    def __init__(self, channel: grpc.Channel) -> None:
        self.stub = DatabaseProviderStub(channel)

    def out(self, rpc: str, request: Any) -> None:
        pass

    def back(self, rpc: str, request: Any, reply: Any) -> None:
        pass

    def passed(self, rpc: str, request: Any, context: grpc.ServicerContext) -> Any:
        self.out(rpc, request)
        metadata = [(key, value) for key, value in context.invocation_metadata() if key.startswith("x-")]
        try:
            reply = getattr(self.stub, rpc)(request, timeout=60, metadata=metadata)
        except grpc.RpcError as error:
            reply = self.failed(context, error)
        self.back(rpc, request, reply)
        return reply

    def failed(self, context: grpc.ServicerContext, error: Any) -> Any:
        details = (item for item in error.trailing_metadata() or () if item[0] == "grpc-status-details-bin")
        context.set_trailing_metadata(tuple(details))
        context.abort(error.code(), error.details())

    def UpsertVectorsStream(self, requests: Iterator[Any], context: grpc.ServicerContext) -> Iterator[Any]:
        for request in requests:
            yield self.passed("UpsertVectors", request, context)

    def SearchVectorsStream(self, requests: Iterator[Any], context: grpc.ServicerContext) -> Iterator[Any]:
        for request in requests:
            yield self.passed("SearchVectors", request, context)


for _method in pb.DESCRIPTOR.services_by_name["DatabaseProvider"].methods:
    if not _method.client_streaming:

        def _pass(self: Any, request: Any, context: Any, rpc: str = _method.name) -> Any:
            return self.passed(rpc, request, context)

        setattr(Proxy, _method.name, _pass)


class NoStatus(Proxy):
    def back(self, rpc: str, request: Any, reply: Any) -> None:
        if "status" in reply.DESCRIPTOR.fields_by_name:
            reply.ClearField("status")


class InvalidIsInternal(Proxy):
    def back(self, rpc: str, request: Any, reply: Any) -> None:
        if "status" in reply.DESCRIPTOR.fields_by_name and reply.status.code == Code.NOT_FOUND:
            reply.status.code = Code.INTERNAL


class NoFields(Proxy):
    def back(self, rpc: str, request: Any, reply: Any) -> None:
        if "status" in reply.DESCRIPTOR.fields_by_name and reply.HasField("status"):
            del reply.status.details[1:]


class StatusOnSuccess(Proxy):
    def back(self, rpc: str, request: Any, reply: Any) -> None:
        if rpc == "UpsertVectors" and reply.success:
            reply.status.message = "fine"


class CountsTheRequest(Proxy):
    def back(self, rpc: str, request: Any, reply: Any) -> None:
        if rpc == "DeleteVectors":
            reply.deleted_count = len(request.ids)


class NeverCreated(Proxy):
    def back(self, rpc: str, request: Any, reply: Any) -> None:
        if rpc == "CreateCollection":
            reply.created = False


class SequenceStands(Proxy):
    def back(self, rpc: str, request: Any, reply: Any) -> None:
        if "sequence" in reply.DESCRIPTOR.fields_by_name and reply.sequence:
            reply.sequence = 1


class AlwaysIfNotExists(Proxy):
    """What exists is a success, whatever its parameters."""

    def back(self, rpc: str, request: Any, reply: Any) -> None:
        if rpc == "CreateCollection" and not reply.success:
            reply.Clear()
            reply.success = True


class IgnoresMetric(Proxy):
    def out(self, rpc: str, request: Any) -> None:
        if rpc == "CreateCollection":
            request.metric = pb.METRIC_COSINE


class DistanceNotScore(Proxy):
    def back(self, rpc: str, request: Any, reply: Any) -> None:
        if rpc == "SearchVectors":
            for hit in reply.results:
                hit.score = 1 / hit.score - 1 if hit.score > 0 else hit.score


class IgnoresModel(Proxy):
    def passed(self, rpc: str, request: Any, context: grpc.ServicerContext) -> Any:
        return getattr(self.stub, rpc)(request, timeout=60)


class ListsNoCount(Proxy):
    def back(self, rpc: str, request: Any, reply: Any) -> None:
        if rpc == "DescribeCollection":
            reply.collection.count = 0


class ThresholdWins(Proxy):
    def out(self, rpc: str, request: Any) -> None:
        if rpc == "SearchVectors" and request.threshold:
            request.ClearField("min_score")


class ZeroMinScoreIsNone(Proxy):
    def out(self, rpc: str, request: Any) -> None:
        if rpc == "SearchVectors" and request.min_score == 0:
            request.ClearField("min_score")


class NeverExact(Proxy):
    def back(self, rpc: str, request: Any, reply: Any) -> None:
        if rpc == "SearchVectors":
            reply.exact = False


class IgnoresOffset(Proxy):
    def out(self, rpc: str, request: Any) -> None:
        if rpc == "SearchVectors":
            request.offset = 0


class PagesOverlap(Proxy):
    def out(self, rpc: str, request: Any) -> None:
        if rpc == "SearchVectors" and request.offset:
            request.offset -= 1


class NeverComplete(Proxy):
    def back(self, rpc: str, request: Any, reply: Any) -> None:
        if rpc == "SearchVectors":
            reply.complete = False


class AlwaysVectors(Proxy):
    def out(self, rpc: str, request: Any) -> None:
        if rpc == "SearchVectors":
            request.include_vectors = True


class BatchShuffled(Proxy):
    def back(self, rpc: str, request: Any, reply: Any) -> None:
        if rpc == "SearchVectorsBatch":
            replies = list(reply.responses)[::-1]
            del reply.responses[:]
            reply.responses.extend(replies)


class SearchStreamBackwards(Proxy):
    def SearchVectorsStream(self, requests: Iterator[Any], context: grpc.ServicerContext) -> Iterator[Any]:
        yield from list(super().SearchVectorsStream(requests, context))[::-1]


class SearchStreamEndsAtTheFirst(Proxy):
    """One bad message ends the stream."""

    def SearchVectorsStream(self, requests: Iterator[Any], context: grpc.ServicerContext) -> Iterator[Any]:
        for reply in super().SearchVectorsStream(requests, context):
            yield reply
            if not reply.success:
                return


class FilterAfterLimit(Proxy):
    """It takes the nearest, and of these what matches."""

    def passed(self, rpc: str, request: Any, context: grpc.ServicerContext) -> Any:
        if rpc != "SearchVectors" or not request.HasField("filter"):
            return super().passed(rpc, request, context)
        wide = pb.SearchVectorsRequest()
        wide.CopyFrom(request)
        wide.ClearField("filter")
        near = {hit.id for hit in self.stub.SearchVectors(wide, timeout=60).results}
        reply = self.stub.SearchVectors(request, timeout=60)
        kept = [hit for hit in reply.results if hit.id in near]
        del reply.results[:]
        reply.results.extend(kept)
        return reply


class IgnoresFilter(Proxy):
    def out(self, rpc: str, request: Any) -> None:
        if rpc == "SearchVectors":
            request.ClearField("filter")


class GteIsGt(Proxy):
    def out(self, rpc: str, request: Any) -> None:
        if rpc == "SearchVectors":
            for condition in request.filter.must:
                if condition.compare.op == pb.OPERATOR_GTE:
                    condition.compare.op = pb.OPERATOR_GT


class ShouldIsMust(Proxy):
    def out(self, rpc: str, request: Any) -> None:
        if rpc == "SearchVectors":
            request.filter.must.extend(request.filter.should)


class DoublesOnly(Proxy):
    """Integers go through a double."""

    def out(self, rpc: str, request: Any) -> None:
        if rpc == "SearchVectors":
            for condition in request.filter.must:
                if condition.compare.value_json.isdigit():
                    condition.compare.value_json = str(int(float(condition.compare.value_json)))


class CountsAll(Proxy):
    def out(self, rpc: str, request: Any) -> None:
        if rpc == "CountVectors":
            request.ClearField("filter")


class EmptyFilterIsAll(Proxy):
    def out(self, rpc: str, request: Any) -> None:
        if rpc == "DeleteVectors" and request.HasField("filter") and not request.filter.ByteSize():
            request.filter.must_not.add().exists = "no such field"


class IdsWithoutFilter(Proxy):
    def out(self, rpc: str, request: Any) -> None:
        if rpc == "DeleteVectors" and request.ids:
            request.ClearField("filter")


class DryRunDeletes(Proxy):
    def out(self, rpc: str, request: Any) -> None:
        if rpc == "DeleteVectors":
            request.dry_run = False


class Rounds(Proxy):
    def back(self, rpc: str, request: Any, reply: Any) -> None:
        if rpc == "GetVectors":
            for vector in reply.vectors:
                vector.vector[:] = [round(value, 6) for value in vector.vector]


class GetsInItsOwnOrder(Proxy):
    def back(self, rpc: str, request: Any, reply: Any) -> None:
        if rpc == "GetVectors":
            ordered = sorted(reply.vectors, key=lambda vector: vector.id)
            del reply.vectors[:]
            reply.vectors.extend(ordered)


class MissingIsSilent(Proxy):
    def back(self, rpc: str, request: Any, reply: Any) -> None:
        if rpc == "GetVectors":
            del reply.missing_ids[:]


class LosesFromPages(Proxy):
    def back(self, rpc: str, request: Any, reply: Any) -> None:
        if rpc == "ListVectors" and request.page_token:
            del reply.vectors[0]


class OnePage(Proxy):
    def back(self, rpc: str, request: Any, reply: Any) -> None:
        if rpc == "ListVectors":
            reply.next_page_token = ""


class PartialInSilence(Proxy):
    def back(self, rpc: str, request: Any, reply: Any) -> None:
        if rpc == "UpsertVectors":
            del reply.errors[:]


class IgnoresMode(Proxy):
    def out(self, rpc: str, request: Any) -> None:
        if rpc == "UpsertVectors":
            request.mode = pb.UPSERT_MODE_UNSPECIFIED


class StructBeforeJson(Proxy):
    def out(self, rpc: str, request: Any) -> None:
        if rpc == "UpsertVectors":
            for vector in request.vectors:
                if vector.metadata.fields:
                    vector.metadata_json = ""


class StreamEndsAtTheFirst(Proxy):
    """One bad message ends the stream."""

    def UpsertVectorsStream(self, requests: Iterator[Any], context: grpc.ServicerContext) -> Iterator[Any]:
        for reply in super().UpsertVectorsStream(requests, context):
            yield reply
            if not reply.success:
                return


class StreamAnswersFirst(Proxy):
    """It says yes before it has looked at the vectors."""

    def UpsertVectorsStream(self, requests: Iterator[Any], context: grpc.ServicerContext) -> Iterator[Any]:
        for request in requests:
            yield pb.UpsertVectorsResponse(success=True, upserted_count=len(request.vectors))


class RestoresNothing(Proxy):
    def passed(self, rpc: str, request: Any, context: grpc.ServicerContext) -> Any:
        if rpc == "RestoreSnapshot" and request.name == "check":
            return pb.RestoreSnapshotResponse(success=True)
        return super().passed(rpc, request, context)


class AnySnapshotName(Proxy):
    def out(self, rpc: str, request: Any) -> None:
        if rpc == "CreateSnapshot":
            request.name = request.name.replace("/", "_").strip(".") or "unnamed"


class BreaksOff(Proxy):
    """What is too large for a client the client breaks off."""

    def failed(self, context: grpc.ServicerContext, error: Any) -> Any:
        if error.code() == grpc.StatusCode.RESOURCE_EXHAUSTED:
            return pb.SearchVectorsResponse(success=True, results=[pb.VectorResult(id="x" * (5 << 20))])
        return super().failed(context, error)


class StreamAnswersAtTheEnd(Proxy):
    def UpsertVectorsStream(self, requests: Iterator[Any], context: grpc.ServicerContext) -> Iterator[Any]:
        yield from super().UpsertVectorsStream(iter(list(requests)), context)


class ListsAll(Proxy):
    def out(self, rpc: str, request: Any) -> None:
        if rpc == "ListVectors":
            request.ClearField("filter")


class AlwaysAStruct(Proxy):
    def out(self, rpc: str, request: Any) -> None:
        if "metadata_as_json" in request.DESCRIPTOR.fields_by_name:
            request.metadata_as_json = False


class UpdateReplaces(Proxy):
    def out(self, rpc: str, request: Any) -> None:
        if rpc == "UpdateMetadata":
            request.mode = pb.METADATA_MODE_REPLACE
            for update in request.updates:
                del update.remove_keys[:]


class MissingUpdateIsFine(Proxy):
    def back(self, rpc: str, request: Any, reply: Any) -> None:
        if rpc == "UpdateMetadata" and not reply.success:
            reply.Clear()
            reply.success = True


class CountsNoUpdate(Proxy):
    def back(self, rpc: str, request: Any, reply: Any) -> None:
        if rpc == "UpdateMetadata" and request.HasField("filter"):
            reply.updated_count = len(request.updates)


class AliasStays(Proxy):
    """It says that it moved an alias, and did not."""

    def passed(self, rpc: str, request: Any, context: grpc.ServicerContext) -> Any:
        known = self.__dict__.setdefault("known", {})
        if rpc == "SetAlias" and request.alias in known:
            return pb.SetAliasResponse(success=True, previous_collection=known[request.alias])
        if rpc == "SetAlias":
            known[request.alias] = request.collection
        return super().passed(rpc, request, context)


class AnyExpected(Proxy):
    def out(self, rpc: str, request: Any) -> None:
        if rpc == "SetAlias":
            request.ClearField("expected_collection")


class OwnParameters(Proxy):
    def out(self, rpc: str, request: Any) -> None:
        if rpc == "CreateCollection":
            request.ClearField("index")


class ForgetsTheTarget(Proxy):
    def back(self, rpc: str, request: Any, reply: Any) -> None:
        if rpc == "DescribeCollection":
            reply.collection.index.ClearField("target_recall")


class NotEqualIsEqual(Proxy):
    def out(self, rpc: str, request: Any) -> None:
        if rpc == "SearchVectors":
            for condition in request.filter.must:
                if condition.compare.op == pb.OPERATOR_NE:
                    condition.compare.op = pb.OPERATOR_EQ


FAULTS = [
    Fault(BreaksOff, "large_reply", "full"),
    Fault(StreamAnswersAtTheEnd, "upsert_stream_as_it_goes", "full", seconds=1),
    Fault(ListsAll, "list_matches", "full"),
    Fault(AlwaysAStruct, "metadata_as_json", "full"),
    Fault(UpdateReplaces, "update_metadata", "full"),
    Fault(MissingUpdateIsFine, "update_missing", "full"),
    Fault(CountsNoUpdate, "update_by_filter", "full"),
    Fault(AliasStays, "aliases", "full"),
    Fault(AnyExpected, "alias_refusals", "full"),
    Fault(OwnParameters, "index_parameters", "full"),
    Fault(ForgetsTheTarget, "target_recall", "full"),
    Fault(NotEqualIsEqual, "operators", "full"),
    Fault(NoStatus, "error_codes", "full"),
    Fault(InvalidIsInternal, "error_codes", "full"),
    Fault(NoFields, "error_fields", "full"),
    Fault(StatusOnSuccess, "clean_success", "full"),
    Fault(CountsTheRequest, "counts", "full"),
    Fault(NeverCreated, "counts", "full"),
    Fault(SequenceStands, "sequence", "full"),
    Fault(AlwaysIfNotExists, "if_not_exists", "full"),
    Fault(IgnoresMetric, "dot", "full"),
    Fault(IgnoresMetric, "described", "full"),
    Fault(IgnoresMetric, "zero_vector", "full"),
    Fault(DistanceNotScore, "euclidean", "full"),
    Fault(IgnoresModel, "embedding_model", "full"),
    Fault(ListsNoCount, "described", "full"),
    Fault(ThresholdWins, "min_score", "full"),
    Fault(ZeroMinScoreIsNone, "min_score", "full"),
    Fault(NeverExact, "exact", "full"),
    Fault(IgnoresOffset, "offset", "full"),
    Fault(PagesOverlap, "offset", "full"),
    Fault(NeverComplete, "complete", "full"),
    Fault(AlwaysVectors, "included", "full"),
    Fault(BatchShuffled, "search_batch", "full"),
    Fault(SearchStreamBackwards, "search_stream", "full"),
    Fault(SearchStreamEndsAtTheFirst, "search_stream", "full"),
    Fault(FilterAfterLimit, "filtered_limit", "full"),
    Fault(IgnoresFilter, "operators", "full"),
    Fault(GteIsGt, "operators", "full"),
    Fault(ShouldIsMust, "filter_lists", "full"),
    Fault(IgnoresFilter, "bad_filters", "full"),
    Fault(DoublesOnly, "big_integers", "full"),
    Fault(CountsAll, "count", "full"),
    Fault(EmptyFilterIsAll, "delete_by_empty_filter", "full"),
    Fault(IdsWithoutFilter, "delete_by_filter", "full"),
    Fault(DryRunDeletes, "dry_run", "full"),
    Fault(Rounds, "bit_for_bit", "full"),
    Fault(GetsInItsOwnOrder, "get_vectors", "full"),
    Fault(MissingIsSilent, "get_vectors", "full"),
    Fault(LosesFromPages, "list_vectors", "full"),
    Fault(OnePage, "list_vectors", "full"),
    Fault(PartialInSilence, "partial", "full"),
    Fault(IgnoresMode, "upsert_modes", "full"),
    Fault(StructBeforeJson, "json_wins", "full"),
    Fault(StreamEndsAtTheFirst, "upsert_stream", "full"),
    Fault(StreamAnswersFirst, "upsert_stream", "full"),
    Fault(RestoresNothing, "snapshots", "full"),
    Fault(AnySnapshotName, "snapshot_names", "full"),
]
