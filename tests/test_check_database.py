"""The conformance kit on databases: a right one passes, each wrong one is found by the claim that is there for it."""

from __future__ import annotations

from collections.abc import Iterator

import grpc
import pytest
from hector_plugins_pb2_grpc import add_DatabaseProviderServicer_to_server as add

from tests.check_faults import Fault, database_full, serving
from tests.check_faults.database import FAULTS, Database
from tests.check_kit import SIZES, assert_found, assert_passes
from tests.vector_wire import serving as vector_hnsw


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Iterator[grpc.Channel]:
    """A channel to vector_hnsw."""
    with vector_hnsw(tmp_path_factory.mktemp("data")) as database:
        yield database.server.channel()


def test_a_right_one_passes() -> None:
    """A small right DatabaseProvider passes every claim of the guide."""
    with serving(add, Database(), "DatabaseProvider") as address:
        assert_passes(address, "database", "guide")


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: f"{fault.plugin.__name__}-{fault.claim}")
def test_a_wrong_one_is_found(fault: Fault) -> None:
    """A DatabaseProvider that is wrong in one thing fails that claim, and the failure shows what was sent."""
    with serving(add, fault.plugin(), "DatabaseProvider") as address:
        assert_found(address, "database", fault)


@pytest.mark.slow
def test_a_right_one_with_the_additions_passes(ours: grpc.Channel) -> None:
    """A plugin that passes on every call to vector_hnsw passes every claim, additions too."""
    with serving(add, database_full.Proxy(ours), "DatabaseProvider") as address:
        assert_passes(address, "database", "full", without=SIZES)


@pytest.mark.parametrize("fault", database_full.FAULTS, ids=lambda fault: f"{fault.plugin.__name__}-{fault.claim}")
def test_a_wrong_addition_is_found(fault: Fault, ours: grpc.Channel) -> None:
    """One that changes a single thing in passing fails that claim, and the failure shows what was sent."""
    with serving(add, fault.plugin(ours), "DatabaseProvider") as address:
        assert_found(address, "database", fault)
