"""A plugin as an agent's calls see it: who it is, where, how long it may take; and the gate that each call passes."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from host.agents.failure import AgentFailed
from host.config import HostConfig, Plugin
from host.connect import Connection
from host.gate import WAIT_SECONDS, PluginAwayError, calling
from shared.client import Address
from shared.errors import Code

_POLL_SECONDS = 0.02


@dataclass(frozen=True)
class Peer:
    """A plugin that runs."""

    name: str
    address: Address
    longest: float  # seconds that a call may take, perhaps infinite
    state: Path  # where the running host keeps its gates

    @classmethod
    def of(cls, config: HostConfig, plugin: Plugin, connection: Connection) -> Peer:
        return cls(plugin.name, connection.address, plugin.timeout or math.inf, config.state)

    @property
    def who(self) -> str:
        """For messages."""
        return f"plugin {self.name}"

    @asynccontextmanager
    async def calling(self) -> AsyncIterator[None]:
        """Within, the running host does not take the plugin down for a change; one that is between two processes is
        waited for. Raises AgentFailed where it does not come back."""
        with ExitStack() as stack:
            deadline = time.monotonic() + WAIT_SECONDS
            while True:
                try:
                    stack.enter_context(calling(self.state, self.name, 0))  # to try takes no time
                    break
                except PluginAwayError as error:
                    if time.monotonic() > deadline:
                        raise AgentFailed(str(error), Code.UNAVAILABLE, "PLUGIN_AWAY") from None
                await asyncio.sleep(_POLL_SECONDS)
            yield
