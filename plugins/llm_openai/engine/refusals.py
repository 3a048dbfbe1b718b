"""What an endpoint does not take, learnt from its answers, and what is asked for instead.

One table: each option, how a refusal of it reads beside what all have in common, and its ways down. The last is always
to leave it out. `response_format` goes from a schema to any JSON to words in the prompt, `tool_choice` from a tool's
name to `required` to `auto`, `max_tokens` to `max_completion_tokens`, `strict` (of a schema; we chose it) to none, the
role `developer` to `system`. A JSON mode that wants the word in the prompt gets it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from .failures import Failure, Kind
from .opaque import OF_A_CALL, OF_A_MESSAGE


class _Option(NamedTuple):
    contract: str  # its name in `dropped_params`; empty: the caller did not ask for it
    least: float = 0
    most: float = 0  # of values that any model takes which knows the option; one that refuses others may know it
    refused: str = ""  # more words for a refusal; with these no list of right values makes it the caller's mistake
    called: str = ""  # what it may be called where no option is named as it is sent


_ANY_WORDS = r"must|invalid|expected|not one of|requires|only|should be|cannot be"
_OPTIONS = {
    "temperature": _Option("temperature", 0, 2),
    "top_p": _Option("top_p", 0, 1),
    "max_tokens": _Option("max_tokens", 1, 10**6),
    "max_completion_tokens": _Option("max_tokens", 1, 10**6),
    "stop": _Option("stop"),
    "seed": _Option("seed", 0, 2**31 - 1),
    "presence_penalty": _Option("presence_penalty", -2, 2, called=r"presence ?penalty|^penalty"),
    "frequency_penalty": _Option("frequency_penalty", -2, 2, called=r"frequency ?penalty|^penalty"),
    "response_format": _Option(
        "response_format", refused=_ANY_WORDS, called=r"json mode|response (mime )?type|structured output|output format"
    ),
    "reasoning_effort": _Option("reasoning_effort", called="reasoning ?effort|think value"),
    "tool_choice": _Option("tool_choice", refused=_ANY_WORDS, called="tool ?choice"),
    "parallel_tool_calls": _Option("parallel_tool_calls", called="parallel (tool|function) call"),
    "stream_options": _Option(""),
}
_REFUSAL = re.compile(
    r"unsupported|not support|n't support|unrecognized|unknown|unexpected|not permitted|not allowed|"
    r"extra (inputs|fields)|only the default|only [^ ]{1,20} (is|are) (allowed|supported|accepted|permitted)|"
    r"not available|unavailable|not implemented|no endpoints found|deprecated|not accept|incompatible|"
    r"cannot (both )?be (specified|set|used)|not enabled|"
    r"(must|may|can|should) (only )?be (set to )?1(\.0+)?\b(?! (or|and|to))",
    re.IGNORECASE,
)
# But not where the option is known and it is this value that is wrong: that is the caller's to hear.
_CALLERS = re.compile(r"supported values are|invalid schema|must be one of|valid values", re.IGNORECASE)
_ROLE = re.compile(r"\brole\b|`?developer`?", re.IGNORECASE)
_WRONG_ROLE = re.compile(
    r"unknown|unexpected|invalid|incorrect|not one of|must be|should be|unsupported|n.?t support|not found|only",
    re.IGNORECASE,
)
# What follows are the names of what is known, none of it refused.
_LIST_OF_KNOWN = re.compile(
    r"expected one of|(supported|allowed|valid|known|accepted) (parameters|fields|arguments|options|keys)",
    re.IGNORECASE,
)
_WORD_JSON = re.compile(r"contain the word .{0,3}json", re.IGNORECASE)
_NOT_BACK = re.compile(rf"{_REFUSAL.pattern}|must not|should not|remove|do not include", re.IGNORECASE)
_TAUGHT_BY = (400, 404, 405, 409, 413, 415, 422, 501)  # what a 500 mentions may have nothing to do with it
_EFFORTS = ("low", "medium", "high")
_SCHEMA, _OBJECT, _STRICT = "response_format=json_schema", "response_format=json_object", "response_format=strict"
_BY_NAME, _REQUIRED = "tool_choice=name", "tool_choice=required"
_DEVELOPER, _JSON, _OPAQUE = "role=developer", "word json", "opaque"


class Refusals:
    """What one endpoint does not take for one model.

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
        form = body.get("response_format")
        if isinstance(form, Mapping):
            dropped += _format_down(body, form, refused)
        if "tool_choice" in body:
            dropped += _choice_down(body, refused)
        for name in sorted(refused & body.keys() & _OPTIONS.keys()):
            del body[name]
            if _OPTIONS[name].contract:
                dropped.append(_OPTIONS[name].contract)
        if _DEVELOPER in refused and _has_developer(body):
            body["messages"] = [
                message | {"role": "system"} if message.get("role") == "developer" else message
                for message in body["messages"]
            ]
        if _OPAQUE in refused and _opaque_in(body):
            body["messages"] = [_without_opaque(message) for message in body["messages"]]
        return body, list(dict.fromkeys(dropped))

    def learn(self, failure: Failure, body: Mapping[str, Any], shared: Refusals | None) -> bool:
        """Whether `failure`, the answer to `body`, says that something in it is not taken; the next `without` knows.
        So will those of `shared`, everybody's, unless it is this one value that was refused."""
        if failure.kind is not Kind.STATUS or failure.status not in _TAUGHT_BY:
            return False
        own, everybodys = _refused_in(failure, body)
        new = own - self.known
        self.known |= new
        if shared is not None:
            shared.known |= everybodys
        return bool(new)


