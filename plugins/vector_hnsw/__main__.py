"""A durable vector store for Hector: collections of vectors with metadata, nearest neighbours by cosine, dot
product or Euclidean distance. What it has acknowledged survives a kill and a power cut.

python -m {package} --port 8082 --data-dir ./vectors
python -m {package} --port 8092 --data-dir ./vectors --reader    # searches the same vectors, on another core
"""

from __future__ import annotations

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
        needs={"hnswlib": "hnswlib>=0.8,<0.9", "numpy": "numpy>=2.0,<3", "filelock": "filelock>=3.16,<5"},
    )
    from . import sqlite_room

    sqlite_room.keep_in(config.data_dir)
    import grpc
    from hector_plugins_pb2_grpc import add_DatabaseProviderServicer_to_server

    from shared.server import serve
    from shared.vector_messages.replies import TOO_LARGE_HINTS
    from shared.vector_messages.requests import MOST_ITEMS

    from . import allocator, fast
    from .engine import Engine, ReaderEngine
    from .reader_servicer import ReaderServicer
    from .servicer import Servicer

    allocator.few_arenas()
    engine = (ReaderEngine if config.reader else Engine)(
        config.data_dir,
        max_limit=config.max_limit,
        max_collections=config.max_collections,
        max_memory=config.max_memory,
        # Metadata is JSON text here, which has up to six bytes for one of a reply.
        max_read=max(64 * 2**20, 6 * config.max_reply_bytes),
        threads=config.threads,
    )
    servicer = (ReaderServicer if config.reader else Servicer)(engine, max_reply_bytes=config.max_reply_bytes)

    def register(server: grpc.aio.Server) -> None:
        add_DatabaseProviderServicer_to_server(servicer, server)
        fast.register(server, servicer)

    return serve(
        config,
        service="hector.plugins.v1.DatabaseProvider",
        register=register,
        load=engine.open,
        close=engine.close,
        too_large_hints=TOO_LARGE_HINTS,
        most_items=MOST_ITEMS,
    )


if __name__ == "__main__":
    run(main)
