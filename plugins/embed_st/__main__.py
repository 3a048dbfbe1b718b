"""Sentence embeddings for Hector: text in, vectors out, by any model that sentence-transformers loads.

python -m plugins.embed_st --port 8083
"""

from __future__ import annotations

from hector_plugins_pb2_grpc import add_EmbedderProviderServicer_to_server

from plugins.embed_st.config import Config
from plugins.embed_st.engine import Engine
from plugins.embed_st.servicer import TOO_LARGE_HINTS, Servicer
from shared.cli import configure
from shared.server import run, serve


def main() -> int:
    config = configure(Config, plugin="embed_st", section="embedder_providers", about=__doc__)
    engine = Engine(config.model, cache_dir=config.cache_dir, device=config.device, batch_size=config.batch_size)
    return serve(
        config,
        service="hector.plugins.v1.EmbedderProvider",
        register=lambda server: add_EmbedderProviderServicer_to_server(Servicer(engine), server),
        load=engine.open,
        close=engine.close,
        too_large_hints=TOO_LARGE_HINTS,
    )


if __name__ == "__main__":
    run(main)
