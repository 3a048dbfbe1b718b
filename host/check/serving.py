"""What holds for every plugin that serves, whatever its kind."""

from __future__ import annotations

from typing import Any

import grpc
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub

from host.check.claims import Broken, Claims, expect
from host.check.contract import GUIDE_RPCS
from host.check.subject import Exchange, Subject
from host.reflection import Reflection, ReflectionError

claims = Claims("serving")
HEALTH = 'grpc.health.v1 for "", "plugin" and the service\'s full name.'
HEALTH_FREE = "No or wrong credentials: UNAUTHENTICATED. Health needs no token."
SIZES = "Requests up to 64 MiB; a message too large is a gRPC status."
SERVING = HealthCheckResponse.SERVING
MOST_BYTES = 64 << 20
# An RPC of each kind that costs nothing with an empty request.
_CHEAP = {
    "llm": "GenerateText",
    "database": "DeleteVectors",
    "embedder": "GetDimensions",
    "tools": "ListTools",
    "reasoning": "Finalize",
}
_READ = grpc.StatusCode.INVALID_ARGUMENT  # of an LLM plugin that has read a request, and found nothing in it


def health(check: Subject, service: str, *, token: bool = False) -> int:
    """The answer for one name, without credentials unless `token`. Raises grpc.RpcError."""
    request = HealthCheckRequest(service=service)
    metadata = check.address.metadata if token else ()
    try:
        reply = HealthStub(check.channel).Check(request, timeout=check.options.seconds, metadata=metadata)
    except grpc.RpcError as error:
        check.exchanges.append(Exchange("grpc.health.v1.Health/Check", request, error))
        raise
    check.exchanges.append(Exchange("grpc.health.v1.Health/Check", request, reply))
    return int(reply.status)


@claims.guide("Health is SERVING under each of its names.", HEALTH)
def health_names(check: Subject) -> None:
    for name in ("", "plugin", check.service.full_name):
        try:
            status = health(check, name, token=True)
        except grpc.RpcError as error:
            raise Broken(f"health of {name!r} is {error.code().name}") from None
        expect(status == SERVING, f"health of {name!r} is {HealthCheckResponse.ServingStatus.Name(status)}")


@claims.guide("Health of a service that is not there is NOT_FOUND.", HEALTH)
def health_unknown(check: Subject) -> None:
    try:
        status = health(check, "no.such.Service", token=True)
    except grpc.RpcError as error:
        expect(error.code() == grpc.StatusCode.NOT_FOUND, f"it is {error.code().name}")
    else:
        raise Broken(f"it is {HealthCheckResponse.ServingStatus.Name(status)}")


@claims.guide("A watch of health says at once how it is.", HEALTH)
def health_watch(check: Subject) -> None:
    request = HealthCheckRequest(service="plugin")
    watch = HealthStub(check.channel).Watch(request, timeout=check.options.seconds, metadata=check.address.metadata)
    first = next(iter(watch))
    watch.cancel()
    check.exchanges.append(Exchange("grpc.health.v1.Health/Watch", request, first))
    expect(first.status == SERVING, f"it is {HealthCheckResponse.ServingStatus.Name(first.status)}")


@claims.guide("Reflection describes the service with every RPC of the guide.", "Server reflection.")
def reflected(check: Subject) -> None:
    reflection = Reflection(check.channel, check.address.metadata, check.options.seconds)
    try:
        offered = {method.name: method for method in reflection.methods(check.service.full_name)}
    except ReflectionError as error:
        raise Broken(str(error)) from None
    for ours in check.service.methods:
        theirs = offered.get(ours.name)
        if theirs is None:
            expect(ours.name not in GUIDE_RPCS[check.kind], f"reflection has no RPC {ours.name}")
            continue
        same = (ours.client_streaming, ours.server_streaming) == (theirs.client_streaming, theirs.server_streaming)
        expect(same, f"reflection says `{theirs.signature}`, where the streaming is another")
        for mine, its in ((ours.input_type, theirs.request), (ours.output_type, theirs.reply)):
            for field in its.fields:
                known = mine.fields_by_number.get(field.number)
                named = mine.fields_by_name.get(field.name)
                if known is None and named is None:
                    continue  # its own addition
                alike = known is not None and known is named and known.type == field.type
                expect(alike, f"reflection's {its.name}.{field.name} = {field.number} is another field in the contract")


@claims.guide("Reflection lists the service under its full name.", "Server reflection.")
def listed(check: Subject) -> None:
    reflection = Reflection(check.channel, check.address.metadata, check.options.seconds)
    try:
        services = reflection.services()
    except ReflectionError as error:
        raise Broken(str(error)) from None
    name = check.service.full_name
    expect(name in services, f"reflection does not list {name}")


