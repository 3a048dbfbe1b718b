"""The conformance kit on what every plugin serves: health, reflection, credentials, sizes, odd bytes."""

from __future__ import annotations

import time
from typing import Any

import hector_plugins_pb2 as pb
import hector_plugins_pb2_grpc as rpc
import pytest
from google.protobuf import any_pb2, duration_pb2, struct_pb2
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.rpc import status_pb2
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2

from host.check import serving as serving_claims
from host.check.contract import FIRST_ADDITION, GUIDE_RPCS, SERVICES
from host.check.runner import FAILED, KINDS, NOT_OFFERED, PASSED
from host.check.subject import Options
from shared.client import Address
from shared.units import Secret
from tests.check_faults import database, database_full, embedder, lenient, llm, reasoning, serving, tools
from tests.check_kit import outcomes, results
from tests.servers import served

add = rpc.add_DatabaseProviderServicer_to_server


def outcome(address: str, claim: str, kind: str = "database", **fields: Any) -> tuple[str, str]:
    (result,) = results(address, kind, "full", (claim,), **fields)
    return result.outcome, result.message


def test_missing_health() -> None:
    """A plugin without a name of health, or without health at all, is found."""
    with serving(add, database.Database(), "DatabaseProvider", names=("",)) as address:
        assert outcome(address, "health_names") == (FAILED, "health of 'plugin' is NOT_FOUND")
        assert outcome(address, "health_watch")[0] == FAILED
    with serving(add, database.Database(), "DatabaseProvider", names=("", "plugin", "no.such.Service")) as address:
        assert outcome(address, "health_unknown") == (FAILED, "it is SERVING")


def test_missing_reflection() -> None:
    """A plugin without reflection is found, and so is one whose reflection describes another service."""
    with serving(add, database.Database(), "DatabaseProvider", reflected=False) as address:
        assert outcome(address, "reflected")[1].startswith("the server has no reflection")
        assert outcome(address, "listed")[0] == FAILED
    with serving(add, database.Database(), "EmbedderProvider") as address:
        assert outcome(address, "listed")[1] == "reflection does not list hector.plugins.v1.DatabaseProvider"


def test_small_requests() -> None:
    """A plugin that keeps gRPC's bound of 4 MiB is found."""
    with serving(add, database.Database(), "DatabaseProvider", most_bytes=4 << 20) as address:
        assert "RESOURCE_EXHAUSTED" in outcome(address, "large_request")[1]


@pytest.mark.slow
@pytest.mark.parametrize("most", [8 << 20, 256 << 20], ids=["small", "any"])
def test_other_bounds(most: int) -> None:
    """A plugin that takes less than 64 MiB is found, and so is one that takes whatever comes."""
    with serving(rpc.add_ToolProviderServicer_to_server, tools.Tools(), "ToolProvider", most_bytes=most) as address:
        claim = "largest_request" if most < 64 << 20 else "too_large_request"
        assert outcome(address, claim, "tools")[0] == FAILED
        other = "too_large_request" if most < 64 << 20 else "largest_request"
        assert outcome(address, other, "tools") == (PASSED, "")


def test_a_token() -> None:
    """With a token the credentials are tried, and one that asks for none is found."""
    options = Options(token="yes")

    def register(server: Any) -> None:
        add(database.Database(), server)

    from plugins.vector_hnsw.config import Config

    config = Config(port=0, token=Secret("t0ken"))
    with served(config, "hector.plugins.v1.DatabaseProvider", register) as guarded:
        address = Address(guarded.address, Secret("t0ken"))
        for claim in ("token_is_asked", "health_without_token", "health_names"):
            (result,) = results("", "database", "guide", (claim,), options=options, at=address)
            assert (result.outcome, result.message) == (PASSED, "")
    with serving(add, database.Database(), "DatabaseProvider") as open_address:
        found = outcome(open_address, "token_is_asked", options=options)
        assert found == (FAILED, "CreateCollection was answered without the token")


class Yes(database.Database):
    def SearchVectors(self, request: Any, context: Any) -> Any:
        return (
            pb.SearchVectorsResponse(success=True)
            if not request.ByteSize()
            else super().SearchVectors(request, context)
        )


class Empty(tools.Tools):
    def ExecuteTool(self, request: Any, context: Any) -> Any:
        return pb.ExecuteToolResponse(success=True)


class NewRun(reasoning.Strategy):
    def ProcessIteration(self, request: Any, context: Any) -> Any:
        return pb.ProcessIterationResponse(success=True)


