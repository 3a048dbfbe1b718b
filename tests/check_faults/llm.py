"""An LLMProvider before an OpenAI endpoint, in the plainest way, and many that are wrong in one thing."""

from __future__ import annotations

import json
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any, ClassVar, NoReturn

import grpc
import hector_plugins_pb2 as pb
from google.rpc import error_details_pb2, status_pb2
from hector_plugins_pb2_grpc import LLMProviderServicer

from shared.errors import Code
from tests.check_faults import Fault

CODES = {
    400: Code.INVALID_ARGUMENT,
    401: Code.UNAUTHENTICATED,
    403: Code.PERMISSION_DENIED,
    404: Code.NOT_FOUND,
    408: Code.DEADLINE_EXCEEDED,
    504: Code.DEADLINE_EXCEEDED,
    429: Code.RESOURCE_EXHAUSTED,
}
KEY = "the-key-of-the-endpoint"
FINISH = {
    "stop": pb.FINISH_REASON_STOP,
    "length": pb.FINISH_REASON_LENGTH,
    "tool_calls": pb.FINISH_REASON_TOOL_CALLS,
    "content_filter": pb.FINISH_REASON_CONTENT_FILTER,
}


class Cut(Exception):
    """The endpoint broke off."""


class Model(LLMProviderServicer):
    """The right one. What the wrong ones change are its small methods."""

    codes: ClassVar = CODES

    def __init__(self, url: str) -> None:
        self.url = url

    # ------------------------------------------------ the RPCs

    def GenerateText(self, request: Any, context: grpc.ServicerContext) -> Any:
        return self.turn(request, context, pb.GenerateTextResponse)

    def CallTool(self, request: Any, context: grpc.ServicerContext) -> Any:
        return self.turn(request, context, pb.CallToolResponse, tool_choice="required")

    def ListModels(self, request: Any, context: grpc.ServicerContext) -> Any:
        with urllib.request.urlopen(self.url + "/models", timeout=30) as answer:
            names = [model["id"] for model in json.load(answer)["data"]]
        return pb.ListModelsResponse(models=[pb.ModelInfo(id=name) for name in self.listed(names)])

    def StreamText(self, request: Any, context: grpc.ServicerContext) -> Iterator[Any]:
        self.check(request, context)
        calls: list[Any] = []
        finish, usage = "", None
        body = self.body(request) | {"stream": True, "stream_options": {"include_usage": True}}
        try:
            for chunk in self.chunks(body, context):
                usage = chunk.get("usage") or usage
                for choice in chunk["choices"]:
                    finish = choice["finish_reason"] or finish
                    delta = choice["delta"]
                    for part in delta.get("tool_calls") or ():
                        yield self.delta(part, calls)
                    if delta.get("content"):
                        yield pb.StreamTextResponse(text=self.piece(delta["content"]))
            if not finish:
                raise Cut
        except (Cut, OSError):
            yield from self.was_cut(context)
            return
        yield from self.last(self.filled(pb.StreamTextResponse(done=True), calls, finish, usage))

    # ------------------------------------------------ what they stand on

    def check(self, request: Any, context: grpc.ServicerContext) -> None:
        if not request.prompt and not request.messages:
            self.fail(context, Code.INVALID_ARGUMENT, "neither prompt nor messages; send one")

    def fail(
        self, context: grpc.ServicerContext, code: Code, message: str, reason: str = "", retry: bool = False
    ) -> NoReturn:
        status = status_pb2.Status(code=code, message=message)
        reason = reason or code.name
        status.details.add().Pack(error_details_pb2.ErrorInfo(reason=reason, domain="plugins.hector.dev"))
        if retry:
            status.details.add().Pack(error_details_pb2.RetryInfo())
        context.set_trailing_metadata((("grpc-status-details-bin", status.SerializeToString()),))
        context.abort(grpc.StatusCode[code.name], message)
        raise AssertionError

    def body(self, request: Any, **more: Any) -> dict[str, Any]:
        body: dict[str, Any] = {"model": request.model, "messages": self.messages(request)}
        options = request.options
        for name in ("temperature", "top_p", "seed", "max_tokens", "frequency_penalty"):
            if options.HasField(name):
                body[name] = getattr(options, name)
        if options.reasoning_effort:
            body["reasoning_effort"] = options.reasoning_effort
        body |= self.form(options)
        if request.options.stop:
            body["stop"] = list(request.options.stop)
        if request.tools:
            body["tools"] = [
                {"type": "function", "function": {"name": tool.name, "parameters": json.loads(tool.parameters_json)}}
                for tool in request.tools
            ]
            body |= more
            if options.tool_choice:
                body["tool_choice"] = {"type": "function", "function": {"name": options.tool_choice}}
            if options.HasField("parallel_tool_calls"):
                body["parallel_tool_calls"] = options.parallel_tool_calls
        extra: dict[str, Any] = json.loads(request.options.extra_json or "{}")
        return body | extra

    def messages(self, request: Any) -> list[dict[str, Any]]:
        messages = [self.message(message) for message in request.messages]
        return [*messages, {"role": "user", "content": request.prompt}] if request.prompt else messages

    def message(self, message: Any) -> dict[str, Any]:
        sent: dict[str, Any] = {"role": message.role, "content": self.content(message)}
        if message.tool_calls:
            sent["tool_calls"] = [
                {"id": c.id, "type": "function", "function": {"name": c.name, "arguments": c.arguments_json}}
                for c in message.tool_calls
            ]
        return sent | ({"tool_call_id": message.tool_call_id} if message.tool_call_id else {})

    def content(self, message: Any) -> Any:
        parts = [
            {"type": "image_url", "image_url": {"url": part.url}} if part.url else {"type": "text", "text": part.text}
            for part in message.parts
        ]
        return parts or message.content

    def form(self, options: Any) -> dict[str, Any]:
        """The form that the answer is held to."""
        if not options.json_schema:
            return {}
        schema = {"name": "answer", "schema": json.loads(options.json_schema)}
        return {"response_format": {"type": "json_schema", "json_schema": schema}}

    def turn(self, request: Any, context: grpc.ServicerContext, reply: type[Any], **more: Any) -> Any:
        self.check(request, context)
        try:
            with self.opened(self.body(request, **more), context) as answer:
                whole = json.load(answer)
        except (OSError, ValueError):
            return self.broke_off(context, reply)
        choice = whole["choices"][0]
        calls = [
            pb.ToolCall(id=c["id"], name=c["function"]["name"], arguments_json=c["function"]["arguments"])
            for c in choice["message"].get("tool_calls") or ()
        ]
        text = choice["message"]["content"] or ""
        return self.filled(reply(text=self.piece(text)), calls, choice["finish_reason"], whole.get("usage"))

    def opened(self, body: dict[str, Any], context: grpc.ServicerContext) -> Any:
        request = urllib.request.Request(self.url + "/chat/completions", data=json.dumps(body).encode())
        request.add_header("Authorization", f"Bearer {KEY}")
        try:
            return urllib.request.urlopen(request, timeout=30)
        except urllib.error.HTTPError as error:
            told = json.load(error)["error"]
            if error.code == 400 and told.get("param") == "tool_choice" and self.tries_again():
                return self.opened(body | {"tool_choice": "auto"}, context)
            self.refused(context, error.code, told.get("code"), told["message"])

    def tries_again(self) -> bool:
        return True

    def refused(self, context: grpc.ServicerContext, status: int, code: str | None, message: str) -> NoReturn:
        reason = {401: "UPSTREAM_UNAUTHENTICATED", 403: "UPSTREAM_PERMISSION_DENIED"}.get(status, "")
        if code == "context_length_exceeded":
            reason = "CONTEXT_LENGTH_EXCEEDED"
        text = f"the endpoint answers {status}: {self.shown(message)}"
        self.fail(context, self.codes.get(status, Code.UNAVAILABLE), text, reason, status == 429)

    def shown(self, message: str) -> str:
        return message.replace(KEY, "***")

    def chunks(self, body: dict[str, Any], context: grpc.ServicerContext) -> Iterator[dict[str, Any]]:
        with self.opened(body, context) as answer:
            for line in answer:
                data = line.decode().removeprefix("data: ").strip()
                if data and data != "[DONE]":
                    yield json.loads(data)

    def delta(self, part: dict[str, Any], calls: list[Any]) -> Any:
        function = part["function"]
        if len(calls) == part["index"]:
            calls.append(pb.ToolCall(id=part.get("id", ""), name=function.get("name", "")))
        calls[part["index"]].arguments_json += function["arguments"]
        delta = pb.ToolCallDelta(
            index=part["index"],
            arguments_json=function["arguments"],
            id=part.get("id", ""),
            name=function.get("name", ""),
        )
        return pb.StreamTextResponse(tool_call_delta=delta)

    def filled(self, reply: Any, calls: list[Any], finish: str, usage: Any) -> Any:
        for call in calls:
            try:
                if "city" not in json.loads(call.arguments_json):
                    raise ValueError("city is missing")
                call.arguments_valid = True
            except ValueError as error:
                call.arguments_error = f"no JSON: {error}"
        reply.tool_calls.extend(calls)
        reply.raw_finish_reason = finish
        reply.finish_reason = self.finish(calls, finish)
        reply.model, reply.response_id = "check-model", "chatcmpl-check"
        if usage:
            reply.usage.CopyFrom(pb.TokenUsage(**usage, source=pb.USAGE_SOURCE_PROVIDER))
        return reply

    def finish(self, calls: list[Any], finish: str) -> Any:
        if calls and finish == "stop":
            return pb.FINISH_REASON_TOOL_CALLS
        return FINISH.get(finish, pb.FINISH_REASON_OTHER)

    def listed(self, names: list[str]) -> list[str]:
        return names

    def piece(self, text: str) -> str:
        return text

    def was_cut(self, context: grpc.ServicerContext) -> Iterator[Any]:
        self.fail(context, Code.UNAVAILABLE, "the endpoint cut its answer off; try again", "STREAM_TRUNCATED")
        yield

    def broke_off(self, context: grpc.ServicerContext, reply: type[Any]) -> Any:
        self.fail(context, Code.UNAVAILABLE, "the endpoint cut its answer off; try again", "STREAM_TRUNCATED")

    def last(self, reply: Any) -> Iterator[Any]:
        yield reply


