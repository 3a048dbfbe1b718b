"""What holds for every LLMProvider.

What a model writes is nobody's to say, so most of it is tried with a scripted endpoint behind the plugin
(`upstream.py`; `{upstream}` in --run, or --upstream PORT); with --prompt a part of it is tried on
the model that is there.
"""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import hector_plugins_pb2 as pb

from host.check import upstream
from host.check.claims import Broken, Claims, NotAsked, expect
from host.check.subject import StreamFailed, Subject, of_call
from shared.errors import Code

claims = Claims("llm")
STATUS = "LLMProvider: every failure is a gRPC status."
WHOLE = "A stream is whole when a finish reason or [DONE] came. Its last message has done=true and empty `text`."
TRUNCATED = "A reply that was cut off: the text so far, no `done`, then UNAVAILABLE with reason STREAM_TRUNCATED."
MIRROR = "StreamText and CallTool requests mirror GenerateTextRequest."
TOOL_CALLS = "Tool calls come as deltas and, whole, on the last message."
FINISH = 'Finish reasons are kept raw and normalised: tool calls win over "stop"; arguments cut off make it LENGTH.'
TEXT = "".join(upstream.TEXT)
_REQUESTS: dict[str, type[Any]] = {
    "GenerateText": pb.GenerateTextRequest,
    "StreamText": pb.StreamTextRequest,
    "CallTool": pb.CallToolRequest,
}
_WEATHER = pb.Tool(
    name="weather",
    description="The weather of a city.",
    parameters_json=json.dumps(
        {
            "type": "object",
            "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
            "required": ["city"],
        }
    ),
)


def allowed(check: Subject) -> dict[str, Any]:
    """Prompt and model of a request that may be made. Raises NotAsked."""
    if check.upstream is not None:
        return {"prompt": "Say what I say.", "model": "check-text"}
    if not check.options.prompt:
        raise NotAsked("give --prompt, or {upstream} in --run")
    return {"prompt": check.options.prompt}


def scripted(check: Subject, model: str, rpc: str = "GenerateText", **fields: Any) -> Any:
    """A request that the endpoint answers by the script `model`. Raises NotAsked."""
    seen(check)
    return _REQUESTS[rpc](model=model, **{"prompt": "Say what I say.", **fields})


def seen(check: Subject) -> Any:
    """The bodies of the requests that the endpoint has got. Raises NotAsked."""
    if check.upstream is None:
        raise NotAsked("give {upstream} in --run, or --upstream")
    return check.upstream.seen


def whole(replies: list[Any]) -> Any:
    """The last message of a stream that must be whole. Raises Broken."""
    expect(replies, "the stream ended without a message", replies)
    done = [number for number, reply in enumerate(replies) if reply.done]
    expect(done, "no message of the stream has done=true", replies)
    expect(
        done == [len(replies) - 1], f"done=true is on messages {done} of {len(replies)}, not on the last alone", replies
    )
    expect(not replies[-1].text, "the last message has text", replies)
    return replies[-1]


def joined(replies: list[Any]) -> str:
    return "".join(reply.text for reply in replies)


# ---------------------------------------------------------------- the guide


@claims.guide(
    "Without a prompt a call is INVALID_ARGUMENT, as a gRPC status.",
    "Neither `prompt` nor `messages`: INVALID_ARGUMENT. " + STATUS,
)
def nothing_asked(check: Subject) -> None:
    for rpc, request in _REQUESTS.items():
        refusal = check.refused(rpc, request(), f"{rpc} with neither prompt nor messages")
        expect(refusal.code == Code.INVALID_ARGUMENT, f"{rpc}: {_name(refusal.code)}, where INVALID_ARGUMENT belongs")


