"""One tool provider over gRPC: its tools, and calls of them that say what is known of their effects.

| what happened | what the model is told | tried again |
|---|---|---|
| no connection, or a refusal before anything began | not run | for a few seconds |
| the connection broke, or the server ended the call | not known whether it took effect | once, if that does no harm |
| no answer in time | not known whether it took effect | no |
| OUTCOME_UNKNOWN: an earlier attempt of this step ended without an answer | the same | no |
| CALL_ID_REUSED: such an attempt began another call | not run, and what the other did is not known | if it only reads |
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import grpc
import hector_plugins_pb2 as pb
from google.protobuf.json_format import MessageToJson
from google.protobuf.message import DecodeError, Message
from hector_plugins_pb2_grpc import ToolProviderStub

from shared import logs
from shared.client import Address, channel
from shared.errors import Code, Unavailable
from shared.off_loop import in_thread

from ..engine.chat import Tool
from ..engine.ports import Outcome
from .calling import metadata, who, without_token
from .failure import Failure, of_call, of_status
from .listing import read_tools

PATIENCE = 15.0  # seconds that a provider which cannot be reached, or is not ready, is waited for
_LIST_SECONDS = 10.0
_EXECUTE = "/hector.plugins.v1.ToolProvider/ExecuteTool"
_LARGEST_REPLY = 2**22  # bytes, where no more was asked for
_LARGEST_DATA = 2**20  # bytes of a result that is data alone
_LARGE = 2**14  # bytes of a reply: to read more may take milliseconds
_SLACK = 1_000  # characters of a result beyond what was asked for that nobody minds
_LEAST_SECONDS = 0.05  # that a try is worth
_PAUSE = 0.25  # seconds between tries at a provider that is not ready
# Of the provider itself: it refused the call before it began to carry it out.
_NOT_BEGUN = ("OVERLOADED", "LOADING", "UNAVAILABLE", "SHUTTING_DOWN")
_BROKEN = (Code.UNAVAILABLE, Code.CANCELLED, Code.INTERNAL, Code.UNKNOWN, Code.ABORTED, Code.DATA_LOSS)


class UnknownTool(Exception):
    """The provider does not have the tool any more."""


class _NotConnected(Exception):
    """There is no connection, so nothing was sent."""


class Provider:
    def __init__(self, name: str, address: Address, *, max_result_chars: int) -> None:
        """`name`: the setting's. `max_result_chars`: what is asked for of a result."""
        self.name = name
        self.who = who(name, address)  # for messages
        self._address = address
        largest = max(_LARGEST_REPLY, 5 * max_result_chars)
        self._channel = channel(address, aio=True, largest=largest)
        self._stub: Any = ToolProviderStub(self._channel)
        # Its replies as bytes: one that is large is not read in the event loop.
        self._execute: Any = self._channel.unary_unary(_EXECUTE, pb.ExecuteToolRequest.SerializeToString)
        self._max_result_chars = max_result_chars
        self._ready: asyncio.Task[None] | None = None  # done once there is a connection

    async def close(self) -> None:
        if self._ready is not None:
            self._ready.cancel()
        await self._channel.close()

    async def list(self) -> Sequence[Tool]:
        """Its tools, those left out that no model could be offered. Raises Unavailable."""
        try:
            reply = await self._stub.ListTools(
                pb.ListToolsRequest(), metadata=metadata(self._address), timeout=_LIST_SECONDS, wait_for_ready=False
            )
        except grpc.aio.AioRpcError as error:
            failure = of_call(error)
            why = without_token(_why_not(failure), self._address)
            raise Unavailable(
                f"the tool provider {self.who} {why}; start it, or correct the setting tools",
                reason="TOOLS_UNAVAILABLE",
                metadata={"provider": self.who, "code": failure.code.name},
                retry_after=failure.retry_after or 1,
            ) from None
        return await in_thread(read_tools, reply, self.who)

    # ------------------------------------------------------------ calls

    async def execute(self, tool: Tool, shown: str, arguments_json: str, call_id: str, seconds: float) -> Outcome:
        """`shown`: the tool's name as the model knows it. Raises UnknownTool."""
        outcome = await self._executed(tool, shown, arguments_json, call_id, seconds)
        text = without_token(outcome.text, self._address)
        return outcome if text == outcome.text else replace(outcome, text=text)

    async def _executed(self, tool: Tool, shown: str, arguments_json: str, call_id: str, seconds: float) -> Outcome:
        deadline = time.monotonic() + seconds
        request = pb.ExecuteToolRequest(
            tool=tool.name,
            parameters_json=arguments_json,
            call_id=call_id,
            max_result_chars=self._max_result_chars,
        )
        does_no_harm = tool.read_only or tool.idempotent
        patient_until = min(deadline, time.monotonic() + PATIENCE)
        is_second = False
        while True:
            left = deadline - time.monotonic()
            try:
                await self._connected(min(deadline, patient_until) - time.monotonic())
                data = await self._execute(request, metadata=metadata(self._address), timeout=max(left, 0.0))
            except _NotConnected:
                return self._unreached(shown, tool, has_begun=is_second)
            except grpc.aio.AioRpcError as error:
                failure = of_call(error)
                now = time.monotonic()
                if failure.reason in _NOT_BEGUN and now + _PAUSE < patient_until:
                    await asyncio.sleep(_PAUSE)
                    continue
                if _broke(failure) and does_no_harm and not is_second and now + _LEAST_SECONDS < deadline:
                    # Where it was the provider that died, it may be back in a moment.
                    is_second, patient_until = True, min(deadline, now + PATIENCE)
                    continue
                return self._failed(failure, tool, shown, seconds)
            reply = data, tool, request, shown, self._max_result_chars
            read = await in_thread(_read, *reply) if len(data) > _LARGE else _read(*reply)
            if isinstance(read, Outcome):
                return read
            request = read

    async def _connected(self, seconds: float) -> None:
        """Returns once there is a connection: only then is a call that fails one that may have begun. Raises
        _NotConnected after so long."""
        if self._channel.get_state(try_to_connect=True) is grpc.ChannelConnectivity.READY:
            return
        if self._ready is None or self._ready.done():
            # It belongs to no call: a wait that is cancelled leaves something of gRPC behind.
            self._ready = asyncio.ensure_future(self._channel.channel_ready())
        await asyncio.wait([self._ready], timeout=max(seconds, 0.0))
        if self._channel.get_state() is not grpc.ChannelConnectivity.READY:
            raise _NotConnected

    def _unreached(self, shown: str, tool: Tool, has_begun: bool) -> Outcome:
        if not has_begun:
            return Outcome(f"{shown} was not run: its server cannot be reached.", is_error=True)
        told = f"{shown}: its server died while it ran, and cannot be reached."
        return Outcome(told if tool.read_only else f"{told} {_UNKNOWN}", is_error=True)

    def _failed(self, failure: Failure, tool: Tool, shown: str, seconds: float) -> Outcome:
        logs.event("tool_failed", provider=self.who, tool=tool.name, code=failure.code.name, reason=failure.reason)
        # gRPC's own words name addresses of this network.
        words = f": {failure.message}" if failure.reason else "."
        match failure.code:
            case Code.UNAUTHENTICATED:
                return Outcome(f"{shown} was not run: its server refuses this plugin's token.", is_error=True)
            case Code.PERMISSION_DENIED:
                return Outcome(f"{shown} was not run: its server does not allow it{words}", is_error=True, denied=True)
            case Code.UNIMPLEMENTED:
                return Outcome(f"{shown} was not run: its server runs no tools.", is_error=True)
            case Code.DEADLINE_EXCEEDED:
                told = f"{shown} did not answer within the {seconds:g} s that it had."
            case _ if failure.reason in _NOT_BEGUN:
                return Outcome(f"{shown} was not run: its server is not ready{words}", is_error=True)
            case Code.INVALID_ARGUMENT:
                return Outcome(f"{shown} was not run: its server does not take the call{words}", is_error=True)
            case _ if failure.is_reply_too_large:
                return Outcome(f"{shown} was run, and its result is too large to be taken.", is_error=True)
            case _ if failure.reason:
                told = f"{shown} failed: {failure.message}"
            case _:
                told = f"{shown}: the connection to its server broke while it ran."
        return Outcome(told if tool.read_only else f"{told} {_UNKNOWN}", is_error=True)