# ---------------------------------------------------------------- the wrong ones, of what the guide has


class DoneAfterTruncation(Model):
    def was_cut(self, context: grpc.ServicerContext) -> Iterator[Any]:
        yield pb.StreamTextResponse(done=True)


class EndsAfterTruncation(Model):
    def was_cut(self, context: grpc.ServicerContext) -> Iterator[Any]:
        yield from ()


class DoneThenFails(Model):
    def was_cut(self, context: grpc.ServicerContext) -> Iterator[Any]:
        yield pb.StreamTextResponse(done=True)
        yield from super().was_cut(context)


class InternalAfterTruncation(Model):
    def was_cut(self, context: grpc.ServicerContext) -> Iterator[Any]:
        self.fail(context, Code.INTERNAL, "broken")
        yield


class TextIsLostAtTheCut(Model):
    """Gathers the text before it sends any."""

    def StreamText(self, request: Any, context: grpc.ServicerContext) -> Iterator[Any]:
        yield from list(super().StreamText(request, context))


class HalfAnAnswer(Model):
    def broke_off(self, context: grpc.ServicerContext, reply: type[Any]) -> Any:
        return reply(text="so far")


class NoDone(Model):
    def last(self, reply: Any) -> Iterator[Any]:
        reply.done = False
        yield reply


