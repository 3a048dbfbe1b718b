"""Streams made by rules, from a grammar of what servers do, each with the reply that must come out of llm_openai.

A reply is dressed as a server might: chunks cut anywhere, numbered, labelled, ended early, told twice, broken off. What
comes out is all of it, each piece once, or an error; never less than was sent and a success.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from plugins.llm_openai.engine.assembler import Assembler
from plugins.llm_openai.engine.failures import Failure
from plugins.llm_openai.engine.messages import Delta, Reply, Tool
from plugins.llm_openai.engine.reading import ChunkReader
from tests.llm_endpoint import chunk, told

LARGEST = 2**26
TOOLS = (Tool("weather", "", {"type": "object"}), Tool("other", "", {"type": "object"}))
USAGE = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
STREAMS = 600


@dataclass
class Wanted:
    text: str = ""
    reasoning: str = ""
    calls: list[tuple[str, dict[str, Any]]] = field(default_factory=list)


@dataclass
class Made:
    """A stream: its bytes, and which replies may come out of a prefix of them."""

    data: bytes
    wanted: Wanted
    recipe: dict[str, Any]


def replies(rng: random.Random) -> Wanted:
    words = ("Roses", " are", " red,\n", "violets\u2028", " \u00fcber", " \U0001f339", ' "quoted"', " {\u007d} ", "\\n")
    text = "".join(rng.choices(words, k=rng.randint(1, 9))).strip() or "."
    wanted = Wanted(text=text if rng.random() < 0.8 else "")
    if rng.random() < 0.4:
        wanted.reasoning = "Hm, " + "".join(rng.choices(words[:5], k=4)).strip()
    if rng.random() < 0.5 or not wanted.text:
        for _ in range(rng.randint(1, 3)):
            arguments = {"city": "".join(rng.choices(words, k=2)), "n": rng.randint(0, 10**6), "deep": {"a": [1, "}"]}}
            wanted.calls.append((rng.choice(("weather", "other")), arguments))
    return wanted


def cut(rng: random.Random, text: str, most: int = 5) -> list[str]:
    places = sorted(rng.sample(range(1, len(text)), min(len(text) - 1, rng.randint(0, most)))) if len(text) > 1 else []
    return [text[start:end] for start, end in zip([0, *places], [*places, len(text)], strict=True)]


def deltas(rng: random.Random, wanted: Wanted, recipe: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The deltas of a reply, the calls labelled as the recipe says."""
    if recipe["role"]:
        yield {"role": "assistant", "content": ""}
    thoughts = cut(rng, wanted.reasoning) if wanted.reasoning else []
    content = wanted.text
    if recipe["thinks"] == "inline" and wanted.reasoning:
        content, thoughts = f"<think>{wanted.reasoning}</think>\n\n{content}", []
    elif recipe["thinks"] == "twice" and wanted.reasoning:
        content = f"<think>{wanted.reasoning}</think>\n\n{content}"
    for piece in thoughts:
        yield {recipe["field"]: piece}
    for piece in cut(rng, content) if content else []:
        yield {"content": [{"type": "text", "text": piece}] if recipe["parts"] else piece}
    if recipe["only"]:
        return  # the calls are in the message alone
    for number, (name, arguments) in enumerate(wanted.calls):
        yield from call_deltas(rng, number, name, arguments, recipe)


def call_deltas(
    rng: random.Random, number: int, name: str, arguments: dict[str, Any], recipe: dict[str, Any]
) -> Iterator[dict[str, Any]]:
    style, whole = recipe["calls"], json.dumps(arguments, ensure_ascii=rng.random() < 0.5)
    index, id_ = {"index": number}, {"id": f"c{number}"}
    pieces = cut(rng, whole) if style not in ("whole", "object") else [whole]

    def delta(labels: dict[str, Any], **function: Any) -> dict[str, Any]:
        return {"tool_calls": [labels | {"type": "function", "function": function}]}

    if style == "object":
        yield delta(index | id_, name=name, arguments=arguments)
    elif style == "index zero":
        yield delta({"index": 0} | id_, name=name, arguments=whole)
    elif style == "no index":
        yield delta(id_, name=name, arguments=pieces[0])
        yield from (delta(id_, arguments=piece) for piece in pieces[1:])
    elif style == "no id":
        yield delta(index, name=name, arguments=pieces[0])
        yield from (delta(index, arguments=piece) for piece in pieces[1:])
    elif style == "every label":
        yield from (delta(index | id_, name=name, arguments=piece) for piece in pieces)
    elif style == "new ids":
        for place, piece in enumerate(pieces):
            yield delta(index | {"id": f"c{number}-{place}"}, name=name, arguments=piece)
    elif style == "split index":
        yield delta({"index": 0} | id_, name=name, arguments="")
        yield from (delta({"index": number + 1}, arguments=piece) for piece in pieces)
    else:  # as OpenAI does it, or whole, or with an empty head
        first = "" if style == "empty head" else pieces.pop(0)
        yield delta(index | id_, name=name, arguments=first)
        yield from (delta(index, arguments=piece) for piece in pieces)
    if recipe["again"] == "call" and style not in ("no id", "new ids", "index zero", "split index"):
        yield delta(index | id_, name=name, arguments=whole)