_UNKNOWN = "Whether it took effect is not known: find that out before you call it again."


def _why_not(failure: Failure) -> str:
    match failure.code:
        case Code.UNAVAILABLE if not failure.reason:
            return "cannot be reached"
        case _ if failure.is_reply_too_large:
            return "lists more tools than can be taken in"
        case Code.DEADLINE_EXCEEDED:
            return f"did not say within {_LIST_SECONDS:g} s which tools it has"
        case Code.UNIMPLEMENTED:
            return "is another kind of server"
        case Code.UNAUTHENTICATED:
            return "refuses this plugin's token"
    return f"failed with {failure.code.name}{f': {failure.message}' if failure.reason else ''}"


def _broke(failure: Failure) -> bool:
    """Whether it is the way that failed, or the server as a whole: an error with a reason is an answer."""
    return failure.code in _BROKEN and not failure.reason


def _read(
    data: bytes, tool: Tool, request: pb.ExecuteToolRequest, shown: str, most: int
) -> Outcome | pb.ExecuteToolRequest:
    """What a reply says, or the request to be made in its place. Raises UnknownTool."""
    try:
        reply = pb.ExecuteToolResponse.FromString(data)
    except DecodeError:
        return Outcome(f"{shown} was run, and its result cannot be read.", is_error=True)
    own = _id_of_its_own(reply, tool, request)
    return own if own is not None else _outcome(reply, shown, most)