@claims.guide("Bytes that are no message do no harm.", "What proto3 refuses gRPC answers; the server goes on.")
def broken_bytes(check: Subject) -> None:
    for rpc in ("GenerateText", "StreamText"):
        for data in (b"\x0a\x02\xff\xfe", b"\xff" * 40, b"\x0a\xff\xff\xff\xff\x0f"):
            answer = check.raw(rpc, data)
            expect(isinstance(answer, grpc.RpcError), f"{rpc} took the bytes {data[:8].hex()}")
    check.refused("GenerateText", pb.GenerateTextRequest(), "a call without a prompt, after them")


@claims.guide("A prompt is answered with text.", "GenerateText: one model turn, whole; `text` is the answer.")
def answers(check: Subject) -> None:
    reply = check.ok("GenerateText", pb.GenerateTextRequest(**allowed(check)))
    expect(reply.text.strip(), "the text is empty", reply)


@claims.guide("A stream has text, and ends with one message that says done.", WHOLE)
def stream_ends(check: Subject) -> None:
    replies = check.stream("StreamText", pb.StreamTextRequest(**allowed(check)))
    whole(replies)
    expect(joined(replies).strip(), "the text is empty", replies)


@claims.guide("Streams side by side are each whole.", "Each request has its own reply. " + WHOLE)
def parallel_streams(check: Subject) -> None:
    request = pb.StreamTextRequest(**allowed(check))
    with ThreadPoolExecutor(4) as pool:
        for replies in pool.map(lambda _: check.stream("StreamText", request), range(4)):
            whole(replies)


@claims.guide("A caller that leaves a stream does no harm.", "A cancel ends the call, and the server goes on.")
def left_stream(check: Subject) -> None:
    request = pb.StreamTextRequest(**allowed(check))
    for _ in range(3):
        call = check.open("StreamText", request)
        next(iter(call), None)
        call.cancel()
    whole(check.stream("StreamText", request))


@claims.guide("The models are listed, each once.", "ListModels: the models that the endpoint offers.")
def models(check: Subject) -> None:
    allowed(check)
    reply = check.ok("ListModels", pb.ListModelsRequest())
    names = [model.id for model in reply.models]
    expect(all(names), "a model has no id", reply)
    expect(len(set(names)) == len(names), "a model comes twice", reply)
    if check.upstream is not None:
        expect(
            set(upstream.MODELS) <= set(names),
            f"{sorted(set(upstream.MODELS) - set(names))} of the endpoint are missing",
            reply,
        )


@claims.guide("The text is the endpoint's, character for character.", "`text` is the answer.")
def exact_text(check: Subject) -> None:
    reply = check.ok("GenerateText", scripted(check, "check-text"))
    expect(reply.text == TEXT, f"the text is {reply.text!r}, not {TEXT!r}", reply)


@claims.guide("The pieces of a stream, joined, are the text.", "Pieces of `text` are to be appended in order.")
def exact_stream(check: Subject) -> None:
    replies = check.stream("StreamText", scripted(check, "check-text", "StreamText"))
    whole(replies)
    expect(joined(replies) == TEXT, f"the pieces are {joined(replies)!r}, not {TEXT!r}", replies)
    expect(
        sum(bool(reply.text) for reply in replies) > 1,
        "the text comes in one piece, though the endpoint streamed it",
        replies,
    )


@claims.guide("Prompt and model reach the endpoint.", "`prompt`: a user message; `model` of the request.")
def prompt_arrives(check: Subject) -> None:
    bodies = seen(check)
    for rpc in ("GenerateText", "StreamText"):
        request = scripted(check, "check-echo", rpc, prompt='Ünïcode, \n and "quotes"')
        if rpc == "StreamText":
            replies = check.stream(rpc, request)
            text = joined(replies)
        else:
            text = check.ok(rpc, request).text
        expect(text == 'You said: Ünïcode, \n and "quotes"', f"the prompt came back as {text!r}")
        expect(bodies[-1]["model"] == "check-echo", f"the endpoint was asked for {bodies[-1].get('model')!r}")
        expect(bodies[-1]["messages"][-1]["role"] == "user", f"the prompt came as {bodies[-1]['messages'][-1]}")


