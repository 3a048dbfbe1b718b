"""The engine and what its tools run on, which begins and ends with the server."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from .client import Client
from .engine import Engine
from .workers import Workers


@dataclass(frozen=True)
class Provider:
    engine: Engine
    client: Client
    workers: Workers

    def load(self, loop: asyncio.AbstractEventLoop) -> None:
        """Makes all ready that takes time. In a thread beside `loop`, which answers meanwhile. Raises StartError."""
        asyncio.run_coroutine_threadsafe(self.workers.start(), loop).result()

    async def close(self) -> None:
        await self.engine.close()
        await self.workers.close()
        await self.client.close()
