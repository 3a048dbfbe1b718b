"""One tool plugin over gRPC: its tools, and calls of them that say what is known of their effects."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import grpc
import hector_plugins_pb2 as pb
from google.protobuf.json_format import MessageToJson
from hector_plugins_pb2_grpc import ToolProviderStub

from host.agents.failure import AgentFailed, of_call, of_reply
from host.agents.peer import Dialled, Peer
from shared.errors import Code, InvalidArgument
from shared.json_schema import as_object_schema
from shared.structs import dump, fill, read_object, whole_numbers

PATIENCE = 30.0  # seconds that a plugin which restarts is waited for
RESULT_CHARS = 20_000  # of a result that is asked for
_LIST_SECONDS = 30.0
_LARGEST_REPLY = 2**24  # bytes
_MOST_TOOLS = 1_000  # of one plugin
_UNKNOWN = "Whether it took effect is not known: find that out before you call it again."


@dataclass(frozen=True)
class Tool:
    """What a model has to know to call it, and a host to allow it."""

    name: str
    description: str
    parameters: Mapping[str, Any]  # a JSON Schema of type object
    read_only: bool = False  # false: no promise
    destructive: bool = False
    idempotent: bool = False


@dataclass(frozen=True)
class Outcome:
    """What running a tool brought. `content` is for the model."""

    content: str
    is_error: bool = False
    denied: bool = False  # a policy did not allow it


class Runner(Protocol):
    """What runs tools: a plugin, or the host itself."""

    @property
    def name(self) -> str: ...

    async def list(self) -> Sequence[Tool]:
        """Raises AgentFailed."""
        ...

    async def execute(self, tool: Tool, arguments: str, call_id: str, seconds: float) -> Outcome:
        """`arguments`: a JSON object that holds to the tool's schema. Whatever goes wrong out there is an Outcome."""
        ...


class ToolServer:
    """A Runner. Made where the event loop runs; raises StartError where a TLS file cannot be used."""

    def __init__(self, peer: Peer) -> None:
        self.name = peer.name
        self._peer = peer
        self._dialled = Dialled(peer, ToolProviderStub, _LARGEST_REPLY)

    async def close(self) -> None:
        await self._dialled.close()

    async def list(self) -> Sequence[Tool]:
        """Those left out that no model could be offered. Raises AgentFailed."""
        try:
            async with self._peer.calling():
                reply = await self._dialled.stub.ListTools(
                    pb.ListToolsRequest(),
                    metadata=self._peer.address.metadata,
                    timeout=_LIST_SECONDS,
                    wait_for_ready=True,
                )
        except grpc.aio.AioRpcError as error:
            raise of_call(self._peer.who, error) from None
        return [tool for message in reply.tools[:_MOST_TOOLS] if (tool := tool_of(message)) is not None]

    async def execute(self, tool: Tool, arguments: str, call_id: str, seconds: float) -> Outcome:
        request = pb.ExecuteToolRequest(
            tool=tool.name, parameters_json=arguments, call_id=call_id, max_result_chars=RESULT_CHARS
        )
        fill(request.parameters, json.loads(arguments))  # plugins of the guide know this field alone
        seconds = min(seconds, self._peer.longest)
        deadline = time.monotonic() + seconds
        does_no_harm = tool.read_only or tool.idempotent
        for is_second in (False, True):
            try:
                async with self._peer.calling():
                    if not await self._connected(min(PATIENCE, deadline - time.monotonic())):
                        return self._unreached(tool, has_begun=is_second)
                    left = max(0.0, deadline - time.monotonic())
                    reply = await self._dialled.stub.ExecuteTool(
                        request, metadata=self._peer.address.metadata, timeout=left
                    )
            except AgentFailed as error:  # nothing was sent
                return Outcome(f"{tool.name} was not run: {error}", is_error=True)
            except grpc.aio.AioRpcError as error:
                failure = of_call(self._peer.who, error)
                if failure.code is Code.UNAVAILABLE and does_no_harm and not is_second:
                    continue
                return self._failed(failure, tool, seconds)
            return _outcome(reply, tool)
        raise AssertionError("unreachable")

    async def _connected(self, seconds: float) -> bool:
        """Whether there is a connection, after so long at most: only then is a call that fails one that may have
        begun."""
        ready = asyncio.ensure_future(self._dialled.channel.channel_ready())
        try:
            await asyncio.wait([ready], timeout=max(0.0, seconds))
            return bool(ready.done())
        finally:
            ready.cancel()

    def _unreached(self, tool: Tool, has_begun: bool) -> Outcome:
        if not has_begun:
            return Outcome(f"{tool.name} was not run: plugin {self.name} cannot be reached.", is_error=True)
        return Outcome(f"{tool.name}: plugin {self.name} died while it ran, and cannot be reached.", is_error=True)

    def _failed(self, failure: AgentFailed, tool: Tool, seconds: float) -> Outcome:
        match failure.code:
            case Code.UNAUTHENTICATED | Code.PERMISSION_DENIED | Code.UNIMPLEMENTED | Code.INVALID_ARGUMENT:
                return Outcome(f"{tool.name} was not run: {failure}", is_error=True)
            case Code.DEADLINE_EXCEEDED:
                told = f"{tool.name} did not answer within the {seconds:.3g} s that it had."
            case _:
                told = f"{tool.name} failed: {failure}."
        return Outcome(told if tool.read_only else f"{told} {_UNKNOWN}", is_error=True)


def tool_of(message: pb.Tool) -> Tool | None:
    """Also of a tool in the guide's flat form, `{name: type}`; None where it has no name or its schema is none."""
    try:
        parameters = read_object(message.parameters, message.parameters_json, "parameters")
    except InvalidArgument:
        return None
    if not message.name:
        return None
    if not message.parameters_json:  # a Struct has its keys in another order each time
        parameters = json.loads(json.dumps(parameters, sort_keys=True))
    return Tool(
        message.name,
        message.description,
        as_object_schema(whole_numbers(parameters)),
        read_only=message.read_only,
        destructive=message.destructive,
        idempotent=message.idempotent,
    )


def message_of(tool: Tool) -> pb.Tool:
    return pb.Tool(
        name=tool.name,
        description=tool.description,
        parameters_json=dump(dict(tool.parameters)),
        read_only=tool.read_only,
        destructive=tool.destructive,
        idempotent=tool.idempotent,
    )


def _outcome(reply: pb.ExecuteToolResponse, tool: Tool) -> Outcome:
    text = reply.result or reply.structured_json
    if not text and reply.HasField("structured"):
        text = MessageToJson(reply.structured, indent=None, ensure_ascii=False)
    if len(text) > 2 * RESULT_CHARS:  # it gives more than it was asked for
        text = f"{text[:RESULT_CHARS]}\n[… {len(text) - RESULT_CHARS:,} characters left out …]"
    elif reply.truncated:
        text += "\n[This is a part of the result.]"
    if reply.success:
        return Outcome(text or f"{tool.name} ended without a result.")
    failure = of_reply(tool.name, reply)
    # A server of the tool's that forbids something is a failure like others; the plugin's own policy is a denial.
    denied = failure.code is Code.PERMISSION_DENIED and not failure.reason.startswith("UPSTREAM_")
    words = reply.error.strip() or str(failure)
    return Outcome(f"{words}\n\n{text}" if text else words, is_error=True, denied=denied)