@claims.guide("A stream that the endpoint cut off never says done.", TRUNCATED)
def cut_stream(check: Subject) -> None:
    for model in ("check-cut", "check-ends"):
        try:
            replies = check.stream_until_status("StreamText", scripted(check, model, "StreamText"))
        except StreamFailed as failed:
            expect(
                not any(reply.done for reply in failed.replies),
                "a message says done, and then the call fails",
                failed.replies,
            )
            expect(
                joined(failed.replies) == "".join(upstream.TEXT[:3]),
                f"the text so far is {joined(failed.replies)!r}",
                failed.replies,
            )
            code = failed.error.code()
            expect(code == grpc.StatusCode.UNAVAILABLE, f"the status is {code.name}, not UNAVAILABLE", failed.error)
        else:
            raise Broken("the stream was cut off by the endpoint and ends as a success", replies)


@claims.guide("A whole answer that breaks off is a failure.", TRUNCATED)
def cut_answer(check: Subject) -> None:
    refusal = check.refused("GenerateText", scripted(check, "check-cut"), "an answer that the endpoint cut off")
    expect(refusal.code == Code.UNAVAILABLE, f"the status is {_name(refusal.code)}, not UNAVAILABLE")


@claims.guide("A stream with a finish reason and without [DONE] is whole.", WHOLE)
def without_done(check: Subject) -> None:
    replies = check.stream("StreamText", scripted(check, "check-no-done", "StreamText"))
    whole(replies)
    expect(joined(replies) == TEXT, "the text is not the endpoint's", replies)


@claims.guide(
    "What the endpoint refuses is the status that the contract has for it.",
    "400 INVALID_ARGUMENT, 401 UNAUTHENTICATED, 403 PERMISSION_DENIED, 404 NOT_FOUND, 429 RESOURCE_EXHAUSTED, "
    "5xx UNAVAILABLE.",
)
def upstream_statuses(check: Subject) -> None:
    expected = {
        "400": Code.INVALID_ARGUMENT,
        "401": Code.UNAUTHENTICATED,
        "403": Code.PERMISSION_DENIED,
        "404": Code.NOT_FOUND,
        "429": Code.RESOURCE_EXHAUSTED,
        "500": Code.UNAVAILABLE,
        "503": Code.UNAVAILABLE,
    }
    for status, code in expected.items():
        for rpc in ("GenerateText", "StreamText"):
            refusal = check.refused(rpc, scripted(check, f"check-{status}", rpc), f"an endpoint that answers {status}")
            expect(refusal.code == code, f"{rpc}: {status} becomes {_name(refusal.code)}, not {code.name}")


@claims.guide(
    "The token usage is the endpoint's, and absent where it said nothing.",
    "`usage` absent means unknown; it is never a false zero.",
)
def usage(check: Subject) -> None:
    reply = check.ok("GenerateText", scripted(check, "check-text"))
    _expect_usage(reply)
    reply = check.ok("GenerateText", scripted(check, "check-no-usage"))
    expect(
        not reply.HasField("usage") or reply.usage.source == pb.USAGE_SOURCE_ESTIMATED,
        "the endpoint said nothing of usage, and the reply has one",
        reply,
    )


# ---------------------------------------------------------------- the additions


@claims.full("The refusal of an empty call has details.", "ErrorInfo{reason, domain} in grpc-status-details-bin.")
def error_details(check: Subject) -> None:
    for rpc, request in _REQUESTS.items():
        check.refused_with(rpc, request(), f"{rpc} with neither prompt nor messages", Code.INVALID_ARGUMENT)


@claims.full("A cut-off stream has the reason STREAM_TRUNCATED.", TRUNCATED)
def cut_reason(check: Subject) -> None:
    try:
        replies, _ = check.stream_until_status("StreamText", scripted(check, "check-cut", "StreamText"))
    except StreamFailed as failed:
        reason = of_call(failed.error).reason
        expect(reason == "STREAM_TRUNCATED", f"the reason is {reason!r}", failed.error)
    else:
        raise Broken("the stream was cut off by the endpoint and ends as a success", replies)


