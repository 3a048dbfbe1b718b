"""What holds for every plugin that is started with a command: `--run`. Each claim starts the plugin anew."""

from __future__ import annotations

import contextlib
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from typing import Any

import grpc
import hector_plugins_pb2 as pb
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub

from host.check import database
from host.check.claims import Broken, Claims, NotAsked, NotOffered, expect
from host.check.process import Process, ends_by_itself
from host.check.subject import Exchange, Subject
from host.health import SERVING, wait_until_serving

claims = Claims("started")
busy_claims = Claims("started")  # of plugins that can be kept busy
llm_claims = Claims("started")
database_claims = Claims("started")
LINE = "The only line on stdout, flushed once bound, is `listening on HOST:PORT`; logs go to stderr."
DRAIN = "SIGTERM and SIGINT: take no new calls, finish those under way (10 s at most), save, exit 0."
BEFORE = "Health is NOT_SERVING until the model or index is loaded and again from the moment a shutdown begins."
DURABLE = "An acknowledged write is durable: it survives kill -9."
STOP_SECONDS = 30.0  # 10 to drain, and time to save
_CALL_SECONDS = 0.4  # what a call takes at least that is to be under way when the signal comes
_MOST_ITEMS = 65_536  # of such a call


@contextlib.contextmanager
def started(check: Subject, port: int = 0, *more: str) -> Iterator[tuple[Process, Subject]]:
    """A new process that is SERVING, and a subject for it."""
    with check.command.start(port, *more) as process:
        address = replace(check.address, address=process.wait_for_address(check.command.seconds))
        answer = wait_until_serving(address, check.command.seconds, lambda: process.popen.poll() is not None)
        expect(answer == SERVING, f"health is {answer} after {check.command.seconds:g} s{process.said()}")
        with closing(check.at(address)) as subject:
            yield process, subject


def easy_call(check: Subject) -> None:
    """A call that every plugin of its kind answers with a success, at no cost. Raises Broken."""
    match check.kind:
        case "database":
            check.refused(
                "SearchVectors", pb.SearchVectorsRequest(collection="check-none", vector=[1.0]), "no collection"
            )
        case "embedder":
            check.ok("GetDimensions", pb.GetDimensionsRequest())
        case "tools":
            check.ok("ListTools", pb.ListToolsRequest())
        case "reasoning":
            check.ok("Initialize", pb.InitializeRequest(query="?"))
        case _:
            check.refused("GenerateText", pb.GenerateTextRequest(), "neither prompt nor messages")


# ---------------------------------------------------------------- start


@claims.guide("It announces its address in one line on stdout, and answers there.", LINE)
def announces(check: Subject) -> None:
    with started(check) as (process, subject):
        easy_call(subject)
        process.signal(signal.SIGTERM)
        process.wait(STOP_SECONDS)
        expect(process.out[0].startswith("listening on "), f"the first line on stdout is {process.out[0][:200]!r}")
        expect(
            len(process.out) == 1, f"there are {len(process.out)} lines on stdout, the second {process.out[-1][:200]!r}"
        )


@claims.guide("It listens at the port that it is given.", "--port N; --port 0 picks one.")
def given_port(check: Subject) -> None:
    with _free_port() as port:
        pass
    with started(check, port) as (process, _):
        expect(process.address.rpartition(":")[2] == str(port), f"with --port {port} it listens on {process.address}")


@claims.guide(
    "It listens on loopback unless it is told otherwise.",
    "--host is 127.0.0.1 by default; beyond loopback it serves only with a credential.",
)
def loopback(check: Subject) -> None:
    if "--host" in check.command.text:
        raise NotAsked("the command has a --host")
    with started(check) as (process, _):
        host = process.address.rpartition(":")[0].strip("[]")
        local = host in ("127.0.0.1", "::1", "localhost") or process.address.startswith("unix:")
        expect(local, f"it listens on {process.address}")


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
            str(port) in " ".join(process.err), f"port {port} is taken, and no line on stderr names it{process.said()}"
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


# ---------------------------------------------------------------- end


@claims.guide("SIGTERM ends it with status 0.", DRAIN)
def sigterm(check: Subject) -> None:
    _stops(check, signal.SIGTERM)


@claims.guide("SIGINT ends it with status 0, without a traceback.", DRAIN)
def sigint(check: Subject) -> None:
    _stops(check, signal.SIGINT)


