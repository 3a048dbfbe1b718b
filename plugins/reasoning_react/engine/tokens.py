"""How many tokens a text takes, about and rather too many: there is no tokenizer of the model's here, and an estimate
that is too high costs a step that could have been shown, one that is too low costs the turn.

A token for every three bytes of letters, blanks and whatever is not ASCII, and one for each other character: many
tokenizers split numbers into digits, and code and JSON into their signs.
"""

from __future__ import annotations

import json
from collections.abc import Iterable

from .chat import Message, Tool

_LETTERS = bytes([*range(ord("a"), ord("z") + 1), *range(ord("A"), ord("Z") + 1), ord(" "), *range(0x80, 0x100)])
_OF_A_MESSAGE = 8
_OF_A_CALL = 16
_OF_A_TOOL = 16


def of_text(text: str) -> int:
    data = text.encode("utf-8", "surrogatepass")
    others = len(data.translate(None, _LETTERS))
    return others + (len(data) - others + 2) // 3


def of_messages(messages: Iterable[Message]) -> int:
    total = 0
    for message in messages:
        total += _OF_A_MESSAGE + of_text(message.content) + of_text(message.reasoning) + len(message.opaque) // 3
        for call in message.tool_calls:
            total += _OF_A_CALL + of_text(call.name) + of_text(call.arguments) + len(call.opaque) // 3
    return total


def of_tools(tools: Iterable[Tool]) -> int:
    return sum(
        _OF_A_TOOL + of_text(tool.name) + of_text(tool.description) + of_text(json.dumps(dict(tool.parameters)))
        for tool in tools
    )
