"""A way of reasoning for Hector."""

from __future__ import annotations

import logging
import secrets
from typing import TYPE_CHECKING

from shared import logs
from shared.cli import configure
from shared.sealed import Sealed
from shared.start import run

from . import PACKAGE
from .config import Config

if TYPE_CHECKING:
    import grpc


def main() -> int:
    config = configure(Config, package=PACKAGE, section="reasoning_strategies", about=__doc__)
    from hector_plugins_pb2_grpc import add_ReasoningStrategyServicer_to_server

    from shared.server import serve

    from .engine import Engine
    from .llm import asking, echo
    from .servicer import MOST_ITEMS, Servicer

    def register(server: grpc.aio.Server) -> None:  # where the event loop runs, which a channel belongs to
        key = config.state_key.reveal()
        if not key:
            key = secrets.token_hex(32)
            remedy = "set state_key, as `openssl rand -hex 32` makes one"
            logs.event("security", level=logging.WARNING, effect="no run outlives this server", remedy=remedy)
        engine = Engine(asking(config.llm) if config.llm else echo)
        add_ReasoningStrategyServicer_to_server(Servicer(engine, Sealed(key.encode())), server)

    return serve(config, service="hector.plugins.v1.ReasoningStrategy", register=register, most_items=MOST_ITEMS)


if __name__ == "__main__":
    run(main)
