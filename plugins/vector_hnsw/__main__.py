"""A durable vector store for Hector: collections of vectors with metadata, nearest neighbours by cosine, dot
product or Euclidean distance. What it has acknowledged survives a kill and a power cut.

    python -m plugins.vector_hnsw --port 8082 --data-dir ./vectors
"""

from __future__ import annotations

from hector_plugins_pb2_grpc import add_DatabaseProviderServicer_to_server

from plugins.vector_hnsw.config import Config
from plugins.vector_hnsw.engine import Engine
from plugins.vector_hnsw.servicer import TOO_LARGE_HINTS, Servicer
from shared.cli import configure
from shared.server import run, serve


def main() -> int:
    config = configure(Config, plugin="vector_hnsw", section="database_providers", about=__doc__)
    engine = Engine(config.data_dir, max_limit=config.max_limit, threads=config.threads)
    return serve(
        config,
        service="hector.plugins.v1.DatabaseProvider",
        register=lambda server: add_DatabaseProviderServicer_to_server(Servicer(engine), server),
        load=engine.open,
        close=engine.close,
        too_large_hints=TOO_LARGE_HINTS,
    )


if __name__ == "__main__":
    run(main)
