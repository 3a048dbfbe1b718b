"""Callers that ask for much and read nothing: windows of zero, or a socket that is never emptied."""

from __future__ import annotations

from collections import deque
from random import Random

import hector_plugins_pb2 as pb
from grpc_health.v1 import health_pb2
from hyperframe.frame import PingFrame

from tests.fuzz.attack import Sent, Steps, Target
from tests.fuzz.http2 import Connection
from tests.fuzz.methods import HEALTH, SERVICES

HELD = 20  # connections, the oldest closed for a new one
CALLS = 20  # on each of them


def _large(plugin: str) -> tuple[str, bytes]:
    """A call whose reply is large."""
    service = f"/hector.plugins.v1.{SERVICES[plugin]}/"
    if plugin in ("vector_hnsw", "vector_pg"):
        return service + "ListVectors", pb.ListVectorsRequest(collection="kept", page_size=1000).SerializeToString()
    if plugin == "embed_st":
        return service + "EmbedBatch", pb.EmbedBatchRequest(texts=["a"] * 32).SerializeToString()
    if plugin == "llm_openai":
        return service + "ListModels", b""
    if plugin == "tools_http":
        return service + "ListTools", b""
    if plugin == "reasoning_react":
        return service + "Initialize", pb.InitializeRequest(query="x", context="x" * 2**17).SerializeToString()
    return service + "StreamText", pb.StreamTextRequest(prompt="flood").SerializeToString()


def run(target: Target, random: Random) -> Steps:
    held: deque[Connection] = deque()
    watch = HEALTH.replace("Check", "Watch"), health_pb2.HealthCheckRequest().SerializeToString()
    try:
        while True:
            connection = Connection(target.address, settings=random.choice(({4: 0}, {4: 1}, {})), seconds=0.2)
            held.append(connection)
            try:
                for _ in range(random.choice((1, CALLS))):
                    path, message = random.choice((_large(target.plugin), watch, (HEALTH, b"")))
                    stream = connection.open(path, target.token)
                    connection.message(stream, message, end=True)
                connection.send(PingFrame(0, b"12345678").serialize() * random.choice((0, 0, 5_000)))
            except OSError:
                pass  # it has been cut off, or is not read any more: as it should
            yield Sent("calls whose replies nobody reads", bytes(connection.sent))
            if len(held) > HELD:
                held.popleft().close()
    finally:
        for connection in held:
            connection.close()