@claims.full(
    "A refusal of the endpoint has its reason, and what can be tried again says when.",
    "429 with RetryInfo; context overflow: CONTEXT_LENGTH_EXCEEDED; 401 and 403: reasons UPSTREAM_…",
)
def upstream_reasons(check: Subject) -> None:
    def refusal(status: str) -> Any:
        return check.refused("GenerateText", scripted(check, f"check-{status}"), f"an endpoint that answers {status}")

    limited = refusal("429")
    expect(limited.retry, "429: no RetryInfo", limited.reply)
    overflow = refusal("context")
    expect(overflow.code == Code.INVALID_ARGUMENT, f"a context overflow is {_name(overflow.code)}", overflow.reply)
    expect(
        overflow.reason == "CONTEXT_LENGTH_EXCEEDED",
        f"a context overflow has reason {overflow.reason!r}",
        overflow.reply,
    )
    for status in ("401", "403"):
        denied = refusal(status)
        expect(denied.reason.startswith("UPSTREAM_"), f"{status} has reason {denied.reason!r}", denied.reply)


@claims.full(
    "A conversation reaches the endpoint in its order, the prompt last.",
    "`prompt` beside `messages` is appended as the last user message.",
)
def messages_arrive(check: Subject) -> None:
    history = [
        pb.ChatMessage(role="system", content="Be brief."),
        pb.ChatMessage(role="user", content="One?"),
        pb.ChatMessage(role="assistant", content="Two."),
    ]
    for rpc in ("GenerateText", "StreamText"):
        request = scripted(check, "check-text", rpc, messages=history, prompt="Three?")
        check.stream(rpc, request) if rpc == "StreamText" else check.ok(rpc, request)
        sent = [(message["role"], _text(message)) for message in seen(check)[-1]["messages"]]
        expected = [("system", "Be brief."), ("user", "One?"), ("assistant", "Two."), ("user", "Three?")]
        expect(
            [("system" if role == "developer" else role, text) for role, text in sent] == expected,
            f"{rpc}: the endpoint got {sent}",
        )


@claims.full("Messages alone are enough.", "Needs `prompt` or `messages`.")
def messages_alone(check: Subject) -> None:
    request = scripted(check, "check-echo", messages=[pb.ChatMessage(role="user", content="hello")], prompt="")
    reply = check.ok("GenerateText", request)
    expect(reply.text == "You said: hello", f"the text is {reply.text!r}", reply)


@claims.full(
    "Options reach the endpoint, zero included, and those that are unset do not.",
    "GenerationOptions; temperature 0 is a value; extra_json goes to the endpoint as it is.",
)
def options_arrive(check: Subject) -> None:
    options = pb.GenerationOptions(
        temperature=0, top_p=0.5, stop=["END"], seed=7, extra_json='{"check_extra": [1, {"a": null}]}'
    )
    check.ok("GenerateText", scripted(check, "check-text", options=options))
    body = seen(check)[-1]
    for name, value in {"temperature": 0, "top_p": 0.5, "seed": 7, "check_extra": [1, {"a": None}]}.items():
        expect(name in body and body[name] == value, f"the endpoint got {name}={body.get(name)!r}, not {value!r}")
    expect(body.get("stop") in ("END", ["END"]), f"the endpoint got stop={body.get('stop')!r}")
    for name in ("presence_penalty", "frequency_penalty"):
        expect(body.get(name) is None, f"the endpoint got {name}={body.get(name)!r}, which nobody set")


