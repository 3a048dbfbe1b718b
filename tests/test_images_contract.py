"""The plugins in their containers are held to the contract by the conformance kit, additions and all."""

from __future__ import annotations

import pytest

from host.check import partners, upstream
from tests.check_kit import assert_passes
from tests.containers import container, free_ports
from tests.test_check_ours import NOT_IN_POSTGRESQL, ROWS
from tests.test_images import IMAGES, beside

pytestmark = pytest.mark.images


@pytest.mark.parametrize("image", ["vector-hnsw", "vector-pg"])
def test_databases(image: str) -> None:
    """Both databases pass every claim; vector-pg all but those on what PostgreSQL cannot hold."""
    port, _, settings = IMAGES[image]
    with beside(image) as options, container(image, port, *options, settings=settings) as box:
        assert_passes(box.address, "database", without=NOT_IN_POSTGRESQL if image == "vector-pg" else ())


@pytest.mark.parametrize("image", ["embed-st", "embed-st-light"])
def test_embedders(image: str) -> None:
    """Both embedders pass every claim, with the model that is in them."""
    with container(image, 8083) as box:
        assert_passes(box.address, "embedder")


def test_llm() -> None:
    """llm-openai passes every claim, before an endpoint that answers, breaks off and refuses."""
    (port,) = free_ports(1)
    with upstream.serving() as endpoint:
        settings = (
            f"LLM_OPENAI__ENDPOINT={endpoint.url}",
            "LLM_OPENAI__MAX_RETRIES=0",
            "OPENAI_API_KEY=a-key-of-its-own",
        )
        with container("llm-openai", port, settings=settings, in_network_of_host=True) as box:
            assert_passes(box.address, "llm", upstream=endpoint)


def test_tools() -> None:
    """tools-http passes every claim, with a tool that reaches nothing outside."""
    with container("tools-http", 8084) as box:
        assert_passes(box.address, "tools", options=ROWS)


def test_reasoning() -> None:
    """reasoning-react passes every claim, with a scripted model and scripted tools."""
    (port,) = free_ports(1)
    with partners.serving() as behind:
        settings = (f"REASONING_REACT__LLM={behind.llm}", f"REASONING_REACT__TOOLS={behind.tools}")
        with container("reasoning-react", port, settings=settings, in_network_of_host=True) as box:
            assert_passes(box.address, "reasoning", partners=behind)
