"""The indexed documents, searched from the page."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from host.clients import opened
from host.search import search
from host.ui.current import Current, NotFound
from host.ui.streams import held, in_daemon
from shared.nearest import did_you_mean

MOST_PASSAGES = 50
LONGEST_QUESTION = 10_000  # characters


async def hits(current: Current, database: str, question: str, limit: int) -> dict[str, Any]:
    """Raises StartError."""
    blocks = current.config.databases
    if database not in blocks:
        raise NotFound(f"There is no database {database}{did_you_mean(database, blocks)}.")
    async with held(opened(current.config, blocks[database])) as (embedder, collection):
        passages = await in_daemon(
            lambda: list(search(question, min(max(1, limit), MOST_PASSAGES), embedder, collection))
        )
    return {"passages": [{**asdict(passage), "place": passage.place} for passage in passages]}
