"""The conformance kit on LLM plugins: a right one passes, each wrong one is found by the claim that is there for it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hector_plugins_pb2_grpc import add_LLMProviderServicer_to_server as add

from host.check import upstream
from host.check.runner import FAILED, NOT_ASKED, PASSED
from host.check.subject import Options
from host.check.upstream import Upstream
from tests.check_faults import Fault, serving
from tests.check_faults.llm import FAULTS, Model
from tests.check_kit import assert_found, assert_passes, outcomes


@pytest.fixture(scope="module")
def endpoint() -> Iterator[Upstream]:
    with upstream.serving() as served:
        yield served


def test_a_right_one_passes(endpoint: Upstream) -> None:
    """A small right LLMProvider passes every claim, additions too."""
    with serving(add, Model(endpoint.url), "LLMProvider") as address:
        assert_passes(address, "llm", upstream=endpoint)


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.plugin.__name__)
def test_a_wrong_one_is_found(fault: Fault, endpoint: Upstream) -> None:
    """An LLMProvider that is wrong in one thing fails that claim, and the failure shows what was sent."""
    with serving(add, fault.plugin(endpoint.url), "LLMProvider") as address:
        assert_found(address, "llm", fault, upstream=endpoint)


def test_nothing_is_spent_unasked(endpoint: Upstream) -> None:
    """Without --prompt and without the kit's own endpoint no request ever reaches the model."""
    with serving(add, Model(endpoint.url), "LLMProvider") as address:
        before = len(endpoint.seen)
        found = outcomes(address, "llm", "full")
        assert len(endpoint.seen) == before
        assert found["answers"] == (NOT_ASKED, "give --prompt, or {upstream} in --run")


def test_a_prompt(endpoint: Upstream) -> None:
    """With --prompt alone the model that is there is asked that, and what needs the kit's own endpoint is not tried."""
    with serving(add, Model(endpoint.url), "LLMProvider") as address:
        found = outcomes(address, "llm", options=Options(prompt="How are you?"))
    passed = {name for name, (outcome, _) in found.items() if outcome == PASSED}
    assert {"answers", "stream_ends", "parallel_streams", "left_stream", "models"} <= passed
    assert found["exact_text"][0] == NOT_ASKED
    assert FAILED not in {outcome for outcome, _ in found.values()}
    assert endpoint.seen[-1]["messages"][-1]["content"] == "How are you?"
