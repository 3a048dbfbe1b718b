"""Reasoning and answers where few endpoints put them, and parts of an answer that a reply has no place for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_TEXTS = ("reasoning_text", "thinking", "thought", "reasoning", "reasoning_content")


def elsewhere(said: Mapping[str, Any]) -> str:
    """The reasoning of a delta or a message that has none in the usual fields."""
    for name in _TEXTS:
        value = said.get(name)
        if isinstance(value, Mapping):
            value = next((value[key] for key in ("content", "text", "summary") if isinstance(value.get(key), str)), "")
        if isinstance(value, str) and value:
            return value
    for name in ("reasoning_details", "thinking_blocks"):
        blocks = said.get(name)
        if isinstance(blocks, list):
            texts = [
                block.get(key)
                for block in blocks
                if isinstance(block, Mapping)
                for key in ("text", "summary", "thinking")
            ]
            if joined := "".join(text for text in texts if isinstance(text, str)):
                return joined
    return ""


def transcript(said: Mapping[str, Any]) -> str:
    """The words of an answer that is spoken."""
    audio = said.get("audio")
    words = audio.get("transcript") if isinstance(audio, Mapping) else None
    return words if isinstance(words, str) else ""


def left_out(said: Mapping[str, Any]) -> set[str]:
    """`images`, `audio`, `video` and `files`, where there are any.

    >>> left_out({"content": "Here.", "images": [{"type": "image_url"}], "audio": {"transcript": "Here."}})
    {'images'}
    """
    found = set[str]()
    if not (isinstance(said.get("content"), list) or "images" in said or "audio" in said):
        return found
    content, audio = said.get("content"), said.get("audio")
    if said.get("images") or (isinstance(content, list) and any(_is(part, "image") for part in content)):
        found.add("images")
    if (isinstance(audio, Mapping) and audio.get("data")) or (
        isinstance(content, list) and any(_is(part, "audio") for part in content)
    ):
        found.add("audio")
    for name, kind in (("video", "video"), ("files", "file"), ("files", "document")):
        if isinstance(content, list) and any(_is(part, kind) for part in content):
            found.add(name)
    return found


def _is(part: object, kind: str) -> bool:
    name = part.get("type") if isinstance(part, Mapping) else None
    return isinstance(name, str) and kind in name