def _id_of_its_own(
    reply: pb.ExecuteToolResponse, tool: Tool, request: pb.ExecuteToolRequest
) -> pb.ExecuteToolRequest | None:
    """The request under another id where this one is of another call, of an attempt at the step that was cut off, and
    to run a call that only reads does no harm."""
    if reply.success or not tool.read_only or of_status(reply.status).reason != "CALL_ID_REUSED":
        return None
    digest = hashlib.sha256(request.parameters_json.encode("utf-8", "surrogatepass")).hexdigest()[:16]
    if request.call_id.endswith(f".{digest}"):
        return None
    own = pb.ExecuteToolRequest()
    own.CopyFrom(request)
    own.call_id = f"{request.call_id}.{digest}"
    return own


def _outcome(reply: pb.ExecuteToolResponse, shown: str, most: int) -> Outcome:
    text = reply.result or reply.structured_json or (_json(reply.structured) if reply.HasField("structured") else "")
    if len(text) > most + _SLACK:  # it gives more than it was asked for
        text = f"{text[: most - most // 3]}\n[… {len(text) - most:,} characters left out …]\n{text[-(most // 3) :]}"
    elif reply.truncated and (not reply.next_cursor or reply.next_cursor not in text):
        text += "\n[This is a part of the result.]"
    if reply.success:
        return Outcome(text or f"{shown} ended without a result.")
    failure = of_status(reply.status, reply.error)
    if failure.reason == "UNKNOWN_TOOL" or reply.error.startswith("Unknown tool: "):
        raise UnknownTool
    match failure.reason:
        case "CALL_ID_REUSED":
            return Outcome(
                f"{shown} was not run: an earlier attempt at this step, which was cut off, began another call in its "
                "place, and what that did is not known. Find out whether it took effect before you call again.",
                is_error=True,
            )
        case "OUTCOME_UNKNOWN":
            return Outcome(
                f"{shown} was not run again: an earlier attempt at this step began this call, and it ended without an "
                f"answer. {_UNKNOWN}",
                is_error=True,
            )
    words = failure.message or f"{shown} failed and did not say why"
    # A server of the tool's that forbids something is a failure like others; the provider's own policy is a denial.
    denied = failure.code is Code.PERMISSION_DENIED and not failure.reason.startswith("UPSTREAM_")
    return Outcome(f"{words}\n\n{text}" if text else words, is_error=True, denied=denied)


def _json(message: Message) -> str:
    if message.ByteSize() > _LARGEST_DATA:  # to write it takes seconds
        return f"[The result is data of {message.ByteSize():,} bytes, which are too many to be shown.]"
    return MessageToJson(message, indent=None, ensure_ascii=False)
