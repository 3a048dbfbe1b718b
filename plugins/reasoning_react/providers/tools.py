"""Tool providers over gRPC, all of them as one."""

from __future__ import annotations

import asyncio
import re
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from shared import logs
from shared.client import Address
from shared.errors import PluginError, Unavailable

from ..engine.chat import Tool
from ..engine.ports import Outcome
from .provider import Provider, UnknownTool

LISTED_FOR = 60.0  # seconds that what ListTools said is believed
_AGAIN_SECONDS = 0.5  # that a run waits for what is asked again
_AGAIN_AFTER = 5.0  # seconds until a provider that could not be asked is asked again
_MOST_TOOLS = 1_000  # of all providers
_LONGEST_NAME = 64  # characters, in models' APIs


@dataclass
class _Listed:
    """What one provider has. `tools`: by its own names; None: it was never asked with success."""

    provider: Provider
    tools: Sequence[Tool] | None = None
    until: float = 0.0  # monotonic: believed so long


class GrpcTools:
    """`engine/ports.py`'s Tools. Made where the event loop runs. Raises StartError where a TLS file cannot be used."""

    def __init__(self, providers: Mapping[str, Address], *, max_result_chars: int) -> None:
        """`max_result_chars`: what is asked for of a result; providers may give less."""
        self._listed = [
            _Listed(Provider(name, address, max_result_chars=max_result_chars)) for name, address in providers.items()
        ]
        self._tools: dict[str, Tool] = {}
        self._routes: dict[str, tuple[_Listed, Tool]] = {}
        self._asking: asyncio.Task[None] | None = None

    async def tools(self) -> Mapping[str, Tool]:
        if any(time.monotonic() >= listed.until for listed in self._listed):
            if self._asking is None or self._asking.done():
                self._asking = asyncio.ensure_future(self._ask())
            is_known = all(listed.tools is not None for listed in self._listed)
            # It belongs to no run: one that is cancelled takes nothing from the others that wait.
            await asyncio.wait([self._asking], timeout=_AGAIN_SECONDS if is_known else None)
            if self._asking.done():
                self._asking.result()
        return self._tools

    async def execute(self, tool: str, arguments_json: str, call_id: str, seconds: float) -> Outcome:
        if tool not in self._routes:
            try:
                await self.tools()
            except PluginError as error:
                return Outcome(f"{tool} was not run: {error.message}", is_error=True)
        if tool not in self._routes:
            return Outcome(f"Unknown tool: {tool}", is_error=True)
        listed, known = self._routes[tool]
        try:
            return await listed.provider.execute(known, tool, arguments_json, call_id, seconds)
        except UnknownTool:
            listed.until = 0.0  # it has others by now
            return Outcome(f"Unknown tool: {tool}", is_error=True)

    async def close(self) -> None:
        for listed in self._listed:
            await listed.provider.close()

    # ------------------------------------------------------------ what there is

    async def _ask(self) -> None:
        stale = [listed for listed in self._listed if time.monotonic() >= listed.until]
        replies = await asyncio.gather(*(listed.provider.list() for listed in stale), return_exceptions=True)
        failed: list[BaseException] = []
        has_changed = False
        for listed, reply in zip(stale, replies, strict=True):
            if isinstance(reply, BaseException):
                if not isinstance(reply, Unavailable):
                    raise reply
                if listed.tools is None:
                    failed.append(reply)
                else:
                    # What it had it may well have when it is back, and calls of it say whether it is.
                    listed.until = time.monotonic() + _AGAIN_AFTER
                continue
            has_changed = has_changed or reply != listed.tools
            listed.tools, listed.until = reply, time.monotonic() + LISTED_FOR
        if failed:
            raise failed[0]
        if has_changed:
            self._merge()

    def _merge(self) -> None:
        every = [(listed, tool) for listed in self._listed for tool in listed.tools or ()]
        every.sort(key=lambda one: _for_models(one[1].name) != one[1].name)  # who has a name needs it least changed
        of_providers = {(listed.provider.name, _for_models(tool.name)) for listed, tool in every}
        times = Counter(name for _, name in of_providers)
        routes: dict[str, tuple[_Listed, Tool]] = {}
        for listed, tool in every:
            name = _for_models(tool.name)
            if times[name] > 1:
                name = f"{listed.provider.name}__{name}"
            if len(name) > _LONGEST_NAME or name in routes or len(routes) == _MOST_TOOLS:
                logs.event(
                    "tool_left_out", provider=listed.provider.who, tool=tool.name[:80], reason=_why(name, routes)
                )
                continue
            routes[name] = listed, tool
        self._routes = routes
        self._tools = {
            name: tool if tool.name == name else replace(tool, name=name) for name, (_, tool) in routes.items()
        }


def _for_models(name: str) -> str:
    """A tool's name with what the APIs of models do not take in names as `_`."""
    return re.sub(r"[^A-Za-z0-9_-]", "_", name)


def _why(name: str, routes: Mapping[str, object]) -> str:
    if len(name) > _LONGEST_NAME:
        return f"its name would have more than {_LONGEST_NAME} characters"
    return f"there is another {name}" if name in routes else f"there are {_MOST_TOOLS} already"
