"""A scripted model, so that an agent can be seen at work without a key. `host/demo_endpoint.py` serves it.

It is no language model and says so in each answer. It plays one script: it has the question looked up with the
retrieval tool, through the API's tool calls or, where it is offered none, as ReAct text; then it quotes the sentences
of the passages that share most words with the question, and cites them. A token is a word here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

NAME = "scripted-demo"
TOOL = "search_documents"
ABOUT = (
    "I am the scripted model that ships with this host, no language model: I have looked the question up, and quoted "
    "what shares most words with it."
)
NOTHING = "I found no passage on that. " + ABOUT.replace(", and quoted what shares most words with it", "")
HELLO = (
    f"Hello. I am the scripted model that ships with this host, no language model. With a tool named {TOOL} I look "
    "questions up and quote what I find; all else needs a real model: set OPENAI_BASE_URL or OPENAI_API_KEY."
)
_MOST_QUOTES = 2
_LONGEST_QUOTE = 400  # characters
_PASSAGE = re.compile(r"^\[(\d{1,4})\] ([^\n]{1,500}?), [^\n]{1,500}$", re.MULTILINE)
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+|\n\s*\n|\n(?=[-*#|])")
_NO_PROSE = re.compile(r"^(?:#|```|[ \t]*[|│┌└]|.*\S {3,}\S).*$", re.MULTILINE)
_WORD = re.compile(r"[^\W_]{3,}")
_COMMON = frozenset("the and for are was has have how what why who when where which with that this there does can not "
                    "after from into its you your they them still only".split())  # fmt: skip


@dataclass(frozen=True)
class Move:
    """What the model does next: it calls the tool with `query`, or writes `text`."""

    text: str = ""
    query: str = ""


def move(messages: Sequence[Mapping[str, Any]], tools: Sequence[str], is_react: bool) -> Move:
    """`tools`: the names of those that are offered through the API. `is_react`: in the text of the system message."""
    results = _results(messages, is_react)
    question = _question(messages, is_react)
    if not results:
        return Move(query=question) if TOOL in tools or is_react else Move(HELLO)
    quotes = _quotes(question, "\n\n".join(results))
    if not quotes:
        return Move(NOTHING)
    said = " ".join(f"{path} says: “{quote}” [{number}]." for number, path, quote in quotes)
    return Move(f"{said} {ABOUT}")


def _results(messages: Sequence[Mapping[str, Any]], is_react: bool) -> list[str]:
    """Of the tool, since the last question."""
    found: list[str] = []
    for message in reversed(messages):
        content = text_of(message)
        if message.get("role") == "tool" or (is_react and content.startswith("Observation:")):
            found.append(content)
        elif (message.get("role") == "user" and found) or (
            message.get("role") == "user" and not content.startswith("No more ")
        ):
            break
    return found[::-1]


def _question(messages: Sequence[Mapping[str, Any]], is_react: bool) -> str:
    for message in reversed(messages):
        content = text_of(message)
        if message.get("role") == "user" and not content.startswith(("Observation:", "No more ")):
            return content.removeprefix("Question:").strip() if is_react else content.strip()
    return ""


def text_of(message: Mapping[str, Any]) -> str:
    content = message.get("content")
    if isinstance(content, list):
        return "\n".join(str(part.get("text", "")) for part in content if isinstance(part, Mapping))
    return content if isinstance(content, str) else ""


def _quotes(question: str, result: str) -> list[tuple[int, str, str]]:
    """(number, path, sentence) of the best, each of another passage, in the order of the passages' ranks."""
    words = _words(question)
    scored: list[tuple[int, int, int, str, str]] = []
    marks = list(_PASSAGE.finditer(result))
    for place, mark in enumerate(marks):
        end = marks[place + 1].start() if place + 1 < len(marks) else len(result)
        text = _NO_PROSE.sub("\n\n", result[mark.end() : end])
        for sentence in _SENTENCE_END.split(text):
            plain = " ".join(sentence.split()).strip("-*#| ")
            shared = len(words & _words(plain))
            if shared and _is_prose(plain):
                scored.append((-shared, place, int(mark[1]), mark[2], plain))
    best: dict[int, tuple[int, str, str]] = {}
    for _, place, number, path, sentence in sorted(scored):
        if len(best) < _MOST_QUOTES:
            best.setdefault(place, (number, path, sentence))
    return [best[place] for place in sorted(best)]


def _is_prose(text: str) -> bool:
    letters = sum(character.isalpha() or character == " " for character in text)
    return 30 <= len(text) <= _LONGEST_QUOTE and letters > 0.8 * len(text) and not {"“", "”", '"', "<"} & set(text)


def _words(text: str) -> set[str]:
    """In lower case, without their last letters, which differ by grammar."""
    return {word.lower()[:6] for word in _WORD.findall(text)} - _COMMON
