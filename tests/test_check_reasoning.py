"""The conformance kit on strategies: a right one passes, each wrong one is found by the claim that is there for it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hector_plugins_pb2_grpc import add_ReasoningStrategyServicer_to_server as add

from host.check import partners
from host.check.partners import Partners
from host.check.runner import FAILED, NOT_ASKED, PASSED
from host.check.subject import Options
from tests.check_faults import Fault, serving
from tests.check_faults.reasoning import FAULTS, Strategy
from tests.check_kit import assert_found, assert_passes, outcomes


@pytest.fixture(scope="module")
def behind() -> Iterator[Partners]:
    with partners.serving() as served:
        yield served


def test_a_right_one_passes(behind: Partners) -> None:
    """A small right ReasoningStrategy passes every claim, additions too."""
    with serving(add, Strategy(behind.llm, behind.tools), "ReasoningStrategy") as address:
        assert_passes(address, "reasoning", partners=behind)


def test_one_without_tools_passes(behind: Partners, monkeypatch: pytest.MonkeyPatch) -> None:
    """A strategy that was told of the kit's model and of no tools fails nothing; what takes tools is not asked."""

    class Alone(Strategy):
        def offered(self) -> list[Any]:
            return []

    monkeypatch.setattr(behind, "has_tools", False)
    with serving(add, Alone(behind.llm, behind.tools), "ReasoningStrategy") as address:
        tried = outcomes(address, "reasoning", "full", partners=behind)
    assert {name: outcome for name, outcome in tried.items() if outcome[0] not in (PASSED, NOT_ASKED)} == {}
    assert tried["tools_run"] == (NOT_ASKED, "give {llm} and {tools} in --run")
    assert tried["whole_run"][0] == PASSED


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: f"{fault.plugin.__name__}-{fault.claim}")
def test_a_wrong_one_is_found(fault: Fault, behind: Partners) -> None:
    """A ReasoningStrategy that is wrong in one thing fails that claim, and the failure shows what was sent."""
    with serving(add, fault.plugin(behind.llm, behind.tools), "ReasoningStrategy") as address:
        assert_found(address, "reasoning", fault, partners=behind)


def test_nothing_is_spent_unasked(behind: Partners) -> None:
    """Without --prompt and without the kit's own model no question is asked."""
    with serving(add, Strategy(behind.llm, behind.tools), "ReasoningStrategy") as address:
        before = len(behind.asked)
        found = outcomes(address, "reasoning", "full")
        assert len(behind.asked) == before
        assert found["whole_run"] == (NOT_ASKED, "give --prompt, or {llm} in --run")


def test_a_prompt(behind: Partners) -> None:
    """With --prompt alone that is what is asked, of whatever model and tools are there."""
    with serving(add, Strategy(behind.llm, behind.tools), "ReasoningStrategy") as address:
        found = outcomes(address, "reasoning", options=Options(prompt="What is 2 and 3? check:add 2 3"))
    passed = {name for name, (outcome, _) in found.items() if outcome == PASSED}
    assert {"whole_run", "question_as_input", "finalize_again", "finalize_early", "repeated_step"} <= passed
    assert found["tools_run"] == (NOT_ASKED, "give {llm} and {tools} in --run")
    assert FAILED not in {outcome for outcome, _ in found.values()}
