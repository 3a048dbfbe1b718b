"""Sentence embeddings for Hector: text in, vectors out, by a text model of sentence-transformers.

python -m {package} --port 8083
"""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path

from shared.cli import configure
from shared.start import run

from . import PACKAGE
from .config import Config


def main() -> int:
    config = configure(
        Config,
        package=PACKAGE,
        section="embedder_providers",
        about=__doc__,
        needs={"numpy": "numpy>=2.0,<3", "tokenizers": "tokenizers>=0.23,<1"},
    )
    # Its threads are one pool for all of the process, so that a short text would wait for another caller's bulk.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    from hector_plugins_pb2_grpc import add_EmbedderProviderServicer_to_server

    from shared.server import give_up, serve

    from .engine import Engine
    from .servicer import MOST_ITEMS, TOO_LARGE_HINTS, Servicer

    engine = Engine(
        config.model,
        backend=config.backend,
        precision=config.precision,
        cache_dir=config.cache_dir,
        cache_home=Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"),
        device=config.device,
        batch_tokens=config.batch_tokens,
        max_queued=config.max_queued,
        on_lost=partial(give_up, "device_lost"),
    )
    servicer = Servicer(engine, max_reply_bytes=config.max_reply_bytes)
    return serve(
        config,
        service="hector.plugins.v1.EmbedderProvider",
        register=lambda server: add_EmbedderProviderServicer_to_server(servicer, server),
        load=engine.open,
        close=engine.close,
        too_large_hints=TOO_LARGE_HINTS,
        most_items=MOST_ITEMS,
    )


if __name__ == "__main__":
    run(main)
