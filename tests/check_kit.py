"""The conformance kit, run inside a test."""

from __future__ import annotations

from contextlib import closing

from host.check.reports import shown
from host.check.runner import FAILED, Result, claims_for, try_claims
from host.check.subject import Options, Subject
from shared.client import Address
from tests.check_faults import Fault


def results(
    address: str, kind: str, level: str = "guide", only: tuple[str, ...] = (), options: Options | None = None
) -> list[Result]:
    """What the kit says of the plugin at `address`; `only` are whole names of claims."""
    with closing(Subject(Address(address), kind, options or Options(), level)) as subject:
        claims = [claim for claim in claims_for(kind, level) if not only or claim.name in only]
        assert claims, f"no claim {only}"
        return try_claims(subject, claims, lambda result: None)


def outcomes(
    address: str, kind: str, level: str = "guide", options: Options | None = None
) -> dict[str, tuple[str, str]]:
    """Each claim's outcome and message, by name."""
    return {
        result.claim.name: (result.outcome, result.message) for result in results(address, kind, level, options=options)
    }


def assert_found(address: str, kind: str, fault: Fault, options: Options | None = None) -> None:
    """The claim of `fault` fails, and says why in words, with the call that it is about."""
    (result,) = results(address, kind, fault.level, (fault.claim,), options)
    assert result.outcome == FAILED, f"{fault.plugin.__name__} passes {fault.claim}"
    assert result.message
    assert result.exchange is not None
    assert shown(result.exchange.request)
    assert shown(result.exchange.reply)