class DoneTwice(Model):
    def last(self, reply: Any) -> Iterator[Any]:
        yield reply
        yield reply


class TextOnTheLast(Model):
    def last(self, reply: Any) -> Iterator[Any]:
        reply.text = "."
        yield reply


class NothingAfterAll(Model):
    def StreamText(self, request: Any, context: grpc.ServicerContext) -> Iterator[Any]:
        self.check(request, context)
        yield from ()


class DoneWithEachPiece(Model):
    def StreamText(self, request: Any, context: grpc.ServicerContext) -> Iterator[Any]:
        for reply in super().StreamText(request, context):
            reply.done = True
            yield reply


class OnePiece(Model):
    def StreamText(self, request: Any, context: grpc.ServicerContext) -> Iterator[Any]:
        *pieces, last = super().StreamText(request, context)
        yield pb.StreamTextResponse(text="".join(piece.text for piece in pieces))
        yield last


class PiecesGrow(Model):
    """Each piece holds those before it."""

    def StreamText(self, request: Any, context: grpc.ServicerContext) -> Iterator[Any]:
        text = ""
        for reply in super().StreamText(request, context):
            if reply.text:
                text += reply.text
                reply.text = text
            yield reply


class StripsPieces(Model):
    def piece(self, text: str) -> str:
        return text.strip()


