"""The engine and what its tools run on, which begins and ends with the server."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from shared import logs
from shared.off_loop import in_thread

from .client import Client
from .engine import Engine
from .openapi import Imported, ImportReport
from .redaction import SHORTEST, Redactor
from .workers import Workers


@dataclass(frozen=True)
class Provider:
    engine: Engine
    client: Client
    workers: Workers
    redactor: Redactor
    documents: Callable[[], Awaitable[list[Imported]]]  # reads the OpenAPI documents of the settings
    notes: Sequence[str] = ()  # what the operator should know of the settings

    async def start(self) -> None:
        """Makes all ready that takes time. Raises StartError."""
        for note in self.notes:
            logs.event("settings", level=logging.WARNING, warning=note)
        await self.workers.start()
        for report in await self.read_documents():
            logs.event("openapi", document=report.name, tools=len(report.tools), summary=report.summary())
        if self.redactor.too_short:
            logs.event("security", level=logging.WARNING, reason="SHORT_SECRET", message=self.short_secrets)

    @property
    def short_secrets(self) -> str:
        """What to say of secrets that the redactor cannot take out; empty where there are none."""
        count = self.redactor.too_short
        if not count:
            return ""
        return f"{count} of the secrets are shorter than {SHORTEST} characters and are not taken out of results"

    async def read_documents(self) -> Sequence[ImportReport]:
        """The engine has their tools afterwards, and the redactor their secrets. Raises StartError."""
        documents = await self.documents()
        for document in documents:
            await in_thread(self.engine.add, document.tools, f"setting openapi: {document.report.name}")
        return [document.report for document in documents]

    async def close(self) -> None:
        await self.engine.close()
        await self.workers.close()
        await self.client.close()
