"""What a request has to hold before anything is sent. Each raises InvalidArgument that names the field at fault."""

from __future__ import annotations

import math

from shared.errors import InvalidArgument, quoted
from shared.json_schema import MOST_STEPS, complaint, is_known, schema_problem

from . import stops
from .json_text import read
from .messages import Format, Options, Part, Request
from .patterns import checkable
from .refusals import stops_in

MOST_TOOLS = 1_024  # of a request
ROLES = ("system", "developer", "user", "assistant", "tool")


def is_quick(request: Request) -> bool:
    """Whether `check` takes no time: it has no schema, or knows each already."""
    schemas = [tool.schema for tool in request.tools[:8]]
    if request.options.format is Format.JSON_SCHEMA and request.options.schema is not None:
        schemas.append(request.options.schema)
    return len(request.tools) <= 8 and len(request.messages) <= 200 and all(map(is_known, schemas))


def check(request: Request) -> None:
    if len(request.tools) > MOST_TOOLS:
        raise InvalidArgument(f"the request has {len(request.tools)} tools; send at most {MOST_TOOLS}", field="tools")
    if not request.messages:
        raise InvalidArgument("there is nothing to answer: send prompt or messages", field="messages")
    for number, message in enumerate(request.messages):
        place = f"messages[{number}]"
        if message.role not in ROLES:
            raise InvalidArgument(
                f"{place}.role is {quoted(message.role)}; roles are {', '.join(ROLES)}", field=f"{place}.role"
            )
        if message.role == "tool" and not message.tool_call_id:
            raise InvalidArgument(
                f"{place} is a tool's result and lacks tool_call_id, the id of the call it answers",
                field=f"{place}.tool_call_id",
            )
        for index, part in enumerate(message.parts):
            if problem := _wrong_part(part):
                raise InvalidArgument(f"{place}.parts[{index}] {problem}", field=f"{place}.parts[{index}]")
    names: set[str] = set()
    for number, tool in enumerate(request.tools):
        if not tool.name:
            raise InvalidArgument(f"tools[{number}] has no name", field=f"tools[{number}].name")
        if tool.name in names:
            raise InvalidArgument(f"two tools are named {quoted(tool.name)}", field=f"tools[{number}].name")
        names.add(tool.name)
        if checkable(tool.schema) is None:
            problem = schema_problem(tool.schema)
            raise InvalidArgument(f"tools[{number}].parameters: {problem}", field=f"tools[{number}].parameters")
    _check_options(request.options, names)


def _wrong_part(part: Part) -> str:
    """Chat Completions has places for text, images, sound as bytes and PDF as bytes."""
    if part.text:
        return ""
    if not (part.url or part.data):
        return "is empty"
    kind = part.mime_type
    by_bytes = kind.startswith("audio/") or kind == "application/pdf"
    if not kind or kind.startswith("image/") or (by_bytes and not part.url):
        return ""
    if by_bytes:
        return f"is {quoted(kind)} by url, which Chat Completions cannot carry: send its bytes as data"
    return f"is {quoted(kind)}, which Chat Completions cannot carry: send text, an image, audio or a PDF"


def _check_options(options: Options, tools: set[str]) -> None:
    for name in ("temperature", "top_p", "presence_penalty", "frequency_penalty"):
        value = getattr(options, name)
        if value is not None and not math.isfinite(value):
            raise InvalidArgument(f"{name} must be a number, it is {value}", field=f"options.{name}")
    if options.max_tokens is not None and options.max_tokens < 1:
        raise InvalidArgument(f"max_tokens must be at least 1, it is {options.max_tokens}", field="options.max_tokens")
    if "" in options.stop:
        raise InvalidArgument("stop has an empty sequence", field="options.stop")
    for field, given in (("options.stop", options.stop), ("options.extra_json", stops_in(options.extra))):
        if len(given) > stops.MOST or max(map(len, given), default=0) > stops.LONGEST:
            raise InvalidArgument(
                f"stop may have {stops.MOST} sequences of {stops.LONGEST} characters at most", field=field
            )
    choice = options.tool_choice
    if choice and choice not in ("auto", "none", "required", *tools):
        raise InvalidArgument(
            f"tool_choice {quoted(choice)} is neither auto, none, required nor the name of a tool of the request",
            field="options.tool_choice",
        )
    if choice not in ("", "auto", "none") and not tools:
        raise InvalidArgument(f"tool_choice {quoted(choice)} needs tools", field="options.tool_choice")
    if options.format is Format.JSON_SCHEMA:
        if options.schema is None:
            raise InvalidArgument("response_format JSON_SCHEMA needs json_schema", field="options.json_schema")
        if problem := schema_problem(options.schema):
            raise InvalidArgument(f"json_schema: {problem}", field="options.json_schema")


def structured(text: str, options: Options, steps: int = MOST_STEPS) -> tuple[str, str]:
    """The JSON in a reply, out of the fence that models like to put around it, and what is wrong with it. Raises
    CannotCheck where finding that out may take more than `steps`."""
    bare = text.strip()
    if bare.startswith("```") and bare.endswith("```") and "\n" in bare:
        bare = bare[bare.index("\n") + 1 : -3].strip()
    try:
        value = read(bare)
    except ValueError as error:
        return text, f"it is not JSON: {error}"
    return bare, "" if options.format is Format.JSON else complaint(value, options.schema or {}, steps)
