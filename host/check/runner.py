"""Which claims are tried, in which order, and how each of them ended."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import grpc

from host.check import (
    database,
    database_delete,
    database_full,
    database_full_change,
    database_full_delete,
    database_full_filter,
    database_full_search,
    database_full_write,
    database_search,
    database_write,
    drained,
    durable,
    embedder,
    embedder_full,
    embedder_full_long,
    llm,
    llm_full,
    llm_full_tools,
    llm_upstream,
    reasoning,
    reasoning_full,
    reasoning_full_host,
    reasoning_scripted,
    serving,
    settings,
    started,
    stopped,
    tools,
    tools_full,
)
from host.check.claims import FULL, GUIDE, Broken, Claim, Claims, NotAsked, NotOffered
from host.check.contract import SERVICES
from host.check.subject import Exchange, Subject
from host.reflection import Reflection
from shared.errors import StartError

PASSED, FAILED, NOT_OFFERED, NOT_ASKED = "passed", "failed", "not offered", "not asked"
KINDS: dict[str, Sequence[Claims]] = {
    "llm": (llm.claims, llm_upstream.claims, llm_full.claims, llm_full_tools.claims),
    "database": (
        database.claims,
        database_write.claims,
        database_delete.claims,
        database_search.claims,
        database_full.claims,
        database_full_delete.claims,
        database_full_write.claims,
        database_full_search.claims,
        database_full_filter.claims,
        database_full_change.claims,
    ),
    "embedder": (embedder.claims, embedder_full.claims, embedder_full_long.claims),
    "tools": (tools.claims, tools_full.claims),
    "reasoning": (reasoning.claims, reasoning_scripted.claims, reasoning_full.claims, reasoning_full_host.claims),
}
STARTED: dict[str, Sequence[Claims]] = {
    "llm": (drained.llm_claims,),
    "database": (drained.busy_claims, durable.claims),
    "embedder": (drained.busy_claims,),
}
_MOST_SILENT = 3  # calls that ran into their bound, after which no more claims are tried


@dataclass(frozen=True)
class Result:
    """How one claim ended. `message` says why it did not pass, `exchange` is the call to show for it."""

    claim: Claim
    service: str
    outcome: str
    message: str = ""
    exchange: Exchange | None = None
    seconds: float = 0.0


def claims_for(kind: str, level: str, only: Iterable[str] = (), *, run: bool = False) -> list[Claim]:
    """In the order in which they are tried. `only`: those whose name holds one of these. `run`: those of a start
    instead of those of a plugin that runs."""
    of_a_start = (started.claims, settings.claims, stopped.claims, *STARTED.get(kind, ()))
    groups = of_a_start if run else (serving.claims, *KINDS[kind])
    claims = [claim for group in groups for claim in group if claim.level == GUIDE or level == FULL]
    words = list(only)
    return [claim for claim in claims if not words or any(word in claim.name for word in words)]


def kinds_at(reflection: Reflection) -> list[str]:
    """The kinds of plugin that a server is, as its reflection says. Raises StartError where it is none."""
    offered = reflection.offered()
    kinds = [kind for kind, service in SERVICES.items() if f"hector.plugins.v1.{service}" in offered]
    if not kinds:
        known = ", ".join(SERVICES.values())
        raise StartError(
            f"the server offers {', '.join(offered) or 'no service'}, "
            f"and none of the guide's in the package hector.plugins.v1 ({known})"
        )
    return kinds


def try_claims(subject: Subject, claims: Iterable[Claim], report: Callable[[Result], None]) -> list[Result]:
    """Each result goes to `report` as it comes."""
    results = []
    for claim in claims:
        result = _try(subject, claim)
        results.append(result)
        report(result)
    return results


def _try(subject: Subject, claim: Claim) -> Result:
    subject.exchanges.clear()
    began = time.monotonic()
    outcome, message, shown = PASSED, "", None
    if subject.silent >= _MOST_SILENT:
        return Result(claim, subject.service.name, FAILED, "not tried: the server has stopped answering")
    try:
        claim.function(subject)
    except Broken as broken:
        outcome, message, shown = FAILED, str(broken), broken.reply
        rpc = subject.exchanges[-1].rpc if subject.exchanges else ""
        if claim.level == FULL and rpc in subject.service.methods_by_name and not subject.offered.has_additions(rpc):
            outcome, message = NOT_OFFERED, f"the reply of its {rpc} has the guide's fields alone"
    except NotOffered as missing:
        # What the guide names is not an offer that a plugin may leave out.
        outcome, message = FAILED if claim.level == GUIDE else NOT_OFFERED, str(missing)
    except NotAsked as missing:
        outcome, message = NOT_ASKED, str(missing)
    except grpc.RpcError as error:
        outcome, message = FAILED, f"gRPC status {error.code().name}: {' '.join((error.details() or '').split())}"
    except Exception as error:  # a reply that is not shaped as the claim reads it
        outcome, message = FAILED, f"the reply cannot be read as the contract has it: {type(error).__name__}: {error}"
    exchange = None
    if outcome == FAILED and subject.exchanges:
        last = subject.exchanges[-1]
        exchange = next((item for item in subject.exchanges if shown is not None and item.reply is shown), last)
    return Result(claim, subject.service.name, outcome, message, exchange, time.monotonic() - began)