@claims.full("Why the model stopped is told raw and normalised.", FINISH)
def finish_reasons(check: Subject) -> None:
    expected = {
        "text": (pb.FINISH_REASON_STOP, "stop"),
        "length": (pb.FINISH_REASON_LENGTH, "length"),
        "filter": (pb.FINISH_REASON_CONTENT_FILTER, "content_filter"),
        "odd": (None, "eos_token"),
    }
    for script, (reason, raw) in expected.items():
        reply = check.ok("GenerateText", scripted(check, f"check-{script}"))
        last = whole(check.stream("StreamText", scripted(check, f"check-{script}", "StreamText")))
        for message in (reply, last):
            got = pb.FinishReason.Name(message.finish_reason)
            expect(
                message.raw_finish_reason == raw,
                f"raw_finish_reason is {message.raw_finish_reason!r}, not {raw!r}",
                reply,
            )
            expect(reason is None or message.finish_reason == reason, f"{raw!r} becomes {got}", reply)
            expect(message.finish_reason != pb.FINISH_REASON_UNSPECIFIED, f"{raw!r} becomes {got}", reply)


@claims.full(
    "A stream's last message has the usage, and none where the endpoint said nothing.",
    "`usage` of the whole turn, on the last message; absent there: unknown.",
)
def stream_usage(check: Subject) -> None:
    _expect_usage(whole(check.stream("StreamText", scripted(check, "check-text", "StreamText"))))
    last = whole(check.stream("StreamText", scripted(check, "check-no-usage", "StreamText")))
    estimated = last.usage.source == pb.USAGE_SOURCE_ESTIMATED
    expect(not last.HasField("usage") or estimated, "the endpoint said nothing of usage, and the stream has one")


@claims.full("Tool calls come whole, in the model's order, and as tool calls they end the turn.", FINISH)
def tool_calls(check: Subject) -> None:
    for model in ("check-tools", "check-tools-stop"):
        for rpc in ("GenerateText", "CallTool"):
            reply = check.ok(rpc, scripted(check, model, rpc, tools=[_WEATHER]))
            _expect_calls(reply.tool_calls, reply)
            expect(
                reply.finish_reason == pb.FINISH_REASON_TOOL_CALLS,
                f"finish_reason is {pb.FinishReason.Name(reply.finish_reason)}",
                reply,
            )


@claims.full("A stream's deltas, joined, are the calls of its last message.", TOOL_CALLS)
def tool_deltas(check: Subject) -> None:
    replies = check.stream("StreamText", scripted(check, "check-tools", "StreamText", tools=[_WEATHER]))
    last = whole(replies)
    _expect_calls(last.tool_calls, replies)
    arguments: dict[int, str] = {}
    for reply in replies:
        if reply.HasField("tool_call_delta"):
            delta = reply.tool_call_delta
            arguments[delta.index] = arguments.get(delta.index, "") + delta.arguments_json
    expect(
        [arguments.get(n) for n in range(2)] == [call.arguments_json for call in last.tool_calls],
        f"the deltas are {arguments}",
        replies,
    )
    expect(not any(reply.tool_calls for reply in replies[:-1]), "whole calls come before the last message", replies)


@claims.full(
    "Arguments that were cut off, or are no JSON, are given as they came and are not valid.",
    "arguments_json as the model wrote it, even malformed; arguments_valid says whether. " + FINISH,
)
def bad_arguments(check: Subject) -> None:
    reply = check.ok("GenerateText", scripted(check, "check-tools-broken", tools=[_WEATHER]))
    expect(len(reply.tool_calls) == 1, f"there are {len(reply.tool_calls)} calls, not 1", reply)
    call = reply.tool_calls[0]
    expect(call.arguments_json == '{"city": Paris}', f"the arguments are {call.arguments_json!r}", reply)
    expect(
        not call.arguments_valid and call.arguments_error,
        "arguments that are no JSON are called valid, or no error is named",
        reply,
    )
    reply = check.ok("GenerateText", scripted(check, "check-tools-cut", tools=[_WEATHER]))
    expect(
        reply.finish_reason == pb.FINISH_REASON_LENGTH,
        f"arguments cut off give {pb.FinishReason.Name(reply.finish_reason)}",
        reply,
    )
    expect(
        not any(call.arguments_valid for call in reply.tool_calls),
        "arguments that were cut off are called valid",
        reply,
    )


