"""A final answer as it is shown: without what the format, not the answer, brought along."""

from __future__ import annotations

import json
import re

from shared.loose_json import NotRead, read_value, read_whole

from ..chat import JSON

_LONGEST_PLACEHOLDER = 120
_PLACEHOLDERS = frozenset(
    {
        "answer", "the answer", "final answer", "the final answer", "your answer", "your answer here",
        "your final answer", "your final answer here", "answer here", "insert answer here", "insert your answer here",
        "my answer",
        "the final answer to the original input question", "the final answer to the original question",
        "the final answer to the question", "the answer to the original question", "the answer to the question",
        "my best complete final answer to the task", "your best complete final answer to the task",
        "the final answer goes here", "the answer goes here", "final response to human", "your response here",
        "the response", "response", "result", "the result", "value", "text", "string", "none", "null", "",
    }
)  # fmt: skip
_KEYS = (
    "answer",
    "final_answer",
    "finalanswer",
    "output",
    "result",
    "response",
    "text",
    "content",
    "input",
    "value",
    "message",
)
PLACEHOLDER = (
    "The answer is missing: what stands there is a placeholder. "
    "Write `Final Answer:` and then the answer itself, in full."
)
_JSON_FENCE = re.compile(r"\A\s{0,50}`{3,}[\w-]{0,20}\s{1,20}(?=\{)")
_KEYWORD = re.compile(r"(?:answer|final_answer|text|result|output|response)\s{0,5}[=:]\s{0,5}", re.IGNORECASE)
_FENCED = re.compile(r"(?:`{3,})[\w-]{0,20}[ \t]*\r?\n")


def is_placeholder(text: str, *, argument: bool = False) -> bool:
    """Whether it is the prompt's own words in the place of an answer. `argument`: of finish, where one bare word may be
    the name that the prompt has there."""
    bare = text.strip()
    if len(bare) > _LONGEST_PLACEHOLDER:
        return False
    if re.fullmatch(r"[.…\s]{1,20}", bare):
        return True
    inner = bare.strip(" \t\r\n.…!*_`'\"").strip("[]<>{}()$").strip(" .…*_`'\"").casefold().replace("_", " ")
    if inner not in _PLACEHOLDERS:
        return False
    is_marked = bare[:1] in "[<{($" or inner.startswith(("your", "my", "the final", "insert", "the answer", "final"))
    return is_marked or argument or inner in ("answer", "")


def tagged(text: str) -> tuple[str, str]:
    """(what stands before an answer in tags of its own, the answer); a text without such tags is the answer."""
    match = _TAGGED.search(text)
    if match is None or not text.endswith(f"</{match[1]}>"):
        return "", text
    return text[: match.start()].strip(), text[match.end() : -len(match[1]) - 3]


_TAGGED = re.compile(r"^[ \t]{0,40}<(final_answer|answer)>", re.MULTILINE)


def cleaned(text: str) -> str:
    """An answer without a fence, a bold mark or a JSON shell that only half belongs to it."""
    text = text.strip()
    if text.startswith(("{", "```")) and '"' in text[:200]:
        shell = _FENCED.match(text)
        inner = text[shell.end() :].strip().rstrip("`").strip() if shell else text
        if inner.startswith("{"):
            try:
                value = read_whole(inner)
            except NotRead:
                value = None
            if isinstance(value, dict) and _is_shell(value):
                return of_value(value.get("action_input", value.get("actionInput")))
    if text.endswith("```") and text.count("```") % 2:
        text = text[:-3].rstrip()
    for mark in ("**", "__"):
        if text.endswith(mark) and text.count(mark) % 2:
            text = text[: -len(mark)].rstrip()
    return text


def _is_shell(value: dict[str, JSON]) -> bool:
    name = value.get("action")
    return (
        isinstance(name, str)
        and name.strip().casefold().replace("_", " ") in ("final answer", "finish", "answer")
        and ("action_input" in value or "actionInput" in value)
    )


def of_value(value: JSON) -> str:
    """An answer that came as JSON."""
    if isinstance(value, str):
        return cleaned(value) if not value.lstrip().startswith(("{", "```")) else value.strip()
    if value is None:
        return ""
    if isinstance(value, dict) and len(value) == 1:
        key, inner = next(iter(value.items()))
        if key.casefold() in _KEYS and isinstance(inner, str):
            return inner.strip()
    return json.dumps(value, ensure_ascii=False, indent=2)


def of_argument(text: str) -> str:
    """An answer that came as the argument of finish: `answer="…"`, `"…"`, `{"answer": "…"}`, bare text."""
    bare = _JSON_FENCE.sub("", text).strip()
    bare = bare.rstrip("`").strip() if bare.startswith("{") else text.strip()
    match = _KEYWORD.match(bare)
    bare = bare[match.end() :].strip() if match else bare
    if bare[:1] in ("{", '"', "'"):
        try:
            value, end = read_value(bare)
            if not bare[end:].strip():
                return of_value(value)
        except NotRead:
            pass
    is_quoted = len(bare) > 1 and bare[0] == bare[-1] and bare[0] in "\"'" and bare[0] not in bare[1:-1]
    return bare[1:-1] if is_quoted else bare
