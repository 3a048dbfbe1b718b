"""The engine. It knows no gRPC and no settings: try it in a Python prompt.

YOUR IDEA goes here: keep `write`, `call` and `count` and what they promise, and put your own model in the place of this
one, which says again what it was told last, word by word, and needs neither key nor network.
"""

from __future__ import annotations

import json
import re
from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Any, NamedTuple

_TOKEN = re.compile(r"\s*\S+|\s+$")


class Message(NamedTuple):
    role: str  # system, user, assistant or tool
    content: str


class Tool(NamedTuple):
    name: str
    parameters: Mapping[str, Any]  # a JSON Schema of type object


class Call(NamedTuple):
    tool: str  # the name of one that was offered
    arguments_json: str


class Engine:
    def __init__(self, model: str) -> None:
        self.model = model

    async def write(self, messages: Sequence[Message]) -> AsyncGenerator[str, None]:
        """The answer to a conversation, in pieces of one token, as they come. Nothing here may keep the event loop
        waiting: call your model's server with an asynchronous client, or have a thread do the work."""
        for token in _TOKEN.finditer(messages[-1].content):
            yield token[0]

    async def call(self, messages: Sequence[Message], tools: Sequence[Tool]) -> list[Call]:
        """The calls, of one tool or several, that take the conversation further. They are asked for, not made."""
        tool = tools[0]
        required = tool.parameters.get("required", [])
        arguments = {str(name): messages[-1].content for name in required} if isinstance(required, list) else {}
        return [Call(tool.name, json.dumps(arguments, ensure_ascii=False))]

    def count(self, messages: Sequence[Message]) -> int:
        """How many tokens the model reads."""
        return sum(len(message.content.split()) for message in messages)
