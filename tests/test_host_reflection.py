"""host/reflection.py: a server that this project has no generated module of, described and called."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest
from google.protobuf import struct_pb2
from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from google.rpc import error_details_pb2, status_pb2
from grpc_reflection.v1alpha import reflection, reflection_pb2

from host.reflection import PATHS, Reflection, ReflectionError
from shared.client import Address, channel

SHOP = FileDescriptorProto(name="far/away/shop.proto", package="far.away", syntax="proto3")
SHOP.dependency.extend(["google/protobuf/struct.proto", "far/away/note.proto"])
NOTE = FileDescriptorProto(name="far/away/note.proto", package="far.away", syntax="proto3")
NOTE.dependency.extend(["google/rpc/status.proto"])


def _message(file: FileDescriptorProto, name: str, **fields: str) -> None:
    message = file.message_type.add(name=name)
    for number, (field, kind) in enumerate(fields.items(), 1):
        added = message.field.add(name=field, number=number, label=FieldDescriptorProto.LABEL_OPTIONAL)
        if kind.startswith("*"):
            added.label, kind = FieldDescriptorProto.LABEL_REPEATED, kind[1:]
        if kind.startswith("."):
            added.type, added.type_name = FieldDescriptorProto.TYPE_MESSAGE, kind
        else:
            added.type = FieldDescriptorProto.Type.Value("TYPE_" + kind.upper())


_message(NOTE, "Note", line_text="string", status=".google.rpc.Status")
_message(SHOP, "Order", what="string", how_many="int64", more="*string", extra=".google.protobuf.Struct")
_message(SHOP, "Bill", lines="*string", note=".far.away.Note")
_service = SHOP.service.add(name="Shop")
for _name, _up, _down in (("Buy", 0, 0), ("Collect", 1, 0), ("Watch", 0, 1), ("Haggle", 1, 1)):
    _service.method.add(
        name=_name,
        input_type=".far.away.Order",
        output_type=".far.away.Bill",
        client_streaming=bool(_up),
        server_streaming=bool(_down),
    )


def shop_pool() -> DescriptorPool:
    pool = DescriptorPool()
    for known in (struct_pb2, status_pb2):
        for file in (*known.DESCRIPTOR.dependencies, known.DESCRIPTOR):
            pool.AddSerializedFile(file.serialized_pb)
    for made in (NOTE, SHOP):
        pool.AddSerializedFile(made.SerializeToString())
    return pool


@contextlib.contextmanager
def shop(path: str) -> Iterator[Reflection]:
    """A served shop that answers reflection at `path` alone."""
    pool = shop_pool()
    order: type[Any] = GetMessageClass(pool.FindMessageTypeByName("far.away.Order"))
    bill: type[Any] = GetMessageClass(pool.FindMessageTypeByName("far.away.Bill"))

    def buy(request: Any, context: grpc.ServicerContext) -> Message:
        reply = bill(lines=[f"{request.how_many} {request.what}", *request.more, *sorted(request.extra)])
        reply.note.status.details.add().Pack(error_details_pb2.ErrorInfo(reason="SOLD"))
        return reply  # type: ignore[no-any-return]

    def collect(requests: Iterator[Any], context: grpc.ServicerContext) -> Message:
        return bill(lines=[request.what for request in requests])  # type: ignore[no-any-return]

    def watch(request: Any, context: grpc.ServicerContext) -> Iterator[Message]:
        for number in range(request.how_many):
            yield bill(lines=[str(number)])

    def haggle(requests: Iterator[Any], context: grpc.ServicerContext) -> Iterator[Message]:
        for request in requests:
            yield bill(lines=[request.what.upper()])

    codec: dict[str, Any] = {
        "request_deserializer": order.FromString,
        "response_serializer": lambda message: message.SerializeToString(),
    }
    names = ("far.away.Shop", "grpc.reflection.v1alpha.ServerReflection")
    answer = reflection.ReflectionServicer(names, pool=pool).ServerReflectionInfo
    server = grpc.server(ThreadPoolExecutor(4))
    service, method = path.strip("/").split("/")
    server.add_generic_rpc_handlers(
        (
            grpc.method_handlers_generic_handler(
                "far.away.Shop",
                {
                    "Buy": grpc.unary_unary_rpc_method_handler(buy, **codec),
                    "Collect": grpc.stream_unary_rpc_method_handler(collect, **codec),
                    "Watch": grpc.unary_stream_rpc_method_handler(watch, **codec),
                    "Haggle": grpc.stream_stream_rpc_method_handler(haggle, **codec),
                },
            ),
            grpc.method_handlers_generic_handler(
                service,
                {
                    method: grpc.stream_stream_rpc_method_handler(
                        answer,
                        request_deserializer=reflection_pb2.ServerReflectionRequest.FromString,
                        response_serializer=reflection_pb2.ServerReflectionResponse.SerializeToString,
                    )
                },
            ),
        )
    )
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        with channel(Address(f"127.0.0.1:{port}")) as opened:
            yield Reflection(opened)
    finally:
        server.stop(None)


def replies(server: Reflection, name: str, *requests: Any) -> list[Any]:
    return [json.loads(server.json(reply)) for reply in server.call(server.method(name), requests, seconds=120)]


@pytest.mark.parametrize("path", PATHS)
def test_services_and_methods(path: str) -> None:
    """Reflection v1 and v1alpha alone both do; plumbing is left out of `offered`, methods come in the file's order."""
    with shop(path) as server:
        assert server.services() == ["far.away.Shop", "grpc.reflection.v1alpha.ServerReflection"]
        assert server.offered() == ["far.away.Shop"]
        assert [method.signature for method in server.methods("far.away.Shop")] == [
            "rpc Buy(Order) returns (Bill)",
            "rpc Collect(stream Order) returns (Bill)",
            "rpc Watch(Order) returns (stream Bill)",
            "rpc Haggle(stream Order) returns (stream Bill)",
        ]
        assert server.method("Shop.Buy").path == server.method("/far.away.Shop/Buy").path == "/far.away.Shop/Buy"
        assert server.example(server.method("Buy").request) == {"what": "", "how_many": 0, "more": [""], "extra": {}}


