"""A vector store for Hector on PostgreSQL with pgvector: collections of vectors with metadata, nearest neighbours by
cosine, dot product or Euclidean distance. Several processes may serve one database.

DATABASE_URL=postgresql://me:secret@db.example/vectors python -m {package} --port 8082
"""

from __future__ import annotations

import asyncio
import os

from shared.cli import configure
from shared.start import run

from . import PACKAGE
from .config import Config


def main() -> int:
    config = configure(
        Config,
        package=PACKAGE,
        section="database_providers",
        about=__doc__,
        needs={"psycopg": "psycopg[binary]>=3.2,<4", "psycopg_pool": "psycopg-pool>=3.2,<4", "numpy": "numpy>=2.0,<3"},
    )
    import grpc
    from hector_plugins_pb2_grpc import add_DatabaseProviderServicer_to_server

    from shared.server import serve
    from shared.vector_messages.replies import TOO_LARGE_HINTS
    from shared.vector_messages.requests import MOST_ITEMS

    from .engine import Engine, Settings
    from .servicer import Servicer

    engine = Engine(
        config.url.reveal() or os.environ.get("DATABASE_URL", ""),
        config.replica_url.reveal(),
        Settings(
            schema=config.schema,
            pool_size=config.pool_size,
            timeout=config.timeout,
            patience=config.patience,
            max_limit=config.max_limit,
            max_collections=config.max_collections,
            # Metadata is JSON text here, which has up to six bytes for one of a reply.
            max_read=max(64 * 2**20, 6 * config.max_reply_bytes),
            index_from=config.index_from,
            index_memory=config.index_memory,
            index={"m": config.m, "ef_construction": config.ef_construction, "ef_search": config.ef_search},
        ),
    )
    servicer = Servicer(engine, max_reply_bytes=config.max_reply_bytes)
    loop: asyncio.AbstractEventLoop

    def register(server: grpc.aio.Server) -> None:
        nonlocal loop
        loop = asyncio.get_running_loop()  # which the connections live in
        add_DatabaseProviderServicer_to_server(servicer, server)

    return serve(
        config,
        service="hector.plugins.v1.DatabaseProvider",
        register=register,
        load=lambda: asyncio.run_coroutine_threadsafe(engine.open(), loop).result(),
        close=lambda: asyncio.run_coroutine_threadsafe(engine.close(), loop).result(),
        too_large_hints=TOO_LARGE_HINTS,
        most_items=MOST_ITEMS,
    )


if __name__ == "__main__":
    run(main)
