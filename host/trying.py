"""`python -m host try NAME RPC '{json}'`: any RPC of any plugin by hand, from what its reflection says.

    try vector_hnsw                                   its RPCs
    try vector_hnsw SearchVectors                     a request to edit
    try vector_hnsw SearchVectors '{"limit": 3}'      the call
    try vector_hnsw UpsertVectorsStream - < requests.jsonl

Replies are on stdout, one JSON object each; status and time on stderr. Exit status 0, or 1 where the call failed or its
reply says `success: false`. A plugin without reflection, as the guide's samples are, is taken to speak the contract.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterable

import grpc
import hector_plugins_pb2 as pb
from google.protobuf import descriptor_pool
from google.protobuf.message import DecodeError, Message
from google.rpc import status_pb2

from host.agents.failure import details_of
from host.config import HostConfig
from host.connect import Connection, connect
from host.reflection import Method, Reflection, ReflectionError
from shared.config import suggest
from shared.errors import StartError
from shared.visible import visible


def try_out(config: HostConfig, name: str, rpc: str | None, request: str | None, seconds: float) -> int:
    """Returns the exit status. Raises StartError."""
    if name not in config.plugins:
        there = f"; there are: {', '.join(config.plugins)}" if config.plugins else ""
        raise StartError(f"{config.file} has no enabled plugin {name}{suggest(name, config.plugins) or there}")
    with connect(config, [config.plugins[name]]) as connections:
        connection = connections[name]
        try:
            server = reflection_of(connection)
            if rpc is None:
                return _list(server)
            method = server.method(rpc)
            if request is None and method.request.fields:
                print(json.dumps(server.example(method.request), indent=2))
                print(f"a request to edit: try {name} {method.name} '{{…}}'", file=sys.stderr)
                return 0
            return _call(server, method, _requests(request, method), seconds)
        except grpc.RpcError as error:
            raise StartError(
                f"{connection}: {error.code().name}: {' '.join((error.details() or '').split())}"
            ) from None


def reflection_of(connection: Connection) -> Reflection:
    server = Reflection(connection.channel, connection.address.metadata)
    try:
        server.services()
    except ReflectionError:
        server = _Contract(connection.channel, connection.address.metadata)
        print(f"{connection} has no reflection; taking it to speak hector_plugins.proto", file=sys.stderr)
    return server


class _Contract(Reflection):
    """What the contract says in place of the server."""

    def __init__(self, channel: grpc.Channel, metadata: Iterable[tuple[str, str]]) -> None:
        super().__init__(channel, tuple(metadata))
        self._pool = descriptor_pool.Default()

    def services(self) -> list[str]:
        return [service.full_name for service in pb.DESCRIPTOR.services_by_name.values()]


def _list(server: Reflection) -> int:
    for service in server.offered():
        print(service)
        for method in server.methods(service):
            print(f"  {method.signature}")
    return 0


def _requests(text: str | None, method: Method) -> list[str]:
    """Each as JSON text. A stream's come as a JSON list, or one a line on stdin."""
    if text == "-":
        text = sys.stdin.read()
        if method.client_streaming:
            return [line for line in text.splitlines() if line.strip()]
    if method.client_streaming and text and text.lstrip().startswith("["):
        try:
            return [json.dumps(item) for item in json.loads(text)]
        except (ValueError, RecursionError) as error:
            raise StartError(f"the requests are no JSON list: {error}") from None
    return [text or "{}"]


def _call(server: Reflection, method: Method, requests: list[str], seconds: float) -> int:
    began = time.perf_counter()
    failed = False
    try:
        for reply in server.call(method, requests, seconds=seconds or None):
            print(visible(server.json(reply)), flush=True)
            failed = failed or says_no(reply)
    except grpc.RpcError as error:
        _status(error.code().name, began, error.details() or "")
        for detail in details(error):
            print(f"  {visible(detail)}", file=sys.stderr)
        return 1
    _status("OK", began, "the reply says success: false" if failed else "")
    return int(failed)


def _status(code: str, began: float, words: str) -> None:
    took = (time.perf_counter() - began) * 1000
    print(f"{code} in {took:.1f} ms{': ' + visible(' '.join(words.split())) if words else ''}", file=sys.stderr)


def says_no(reply: Message) -> bool:
    field = reply.DESCRIPTOR.fields_by_name.get("success")
    return field is not None and field.cpp_type == field.CPPTYPE_BOOL and not reply.success  # type: ignore[attr-defined]


def details(error: grpc.RpcError) -> list[str]:
    """Those of the contract's errors: reason, fields at fault, when to try again."""
    status = status_pb2.Status()
    try:
        status.ParseFromString(details_of(error))
    except DecodeError:
        return []
    return [" ".join(str(detail).split()) for detail in status.details[:20]]