@claims.guide(
    "An RPC that is not there is UNIMPLEMENTED, and the server goes on.",
    "What a plugin does not have answers UNIMPLEMENTED.",
)
def unknown_rpc(check: Subject) -> None:
    for path in (f"/{check.service.full_name}/NoSuchRpc", "/no.such.Service/Call"):
        try:
            check.channel.unary_unary(path)(b"", timeout=check.options.seconds, metadata=check.address.metadata)
        except grpc.RpcError as error:
            check.exchanges.append(Exchange(path, b"", error))
            expect(error.code() == grpc.StatusCode.UNIMPLEMENTED, f"it is {error.code().name}")
        else:
            raise Broken(f"{path} was answered")
    expect(health(check, "plugin", token=True) == SERVING, "health is not SERVING afterwards")


@claims.guide(
    "Without the token, and with a wrong one, a call is UNAUTHENTICATED.",
    "No or wrong credentials: a gRPC status, UNAUTHENTICATED.",
)
def token_is_asked(check: Subject) -> None:
    check.needs("token")
    wrong: list[tuple[tuple[str, str], ...]] = [(), (("authorization", "Bearer wrong"),), (("authorization", ""),)]
    for method in check.service.methods:
        allowed = {grpc.StatusCode.UNAUTHENTICATED}
        if method.name not in GUIDE_RPCS[check.kind]:
            allowed.add(grpc.StatusCode.UNIMPLEMENTED)
        for metadata in wrong:
            try:
                _call_with(check, method, metadata)
            except grpc.RpcError as error:
                check.exchanges.append(Exchange(method.name, b"", error))
                expect(error.code() in allowed, f"{method.name} without the token is {error.code().name}")
                shown = check.address.token.reveal() in (error.details() or "")
                expect(not shown, f"the refusal of {method.name} shows the token")
            else:
                raise Broken(f"{method.name} was answered without the token")


@claims.guide("Health needs no token.", "Health needs no token.")
def health_without_token(check: Subject) -> None:
    check.needs("token")
    try:
        expect(health(check, "plugin") == SERVING, "health without the token is not SERVING")
    except grpc.RpcError as error:
        raise Broken(f"health without the token is {error.code().name}") from None


# ---------------------------------------------------------------- sizes


@claims.guide("A request of 64 MiB is taken.", SIZES)
def largest_request(check: Subject) -> None:
    answer = check.raw(_CHEAP[check.kind], _padded(MOST_BYTES))
    if isinstance(answer, grpc.RpcError):  # an LLM plugin refuses what is empty, and so it has read it
        code = answer.code()
        read = check.kind == "llm" and code == _READ
        expect(read, f"it is gRPC status {code.name}: {answer.details()}")


@claims.full("A request that is far larger is RESOURCE_EXHAUSTED, and the server goes on.", SIZES)
def too_large_request(check: Subject) -> None:
    # A plugin may be set to take more than 64 MiB, but not whatever comes.
    answer = check.raw(_CHEAP[check.kind], _padded(2 * MOST_BYTES + 1))
    if not isinstance(answer, grpc.RpcError) or (check.kind == "llm" and answer.code() == _READ):
        raise Broken("a request of more than 128 MiB was taken: it has no bound")
    expect(answer.code() == grpc.StatusCode.RESOURCE_EXHAUSTED, f"it is gRPC status {answer.code().name}")
    expect(health(check, "plugin", token=True) == SERVING, "health is not SERVING afterwards")


def _call_with(check: Subject, method: Any, metadata: Any) -> None:
    """An empty request with this metadata alone. Raises grpc.RpcError."""
    shape = f"{'stream' if method.client_streaming else 'unary'}_{'stream' if method.server_streaming else 'unary'}"
    call = getattr(check.channel, shape)(f"/{check.service.full_name}/{method.name}")
    sent = iter((b"",)) if method.client_streaming else b""
    reply = call(sent, timeout=check.options.seconds, metadata=metadata)
    if method.server_streaming:
        next(iter(reply), None)


def _padded(size: int) -> bytes:
    """An empty message of `size` bytes: a field that no message of the contract has, and which every reader skips."""
    tag = b"\x82\xe2\x09"  # field 20,000, a string of bytes
    length = size - len(tag) - 4
    groups = (length & 127 | 128, length >> 7 & 127 | 128, length >> 14 & 127 | 128, length >> 21)
    return tag + bytes(groups) + bytes(length)
