"""The conformance kit on databases: a right one passes, each wrong one is found by the claim that is there for it."""

from __future__ import annotations

import pytest
from hector_plugins_pb2_grpc import add_DatabaseProviderServicer_to_server as add

from host.check.runner import NOT_ASKED, PASSED
from tests.check_faults import Fault, serving
from tests.check_faults.database import FAULTS, Database
from tests.check_kit import assert_found, outcomes


def test_a_right_one_passes() -> None:
    """A small right DatabaseProvider passes every claim of the guide."""
    with serving(add, Database(), "DatabaseProvider") as address:
        assert {
            key: value for key, value in outcomes(address, "database").items() if value[0] not in (PASSED, NOT_ASKED)
        } == {}


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.plugin.__name__)
def test_a_wrong_one_is_found(fault: Fault) -> None:
    """A DatabaseProvider that is wrong in one thing fails that claim, and the failure shows what was sent."""
    with serving(add, fault.plugin(), "DatabaseProvider") as address:
        assert_found(address, "database", fault)
