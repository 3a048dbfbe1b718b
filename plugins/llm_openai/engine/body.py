"""A request as the JSON body of Chat Completions, less what the endpoint is known to refuse."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from plugins.llm_openai.engine.failures import Failure, Kind
from plugins.llm_openai.engine.messages import Format, Message, Options, Part, Request, Tool
from shared.json_schema import subschemas

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
# Values that any model takes which knows the option. One that refuses others may well know it.
_ORDINARY = {
    "temperature": (0, 2), "top_p": (0, 1), "max_tokens": (1, 10**6), "max_completion_tokens": (1, 10**6),
    "seed": (0, 2**31 - 1), "presence_penalty": (-2, 2), "frequency_penalty": (-2, 2),
}  # fmt: skip
_EFFORTS = ("low", "medium", "high")
_MAGIC = {b"\x89PNG": "image/png", b"\xff\xd8\xff": "image/jpeg", b"GIF8": "image/gif", b"%PDF": "application/pdf"}


class Refusals:
    """What one endpoint does not take for one model, learnt from its answers.

    `known` is for everybody. What is refused of a value that only one caller sends, in `extra_json` or out of the
    ordinary, is left out for that call alone: `Refusals(known.copy())`.
    """

    def __init__(self, known: set[str] | None = None) -> None:
        self.known: set[str] = set() if known is None else known

    def without(self, body: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
        """`body` as the endpoint takes it, and the contract's names of the options that got lost."""
        refused, dropped = self.known, list[str]()
        if not refused:
            return body, dropped
        body = dict(body)
        if "max_tokens" in refused and "max_tokens" in body and "max_completion_tokens" not in refused:
            body["max_completion_tokens"] = body.pop("max_tokens")
        for name in sorted(refused & body.keys()):
            del body[name]
            if _OPTIONS[name]:
                dropped.append(_OPTIONS[name])
        form = body.get("response_format")
        if isinstance(form, Mapping) and _refused("response_format", body) in refused:
            # Asked for in words; the reply is checked here anyway.
            inner = form.get("json_schema")
            schema = inner.get("schema") if isinstance(inner, Mapping) else None
            body["messages"] = _told(body["messages"], _in_words(schema))
            del body["response_format"]
            dropped.append("response_format")
            if schema is not None and "response_format=json_object" not in refused:
                body["response_format"] = {"type": "json_object"}
        choice = body.get("tool_choice")
        if choice not in (None, "auto", "none") and "tool_choice=required" in refused:
            body["tool_choice"] = "auto"
            dropped.append("tool_choice")
        return body, dropped

    def learn(self, failure: Failure, body: Mapping[str, Any], shared: Refusals | None) -> bool:
        """Whether `failure`, the answer to `body`, says that something in it is not taken; the next `without` knows.
        So will those of `shared`, everybody's, unless it is this one value that was refused."""
        if failure.kind is not Kind.STATUS or failure.status in (401, 403, 429):
            return False
        words = f"{failure.code} {failure.message}".replace("_", " ")
        if not _REFUSAL.search(words) or _CALLERS.search(words):
            return False
        named = [name for name in _OPTIONS if failure.param.partition(".")[0].partition("[")[0] == name]
        if not failure.param:
            named = [name for name in _OPTIONS if re.search(rf"(?<![\w-]){name}(?![\w-])", failure.message)]
        if _is_of_the_schema(failure):
            named = [name for name in named if name != "response_format"]
        # "max_tokens is not supported, use max_completion_tokens": what was not sent was not refused.
        new = {refused for name in named if name in body and (refused := _refused(name, body)) not in self.known}
        self.known |= new
        if shared is not None:
            shared.known |= {_refused(name, body) for name in named if name in body and _is_ordinary(name, body[name])}
        return bool(new)


def _refused(name: str, body: Mapping[str, Any]) -> str:
    """For what has steps to fall back to, the step that was refused."""
    value = body[name]
    if name == "response_format" and isinstance(value, Mapping) and value.get("type") in ("json_object", "json_schema"):
        return f"response_format={value['type']}"
    if name == "tool_choice" and value not in ("auto", "none"):
        return "tool_choice=required"
    return name


def _is_ordinary(name: str, value: object) -> bool:
    if name in _ORDINARY:
        least, most = _ORDINARY[name]
        return isinstance(value, int | float) and least <= value <= most
    if name == "stop":
        return len(stops_in({"stop": value})) <= 4
    return name != "reasoning_effort" or value in _EFFORTS


def _is_of_the_schema(failure: Failure) -> bool:
    """Whether it is not `json_schema` that is refused but something in the schema that was sent."""
    words = re.sub(r"response[_ ]format|json[_ ]?schema", "", failure.message, flags=re.IGNORECASE)
    return "schema" in words.lower() or failure.param.startswith("response_format.json_schema")


def stops_in(body: Mapping[str, Any]) -> Sequence[str]:
    """The stop sequences of a body, whose `stop` may have come in `extra_json` and be anything."""
    stop = body.get("stop")
    stops = [stop] if isinstance(stop, str) else stop if isinstance(stop, list) else []
    return [one for one in stops if isinstance(one, str)]


def encoded(body: Mapping[str, Any]) -> bytes:
    """`body` as it goes over the wire."""
    return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()


def weight(request: Request) -> int:
    """About how many characters its body will have, of what can be large: texts and files."""
    return sum(
        100
        + len(message.content)
        + sum(len(part.text) + len(part.data) for part in message.parts)
        + sum(len(call.arguments) for call in message.tool_calls)
        for message in request.messages
    )


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
    waiting = [schema]
    while waiting:
        node = waiting.pop()
        if not isinstance(node, Mapping):
            continue
        if node.get("type") == "object" or "properties" in node:
            properties, required = node.get("properties", {}), node.get("required", [])
            if node.get("additionalProperties") is not False or set(required) != set(properties):
                return False
        waiting += subschemas(node)
    return True


def _told(messages: Any, text: str) -> Any:
    """`text` added to the last message of the user: many models take a system message at the start only. Messages that
    came in `extra_json` may be anything, and then stay as they are."""
    if not isinstance(messages, list) or not all(isinstance(message, Mapping) for message in messages):
        return messages
    place = next((n for n in range(len(messages) - 1, -1, -1) if messages[n].get("role") == "user"), None)
    if place is None:
        return [*messages, {"role": "user", "content": text}]
    said = messages[place].get("content")
    content = [*said, {"type": "text", "text": text}] if isinstance(said, list) else f"{said}\n\n{text}"
    return [*messages[:place], {**messages[place], "content": content}, *messages[place + 1 :]]


def _in_words(schema: object) -> str:
    wanted = "" if schema is None else f" that holds to this JSON Schema: {json.dumps(schema, ensure_ascii=False)}"
    return f"Answer with one JSON value{wanted}. Write nothing before or after it."
