"""A vector store for Hector."""

from __future__ import annotations

from shared.cli import configure
from shared.config import own_settings
from shared.start import run

from . import PACKAGE
from .config import Config


def main() -> int:
    config = configure(Config, package=PACKAGE, section="database_providers", about=__doc__)
    from hector_plugins_pb2_grpc import add_DatabaseProviderServicer_to_server

    from shared.server import serve

    from .engine import Engine
    from .servicer import MOST_ITEMS, Servicer

    engine = Engine(**own_settings(config))
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
