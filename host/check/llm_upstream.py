"""What holds for every LLMProvider whose endpoint is the kit's own (`upstream.py`), so that its answers are known."""

from __future__ import annotations

import grpc
import hector_plugins_pb2 as pb

from host.check import upstream
from host.check.claims import Broken, Claims, NotAsked, expect
from host.check.llm import TEXT, TRUNCATED, WHOLE, expect_usage, joined, name_of, scripted, seen, whole
from host.check.subject import StreamFailed, Subject
from shared.errors import Code

claims = Claims("llm")


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
