"""The arguments of one tool, out of the parameters and the body of an operation."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from ..bodies import Body
from ..parameters import Parameter
from .names import hashed_name, safe_name
from .schemas import Remarks
from .values import sent_as

MOST_ARGUMENTS = 100
_LONGEST_EXAMPLE = 300  # characters


class Refused(Exception):
    """The operation cannot be a tool. The message says why."""


@dataclass
class Arguments:
    """What a tool's arguments are, and where they go."""

    remark: Remarks  # is told what is called otherwise than in the document
    properties: dict[str, dict[str, Any]] = field(default_factory=dict)
    required: list[str] = field(default_factory=list)
    parameters: list[Parameter] = field(default_factory=list)
    body: Body | None = None
    idempotency_header: str = ""

    def add(self, name: str, place: str, schema: dict[str, Any], *, required: bool) -> str:
        """Takes in an argument under a name that is free, and says which."""
        argument = safe_name(name)
        if argument in self.properties:
            argument = safe_name(f"{place}_{argument}")
        if argument in self.properties:
            argument = hashed_name(f"{place} {name}")
        if argument != name:
            self.remark(f"the {place} parameter {name[:80]!r} is called {argument}")
            schema["description"] = sent_as(schema.get("description", ""), name)
        self.properties[argument] = schema
        if required:
            self.required.append(argument)
        return argument

    def check(self) -> None:
        """Raises Refused where they are too many."""
        if len(self.properties) > MOST_ARGUMENTS:
            raise Refused(f"it has more than {MOST_ARGUMENTS} arguments")

    def schema(self) -> dict[str, Any]:
        schema: dict[str, Any] = {"type": "object", "properties": self.properties, "additionalProperties": False}
        return schema | {"required": self.required} if self.required else schema

    def example(self) -> str:
        """A call's arguments as JSON, where the document has a value for each that is required; else empty."""
        values: dict[str, Any] = {}
        for name in self.required:
            about = self.properties[name]
            known = [*about.get("examples", ()), *about.get("enum", ())[:1]]
            if "default" in about:
                known.append(about["default"])
            if not known:
                return ""
            values[name] = known[0]
        text = json.dumps(values, ensure_ascii=False) if values else ""
        return text if len(text) <= _LONGEST_EXAMPLE else ""


def as_mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def is_json(media_type: str) -> bool:
    plain = media_type.partition(";")[0].strip().lower()
    return plain in ("application/json", "text/json") or plain.endswith("+json")
