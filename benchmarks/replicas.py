"""Two processes of embed_st behind gRPC's own round robin, against the same two with half of the calls each.

python -m benchmarks.replicas
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import grpc
import hector_plugins_pb2 as pb
import hector_plugins_pb2_grpc as rpc

from benchmarks.arguments import parser
from benchmarks.harness import Section, compare, rate, report, running
from benchmarks.sentences import texts

ROUND_ROBIN = '{"loadBalancingConfig": [{"round_robin": {}}]}'
TEXTS, BATCH = 512, 16


def main() -> None:
    sentences = texts(TEXTS)
    singles = [pb.EmbedTextRequest(text=text) for text in sentences]
    batches = [pb.EmbedBatchRequest(texts=sentences[start : start + BATCH]) for start in range(0, TEXTS, BATCH)]
    with ExitStack() as stack:
        servers = [stack.enter_context(running("embed_st", "--device", "cpu")) for _ in range(2)]

        def stub(target: str, *options: tuple[str, str]) -> rpc.EmbedderProviderStub:
            return rpc.EmbedderProviderStub(stack.enter_context(grpc.insecure_channel(target, options=options)))

        alone = [stub(server.address) for server in servers]
        balanced = stub("ipv4:" + ",".join(server.address for server in servers), ("grpc.service_config", ROUND_ROBIN))
        comparisons = [
            compare(
                f"{name}, {callers} callers",
                "texts/s",
                lambda method=method, requests=requests, callers=callers: rate(  # type: ignore[misc]
                    TEXTS, lambda: _call([getattr(balanced, method)], requests, callers)
                ),
                lambda method=method, requests=requests, callers=callers: rate(  # type: ignore[misc]
                    TEXTS, lambda: _call([getattr(each, method) for each in alone], requests, callers)
                ),
                reference_name="half of them to each",
            )
            for name, method, requests, callers in (
                ("EmbedText", "EmbedText", singles, 32),
                (f"EmbedBatch of {BATCH}", "EmbedBatch", batches, 8),
            )
        ]
    report("replicas", [Section("Two of embed_st", comparisons)])


def _call(methods: Sequence[Any], requests: Sequence[object], callers: int) -> None:
    """All requests, an equal share of them and of the callers for each of the methods, side by side."""
    with ExitStack() as stack:
        calls = []
        for place, method in enumerate(methods):
            pool = stack.enter_context(ThreadPoolExecutor(callers // len(methods)))
            calls += [pool.submit(method, request) for request in requests[place :: len(methods)]]
        for call in calls:
            assert call.result().success


if __name__ == "__main__":
    parser(__doc__).parse_args()
    main()
