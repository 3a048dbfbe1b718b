"""A plugin for the tests of the host's plugin manager: the first word of the prompt says what it tries.

As a process: this file, or a copy of it, is a `path`. Its settings are those of `tests/toy_plugin.py`; `offspring` is a
file into which it writes its own process id and that of a child that ignores SIGTERM.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hector_plugins_pb2 as pb

from shared.cli import configure
from shared.config import setting
from shared.errors import StartError
from shared.server import run, serve
from tests.toy_plugin import SERVICE, Config, Context, Toy, register

VERSION = "one"
_HOLDS: list[Any] = []
_HOG = "import sys, time; held = b'x' * int(sys.argv[1]); print(len(held), flush=True); time.sleep(600)"
_STUBBORN = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"


@dataclass(frozen=True, kw_only=True)
class Settings(Config):
    greeting: str = setting("hello", "What `greet` answers.")
    data_dir: str = setting("", "A folder of its own.")
    offspring: str = setting("", "Where process ids are written.")


def tried(action: Any) -> str:
    try:
        return str(action())
    except OSError as error:
        return type(error).__name__


def _dial(host: str, port: str) -> str:
    socket.create_connection((host, int(port)), 5).close()
    return "connected"


def _udp(host: str, port: str) -> str:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.sendto(b"x", (host, int(port)))
    return "sent"


def _unix(path: str) -> str:
    with socket.socket(socket.AF_UNIX) as dialled:
        dialled.connect(path)
    return "connected"


def _listen(host: str) -> str:
    socket.create_server((host, 0)).close()
    return "listening"


def _write(path: str) -> str:
    Path(path).write_text("written", encoding="utf-8")
    return "written"


def _mode(path: str) -> str:
    os.chmod(path, 0o777)
    return "changed"


def _eat(size: str) -> str:
    """In steps, as programs grow."""
    for _ in range(int(size) // 2**22):
        _HOLDS.append(bytearray(os.urandom(2**12) * 2**10))
        time.sleep(0.002)
    return "eaten"


def _feed(size: str) -> str:
    """A child eats."""
    child = subprocess.Popen([sys.executable, "-c", _HOG, size], stdout=subprocess.PIPE)
    _HOLDS.append(child)
    assert child.stdout
    return child.stdout.readline().decode()


def _shell(*words: str) -> str:
    done = subprocess.run(["/bin/sh", "-c", " ".join(words)], capture_output=True, text=True, check=False)
    return done.stdout + done.stderr


_TRIES = {
    "dial": _dial, "udp": _udp, "unix": _unix, "listen": _listen, "write": _write, "mode": _mode, "eat": _eat,
    "feed": _feed, "shell": _shell,
    "environment": lambda: json.dumps(dict(os.environ)),
    "pid": os.getpid,
    "version": lambda: VERSION,
}  # fmt: skip


class Managed(Toy):
    def __init__(self, greeting: str) -> None:
        self._greeting = greeting

    async def GenerateText(self, request: pb.GenerateTextRequest, context: Context) -> pb.GenerateTextResponse:
        what, *words = request.prompt.split()
        if what == "greet":
            return pb.GenerateTextResponse(text=self._greeting)
        if what in _TRIES:
            action: Any = _TRIES[what]
            return pb.GenerateTextResponse(text=await asyncio.to_thread(tried, lambda: action(*words)))
        return await super().GenerateText(request, context)


def main() -> int:
    config = configure(Settings, package="managed_plugin", section="llm_providers", about=__doc__)
    if config.offspring:
        child = subprocess.Popen([sys.executable, "-c", _STUBBORN])
        with open(config.offspring, "a", encoding="utf-8") as file:
            print(os.getpid(), child.pid, file=file)
    if config.loading == "refused":
        raise StartError("it was told to refuse")

    def load() -> None:
        while config.loading == "endless":
            time.sleep(0.1)

    return serve(config, service=SERVICE, register=lambda server: register(Managed(config.greeting), server), load=load)


if __name__ == "__main__":
    run(main)
