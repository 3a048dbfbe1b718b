"""A plugin as an agent's calls see it: who it is, where, how long it may take; and the gate that each call passes."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from host.agents.failure import AgentFailed
from host.config import HostConfig, Plugin
from host.connect import Connection
from host.gate import WAIT_SECONDS, PluginAwayError, calling
from shared.client import Address, channel
from shared.errors import Code

_POLL_SECONDS = 0.02


@dataclass(frozen=True)
class Peer:
    """A plugin that runs."""

    name: str
    address: Address  # where it was to begin with, with its credentials
    longest: float  # seconds that a call may take, perhaps infinite
    state: Path  # where the running host keeps its gates
    located: Callable[[], Address]  # where it is by now

    @classmethod
    def of(cls, config: HostConfig, plugin: Plugin, connection: Connection) -> Peer:
        address, longest = connection.address, plugin.timeout or math.inf
        return cls(plugin.name, address, longest, config.state, connection.located or (lambda: address))

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


class Dialled:
    """A plugin's channel, and its stub, where it is by now: a conversation outlives its processes. Made where the event
    loop runs; raises StartError where a TLS file cannot be used."""

    def __init__(self, peer: Peer, stub: Callable[[Any], Any], largest: int) -> None:
        """`largest`: bytes of a reply that is taken."""
        self._peer, self._make, self._largest = peer, stub, largest
        self._opened: list[Any] = []  # the last is the one for new calls
        self._dial(peer.address)

    @property
    def channel(self) -> Any:
        if (address := self._peer.located()) != self._address:
            self._dial(address)
        return self._opened[-1]

    @property
    def stub(self) -> Any:
        """To be asked for anew for each call, within `Peer.calling`."""
        return self._make(self.channel)

    async def close(self) -> None:
        for opened in self._opened:
            await opened.close()

    def _dial(self, address: Address) -> None:
        self._address = address
        self._opened.append(channel(address, aio=True, largest=self._largest))
