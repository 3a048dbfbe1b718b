"""The plugin under check, as a claim calls it: by the name of an RPC, with a message of the contract."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from queue import SimpleQueue
from typing import Any

import grpc
import hector_plugins_pb2 as pb
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message_factory import GetMessageClass

from host.check.claims import Broken, NotAsked, NotOffered, expect
from host.check.contract import SERVICES
from host.check.offered import Offered
from host.check.partners import Partners
from host.check.process import Command
from host.check.refusal import Refusal, expect_code, expect_sentence, of_call, of_reply
from host.check.upstream import Upstream
from host.reflection import Reflection
from shared.client import Address, channel
from shared.errors import Code


@dataclass(frozen=True)
class Options:
    """What the operator gave and allows."""

    seconds: float = 30.0  # bound on each call
    prompt: str = ""  # may be sent to the model
    tool: str = ""  # may be run with `arguments`, again and again
    arguments: str = "{}"  # JSON
    token: str = ""  # not empty where the plugin asks for one


@dataclass(frozen=True)
class Exchange:
    """One call as it was made: the RPC, what was sent, what came."""

    rpc: str
    request: Any
    reply: Any  # a message, a list of them, or the grpc.RpcError


@dataclass
class Subject:
    """One plugin of one kind at one address. Every call is bounded, and raises Broken, NotOffered where it says so."""

    address: Address
    kind: str
    options: Options = field(default_factory=Options)
    level: str = "guide"
    run: Command | None = None  # how it is started, where the operator said so
    upstream: Upstream | None = None  # the kit's own endpoint, where it stands behind the plugin
    partners: Partners | None = None  # and its own model and tools

    def __post_init__(self) -> None:
        self.service = pb.DESCRIPTOR.services_by_name[SERVICES[self.kind]]
        self.channel = channel(self.address)
        self.exchanges: deque[Exchange] = deque(maxlen=100)
        self.silent = 0  # calls that ran into their bound
        reflection = Reflection(self.channel, self.address.metadata, self.options.seconds)
        self.offered = Offered(reflection, self.service)
        self._lock = threading.Lock()

    def close(self) -> None:
        self.channel.close()

    def at(self, address: Address) -> Subject:
        """The same plugin in another process; what it is asked is recorded here too."""
        other = replace(self, address=address)
        other.exchanges = self.exchanges
        return other

    @property
    def command(self) -> Command:
        """How it is started. Raises NotAsked."""
        if self.run is None:
            raise NotAsked("give --run")
        return self.run

    def needs(self, option: str) -> str:
        """What the operator gave as --OPTION. Raises NotAsked."""
        value = getattr(self.options, option)
        if not value:
            raise NotAsked(f"give --{option}")
        return str(value)

    def other_channel(self, largest: int = 2**31 - 2) -> grpc.Channel:
        """A connection of its own that takes replies of `largest` bytes; the caller closes it."""
        # gRPC lets channels to one address share a connection where their options are the same.
        opened: grpc.Channel = channel(self.address, largest=largest)
        return opened

    def call(self, rpc: str, request: Any, *, over: grpc.Channel | None = None, metadata: Any = ()) -> Any:
        """The reply, whatever it says. Raises NotOffered, and grpc.RpcError."""
        method = self.service.methods_by_name[rpc]
        assert not method.server_streaming
        assert not method.client_streaming
        self._expect_fields(rpc, request)
        began = time.monotonic()
        try:
            reply = self._rpc(method, over)(request, timeout=self.options.seconds, metadata=self._metadata(metadata))
        except grpc.RpcError as error:
            self._failed(rpc, request, error, began)
            raise
        self._record(rpc, request, reply)
        return reply

    def stream(self, rpc: str, request: Any, *, metadata: Any = ()) -> list[Any]:
        """Every reply of an RPC that streams its replies; `request` is a message, or a list where those are streamed
        too. Raises NotOffered, and Broken for any other gRPC status."""
        try:
            return self.stream_until_status(rpc, request, metadata=metadata)[0]
        except StreamFailed as ended:
            raise Broken(f"{rpc} ended with {_status(ended.error)}") from None

    def stream_until_status(self, rpc: str, request: Any, *, metadata: Any = ()) -> tuple[list[Any], Any]:
        """The replies that came. Raises NotOffered, and StreamFailed with them where the call failed."""
        replies: list[Any] = []
        began = time.monotonic()
        try:
            for reply in self.open(rpc, request, metadata=metadata):
                replies.append(reply)
        except grpc.RpcError as error:
            self._failed(rpc, request, error, began)
            raise StreamFailed(replies, error) from None
        self._record(rpc, request, replies)
        return replies, None

    def in_turns(self, rpc: str, requests: list[Any]) -> Iterator[Any]:
        """The reply to each message of a stream, each of which is sent when the one before was answered; an answer too
        many, or none, is Broken. Raises NotOffered, and Broken for any gRPC status."""
        sent: SimpleQueue[Any] = SimpleQueue()
        began = time.monotonic()
        call = self.open(rpc, iter(sent.get, None))
        try:
            for request in requests:
                sent.put(request)
                reply = next(call, None)
                expect(reply is not None, f"{rpc} ended before its last message was answered")
                self._record(rpc, request, reply)
                yield reply
            sent.put(None)
            extra = next(call, None)
            expect(extra is None, f"{rpc} has more answers than messages", extra)
        except grpc.RpcError as error:
            self._failed(rpc, requests, error, began)
            raise Broken(f"{rpc} ended with {_status(error)}") from None
        finally:
            sent.put(None)
            call.cancel()

    def open(self, rpc: str, request: Any, *, metadata: Any = ()) -> Any:
        """The call itself of an RPC that streams its replies: they are to be read from it, and are not recorded."""
        self._record(rpc, request, "a stream, not read to its end")
        method = self.service.methods_by_name[rpc]
        sent = iter(request) if method.client_streaming else request
        if not method.client_streaming:
            self._expect_fields(rpc, request)
        return self._rpc(method, None)(sent, timeout=self.options.seconds, metadata=self._metadata(metadata))

    def ok(self, rpc: str, request: Any, *, over: grpc.Channel | None = None, metadata: Any = ()) -> Any:
        """The reply of a call that is to succeed. Raises Broken, NotOffered."""
        try:
            reply = self.call(rpc, request, over=over, metadata=metadata)
        except grpc.RpcError as error:
            raise Broken(f"{rpc} failed with {_status(error)}") from None
        if "success" in reply.DESCRIPTOR.fields_by_name:
            if not reply.success and reply.status.code == Code.UNIMPLEMENTED:
                raise NotOffered(f"{rpc} answers UNIMPLEMENTED: {reply.error}")
            expect(reply.success, f"{rpc} failed: {reply.error or 'success=false without a word'}", reply)
            expect(not reply.error, f"{rpc} succeeded and has an error: {reply.error}", reply)
        return reply

    def refused(self, rpc: str, request: Any, what: str, *, metadata: Any = ()) -> Refusal:
        """What a call says that is to be refused; `what` names the fault in it. Raises Broken where it was taken, where
        the failure is not said as the contract has it, or where the sentence is none. Raises NotOffered."""
        method = self.service.methods_by_name[rpc]
        if method.server_streaming:
            return self._stream_refused(rpc, request, what)
        try:
            reply = self.call(rpc, request, metadata=metadata)
        except grpc.RpcError as error:
            if "success" in GetMessageClass(method.output_type).DESCRIPTOR.fields_by_name:
                raise Broken(
                    f"{what}: {rpc} failed with {_status(error)}, where a reply with success=false belongs"
                ) from None
            return self._expect_sentence(of_call(error), what)
        expect("success" in reply.DESCRIPTOR.fields_by_name and not reply.success, f"{what}: {rpc} took it", reply)
        refusal = of_reply(reply)
        if refusal.code == Code.UNIMPLEMENTED:
            raise NotOffered(f"{rpc} answers UNIMPLEMENTED: {refusal.message}")
        return self._expect_sentence(refusal, what)

    def refused_with(
        self, rpc: str, request: Any, what: str, code: Code, *, field: str = "", metadata: Any = ()
    ) -> Refusal:
        """`refused`, and with this code, an ErrorInfo of the contract and, where `field` is given, a violation that
        names it (`vectors[0].vector`). Raises Broken, NotOffered."""
        return expect_code(self.refused(rpc, request, what, metadata=metadata), what, code, field)

    def _stream_refused(self, rpc: str, request: Any, what: str) -> Refusal:
        try:
            replies, _ = self.stream_until_status(rpc, request)
        except StreamFailed as ended:
            expect(not ended.replies, f"{what}: {rpc} answered before it failed")
            return self._expect_sentence(of_call(ended.error), what)
        raise Broken(f"{what}: {rpc} took it", replies)

    def raw(self, rpc: str, data: bytes) -> Any:
        """The reply to bytes sent as a request, as bytes (a stream's are joined), or the grpc.RpcError."""
        method = self.service.methods_by_name[rpc]
        shape = self.channel.unary_stream if method.server_streaming else self.channel.unary_unary
        call = shape(f"/{self.service.full_name}/{rpc}")
        began = time.monotonic()
        try:
            answer = call(data, timeout=self.options.seconds, metadata=self.address.metadata)
            taken: bytes = b"".join(answer) if method.server_streaming else answer
        except grpc.RpcError as error:
            self._failed(rpc, data, error, began)
            return error
        self._record(rpc, data, taken)
        return taken

    def _expect_sentence(self, refusal: Refusal, what: str) -> Refusal:
        return expect_sentence(refusal, what, [self.address.token.reveal()] if self.address.token else ())

    def _expect_fields(self, rpc: str, request: Any) -> None:
        """Raises NotOffered where the plugin's messages lack a field that the request has set."""
        if missing := self.offered.missing_field(rpc, request):
            raise NotOffered(f"the plugin's messages have no {missing}")

    def _rpc(self, method: MethodDescriptor, over: grpc.Channel | None) -> Any:
        shape = f"{'stream' if method.client_streaming else 'unary'}_{'stream' if method.server_streaming else 'unary'}"
        kind = GetMessageClass(method.output_type)
        return getattr(over or self.channel, shape)(
            f"/{self.service.full_name}/{method.name}",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=kind.FromString,
        )

    def _metadata(self, more: Iterable[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
        return (*self.address.metadata, *more)

    def _failed(self, rpc: str, request: Any, error: grpc.RpcError, began: float) -> None:
        self._record(rpc, request, error)
        if error.code() == grpc.StatusCode.UNIMPLEMENTED:
            raise NotOffered(f"{rpc} answers UNIMPLEMENTED") from None
        if error.code() == grpc.StatusCode.DEADLINE_EXCEEDED and time.monotonic() - began >= self.options.seconds:
            self.silent += 1  # sooner it is what the plugin says

    def _record(self, rpc: str, request: Any, reply: Any) -> None:
        with self._lock:
            self.exchanges.append(Exchange(rpc, request, reply))


class StreamFailed(Exception):
    """A stream ended with a status other than OK."""

    def __init__(self, replies: list[Any], error: Any) -> None:
        super().__init__()
        self.replies = replies
        self.error = error


def _status(error: Any) -> str:
    return f"gRPC status {error.code().name}: {' '.join((error.details() or 'no details').split())}"
