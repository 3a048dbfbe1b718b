"""A language model for Hector."""

from __future__ import annotations

from shared.cli import configure
from shared.config import own_settings
from shared.start import run

from . import PACKAGE
from .config import Config


def main() -> int:
    config = configure(Config, package=PACKAGE, section="llm_providers", about=__doc__)
    from hector_plugins_pb2_grpc import add_LLMProviderServicer_to_server

    from shared.server import serve

    from .engine import Engine
    from .servicer import MOST_ITEMS, Servicer

    servicer = Servicer(Engine(**own_settings(config)))
    return serve(
        config,
        service="hector.plugins.v1.LLMProvider",
        register=lambda server: add_LLMProviderServicer_to_server(servicer, server),
        most_items=MOST_ITEMS,
    )


if __name__ == "__main__":
    run(main)
