"""What holds for calls that are under way when a plugin is stopped."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import hector_plugins_pb2 as pb
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub

from host.check import database, launch
from host.check.claims import Broken, Claims, NotAsked, NotOffered, expect
from host.check.launch import DRAIN, easy_call, started
from host.check.subject import Exchange, Subject

busy_claims = Claims("started")  # of plugins that can be kept busy
llm_claims = Claims("started")
_CALL_SECONDS = 0.4  # what a call takes at least that is to be under way when the signal comes
_MOST_ITEMS = 65_536  # of such a call


@busy_claims.guide("A call that is under way at SIGTERM is finished.", DRAIN)
def drains(check: Subject) -> None:
    request_of = _long_request(check.kind)
    for attempt in range(3):
        with started(check) as (process, subject), _prepared(subject) as name:
            size, took = 256, 0.0
            while took < _CALL_SECONDS:
                if size > _MOST_ITEMS:
                    raise NotAsked(f"no call takes long enough: {size // 4} items took {took:.2f} s")
                rpc, request = request_of(name, size)
                began = time.monotonic()
                try:
                    subject.ok(rpc, request)
                except Broken as error:
                    if took:  # it takes as many as it takes, and is quick with those
                        raise NotAsked(f"no call takes long enough: {size // 4} items took {took:.2f} s") from error
                    raise
                took = time.monotonic() - began
                size *= 4
            answers: list[BaseException | None] = []

            def call(subject: Subject = subject, rpc: str = rpc, request: Any = request, into: Any = answers) -> None:
                try:
                    subject.ok(rpc, request)
                    into.append(None)
                except Exception as error:  # told to the claim below
                    into.append(error)

            caller = threading.Thread(target=call, daemon=True)
            caller.start()
            time.sleep(took / 4)  # it is under way then; what came later may be refused
            process.signal(signal.SIGTERM)
            caller.join(launch.STOP_SECONDS)
            status = process.wait(launch.STOP_SECONDS)
            if answers == [None]:
                expect(status == 0, f"it ended with status {status}{process.last_lines()}")
                _remove(check, name)
                return
            if attempt == 2:
                raise Broken(
                    f"a call of {took:.1f} s that was under way failed: {answers[0] if answers else 'no answer'}"
                )


@busy_claims.full("A stream that is under way at SIGTERM is finished, and a new call is UNAVAILABLE meanwhile.", DRAIN)
def drains_stream(check: Subject) -> None:
    with started(check) as (process, subject), _prepared(subject) as name:
        go_on = threading.Event()

        def requests() -> Iterator[Any]:
            for number in range(2):
                if number:
                    go_on.wait(launch.STOP_SECONDS)
                if check.kind == "database":
                    yield pb.UpsertVectorsRequest(
                        collection=name, vectors=[pb.Vector(id=f"{number}", vector=[1.0] * 64)]
                    )
                else:
                    yield pb.EmbedStreamRequest(id=f"{number}", text="a text")

        rpc = "UpsertVectorsStream" if check.kind == "database" else "EmbedStream"
        method = subject.service.methods_by_name[rpc]
        replies = subject.open(rpc, requests())
        try:
            next(replies)
            process.signal(signal.SIGTERM)
            _wait_for_not_serving(subject)
            _wait_for_refusal(subject)
            go_on.set()
            next(replies)
            expect(next(replies, None) is None, f"{method.name} has more replies than requests")
        except grpc.RpcError as error:
            if error.code() == grpc.StatusCode.UNIMPLEMENTED:
                raise NotOffered(f"{rpc} answers UNIMPLEMENTED") from None
            raise Broken(
                f"{rpc} was under way and ended with gRPC status {error.code().name}: {error.details()}"
            ) from None
        finally:
            go_on.set()
        status = process.wait(launch.STOP_SECONDS)
        expect(status == 0, f"it ended with status {status}{process.last_lines()}")
        _remove(check, name)


@llm_claims.guide("A stream that is under way at SIGTERM is finished.", DRAIN)
def drains_text(check: Subject) -> None:
    if check.upstream is None:
        raise NotAsked("give {upstream} in --run")
    with started(check) as (process, subject):
        request = pb.StreamTextRequest(model="check-slow", prompt="Take your time.")
        replies = []
        try:
            for reply in subject.open("StreamText", request):
                replies.append(reply)
                if len(replies) == 1:
                    process.signal(signal.SIGTERM)
        except grpc.RpcError as error:
            check.exchanges.append(Exchange("StreamText", request, error))
            text = f"{error.code().name}: {error.details()}"
            raise Broken(f"after {len(replies)} messages it ended with gRPC status {text}") from None
        check.exchanges.append(Exchange("StreamText", request, replies))
        expect(replies and replies[-1].done, "it ended without done=true", replies)
        status = process.wait(launch.STOP_SECONDS)
        expect(status == 0, f"it ended with status {status}{process.last_lines()}")


def _wait_for_not_serving(subject: Subject) -> None:
    deadline = time.monotonic() + launch.STOP_SECONDS
    while time.monotonic() < deadline:
        try:
            request = HealthCheckRequest(service="plugin")
            reply = HealthStub(subject.channel).Check(request, timeout=5, metadata=subject.address.metadata)
        except grpc.RpcError:
            return
        if reply.status == HealthCheckResponse.NOT_SERVING:
            return
        time.sleep(0.01)
    raise Broken("health is still SERVING long after SIGTERM")


def _wait_for_refusal(subject: Subject) -> None:
    """Between NOT_SERVING and the end of new calls a server may leave its callers a moment, and what comes just when
    they end gRPC itself may drop."""
    deadline = time.monotonic() + 5
    told = "they are answered"
    while True:
        is_last = time.monotonic() > deadline
        try:
            easy_call(subject)
        except (Broken, grpc.RpcError) as error:
            told = str(error)
            if "CANCELLED" not in told:
                expect("UNAVAILABLE" in told, f"a new call during the shutdown: {told}")
                return
        if is_last:
            raise Broken(f"new calls during the shutdown: {told}")
        time.sleep(0.05)


def _long_request(kind: str) -> Callable[[str, int], tuple[str, Any]]:
    """RPC and request of a call whose length goes with a number of items."""
    if kind == "database":
        return lambda name, size: (
            "UpsertVectors",
            pb.UpsertVectorsRequest(
                collection=name,
                vectors=[pb.Vector(id=str(number), vector=[1.0 + number] * 64) for number in range(size)],
            ),
        )
    return lambda name, size: (
        "EmbedBatch",
        pb.EmbedBatchRequest(texts=[f"a longer text, number {number}" for number in range(size)]),
    )


@contextlib.contextmanager
def _prepared(subject: Subject) -> Iterator[str]:
    """A collection where the kind has such; `_remove` takes it away after the process has ended."""
    name = database.new_name()
    if subject.kind == "database":
        subject.ok("CreateCollection", pb.CreateCollectionRequest(name=name, dimension=64))
    yield name


def _remove(check: Subject, name: str) -> None:
    if check.kind == "database":
        with started(check) as (_, subject), contextlib.suppress(Exception):
            subject.call("DeleteCollection", pb.DeleteCollectionRequest(name=name))
