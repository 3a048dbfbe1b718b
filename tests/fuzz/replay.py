"""Sends the steps of a finding again, one after the other, and prints what each is answered.

python -m tests.fuzz.replay HOST:PORT FILE    the plugin's token must be fuzz-token
"""

from __future__ import annotations

import json
import socket
import sys
from pathlib import Path

from tests.fuzz.attack import TOKEN
from tests.fuzz.http2 import Connection

SECONDS = 30.0  # that an answer may take


def call(address: str, method: str, message: bytes) -> str:
    connection = Connection(address, seconds=SECONDS)
    stream = connection.open(method, TOKEN)
    connection.message_whole(stream, message, seconds=SECONDS)
    status = connection.wait(stream, SECONDS) or f"none within {SECONDS:g} s"
    connection.close()
    return f"grpc-status {status} {connection.messages.get(stream, '')}"


def raw(address: str, data: bytes) -> str:
    host, _, port = address.rpartition(":")
    with socket.create_connection((host, int(port)), SECONDS) as connection:
        connection.sendall(data)
        connection.settimeout(1.0)  # most of what is no call gets no answer
        try:
            return repr(connection.recv(200))
        except OSError as error:
            return f"no answer: {error}"


def main() -> None:
    address, file = sys.argv[1:]
    for step in json.loads(Path(file).read_text(encoding="utf-8"))["steps"]:
        data = bytes.fromhex(step["hex"])
        answer = call(address, step["method"], data) if step["method"] else raw(address, data)
        print(f"{step['sent'][:60]} ({len(data)} bytes): {answer}", flush=True)


if __name__ == "__main__":
    main()
