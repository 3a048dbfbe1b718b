"""A request as the JSON body of Chat Completions. What the endpoint refuses of it is `refusals.py`'s."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import Any

from shared.json_schema import subschemas

from .messages import Format, Message, Options, Part, Request, Tool
from .opaque import OF_A_CALL, OF_A_MESSAGE, unpack

_MAGIC = {b"\x89PNG": "image/png", b"\xff\xd8\xff": "image/jpeg", b"GIF8": "image/gif", b"%PDF": "application/pdf"}


def encoded(body: Mapping[str, Any]) -> bytes:
    """`body` as it goes over the wire."""
    return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()


def weight(request: Request) -> int:
    """About how many characters its body will have, of what can be large: texts and files."""
    return sum(
        100
        + len(message.content)
        + sum(len(part.text) + len(part.data) for part in message.parts)
        + len(message.opaque)
        + sum(len(call.arguments) + len(call.opaque) for call in message.tool_calls)
        for message in request.messages
    )


def build(request: Request, model: str, extra: Mapping[str, Any], *, stream: bool, tag: str = "") -> dict[str, Any]:
    """The whole body. `extra` is the settings', the request's own `extra` wins over it and over everything. What came
    from the endpoint of this `tag` goes back to it; an empty one gets nothing back."""
    options = request.options
    body: dict[str, Any] = {
        "model": model,
        "messages": [_message(message, tag) for message in request.messages],
        **_sampling(options),
    }
    if request.tools:
        body["tools"] = [_tool(tool) for tool in request.tools]
        if options.tool_choice:
            body["tool_choice"] = _choice(options.tool_choice)
        if options.parallel_tool_calls is not None:
            body["parallel_tool_calls"] = options.parallel_tool_calls
    if options.format is Format.JSON:
        body["response_format"] = {"type": "json_object"}
    elif options.format is Format.JSON_SCHEMA:
        schema = dict(options.schema or {})
        form = {"name": "reply", "schema": schema, "strict": _is_strict(schema)}
        body["response_format"] = {"type": "json_schema", "json_schema": form}
    if stream:
        body["stream"] = True
        body["stream_options"] = {"include_usage": True}
    return body | dict(extra) | dict(options.extra)


def _sampling(options: Options) -> dict[str, Any]:
    given = {
        "temperature": options.temperature,
        "top_p": options.top_p,
        "max_tokens": options.max_tokens,
        "stop": list(options.stop) or None,
        "seed": options.seed,
        "presence_penalty": options.presence_penalty,
        "frequency_penalty": options.frequency_penalty,
        "reasoning_effort": options.reasoning_effort or None,
    }
    return {name: value for name, value in given.items() if value is not None}


def _message(message: Message, tag: str) -> dict[str, Any]:
    body: dict[str, Any] = {"role": message.role, "content": message.content}
    body |= unpack(message.opaque, tag, OF_A_MESSAGE)
    if message.parts:
        first = [Part(text=message.content)] if message.content else []
        body["content"] = [_part(part) for part in [*first, *message.parts]]
    if message.name:
        body["name"] = message.name
    if message.tool_call_id:
        body["tool_call_id"] = message.tool_call_id
    if message.tool_calls:
        body["tool_calls"] = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
            | unpack(call.opaque, tag, OF_A_CALL)
            for call in message.tool_calls
        ]
        body["content"] = body["content"] or None
    return body


def _part(part: Part) -> dict[str, Any]:
    if part.text:
        return {"type": "text", "text": part.text}
    kind = part.mime_type or _kind(part.data)
    encoded = base64.b64encode(part.data).decode()
    if kind.startswith("audio/"):
        form = {"mpeg": "mp3", "x-wav": "wav", "wave": "wav"}.get(kind[6:], kind[6:])
        return {"type": "input_audio", "input_audio": {"data": encoded, "format": form}}
    if kind == "application/pdf" and not part.url:
        return {"type": "file", "file": {"filename": "file.pdf", "file_data": f"data:{kind};base64,{encoded}"}}
    return {"type": "image_url", "image_url": {"url": part.url or f"data:{kind or 'image/png'};base64,{encoded}"}}


def _kind(data: bytes) -> str:
    """The MIME type of bytes that came without one."""
    if data[:4] == b"RIFF" and data[8:12] in (b"WEBP", b"WAVE"):
        return "image/webp" if data[8:12] == b"WEBP" else "audio/wav"
    return next((kind for magic, kind in _MAGIC.items() if data.startswith(magic)), "")


def _tool(tool: Tool) -> dict[str, Any]:
    function = {"name": tool.name, "description": tool.description, "parameters": dict(tool.schema)}
    return {"type": "function", "function": function}


def _choice(choice: str) -> Any:
    return choice if choice in ("auto", "none", "required") else {"type": "function", "function": {"name": choice}}


# What `strict` has no place for.
_LOOSE = (
    "oneOf", "allOf", "not", "if", "then", "else", "dependentRequired", "dependentSchemas", "patternProperties",
    "propertyNames", "unevaluatedProperties", "minProperties", "maxProperties", "contains", "prefixItems",
)  # fmt: skip


def _is_strict(schema: Mapping[str, Any]) -> bool:
    """Whether it keeps to the subset that `strict` asks for: each object closed, with all of its fields required."""
    if schema.get("type") != "object":
        return False
    waiting: list[Any] = [schema]
    while waiting:
        node = waiting.pop()
        if not isinstance(node, Mapping):
            continue
        if any(name in node for name in _LOOSE) or ("$ref" in node and len(node) > 1):
            return False
        if node.get("type") == "object" or "properties" in node:
            properties, required = node.get("properties", {}), node.get("required", [])
            if node.get("additionalProperties") is not False or not properties or set(required) != set(properties):
                return False
        waiting += subschemas(node)
    return True