def made(seed: int) -> Made:
    rng = random.Random(seed)
    wanted = replies(rng)
    recipe: dict[str, Any] = {
        "role": rng.random() < 0.5,
        "thinks": rng.choice(("field", "field", "inline", "twice")),
        "field": rng.choice(("reasoning", "reasoning_content")),
        "calls": rng.choice(("", "whole", "object", "index zero", "no index", "no id", "every label", "new ids",
                             "split index", "empty head")),
        "again": rng.choice(("", "", "message", "call", "beside")),
        "parts": rng.random() < 0.2,
        "only": rng.random() < 0.3,
        "finish": rng.choice(("end", "end", "last", "every", "reasoning", "null text")),
        "choices": rng.choice(("zero", "zero", "one", "counting", "none")),
        "usage": rng.choice(("own", "last", "every", "late", "none")),
        "lines": rng.choice(("blank", "blank", "crlf", "no blank", "json", "two", "lost end", "comments", "odd")),
        "done": rng.random() < 0.7,
    }  # fmt: skip
    recipe["only"] = recipe["only"] and recipe["again"] in ("message", "beside") and len(wanted.text) > 0
    if recipe["only"]:
        recipe["calls"] = ""
        # The message takes an earlier finish reason back, and something has to say that it is the end.
        recipe["done"] = recipe["done"] or recipe["finish"] in ("last", "every")
    chunks = [dressed(number, delta, recipe) for number, delta in enumerate(deltas(rng, wanted, recipe))]
    ends = "tool_calls" if wanted.calls else "stop"
    for place, one in enumerate(chunks):
        is_thought = any(name in one["choices"][0]["delta"] for name in ("reasoning", "reasoning_content"))
        early = recipe["finish"] == "every" or (recipe["finish"] == "reasoning" and is_thought)
        last = place == len(chunks) - 1 and recipe["finish"] in ("last", "every")
        if early or last:
            one["choices"][0]["finish_reason"] = ends
        elif recipe["finish"] == "null text":
            one["choices"][0]["finish_reason"] = "null"
    if recipe["again"] in ("message", "beside"):
        calls = [
            {"id": f"c{number}", "type": "function", "function": {"name": name, "arguments": json.dumps(arguments)}}
            for number, (name, arguments) in enumerate(wanted.calls)
        ]
        # As the deltas had it, reasoning inline and all.
        inline = wanted.reasoning and recipe["thinks"] != "field"
        text = f"<think>{wanted.reasoning}</think>\n\n{wanted.text}" if inline else wanted.text
        more = {"tool_calls": calls} if recipe["calls"] not in ("new ids", "no id") else {}
        chunks.append(told(text or None, None, **more))
        chunks[-1]["choices"][0]["index"] = chunks[-2]["choices"][0].get("index")
        if recipe["again"] == "beside":
            chunks[-1]["choices"][0]["delta"] = {"role": "assistant", "content": ""}
    if recipe["finish"] not in ("last", "every"):
        chunks.append(dressed(len(chunks), {}, recipe, ends))
    texts: list[str] = [json.dumps(one, ensure_ascii=rng.random() < 0.5) for one in chunks]
    if recipe["usage"] == "own":
        texts.append(json.dumps({"choices": [], "usage": USAGE}))
    elif recipe["usage"] in ("last", "every"):
        for place in range(len(chunks)) if recipe["usage"] == "every" else [-1]:
            texts[place] = json.dumps(chunks[place] | {"usage": USAGE})
    if recipe["done"] or recipe["usage"] == "late":
        texts.append("[DONE]")
    if recipe["usage"] == "late":
        texts.append(json.dumps({"choices": [], "usage": USAGE}))
    return Made(written(texts, recipe["lines"]).encode(), wanted, recipe)


