"""What holds for the end of every plugin, asked for or not: its exit status, its health, and that it starts again."""

from __future__ import annotations

import contextlib
import signal
import threading

import grpc
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub

from host.check import launch
from host.check.claims import Claims, expect
from host.check.launch import BEFORE, DRAIN, easy_call, started
from host.check.subject import Exchange, Subject

claims = Claims("started")


@claims.guide("SIGTERM ends it with status 0.", DRAIN)
def sigterm(check: Subject) -> None:
    _stops(check, signal.SIGTERM)


@claims.guide("SIGINT ends it with status 0, without a traceback.", DRAIN)
def sigint(check: Subject) -> None:
    _stops(check, signal.SIGINT)


@claims.guide("From the moment a shutdown begins health is NOT_SERVING, and a watch of it ends too.", BEFORE)
def health_at_shutdown(check: Subject) -> None:
    with started(check) as (process, subject):
        statuses: list[int] = []
        first = threading.Event()
        request = HealthCheckRequest(service="plugin")
        health = HealthStub(subject.channel)
        # It has no end of its own while the process may take its time: whoever watches is not waited for.
        watch = health.Watch(request, timeout=2 * launch.STOP_SECONDS, metadata=subject.address.metadata)

        def read() -> None:
            with contextlib.suppress(grpc.RpcError):
                for reply in watch:
                    statuses.append(reply.status)
                    check.exchanges.append(Exchange("grpc.health.v1.Health/Watch", request, reply))
                    first.set()
            first.set()

        reader = threading.Thread(target=read, daemon=True)
        reader.start()
        try:
            first.wait(launch.STOP_SECONDS)
            process.signal(signal.SIGTERM)
            process.wait(launch.STOP_SECONDS)
        finally:
            watch.cancel()
        reader.join(launch.STOP_SECONDS)
        names = [HealthCheckResponse.ServingStatus.Name(status) for status in statuses]
        expect(HealthCheckResponse.NOT_SERVING in statuses, f"a watch of health saw {names} and then the end")


@claims.guide("After SIGKILL it starts again and serves.", "Nothing that a kill leaves behind keeps it from starting.")
def starts_after_kill(check: Subject) -> None:
    for _ in range(2):
        with started(check) as (process, subject):
            easy_call(subject)
            process.signal(signal.SIGKILL)
            process.wait(launch.STOP_SECONDS)
    with started(check) as (_, subject):
        easy_call(subject)


def _stops(check: Subject, number: signal.Signals) -> None:
    with started(check) as (process, subject):
        easy_call(subject)
        process.signal(number)
        status = process.wait(launch.STOP_SECONDS)
        expect(status == 0, f"after {number.name} the exit status is {status}{process.last_lines()}")
        expect(not any("Traceback" in line for line in process.err), f"it shows a traceback{process.last_lines()}")
