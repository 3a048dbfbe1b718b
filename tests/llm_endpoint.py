"""An endpoint that misbehaves on demand: a real HTTP server, whose behaviour a request picks by the model it names.

    python -m tests.llm_endpoint --port 9000       # then --endpoint http://127.0.0.1:9000/v1, model `no-done`
    python -m tests.llm_endpoint --list

It speaks HTTP/1.1 by hand, so that it can cut, stall and lie at any byte. `Endpoint.seen` has every request.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import dataclasses
import functools
import gzip
import json
import ssl
import struct
import threading
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Body = Mapping[str, Any]
CUT, CLOSE, HANG = "cut", "close", "hang"


@dataclass(frozen=True)
class Play:
    """What is sent: `pieces` one by one (a number is a pause in seconds), and how it `ends`: properly, by a reset of
    the connection (which throws away what the client has not read yet), by its early end, or not at all, until the
    client goes."""

    pieces: Sequence[bytes | str | float] = ()
    status: int = 200
    kind: str = "text/event-stream"
    headers: Mapping[str, str] = field(default_factory=dict)
    ends: str = ""
    chunked: bool = True


@dataclass
class Seen:
    """A request as it came."""

    method: str
    path: str
    headers: Mapping[str, str]  # names in lower case
    body: Any
    gone: threading.Event = field(default_factory=threading.Event)  # the client closed while it was answered


Behaviour = Callable[[Body, int], Play]
BEHAVIOURS: dict[str, Behaviour] = {}


def behaviour(function: Behaviour) -> Behaviour:
    """Registers it under its name, with dashes. It gets the request's body and how often its model was asked for."""
    BEHAVIOURS[function.__name__.replace("_", "-")] = function
    return function


# ---------------------------------------------------------------- building blocks


def chunk(content: str | None = None, *, finish: str | None = None, **more: Any) -> dict[str, Any]:
    """A chunk of a stream; `more` goes into the delta."""
    delta = ({"content": content} if content is not None else {}) | more
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "played",
        "choices": [{"index": 0, "delta": delta, "finish_reason": finish}],
    }


def event(value: object) -> str:
    return f"data: {value if isinstance(value, str) else json.dumps(value)}\n\n"


def events(*values: object, done: bool = True) -> list[bytes | str | float]:
    return [*map(event, values), *([event("[DONE]")] if done else [])]


USAGE = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
USED = {"id": "chatcmpl-1", "model": "played", "choices": [], "usage": USAGE}


def whole(text: str | None = "Hello", finish: str = "stop", usage: Any = USAGE, **more: Any) -> Play:
    """A JSON body; `more` goes into the message."""
    message = {"role": "assistant", "content": text} | more
    choices = [{"index": 0, "message": message, "finish_reason": finish}]
    body = {"id": "chatcmpl-1", "object": "chat.completion", "model": "played", "choices": choices, "usage": usage}
    return Play([json.dumps(body)], kind="application/json", chunked=False)


def answer(body: Body, text: str = "Hello", **more: Any) -> Play:
    """As a good server would: streamed or whole, as it was asked."""
    if not body.get("stream"):
        return whole(text, **more)
    half = len(text) // 2
    return Play(events(chunk("", role="assistant"), chunk(text[:half]), chunk(text[half:]), chunk(finish="stop"), USED))


def refusal(status: int, message: str, **more: Any) -> Play:
    headers = more.pop("headers", {})
    error = {"message": message, "type": "invalid_request_error", "param": None, "code": None} | more
    return Play([json.dumps({"error": error})], status, "application/json", headers, chunked=False)


def called(*pieces: Mapping[str, Any], finish: str = "tool_calls", done: bool = True) -> Play:
    """A stream of tool call deltas, one a chunk."""
    return Play(events(*(chunk(tool_calls=[piece]) for piece in pieces), chunk(finish=finish), done=done))


def piece(
    index: int | None = 0, id: str | None = None, name: str | None = None, arguments: Any = None
) -> dict[str, Any]:
    function = {key: value for key, value in (("name", name), ("arguments", arguments)) if value is not None}
    labels = {key: value for key, value in (("index", index), ("id", id)) if value is not None}
    return labels | {"type": "function", "function": function}


# ---------------------------------------------------------------- behaviours


@behaviour
def hello(body: Body, nth: int) -> Play:
    """Answers as the best of servers."""
    return answer(body)


@behaviour
def echo(body: Body, nth: int) -> Play:
    """Says the last message's content again."""
    said = body["messages"][-1]["content"]
    return answer(body, said if isinstance(said, str) else json.dumps(said))


@behaviour
def comments(body: Body, nth: int) -> Play:
    """Comment lines between, before and after the events."""
    return Play([": OPENROUTER PROCESSING\n\n", *_between(": still here\n\n")])


@behaviour
def empty_data(body: Body, nth: int) -> Play:
    """Empty `data:` lines between the events."""
    return Play(_between("data:\n\n") + _between("data: \n\n")[-1:])


@behaviour
def pings(body: Body, nth: int) -> Play:
    """Ping events, with and without data."""
    return Play(_between("event: ping\ndata: {}\n\nevent: ping\ndata: pong\n\n" + event({"type": "ping"})))


@behaviour
def no_done(body: Body, nth: int) -> Play:
    """No `[DONE]`; the finish reason came."""
    return Play(events(chunk("Hel"), chunk("lo"), chunk(finish="stop"), done=False))


@behaviour
def no_finish(body: Body, nth: int) -> Play:
    """No finish reason; `[DONE]` came."""
    return Play(events(chunk("Hel"), chunk("lo")))


@behaviour
def no_last_blank(body: Body, nth: int) -> Play:
    """The last event lacks its blank line."""
    return Play([*events(chunk("Hel"), chunk("lo"), done=False), event(chunk(finish="stop")).rstrip("\n")])


@behaviour
def crlf(body: Body, nth: int) -> Play:
    """Lines end in CR LF, and every byte comes by itself."""
    text = "".join(map(str, events(chunk("Hel"), chunk("lo"), chunk(finish="stop")))).replace("\n", "\r\n")
    return Play([text[n : n + 1] for n in range(len(text))])


@behaviour
def no_blank_lines(body: Body, nth: int) -> Play:
    """One `data:` line after the other, no blank line between them."""
    return Play([str(one).rstrip("\n") + "\n" for one in events(chunk("Hel"), chunk("lo"), chunk(finish="stop"))])


@behaviour
def json_lines(body: Body, nth: int) -> Play:
    """JSON texts, one a line, without `data:`."""
    return Play([json.dumps(one) + "\n" for one in (chunk("Hel"), chunk("lo"), chunk(finish="stop"))])


@behaviour
def json_body(body: Body, nth: int) -> Play:
    """A JSON body where a stream was asked for."""
    return whole()


@behaviour
def stream_unasked(body: Body, nth: int) -> Play:
    """A stream where a JSON body was asked for."""
    return Play(events(chunk("Hel"), chunk("lo"), chunk(finish="stop"), USED))


@behaviour
def slow(body: Body, nth: int) -> Play:
    """A chunk every 100 ms."""
    texts = [part for text in ("one ", "two ", "three") for part in (event(chunk(text)), 0.1)]
    return Play([*texts, *events(chunk(finish="stop"))])


@behaviour
def paused(body: Body, nth: int) -> Play:
    """Half a minute between the first chunk and the second."""
    return Play([event(chunk("one ")), 30.0, *events(chunk("two"), chunk(finish="stop"))])


@behaviour
def burst(body: Body, nth: int) -> Play:
    """All of the stream in one piece, reasoning in the middle of the text."""
    texts = [chunk("a"), chunk("b"), chunk("c"), chunk(reasoning="why"), chunk("d"), chunk(finish="stop")]
    return Play(["".join(map(str, events(*texts)))])


@behaviour
def burst_error(body: Body, nth: int) -> Play:
    """Text and an error after it, in one piece."""
    return Play(["".join(map(str, events(chunk("a"), chunk("b"), chunk("c"), {"error": {"message": "oh no"}})))])


@behaviour
def null_content(body: Body, nth: int) -> Play:
    """`content: null`, `delta: null`, no delta, empty and null choices."""
    empty = chunk() | {"choices": [{"index": 0, "delta": None, "finish_reason": None}]}
    missing = chunk() | {"choices": [{"index": 0, "finish_reason": None}]}
    null = chunk(role="assistant") | {"choices": [{"index": 0, "delta": {"content": None}, "finish_reason": None}]}
    nothing = [{"choices": []}, {"choices": None}]
    return Play(events(null, empty, chunk("Hel"), missing, *nothing, chunk("lo"), chunk(finish="stop")))


@behaviour
def separators(body: Body, nth: int) -> Play:
    """U+2028 and its like inside of the text, as they are."""
    text = json.dumps(chunk("a\u2028b\u0085c"), ensure_ascii=False)
    return Play([f"data: {text}\n\n", *events(chunk(finish="stop"))])


@behaviour
def split_emoji(body: Body, nth: int) -> Play:
    """The two halves of an emoji in two chunks, and a half that stays alone."""
    return Play(events(chunk("a\ud83d"), chunk("\ude00b"), chunk("\ud83d!"), chunk(finish="stop")))


@behaviour
def usage_on_every_chunk(body: Body, nth: int) -> Play:
    """Usage on every chunk, counting up."""
    counts = [{"prompt_tokens": 3, "completion_tokens": n, "total_tokens": 3 + n} for n in (1, 2)]
    return Play(
        events(
            chunk("Hel") | {"usage": counts[0]},
            chunk("lo") | {"usage": counts[1]},
            chunk(finish="stop") | {"usage": None},
        )
    )


@behaviour
def no_usage(body: Body, nth: int) -> Play:
    """No usage anywhere."""
    if not body.get("stream"):
        return whole(usage=None)
    return Play(events(chunk("Hel"), chunk("lo"), chunk(finish="stop")))