def dressed(number: int, delta: dict[str, Any], recipe: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
    one = chunk(finish=finish) | {"usage": None}
    choice = one["choices"][0] | {"delta": delta}
    index = {"zero": 0, "one": 1, "counting": number, "none": None}[recipe["choices"]]
    choice = choice | {"index": index} if index is not None else {k: v for k, v in choice.items() if k != "index"}
    return one | {"choices": [choice]}


def written(texts: list[str], lines: str) -> str:
    events = [f"data: {text}" for text in texts]
    if lines == "crlf":
        return "".join(f"{event}\r\n\r\n" for event in events)
    if lines == "no blank":
        return "".join(f"{event}\n" for event in events)
    if lines == "json":
        return "".join(f"{text}\n" for text in texts)
    if lines == "comments":
        return ": hello\n\n" + "".join(f"event: message\n{event}\n: ping\n\nid: 1\n\n" for event in events)
    if lines == "odd":
        return "".join(f"  {('data', 'Data', 'DATA')[place % 3]}:{text}\n\n" for place, text in enumerate(texts))
    if lines == "two":
        pairs = [texts[place : place + 2] for place in range(0, len(texts), 2)]
        return "".join(f"data: {' '.join(pair)}\n\n" for pair in pairs)
    if lines == "lost end":
        return "".join(event if place % 3 == 1 else f"{event}\n" for place, event in enumerate(events)) + "\n"
    return "".join(f"{event}\n\n" for event in events)


# ---------------------------------------------------------------- reading, as the engine does it


def read(pieces: list[bytes], *, breaks: bool = False) -> tuple[list[Delta], Reply | Failure]:
    """`breaks`: the connection does, after the last of them."""
    reader, assembler = ChunkReader(LARGEST), Assembler(TOOLS, largest=LARGEST)
    found: list[Delta] = []
    try:
        try:
            for piece in pieces:
                for one in reader.feed(piece):
                    found += assembler.feed(one)
                if reader.done:
                    break
            else:
                if breaks and not assembler.is_over():
                    raise AssertionError
                for one in () if breaks else reader.close():
                    found += assembler.feed(one)
        except Failure:
            if not assembler.is_over():
                raise
        found += assembler.close()
        if not reader.done and not (assembler.is_over() if reader.cut else assembler.is_finished()):
            raise AssertionError
        assembler.check()
        return found, assembler.reply("m", [])
    except AssertionError:
        return found, Failure(kind=None, message="cut")  # type: ignore[arg-type]
    except Failure as failure:
        return found, failure


def wrong(wanted: Wanted, found: list[Delta], reply: Reply) -> str:
    """What is not as it was sent; empty where all of it is."""
    if reply.text != wanted.text:
        return f"text {reply.text!r}"
    if reply.reasoning != wanted.reasoning:
        return f"reasoning {reply.reasoning!r}"
    if [(call.name, json.loads(call.arguments)) for call in reply.tool_calls] != wanted.calls:
        return f"calls {reply.tool_calls}"
    if any(call.error for call in reply.tool_calls) or len({call.id for call in reply.tool_calls}) != len(wanted.calls):
        return f"errors or ids {reply.tool_calls}"
    streamed: dict[int, str] = {}
    for delta in found:
        if delta.call is not None:
            streamed[delta.call.index] = streamed.get(delta.call.index, "") + delta.call.arguments
    if [json.loads(streamed[index]) for index in sorted(streamed)] != [arguments for _, arguments in wanted.calls]:
        return f"deltas {streamed}"
    if "".join(delta.text for delta in found) != wanted.text:
        return "deltas of the text"
    return ""


@pytest.mark.parametrize("part", range(6))
def test_whole_streams_come_out_whole(part: int) -> None:
    """Six hundred streams, each read in one piece and byte by byte: text, reasoning and calls are those that were
    sent, the deltas add up to them, and usage is the endpoint's wherever it stood."""
    for seed in range(part, STREAMS, 6):
        one = made(seed)
        for pieces in ([one.data], [one.data[place : place + 1] for place in range(len(one.data))]):
            found, reply = read(pieces)
            about = f"stream {seed}, {one.recipe}, {one.wanted}"
            assert isinstance(reply, Reply), f"{about}: {reply}"
            assert not (fault := wrong(one.wanted, found, reply)), f"{about}: {fault}"
            if one.recipe["usage"] in ("own", "last", "every"):
                assert reply.usage is not None, about
                assert reply.usage.total == 5, about


@pytest.mark.parametrize("part", range(4))
def test_a_stream_that_breaks_is_whole_or_an_error(part: int) -> None:
    """Two hundred streams, each broken at up to forty places: a success has all that was sent before the break that is
    to be read as an answer, an error has no more than was sent; and what went out is its beginning."""
    for seed in range(part, 200, 4):
        one = made(seed)
        rng = random.Random(seed)
        for place in sorted({rng.randrange(len(one.data)) for _ in range(40)}):
            found, reply = read([one.data[:place]], breaks=True)
            text = "".join(delta.text for delta in found)
            about = f"stream {seed} at {place}, {one.recipe}, {one.wanted}"
            assert one.wanted.text.startswith(text), about
            if isinstance(reply, Reply):
                assert not (fault := wrong(one.wanted, found, reply)), f"{about}: {fault}"
