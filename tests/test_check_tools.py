"""The conformance kit on tools: a right provider passes, each wrong one is found by the claim that is there for it."""

from __future__ import annotations

import pytest
from hector_plugins_pb2_grpc import add_ToolProviderServicer_to_server as add

from host.check.runner import FAILED, NOT_ASKED
from host.check.subject import Options
from tests.check_faults import Fault, serving
from tests.check_faults.tools import ALLOWED, FAULTS, Tools
from tests.check_kit import assert_found, assert_passes, outcomes


def test_a_right_one_passes() -> None:
    """A small right ToolProvider passes every claim, additions too."""
    with serving(add, Tools(), "ToolProvider") as address:
        assert_passes(address, "tools", options=ALLOWED)


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.plugin.__name__)
def test_a_wrong_one_is_found(fault: Fault) -> None:
    """A ToolProvider that is wrong in one thing fails that claim, and the failure shows what was sent."""
    with serving(add, fault.plugin(), "ToolProvider") as address:
        assert_found(address, "tools", fault, options=ALLOWED)


def test_nothing_runs_unasked() -> None:
    """Without --tool no tool is ever run, and the claims that need one say so."""
    tools = Tools()
    with serving(add, tools, "ToolProvider") as address:
        found = outcomes(address, "tools", "full")
        assert tools.runs == 0
        assert found["runs"] == (NOT_ASKED, "give --tool")


def test_a_tool_that_is_not_there() -> None:
    """A --tool that the provider does not list fails one claim, with the names there are; the others say it once."""
    with serving(add, Tools(), "ToolProvider") as address:
        found = outcomes(address, "tools", "full", options=Options(tool="repet"))
    failed = {name: message for name, (outcome, message) in found.items() if outcome == FAILED}
    assert failed == {"runs": "repet is not in the list, which has repeat, clock"}
