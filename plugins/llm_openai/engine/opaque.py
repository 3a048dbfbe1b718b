"""What an endpoint wants back with the next turn, as it came: reasoning in its own field, and signatures.

It goes through the caller as bytes that are nobody's to read: JSON of a tag of the endpoint and of the fields. They
are sent to the endpoint that they are from and to no other, which could not read them or would refuse them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from typing import Any

from . import json_text
from .halves import sound

THOUGHTS = ("reasoning_content", "reasoning")  # DeepSeek, Kimi, Qwen and GLM; vLLM and OpenRouter
# Blocks of reasoning with signatures: OpenRouter and MiniMax; LiteLLM in front of Anthropic.
_BLOCKS = ("reasoning_details", "thinking_blocks")
OF_A_MESSAGE = (*THOUGHTS, *_BLOCKS, "extra_content", "provider_specific_fields")
# Google's thought_signature, in Google's own place and in LiteLLM's.
OF_A_CALL = ("extra_content", "provider_specific_fields", "thought_signature")
_GROW = ("text", "summary", "data", "thinking", "signature")  # of a block, when it comes in pieces
_MOST_BLOCKS = 10_000
_OF_A_PROVIDER = ("thought_signature", "thought_signatures")  # the rest of its fields is for reading only


def tag_of(url: str) -> str:
    """Of an endpoint: short, and it does not show its address."""
    return hashlib.sha256(url.encode()).hexdigest()[:16]


def pack(tag: str, fields: Mapping[str, Any]) -> bytes:
    """Empty where there are none."""
    return sound(_dumped({"of": tag, "fields": fields})).encode() if fields else b""


def unpack(data: bytes, tag: str, known: tuple[str, ...]) -> dict[str, Any]:
    """The fields, where they are of that endpoint; none where they are another's, or were never ours.

    >>> unpack(pack("a", {"reasoning": "Hm."}), "a", OF_A_MESSAGE), unpack(b"nonsense", "a", OF_A_MESSAGE)
    ({'reasoning': 'Hm.'}, {})
    """
    if not data or not tag:
        return {}
    try:
        packed = json_text.read(data.decode())
    except ValueError:
        return {}
    if not isinstance(packed, Mapping) or packed.get("of") != tag or not isinstance(packed.get("fields"), Mapping):
        return {}
    return {name: value for name, value in packed["fields"].items() if name in known}


class Keeper:
    """Collects them from the pieces of a reply."""

    def __init__(self, count: Callable[[int], None]) -> None:
        """`count` is told of every byte that is kept."""
        self._count = count
        self._thoughts: dict[str, bytearray] = {}
        self._fields: dict[str, Any] = {}

    def take(self, said: Mapping[str, Any], *, thoughts: bool) -> None:
        """Of a delta or a message. Without `thoughts` plain reasoning is passed over: it may be long, and is wanted
        back with tool calls only."""
        for name in THOUGHTS if thoughts else ():
            if isinstance(value := said.get(name), str) and value:
                added = value.encode("utf-8", "surrogatepass")
                self._count(len(added))
                self._thoughts.setdefault(name, bytearray()).extend(added)
        for name in _BLOCKS:
            if isinstance(value := said.get(name), list):
                for block in value:
                    self._block(self._fields.setdefault(name, []), block)
        for name, field in _kept_of(said, ("extra_content", "provider_specific_fields")).items():
            self._count(len(_dumped(field)))
            self._fields[name] = self._fields.get(name, {}) | dict(field) if isinstance(field, Mapping) else field

    def _block(self, blocks: list[Any], block: object) -> None:
        if not isinstance(block, Mapping):
            return
        self._count(len(_dumped(block)))
        last = blocks[-1] if blocks else None
        same = last is not None and all(last.get(key) == block.get(key) for key in ("type", "index", "id"))
        if last is None or not same or "index" not in block:
            if len(blocks) < _MOST_BLOCKS:
                blocks.append({key: [value] if _grows(key, value) else value for key, value in block.items()})
            return
        for key, value in block.items():
            if _grows(key, value) and isinstance(last.get(key), list):
                last[key].append(value)
            elif value is not None:
                last[key] = [value] if _grows(key, value) else value

    def fields(self, *, thoughts: bool) -> dict[str, Any]:
        """All of them; `thoughts`: with plain reasoning."""
        found: dict[str, Any] = {}
        for name, text in self._thoughts.items() if thoughts else ():
            found[name] = text.decode("utf-8", "surrogatepass")
        for name, value in self._fields.items():
            found[name] = [_joined(block) for block in value] if name in _BLOCKS else value
        return found


def of_call(piece: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of one tool call, or of a piece of one."""
    return _kept_of(piece, OF_A_CALL)


def _kept_of(said: Mapping[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    kept = {name: said[name] for name in names if said.get(name)}
    if not kept:
        return kept
    provider = kept.pop("provider_specific_fields", None)
    provider = provider if isinstance(provider, Mapping) else {}
    if isinstance(provider, Mapping) and (
        wanted := {name: provider[name] for name in _OF_A_PROVIDER if name in provider}
    ):
        kept["provider_specific_fields"] = wanted
    return kept


def _dumped(value: object) -> str:
    try:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    except RecursionError:  # nothing that an endpoint wants back is that deep
        return ""


def _grows(key: str, value: object) -> bool:
    return key in _GROW and isinstance(value, str)


def _joined(block: Mapping[str, Any]) -> dict[str, Any]:
    return {key: "".join(value) if key in _GROW and isinstance(value, list) else value for key, value in block.items()}
