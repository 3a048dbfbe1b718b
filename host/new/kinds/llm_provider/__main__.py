"""A language model for Hector.

python -m {package} --port 8081
"""

from __future__ import annotations

from hector_plugins_pb2_grpc import add_LLMProviderServicer_to_server

from shared.cli import configure
from shared.server import run, serve

from . import PACKAGE
from .config import Config


def main() -> int:
    # Each library that the engine imports, and what pip is to install for it: {"numpy": "numpy>=2.0,<3"}.
    needs: dict[str, str] = {}
    config = configure(Config, package=PACKAGE, section="llm_providers", about=__doc__, needs=needs)
    from .engine import Engine
    from .servicer import MOST_ITEMS, Servicer

    servicer = Servicer(Engine(config.model))
    return serve(
        config,
        service="hector.plugins.v1.LLMProvider",
        register=lambda server: add_LLMProviderServicer_to_server(servicer, server),
        most_items=MOST_ITEMS,
    )


if __name__ == "__main__":
    run(main)
