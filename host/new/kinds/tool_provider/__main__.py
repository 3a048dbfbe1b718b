"""Tools for Hector.

python -m {package} --port 8084
"""

from __future__ import annotations

from hector_plugins_pb2_grpc import add_ToolProviderServicer_to_server

from shared.cli import configure
from shared.config import own_settings
from shared.server import run, serve

from . import PACKAGE
from .config import NEEDS, Config


def main() -> int:
    config = configure(Config, package=PACKAGE, section="tool_providers", about=__doc__, needs=NEEDS)
    from .engine import Engine
    from .servicer import MOST_ITEMS, TOO_LARGE_HINTS, Servicer

    servicer = Servicer(Engine(**own_settings(config)))
    return serve(
        config,
        service="hector.plugins.v1.ToolProvider",
        register=lambda server: add_ToolProviderServicer_to_server(servicer, server),
        most_items=MOST_ITEMS,
        too_large_hints=TOO_LARGE_HINTS,
    )


if __name__ == "__main__":
    run(main)
