"""A vector store for Hector.

python -m {package} --port 8082
"""

from __future__ import annotations

from hector_plugins_pb2_grpc import add_DatabaseProviderServicer_to_server

from shared.cli import configure
from shared.server import run, serve

from . import PACKAGE
from .config import Config


def main() -> int:
    # Each library that the engine imports, and what pip is to install for it.
    needs = {"numpy": "numpy>=2.0,<3", "filelock": "filelock>=3.16,<5"}
    config = configure(Config, package=PACKAGE, section="database_providers", about=__doc__, needs=needs)
    from .engine import Engine
    from .servicer import MOST_ITEMS, Servicer

    engine = Engine(config.data_dir)
    servicer = Servicer(engine)
    return serve(
        config,
        service="hector.plugins.v1.DatabaseProvider",
        register=lambda server: add_DatabaseProviderServicer_to_server(servicer, server),
        load=engine.open,
        close=engine.close,
        most_items=MOST_ITEMS,
    )


if __name__ == "__main__":
    run(main)
