"""Content in parts, as some endpoints send it: text, reasoning, a refusal and calls, told apart by their types."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from .failures import Failure, Kind

_DEEPEST = 8
_CALLS = ("tool_use", "tool_call", "function_call")


class Parts(NamedTuple):
    text: str
    reasoning: str
    refusal: str
    calls: list[dict[str, Any]]  # as they would stand in a message


def read_parts(content: object) -> Parts:
    """`content` is a list of parts, or one. Raises Failure where it is no content of any kind.

    >>> read_parts([{"type": "text", "text": "Hello"}, {"type": "thinking", "thinking": "Hm."}, " there"])
    Parts(text='Hello there', reasoning='Hm.', refusal='', calls=[])
    >>> read_parts({"parts": [{"text": {"value": "Hello"}}]}).text
    'Hello'
    """
    pieces: dict[str, list[str]] = {"text": [], "reasoning": [], "refusal": []}
    calls: list[dict[str, Any]] = []
    for kind, piece in _read(content, "text", _DEEPEST):
        if isinstance(piece, str):
            pieces[kind].append(piece)
        else:
            calls.append(piece)
    return Parts("".join(pieces["text"]), "".join(pieces["reasoning"]), "".join(pieces["refusal"]), calls)


def _read(content: object, kind: str, levels: int) -> Iterator[tuple[str, str | dict[str, Any]]]:
    """What it is of, and the piece: text, or a call. `kind` is that of text that says nothing of itself."""
    if isinstance(content, str):
        yield kind, content
    elif not isinstance(content, list | Mapping) or not levels:
        raise Failure(Kind.MALFORMED, f"the content of the reply is neither text nor parts: {str(content)[:50]!r}")
    elif isinstance(content, list):
        for part in content:
            if part is not None:
                yield from _read(part, kind, levels - 1)
    elif content.get("type") in _CALLS and isinstance(content.get("name"), str):
        yield "calls", dict(content)
    else:
        if thought := content.get("thinking") or content.get("reasoning"):
            yield from _read(thought, "reasoning", levels - 1)
        if isinstance(refusal := content.get("refusal"), str):
            yield "refusal", refusal
        name = next((name for name in ("text", "value", "content", "parts") if content.get(name)), "")
        if name:
            yield from _read(content[name], kind, levels - 1)
