"""Many operations behind two tools: one finds operations and says what they take, the other calls one."""

from __future__ import annotations

import bisect
import contextlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from shared.errors import CallerError, NotFound, quoted
from shared.json_schema import CannotCheck, complaint
from shared.nearest import did_you_mean
from shared.off_loop import in_thread

from .. import arguments as call_arguments
from ..failures import located
from ..tool import JSON, Call, Output, Tool

_WORD = re.compile(r"[a-z0-9]+")
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_MOST_WORDS = 200  # of an operation
_MOST_ASKED = 20
_MOST_FORMS = 20  # words that begin like one that is asked for
_MOST_HITS = 10
_MOST_SHOWN = 12_000  # characters of one answer's parameters
_MOST_TRIED = 30  # operations, for one with an example
_LONGEST_EXAMPLE = 200  # characters of its arguments


@dataclass(frozen=True)
class Entry:
    tool: Tool
    method: str
    path: str
    summary: str
    tags: Sequence[str] = ()


@dataclass
class Catalogue:
    """`title` is the API's name for people."""

    entries: Sequence[Entry]
    title: str
    _by_name: dict[str, Entry] = field(default_factory=dict)
    _index: dict[str, dict[int, int]] = field(default_factory=dict)  # word → entry → weight
    _vocabulary: list[str] = field(default_factory=list)  # of the index, sorted

    def __post_init__(self) -> None:
        for place, entry in enumerate(self.entries):
            self._by_name[entry.tool.name] = entry
            tags = " ".join(entry.tags)
            texts = ((entry.tool.name, 4), (entry.path, 3), (tags, 3), (entry.summary, 2), (entry.tool.description, 1))
            for text, weight in texts:
                for word in list(dict.fromkeys(_words(text)))[:_MOST_WORDS]:
                    weights = self._index.setdefault(word, {})
                    weights[place] = max(weights.get(place, 0), weight)
            self._index.setdefault(entry.method.lower(), {}).setdefault(place, 2)
        self._vocabulary = sorted(self._index)

    def hits(self, query: str, most: int) -> list[Entry]:
        """The operations that have most of the words, the best first."""
        scores: dict[int, float] = {}
        for word in list(dict.fromkeys(_words(query)))[:_MOST_ASKED]:
            for known, factor in self._known(word):
                weights = self._index[known]
                for place, weight in weights.items():
                    # A word that few operations have says more.
                    scores[place] = scores.get(place, 0.0) + factor * weight / (1 + len(weights)) ** 0.5
        best = sorted(scores, key=lambda place: (-scores[place], place))[:most]
        return [self.entries[place] for place in best]

    def _known(self, word: str) -> list[tuple[str, float]]:
        if word in self._index:
            return [(word, 1.0)]
        stem = word[:-1] if word.endswith("s") and len(word) > 3 else word
        if len(stem) < 3:
            return []
        first = bisect.bisect_left(self._vocabulary, stem)
        near = self._vocabulary[first : first + _MOST_FORMS]
        return [(known, 0.5) for known in near if known.startswith(stem)]

    def tools(self, prefix: str) -> list[Tool]:
        """The two of them: PREFIX_search_operations and PREFIX_call_operation."""
        search, run = f"{prefix}_search_operations", f"{prefix}_call_operation"
        example = json.dumps(_example(self.entries), ensure_ascii=False)
        return [
            Tool(
                name=search,
                description=f"Find operations of {self.title}, which has {len(self.entries)}. Use it first: it says "
                f"the names of operations and the arguments each takes. Then call one with {run}. "
                f'Example: {{"query": "{_asked(self.entries[0])}"}}',
                parameters={
                    "type": "object",
                    "properties": {
                        "query": {
                            "type": "string",
                            "description": "Words for what you want to do, such as `list open invoices`.",
                            "minLength": 1,
                            "maxLength": 500,
                        },
                        "limit": {
                            "type": "integer",
                            "description": "Most operations to return.",
                            "minimum": 1,
                            "maximum": _MOST_HITS,
                            "default": 5,
                        },
                    },
                    "required": ["query"],
                    "additionalProperties": False,
                },
                run=self._search,
                read_only=True,
                idempotent=True,
            ),
            Tool(
                name=run,
                description=f"Call one operation of {self.title}. Use {search} first to learn the operation's name and "
                f"arguments. Example: {example}",
                parameters={
                    "type": "object",
                    "properties": {
                        "operation": {
                            "type": "string",
                            "description": f"The operation's name, from {search}.",
                            "minLength": 1,
                            "maxLength": 200,
                        },
                        "arguments": {
                            "type": "object",
                            "description": f"The operation's arguments, as its `parameters` in {search} say.",
                            "default": {},
                        },
                    },
                    "required": ["operation"],
                    "additionalProperties": False,
                },
                run=self._call,
                read_only=all(entry.tool.read_only for entry in self.entries),
                idempotent=all(entry.tool.idempotent for entry in self.entries),
                destructive=any(entry.tool.destructive for entry in self.entries),
                is_idempotent=self._is_idempotent,
            ),
        ]

    def _is_idempotent(self, arguments: dict[str, JSON]) -> bool:
        entry = self._by_name.get(str(arguments.get("operation")))
        return entry is None or entry.tool.idempotent

    async def _search(self, arguments: dict[str, JSON], call: Call) -> Output:
        hits = await in_thread(self.hits, str(arguments["query"]), int(arguments.get("limit", 5)))
        room = _MOST_SHOWN
        operations: list[dict[str, JSON]] = []
        for entry in hits:
            about: dict[str, JSON] = {"operation": entry.tool.name, "method": entry.method, "path": entry.path}
            if entry.summary:
                about["summary"] = entry.summary
            size = len(json.dumps(entry.tool.parameters))
            if size <= room or not operations:
                about["parameters"] = dict(entry.tool.parameters)
                room -= size
            else:
                about["parameters_left_out"] = "too long to be shown beside the others; search with its name, limit 1"
            operations.append(about)
        structured: JSON = {"operations": operations, "of": len(self.entries)}
        if not operations:
            structured["hint"] = "no operation has these words; try others, such as the name of a thing or `list`"
        text = json.dumps(structured, ensure_ascii=False, indent=1)
        return Output(text=text, structured=structured, content_type="application/json")

    async def _call(self, arguments: dict[str, JSON], call: Call) -> Output:
        name = str(arguments["operation"])
        entry = self._by_name.get(name)
        if entry is None:
            raise NotFound(
                f"there is no operation {quoted(name)}; search for its name first{did_you_mean(name, self._by_name)}",
                reason="UNKNOWN_OPERATION",
                field="operation",
            )
        given: dict[str, JSON] = arguments.get("arguments", {})
        # It can be large, and its schema new to the checker: neither is work for the event loop.
        await in_thread(call_arguments.check, entry.tool, entry.tool.parameters, given, field="parameters.arguments")
        assert entry.tool.run is not None
        try:
            return await entry.tool.run(given, call)
        except CallerError as error:
            raise located(error, entry.tool.parameters, "arguments") from None