@behaviour
def zero_usage(body: Body, nth: int) -> Play:
    """Usage that is all zeros, beside a text."""
    return whole(usage=dict.fromkeys(USAGE, 0))


@behaviour
def rich_usage(body: Body, nth: int) -> Play:
    """Usage with reasoning and cached tokens."""
    more = {"completion_tokens_details": {"reasoning_tokens": 1}, "prompt_tokens_details": {"cached_tokens": 2}}
    return whole(usage=USAGE | more)


@behaviour
def error_in_stream(body: Body, nth: int) -> Play:
    """An error object after some text."""
    return Play(events(chunk("Hel"), {"error": {"message": "the GPU is on fire", "code": 503}}, done=False))


@behaviour
def error_event(body: Body, nth: int) -> Play:
    """`event: error` after some text."""
    text = 'event: error\ndata: {"message": "the GPU is on fire", "type": "overloaded_error"}\n\n'
    return Play([event(chunk("Hel")), text])


@behaviour
def error_text(body: Body, nth: int) -> Play:
    """`{"error": "text"}` after some text."""
    return Play(events(chunk("Hel"), {"error": "the GPU is on fire"}))


@behaviour
def error_object(body: Body, nth: int) -> Play:
    """`{"object": "error"}` after some text, as vLLM sends it."""
    return Play(events(chunk("Hel"), {"object": "error", "message": "the GPU is on fire", "code": 500}))


@behaviour
def error_in_choice(body: Body, nth: int) -> Play:
    """An error inside of the choice, as OpenRouter sends it."""
    wrong = {
        "index": 0,
        "delta": {"content": ""},
        "finish_reason": "error",
        "error": {"message": "the GPU is on fire", "code": 502},
    }
    return Play(events(chunk("Hel"), chunk() | {"choices": [wrong]}))


@behaviour
def error_in_delta(body: Body, nth: int) -> Play:
    """An error inside of the delta, and then a finish reason and `[DONE]`."""
    wrong = chunk(error={"message": "the GPU is on fire", "code": 502})
    return Play(events(chunk("Hel"), wrong, chunk(finish="stop")))


@behaviour
def error_plain(body: Body, nth: int) -> Play:
    """An event with a code and a message and no choices, and then a finish reason and `[DONE]`."""
    return Play(events(chunk("Hel"), {"code": 502, "message": "the GPU is on fire"}, chunk(finish="stop")))


@behaviour
def error_words_between(body: Body, nth: int) -> Play:
    """Words of a proxy between the events, without `data:`, and then `[DONE]`."""
    return Play([event(chunk("Hel")), "upstream connect error or disconnect before headers\n\n", event("[DONE]")])


@behaviour
def error_finish(body: Body, nth: int) -> Play:
    """Finish reason insufficient_system_resource, as DeepSeek sends it to what it gave up."""
    return Play(events(chunk("Hel"), chunk(finish="insufficient_system_resource")))


@behaviour
def error_first(body: Body, nth: int) -> Play:
    """An error as the first event, at the first try only."""
    return Play(events({"error": {"message": "warming up", "code": 503}})) if nth == 1 else answer(body)


@behaviour
def cut_off(body: Body, nth: int) -> Play:
    """The stream just stops: the body ends properly, but without finish reason and `[DONE]`."""
    return Play(events(chunk("Hel"), done=False))


@behaviour
def cut_in_event(body: Body, nth: int) -> Play:
    """The body ends properly, in the middle of an event."""
    return Play([event(chunk("Hel")), event(chunk("lo"))[:20]])


@behaviour
def reset(body: Body, nth: int) -> Play:
    """The connection breaks after some text."""
    return Play(events(chunk("Hel"), done=False), ends=CLOSE)


@behaviour
def reset_at_once(body: Body, nth: int) -> Play:
    """The connection breaks before any text, at the first try only."""
    return Play([event(chunk("", role="assistant"))], ends=CUT) if nth == 1 else answer(body)


@behaviour
def hang(body: Body, nth: int) -> Play:
    """Takes the request and never answers."""
    return Play(status=0, ends=HANG)


@behaviour
def stall(body: Body, nth: int) -> Play:
    """Stops in the middle of the text and keeps the connection."""
    return Play(events(chunk("Hel"), done=False), ends=HANG)


@behaviour
def lingering(body: Body, nth: int) -> Play:
    """Keeps the connection after the finish reason, without `[DONE]`."""
    return Play(events(chunk("Hello"), chunk(finish="stop"), done=False), ends=HANG)


@behaviour
def endless(body: Body, nth: int) -> Play:
    """A word every 10 ms, for a minute."""
    return Play([part for _ in range(6000) for part in (event(chunk("word ")), 0.01)])


@behaviour
def finish_reset(body: Body, nth: int) -> Play:
    """The connection breaks after the finish reason."""
    return Play(events(chunk("Hello"), chunk(finish="stop"), done=False), ends=CLOSE)


@behaviour
def finish_garbage(body: Body, nth: int) -> Play:
    """Garbage after the finish reason."""
    return Play([*events(chunk("Hello"), chunk(finish="stop"), done=False), "data: <oops>\n\n"])


@behaviour
def finish_keepalive(body: Body, nth: int) -> Play:
    """Comments for a minute after the finish reason."""
    pings: list[bytes | str | float] = [": ping\n\n", 0.5] * 120
    return Play([*events(chunk("Hello"), chunk(finish="stop"), done=False), *pings])


@behaviour
def aborted(body: Body, nth: int) -> Play:
    """Finish reason error, and no other word of it."""
    return Play(events(chunk("Hel"), chunk(finish="error")))


@behaviour
def plain(body: Body, nth: int) -> Play:
    """Status 200, with plain text."""
    return Play(["the upstream is not configured"], kind="text/plain")


@behaviour
def gzip_bomb(body: Body, nth: int) -> Play:
    """400 with 200 MB of zeros, compressed though nobody asked for it."""
    return Play([_bomb()], 400, "text/plain", {"Content-Encoding": "gzip"}, chunked=False)


@functools.cache
def _bomb() -> bytes:
    """One gzip member of 200 MB. Blocks that end in a full flush know nothing of each other: one is packed for all."""
    zeros, packer = bytes(10**6), zlib.compressobj(9, wbits=-zlib.MAX_WBITS)
    block = packer.compress(zeros) + packer.flush(zlib.Z_FULL_FLUSH)
    checksum = 0
    for _ in range(200):
        checksum = zlib.crc32(zeros, checksum)
    end = packer.flush() + struct.pack("<II", checksum, 200 * 10**6)
    return b"\x1f\x8b\x08\0\0\0\0\0\0\xff" + block * 200 + end


@behaviour
def tells_the_key_late(body: Body, nth: int) -> Play:
    """401 that repeats the key where a long message is cut. (The server puts it in.)"""
    return refusal(401, "y" * 390 + " KEY")


@behaviour
def retry_never(body: Body, nth: int) -> Play:
    """503 with a Retry-After that no calendar has."""
    return refusal(503, "later", headers={"Retry-After": "Mon, 01 Jan 99999 00:00:00 GMT"})


@behaviour
def picky_effort(body: Body, nth: int) -> Play:
    """Knows some values of reasoning_effort only."""
    if body.get("reasoning_effort") not in (None, "low"):
        text = "Unsupported value: 'reasoning_effort' does not support 'xhigh'. Supported values are: 'low'."
        return refusal(400, text, param="reasoning_effort", code="unsupported_value")
    return answer(body)


@behaviour
def lists_its_parameters(body: Body, nth: int) -> Play:
    """Refuses a field that nobody knows, and lists those that it does."""
    if "foo" in body:
        return refusal(400, "Unknown parameter: 'foo'. Supported parameters: temperature, stop, seed.", param="foo")
    return answer(body)


@behaviour
def picky_schema(body: Body, nth: int) -> Play:
    """Refuses a schema with `pattern`."""
    if "pattern" in json.dumps(body.get("response_format", "")):
        text = "Invalid schema for response_format 'reply': In context=(), 'pattern' is not permitted."
        return refusal(400, text, param="response_format")
    return answer(body, '{"city": "Rome"}')


@behaviour
def error_200(body: Body, nth: int) -> Play:
    """Status 200, with an error in the body."""
    return Play([json.dumps({"error": {"message": "no such deployment", "code": 404}})], kind="application/json")


@behaviour
def page(body: Body, nth: int) -> Play:
    """Status 200, with an HTML page."""
    return Play(["<!doctype html><html><body>Welcome to nginx!</body></html>"], kind="text/html")


@behaviour
def nothing(body: Body, nth: int) -> Play:
    """Status 200, with an empty body."""
    return Play(chunked=False)


@behaviour
def other_json(body: Body, nth: int) -> Play:
    """Status 200, with JSON that is no completion."""
    return Play(['{"status": "ok"}'], kind="application/json")


@behaviour
def half_json(body: Body, nth: int) -> Play:
    """Status 200, with a JSON body that ends in the middle."""
    return Play([str(whole().pieces[0])[:60]], kind="application/json")


@behaviour
def reasoning(body: Body, nth: int) -> Play:
    """Reasoning in `reasoning`."""
    if not body.get("stream"):
        return whole("Four.", reasoning="Two and two.")
    return Play(events(chunk(reasoning="Two and "), chunk(reasoning="two."), chunk("Four."), chunk(finish="stop")))


@behaviour
def reasoning_content(body: Body, nth: int) -> Play:
    """Reasoning in `reasoning_content`."""
    if not body.get("stream"):
        return whole("Four.", reasoning_content="Two and two.")
    return Play(
        events(
            chunk(reasoning_content="Two and "),
            chunk(None, reasoning_content="two."),
            chunk("Four."),
            chunk(finish="stop"),
        )
    )