class AsciiText(Model):
    def piece(self, text: str) -> str:
        return text.encode("ascii", "ignore").decode()


class SuccessWithoutPrompt(Model):
    def check(self, request: Any, context: grpc.ServicerContext) -> None:
        pass


class WrongCode(Model):
    def check(self, request: Any, context: grpc.ServicerContext) -> None:
        if not request.prompt and not request.messages:
            self.fail(context, Code.INTERNAL, "neither prompt nor messages")


class ErrorIsText(Model):
    """A refusal of the endpoint comes as the model's text."""

    def GenerateText(self, request: Any, context: grpc.ServicerContext) -> Any:
        if request.model[-3:].isdigit():
            return pb.GenerateTextResponse(text="error: the endpoint refused")
        return super().GenerateText(request, context)


class EverythingUnavailable(Model):
    codes: ClassVar = {}


class LimitIsUnavailable(Model):
    codes: ClassVar = CODES | {429: Code.UNAVAILABLE}


class OwnModel(Model):
    def body(self, request: Any, **more: Any) -> dict[str, Any]:
        return super().body(request, **more) | {"model": "check-text"}


class SystemPrompt(Model):
    """The prompt goes as a system message."""

    def messages(self, request: Any) -> list[dict[str, Any]]:
        return [message | {"role": "system"} for message in super().messages(request)]


class FalseZero(Model):
    def filled(self, reply: Any, calls: list[Any], finish: str, usage: Any) -> Any:
        reply.usage.SetInParent()
        return super().filled(reply, calls, finish, usage)


class NoUsage(Model):
    def filled(self, reply: Any, calls: list[Any], finish: str, usage: Any) -> Any:
        return super().filled(reply, calls, finish, None)


class SwappedUsage(Model):
    def filled(self, reply: Any, calls: list[Any], finish: str, usage: Any) -> Any:
        if usage:
            swapped = {"prompt_tokens": usage["completion_tokens"], "completion_tokens": usage["prompt_tokens"]}
            usage = usage | swapped
        return super().filled(reply, calls, finish, usage)


class ModelsTwice(Model):
    def listed(self, names: list[str]) -> list[str]:
        return names + names[:1]


class OwnList(Model):
    def listed(self, names: list[str]) -> list[str]:
        return ["my-model"]


class OneAtATime(Model):
    """A stream that another one overtakes ends."""

    lock = threading.Lock()

    def StreamText(self, request: Any, context: grpc.ServicerContext) -> Iterator[Any]:
        with self.lock:
            mine = self.turn_number = getattr(self, "turn_number", 0) + 1
        for reply in super().StreamText(request, context):
            time.sleep(0.05)
            if self.turn_number != mine:
                return
            yield reply


