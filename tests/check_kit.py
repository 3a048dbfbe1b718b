"""The conformance kit, run inside a test."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from typing import Any

from host.check.reports import shown
from host.check.runner import FAILED, NOT_ASKED, PASSED, Result, claims_for, try_claims
from host.check.subject import Options, Subject
from shared.client import Address
from tests.check_faults import Fault
from tests.servers import SECONDS


def results(
    address: str,
    kind: str,
    level: str = "guide",
    only: tuple[str, ...] = (),
    *,
    without: tuple[str, ...] = (),
    at: Address | None = None,
    **subject_fields: Any,
) -> list[Result]:
    """What the kit says of the plugin at `address`, or `at` one with credentials. `only` are whole names of claims, and
    so are those that it goes `without`."""
    options = subject_fields.pop("options", Options())
    if options == replace(options, seconds=Options().seconds):  # nobody's own: a busy machine is slow
        options = replace(options, seconds=SECONDS)
    with closing(Subject(at or Address(address), kind, options, level, **subject_fields)) as subject:
        claims = [claim for claim in claims_for(kind, level) if not only or claim.name in only]
        claims = [claim for claim in claims if claim.name not in without]
        assert claims, f"no claim {only}"
        return try_claims(subject, claims, lambda result: None)


def outcomes(address: str, kind: str, level: str = "guide", **subject_fields: Any) -> dict[str, tuple[str, str]]:
    """Each claim's outcome and message, by name."""
    return {
        result.claim.name: (result.outcome, result.message)
        for result in results(address, kind, level, **subject_fields)
    }


def assert_passes(address: str, kind: str, level: str = "full", **subject_fields: Any) -> None:
    """No claim fails, and none finds that the plugin does not offer what it is about."""
    all_of_them = outcomes(address, kind, level, **subject_fields)
    assert {name: outcome for name, outcome in all_of_them.items() if outcome[0] not in (PASSED, NOT_ASKED)} == {}


# One turn of the event loop takes over a message of 64 MiB, and the watchdog of these tests allows a turn less time.
# They are tried where the kit starts the plugins itself, in test_check_command.py.
SIZES = ("largest_request", "too_large_request")


def assert_found(address: str, kind: str, fault: Fault, **subject_fields: Any) -> None:
    """The claim of `fault` fails, and says why in words, with the call that it is about."""
    if fault.seconds:
        subject_fields["options"] = Options(seconds=fault.seconds)
    (result,) = results(address, kind, fault.level, (fault.claim,), **subject_fields)
    assert result.outcome == FAILED, f"{fault.plugin.__name__} passes {fault.claim}"
    assert result.message
    assert result.exchange is not None
    assert shown(result.exchange.request)
    assert shown(result.exchange.reply)