@behaviour
def think(body: Body, nth: int) -> Play:
    """Reasoning inline, in `<think>`, the tags cut in two."""
    if not body.get("stream"):
        return whole("<think>Two and two.</think>\n\nFour.")
    texts = ("<th", "ink>Two and ", "two.</thi", "nk>\n", "\nFour.")
    return Play(events(*map(chunk, texts), chunk(finish="stop")))


@behaviour
def content_parts(body: Body, nth: int) -> Play:
    """Content as a list of parts, thinking among them, as Mistral sends it."""
    thinking = {"type": "thinking", "thinking": [{"type": "text", "text": "Two and two."}]}
    parts = [[thinking], [{"type": "text", "text": "Four."}]]
    return Play(events(*(chunk(content=part) for part in parts), chunk(finish="stop")))  # type: ignore[arg-type]


@behaviour
def refused(body: Body, nth: int) -> Play:
    """The model refuses."""
    if not body.get("stream"):
        return whole(None, refusal="I cannot do that.")
    return Play(events(chunk(refusal="I cannot "), chunk(refusal="do that."), chunk(finish="stop")))


@behaviour
def filtered(body: Body, nth: int) -> Play:
    """Finish reason content_filter."""
    return whole("Hel", finish="content_filter")


@behaviour
def filtered_json(body: Body, nth: int) -> Play:
    """JSON that a filter stopped."""
    return whole('{"city": "Ro', finish="content_filter")


@behaviour
def long(body: Body, nth: int) -> Play:
    """Finish reason length."""
    return whole("Hel", finish="length")


@behaviour
def odd_finish(body: Body, nth: int) -> Play:
    """A finish reason that nobody knows."""
    return whole("Hello", finish="tired")


ROME, OSLO = '{"city":"Rome"}', '{"city":"Oslo"}'


@behaviour
def tool(body: Body, nth: int) -> Play:
    """A tool call in four deltas, and one in the body where no stream is asked for."""
    if not body.get("stream"):
        return whole(None, "tool_calls", tool_calls=[piece(0, "c1", "weather", ROME)])
    return called(
        piece(0, "c1", "weather", ""),
        piece(0, arguments='{"ci'),
        piece(0, arguments='ty":"R'),
        piece(0, arguments='ome"}'),
    )


@behaviour
def tool_no_index(body: Body, nth: int) -> Play:
    """Two calls in deltas without index."""
    return called(
        piece(None, "c1", "weather", '{"city":'),
        piece(None, "c1", arguments='"Rome"}'),
        piece(None, "c2", "weather", OSLO),
    )


@behaviour
def tool_no_id(body: Body, nth: int) -> Play:
    """Two calls, told apart by index, without any id."""
    return called(piece(0, name="weather", arguments=ROME), piece(1, name="weather", arguments=OSLO))


@behaviour
def tool_equal_ids(body: Body, nth: int) -> Play:
    """Two calls with one id."""
    return called(piece(0, "c1", "weather", ROME), piece(1, "c1", "weather", OSLO))


@behaviour
def tool_repeated_names(body: Body, nth: int) -> Play:
    """Id and name in every delta of a call."""
    return called(*(piece(0, "c1", "weather", part) for part in ('{"city"', ':"Ro', 'me"}')))


@behaviour
def tool_object(body: Body, nth: int) -> Play:
    """Arguments as an object, not as text."""
    return called(piece(0, "c1", "weather", {"city": "Rome"}))


@behaviour
def tool_one_function(body: Body, nth: int) -> Play:
    """Two calls to one function, neither index nor id anywhere."""
    return called(
        piece(None, name="weather", arguments='{"city":'),
        piece(None, arguments='"Rome"}'),
        piece(None, name="weather", arguments=OSLO),
    )


@behaviour
def tool_index_zero(body: Body, nth: int) -> Play:
    """Two calls, index 0 for both, ids differ."""
    return called(piece(0, "c1", "weather", ROME), piece(0, "c2", "weather", OSLO))


@behaviour
def tool_emoji(body: Body, nth: int) -> Play:
    """An emoji of the arguments cut in two."""
    return called(piece(0, "c1", "weather", '{"city":"\ud83d'), piece(0, arguments='\ude00"}'))


@behaviour
def tool_late_name(body: Body, nth: int) -> Play:
    """Arguments before the name."""
    return called(piece(0, "c1", arguments='{"city":'), piece(0, name="weather"), piece(0, arguments='"Rome"}'))


@behaviour
def tool_blank_end(body: Body, nth: int) -> Play:
    """The name in every delta, the last of them with a line break for arguments."""
    return called(piece(0, name="weather", arguments=ROME), piece(0, name="weather", arguments="\n"))


@behaviour
def tool_two_names(body: Body, nth: int) -> Play:
    """Two tools in two deltas, without index, id and arguments."""
    return called(piece(None, name="first"), piece(None, name="second"))


@behaviour
def tool_message(body: Body, nth: int) -> Play:
    """A message with two calls, one id for both, no index."""
    calls = [piece(None, "c1", "weather", ROME), piece(None, "c1", "weather", {"city": "Oslo"})]
    return whole(None, "tool_calls", tool_calls=calls)


@behaviour
def tool_strange(body: Body, nth: int) -> Play:
    """Arguments with NaN, and with half of a character."""
    return called(piece(0, "c1", "weather", '{"city":NaN}'), piece(1, "c2", "weather", '{"city":"\\ud800"}'))


@behaviour
def tool_stop(body: Body, nth: int) -> Play:
    """A tool call with finish reason stop."""
    return called(piece(0, "c1", "weather", ROME), finish="stop")


@behaviour
def tool_cut(body: Body, nth: int) -> Play:
    """A tool call whose arguments end in the middle."""
    return called(piece(0, "c1", "weather", '{"city":"Ro'))


@behaviour
def tool_wrong(body: Body, nth: int) -> Play:
    """Four calls: arguments against the schema, no JSON, no object, an unknown tool."""
    return called(
        piece(0, "c1", "weather", '{"city":5}'),
        piece(1, "c2", "weather", "{city: Rome}"),
        piece(2, "c3", "weather", "[1]"),
        piece(3, "c4", "wether", "{}"),
    )


@behaviour
def tool_old(body: Body, nth: int) -> Play:
    """A call in the form of old, `function_call`."""
    return Play(
        events(
            chunk(function_call={"name": "weather", "arguments": '{"city":'}),
            chunk(function_call={"arguments": '"Rome"}'}),
            chunk(finish="function_call"),
        )
    )


@behaviour
def tool_never(body: Body, nth: int) -> Play:
    """Refuses tool_choice required, and then calls nothing."""
    if body.get("tool_choice") not in (None, "auto"):
        return refusal(400, "Invalid value: 'required' is not supported for 'tool_choice'", param="tool_choice")
    return answer(body)


@behaviour
def no_required(body: Body, nth: int) -> Play:
    """Refuses tool_choice required, and calls the tool all the same."""
    if body.get("tool_choice") not in (None, "auto"):
        return refusal(400, "tool_choice 'required' is not supported by this model")
    return tool(body, nth)


@behaviour
def picky(body: Body, nth: int) -> Play:
    """Refuses, one at a time and as OpenAI says it: max_tokens, temperature, stop, parallel_tool_calls."""
    if "max_tokens" in body:
        text = (
            "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead."
        )
        return refusal(400, text, param="max_tokens", code="unsupported_parameter")
    if "temperature" in body:
        text = "Unsupported value: 'temperature' does not support 0.5 with this model. Only the default (1) value is."
        return refusal(400, text, param="temperature", code="unsupported_value")
    if "stop" in body:
        return Play(
            ['{"detail":[{"loc":["body","stop"],"msg":"Extra inputs are not permitted"}]}'], 422, "application/json"
        )
    if "parallel_tool_calls" in body:
        return refusal(400, "Unrecognized request argument supplied: parallel_tool_calls")
    if not body.get("stream"):
        return whole("one, two, END, three")
    return Play(events(*map(chunk, ("one, ", "two, E", "ND, ", "three")), chunk(finish="stop"), USED))


@behaviour
def hot(body: Body, nth: int) -> Play:
    """Refuses a temperature above 2, rightly."""
    return refusal(400, "temperature must be between 0 and 2", param="temperature")


@behaviour
def no_schema(body: Body, nth: int) -> Play:
    """Knows no response_format at all, and does what it is told in words."""
    if "response_format" in body:
        form = body["response_format"]
        kind = form.get("type") if isinstance(form, Mapping) else form
        return refusal(400, f"response_format {kind} is not supported")
    return answer(body, '{"city": "Rome"}')


@behaviour
def fenced(body: Body, nth: int) -> Play:
    """JSON in a fence."""
    return answer(body, '```json\n{"city": "Rome"}\n```')


@behaviour
def mends(body: Body, nth: int) -> Play:
    """JSON against the schema at first, right when told."""
    return answer(body, '{"city": "Rome"}' if len(body["messages"]) > 1 else '{"city": 5}')


@behaviour
def rambles(body: Body, nth: int) -> Play:
    """No JSON, however often it is asked."""
    return answer(body, "Well, the city is Rome.")


@behaviour
def busy_once(body: Body, nth: int) -> Play:
    """429 with Retry-After at the first try."""
    return answer(body) if nth > 1 else refusal(429, "slow down", headers={"Retry-After": "0.2"})


@behaviour
def busy_long(body: Body, nth: int) -> Play:
    """429 with a Retry-After of half a minute."""
    return refusal(429, "slow down", headers={"Retry-After": "30"})


@behaviour
def down_once(body: Body, nth: int) -> Play:
    """503 at the first try."""
    return answer(body) if nth > 1 else refusal(503, "starting", headers={"Retry-After-Ms": "20"})


