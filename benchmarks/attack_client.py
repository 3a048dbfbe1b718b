"""A client with the token that searches, embeds and generates all the time: each call's time and result, a line each.

python -m benchmarks.attack_client vector_hnsw=HOST:PORT embed_st=HOST:PORT llm_openai=HOST:PORT

The lines are as those of `tests/fuzz/prober.py`. Each plugin is called EVERY seconds on one channel, whether the last
call has been answered or not, so that slow answers do not make the calls fewer. No call is tried again.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import grpc

from benchmarks.arguments import parser
from tests.fuzz.attack import TOKEN
from tests.fuzz.running import WORKS
from tests.servers import dial, with_token

EVERY = 0.05  # seconds
LONGEST = 10.0  # seconds that a call may take
IN_FLIGHT = round(LONGEST / EVERY)  # so that a call is made even when none is answered


def call(plugin: str, work: Callable[[grpc.Channel, float], None], channel: grpc.Channel) -> None:
    began = time.monotonic()
    try:
        work(channel, LONGEST)
        result = "OK"
    except grpc.RpcError as error:
        result = error.code().name
    except AssertionError:
        result = "WRONG"
    ms = (time.monotonic() - began) * 1000
    sys.stdout.write(f"{plugin} call {began:.4f} {ms:.2f} {result}\n")


def keep_calling(plugin: str, address: str) -> None:
    with dial(address) as channel, ThreadPoolExecutor(IN_FLIGHT) as pool:
        authorized, due = with_token(channel, TOKEN), time.monotonic()
        while True:
            pool.submit(call, plugin, WORKS[plugin], authorized)
            due += EVERY
            time.sleep(max(0.0, due - time.monotonic()))


def main() -> None:
    options = parser(__doc__)
    options.add_argument("plugins", nargs="+", metavar="PLUGIN=HOST:PORT")
    for argument in options.parse_args().plugins:
        plugin, _, address = argument.partition("=")
        threading.Thread(target=keep_calling, args=(plugin, address), daemon=True).start()
    while True:
        time.sleep(0.1)
        sys.stdout.flush()


if __name__ == "__main__":
    main()