class Greets(llm.Model):
    def check(self, request: Any, context: Any) -> None:
        pass

    def turn(self, request: Any, context: Any, reply: Any, **more: Any) -> Any:
        return reply(text="hello")


@pytest.mark.parametrize(
    ("kind", "servicer"),
    [
        ("database", Yes()),
        ("embedder", embedder.EmptyIsAText()),
        ("tools", Empty()),
        ("reasoning", NewRun("127.0.0.1:1", "127.0.0.1:1")),
        ("llm", Greets("http://127.0.0.1:1")),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_bytes_taken_for_a_message(kind: str, servicer: Any) -> None:
    """A plugin that takes bytes that are no message for an empty one is found."""
    adds = lenient(getattr(rpc, f"add_{SERVICES[kind]}Servicer_to_server"))
    with serving(adds, servicer, SERVICES[kind]) as address:
        result, message = outcome(address, "broken_bytes", kind)
        assert result == FAILED
        assert "took" in message or "were taken" in message


def test_every_claim_has_its_fault() -> None:
    """There is no claim for which no wrong plugin is known, and for each kind there are at least twenty."""
    faults = {
        "database": [*database.FAULTS, *database_full.FAULTS],
        "embedder": embedder.FAULTS,
        "llm": llm.FAULTS,
        "tools": tools.FAULTS,
        "reasoning": reasoning.FAULTS,
    }
    for kind, known in faults.items():
        assert len({fault.plugin for fault in known}) >= 20
        claims = [claim.name for group in KINDS[kind] for claim in group]
        assert len(set(claims)) == len(claims), "two claims of one name"
        assert set(claims) - {fault.claim for fault in known} <= {"broken_bytes", "large_request"}  # above


def test_claims_are_sentences() -> None:
    """Each claim is a sentence, with what it holds to and a name that no other claim of its kind has."""
    for groups in ((serving_claims.claims,), *KINDS.values()):
        for group in groups:
            for claim in group:
                assert claim.sentence[0].isupper() or claim.sentence.startswith(
                    ("`", "min_", "max_", "metadata_", "must")
                )
                assert claim.sentence.endswith(".")
                assert claim.contract.rstrip(".")
                assert claim.level in ("guide", "full")


def test_a_server_that_stops_answering() -> None:
    """After three calls without an answer the rest is not tried: the kit does not hang with the plugin."""

    class Hangs(database.Database):
        def CreateCollection(self, request: Any, context: Any) -> Any:
            while context.is_active():
                time.sleep(0.05)

    with serving(add, Hangs(), "DatabaseProvider") as address:
        found = outcomes(address, "database", options=Options(seconds=0.2))
    untried = [message for _, message in found.values() if message.startswith("not tried")]
    assert len(untried) > 20


def guide_alone() -> DescriptorPool:
    """The contract's file without its additions, as somebody would write it who has only the guide."""
    file = FileDescriptorProto()
    pb.DESCRIPTOR.CopyToProto(file)
    for message in file.message_type:
        kept = [field for field in message.field if field.number < FIRST_ADDITION]
        del message.field[:]
        message.field.extend(kept)
        for field in message.field:
            field.ClearField("proto3_optional")
            field.ClearField("oneof_index")
        del message.oneof_decl[:]
    for service in file.service:
        kind = next(kind for kind, name in SERVICES.items() if name == service.name)
        named = [method for method in service.method if method.name in GUIDE_RPCS[kind]]
        del service.method[:]
        service.method.extend(named)
    pool = DescriptorPool()
    for known in (any_pb2, duration_pb2, struct_pb2, status_pb2, health_pb2, reflection_pb2):
        pool.AddSerializedFile(known.DESCRIPTOR.serialized_pb)
    pool.AddSerializedFile(file.SerializeToString())
    return pool


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "servicer"),
    [("database", database.Database()), ("embedder", embedder.Embedder())],
    ids=["database", "embedder"],
)
def test_the_guide_alone_is_not_wrong(kind: str, servicer: Any) -> None:
    """A plugin whose own .proto has but the guide's RPCs and fields fails nothing: the additions it does not offer."""
    adds = getattr(rpc, f"add_{SERVICES[kind]}Servicer_to_server")
    with serving(adds, servicer, SERVICES[kind], pool=guide_alone()) as address:
        found = outcomes(address, kind, "full")
    assert {name: outcome for name, outcome in found.items() if outcome[0] == FAILED} == {}
    assert sum(outcome == NOT_OFFERED for outcome, _ in found.values()) > 5