@behaviour
def too_long(body: Body, nth: int) -> Play:
    """400: the context is too long."""
    text = "This model's maximum context length is 8 tokens. However, your messages resulted in 9 tokens."
    return refusal(400, text, code="context_length_exceeded", param="messages")


@behaviour
def tells_the_key(body: Body, nth: int) -> Play:
    """401 that repeats the key. (The server puts it in.)"""
    return refusal(401, "Incorrect API key provided: KEY", code="invalid_api_key")


@behaviour
def huge_error(body: Body, nth: int) -> Play:
    """400 with 100 MB of text."""
    return Play(["x" * 2**20] * 100, 400, "text/plain")


@behaviour
def moved(body: Body, nth: int) -> Play:
    """A redirect to another host."""
    return Play(status=307, headers={"Location": "http://127.0.0.2:1/v1/chat/completions"}, chunked=False)


@behaviour
def flood(body: Body, nth: int) -> Play:
    """A gigabyte of text, as fast as it can."""
    return Play([event(chunk("x" * 60_000)).encode()] * 20_000)


@behaviour
def flood_reasoning(body: Body, nth: int) -> Play:
    """A gigabyte of reasoning."""
    return Play([event(chunk(reasoning="x" * 60_000)).encode()] * 20_000)


@behaviour
def flood_refusal(body: Body, nth: int) -> Play:
    """A gigabyte of refusal."""
    return Play([event(chunk(refusal="x" * 60_000)).encode()] * 20_000)


@behaviour
def flood_arguments(body: Body, nth: int) -> Play:
    """A tool call with a gigabyte of arguments."""
    return Play([event(chunk(tool_calls=[piece(0, "c1", "weather", "x" * 60_000)])).encode()] * 20_000)


@behaviour
def flood_body(body: Body, nth: int) -> Play:
    """A JSON body with a gigabyte of text."""
    return Play(['{"choices": [{"message": {"content": "', *[b"x" * 60_000] * 20_000], kind="application/json")


@behaviour
def flood_letters(body: Body, nth: int) -> Play:
    """A million chunks of 20 letters each."""
    return Play([event(chunk("\u00e4" * 20)).encode() * 100] * 10_000)


@behaviour
def many_calls(body: Body, nth: int) -> Play:
    """1,024 tool calls, each in two pieces."""
    return _calls(1024)


@behaviour
def too_many_calls(body: Body, nth: int) -> Play:
    """1,025 tool calls."""
    return _calls(1025)


def _calls(count: int) -> Play:
    pieces = [
        part for n in range(count) for part in (piece(n, "c", "weather", '{"city":'), piece(n, arguments=f'"{n}"}}'))
    ]
    return called(*pieces)


@behaviour
def nested(body: Body, nth: int) -> Play:
    """An answer of objects in each other, 40 levels, as text or as the arguments of a call."""
    text = '{"a":' * 40 + "1" + "}" * 40
    return called(piece(0, "c1", "weather", text)) if body.get("tools") else answer(body, text)


@behaviour
def tool_digits(body: Body, nth: int) -> Play:
    """A tool call with a number of 5,000 digits."""
    return called(piece(0, "c1", "weather", '{"city":' + "1" * 5000 + "}"))


@behaviour
def large_event(body: Body, nth: int) -> Play:
    """4 MB of text in one event, and a second behind it."""
    return Play(events(chunk("x" * 4 * 10**6), chunk("y"), chunk(finish="stop")))


@behaviour
def a_million_values(body: Body, nth: int) -> Play:
    """An event with a million little lists."""
    return Play(events(chunk("Hel") | {"logprobs": [[]] * 10**6}, chunk(finish="stop")))


@behaviour
def blanks(body: Body, nth: int) -> Play:
    """Blanks before the text, 200,000 of them, one a chunk."""
    return Play([event(chunk(" ")).encode() * 1000] * 200 + events(chunk("Hello"), chunk(finish="stop")))


@behaviour
def open_tags(body: Body, nth: int) -> Play:
    """400 with a megabyte of `<`."""
    return Play(["<" * 2**20], 400, "text/html", chunked=False)


@behaviour
def odd_charset(body: Body, nth: int) -> Play:
    """400 in a charset that takes time with the square of the text."""
    return Play(["-" + "9" * 2**19], 400, "text/plain; charset=punycode", chunked=False)


@behaviour
def odd_location(body: Body, nth: int) -> Play:
    """422 with a place that is no list."""
    return Play(['{"detail": [{"loc": 5, "msg": "no"}]}'], 422, "application/json", chunked=False)


@behaviour
def long_detail(body: Body, nth: int) -> Play:
    """An error in the stream whose detail is a list of 200,000 numbers."""
    return Play(events(chunk("Hel"), {"detail": list(range(200_000))}))


@behaviour
def picky_value(body: Body, nth: int) -> Play:
    """Calls a temperature above 2 unsupported, and streaming options without a stream, and words in the schema."""
    if body.get("temperature", 0) > 2:
        return refusal(400, "Unsupported value: 'temperature' does not support that.", param="temperature")
    if "stream_options" in body and not body.get("stream"):
        return refusal(400, "stream_options is not allowed when stream is false", param="stream_options")
    if "pattern" in json.dumps(body.get("response_format", "")):
        return refusal(400, "response_format: the schema uses 'pattern', which is not supported")
    return answer(body, '{"city": "Rome"}')


# ---------------------------------------------------------------- ends that are none


@behaviour
def finish_on_every_chunk(body: Body, nth: int) -> Play:
    """Finish reason stop on every chunk, 3 s between two of them."""
    return Play([event(chunk("Hel", finish="stop")), 3.0, *events(chunk("lo", finish="stop"))])


@behaviour
def finish_on_reasoning(body: Body, nth: int) -> Play:
    """Finish reason stop on the last chunk of the reasoning, 3 s before the answer."""
    thoughts = events(chunk(reasoning="Two and "), chunk(reasoning="two.", finish="stop"), done=False)
    return Play([*thoughts, 3.0, *events(chunk("Four."), chunk(finish="stop"))])


@behaviour
def finish_before_answer(body: Body, nth: int) -> Play:
    """A finish reason on a chunk of its own between the reasoning and the answer, 3 s before that."""
    thoughts = events(chunk(reasoning="Two and two."), chunk(finish="stop"), done=False)
    return Play([*thoughts, 3.0, *events(chunk("Four."), chunk(finish="stop"))])


@behaviour
def finish_before_tool(body: Body, nth: int) -> Play:
    """A finish reason beside the text, and a tool call 3 s after it."""
    call = chunk(tool_calls=[piece(0, "c1", "weather", ROME)])
    return Play([event(chunk("Hello", finish="stop")), 3.0, *events(call, chunk(finish="tool_calls"))])


@behaviour
def lingering_beside(body: Body, nth: int) -> Play:
    """Keeps the connection after a finish reason beside the last piece of the text, without `[DONE]`."""
    return Play(events(chunk("Hel"), chunk("lo", finish="stop"), done=False), ends=HANG)


@behaviour
def lingering_once(body: Body, nth: int) -> Play:
    """Keeps the connection after the only chunk of the text, finish reason and all, and its usage, without `[DONE]`."""
    return Play(events(chunk("Hello", finish="stop"), USED, done=False), ends=HANG)


@behaviour
def lingering_usage(body: Body, nth: int) -> Play:
    """Keeps the connection after the usage, which comes 0.3 s after the finish reason, without `[DONE]`."""
    return Play([*events(chunk("Hello"), chunk(finish="stop"), done=False), 0.3, event(USED)], ends=HANG)


@behaviour
def lingering_tool(body: Body, nth: int) -> Play:
    """Keeps the connection after a finish reason beside the last piece of a tool call, without `[DONE]`."""
    pieces = (
        chunk(tool_calls=[piece(0, "c1", "weather", '{"city":')]),
        chunk(tool_calls=[piece(0, arguments='"Rome"}')]),
    )
    pieces[-1]["choices"][0]["finish_reason"] = "tool_calls"
    return Play(events(*pieces, done=False), ends=HANG)


@behaviour
def lingering_body(body: Body, nth: int) -> Play:
    """Keeps the connection after a JSON body, whose end it does not tell."""
    return dataclasses.replace(whole(), chunked=True, ends=HANG)


@behaviour
def lingering_done(body: Body, nth: int) -> Play:
    """Keeps the connection after `[DONE]`."""
    return Play(events(chunk("Hello"), chunk(finish="stop"), USED), ends=HANG)


@behaviour
def lingering_line(body: Body, nth: int) -> Play:
    """Keeps the connection after a last event without its line end, and without `[DONE]`."""
    return Play([*events(chunk("Hello"), done=False), event(chunk(finish="stop")).rstrip()], ends=HANG)


@behaviour
def lingering_done_line(body: Body, nth: int) -> Play:
    """Keeps the connection after `[DONE]` without its line end."""
    return Play([*events(chunk("Hello"), chunk(finish="stop"), USED, done=False), "data: [DONE]"], ends=HANG)


@behaviour
def late_line_end(body: Body, nth: int) -> Play:
    """The line end of each event comes with the next, 3 s later."""
    first, second, end = (event(chunk("Hel")), event(chunk("lo")), event(chunk(finish="stop")))
    return Play([first[:-2], 3.0, f"\n\n{second[:-1]}", 3.0, f"\n{end}", "data: [DONE]\n\n"])


@behaviour
def lingering_unsure(body: Body, nth: int) -> Play:
    """Finish reason stop on every chunk, and the connection is kept after the first."""
    return Play(events(chunk("Hel", finish="stop"), done=False), ends=HANG)


@behaviour
def finish_null_text(body: Body, nth: int) -> Play:
    """The text "null" for a finish reason on every chunk, and the body ends after the first."""
    return Play(events(chunk("Hel", finish="null"), done=False))


