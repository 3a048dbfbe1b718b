"""What stands in a choice and is not read: a reply of nothing else is no empty reply."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# Fields that say nothing by themselves.
_OF_A_CHOICE = {"index", "finish_reason", "native_finish_reason", "stop_reason", "delta", "message", "text", "logprobs",
                "token_ids", "content_filter_results", "usage", "seed"}  # fmt: skip
_OF_A_MESSAGE = {"role", "name", "id", "type", "annotations", "citations", "metadata", "token_ids", "tool_call_id",
                 "provider_specific_fields", "status", "finish_reason"}  # fmt: skip


def leftover(choice: Mapping[str, Any]) -> str:
    """The name of a field that has something in it, of a choice of which nothing was read; mostly empty.

    >>> leftover({"index": 0, "delta": {"role": "assistant", "content": ""}}), leftover({"delta": {"video": "…"}})
    ('', 'video')
    """
    said = choice.get("delta") or choice.get("message") or {}
    if not isinstance(said, Mapping):
        return "message"
    for fields, silent in ((said, _OF_A_MESSAGE), (choice, _OF_A_CHOICE)):
        for name, value in fields.items():
            if name not in silent and isinstance(value, str | list | Mapping) and value:
                return str(name)[:100]
    return ""
