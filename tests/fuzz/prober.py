"""A process that asks plugins for their health all the time: `python -m tests.fuzz.prober [--every S] NAME=ADDRESS …`.

It is a process of its own, so that what it measures is the plugin's doing and not an attacker's. A line of its output:
NAME, HOW (`kept`: on one connection that stays; `new`: on a new one), when (monotonic seconds), milliseconds, result.
"""

from __future__ import annotations

import argparse
import sys
import threading
import time

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

EVERY = 0.02  # seconds between two questions on the connection that stays
NEW_EVERY = 0.5  # and between two on new ones
LONGEST = 10.0  # seconds after which a question counts as not answered
REQUEST = health_pb2.HealthCheckRequest(service="plugin")
OPTIONS = [("grpc.use_local_subchannel_pool", 1), ("grpc.max_reconnect_backoff_ms", 200)]


def probe(name: str, how: str, channel: grpc.Channel) -> None:
    began = time.monotonic()
    try:
        reply = health_pb2_grpc.HealthStub(channel).Check(REQUEST, timeout=LONGEST, wait_for_ready=how == "new")
        result = health_pb2.HealthCheckResponse.ServingStatus.Name(reply.status)
    except grpc.RpcError as error:
        result = error.code().name
    ms = (time.monotonic() - began) * 1000
    sys.stdout.write(f"{name} {how} {began:.4f} {ms:.2f} {result}\n")


def keep_asking(name: str, address: str, every: float) -> None:
    channel = grpc.insecure_channel(address, options=OPTIONS)
    while True:
        probe(name, "kept", channel)
        time.sleep(every)


def keep_connecting(name: str, address: str, every: float) -> None:
    while True:
        with grpc.insecure_channel(address, options=OPTIONS) as channel:
            probe(name, "new", channel)
        time.sleep(every)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("plugins", nargs="*", metavar="NAME=ADDRESS")
    parser.add_argument("--every", type=float, default=EVERY, help="seconds between questions on one connection")
    options = parser.parse_args()
    for plugin in options.plugins:
        name, _, address = plugin.partition("=")
        for work, every in ((keep_asking, options.every), (keep_connecting, options.every / EVERY * NEW_EVERY)):
            threading.Thread(target=work, args=(name, address, every), daemon=True).start()
    while True:
        time.sleep(0.1)
        sys.stdout.flush()


if __name__ == "__main__":
    main()