@behaviour
def finish_on_every_chunk_reset(body: Body, nth: int) -> Play:
    """Finish reason stop on every chunk, and the connection breaks."""
    return Play(events(chunk("H", finish="stop"), chunk("el", finish="stop"), done=False), ends=CLOSE)


@behaviour
def finish_on_first_chunk_reset(body: Body, nth: int) -> Play:
    """Finish reason stop beside the first text, and the connection breaks."""
    return Play(events(chunk("Hel", finish="stop"), done=False), ends=CLOSE)


@behaviour
def finish_on_reasoning_reset(body: Body, nth: int) -> Play:
    """A finish reason after the reasoning, and the connection breaks before the answer."""
    return Play(events(chunk(reasoning="Two."), chunk(finish="stop"), done=False), ends=CLOSE)


@behaviour
def finish_on_every_chunk_stall(body: Body, nth: int) -> Play:
    """Finish reason stop on every chunk, and then silence."""
    return Play(events(chunk("H", finish="stop"), chunk("el", finish="stop"), done=False), ends=HANG)


# ---------------------------------------------------------------- choices


def chosen(index: object, content: str | None = None, finish: str | None = None, **more: Any) -> dict[str, Any]:
    """A chunk whose choice has this number."""
    made = chunk(content, finish=finish, **more)
    made["choices"][0]["index"] = index
    return made


@behaviour
def choice_counts_up(body: Body, nth: int) -> Play:
    """The number of the choice counts up with the chunks."""
    return Play(events(chosen(0, "H"), chosen(1, "el"), chosen(2, "lo"), chosen(3, finish="stop")))


@behaviour
def choice_one(body: Body, nth: int) -> Play:
    """The only choice has number 1."""
    if not body.get("stream"):
        choice = {"index": 1, "message": {"role": "assistant", "content": "Hello"}, "finish_reason": "stop"}
        return Play([json.dumps({"choices": [choice], "model": "played"})], kind="application/json", chunked=False)
    return Play(events(chosen(1, "Hel"), chosen(1, "lo"), chosen(1, finish="stop")))


@behaviour
def choice_two_texts(body: Body, nth: int) -> Play:
    """Two choices in each chunk, with a text each."""
    both = [
        chunk() | {"choices": chosen(0, a)["choices"] + chosen(1, b)["choices"]}
        for a, b in (("Hel", "By"), ("lo", "e"))
    ]
    return Play(events(*both, chosen(0, finish="stop"), chosen(1, finish="stop")))


@behaviour
def choice_several(body: Body, nth: int) -> Play:
    """As many choices as `n` asks for, in turns."""
    numbers = range(body.get("n", 2))
    return Play(events(*(chosen(n, text) for text in ("Hel", "lo") for n in numbers), chosen(0, finish="stop")))


@behaviour
def choice_spread(body: Body, nth: int) -> Play:
    """The text in one choice, a tool call in each of two others."""
    calls = [piece(0, "c1", "weather", ROME), piece(0, "c2", "weather", OSLO)]
    if not body.get("stream"):
        messages: list[dict[str, Any]] = [{"content": "Hello"}, *({"tool_calls": [call]} for call in calls)]
        choices = [{"message": {"role": "assistant"} | said, "finish_reason": "tool_calls"} for said in messages]
        return Play([json.dumps({"choices": choices})], kind="application/json", chunked=False)
    spread = [chosen(n + 1, tool_calls=[call]) for n, call in enumerate(calls)]
    return Play(events(chosen(0, "Hel"), chosen(0, "lo"), *spread, chosen(0, finish="tool_calls")))


@behaviour
def unread(body: Body, nth: int) -> Play:
    """Nothing but a field that nobody knows."""
    if not body.get("stream"):
        return whole("", hologram={"url": "https://example.org/h"})
    return Play(events(chunk("", hologram={"url": "https://example.org/h"}), chunk(finish="stop")))


@behaviour
def done_only(body: Body, nth: int) -> Play:
    """`[DONE]`, and nothing before it."""
    return Play(events())


# ---------------------------------------------------------------- what is said twice

POEM = "Roses are red, violets are blue, and this is the end."


def told(content: str | None = None, finish: str | None = "stop", **more: Any) -> dict[str, Any]:
    """A chunk that holds a whole message."""
    return chunk() | {"choices": [{"index": 0, "message": {"content": content} | more, "finish_reason": finish}]}


def beside(delta: dict[str, Any], content: str | None, **more: Any) -> dict[str, Any]:
    """The chunk `delta` with a message beside the delta."""
    return delta | {"choices": [delta["choices"][0] | {"message": {"role": "assistant", "content": content} | more}]}


@behaviour
def repeats_message(body: Body, nth: int) -> Play:
    """The last event repeats the whole message."""
    return Play(events(chunk("Hel"), chunk("lo"), told("Hello")))


@behaviour
def message_beside(body: Body, nth: int) -> Play:
    """The message so far beside each delta, and at the end beside an empty one with more than the deltas had."""
    told_so_far = (("Hel", "Hel"), ("", "Hello"))
    return Play(events(*(beside(chunk(delta), text) for delta, text in told_so_far), chunk(finish="stop")))


@behaviour
def call_beside(body: Body, nth: int) -> Play:
    """The calls in a message beside a delta that says nothing."""
    calls = [piece(None, "c1", "weather", ROME), piece(None, "c2", "weather", OSLO)]
    return Play(events(beside(chunk(role="assistant", finish="tool_calls"), None, tool_calls=calls)))


@behaviour
def call_in_parts(body: Body, nth: int) -> Play:
    """The calls as parts of the content, their arguments in `input`."""
    parts = [{"type": "tool_use", "id": city, "name": "weather", "input": {"city": city}} for city in ("Rome", "Oslo")]
    return Play(events({"choices": [{"index": 0, "delta": {"content": parts}}]}, chunk(finish="tool_calls")))


@behaviour
def text_in_parts(body: Body, nth: int) -> Play:
    """The text in parts, one of them of another name, and in a part by itself."""
    first = [{"type": "text", "text": "He"}, {"type": "output_text", "content": "l"}]
    contents: list[Any] = [first, {"type": "text", "text": {"value": "lo"}}]
    chunks = [{"choices": [{"index": 0, "delta": {"content": content}}]} for content in contents]
    return Play(events(*chunks, chunk(finish="stop")))


@behaviour
def odd_fields(body: Body, nth: int) -> Play:
    """Blanks before `data:`, capitals in it, and `data:` twice."""
    lines = [f"  data: {json.dumps(chunk('He'))}", f"Data: {json.dumps(chunk('l'))}"]
    lines.append(f"data: data: {json.dumps(chunk('lo'))}")
    return Play([f"{line}\n\n" for line in lines] + events(chunk(finish="stop")))


@behaviour
def repeats_delta(body: Body, nth: int) -> Play:
    """The last delta repeats the whole text."""
    pieces = [chunk(f"{word} ") for word in POEM.split()]
    return Play(events(*pieces, chunk(f"{POEM} "), chunk(finish="stop")))


@behaviour
def completes_message(body: Body, nth: int) -> Play:
    """The whole message at the end has more than the deltas: the end of the text and of a call, and a second call."""
    calls = [piece(None, "c1", "weather", ROME), piece(None, "c2", "weather", OSLO)]
    first = chunk(tool_calls=[piece(0, "c1", "weather", '{"city":')])
    return Play(events(chunk("Hel"), first, told("Hello", "tool_calls", tool_calls=calls)))


@behaviour
def cumulative(body: Body, nth: int) -> Play:
    """Each delta repeats the whole text so far."""
    words = POEM.split(" ")
    return Play(events(*[chunk(" ".join(words[:count])) for count in range(1, len(words) + 1)], chunk(finish="stop")))


@behaviour
def repeats_calls(body: Body, nth: int) -> Play:
    """The last event repeats the message with its tool call, the id another."""
    call = chunk(tool_calls=[piece(0, "c1", "weather", ROME)])
    return Play(events(call, told(None, "tool_calls", tool_calls=[piece(0, "other", "weather", ROME)])))


@behaviour
def thinks_twice(body: Body, nth: int) -> Play:
    """Reasoning in `<think>` and in a field of its own."""
    if not body.get("stream"):
        return whole("<think>\nTwo and two.\n</think>\n\nFour.", reasoning_content="Two and two.")
    pairs = (("Two and ", "<think>\nTwo and "), ("two.", "two.\n</think>\n\nFo"))
    return Play(events(*(chunk(b, reasoning_content=a) for a, b in pairs), chunk("ur."), chunk(finish="stop")))


@behaviour
def thinks_again(body: Body, nth: int) -> Play:
    """Reasoning in a field, and other reasoning in `<think>`."""
    return Play(events(chunk(reasoning="Two and "), chunk("<think>two.</think>Four."), chunk(finish="stop")))


# ---------------------------------------------------------------- calls, labelled in odder ways


@behaviour
def call_old_and_new(body: Body, nth: int) -> Play:
    """`function_call` beside `tool_calls`, for the same call."""
    function = {"name": "weather", "arguments": ROME}
    if not body.get("stream"):
        return whole(None, "tool_calls", tool_calls=[piece(0, "c1", "weather", ROME)], function_call=function)
    both = chunk(function_call=function, tool_calls=[piece(0, "c1", "weather", ROME)])
    return Play(events(both, chunk(finish="tool_calls")))


@behaviour
def call_new_ids(body: Body, nth: int) -> Play:
    """Another id in every delta of a call."""
    return called(*(piece(0, f"c{n}", "weather", part) for n, part in enumerate(('{"ci', 'ty":', '"Rome"}', ""))))


