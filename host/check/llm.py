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
from host.check.odd_bytes import takes_no_odd_bytes
from host.check.subject import StreamFailed, Subject
from shared.errors import Code

claims = Claims("llm")
STATUS = "LLMProvider: every failure is a gRPC status."
WHOLE = "A stream is whole when a finish reason or [DONE] came. Its last message has done=true and empty `text`."
TRUNCATED = "A reply that was cut off: the text so far, no `done`, then UNAVAILABLE with reason STREAM_TRUNCATED."
MIRROR = "StreamText and CallTool requests mirror GenerateTextRequest."
TOOL_CALLS = "Tool calls come as deltas and, whole, on the last message."
FINISH = 'Finish reasons are kept raw and normalised: tool calls win over "stop"; arguments cut off make it LENGTH.'
TEXT = "".join(upstream.TEXT)
REQUESTS: dict[str, type[Any]] = {
    "GenerateText": pb.GenerateTextRequest,
    "StreamText": pb.StreamTextRequest,
    "CallTool": pb.CallToolRequest,
}
WEATHER = pb.Tool(
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
    return REQUESTS[rpc](model=model, **{"prompt": "Say what I say.", **fields})


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


def name_of(code: Code | None) -> str:
    return code.name if code is not None else "no status"


def expect_usage(reply: Any) -> None:
    expect(reply.HasField("usage"), "the endpoint told its usage, and the reply has none", reply)
    got = (reply.usage.prompt_tokens, reply.usage.completion_tokens, reply.usage.total_tokens)
    expect(got == tuple(upstream.USAGE.values()), f"the usage is {got}, not {tuple(upstream.USAGE.values())}", reply)


# ---------------------------------------------------------------- the guide


@claims.guide(
    "Without a prompt a call is INVALID_ARGUMENT, as a gRPC status.",
    "Neither `prompt` nor `messages`: INVALID_ARGUMENT. " + STATUS,
)
def nothing_asked(check: Subject) -> None:
    for rpc, request in REQUESTS.items():
        refusal = check.refused(rpc, request(), f"{rpc} with neither prompt nor messages")
        expect(refusal.code == Code.INVALID_ARGUMENT, f"{rpc}: {name_of(refusal.code)}, where INVALID_ARGUMENT belongs")


@claims.guide("Bytes that are no message do no harm.", "What proto3 refuses gRPC answers; the server goes on.")
def broken_bytes(check: Subject) -> None:
    for rpc in ("GenerateText", "StreamText"):
        takes_no_odd_bytes(check, rpc)
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
    texts = [f"caller {number} " * 20 for number in range(4)] if check.upstream is not None else [""] * 4
    echoes = [{"prompt": text, "model": "check-echo"} if text else allowed(check) for text in texts]
    with ThreadPoolExecutor(4) as pool:
        streams = pool.map(lambda fields: check.stream("StreamText", pb.StreamTextRequest(**fields)), echoes)
        for text, replies in zip(texts, streams, strict=True):
            whole(replies)
            own = not text or joined(replies) == f"You said: {text}"
            expect(own, f"the caller that said {text[:8]!r} got {joined(replies)[:40]!r}", replies)


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
    expect(sum(model.is_default for model in reply.models) <= 1, "more than one model is the default", reply)
    for model in reply.models:
        odd = set(model.capabilities) - {"tools", "vision", "json_schema", "reasoning"}
        expect(not odd, f"model {model.id} has the capabilities {sorted(odd)}", reply)
        lengths = (model.context_length, model.max_output_tokens)
        expect(min(lengths) >= 0, f"model {model.id} has the lengths {lengths}", reply)
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
    expect(refusal.code == Code.UNAVAILABLE, f"the status is {name_of(refusal.code)}, not UNAVAILABLE")


@claims.guide("A stream with a finish reason and without [DONE] is whole.", WHOLE)
def without_done(check: Subject) -> None:
    replies = check.stream("StreamText", scripted(check, "check-no-done", "StreamText"))
    whole(replies)
    expect(joined(replies) == TEXT, "the text is not the endpoint's", replies)


@claims.guide(
    "What the endpoint refuses is the status that the contract has for it.",
    "400 INVALID_ARGUMENT, 401 UNAUTHENTICATED, 403 PERMISSION_DENIED, 404 NOT_FOUND, 408 and 504 DEADLINE_EXCEEDED, "
    "429 RESOURCE_EXHAUSTED, 5xx, 529 and a lost connection UNAVAILABLE.",
)
def upstream_statuses(check: Subject) -> None:
    expected = {
        "400": Code.INVALID_ARGUMENT,
        "401": Code.UNAUTHENTICATED,
        "403": Code.PERMISSION_DENIED,
        "404": Code.NOT_FOUND,
        "408": Code.DEADLINE_EXCEEDED,
        "429": Code.RESOURCE_EXHAUSTED,
        "500": Code.UNAVAILABLE,
        "502": Code.UNAVAILABLE,
        "503": Code.UNAVAILABLE,
        "504": Code.DEADLINE_EXCEEDED,
        "529": Code.UNAVAILABLE,
        "gone": Code.UNAVAILABLE,
    }
    for status, code in expected.items():
        for rpc in ("GenerateText", "StreamText"):
            refusal = check.refused(rpc, scripted(check, f"check-{status}", rpc), f"an endpoint that answers {status}")
            expect(refusal.code == code, f"{rpc}: {status} becomes {name_of(refusal.code)}, not {code.name}")


@claims.guide("A key that the endpoint repeats in its refusal is not shown.", "An error never shows a secret.")
def key_is_kept(check: Subject) -> None:
    for rpc in ("GenerateText", "StreamText"):
        refusal = check.refused(rpc, scripted(check, "check-leak", rpc), "an endpoint that repeats the key")
        key = check.upstream.keys[-1] if check.upstream is not None else ""
        if len(key) < 8:
            raise NotAsked("the plugin has no key for its endpoint; give it one")
        expect(key not in refusal.message, f"{rpc}: the error shows the key of the endpoint")


@claims.guide(
    "The token usage is the endpoint's, and absent where it said nothing.",
    "`usage` absent means unknown; it is never a false zero.",
)
def usage(check: Subject) -> None:
    reply = check.ok("GenerateText", scripted(check, "check-text"))
    expect_usage(reply)
    reply = check.ok("GenerateText", scripted(check, "check-no-usage"))
    expect(
        not reply.HasField("usage") or reply.usage.source == pb.USAGE_SOURCE_ESTIMATED,
        "the endpoint said nothing of usage, and the reply has one",
        reply,
    )
