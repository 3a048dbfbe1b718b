"""What holds for every LLMProvider.

What a model writes is nobody's to say, so most of it is tried with a scripted endpoint behind the plugin
(`upstream.py`; `{upstream}` in --run, or --upstream PORT); with --prompt a part of it is tried on
the model that is there.
"""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import hector_plugins_pb2 as pb

from host.check import upstream
from host.check.claims import Claims, NotAsked, expect
from host.check.odd_bytes import takes_no_odd_bytes
from host.check.subject import Subject
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
