"""The additions of LLM plugins about tool calls, on the scripted endpoint; the others are in `llm_full.py`."""

from __future__ import annotations

import json
from typing import Any

import hector_plugins_pb2 as pb

from host.check import upstream
from host.check.claims import Claims, expect
from host.check.llm import FINISH, TOOL_CALLS, WEATHER, scripted, seen, whole
from host.check.llm_full import text_of
from host.check.subject import Subject

claims = Claims("llm")


@claims.full("Tool calls come whole, in the model's order, and as tool calls they end the turn.", FINISH)
def tool_calls(check: Subject) -> None:
    for model in ("check-tools", "check-tools-stop"):
        for rpc in ("GenerateText", "CallTool"):
            reply = check.ok(rpc, scripted(check, model, rpc, tools=[WEATHER]))
            _expect_calls(reply.tool_calls, reply)
            expect(
                reply.finish_reason == pb.FINISH_REASON_TOOL_CALLS,
                f"finish_reason is {pb.FinishReason.Name(reply.finish_reason)}",
                reply,
            )


@claims.full("A stream's deltas, joined, are the calls of its last message.", TOOL_CALLS)
def tool_deltas(check: Subject) -> None:
    replies = check.stream("StreamText", scripted(check, "check-tools", "StreamText", tools=[WEATHER]))
    last = whole(replies)
    _expect_calls(last.tool_calls, replies)
    reason = pb.FinishReason.Name(last.finish_reason)
    expect(last.finish_reason == pb.FINISH_REASON_TOOL_CALLS, f"finish_reason is {reason}", replies)
    early = any(reply.finish_reason for reply in replies[:-1])
    expect(not early, "a finish_reason comes before the last message", replies)
    arguments: dict[int, str] = {}
    names: dict[int, tuple[str, str]] = {}
    for reply in replies:
        if reply.HasField("tool_call_delta"):
            delta = reply.tool_call_delta
            key, name = names.get(delta.index, ("", ""))
            names[delta.index] = (key or delta.id, name or delta.name)
            arguments[delta.index] = arguments.get(delta.index, "") + delta.arguments_json
    expect(
        [arguments.get(n) for n in range(2)] == [call.arguments_json for call in last.tool_calls],
        f"the deltas are {arguments}",
        replies,
    )
    expect(list(names.values()) == [call[:2] for call in upstream.CALLS], f"the deltas name {names}", replies)
    expect(not any(reply.tool_calls for reply in replies[:-1]), "whole calls come before the last message", replies)


@claims.full(
    "Arguments that were cut off, or are no JSON, are given as they came and are not valid.",
    "arguments_json as the model wrote it, even malformed; arguments_valid: it holds to the tool's schema. " + FINISH,
)
def bad_arguments(check: Subject) -> None:
    reply = check.ok("GenerateText", scripted(check, "check-tools-broken", tools=[WEATHER]))
    expect(len(reply.tool_calls) == 1, f"there are {len(reply.tool_calls)} calls, not 1", reply)
    call = reply.tool_calls[0]
    expect(call.arguments_json == '{"city": Paris}', f"the arguments are {call.arguments_json!r}", reply)
    expect(
        not call.arguments_valid and call.arguments_error,
        "arguments that are no JSON are called valid, or no error is named",
        reply,
    )
    for reply in (
        check.ok("GenerateText", scripted(check, "check-tools-wrong", tools=[WEATHER])),
        whole(check.stream("StreamText", scripted(check, "check-tools-wrong", "StreamText", tools=[WEATHER]))),
    ):
        call = reply.tool_calls[0]
        named = not call.arguments_valid and call.arguments_error
        expect(named, "arguments without what the schema requires are called valid, or no error is named", reply)
    reply = check.ok("GenerateText", scripted(check, "check-tools-cut", tools=[WEATHER]))
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
    check.ok("CallTool", scripted(check, "check-tools", "CallTool", tools=[WEATHER]))
    body = seen(check)[-1]
    sent = [tool["function"] for tool in body.get("tools") or []]
    expect([tool["name"] for tool in sent] == ["weather"], f"the endpoint got the tools {sent}")
    schema = json.loads(WEATHER.parameters_json)
    expect(sent[0].get("parameters") == schema, f"the endpoint got the schema {sent[0].get('parameters')}")
    expect(body.get("tool_choice") == "required", f"the endpoint got tool_choice={body.get('tool_choice')!r}")
    check.ok("GenerateText", scripted(check, "check-text", tools=[WEATHER]))
    choice = seen(check)[-1].get("tool_choice")
    expect(choice in (None, "auto"), f"GenerateText sent tool_choice={choice!r}")
    options = pb.GenerationOptions(tool_choice="weather", parallel_tool_calls=False)
    check.ok("GenerateText", scripted(check, "check-tools", tools=[WEATHER], options=options))
    body = seen(check)[-1]
    choice = body.get("tool_choice")
    named = isinstance(choice, dict) and (choice.get("function") or {}).get("name") == "weather"
    expect(named, f"for the tool_choice `weather` the endpoint got {choice!r}")
    parallel = body.get("parallel_tool_calls")
    expect(parallel is False, f"the endpoint got parallel_tool_calls={parallel!r}, not false")


@claims.full(
    "Where the endpoint refuses to require a tool, CallTool asks again without.",
    "`tool_choice` defaults to `required`, falls back to `auto` where refused.",
)
def falls_back_to_auto(check: Subject) -> None:
    reply = check.ok("CallTool", scripted(check, "check-auto", "CallTool", tools=[WEATHER]))
    _expect_calls(reply.tool_calls, reply)
    choice = seen(check)[-1].get("tool_choice")
    expect(choice in (None, "auto"), f"at last the endpoint got tool_choice={choice!r}")


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
    check.ok("GenerateText", scripted(check, "check-text", messages=history, prompt="", tools=[WEATHER]))
    sent = seen(check)[-1]["messages"]
    expect([message["role"] for message in sent] == ["user", "assistant", "tool"], f"the endpoint got {sent}")
    expect(sent[2].get("tool_call_id") == "call_a" and text_of(sent[2]) == "sunny", f"the endpoint got {sent[2]}")
    function = (sent[1].get("tool_calls") or [{}])[0].get("function", {})
    expect(json.loads(function.get("arguments") or "{}") == {"city": "Paris"}, f"the endpoint got {sent[1]}")


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