@claims.full(
    "The tools reach the endpoint, and CallTool asks for one.",
    "CallTool must end in tool calls: tool_choice defaults to `required`.",
)
def tools_arrive(check: Subject) -> None:
    check.ok("CallTool", scripted(check, "check-tools", "CallTool", tools=[_WEATHER]))
    body = seen(check)[-1]
    sent = [tool["function"] for tool in body.get("tools") or []]
    expect([tool["name"] for tool in sent] == ["weather"], f"the endpoint got the tools {sent}")
    schema = json.loads(_WEATHER.parameters_json)
    expect(sent[0].get("parameters") == schema, f"the endpoint got the schema {sent[0].get('parameters')}")
    expect(body.get("tool_choice") == "required", f"the endpoint got tool_choice={body.get('tool_choice')!r}")
    check.ok("GenerateText", scripted(check, "check-text", tools=[_WEATHER]))
    choice = seen(check)[-1].get("tool_choice")
    expect(choice in (None, "auto"), f"GenerateText sent tool_choice={choice!r}")


@claims.full(
    "A tool's result goes back as a message of role tool.", "The result comes back as a message of role `tool`."
)
def tool_results_arrive(check: Subject) -> None:
    call = pb.ToolCall(id="call_a", name="weather", arguments_json='{"city": "Paris"}')
    history = [
        pb.ChatMessage(role="user", content="The weather of Paris?"),
        pb.ChatMessage(role="assistant", tool_calls=[call]),
        pb.ChatMessage(role="tool", tool_call_id="call_a", name="weather", content="sunny"),
    ]
    check.ok("GenerateText", scripted(check, "check-text", messages=history, prompt="", tools=[_WEATHER]))
    sent = seen(check)[-1]["messages"]
    expect([message["role"] for message in sent] == ["user", "assistant", "tool"], f"the endpoint got {sent}")
    expect(sent[2].get("tool_call_id") == "call_a" and _text(sent[2]) == "sunny", f"the endpoint got {sent[2]}")
    function = (sent[1].get("tool_calls") or [{}])[0].get("function", {})
    expect(json.loads(function.get("arguments") or "{}") == {"city": "Paris"}, f"the endpoint got {sent[1]}")


@claims.full("A reply names the model that answered.", "`model`: the model that answered, as the endpoint names it.")
def model_named(check: Subject) -> None:
    reply = check.ok("GenerateText", scripted(check, "check-text"))
    expect(reply.model == "check-model", f"the model is {reply.model!r}", reply)
    last = whole(check.stream("StreamText", scripted(check, "check-text", "StreamText")))
    expect(last.model == "check-model", f"a stream's model is {last.model!r}")


def _expect_usage(reply: Any) -> None:
    expect(reply.HasField("usage"), "the endpoint told its usage, and the reply has none", reply)
    got = (reply.usage.prompt_tokens, reply.usage.completion_tokens, reply.usage.total_tokens)
    expect(got == tuple(upstream.USAGE.values()), f"the usage is {got}, not {tuple(upstream.USAGE.values())}", reply)


def _expect_calls(calls: Any, reply: Any) -> None:
    expect(len(calls) == len(upstream.CALLS), f"there are {len(calls)} calls, not {len(upstream.CALLS)}", reply)
    for call, (key, name, pieces) in zip(calls, upstream.CALLS, strict=True):
        expect(
            (call.id, call.name) == (key, name), f"the call is {call.name!r} {call.id!r}, not {name!r} {key!r}", reply
        )
        expect(call.arguments_json == "".join(pieces), f"the arguments are {call.arguments_json!r}", reply)
        expect(
            call.arguments_valid and not call.arguments_error,
            f"good arguments are not called valid: {call.arguments_error}",
            reply,
        )


def _text(message: dict[str, Any]) -> str:
    content = message.get("content") or ""
    return content if isinstance(content, str) else "".join(part.get("text", "") for part in content)


def _name(code: Code | None) -> str:
    return code.name if code is not None else "no status"
