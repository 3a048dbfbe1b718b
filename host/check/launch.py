"""A plugin started for one claim: what the claims of a start, a stop and a kill stand on."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace

import hector_plugins_pb2 as pb

from host.check.claims import expect
from host.check.process import Process
from host.check.subject import Subject
from host.health import SERVING, wait_until_serving

STOP_SECONDS = 30.0  # 10 to drain, and time to save
DRAIN = "SIGTERM and SIGINT: take no new calls, finish those under way (10 s at most), save, exit 0."
BEFORE = "Health is NOT_SERVING until the model or index is loaded and again from the moment a shutdown begins."


@contextlib.contextmanager
def started(check: Subject, port: int = 0, *more: str) -> Iterator[tuple[Process, Subject]]:
    """A new process that is SERVING, and a subject for it."""
    with check.command.start(port, *more) as process:
        address = replace(check.address, address=process.wait_for_address(check.command.seconds))
        answer = wait_until_serving(address, check.command.seconds, lambda: process.popen.poll() is not None)
        expect(answer == SERVING, f"health is {answer} after {check.command.seconds:g} s{process.last_lines()}")
        with closing(check.at(address)) as subject:
            yield process, subject


def is_local(address: str) -> bool:
    host = address.rpartition(":")[0].strip("[]")
    return host in ("127.0.0.1", "::1", "localhost") or address.startswith("unix:")


def easy_call(check: Subject) -> None:
    """A call that every plugin of its kind answers with a success, at no cost. Raises Broken."""
    match check.kind:
        case "database":
            check.refused(
                "SearchVectors", pb.SearchVectorsRequest(collection="check-none", vector=[1.0]), "no collection"
            )
        case "embedder":
            check.ok("EmbedText", pb.EmbedTextRequest(text="A text."))  # takes the model
        case "tools":
            check.ok("ListTools", pb.ListToolsRequest())
        case "reasoning":
            check.ok("Initialize", pb.InitializeRequest(query="?"))
        case _:
            check.refused("GenerateText", pb.GenerateTextRequest(), "neither prompt nor messages")