def _refused_in(failure: Failure, body: Mapping[str, Any]) -> tuple[set[str], set[str]]:
    """What the failure says is not taken, and what of it holds for everybody."""
    words = f"{failure.code} {failure.message}".replace("_", " ")
    if _WORD_JSON.search(words):
        return {_JSON}, {_JSON}
    if _has_developer(body) and _ROLE.search(failure.message) and _WRONG_ROLE.search(words):
        return {_DEVELOPER}, {_DEVELOPER}
    if any(name in failure.message for name in _opaque_in(body)) and _NOT_BACK.search(words):
        return {_OPAQUE}, {_OPAQUE}
    param = re.split(r"[.\[]", failure.param, maxsplit=1)[0]
    named = [name for name in _OPTIONS if name == param]
    if not failure.param or (not named and failure.param == "body"):
        told = _LIST_OF_KNOWN.split(failure.message, maxsplit=1)[0]
        # Some names are words as well: "please stop".
        pattern = r"(?<![\w-])(?<!(?i:please) )(?<!to ){}(?![\w-])"
        named = [name for name in _OPTIONS if re.search(pattern.format(name), told)]
        if not any(name in body for name in named):
            spaced = told.replace("_", " ").lower()
            named += [name for name, option in _OPTIONS.items() if option.called and re.search(option.called, spaced)]
    # "max_tokens is not supported, use max_completion_tokens": what was not sent was not refused.
    named = [name for name in named if name in body]
    if len(named) > 1 and re.search(r"\bboth\b|only one of", words):
        named = named[1:]  # two that exclude each other
    if "response_format" in named and _is_of_the_schema(failure):
        named.remove("response_format")
        if _is_strict(body["response_format"]):
            return {_STRICT}, set()  # of this schema: another may well be taken
    if not _REFUSAL.search(words) or _CALLERS.search(words):
        named = [name for name in named if _OPTIONS[name].refused and re.search(_OPTIONS[name].refused, words, re.I)]
    own = {_step(name, body) for name in named}
    return own, {_step(name, body) for name in named if _is_ordinary(name, body[name])}


def _step(name: str, body: Mapping[str, Any]) -> str:
    """For what has steps to fall back to, the step that was refused."""
    value = body[name]
    if name == "response_format" and isinstance(value, Mapping) and value.get("type") in ("json_object", "json_schema"):
        return f"response_format={value['type']}"
    if name == "tool_choice" and value not in ("auto", "none"):
        return _BY_NAME if isinstance(value, Mapping) else _REQUIRED
    return name


