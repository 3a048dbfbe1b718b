"""Tools for Hector: HTTP APIs, web pages and data, under the operator's policy.

python -m plugins.tools_http --port 8084
"""

from __future__ import annotations

from hector_plugins_pb2_grpc import add_ToolProviderServicer_to_server

from plugins.tools_http.config import Config
from plugins.tools_http.engine import Engine, Settings
from plugins.tools_http.servicer import MOST_ITEMS, TOO_LARGE_HINTS, Servicer
from shared.cli import configure
from shared.server import run, serve


def main() -> int:
    config = configure(Config, plugin="tools_http", section="tool_providers", about=__doc__, check=build)
    servicer = Servicer(build(config), timeout=config.timeout, max_reply_bytes=config.max_reply_bytes)
    return serve(
        config,
        service="hector.plugins.v1.ToolProvider",
        register=lambda server: add_ToolProviderServicer_to_server(servicer, server),
        too_large_hints=TOO_LARGE_HINTS,
        most_items=MOST_ITEMS,
    )


def build(config: Config) -> Engine:
    """The engine as the settings want it. Raises StartError."""
    return Engine([], settings(config))


def settings(config: Config) -> Settings:
    return Settings(
        timeout=config.timeout,
        max_result_chars=config.max_result_chars,
        max_reply_bytes=config.max_reply_bytes,
        max_argument_chars=max(2 * 2**20, 2 * config.max_body_bytes),
        kept_bytes=config.kept_bytes,
        kept_for=config.kept_for,
        kept_calls=config.kept_calls,
        fence=config.fence,
    )


if __name__ == "__main__":
    run(main)
