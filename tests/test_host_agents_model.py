"""The scripted model that ships with the host: what it does, and that it says what it is."""

from __future__ import annotations

import json
import urllib.request
from typing import Any

import pytest

from host import demo_endpoint
from host.demo_model import ABOUT, HELLO, NOTHING, Move, move

RESULT = """<tool_result-1 tool="search_documents">
[3] docs/a.md, lines 3 to 9 (Top)
# Writes
A write that was acknowledged is still there after a power cut. What was not is gone.

[4] docs/b.md, lines 1 to 2
Apples are red, and whales are not.
</tool_result-1>"""
QUESTION = {"role": "user", "content": "Is an acknowledged write still there?"}
QUOTED = "docs/a.md says: “A write that was acknowledged is still there after a power cut.” [3]. " + ABOUT


@pytest.mark.parametrize(
    ("messages", "tools", "is_react", "expected"),
    [
        ([QUESTION], ["other", "search_documents"], False, Move(query=QUESTION["content"])),
        ([QUESTION], ["other"], False, Move(HELLO)),
        ([QUESTION, {"role": "tool", "content": RESULT}], ["search_documents"], False, Move(QUOTED)),
        ([QUESTION, {"role": "tool", "content": "No passage."}], ["search_documents"], False, Move(NOTHING)),
        (
            [QUESTION, {"role": "tool", "content": RESULT}, {"role": "assistant", "content": "x"}, QUESTION],
            ["search_documents"],
            False,
            Move(query=QUESTION["content"]),
        ),
        (
            [
                QUESTION,
                {"role": "tool", "content": RESULT},
                {"role": "user", "content": "No more tools can be called."},
            ],
            [],
            False,
            Move(QUOTED),
        ),
        ([{"role": "user", "content": "Question: What?"}], [], True, Move(query="What?")),
        (
            [
                {"role": "user", "content": "Question: " + QUESTION["content"]},
                {"role": "user", "content": "Observation:\n" + RESULT},
            ],
            [],
            True,
            Move(QUOTED),
        ),
    ],
)
def test_its_script(messages: list[dict[str, str]], tools: list[str], is_react: bool, expected: Move) -> None:
    """It looks each question up once, then quotes the passage that shares its words; without the tool it says hello."""
    assert move(messages, tools, is_react) == expected


def post(url: str, body: object) -> Any:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
    try:
        return urllib.request.urlopen(request, timeout=60)
    except urllib.error.HTTPError as error:
        return error


def test_it_speaks_the_api() -> None:
    """Whole and streamed, with tool calls, usage and `[DONE]`; what is no request is a 4xx with a reason."""
    tool = {"type": "function", "function": {"name": "search_documents", "parameters": {"type": "object"}}}
    with demo_endpoint.running() as url:
        with urllib.request.urlopen(f"{url}/models", timeout=60) as reply:
            assert [model["id"] for model in json.load(reply)["data"]] == ["scripted-demo"]
        with post(f"{url}/chat/completions", {"messages": [QUESTION], "tools": [tool]}) as reply:
            body = json.load(reply)
        assert body["choices"][0]["finish_reason"] == "tool_calls"
        (call,) = body["choices"][0]["message"]["tool_calls"]
        assert json.loads(call["function"]["arguments"]) == {"query": QUESTION["content"]}
        messages = [QUESTION, {"role": "tool", "content": RESULT}]
        with post(f"{url}/chat/completions", {"messages": messages, "tools": [tool], "stream": True}) as reply:
            lines = [line.removeprefix("data: ") for line in reply.read().decode().split("\n\n") if line]
        assert lines[-1] == "[DONE]"
        chunks = [json.loads(line) for line in lines[:-1]]
        pieces = [chunk["choices"][0]["delta"].get("content") for chunk in chunks if chunk["choices"]]
        assert "".join(filter(None, pieces)) == QUOTED
        assert len(pieces) > 20
        assert chunks[-1]["usage"]["total_tokens"] > 0
        for path, sent, status in (
            ("/chat/completions", b"{", 400),
            ("/chat/completions", {"messages": 5}, 400),
            ("/nowhere", {"messages": []}, 404),
        ):
            with post(url + path, sent) as reply:
                assert reply.status == status
                assert json.load(reply)["error"]["message"]