def _words(text: str) -> list[str]:
    return _WORD.findall(_CAMEL.sub(" ", text[:4_000]).lower())


def _example(entries: Sequence[Entry]) -> dict[str, JSON]:
    """Arguments of PREFIX_call_operation that would be taken; one that reads is rather shown than one that changes."""
    for entry in sorted(entries[:_MOST_TRIED], key=lambda entry: not entry.tool.read_only):
        properties = entry.tool.parameters.get("properties", {})
        given = {name: _value(name, properties.get(name, {})) for name in entry.tool.parameters.get("required", ())}
        shown: dict[str, JSON] = {"operation": entry.tool.name, "arguments": given}
        with contextlib.suppress(CannotCheck):
            if len(json.dumps(given)) <= _LONGEST_EXAMPLE and not complaint(given, entry.tool.parameters):
                return shown
    return {"operation": entries[0].tool.name}


def _value(name: str, schema: Mapping[str, Any]) -> JSON:
    """One for an argument, of the document or in the place of one."""
    for values in (schema.get("examples"), schema.get("enum")):
        if values:
            return values[0]
    if "default" in schema:
        return schema["default"]
    kind = schema.get("type")
    if kind in ("integer", "number"):
        return schema.get("minimum", 1)
    return {"boolean": True, "array": [], "object": {}}.get(str(kind), name.upper())


def _asked(entry: Entry) -> str:
    return " ".join(_words(entry.summary or entry.tool.name)[:6])