class NoStream(Model):
    StreamText = LLMProviderServicer.StreamText  # type: ignore[assignment]


class Silent(Model):
    def piece(self, text: str) -> str:
        return ""


class BreaksWhenLeft(Model):
    """After a caller has left a stream it answers nobody."""

    def StreamText(self, request: Any, context: grpc.ServicerContext) -> Iterator[Any]:
        if getattr(self, "broken", False):
            context.abort(grpc.StatusCode.INTERNAL, "broken")
        ended: list[bool] = []
        context.add_callback(lambda: setattr(self, "broken", not ended))
        for reply in super().StreamText(request, context):
            time.sleep(0.05)
            yield reply
        ended.append(True)


class NeedsDone(Model):
    def chunks(self, body: dict[str, Any], context: grpc.ServicerContext) -> Iterator[dict[str, Any]]:
        yield from super().chunks(body, context)
        if body["model"] == "check-no-done":
            raise Cut


# ---------------------------------------------------------------- the wrong ones, of the additions


class NoDetails(Model):
    def fail(
        self, context: grpc.ServicerContext, code: Code, message: str, reason: str = "", retry: bool = False
    ) -> NoReturn:
        context.abort(grpc.StatusCode[code.name], message)
        raise AssertionError


class NeedsPrompt(Model):
    def check(self, request: Any, context: grpc.ServicerContext) -> None:
        if not request.prompt:
            self.fail(context, Code.INVALID_ARGUMENT, "no prompt; send one")


class NoStreamUsage(Model):
    def last(self, reply: Any) -> Iterator[Any]:
        reply.ClearField("usage")
        yield reply


class NoReason(Model):
    def was_cut(self, context: grpc.ServicerContext) -> Iterator[Any]:
        self.fail(context, Code.UNAVAILABLE, "the endpoint cut its answer off; try again")
        yield


class NoRetryInfo(Model):
    def refused(self, context: grpc.ServicerContext, status: int, code: str | None, message: str) -> NoReturn:
        self.fail(context, self.codes.get(status, Code.UNAVAILABLE), f"the endpoint answers {status}")


class PromptFirst(Model):
    def messages(self, request: Any) -> list[dict[str, Any]]:
        *before, last = super().messages(request)
        return [last, *before]


class PromptAlone(Model):
    def messages(self, request: Any) -> list[dict[str, Any]]:
        return super().messages(request)[-1:]


class ZeroIsUnset(Model):
    def body(self, request: Any, **more: Any) -> dict[str, Any]:
        return {name: value for name, value in super().body(request, **more).items() if value != 0}


class NoExtra(Model):
    def body(self, request: Any, **more: Any) -> dict[str, Any]:
        body = super().body(request, **more)
        body.pop("check_extra", None)
        return body


class LengthIsStop(Model):
    def finish(self, calls: list[Any], finish: str) -> Any:
        return pb.FINISH_REASON_TOOL_CALLS if calls else pb.FINISH_REASON_STOP


class StopWins(Model):
    def finish(self, calls: list[Any], finish: str) -> Any:
        return FINISH.get(finish, pb.FINISH_REASON_OTHER)


class CallsReversed(Model):
    def filled(self, reply: Any, calls: list[Any], finish: str, usage: Any) -> Any:
        return super().filled(reply, calls[::-1], finish, usage)


class DeltasOfOne(Model):
    def delta(self, part: dict[str, Any], calls: list[Any]) -> Any:
        reply = super().delta(part, calls)
        reply.tool_call_delta.index = 0
        return reply


class AlwaysValid(Model):
    def filled(self, reply: Any, calls: list[Any], finish: str, usage: Any) -> Any:
        reply = super().filled(reply, calls, finish, usage)
        for call in reply.tool_calls:
            call.arguments_valid = True
        return reply


class NoToolChoice(Model):
    def CallTool(self, request: Any, context: grpc.ServicerContext) -> Any:
        return self.turn(request, context, pb.CallToolResponse)