@claims.guide("From the moment a shutdown begins health is NOT_SERVING.", BEFORE)
def health_at_shutdown(check: Subject) -> None:
    with started(check) as (process, subject):
        statuses: list[int] = []
        request = HealthCheckRequest(service="plugin")
        watch = HealthStub(subject.channel).Watch(request, timeout=STOP_SECONDS, metadata=subject.address.metadata)
        with contextlib.suppress(grpc.RpcError):
            for reply in watch:
                statuses.append(reply.status)
                check.exchanges.append(Exchange("grpc.health.v1.Health/Watch", request, reply))
                if len(statuses) == 1:
                    process.signal(signal.SIGTERM)
                elif reply.status == HealthCheckResponse.NOT_SERVING:
                    break
        watch.cancel()
        process.wait(STOP_SECONDS)
        names = [HealthCheckResponse.ServingStatus.Name(status) for status in statuses]
        expect(HealthCheckResponse.NOT_SERVING in statuses, f"a watch of health saw {names} and then the end")


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
            caller.join(STOP_SECONDS)
            status = process.wait(STOP_SECONDS)
            if answers == [None]:
                expect(status == 0, f"it ended with status {status}{process.said()}")
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
                    go_on.wait(STOP_SECONDS)
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
        status = process.wait(STOP_SECONDS)
        expect(status == 0, f"it ended with status {status}{process.said()}")
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
        status = process.wait(STOP_SECONDS)
        expect(status == 0, f"it ended with status {status}{process.said()}")


@claims.guide("After SIGKILL it starts again and serves.", "Nothing that a kill leaves behind keeps it from starting.")
def starts_after_kill(check: Subject) -> None:
    for _ in range(2):
        with started(check) as (process, subject):
            easy_call(subject)
            process.signal(signal.SIGKILL)
            process.wait(STOP_SECONDS)
    with started(check) as (_, subject):
        easy_call(subject)


@database_claims.full("What a database has acknowledged is there after SIGKILL, and what it deleted is not.", DURABLE)
def survives_kill(check: Subject) -> None:
    _survives(check, signal.SIGKILL)


@database_claims.full("What a database has acknowledged is there after SIGTERM, and what it deleted is not.", DURABLE)
def survives_stop(check: Subject) -> None:
    _survives(check, signal.SIGTERM)


def _survives(check: Subject, number: signal.Signals) -> None:
    """Writes until the process is gone, starts it again and looks for every write that was acknowledged."""
    name = database.new_name()
    acknowledged: list[str] = []
    with started(check) as (process, subject):
        subject.ok("CreateCollection", pb.CreateCollectionRequest(name=name, dimension=4))
        database.upsert(subject, name, {"kept": [1, 0, 0, 0], "deleted": [0, 1, 0, 0]})
        subject.ok("DeleteVectors", pb.DeleteVectorsRequest(collection=name, ids=["deleted"]))
        threading.Timer(1.0, process.signal, (number,)).start()
        for count in range(900):
            try:
                database.upsert(subject, name, {f"id{count}": [1, count, 1, 0]})
            except (Broken, grpc.RpcError):
                break
            acknowledged.append(f"id{count}")
        process.signal(number)
        process.wait(STOP_SECONDS)
    with started(check) as (_, subject):
        reply = database.search(subject, name, [1, 0, 0, 0], limit=1000)
        hits = set(database.ids(reply))
        lost = [key for key in ("kept", *acknowledged) if key not in hits]
        expect(
            not lost, f"of {len(acknowledged) + 1} acknowledged vectors {len(lost)} are lost, such as {lost[:3]}", reply
        )
        expect("deleted" not in hits, "a vector whose deletion was acknowledged is back", reply)
        subject.ok("DeleteCollection", pb.DeleteCollectionRequest(name=name))


# ---------------------------------------------------------------- what they stand on


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
    expect(not any("Traceback" in line for line in process.err), f"{what}, and it shows a traceback{process.said()}")


def _stops(check: Subject, number: signal.Signals) -> None:
    with started(check) as (process, subject):
        easy_call(subject)
        process.signal(number)
        status = process.wait(STOP_SECONDS)
        expect(status == 0, f"after {number.name} the exit status is {status}{process.said()}")
        expect(not any("Traceback" in line for line in process.err), f"it shows a traceback{process.said()}")


def _wait_for_not_serving(subject: Subject) -> None:
    deadline = time.monotonic() + STOP_SECONDS
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
    """Between NOT_SERVING and the end of new calls a server may leave its callers a moment."""
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        try:
            easy_call(subject)
        except (Broken, grpc.RpcError) as error:
            expect("UNAVAILABLE" in str(error), f"a new call during the shutdown: {error}")
            return
        time.sleep(0.05)
    raise Broken("new calls are answered during the shutdown")


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
