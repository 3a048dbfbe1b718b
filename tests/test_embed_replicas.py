"""Two replicas of embed_st behind gRPC's own round robin: both work, and one that is killed loses no call."""

from __future__ import annotations

import json
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import grpc
import hector_plugins_pb2 as pb
import numpy as np
import pytest
from hector_plugins_pb2_grpc import EmbedderProviderStub

from tests.embed_models import TEXTS, tiny
from tests.servers import SECONDS, start_plugin, wait_until

pytestmark = pytest.mark.slow

CALLERS = 8
# What a client sets: each replica has its turn, and a call whose replica went away goes to another one.
CLIENT = {
    "loadBalancingConfig": [{"round_robin": {}}],
    "methodConfig": [
        {
            "name": [{"service": "hector.plugins.v1.EmbedderProvider"}],
            "retryPolicy": {
                "maxAttempts": 5,
                "initialBackoff": "0.1s",
                "maxBackoff": "1s",
                "backoffMultiplier": 2,
                "retryableStatusCodes": ["UNAVAILABLE"],
            },
        }
    ],
}


def test_one_is_killed(tmp_path: Path) -> None:
    """Both answer; of the calls that are under way when one is killed, and of those after it, each gets its vector."""
    texts = [TEXTS[0], TEXTS[1], TEXTS[3], TEXTS[5]]
    answers: Counter[int] = Counter()  # by replica: of different weights, so that a vector tells whose it is
    stop, lock = threading.Event(), threading.Lock()
    with ExitStack() as stack:
        replicas = []
        for seed in range(2):
            model = tiny(tmp_path / f"tiny-{seed}", seed=seed)
            settings = ("--model", str(model), "--backend", "torch", "--device", "cpu", "--cache-dir", str(tmp_path))
            replicas.append(stack.enter_context(start_plugin("plugins.embed_st", *settings)))
        vectors = []
        for replica in replicas:
            batch = pb.EmbedBatchRequest(texts=texts)
            reply = EmbedderProviderStub(replica.channel()).EmbedBatch(batch, timeout=SECONDS)
            vectors.append([np.array(embedding.vector) for embedding in reply.embeddings])
        target = "ipv4:" + ",".join(replica.address for replica in replicas)
        options = [("grpc.service_config", json.dumps(CLIENT)), ("grpc.enable_http_proxy", 0)]
        stub = EmbedderProviderStub(stack.enter_context(grpc.insecure_channel(target, options=options)))

        def call_on() -> None:
            place = 0
            while not stop.is_set():
                place = (place + 1) % len(texts)
                reply = stub.EmbedText(pb.EmbedTextRequest(text=texts[place]), timeout=SECONDS)
                assert reply.success, reply.error
                near = [np.abs(np.array(reply.vector) - known[place]).max() < 1e-3 for known in vectors]
                assert sum(near) == 1, "another text's vector"
                with lock:
                    answers[near.index(True)] += 1

        def over() -> bool:  # one of them has failed
            return any(caller.done() for caller in calling)

        with ThreadPoolExecutor(CALLERS) as pool:
            calling = [pool.submit(call_on) for _ in range(CALLERS)]
            try:
                wait_until(lambda: min(answers[0], answers[1]) > 100 or over(), "100 answers of each")
                replicas[0].process.kill()
                replicas[0].wait()
                before = answers[1]
                wait_until(lambda: answers[1] > before + 100 or over(), "100 answers of the other")
            finally:
                stop.set()
        for caller in calling:
            caller.result()
