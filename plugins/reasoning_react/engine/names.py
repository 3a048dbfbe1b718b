"""Tools' names as models' APIs take them, and the tool that a model meant."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from .chat import Tool
from .run import Step

_API_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_NOT_IN_API_NAME = re.compile(r"[^A-Za-z0-9_-]")
_PREFIXES = ("functions.", "function.", "tools.")
_LONGEST = 200  # characters of a name that no tool has


class Names:
    """The names of a run's tools."""

    def __init__(self, tools: Mapping[str, Tool]) -> None:
        self._tools = tools
        self._in_api: dict[str, str] = {name: name for name in tools if _API_NAME.fullmatch(name)}
        for name in tools:
            if name not in self._in_api:
                self._in_api[name] = _in_api(name, self._in_api.values())
        self._of_api = {written: name for name, written in self._in_api.items()}

    @property
    def tools(self) -> tuple[Tool, ...]:
        return tuple(self._tools.values())

    def for_api(self) -> tuple[Tool, ...]:
        """The tools, by names that every API takes."""
        return tuple(
            tool if self._in_api[name] == tool.name else replace(tool, name=self._in_api[name])
            for name, tool in self._tools.items()
        )

    def schemas(self) -> dict[str, Mapping[str, Any]]:
        """The parameters of each tool, by every name that a model may know it by."""
        schemas = {name: tool.parameters for name, tool in self._tools.items()}
        return schemas | {written: schemas[name] for name, written in self._in_api.items()}

    def steps_in_api(self, steps: Iterable[Step]) -> list[Step]:
        """The steps of a run, with names that every API takes."""
        return [
            step
            if all(action.tool == self._written(action.tool) for action in step.actions)
            else replace(step, actions=[replace(one, tool=self._written(one.tool)) for one in step.actions])
            for step in steps
        ]

    def _written(self, name: str) -> str:
        return self._in_api.get(name) or (name if _API_NAME.fullmatch(name) else _in_api(name, ()))

    def meant(self, written: str) -> str:
        """The tool that a model meant by a name; where it can be none, or more than one, the name as it was written.

        >>> Names({"web.fetch": Tool("web.fetch", "", {})}).meant("functions.Web_Fetch ")
        'web.fetch'
        """
        name = written.partition("<|")[0].strip().strip("`\"'") or written.strip()
        for prefix in ("", *_PREFIXES):
            if name.startswith(prefix):
                bare = name[len(prefix) :]
                if bare in self._tools:
                    return bare
                if bare in self._of_api:
                    return self._of_api[bare]
        bare = _plain(next((name[len(prefix) :] for prefix in _PREFIXES if name.startswith(prefix)), name))
        alike = {known for known in self._tools if bare in (_plain(known), _plain(self._in_api[known]))}
        return alike.pop() if len(alike) == 1 else name[:_LONGEST]


def _in_api(name: str, taken: Iterable[str]) -> str:
    written = _NOT_IN_API_NAME.sub("_", name)
    if len(written) <= 64 and written and written not in taken:
        return written
    return f"{written[:51]}_{hashlib.sha256(name.encode('utf-8', 'surrogatepass')).hexdigest()[:12]}"


def _plain(name: str) -> str:
    return name[:_LONGEST].casefold().replace("-", "_").replace(" ", "_")
