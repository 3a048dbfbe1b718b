"""Text embeddings for Hector."""

from __future__ import annotations

from shared.cli import configure
from shared.config import own_settings
from shared.start import run

from . import PACKAGE
from .config import Config


def main() -> int:
    config = configure(Config, package=PACKAGE, section="embedder_providers", about=__doc__)
    from hector_plugins_pb2_grpc import add_EmbedderProviderServicer_to_server

    from shared.server import serve

    from .engine import Engine
    from .servicer import MOST_ITEMS, TOO_LARGE_HINTS, Servicer

    engine = Engine(**own_settings(config))
    servicer = Servicer(engine)
    return serve(
        config,
        service="hector.plugins.v1.EmbedderProvider",
        register=lambda server: add_EmbedderProviderServicer_to_server(servicer, server),
        load=engine.open,
        most_items=MOST_ITEMS,
        too_large_hints=TOO_LARGE_HINTS,
    )


if __name__ == "__main__":
    run(main)
