"""The conformance kit on embedders: a right one passes, each wrong one is found by the claim that is there for it."""

from __future__ import annotations

import pytest
from hector_plugins_pb2_grpc import add_EmbedderProviderServicer_to_server as add

from tests.check_faults import Fault, serving
from tests.check_faults.embedder import FAULTS, Embedder
from tests.check_kit import assert_found, assert_passes


def test_a_right_one_passes() -> None:
    """A small right EmbedderProvider passes every claim, additions too."""
    with serving(add, Embedder(), "EmbedderProvider") as address:
        assert_passes(address, "embedder", "full")


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.plugin.__name__)
def test_a_wrong_one_is_found(fault: Fault) -> None:
    """A EmbedderProvider that is wrong in one thing fails that claim, and the failure shows what was sent."""
    with serving(add, fault.plugin(), "EmbedderProvider") as address:
        assert_found(address, "embedder", fault)