def test_calls() -> None:
    """All four shapes are called with JSON, as objects and as text; packed error details come out as JSON."""
    with shop(PATHS[0]) as server:
        bought = replies(server, "Buy", '{"what": "æpples", "howMany": "3", "more": ["x"], "extra": {"k": [1, null]}}')
        info = {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "SOLD"}
        assert bought == [{"lines": ["3 æpples", "x", "k"], "note": {"status": {"details": [info]}}}]
        assert replies(server, "Collect", {"what": "a"}, {"what": "b"}) == [{"lines": ["a", "b"]}]
        assert replies(server, "Watch", {"how_many": 2}) == [{"lines": ["0"]}, {"lines": ["1"]}]
        assert replies(server, "Haggle", {"what": "a"}, {"what": "b"}) == [{"lines": ["A"]}, {"lines": ["B"]}]


@pytest.mark.parametrize(
    ("name", "requests", "message"),
    [
        ("Bye", [{}], "no RPC Bye; did you mean Buy?"),
        ("Buy", [{"wat": "x"}], "Order has no field wat; did you mean what?"),
        ("Buy", ['{"what": '], "is no JSON"),
        ("Buy", ["[]"], "is a JSON object"),
        ("Buy", [{"how_many": "many"}], "does not fit Order"),
        ("Buy", [{}, {}], "takes one request, not 2"),
        ("Buy", [], "takes one request, not 0"),
    ],
)
def test_mistakes(name: str, requests: list[Any], message: str) -> None:
    """A name or a request that does not fit is one sentence, before anything is sent."""
    with shop(PATHS[1]) as server, pytest.raises(ReflectionError, match=message):
        replies(server, name, *requests)


def test_a_mistake_within_a_stream() -> None:
    """A request of a stream that does not fit ends the call with the sentence that says so."""
    with shop(PATHS[0]) as server:
        for name in ("Collect", "Haggle"):
            with pytest.raises(ReflectionError, match="no field wat"):
                replies(server, name, {"what": "a"}, {"wat": "b"})


def test_no_reflection() -> None:
    """A server without reflection is said to have none; one that cannot be reached is UNAVAILABLE."""
    server = grpc.server(ThreadPoolExecutor(1))
    address = Address(f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}")
    server.start()
    try:
        with channel(address) as opened, pytest.raises(ReflectionError, match="has no reflection"):
            Reflection(opened).services()
    finally:
        server.stop(None).wait()
    with channel(address) as opened, pytest.raises(grpc.RpcError) as caught:
        Reflection(opened).services()
    assert caught.value.code() == grpc.StatusCode.UNAVAILABLE
