"""The project's own five plugins are held to the contract by the conformance kit, additions too."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from host.check import partners, upstream
from host.check.subject import Options
from plugins.embed_st.engine import Engine
from tests.check_kit import SIZES, assert_passes
from tests.embed_models import tiny
from tests.embed_wire import serving as embed_st
from tests.pg_server import database, new_schema
from tests.servers import start_plugin
from tests.vector_wire import serving as vector_hnsw

ROWS = Options(tool="custom_data_processing", arguments='{"algorithm": "parse_csv", "data": "a,b\\n1,2\\n3,4\\n"}')
NOT_IN_POSTGRESQL = ("largest_dimension", "odd_ids", "metadata", "snapshots", "snapshot_names", "target_recall")


@pytest.mark.slow
def test_vector_hnsw(tmp_path: Path) -> None:
    """vector_hnsw, fast path and all, passes every claim for databases."""
    with vector_hnsw(tmp_path) as database:
        assert_passes(database.server.address, "database", without=SIZES)


@pytest.mark.slow
def test_vector_pg() -> None:
    """vector_pg passes every claim for databases but those on what PostgreSQL cannot hold, which its README names."""
    with (
        database() as url,
        start_plugin("plugins.vector_pg", "--schema", new_schema(), env={"DATABASE_URL": url}) as pg,
    ):
        assert_passes(pg.address, "database", without=(*SIZES, *NOT_IN_POSTGRESQL))


@pytest.mark.slow
def test_llm_openai() -> None:
    """llm_openai passes every claim for LLM plugins, before an endpoint that answers, breaks off and refuses."""
    with (
        upstream.serving() as endpoint,
        start_plugin(
            "plugins.llm_openai",
            "--endpoint",
            endpoint.url,
            "--max-retries",
            "0",
            env={"OPENAI_API_KEY": "a-key-of-its-own"},
        ) as plugin,
    ):
        assert_passes(plugin.address, "llm", upstream=endpoint, without=SIZES)


def test_tools_http() -> None:
    """tools_http passes every claim for tools, with a tool that reaches nothing outside."""
    with start_plugin("plugins.tools_http") as plugin:
        assert_passes(plugin.address, "tools", options=ROWS, without=SIZES)


@pytest.fixture
def behind() -> Iterator[partners.Partners]:
    with partners.serving() as served:
        yield served


def test_reasoning_react(behind: partners.Partners) -> None:
    """reasoning_react passes every claim for strategies, with a scripted model and scripted tools."""
    with start_plugin("plugins.reasoning_react", "--llm", behind.llm, "--tools", behind.tools) as plugin:
        assert_passes(plugin.address, "reasoning", partners=behind, without=SIZES)


@pytest.mark.slow
def test_embed_st(tmp_path: Path) -> None:
    """embed_st passes every claim for embedders, with a small model of random weights."""
    path = tiny(tmp_path / "tiny", max_tokens=62)
    engine = Engine(str(path), backend="torch", precision="fp32", device="cpu", cache_home=tmp_path)
    engine.open()
    try:
        with embed_st(engine) as server:
            assert_passes(server.address, "embedder", without=SIZES)
    finally:
        engine.close()
