"""What `python -m host check` does."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Callable
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass
from pathlib import Path

import grpc
from rich.console import Console

from host.check import partners, reports, upstream
from host.check.claims import Broken
from host.check.contract import SERVICES
from host.check.partners import Partners
from host.check.process import Command
from host.check.runner import FAILED, Result, claims_for, kinds_at, try_claims
from host.check.subject import Options, Subject
from host.check.upstream import Upstream
from host.health import SERVING, wait_until_serving
from host.reflection import Reflection, ReflectionError
from shared.client import Address, channel
from shared.errors import StartError
from shared.units import Secret

REACH_SECONDS = 5.0  # a server that is there answers sooner


@dataclass
class Behind:
    """What of the kit's own stands behind the plugin."""

    upstream: Upstream | None = None
    partners: Partners | None = None

    def addresses(self) -> tuple[tuple[str, str], ...]:
        """What words in braces stand for in the command."""
        pairs = [("{upstream}", self.upstream.url)] if self.upstream else []
        pairs += [("{llm}", self.partners.llm), ("{tools}", self.partners.tools)] if self.partners else []
        return tuple(pairs)


def run(arguments: argparse.Namespace) -> int:
    """The exit status. Raises StartError where nothing could be checked."""
    if arguments.list:
        for kind in [arguments.kind] if arguments.kind else SERVICES:
            for run in (False, True):
                for claim in claims_for(kind, arguments.level, arguments.only, run=run):
                    print(f"{kind:10} {claim.level:6} {claim.name:28} {claim.sentence}")
        return 0
    if bool(arguments.address) == bool(arguments.run):
        raise StartError('name the ADDRESS of a running plugin, such as 127.0.0.1:8082, or --run "COMMAND"')
    with ExitStack() as stack:
        behind = Behind()
        if arguments.upstream is not None or "{upstream}" in (arguments.run or ""):
            try:
                behind.upstream = stack.enter_context(upstream.serving(arguments.upstream or 0))
            except OSError as error:
                raise StartError(f"--upstream {arguments.upstream}: {error.strerror}; take another port") from None
        if any(word in (arguments.run or "") for word in ("{llm}", "{tools}")):
            behind.partners = stack.enter_context(partners.serving())
            behind.partners.has_llm, behind.partners.has_tools = (
                word in arguments.run for word in ("{llm}", "{tools}")
            )
        if arguments.run:
            return _report(arguments, arguments.run, lambda show: _run(arguments, behind, show))
        return _report(arguments, arguments.address, lambda show: _check(arguments, behind, show))


def _report(
    arguments: argparse.Namespace, where: str, check: Callable[[Callable[[Result], None]], list[Result]]
) -> int:
    on_stdout = "-" in (arguments.junit, arguments.json)
    out = Console(highlight=False, stderr=on_stdout)
    results = check(lambda result: reports.line(out, result))
    for result in results:
        if result.outcome == FAILED:
            reports.failure(out, result)
    out.print(f"\n{where}, level {arguments.level}: {reports.summary(results)}", markup=False, soft_wrap=True)
    _write(arguments.junit, lambda: reports.junit(where, results))
    _write(arguments.json, lambda: reports.as_json(where, arguments.level, results))
    if not results:
        raise StartError("no claim has such a name; --list prints them")
    return 1 if any(result.outcome == FAILED for result in results) else 0


def _check(arguments: argparse.Namespace, behind: Behind, show: Callable[[Result], None]) -> list[Result]:
    address = _address(arguments)
    answer = wait_until_serving(address, REACH_SECONDS)
    if answer != "UNREACHABLE":  # it may be loading a model
        answer = wait_until_serving(address, arguments.start_timeout)
    if answer != SERVING:
        raise StartError(f"the plugin at {address.address} is {answer}; see what it printed")
    results: list[Result] = []
    for kind in [arguments.kind] if arguments.kind else _kinds(address):
        with closing(_subject(arguments, kind, None, behind)) as subject:
            results += try_claims(subject, claims_for(kind, arguments.level, arguments.only), show)
    return results


def _run(arguments: argparse.Namespace, behind: Behind, show: Callable[[Result], None]) -> list[Result]:
    """First what holds of a plugin that runs, then starts and ends, one after another: a data folder is for one."""
    command = Command(arguments.run, arguments.start_timeout, behind.addresses())
    with command.start() as process:
        try:
            arguments.address = process.wait_for_address(command.seconds)
        except Broken as broken:
            raise StartError(f"--run: {broken}") from None
        results = _check(arguments, behind, show)
        kinds = [arguments.kind] if arguments.kind else _kinds(_address(arguments))
        process.signal(signal.SIGTERM)
        with suppress(Broken):  # there is a claim for that
            process.wait(30)
    for kind in kinds:
        with closing(_subject(arguments, kind, command, behind)) as subject:
            results += try_claims(subject, claims_for(kind, arguments.level, arguments.only, run=True), show)
    return results


def _subject(arguments: argparse.Namespace, kind: str, command: Command | None, behind: Behind) -> Subject:
    address = _address(arguments)
    options = Options(
        arguments.timeout, arguments.prompt, arguments.tool, arguments.arguments, "yes" if address.token else ""
    )
    return Subject(address, kind, options, arguments.level, command, behind.upstream, behind.partners)


def _kinds(address: Address) -> list[str]:
    with channel(address) as opened:
        try:
            return kinds_at(Reflection(opened, address.metadata))
        except ReflectionError as error:
            raise StartError(f"{address.address}: {error}; every plugin has it. --kind checks the rest") from None
        except grpc.RpcError as error:
            raise StartError(f"{address.address}: {error.code().name}: {error.details()}") from None


def _address(arguments: argparse.Namespace) -> Address:
    token = arguments.token
    if arguments.token_file:
        try:
            token = (Path(arguments.token_file).read_text(encoding="utf-8").splitlines() or [""])[0].strip()
        except (OSError, ValueError):
            raise StartError(f"--token-file {arguments.token_file} cannot be read") from None
    return Address(arguments.address, Secret(token), arguments.tls_ca, arguments.tls_cert, arguments.tls_key)


def _write(file: str | None, text: Callable[[], str]) -> None:
    if file == "-":
        sys.stdout.write(text())
    elif file:
        try:
            Path(file).write_text(text(), encoding="utf-8")
        except OSError as error:
            raise StartError(f"cannot write {file}: {error.strerror}") from None
