"""A request as the JSON body of Chat Completions, less what the endpoint is known to refuse."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping
from typing import Any

from plugins.llm_openai.engine.failures import Failure, Kind
from plugins.llm_openai.engine.messages import Format, Message, Options, Part, Request, Tool

# What is left out when an endpoint does not know it, by its name in the body: the name in the contract.
_OPTIONS = {
    "temperature": "temperature", "top_p": "top_p", "max_tokens": "max_tokens", "max_completion_tokens": "max_tokens",
    "stop": "stop", "seed": "seed", "presence_penalty": "presence_penalty", "frequency_penalty": "frequency_penalty",
    "response_format": "response_format", "reasoning_effort": "reasoning_effort", "tool_choice": "tool_choice",
    "parallel_tool_calls": "parallel_tool_calls", "stream_options": "",
}  # fmt: skip
_REFUSAL = re.compile(
    r"unsupported|not support|n't support|unrecognized|unknown|unexpected|not permitted|not allowed|"
    r"extra (inputs|fields)|only the default|not available|not implemented|no endpoints found",
    re.IGNORECASE,
)
# But not where the option is known and it is this value that is wrong: that is the caller's to hear.
_CALLERS = re.compile(r"supported values are|invalid schema|must be one of|valid values", re.IGNORECASE)
_MAGIC = {b"\x89PNG": "image/png", b"\xff\xd8\xff": "image/jpeg", b"GIF8": "image/gif", b"%PDF": "application/pdf"}


class Refusals:
    """What one endpoint does not take for one model, learnt from its answers."""

    def __init__(self) -> None:
        self._refused: set[str] = set()

    def without(self, body: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
        """`body` as the endpoint takes it, and the contract's names of the options that got lost."""
        dropped: list[str] = []
        if not self._refused:
            return body, dropped
        body = dict(body)
        if "max_tokens" in self._refused and "max_tokens" in body and "max_completion_tokens" not in self._refused:
            body["max_completion_tokens"] = body.pop("max_tokens")
        for name in sorted(self._refused & body.keys()):
            del body[name]
            if _OPTIONS[name]:
                dropped.append(_OPTIONS[name])
        form = body.get("response_format")
        if isinstance(form, Mapping) and f"response_format={form.get('type')}" in self._refused:
            # Asked for in words; the reply is checked here anyway.
            schema = form.get("json_schema", {}).get("schema")
            body["messages"] = _told(body["messages"], _in_words(schema))
            del body["response_format"]
            dropped.append("response_format")
            if schema is not None and "response_format=json_object" not in self._refused:
                body["response_format"] = {"type": "json_object"}
        choice = body.get("tool_choice")
        if choice not in (None, "auto", "none") and "tool_choice=required" in self._refused:
            body["tool_choice"] = "auto"
            dropped.append("tool_choice")
        return body, dropped

    def learn(self, failure: Failure, body: Mapping[str, Any]) -> bool:
        """Whether `failure`, the answer to `body`, says that something in it is not taken; the next `without` knows."""
        if failure.kind is not Kind.STATUS or failure.status in (401, 403, 429):
            return False
        words = f"{failure.code} {failure.message}".replace("_", " ")
        if not _REFUSAL.search(words) or _CALLERS.search(words):
            return False
        named = [name for name in _OPTIONS if failure.param.partition(".")[0].partition("[")[0] == name]
        if not failure.param:
            named = [name for name in _OPTIONS if re.search(rf"(?<![\w-]){name}(?![\w-])", failure.message)]
        # "max_tokens is not supported, use max_completion_tokens": what was not sent was not refused.
        new = {refused for name in named if name in body and (refused := _refused(name, body)) not in self._refused}
        self._refused |= new
        return bool(new)


def _refused(name: str, body: Mapping[str, Any]) -> str:
    """For what has steps to fall back to, the step that was refused."""
    if name == "response_format" and isinstance(body[name], Mapping):
        return f"response_format={body[name].get('type')}"
    if name == "tool_choice" and body[name] not in ("auto", "none"):
        return "tool_choice=required"
    return name


def build(request: Request, model: str, extra: Mapping[str, Any], *, stream: bool) -> dict[str, Any]:
    """The whole body. `extra` is the settings', the request's own `extra` wins over it and over everything."""
    options = request.options
    body: dict[str, Any] = {
        "model": model,
        "messages": [_message(message) for message in request.messages],
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


def _message(message: Message) -> dict[str, Any]:
    body: dict[str, Any] = {"role": message.role, "content": message.content}
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


def _is_strict(schema: Any) -> bool:
    """Whether it keeps to the subset that `strict` asks for: each object closed, with all of its fields required."""
    if isinstance(schema, list):
        return all(map(_is_strict, schema))
    if not isinstance(schema, Mapping):
        return True
    if schema.get("type") == "object" or "properties" in schema:
        properties = schema.get("properties", {})
        if schema.get("additionalProperties") is not False or set(schema.get("required", ())) != set(properties):
            return False
    return all(map(_is_strict, schema.values()))


def _told(messages: list[dict[str, Any]], text: str) -> list[dict[str, Any]]:
    """`text` added to the last message of the user: many models take a system message at the start only."""
    place = next((n for n in range(len(messages) - 1, -1, -1) if messages[n]["role"] == "user"), None)
    if place is None:
        return [*messages, {"role": "user", "content": text}]
    said = messages[place]["content"]
    content = [*said, {"type": "text", "text": text}] if isinstance(said, list) else f"{said}\n\n{text}"
    return [*messages[:place], messages[place] | {"content": content}, *messages[place + 1 :]]


def _in_words(schema: object) -> str:
    wanted = "" if schema is None else f" that holds to this JSON Schema: {json.dumps(schema, ensure_ascii=False)}"
    return f"Answer with one JSON value{wanted}. Write nothing before or after it."
