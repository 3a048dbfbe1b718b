"""Text and tool calls for Hector by any endpoint that speaks OpenAI's Chat Completions.

python -m {package} --port 8081 --endpoint http://127.0.0.1:8000/v1
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shared.bounded_file import read_bounded
from shared.cli import configure
from shared.errors import StartError
from shared.start import run
from shared.units import Secret, SecretUrl

from . import PACKAGE
from .config import Config
from .surroundings import check_tls, proxy_of

if TYPE_CHECKING:
    from .engine import Engine, Settings

_LARGEST_KEY = 64 * 2**10  # bytes
OPENAI = "https://api.openai.com/v1"


def main() -> int:
    config = configured()
    from hector_plugins_pb2_grpc import add_LLMProviderServicer_to_server

    from shared.server import serve

    from .servicer import MOST_ITEMS, TOO_LARGE_HINTS, Servicer

    servicer = Servicer(build(config), timeout=config.timeout, max_reply_bytes=config.max_reply_bytes)
    return serve(
        config,
        service="hector.plugins.v1.LLMProvider",
        register=lambda server: add_LLMProviderServicer_to_server(servicer, server),
        too_large_hints=TOO_LARGE_HINTS,
        most_items=MOST_ITEMS,
    )


def configured(argv: Sequence[str] | None = None) -> Config:
    config = configure(
        Config,
        package=PACKAGE,
        section="llm_providers",
        argv=argv,
        about=__doc__,
        needs={"openai": "openai>=3.54,<4", "jsonschema_rs": "jsonschema-rs>=0.60,<0.70"},
        variables={"endpoint": "OPENAI_BASE_URL", "api_key": "OPENAI_API_KEY", "organization": "OPENAI_ORG_ID"},
        check=build,
    )
    # From here on the key is one of the secrets that no log line may show.
    return dataclasses.replace(config, api_key=_key(config), api_key_file="")


def build(config: Config) -> Engine:
    """The engine as the settings want it. Raises StartError."""
    from .engine import Engine

    # The openai package would send it to every endpoint; `headers` says to which.
    os.environ.pop("OPENAI_CUSTOM_HEADERS", None)
    return Engine(
        endpoints(config),
        model=config.model,
        aliases=config.aliases,
        models=config.models,
        temperature=config.temperature,
        max_tokens=config.max_tokens,
        max_retries=config.max_retries,
        max_response_bytes=config.max_response_bytes,
    )


def endpoints(config: Config) -> list[Settings]:
    """The endpoint and its fallbacks; what a fallback does not say is as with the endpoint. Raises StartError."""
    from .engine import Settings

    check_tls()
    first: dict[str, Any] = {
        "url": config.endpoint or SecretUrl(OPENAI),
        "api_key": _key(config),
        "organization": config.organization,
        "headers": config.headers,
        "query": config.query,
        "body": config.body,
        "send_back": config.send_back,
        "proxy": config.proxy,
        "ca_bundle": config.ca_bundle,
        "connect_timeout": config.connect_timeout,
        "read_timeout": config.read_timeout,
        "concurrency": config.concurrency,
    }
    found = [Settings(**first)]
    for fallback in config.fallbacks.values():
        own = dict(fallback)
        other: dict[str, Any] = {}
        if "endpoint" in own:
            # Another server: neither key nor headers of the first are its business.
            other = {
                "url": own.pop("endpoint"),
                "api_key": Secret(),
                "organization": "",
                "headers": {},
                "query": {},
                "body": {},
            }
        found.append(Settings(**(first | other | own)))
    proxy = Secret(config.proxy).reveal()
    return [dataclasses.replace(one, through=proxy_of(Secret(one.url).reveal(), proxy)) for one in found]


def _key(config: Config) -> Secret:
    if not config.api_key_file:
        return Secret(config.api_key.reveal().strip())
    try:
        if key := read_bounded(Path(config.api_key_file), _LARGEST_KEY).decode().strip():
            return Secret(key)
        raise StartError(f"setting api_key_file: {config.api_key_file} is empty")
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "it is not UTF-8"
        raise StartError(f"setting api_key_file: cannot read {config.api_key_file}: {why}") from None


if __name__ == "__main__":
    run(main)
