"""Tools for Hector.

python -m {package} --port 8084
"""

from __future__ import annotations

from hector_plugins_pb2_grpc import add_ToolProviderServicer_to_server

from shared.cli import configure
from shared.server import run, serve

from . import PACKAGE
from .config import Config


def main() -> int:
    # Each library that the engine imports, and what pip is to install for it.
    needs = {"jsonschema_rs": "jsonschema-rs>=0.60,<0.70", "tzdata": "tzdata>=2026.1,<2028"}
    config = configure(Config, package=PACKAGE, section="tool_providers", about=__doc__, needs=needs)
    from .engine import Engine
    from .servicer import MOST_ITEMS, TOO_LARGE_HINTS, Servicer

    servicer = Servicer(Engine(config.timezone))
    return serve(
        config,
        service="hector.plugins.v1.ToolProvider",
        register=lambda server: add_ToolProviderServicer_to_server(servicer, server),
        most_items=MOST_ITEMS,
        too_large_hints=TOO_LARGE_HINTS,
    )


if __name__ == "__main__":
    run(main)