@behaviour
def call_new_ids_no_index(body: Body, nth: int) -> Play:
    """Another id in every delta of a call, without index and name."""
    return called(
        piece(None, "c1", "weather", '{"ci'),
        piece(None, "c2", arguments='ty":"Ro'),
        piece(None, "c3", arguments='me"}'),
    )


@behaviour
def call_split_index(body: Body, nth: int) -> Play:
    """The head of a call under index 0, its tail under index 1, for two calls."""
    return called(
        piece(0, "c1", "weather", '{"city":'),
        piece(1, arguments='"Rome"}'),
        piece(0, "c2", "weather", ""),
        piece(2, arguments='{"city":"Os'),
        piece(2, arguments='lo"}'),
    )


@behaviour
def call_object_then_text(body: Body, nth: int) -> Play:
    """Arguments as an object, then the same as text."""
    return called(piece(0, "c1", "weather", {"city": "Rome"}), piece(0, "c1", "weather", '{"city": "Rome"}'))


@behaviour
def call_empty_object_first(body: Body, nth: int) -> Play:
    """An empty object for arguments first, and then they come as text."""
    return called(piece(0, "c1", "weather", {}), piece(0, arguments='{"city":'), piece(0, arguments='"Rome"}'))


@behaviour
def call_places(body: Body, nth: int) -> Play:
    """Two calls in one delta and the tails of both in the next, without index, the second without any label."""
    heads = [piece(None, "c1", "weather", '{"city":'), piece(None, "c2", "weather", '{"city":')]
    tails = [piece(None, arguments='"Rome"}'), piece(None, arguments='"Oslo"}')]
    return Play(events(chunk(tool_calls=heads), chunk(tool_calls=tails), chunk(finish="tool_calls")))


@behaviour
def call_twice(body: Body, nth: int) -> Play:
    """The arguments again at the end, whole."""
    return called(piece(0, "c1", "weather", '{"city":'), piece(0, arguments='"Rome"}'), piece(0, arguments=ROME))


@behaviour
def call_twice_encoded(body: Body, nth: int) -> Play:
    """The whole call again at the end, its arguments as text in text."""
    return called(piece(0, "c1", "weather", ROME), piece(0, "c1", "weather", json.dumps(ROME)))


@behaviour
def call_twice_no_id(body: Body, nth: int) -> Play:
    """The whole call again under its index, without id."""
    return called(piece(0, None, "weather", ROME), piece(0, None, "weather", ROME))


@behaviour
def call_under_each_index(body: Body, nth: int) -> Play:
    """One call, with one id, under three indexes."""
    return called(piece(0, "c1", "weather", ROME), piece(1, "c1", "weather", ROME), piece(2, "c1", "weather", ROME))


@behaviour
def call_two_values(body: Body, nth: int) -> Play:
    """Arguments for one call, twice, and they differ."""
    return called(piece(0, "c1", "weather", {"city": "Rome"}), piece(0, "c1", arguments=OSLO))


@behaviour
def call_guess(body: Body, nth: int) -> Play:
    """Two calls that are not whole, and a tail that can be either's."""
    heads = (piece(0, "c1", "weather", '{"city":'), piece(1, "c2", "weather", '{"city":'))
    return called(*heads, piece(7, arguments='"Rome"}'))


# ---------------------------------------------------------------- lines


def line(value: object) -> str:
    return json.dumps(value, ensure_ascii=False) + "\n"


@behaviour
def json_lines_separator(body: Body, nth: int) -> Play:
    """JSON texts, one a line, with U+2028 in one of them."""
    return Play([*map(line, (chunk("a\u2028b"), chunk("\u0085c"), chunk(finish="stop")))])


@behaviour
def json_lines_slow(body: Body, nth: int) -> Play:
    """JSON texts, one a line, half a minute between the first and the second."""
    return Play([line(chunk("Hel")), 30.0, *map(line, (chunk("lo"), chunk(finish="stop")))])


@behaviour
def no_blank_lines_slow(body: Body, nth: int) -> Play:
    """No blank lines between the events, half a minute between the first and the second."""
    rest = [str(one).rstrip("\n") + "\n" for one in events(chunk("lo"), chunk(finish="stop"))]
    return Play([event(chunk("Hel")).rstrip("\n") + "\n", 30.0, *rest])


@behaviour
def json_lines_broken(body: Body, nth: int) -> Play:
    """JSON texts, one a line, the second of them broken off."""
    return Play([line(chunk("Hel")), line(chunk("lo"))[:-20] + "\n", *map(line, (chunk("!"), chunk(finish="stop")))])


@behaviour
def json_lines_cut(body: Body, nth: int) -> Play:
    """JSON texts, one a line, the last of them cut off by the end."""
    return Play([line(chunk("Hel")), line(chunk("lo"))[:-20]])


@behaviour
def two_in_one_event(body: Body, nth: int) -> Play:
    """Two JSON texts in one event."""
    both = json.dumps(chunk("Hel")) + json.dumps(chunk("lo"))
    return Play([f"data: {both}\n\n", *events(chunk(finish="stop"))])


@behaviour
def lost_line_end(body: Body, nth: int) -> Play:
    """The line end between two events got lost."""
    return Play([event(chunk("Hel")).rstrip("\n"), *events(chunk("lo"), chunk(finish="stop"))])


@behaviour
def error_over_lines(body: Body, nth: int) -> Play:
    """An error object over several lines after some text, without `data:`."""
    wrong = {"error": {"message": "the GPU is on fire", "code": 503}}
    return Play([event(chunk("Hel")), json.dumps(wrong, indent=2) + "\n"])


@behaviour
def error_over_data_lines(body: Body, nth: int) -> Play:
    """An error object over several `data:` lines after some text."""
    wrong = json.dumps({"error": {"message": "the GPU is on fire", "code": 503}}, indent=2)
    return Play([event(chunk("Hel")), "".join(f"data: {part}\n" for part in wrong.split("\n")) + "\n"])


@behaviour
def error_of_nothing(body: Body, nth: int) -> Play:
    """An error object with code 0 and no words on every chunk."""
    nothing = {"error": {"code": 0, "message": ""}}
    return Play(events(*(made | nothing for made in (chunk("Hel"), chunk("lo"), chunk(finish="stop")))))


# ---------------------------------------------------------------- numbers and sizes


def numbered(value: object, number: str) -> str:
    """JSON in which a number stands for the text "N"."""
    return json.dumps(value).replace('"N"', number)


@behaviour
def call_endless_number(body: Body, nth: int) -> Play:
    """Arguments as an object, with a number of 5,000 digits."""
    call = numbered(chunk(tool_calls=[piece(0, "c1", "weather", {"city": "N"})]), "1" * 5000)
    return Play([f"data: {call}\n\n", *events(chunk(finish="tool_calls"))])


@behaviour
def call_infinite_number(body: Body, nth: int) -> Play:
    """Arguments with 1e999."""
    return called(piece(0, "c1", "weather", '{"city":1e999}'))


@behaviour
def endless_number(body: Body, nth: int) -> Play:
    """A number of 5,000 digits beside the text."""
    return Play([f"data: {numbered(chunk('Hello') | {'created': 'N'}, '1' * 5000)}\n\n", *events(chunk(finish="stop"))])


@behaviour
def usage_null(body: Body, nth: int) -> Play:
    """Usage with a count that is null, and no total to tell it from."""
    return whole(usage={"prompt_tokens": None, "completion_tokens": 2, "total_tokens": None})


@behaviour
def usage_null_told(body: Body, nth: int) -> Play:
    """Usage with a count that is null, to be told from the total."""
    return whole(usage={"prompt_tokens": 3, "completion_tokens": None, "total_tokens": 5})


@behaviour
def usage_in_parts(body: Body, nth: int) -> Play:
    """What was read is counted on the first chunk, what was written on the last."""
    first, last = {"usage": {"prompt_tokens": 3}}, {"usage": {"completion_tokens": 2}}
    return Play(events(chunk("Hello") | first, chunk(finish="stop") | last))


