"""Tools for Hector: HTTP APIs, web pages and data, under the operator's policy.

python -m {package} --port 8084
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Sequence
from typing import TYPE_CHECKING

from shared.cli import configure
from shared.start import run
from shared.units import secret_texts_in
from shared.visible import visible, visible_line

from . import PACKAGE
from .config import Config, plain

if TYPE_CHECKING:
    import grpc

    from .engine.engine import Settings
    from .engine.exchange import Response
    from .engine.openapi import Imported, ImportReport
    from .engine.provider import Provider
    from .engine.tool import Output


def main() -> int:
    config = configure(
        Config,
        package=PACKAGE,
        section="tool_providers",
        about=__doc__,
        needs={
            "httpcore2": "httpcore2[asyncio]>=2.16,<3",
            "idna": "idna>=3.20,<4",
            "jiter": "jiter>=0.12,<1",
            "jmespath": "jmespath>=1.1,<2",
            "jsonschema_rs": "jsonschema-rs>=0.60,<0.70",
            "pypdf": "pypdf>=7.1,<8",
            "regex": "regex>=2026.1,<2028",
            "turbohtml": "turbohtml>=1.15,<2",
        },
        check=check,
    )
    from shared.server import serve

    from .servicer import MOST_ITEMS, TOO_LARGE_HINTS, Servicer, register

    provider = build(config)
    servicer = Servicer(provider.engine, timeout=config.timeout, max_reply_bytes=config.max_reply_bytes)
    loop: asyncio.AbstractEventLoop | None = None

    def begin(server: grpc.aio.Server) -> None:
        nonlocal loop
        loop = asyncio.get_running_loop()
        register(server, servicer)

    def load() -> None:
        assert loop is not None
        asyncio.run_coroutine_threadsafe(provider.start(), loop).result()
        servicer.prepare()

    def close() -> None:
        assert loop is not None
        asyncio.run_coroutine_threadsafe(provider.close(), loop).result()

    return serve(
        config,
        service="hector.plugins.v1.ToolProvider",
        register=begin,
        load=load,
        close=close,
        too_large_hints=TOO_LARGE_HINTS,
        most_items=MOST_ITEMS,
    )


def check(config: Config) -> None:
    """For --check: what a start would refuse. OpenAPI documents are read, and what became of them is printed."""

    async def reports() -> Sequence[ImportReport]:
        try:
            return await provider.read_documents()
        finally:
            await provider.client.close()

    provider = build(config)
    for note in provider.notes:
        print(f"warning: {visible_line(note)}", file=sys.stderr)
    tables = [report.table() for report in asyncio.run(reports())]
    if provider.short_secrets:
        print(f"warning: {visible_line(provider.short_secrets)}", file=sys.stderr)
    for table in tables:
        print(visible(table), flush=True)


def build(config: Config) -> Provider:
    """The engine as the settings want it, and what it runs on. Raises StartError."""
    from .engine.api_call import api_call
    from .engine.client import Client
    from .engine.credentials import read_credentials
    from .engine.declared import read_tools
    from .engine.engine import Engine
    from .engine.openapi import import_documents
    from .engine.operation import Sender
    from .engine.outcome import output_of
    from .engine.page import convert
    from .engine.page.tool import fetch_page
    from .engine.provider import Provider
    from .engine.redaction import Redactor
    from .engine.rows.tool import JOB, data_tool
    from .engine.workers import Workers
    from .policy import policy_of

    policy = policy_of(config)
    client = Client(
        policy,
        request_timeout=config.request_timeout,
        connect_timeout=config.connect_timeout,
        max_redirects=config.max_redirects,
        max_response_bytes=config.max_response_bytes,
        max_body_bytes=config.max_body_bytes,
        # Those that go on without their callers take none from the others.
        max_connections=2 * config.max_concurrent,
        proxy=config.proxy.reveal(),
        proxy_resolves=config.proxy_resolves,
        ca_bundle=config.ca_bundle,
        user_agent=config.user_agent,
    )
    workers = Workers(config.workers, memory=config.work_memory, preload=[convert.__name__, JOB])
    redactor = Redactor(secret_texts_in([config.token, config.proxy]))
    credentials = read_credentials(plain(config.credentials), client, redactor)

    async def render(response: Response) -> Output:
        return await output_of(response, redactor)

    sender = Sender(client, render, redactor, config.max_body_bytes)
    notes: list[str] = []

    def refusal(url: str, method: str) -> str:
        error = policy.decide(url, method).error
        return error.message if error else ""

    def noted(place: str, url: str, method: str) -> None:
        if words := refusal(url, method):
            notes.append(f"{place}: every call of it will be refused: {words}")

    declared = read_tools(plain(config.tools), sender, credentials, workers, config.work_timeout, noted)
    tools = [
        api_call(client, credentials=credentials, redactor=redactor, longest=config.request_timeout),
        data_tool(workers, max_rows=config.max_rows, seconds=config.work_timeout),
        fetch_page(
            client, workers.run, work_timeout=config.work_timeout, robots=config.robots, user_agent=config.user_agent
        ),
        *declared,
    ]

    def documents() -> Awaitable[list[Imported]]:
        return import_documents(
            plain(config.openapi), sender, credentials, max_operations=config.max_operations, allowed=refusal
        )

    return Provider(Engine(tools, settings(config), redactor), client, workers, redactor, documents, notes)


def settings(config: Config) -> Settings:
    from .engine.engine import Settings

    return Settings(
        timeout=config.timeout,
        max_result_chars=config.max_result_chars,
        max_reply_bytes=config.max_reply_bytes,
        max_argument_chars=max(2 * 2**20, 2 * config.max_body_bytes),
        kept_bytes=config.kept_bytes,
        kept_for=config.kept_for,
        kept_calls=config.kept_calls,
        most_runs=config.max_concurrent,
        fence=config.fence,
    )


if __name__ == "__main__":
    run(main)
