"""What holds for the start of every plugin that is started with a command: `--run`. Each claim starts it anew."""

from __future__ import annotations

import contextlib
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace

import grpc
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub

from host.check import launch
from host.check.claims import Broken, Claims, NotAsked, expect
from host.check.contract import GUIDE_RPCS
from host.check.launch import BEFORE, easy_call, is_local, started
from host.check.process import Process, ends_by_itself
from host.check.subject import Exchange, Subject

claims = Claims("started")
LINE = "The only line on stdout, flushed once bound, is `listening on HOST:PORT`; logs go to stderr."


@claims.guide("It announces its address in one line on stdout, and answers there.", LINE)
def announces(check: Subject) -> None:
    with started(check) as (process, subject):
        easy_call(subject)
        subject.raw(GUIDE_RPCS[check.kind][0], b"\xff" * 40)  # what is logged of it belongs on stderr
        process.signal(signal.SIGTERM)
        process.wait(launch.STOP_SECONDS)
        expect(process.out[0].startswith("listening on "), f"the first line on stdout is {process.out[0][:200]!r}")
        expect(
            len(process.out) == 1, f"there are {len(process.out)} lines on stdout, the second {process.out[-1][:200]!r}"
        )


@claims.guide("It listens at the port that it is given.", "--port N; --port 0 picks one.")
def given_port(check: Subject) -> None:
    for is_last in (False, True):
        with _free_port() as port:
            pass
        try:
            with started(check, port) as (process, _):
                address = process.address
            break
        except Broken:
            if is_last:  # before that somebody else may have taken the port meanwhile
                raise
    expect(address.rpartition(":")[2] == str(port), f"with --port {port} it listens on {address}")


@claims.guide(
    "It listens on loopback unless it is told otherwise.",
    "--host is 127.0.0.1 by default; beyond loopback it serves only with a credential.",
)
def loopback(check: Subject) -> None:
    if "--host" in check.command.text:
        raise NotAsked("the command has a --host")
    with started(check) as (process, _):
        expect(is_local(process.address), f"it listens on {process.address}")


@claims.guide(
    "A port that is taken is an error in words, and the process ends with a status other than 0.",
    "It announces its address once bound; two servers never share a port.",
)
def busy_port(check: Subject) -> None:
    with _free_port() as port:
        status, process = ends_by_itself(check.command, port)
        expect(status != 0, f"port {port} is taken, and it ends with status 0")
        _says_why(process, f"port {port} is taken")
        expect(
            str(port) in " ".join(process.err),
            f"port {port} is taken, and no line on stderr names it{process.last_lines()}",
        )


@claims.guide(
    "An option that it does not know is an error in words, and it does not start.", "An unknown key is an error."
)
def unknown_option(check: Subject) -> None:
    status, process = ends_by_itself(check.command, 0, ["--no-such-option-of-check", "1"])
    expect(status != 0, "with an unknown option it ends with status 0")
    _says_why(process, "an option is unknown")


@claims.guide("Health answers from the announcement on, and when it is SERVING calls are answered.", BEFORE)
def health_while_loading(check: Subject) -> None:
    with check.command.start() as process:
        address = replace(check.address, address=process.wait_for_address(check.command.seconds))
        with closing(check.at(address)) as subject:
            deadline = time.monotonic() + check.command.seconds
            request = HealthCheckRequest(service="plugin")
            status = HealthCheckResponse.NOT_SERVING
            while status != HealthCheckResponse.SERVING:
                try:
                    reply = HealthStub(subject.channel).Check(request, timeout=10, metadata=address.metadata)
                except grpc.RpcError as error:
                    check.exchanges.append(Exchange("grpc.health.v1.Health/Check", request, error))
                    raise Broken(f"after the announcement health is gRPC status {error.code().name}") from None
                check.exchanges.append(Exchange("grpc.health.v1.Health/Check", request, reply))
                status = reply.status
                expect(time.monotonic() < deadline, f"health is not SERVING after {check.command.seconds:g} s")
                time.sleep(0.01)
            easy_call(subject)


@contextlib.contextmanager
def _free_port() -> Iterator[int]:
    """A port of the loopback that is taken for as long as it takes."""
    with socket.socket() as taken:
        if hasattr(socket, "SO_REUSEPORT"):  # it is shared with whoever asks for that too, which is what must not be
            taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        yield taken.getsockname()[1]


def _says_why(process: Process, what: str) -> None:
    expect(not process.out, f"{what}, and stdout has {process.out[:1]}")
    expect(any(line.strip() for line in process.err), f"{what}, and it says nothing on stderr")
    expect(
        not any("Traceback" in line for line in process.err), f"{what}, and it shows a traceback{process.last_lines()}"
    )
