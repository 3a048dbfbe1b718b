"""Events of a stream that say something where nobody expects it: it is read, or the reply is an error."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest

from plugins.llm_openai.engine.failures import Failure, Kind, describe, of_status
from plugins.llm_openai.engine.messages import Reply
from tests.llm_endpoint import OSLO, ROME, beside, chunk, piece
from tests.test_llm_grammar import read

GROWN = ["Roses", "Roses are red,", "Roses are red, violets are blue, and", "Roses are red, violets are blue, and this",
         "Roses are red, violets are blue, and this is \u00fcber all."]  # fmt: skip
END, TOOL_END = chunk(finish="stop"), chunk(finish="tool_calls")


def said(delta: Any, **more: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": delta} | more]}


def sent(*events: Any, done: bool = True) -> bytes:
    """As a server sends them; text goes out as it is."""
    lines = [one if isinstance(one, str) else f"data: {json.dumps(one)}\n\n" for one in events]
    return "".join([*lines, "data: [DONE]\n\n" if done else ""]).encode()


READ: dict[str, tuple[bytes, str, list[str]]] = {
    "choices that are one": (sent(chunk("Hel"), {"choices": said({"content": "lo"})["choices"][0]}, END), "Hello", []),
    "a delta that is text": (sent(chunk("Hel"), said("lo"), END), "Hello", []),
    "a message beside an empty delta": (sent(beside(chunk("", finish="stop"), "Hello")), "Hello", []),
    "a message beside each delta": (
        sent(beside(chunk("Hel"), "Hel"), beside(chunk("lo"), "Hello"), beside(chunk(""), "Hello"), END),
        "Hello",
        [],
    ),
    "calls in a message beside": (
        sent(chunk("Hi"), beside(chunk(""), "Hi", tool_calls=[piece(None, "a", "weather", ROME)]), TOOL_END),
        "Hi",
        [ROME],
    ),
    "arguments under another name": (
        sent(said({"tool_calls": [{"id": "a", "function": {"name": "weather", "parameters": {"city": "Rome"}}}]}), END),
        "",
        [ROME],
    ),
    "one call in a message after deltas, no list": (
        sent(chunk("Hi"), beside(chunk(""), "Hi", tool_calls=piece(None, "a", "weather", ROME)), TOOL_END),
        "Hi",
        [ROME],
    ),
    "indexes that jump": (
        sent(chunk(tool_calls=[piece(0, "a", "weather", ROME)]), chunk(tool_calls=[piece(5, "b", "weather", OSLO)])),
        "",
        [ROME, OSLO],
    ),
    "a ping that says something": (sent(f"event: ping\n{sent(chunk('Hello'), done=False).decode()}", END), "Hello", []),
    "JSON lines, indented": (f"  {json.dumps(chunk('Hello'))}\n  {json.dumps(END)}\n".encode(), "Hello", []),
    "news beside the text": (
        sent({"status": "loading", "message": "a moment"}, chunk("Hello"), {"citations": ["a"]}, {"code": 0}, END),
        "Hello",
        [],
    ),
    "what the standard passes over": (sent("keepalive\n\n", "x-id: 1\n", chunk("Hello"), END), "Hello", []),
    "an end of the choice beside": (
        sent({"choices": [{"index": n, "delta": {"content": text}} for n, text in enumerate(("Hello", "Bye"))]}, END),
        "Hello",
        [],
    ),
    "deltas that grow": (sent(*map(chunk, GROWN), END), GROWN[-1], []),
    "deltas that grow, and the message": (
        sent(*map(chunk, GROWN), {"choices": [{"index": 0, "message": {"content": GROWN[-1]}}]}, END),
        GROWN[-1],
        [],
    ),
    "deltas that grow, the last twice": (sent(*map(chunk, GROWN), chunk(GROWN[-1], finish="stop")), GROWN[-1], []),
    "few deltas that grow, and the message": (
        sent(chunk("Hel"), chunk("Hello"), {"choices": [{"index": 0, "message": {"content": "Hello"}}]}, END),
        "Hello",
        [],
    ),
    "laughter": (sent(chunk("ha"), chunk("haha"), END), "hahaha", []),
    "laughter, and the message": (
        sent(chunk("ha"), chunk("haha"), {"choices": [{"index": 0, "message": {"content": "hahaha"}}]}, END),
        "hahaha",
        [],
    ),
    "laughter that grows": (
        sent(*[chunk("ha" * count) for count in range(1, 60)], END),
        "ha" * sum(range(1, 60)),
        [],
    ),
    "a line that grows and ends": (sent(*map(chunk, ("-", "--", "----", "-" * 40, "\n")), END), "-" * 47 + "\n", []),
    "words said over and over": (
        sent(*[chunk("I love you. " * count) for count in range(1, 9)], END),
        "I love you. " * sum(range(1, 9)),
        [],
    ),
    "growth that ends": (sent(*map(chunk, [*GROWN[:3], " and"]), END), "".join(GROWN[:3]) + " and", []),
    "a call in the middle of growth": (
        sent(*map(chunk, GROWN[:2]), chunk(tool_calls=[piece(0, "a", "weather", ROME)]), *map(chunk, GROWN[2:]), END),
        GROWN[-1],
        [ROME],
    ),
    "many ends": (sent(chunk("Hello"), "data: " + "[DONE]" * 5000 + "\n\n"), "Hello", []),
}  # fmt: skip


@pytest.mark.parametrize("name", READ)
def test_what_is_said_is_read(name: str) -> None:
    """Wherever it stands; in one piece, and byte by byte."""
    data, text, calls = READ[name]
    for pieces in ([data], [data[place : place + 1] for place in range(len(data))] if len(data) < 5000 else [data]):
        deltas, reply = read(pieces)
        assert isinstance(reply, Reply), reply
        assert reply.text == "".join(delta.text for delta in deltas) == text
        assert [json.loads(call.arguments) for call in reply.tool_calls] == list(map(json.loads, calls))
        assert not any(call.error for call in reply.tool_calls)


WRONG: dict[str, Any] = {
    "errors": {"errors": [{"message": "the pond is full"}]},
    "a message": {"message": "the pond is full"},
    "a code": {"code": "503", "msg": "the pond is full"},
    "a status in words": {"status": "error", "message": "the pond is full", "id": "a"},
    "no success": {"success": False, "error_description": "the pond is full"},
    "a fault": {"fault": {"faultstring": "the pond is full"}},
    "an error in a delta": said({"error": {"message": "the pond is full"}}),
    "an error in a message": {"choices": [{"message": {"error": {"message": "the pond is full"}}}]},
    "an error code": {"error_code": 336, "error_msg": "the pond is full"},
    "a page": "<html>\n<body>the pond is full</body>\n</html>\n",
    "words": "upstream says: the pond is full\n\n",
    "words before JSON": f"json {json.dumps(chunk('the pond is full'))}\n\n",
    "text outside of a choice": {"delta": {"content": "the pond is full"}},
    "choices that are text": {"choices": "the pond is full"},
    "a choice that is text": {"choices": ["the pond is full"]},
    "content that is a number": said({"content": 5}),
    "a part that is a number": said({"content": [5]}),
    "parts too deep": said({"content": [[[[[[[[[["the pond is full"]]]]]]]]]]}),
    "a call that is text": said({"tool_calls": ["the pond is full"]}),
    **{
        f"finish reason {name}": chunk(finish=name)
        for name in ("failed", "cancelled", "network_error", "function_call_filter: MALFORMED_FUNCTION_CALL")
    },
}


@pytest.mark.parametrize("name", WRONG)
def test_what_cannot_be_read_is_an_error(name: str) -> None:
    """Although a finish reason and `[DONE]` follow: what was there is not passed over, and its words are told."""
    deltas, reply = read([sent(chunk("Hel"), WRONG[name], END)])
    assert isinstance(reply, Failure), reply
    assert "".join(delta.text for delta in deltas) == "Hel"
    if "the pond is full" in str(WRONG[name]) and reply.kind is Kind.STATUS:
        assert "the pond is full" in reply.message


def test_growth_that_turns_into_another_text_is_an_error() -> None:
    """Once each delta has repeated all before it, one that does not may be a correction, or the next piece."""
    _, reply = read([sent(*map(chunk, GROWN), chunk(" And more."), END)])
    assert isinstance(reply, Failure)
    assert reply.kind is Kind.MALFORMED


def test_parts_that_have_no_place_are_named() -> None:
    """An image or a file among the parts of the content: the text comes, and what is left out is told."""
    parts = [{"type": "text", "text": "Here."}, {"type": "image_url", "image_url": {"url": "a"}}, {"type": "file"}]
    _, reply = read([sent(said({"content": parts}), END)])
    assert isinstance(reply, Reply)
    assert (reply.text, reply.dropped) == ("Here.", ("files", "images"))


def test_the_end_of_another_choice_is_none_of_ours() -> None:
    """Of two texts side by side, the end of the second says nothing of the first."""
    both = {"choices": [{"index": 0, "delta": {"content": "Hel"}}, {"index": 1, "delta": {"content": "Bye"}}]}
    _, reply = read([sent(both, {"choices": [{"index": 1, "delta": {}, "finish_reason": "stop"}]}, done=False)])
    assert isinstance(reply, Failure)


@pytest.mark.parametrize(
    "body",
    [
        {"error": {"error": {"message": "the pond is full", "code": "x"}}},
        {"error": {"message": {"text": "the pond is full"}}},
        {"detail": {"error": {"message": "the pond is full"}}},
        {"error": "invalid", "error_description": "the pond is full"},
        {"Message": "the pond is full"},
        {"message": {"detail": [{"loc": ["body"], "msg": "the pond is full"}]}},
        {"error": {"details": "the pond is full"}},
        {"ResponseMetadata": {"Error": {"Code": "x", "Message": "the pond is full"}}},
        {"error": {"errors": [{"message": "the pond is full"}]}},
        {"exception": "the pond is full"},
    ],
)
def test_words_of_an_error_are_found_however_deep(body: Mapping[str, Any]) -> None:
    """Bodies of errors as proxies and clouds nest them."""
    assert describe(body)[0] == "the pond is full"


@pytest.mark.parametrize(
    ("headers", "body", "seconds"),
    [
        ({"retry-after": "30s"}, {}, 30),
        ({"retry-after": "1.5"}, {}, 1.5),
        ({"retry-after": "2100-01-01T00:00:00Z"}, {}, 10**9),
        ({"anthropic-ratelimit-requests-reset": "2100-01-01T00:00:00Z"}, {}, 10**9),
        ({"retry-after": "-1"}, {}, None),
        ({"retry-after": "soon"}, {}, None),
        ({}, {"error": {"message": "Please retry after 26 seconds."}}, 26),
        ({}, {"error": {"message": "Rate limited; wait 5 minutes"}}, 300),
        ({}, {"error": {"message": "retry in 250 milliseconds"}}, 0.25),
        ({}, {"error": {"message": "try again in 1h2m3.5s"}}, 3723.5),
        ({}, {"error": {"message": "busy", "retry_after_ms": 1500}}, 1.5),
        ({}, {"error": {"metadata": {"headers": {"X-RateLimit-Reset": "4102444800000"}}}}, 10**9),
    ],
)
def test_a_delay_in_any_form(headers: dict[str, str], body: dict[str, Any], seconds: float | None) -> None:
    """As a number with a unit, a date, words, or a proxy's copy of a header; 10**9 stands for far away."""
    delay = of_status(429, body, headers=headers).retry_after
    assert delay == seconds or (seconds == 10**9 and delay is not None and delay > 10**9)
