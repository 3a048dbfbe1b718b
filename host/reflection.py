"""What any gRPC server offers, and a call of any of its RPCs with JSON, from what server reflection says alone.

    with channel(Address("127.0.0.1:8082")) as opened:
        server = Reflection(opened)
        for method in server.methods("hector.plugins.v1.DatabaseProvider"):
            print(method.signature)
        method = server.method("DatabaseProvider/ListCollections")
        for reply in server.call(method, [{}]):  # one reply, or a stream's, as they come
            print(server.json(reply))

Reflection v1 is asked first, then v1alpha, whose messages are the same on the wire. No generated module of the server
is needed, so it works for a server in any language and for RPCs that this project has never heard of.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import grpc
from google.protobuf import json_format, message_factory, text_format
from google.protobuf.descriptor import Descriptor, FieldDescriptor, MethodDescriptor, ServiceDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import DecodeError, Message
from google.rpc import error_details_pb2
from grpc_reflection.v1alpha.reflection_pb2 import ServerReflectionRequest, ServerReflectionResponse

from shared.errors import StartError
from shared.nearest import did_you_mean

PATHS = tuple(f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo" for version in ("v1", "v1alpha"))
_MOST_FILES = 1000  # of descriptors that one server may name
_PLUMBING = ("grpc.reflection.", "grpc.health.", "grpc.channelz.")


class ReflectionError(StartError):
    """The server has no reflection, or what it says cannot be used; also a request that does not fit."""


@dataclass(frozen=True)
class Method:
    """One RPC."""

    descriptor: MethodDescriptor

    @property
    def name(self) -> str:
        return str(self.descriptor.name)

    @property
    def path(self) -> str:
        return f"/{self.descriptor.containing_service.full_name}/{self.descriptor.name}"

    @property
    def request(self) -> Descriptor:
        return self.descriptor.input_type

    @property
    def reply(self) -> Descriptor:
        return self.descriptor.output_type

    @property
    def client_streaming(self) -> bool:
        return bool(self.descriptor.client_streaming)

    @property
    def server_streaming(self) -> bool:
        return bool(self.descriptor.server_streaming)

    @property
    def signature(self) -> str:
        """As in a .proto file: `rpc Name(stream Request) returns (Reply)`."""
        request = ("stream " if self.client_streaming else "") + self.request.name
        reply = ("stream " if self.server_streaming else "") + self.reply.name
        return f"rpc {self.name}({request}) returns ({reply})"


class Reflection:
    """One server, asked once; what it says is kept. Every method raises ReflectionError, and grpc.RpcError where the
    server could not be reached or refuses the credentials."""

    def __init__(self, channel: grpc.Channel, metadata: Sequence[tuple[str, str]] = (), seconds: float = 10.0) -> None:
        """`metadata` goes with every call; `seconds` bound each question to reflection."""
        self._channel = channel
        self._metadata = tuple(metadata)
        self._seconds = seconds
        self._path = ""
        self._pool = DescriptorPool()
        self._files: set[str] = set()

    def services(self) -> list[str]:
        """Full names, in the server's order."""
        reply = self._ask(ServerReflectionRequest(list_services="*"))
        return [service.name for service in reply.list_services_response.service]

    def offered(self) -> list[str]:
        """`services` without reflection and health: what the server is there for."""
        return [name for name in self.services() if not name.startswith(_PLUMBING)]

    def service(self, name: str) -> ServiceDescriptor:
        try:
            return self._pool.FindServiceByName(name)
        except KeyError:
            self._load(ServerReflectionRequest(file_containing_symbol=name), name)
        try:
            return self._pool.FindServiceByName(name)
        except KeyError:
            raise ReflectionError(f"reflection lists {name} and does not describe it") from None

    def methods(self, service: str) -> list[Method]:
        """In the order of the .proto file."""
        return [Method(method) for method in self.service(service).methods]

    def method(self, name: str) -> Method:
        """By `Method`, `Service/Method` or `package.Service/Method`, also with a dot for the slash; a name that fits
        several RPCs is an error."""
        service, _, last = name.strip("/").replace("/", ".").rpartition(".")
        hits: list[Method] = []
        known: list[str] = []
        for full_name in self.services():
            if service and full_name != service and not full_name.endswith("." + service):
                continue
            if not service and full_name.startswith(_PLUMBING):
                continue
            methods = self.methods(full_name)
            known += [method.name for method in methods]
            hits += [method for method in methods if method.name == last]
        if not hits:
            raise ReflectionError(f"the server has no RPC {name}{did_you_mean(last, known)}")
        if len(hits) > 1:
            raise ReflectionError(f"{name} is the name of several RPCs: {', '.join(hit.path[1:] for hit in hits)}")
        return hits[0]

    def call(
        self,
        method: Method,
        requests: Iterable[Mapping[str, Any] | str | Message],
        *,
        seconds: float | None = None,
        metadata: Sequence[tuple[str, str]] = (),
    ) -> Iterator[Message]:
        """The replies, as they come. Each request is a JSON object, its text, or a message of `build`; an RPC that
        takes a single one is given just one.

        A request that does not fit is a ReflectionError before anything is sent, within a stream when its turn comes.
        A failed call raises grpc.RpcError. Leaving the iterator early cancels the call.
        """
        kind = message_factory.GetMessageClass(method.reply)
        shape = f"{'stream' if method.client_streaming else 'unary'}_{'stream' if method.server_streaming else 'unary'}"
        rpc = getattr(self._channel, shape)(
            method.path,
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=kind.FromString,
        )
        mistakes: list[ReflectionError] = []  # gRPC takes requests in a thread of its own, where errors are lost

        def built() -> Iterator[Message]:
            for item in requests:
                try:
                    yield item if isinstance(item, Message) else self.build(method.request, item)
                except ReflectionError as error:
                    mistakes.append(error)
                    raise

        sent: Any = built()
        if not method.client_streaming:
            items = list(sent)
            if len(items) != 1:
                raise ReflectionError(f"{method.name} takes one request, not {len(items)}")
            sent = items[0]
        answer = None
        try:
            answer = rpc(sent, timeout=seconds, metadata=(*self._metadata, *metadata))
            yield from answer if method.server_streaming else (answer,)
        except grpc.RpcError as error:
            raise mistakes[0] if mistakes else error from None
        finally:
            if answer is not None and method.server_streaming:
                answer.cancel()

    def build(self, kind: Descriptor, value: Mapping[str, Any] | str) -> Message:
        """A message of `kind` from a JSON object or its text; fields go by their name in the .proto or by their JSON
        name. What does not fit is a ReflectionError that says where."""
        if isinstance(value, str):
            try:
                value = json.loads(value)
            except (ValueError, RecursionError) as error:
                raise ReflectionError(f"the request is no JSON: {error}") from None
        if not isinstance(value, Mapping):
            raise ReflectionError(f"the request of {kind.name} is a JSON object, such as {{}}")
        for name in value:
            if name not in kind.fields_by_name and name not in kind.fields_by_camelcase_name:
                known = [field.name for field in kind.fields]
                raise ReflectionError(f"{kind.name} has no field {name}{did_you_mean(name, known)}")
        message = message_factory.GetMessageClass(kind)()
        try:
            json_format.ParseDict(dict(value), message, descriptor_pool=self._pool)
        except (json_format.ParseError, RecursionError) as error:
            raise ReflectionError(f"the request does not fit {kind.name}: {error}") from None
        return message

    def json(self, message: Message, *, indent: int | None = 2) -> str:
        """A message as JSON text with the .proto's field names; text format where something in it has no JSON."""
        try:
            return json_format.MessageToJson(
                message,
                preserving_proto_field_name=True,
                indent=indent,
                ensure_ascii=False,
                descriptor_pool=self._pool,
            )
        except (TypeError, ValueError, RecursionError, json_format.SerializeToJsonError):
            return str(text_format.MessageToString(message, as_utf8=True, descriptor_pool=self._pool))

    def example(self, kind: Descriptor) -> dict[str, Any]:
        """A request to edit: every field of `kind` with a value of its type, messages inside it as `{}`."""
        return {field.name: _example(field) for field in kind.fields}

    def _load(self, request: ServerReflectionRequest, what: str) -> None:
        """Adds the file that is asked for, and all those it imports, to the pool."""
        files = self._described(request, what)
        waiting = list(files.values())
        while waiting:  # what was not sent along
            for name in waiting.pop().dependency:
                if name not in files and name not in self._files:
                    more = self._described(ServerReflectionRequest(file_by_filename=name), name)
                    waiting += [more[key] for key in more.keys() - files.keys()]
                    files = {**more, **files}
                    if name not in files:
                        raise ReflectionError(f"reflection does not describe {name}, which it names")
                    if len(files) > _MOST_FILES:
                        raise ReflectionError(f"reflection names more than {_MOST_FILES} files for {what}")
        # An error's details come packed, so that no file of the server need name their types.
        details = FileDescriptorProto.FromString(error_details_pb2.DESCRIPTOR.serialized_pb)
        files.setdefault(details.name, details)
        durations = FileDescriptorProto()
        error_details_pb2.DESCRIPTOR.dependencies[0].CopyToProto(durations)
        files.setdefault(durations.name, durations)
        for name in list(files):
            self._add(name, files, set())

    def _add(self, name: str, files: Mapping[str, FileDescriptorProto], above: set[str]) -> None:
        """Those first that it imports: a pool takes no file before them."""
        if name in self._files:
            return
        if name in above:
            raise ReflectionError(f"reflection says that {name} imports itself")
        for needed in files[name].dependency:
            self._add(needed, files, above | {name})
        try:
            self._pool.AddSerializedFile(files[name].SerializeToString())
        except (TypeError, ValueError) as error:
            raise ReflectionError(f"reflection's {name} cannot be used: {' '.join(str(error).split())}") from None
        self._files.add(name)

    def _described(self, request: ServerReflectionRequest, what: str) -> dict[str, FileDescriptorProto]:
        reply = self._ask(request)
        if reply.WhichOneof("message_response") != "file_descriptor_response":
            why = reply.error_response.error_message or "no description"
            raise ReflectionError(f"reflection knows nothing of {what}: {why}")
        try:
            files = map(FileDescriptorProto.FromString, reply.file_descriptor_response.file_descriptor_proto)
            return {file.name: file for file in files}
        except DecodeError:
            raise ReflectionError(f"reflection's description of {what} is no file descriptor") from None

    def _ask(self, request: ServerReflectionRequest) -> ServerReflectionResponse:
        for path in (self._path,) if self._path else PATHS:
            rpc = self._channel.stream_stream(
                path,
                request_serializer=ServerReflectionRequest.SerializeToString,
                response_deserializer=ServerReflectionResponse.FromString,
            )
            answers = rpc(iter([request]), timeout=self._seconds, metadata=self._metadata)
            try:
                answer: ServerReflectionResponse = next(answers)
            except StopIteration:
                raise ReflectionError("the server's reflection gave no answer") from None
            except grpc.RpcError as error:
                if error.code() != grpc.StatusCode.UNIMPLEMENTED:
                    raise
            else:
                answers.cancel()
                self._path = path
                return answer
        raise ReflectionError("the server has no reflection (neither grpc.reflection.v1 nor v1alpha)")


def _example(field: FieldDescriptor) -> Any:
    value: Any
    if field.message_type is not None:
        value = {}
        if field.message_type.GetOptions().map_entry:
            return {}
    elif field.enum_type is not None:
        value = field.enum_type.values[0].name
    elif field.cpp_type == FieldDescriptor.CPPTYPE_BOOL:
        value = False
    elif field.cpp_type == FieldDescriptor.CPPTYPE_STRING:
        value = ""
    else:
        value = 0
    return [value] if field.is_repeated else value