@behaviour
def usage_beside_reasoning(body: Body, nth: int) -> Play:
    """Usage whose completion leaves out the reasoning."""
    details = {"completion_tokens_details": {"reasoning_tokens": 20}}
    return whole(usage={"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 25} | details)


@behaviour
def usage_elsewhere(body: Body, nth: int) -> Play:
    """Usage in `x_groq`."""
    return Play(events(chunk("Hello"), chunk(finish="stop") | {"x_groq": {"id": "r1", "usage": USAGE}}))


@behaviour
def usage_late(body: Body, nth: int) -> Play:
    """Usage behind `[DONE]`, a little later."""
    return Play([*events(chunk("Hello"), chunk(finish="stop")), 0.1, event(USED)], ends=HANG)


@behaviour
def large_arguments(body: Body, nth: int) -> Play:
    """Three calls with 730 kB of arguments each."""
    text = "x" * 730_000
    return called(*(piece(n, f"c{n}", "weather", json.dumps({"city": text})) for n in range(3)))


@behaviour
def huge_arguments(body: Body, nth: int) -> Play:
    """A call with 5 MB of arguments, in deltas of 100 kB."""
    texts = ['{"city":"', *["x" * 100_000] * 50, '"}']
    return called(*(piece(0, "c1", "weather", text) for text in texts))


@behaviour
def huge_event(body: Body, nth: int) -> Play:
    """5 MB of text in one event, and as much reasoning."""
    return Play(events(chunk("\u20ac" * (5 * 10**6 // 6)), chunk(reasoning="x" * 5 * 10**6), chunk(finish="stop")))


@behaviour
def gzip_error(body: Body, nth: int) -> Play:
    """400 with a reason that is compressed though nobody asked for it."""
    reason = gzip.compress(json.dumps({"error": {"message": "the moon is full"}}).encode())
    return Play([reason], 400, "application/json", {"Content-Encoding": "gzip"}, chunked=False)


# ---------------------------------------------------------------- options that are refused

# What is refused, when, and the words of it, as real servers have them; the model `refuses-seed` refuses `seed`.
REFUSALS: dict[str, tuple[Callable[[Body], bool], str]] = {
    "temperature": (
        lambda body: body.get("temperature", 1) != 1,
        "invalid temperature: only 1 is allowed for this model",
    ),
    "top_p": (lambda body: "top_p" in body, "`temperature` and `top_p` cannot both be specified for this model."),
    "seed": (lambda body: "seed" in body, "seed is deprecated for this model"),
    "max_tokens": (
        lambda body: "max_tokens" in body,
        "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead.",
    ),
    "max_completion_tokens": (lambda body: "max_completion_tokens" in body, "unknown field max_completion_tokens"),
    "stop": (lambda body: "stop" in body, "Argument not supported on this model: stop"),
    "presence_penalty": (
        lambda body: "presence_penalty" in body,
        "Model grok-4 does not support parameter presence_penalty.",
    ),
    "frequency_penalty": (
        lambda body: "frequency_penalty" in body,
        "Extra inputs are not permitted: frequency_penalty",
    ),
    "reasoning_effort": (lambda body: "reasoning_effort" in body, "Unrecognized request argument: reasoning_effort"),
    "parallel_tool_calls": (
        lambda body: "parallel_tool_calls" in body,
        "Unknown parameter: 'parallel_tool_calls'.",
    ),
    "stream_options": (lambda body: "stream_options" in body, "stream_options: Extra inputs are not permitted"),
    "json_schema": (
        lambda body: _format_of(body) == "json_schema",
        "This response_format type is unavailable now",
    ),
    "json_object": (
        lambda body: _format_of(body) == "json_object",
        "'response_format.type' must be 'json_schema' or 'text'",
    ),
    "json_unsaid": (
        lambda body: _format_of(body) == "json_object" and "json" not in json.dumps(body["messages"]).lower(),
        "'messages' must contain the word 'json' in some form, to use 'response_format' of type 'json_object'.",
    ),
    "strict": (
        lambda body: _format_of(body) == "json_schema" and body["response_format"]["json_schema"]["strict"],
        "Invalid schema for response_format 'reply': In context=(), 'oneOf' is not permitted.",
    ),
    "choice_by_name": (
        lambda body: isinstance(body.get("tool_choice"), Mapping),
        "tool_choice: Input should be 'none', 'auto' or 'required', and is invalid",
    ),
    "choice_required": (
        lambda body: body.get("tool_choice") == "required",
        "Thinking mode does not support this tool_choice",
    ),
    "choice": (lambda body: "tool_choice" in body, "tool_choice is not supported"),
    "developer": (
        lambda body: any(message["role"] == "developer" for message in body["messages"]),
        "developer is not one of ['system', 'assistant', 'user', 'tool', 'function'] - 'messages.[0].role'",
    ),
}


def _format_of(body: Body) -> str:
    form = body.get("response_format")
    return str(form.get("type")) if isinstance(form, Mapping) else ""


def refusing(names: Sequence[str]) -> Behaviour:
    """`refuses-temperature,seed` refuses these, one at a time; what is left it answers with a call or JSON."""

    def play(body: Body, nth: int) -> Play:
        for name in names:
            is_refused, words = REFUSALS[name]
            if is_refused(body):
                return refusal(400, words)
        if body.get("tools"):
            return tool(body, nth)
        return answer(body, '{"city": "Rome"}')

    return play


@behaviour
def refuses_in_a_list(body: Body, nth: int) -> Play:
    """Refuses seed and stop in a `message` that is a list."""
    if "seed" in body or "stop" in body:
        return Play(['{"statusCode":400,"message":["property seed: unknown","property stop: unknown"]}'], 400)
    return answer(body)


@behaviour
def base_resp(body: Body, nth: int) -> Play:
    """Status 200 with the error in `base_resp`."""
    wrong = {"id": "1", "choices": None, "base_resp": {"status_code": 1008, "status_msg": "the well is dry"}}
    return Play([json.dumps(wrong)], kind="application/json", chunked=False)


@behaviour
def broken_and_hot(body: Body, nth: int) -> Play:
    """500 at the first try, with a word on a temperature that is not supported."""
    return refusal(500, "temperature sensor: fan not supported") if nth == 1 else answer(body)


@behaviour
def words_behind(body: Body, nth: int) -> Play:
    """400 of a proxy, the provider's words in `metadata`."""
    error = {"message": "Provider returned error", "code": 400, "metadata": {"raw": "the tea is cold"}}
    return Play([json.dumps({"error": error})], 400, "application/json", chunked=False)


# ---------------------------------------------------------------- what an endpoint wants back

SIGNED = {"extra_content": {"google": {"thought_signature": "c2lnbmVk"}}}
DETAILS = {"type": "reasoning.text", "text": "Two and two.", "signature": "s1", "index": 0, "format": "f"}
THOUGHT = {"reasoning_content": "Two and two.", "reasoning_details": [DETAILS]}


def _wants(body: Body, of_message: Mapping[str, Any], of_call: Mapping[str, Any]) -> Play:
    """A tool call with these fields; once its result comes, an answer where they came back, else a refusal."""
    past = [message for message in body["messages"] if message["role"] == "assistant"]
    if past:
        is_back = all(past[-1].get(name) == value for name, value in of_message.items())
        is_back &= all(past[-1]["tool_calls"][0].get(name) == value for name, value in of_call.items())
        return answer(body) if is_back else refusal(400, "its reasoning must be passed back to the API.")
    call = piece(0, "c1", "weather", ROME) | dict(of_call)
    if not body.get("stream"):
        return whole(None, "tool_calls", tool_calls=[call], **of_message)
    pieces = []
    if "reasoning_content" in of_message:
        half, rest = {"text": "Two and "}, {"text": "two.", "signature": "s1"}
        bare = {key: DETAILS[key] for key in ("type", "index", "format")}
        pieces = [
            chunk(reasoning_content="Two and ", reasoning_details=[bare | half]),
            chunk(reasoning_content="two.", reasoning_details=[bare | rest]),
        ]
    return Play(events(*pieces, chunk(tool_calls=[call]), chunk(finish="tool_calls")))


@behaviour
def wants_reasoning(body: Body, nth: int) -> Play:
    """Wants its reasoning back with the result of a tool, as text and in blocks."""
    return _wants(body, THOUGHT, {})


@behaviour
def wants_signature(body: Body, nth: int) -> Play:
    """Wants the signature of a tool call back."""
    return _wants(body, {}, SIGNED)


@behaviour
def refuses_reasoning(body: Body, nth: int) -> Play:
    """Gives reasoning and refuses it in what comes back."""
    if any("reasoning_content" in message for message in body["messages"]):
        return refusal(400, "reasoning_content must not be included in the input messages")
    return answer(body) if len(body["messages"]) > 1 else _wants(body, {"reasoning_content": "Hm."}, {})


# ---------------------------------------------------------------- endpoints that are busy


def busy(message: str, headers: Mapping[str, str] | None = None, **more: Any) -> Behaviour:
    """429 at the first try, an answer at the next."""
    return lambda body, nth: answer(body) if nth > 1 else refusal(429, message, headers=headers or {}, **more)


RETRY_INFO = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "0.3s"}
BUSY = {
    "busy-ms": busy("slow down", {"retry-after-ms": "300"}),
    "busy-delay": busy("You exceeded your current quota.", status="RESOURCE_EXHAUSTED", details=[RETRY_INFO]),
    "busy-words": busy("Rate limit reached for model m on tokens per min. Please try again in 300ms."),
    "busy-reset": busy(
        "slow down",
        {
            "x-ratelimit-reset-requests": "1h2m",
            "x-ratelimit-remaining-requests": "9",
            "x-ratelimit-reset-tokens": "0.3s",
            "x-ratelimit-remaining-tokens": "0",
        },
    ),
}
for _name, _busy in BUSY.items():
    _busy.__doc__ = "429 at the first try; when to come again is said in a place of its own."
    BEHAVIOURS[_name] = _busy


@behaviour
def used_up(body: Body, nth: int) -> Play:
    """429: the account has no money left."""
    return refusal(429, "You exceeded your current quota, please check your plan.", code="insufficient_quota")


@behaviour
def used_up_today(body: Body, nth: int) -> Play:
    """429: the quota of the day is used up, with a delay all the same."""
    failure = {"violations": [{"quotaId": "GenerateRequestsPerDayPerProjectPerModel-FreeTier"}]}
    return refusal(429, "You exceeded your current quota.", details=[failure, RETRY_INFO])


OVERFLOWS = (
    (400, "The decoder prompt (length 9) is longer than the maximum model length of 8."),
    (500, "This model's maximum context length is 8 tokens. However, you requested 9 tokens."),
    (422, "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 8. Given: 9"),
    (400, "the request exceeds the available context size, try increasing it"),
    (400, "<400> InternalError.Algo.InvalidParameter: Range of input length should be [1, 8]"),
    (400, "Invalid request: Your request exceeded model token limit: 8"),
    (413, "prompt is too long: 9 tokens > 8 maximum"),
)


@behaviour
def overflows(body: Body, nth: int) -> Play:
    """The context is too long, in the words of the server that the message's number names."""
    status, words = OVERFLOWS[int(body["messages"][-1]["content"])]
    return refusal(status, words)


@behaviour
def call_not_read_once(body: Body, nth: int) -> Play:
    """400 at the first try: the endpoint cannot read the tool call that the model wrote."""
    return call_not_read(body, nth) if nth == 1 else tool(body, nth)


@behaviour
def call_not_read(body: Body, nth: int) -> Play:
    """400: the endpoint cannot read the tool call that the model wrote."""
    text = "Failed to call a function. Please adjust your prompt. See 'failed_generation' for more details."
    return refusal(400, text, code="tool_use_failed", failed_generation='<function=weather{"city": "Rome"}')


# ---------------------------------------------------------------- more that models say


def _thinks(opens: str, closes: str) -> Behaviour:
    def play(body: Body, nth: int) -> Play:
        text = f"{opens}Two and two.{closes}\n\nFour."
        if not body.get("stream"):
            return whole(text)
        return Play(events(*(chunk(text[place : place + 3]) for place in range(0, len(text), 3)), chunk(finish="stop")))

    mark = "the channels of gpt-oss" if "|" in opens else f"`{opens}`"
    play.__doc__ = f"Reasoning inline, in {mark}."
    return play


HARMONY_BETWEEN = "<|end|><|start|>assistant<|channel|>final<|message|>"
for _name, _opens, _closes in (
    ("thinks-thinking", "<thinking>", "</thinking>"),
    ("thinks-thought", "<thought>", "</thought>"),
    ("thinks-mistral", "[THINK]", "[/THINK]"),
    ("thinks-harmony", "<|channel|>analysis<|message|>", HARMONY_BETWEEN),
):
    BEHAVIOURS[_name] = _thinks(_opens, _closes)


@behaviour
def thinks_details(body: Body, nth: int) -> Play:
    """Reasoning in `reasoning_details` only."""
    details: list[dict[str, Any]] = [
        {"reasoning_details": [{"type": "reasoning.text", "text": text}]} for text in ("Two and ", "two.")
    ]
    return Play(events(*(chunk("", **part) for part in details), chunk("Four."), chunk(finish="stop")))


@behaviour
def thinks_text(body: Body, nth: int) -> Play:
    """Reasoning in `reasoning_text`."""
    return Play(events(chunk(reasoning_text="Two and two."), chunk("Four."), chunk(finish="stop")))


@behaviour
def thinks_object(body: Body, nth: int) -> Play:
    """Reasoning in an object."""
    return Play(events(chunk(reasoning={"content": "Two and two."}), chunk("Four."), chunk(finish="stop")))


WRITTEN = {
    "written-hermes": 'Hello\n<tool_call>\n{"name": "weather", "arguments": {"city": "Rome"}}\n</tool_call>',
    "written-mistral": '[TOOL_CALLS][{"name": "weather", "arguments": {"city": "Rome"}}]',
    "written-llama": '<|python_tag|>{"name": "weather", "parameters": {"city": "Rome"}}',
    "written-function": '<function=weather>{"city": "Rome"}</function>',
    "written-harmony": "<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>commentary "
    'to=functions.weather <|constrain|>json<|message|>{"city": "Rome"}<|call|>',
    "written-unknown": 'Hello <tool_call>{"name": "nobody", "arguments": {}}</tool_call>',
    "written-broken": 'Hello <tool_call>{"name": "weather", "argum',
    "written-about": "Hello, a < b, and `<tool` is how it begins.",
}


def _written(text: str) -> Behaviour:
    def play(body: Body, nth: int) -> Play:
        if not body.get("stream"):
            return whole(text)
        return Play(events(*(chunk(text[place : place + 4]) for place in range(0, len(text), 4)), chunk(finish="stop")))

    play.__doc__ = f"In the text: `{text}`."
    return play


BEHAVIOURS.update({_name: _written(_text) for _name, _text in WRITTEN.items()})


@behaviour
def image_only(body: Body, nth: int) -> Play:
    """An image for an answer."""
    images = [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}]
    return whole(None, images=images) if not body.get("stream") else Play(events(chunk(images=images, finish="stop")))


@behaviour
def image_and_text(body: Body, nth: int) -> Play:
    """An image beside the text."""
    images = [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}]
    return Play(events(chunk("Hello"), chunk(images=images), chunk(finish="stop")))


@behaviour
def spoken(body: Body, nth: int) -> Play:
    """A spoken answer with its words."""
    parts: list[dict[str, Any]] = [
        {"audio": {"id": "a1", "data": "AAAA", "transcript": text}} for text in ("Hel", "lo")
    ]
    return Play(events(*(chunk(**part) for part in parts), chunk(finish="stop")))


def status_behaviour(status: int) -> Behaviour:
    """`status-503` and so on."""
    return lambda body, nth: refusal(status, f"this is {status}", headers={"x-should-retry": "false"})


def _between(extra: str) -> list[bytes | str | float]:
    return [part for one in events(chunk("Hel"), chunk("lo"), chunk(finish="stop"), USED) for part in (one, extra)]


# ---------------------------------------------------------------- the server


class Endpoint:
    """Runs in a thread; `url` is its base URL. Use it as a context manager."""

    def __init__(self, port: int = 0, certificate: tuple[str, str] | None = None) -> None:
        """`certificate`: the PEM files of one and of its key; with it the URL is https."""
        self.seen: list[Seen] = []
        self.models: Play | None = None  # instead of the list of behaviours
        self.open = self.connections = 0  # now, and ever
        self._asked: Counter[str] = Counter()
        self._port = port
        self._tls: ssl.SSLContext | None = None
        if certificate:
            self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self._tls.load_cert_chain(*certificate)

    def __enter__(self) -> Endpoint:
        _bomb()  # before anybody waits for it
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="endpoint", daemon=True)
        self._thread.start()
        server = asyncio.run_coroutine_threadsafe(
            asyncio.start_server(self._serve, "127.0.0.1", self._port, ssl=self._tls), self._loop
        )
        self._server = server.result(60)
        self.address = f"127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        self.url = f"{'https' if self._tls else 'http'}://{self.address}/v1"
        return self

    def __exit__(self, *_: object) -> None:
        async def stop() -> None:
            self._server.close()
            others = asyncio.all_tasks() - {asyncio.current_task()}
            for task in others:
                task.cancel()
            await asyncio.gather(*others, return_exceptions=True)

        asyncio.run_coroutine_threadsafe(stop(), self._loop).result(60)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(60)
        self._loop.close()

    @property
    def bodies(self) -> list[Any]:
        """Of the completions that were asked for."""
        return [seen.body for seen in self.seen if "/chat/completions" in seen.path]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.open += 1
        self.connections += 1
        try:
            while seen := await _request(reader):
                self.seen.append(seen)
                try:
                    if not await self._play(self._choose(seen), seen, reader, writer):
                        break
                except ConnectionError:
                    seen.gone.set()
                    break
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            self.open -= 1
            writer.close()

    def _choose(self, seen: Seen) -> Play:
        if seen.path.partition("?")[0].endswith("/models"):
            listed = {"object": "list", "data": [{"id": name, "owned_by": "tests"} for name in BEHAVIOURS]}
            return self.models or Play([json.dumps(listed)], kind="application/json", chunked=False)
        if not seen.path.partition("?")[0].endswith("/chat/completions"):
            return refusal(404, f"there is nothing at {seen.path}")
        name = str(seen.body.get("model"))
        self._asked[name] += 1
        chosen = status_behaviour(int(name[7:])) if name.startswith("status-") else BEHAVIOURS.get(name)
        if name.startswith("refuses-") and chosen is None:
            chosen = refusing(name[8:].split(","))
        if chosen is None:
            return refusal(404, f"no model {name!r}; there are {', '.join(BEHAVIOURS)}", code="model_not_found")
        play = chosen(seen.body, self._asked[name])
        if name.startswith("tells-the-key"):
            key = seen.headers.get("authorization", "").removeprefix("Bearer ")
            play = Play([str(play.pieces[0]).replace("KEY", key)], play.status, play.kind, chunked=False)
        return play

    async def _play(self, play: Play, seen: Seen, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Whether the connection stays."""
        watch = asyncio.create_task(_gone(reader, seen))
        try:
            if play.status:
                body = [part.encode() if isinstance(part, str) else part for part in play.pieces]
                length = sum(len(part) for part in body if isinstance(part, bytes))
                framing = {"Transfer-Encoding": "chunked"} if play.chunked else {"Content-Length": str(length)}
                headers = {"Content-Type": play.kind} | framing | dict(play.headers)
                lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
                writer.write(f"HTTP/1.1 {play.status} Played\r\n{lines}\r\n".encode())
                for part in body:
                    if not isinstance(part, bytes):
                        await asyncio.sleep(part)
                    elif part:
                        writer.write(b"%x\r\n%s\r\n" % (len(part), part) if play.chunked else part)
                        await writer.drain()
                    if seen.gone.is_set():
                        return False
            if play.ends == HANG:
                await watch
                return False
            if play.ends == CUT:
                writer.transport.abort()
                return False
            if play.ends == CLOSE:
                return False
            if play.chunked:
                writer.write(b"0\r\n\r\n")
            await writer.drain()
        finally:
            watch.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await watch
        return True


async def _gone(reader: asyncio.StreamReader, seen: Seen) -> None:
    """Sets `seen.gone` once the client has closed. It sends nothing while it is answered."""
    while not (reader.at_eof() or reader.exception()):  # noqa: ASYNC110 - a StreamReader has no event for it
        await asyncio.sleep(0.005)
    seen.gone.set()


async def _request(reader: asyncio.StreamReader) -> Seen | None:
    head = await reader.readuntil(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").strip().split("\r\n")
    method, path, _ = first.split(" ")
    headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    return Seen(method, path, headers, json.loads(body) if body else None)


def described() -> Iterator[str]:
    for name, function in BEHAVIOURS.items():
        yield f"{name:22} {' '.join((function.__doc__ or '').split())}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, default=9000)
    parser.add_argument("--list", action="store_true", help="say what each model does, and exit")
    options = parser.parse_args()
    print("\n".join(described()))
    if not options.list:
        with Endpoint(options.port) as endpoint:
            print(f"\n{endpoint.url}", flush=True)
            threading.Event().wait()


if __name__ == "__main__":
    main()