class ToolResultsAsUser(Model):
    def message(self, message: Any) -> dict[str, Any]:
        sent = super().message(message)
        return {"role": "user", "content": sent["content"]} if sent["role"] == "tool" else sent


class NamesItself(Model):
    def filled(self, reply: Any, calls: list[Any], finish: str, usage: Any) -> Any:
        reply = super().filled(reply, calls, finish, usage)
        reply.model = "my-model"
        return reply


class ShowsTheKey(Model):
    def shown(self, message: str) -> str:
        return message


class NoForm(Model):
    def form(self, options: Any) -> dict[str, Any]:
        return {}


class NoImages(Model):
    def content(self, message: Any) -> Any:
        return message.content or "".join(part.text for part in message.parts)


class NoSecondTry(Model):
    def tries_again(self) -> bool:
        return False


FAULTS = [
    Fault(ShowsTheKey, "key_is_kept"),
    Fault(NoForm, "schema_arrives", "full"),
    Fault(NoImages, "image_arrives", "full"),
    Fault(NoSecondTry, "falls_back_to_auto", "full"),
    Fault(Silent, "answers"),
    Fault(BreaksWhenLeft, "left_stream"),
    Fault(NeedsDone, "without_done"),
    Fault(NoDetails, "error_details", "full"),
    Fault(NeedsPrompt, "messages_alone", "full"),
    Fault(NoStreamUsage, "stream_usage", "full"),
    Fault(DoneAfterTruncation, "cut_stream"),
    Fault(EndsAfterTruncation, "cut_stream"),
    Fault(DoneThenFails, "cut_stream"),
    Fault(InternalAfterTruncation, "cut_stream"),
    Fault(TextIsLostAtTheCut, "cut_stream"),
    Fault(HalfAnAnswer, "cut_answer"),
    Fault(NoDone, "stream_ends"),
    Fault(DoneTwice, "stream_ends"),
    Fault(TextOnTheLast, "stream_ends"),
    Fault(NothingAfterAll, "stream_ends"),
    Fault(DoneWithEachPiece, "stream_ends"),
    Fault(NoStream, "stream_ends"),
    Fault(OnePiece, "exact_stream"),
    Fault(PiecesGrow, "exact_stream"),
    Fault(StripsPieces, "exact_stream"),
    Fault(AsciiText, "exact_text"),
    Fault(SuccessWithoutPrompt, "nothing_asked"),
    Fault(WrongCode, "nothing_asked"),
    Fault(ErrorIsText, "upstream_statuses"),
    Fault(EverythingUnavailable, "upstream_statuses"),
    Fault(LimitIsUnavailable, "upstream_statuses"),
    Fault(OwnModel, "prompt_arrives"),
    Fault(SystemPrompt, "prompt_arrives"),
    Fault(FalseZero, "usage"),
    Fault(NoUsage, "usage"),
    Fault(SwappedUsage, "usage"),
    Fault(ModelsTwice, "models"),
    Fault(OwnList, "models"),
    Fault(OneAtATime, "parallel_streams"),
    Fault(NoReason, "cut_reason", "full"),
    Fault(NoRetryInfo, "upstream_reasons", "full"),
    Fault(PromptFirst, "messages_arrive", "full"),
    Fault(PromptAlone, "messages_arrive", "full"),
    Fault(ZeroIsUnset, "options_arrive", "full"),
    Fault(NoExtra, "options_arrive", "full"),
    Fault(LengthIsStop, "finish_reasons", "full"),
    Fault(StopWins, "tool_calls", "full"),
    Fault(CallsReversed, "tool_calls", "full"),
    Fault(DeltasOfOne, "tool_deltas", "full"),
    Fault(AlwaysValid, "bad_arguments", "full"),
    Fault(NoToolChoice, "tools_arrive", "full"),
    Fault(ToolResultsAsUser, "tool_results_arrive", "full"),
    Fault(NamesItself, "model_named", "full"),
]