def _format_down(body: dict[str, Any], form: Mapping[str, Any], refused: set[str]) -> list[str]:
    """`response_format` as the endpoint takes it; the reply is checked here anyway."""
    kind, inner = form.get("type"), form.get("json_schema")
    if kind == "json_schema" and _STRICT in refused and isinstance(inner, Mapping):
        form = dict(form) | {"json_schema": dict(inner) | {"strict": False}}
        body["response_format"] = form
    lost = (kind == "json_schema" and _SCHEMA in refused) or (kind == "json_object" and _OBJECT in refused)
    if lost or "response_format" in refused:
        schema = inner.get("schema") if isinstance(inner, Mapping) else None
        body["messages"] = told(body["messages"], in_words(schema))
        del body["response_format"]
        if kind == "json_schema" and _OBJECT not in refused and "response_format" not in refused:
            body["response_format"] = {"type": "json_object"}
        return ["response_format"]
    if kind == "json_object" and _JSON in refused:
        body["messages"] = told(body["messages"], in_words(None))
    return []


def _choice_down(body: dict[str, Any], refused: set[str]) -> list[str]:
    choice, wanted = body["tool_choice"], body["tool_choice"]
    if isinstance(choice, Mapping) and _BY_NAME in refused:
        choice = "required"
        listed = body.get("tools")
        same = [tool for tool in listed if _name_of(tool) == _name_of(wanted)] if isinstance(listed, list) else []
        if same:
            body["tools"] = same  # no other is offered, which comes to the same
    if choice not in (None, "auto", "none") and not isinstance(choice, Mapping) and _REQUIRED in refused:
        choice = "auto"
    body["tool_choice"] = choice
    return ["tool_choice"] if choice != wanted else []


def _opaque_in(body: Mapping[str, Any]) -> set[str]:
    """The names of what goes back of earlier turns."""
    messages = body.get("messages")
    listed = [message for message in messages if isinstance(message, Mapping)] if isinstance(messages, list) else []
    found = {name for message in listed for name in OF_A_MESSAGE if name in message}
    calls = [
        call for message in listed if isinstance(message.get("tool_calls"), list) for call in message["tool_calls"]
    ]
    return found | {name for call in calls if isinstance(call, Mapping) for name in OF_A_CALL if name in call}


def _without_opaque(message: Any) -> Any:
    if not isinstance(message, Mapping):
        return message
    bare = {name: value for name, value in message.items() if name not in OF_A_MESSAGE}
    if isinstance(calls := bare.get("tool_calls"), list):
        bare["tool_calls"] = [
            {name: call[name] for name in call if name not in OF_A_CALL} if isinstance(call, Mapping) else call
            for call in calls
        ]
    return bare


def _name_of(tool: object) -> object:
    function = tool.get("function") if isinstance(tool, Mapping) else None
    return function.get("name") if isinstance(function, Mapping) else None


def _has_developer(body: Mapping[str, Any]) -> bool:
    messages = body.get("messages")
    if not isinstance(messages, list) or not all(isinstance(message, Mapping) for message in messages):
        return False
    return any(message.get("role") == "developer" for message in messages)


def _is_strict(form: object) -> bool:
    inner = form.get("json_schema") if isinstance(form, Mapping) else None
    return isinstance(inner, Mapping) and inner.get("strict") is True


def _is_ordinary(name: str, value: object) -> bool:
    option = _OPTIONS[name]
    if option.most:
        return isinstance(value, int | float) and option.least <= value <= option.most
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


def told(messages: Any, text: str) -> Any:
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


def in_words(schema: object) -> str:
    wanted = "" if schema is None else f" that holds to this JSON Schema: {json.dumps(schema, ensure_ascii=False)}"
    return f"Answer with one JSON value{wanted}. Write nothing before or after it."
