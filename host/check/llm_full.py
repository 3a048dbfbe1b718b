"""The additions of LLM plugins, on the scripted endpoint; the guide's part is in `llm.py`."""

from __future__ import annotations

import json
from typing import Any

import hector_plugins_pb2 as pb

from host.check.claims import Broken, Claims, expect
from host.check.llm import (
    FINISH,
    REQUESTS,
    TRUNCATED,
    WEATHER,
    expect_usage,
    name_of,
    scripted,
    seen,
    whole,
)
from host.check.refusal import of_call
from host.check.subject import StreamFailed, Subject
from shared.errors import Code

claims = Claims("llm")


@claims.full("The refusal of an empty call has details.", "ErrorInfo{reason, domain} in grpc-status-details-bin.")
def error_details(check: Subject) -> None:
    for rpc, request in REQUESTS.items():
        check.refused_with(rpc, request(), f"{rpc} with neither prompt nor messages", Code.INVALID_ARGUMENT)
    if check.upstream is not None:
        for status, code in (("404", Code.NOT_FOUND), ("503", Code.UNAVAILABLE), ("504", Code.DEADLINE_EXCEEDED)):
            what = f"an endpoint that answers {status}"
            check.refused_with("GenerateText", scripted(check, f"check-{status}"), what, code)


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
    expect(overflow.code == Code.INVALID_ARGUMENT, f"a context overflow is {name_of(overflow.code)}", overflow.reply)
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
    for rpc in ("GenerateText", "StreamText", "CallTool"):
        model = "check-tools" if rpc == "CallTool" else "check-text"
        request = scripted(check, model, rpc, messages=history, prompt="Three?", tools=[WEATHER])
        check.stream(rpc, request) if rpc == "StreamText" else check.ok(rpc, request)
        sent = [(message["role"], text_of(message)) for message in seen(check)[-1]["messages"]]
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
        temperature=0,
        top_p=0.5,
        max_tokens=99,
        stop=["END"],
        seed=7,
        frequency_penalty=0.25,
        reasoning_effort="low",
        extra_json='{"check_extra": [1, {"a": null}]}',
    )
    sent = {"temperature": 0, "top_p": 0.5, "seed": 7, "frequency_penalty": 0.25, "check_extra": [1, {"a": None}]}
    for rpc, model in (("GenerateText", "check-text"), ("StreamText", "check-text"), ("CallTool", "check-tools")):
        request = scripted(check, model, rpc, options=options, tools=[WEATHER])
        check.stream(rpc, request) if rpc == "StreamText" else check.ok(rpc, request)
        body = seen(check)[-1]
        for name, value in (sent | {"reasoning_effort": "low"}).items():
            got = body.get(name)
            expect(name in body and got == value, f"{rpc}: the endpoint got {name}={got!r}, not {value!r}")
        most = body.get("max_tokens", body.get("max_completion_tokens"))
        expect(most == 99, f"{rpc}: the endpoint got max_tokens={most!r}, not 99")
        expect(body.get("stop") in ("END", ["END"]), f"{rpc}: the endpoint got stop={body.get('stop')!r}")
        unset = body.get("presence_penalty")
        expect(unset is None, f"{rpc}: the endpoint got presence_penalty={unset!r}, which nobody set")


@claims.full(
    "A schema for the answer reaches the endpoint.",
    "`response_format`, `json_schema`: the form that the model is held to.",
)
def schema_arrives(check: Subject) -> None:
    schema = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
    options = pb.GenerationOptions(response_format=pb.RESPONSE_FORMAT_JSON_SCHEMA, json_schema=json.dumps(schema))
    check.ok("GenerateText", scripted(check, "check-json", options=options))
    form = seen(check)[-1].get("response_format") or {}
    expect(form.get("type") == "json_schema", f"the endpoint got response_format={form}")
    sent = (form.get("json_schema") or {}).get("schema") or {}
    kept = sent.get("properties") == schema["properties"] and sent.get("required") == ["city"]
    expect(kept, f"the endpoint got the schema {sent}, not {schema}")


@claims.full("An image of a message reaches the endpoint.", "`parts`: content that is more than text, in order.")
def image_arrives(check: Subject) -> None:
    picture = "https://example.com/check.png"
    parts = [pb.ContentPart(text="What is this?"), pb.ContentPart(url=picture, mime_type="image/png")]
    history = [pb.ChatMessage(role="user", parts=parts)]
    check.ok("GenerateText", scripted(check, "check-text", messages=history, prompt=""))
    content = seen(check)[-1]["messages"][-1].get("content")
    kinds = [part.get("type") for part in content] if isinstance(content, list) else content
    expect(kinds == ["text", "image_url"], f"the endpoint got the parts {kinds}")
    expect(content[1]["image_url"]["url"] == picture, f"the endpoint got {content[1]}")


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
    last = whole(check.stream("StreamText", scripted(check, "check-text", "StreamText")))
    expect_usage(last)
    for reply in (last, check.ok("GenerateText", scripted(check, "check-text"))):
        source = pb.UsageSource.Name(reply.usage.source)
        expect(reply.usage.source == pb.USAGE_SOURCE_PROVIDER, f"usage that the endpoint told has {source}", reply)
    last = whole(check.stream("StreamText", scripted(check, "check-no-usage", "StreamText")))
    estimated = last.usage.source == pb.USAGE_SOURCE_ESTIMATED
    expect(not last.HasField("usage") or estimated, "the endpoint said nothing of usage, and the stream has one")


@claims.full(
    "A reply names the model that answered, and the answer's id.",
    "`model`, `response_id`: as the endpoint names them.",
)
def model_named(check: Subject) -> None:
    for rpc, script in (("GenerateText", "check-text"), ("CallTool", "check-tools")):
        reply = check.ok(rpc, scripted(check, script, rpc, tools=[WEATHER]))
        expect(reply.model == "check-model", f"{rpc}: the model is {reply.model!r}", reply)
        expect(reply.response_id == "chatcmpl-check", f"{rpc}: response_id is {reply.response_id!r}", reply)
        expect_usage(reply)
    last = whole(check.stream("StreamText", scripted(check, "check-text", "StreamText")))
    expect(last.model == "check-model", f"a stream's model is {last.model!r}")
    expect(last.response_id == "chatcmpl-check", f"a stream's response_id is {last.response_id!r}")


def text_of(message: dict[str, Any]) -> str:
    content = message.get("content") or ""
    return content if isinstance(content, str) else "".join(part.get("text", "") for part in content)
