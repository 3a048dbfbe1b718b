"""For the tests of the host's plugin manager: a host as a process of its own, and calls made through it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import hector_plugins_pb2 as pb
import yaml
from hector_plugins_pb2_grpc import LLMProviderStub

from host import run_file
from host.config import load
from host.modules import import_path
from host.plugin_channel import PluginChannel
from shared.client import Address

PLUGIN = Path(__file__).with_name("managed_plugin.py")
SECONDS = 120.0  # longest wait for anything; a busy machine is slow


def until(condition: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + SECONDS
    while not (value := condition()):
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)
    return value


def gone(pid: int) -> bool:
    """Whether it has ended; where nobody has reaped it, too."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def write(folder: Path, blocks: Mapping[str, Any], **rest: Any) -> Path:
    """The YAML of a host with these LLM plugins, each run from PLUGIN unless its block has another path."""
    file = folder / "hector.yaml"
    providers = {name: {"path": str(PLUGIN), **block} for name, block in blocks.items()}
    # As an editor does it: the old content or the new, never a part.
    other = folder / "hector.yaml.new"
    other.write_text(yaml.safe_dump({"plugins": {"llm_providers": providers, **rest.pop("plugins", {})}, **rest}))
    other.replace(file)
    return file


class Host:
    """`python -m host serve` on a YAML, its stderr in a file."""

    def __init__(self, file: Path, *arguments: str, environment: Mapping[str, str] | None = None) -> None:
        self.file, self.state = file, file.parent / ".hector"
        self._stderr = file.parent / "host.stderr"
        with self._stderr.open("w") as stderr:
            self.process = subprocess.Popen(
                command("serve", *arguments, "--config", str(file)),
                stdout=subprocess.DEVNULL,
                stderr=stderr,
                env=environ(environment or {}),
                start_new_session=True,
            )

    @property
    def stderr(self) -> str:
        return self._stderr.read_text()

    def ready(self) -> run_file.RunFile:
        """Once every plugin has been SERVING."""
        run = until(lambda: run_file.read(self.state) or self.process.poll() is not None)
        assert isinstance(run, run_file.RunFile), self.stderr
        return run

    def plugin(self, name: str) -> Mapping[str, Any]:
        """What run.json says of it."""
        run = run_file.read(self.state)
        return run.plugins.get(name, {}) if run else {}

    def pid(self, name: str) -> int:
        return int(until(lambda: self.plugin(name).get("pid")))

    def ask(self, name: str, prompt: str, **options: Any) -> str:
        """The text that the plugin answers to a call made through the host."""
        with self.channel(name) as opened:
            return str(LLMProviderStub(opened).GenerateText(pb.GenerateTextRequest(prompt=prompt), **options).text)

    def channel(self, name: str) -> PluginChannel:
        return PluginChannel(name, lambda: Address(self.plugin(name)["address"]), self.state)

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(SECONDS)


@contextmanager
def serving(file: Path, *arguments: str, environment: Mapping[str, str] | None = None) -> Iterator[Host]:
    host = Host(file, *arguments, environment=environment)
    try:
        host.ready()
        yield host
    finally:
        if host.process.poll() is None:
            host.end()


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "host", *arguments]


def environ(extra: Mapping[str, str]) -> dict[str, str]:
    return {**os.environ, **extra, "PYTHONPATH": import_path("", Path.cwd())}


def run(*arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    """A command of the host's that ends by itself."""
    return subprocess.run(
        command(*arguments), capture_output=True, text=True, env=environ({}), check=check, timeout=SECONDS
    )


def problems(file: Path) -> str:
    """Of a YAML that the host refuses."""
    load(file)
    done = run("serve", "--config", str(file), check=False)
    assert done.returncode == 2, done.stderr
    return done.stderr.splitlines()[-1]
