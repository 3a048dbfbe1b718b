"""How a command reaches its plugins: those of the running `serve`, or its own for as long as it runs.

with connect(config, [database.plugin, embedder.plugin]) as connections:
    reply = connections["vectors"].call(stub.SearchVectors, request, {})
"""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc

from host import run_file
from host.config import HostConfig, Plugin
from host.health import SERVING, wait_until_serving
from host.plugin_channel import PluginChannel
from host.supervisor import supervise
from shared.client import Address
from shared.errors import StartError

CALL_SECONDS = 300.0  # where no `timeout` says otherwise; a batch of texts can take a slow machine a while
_STARTING_SECONDS = 60.0  # a host that is just starting is waited for, as after `serve &`
_RUNNING_SECONDS = 40.0  # the running host may just be restarting a plugin, after 30 s at most


class CallFailed(StartError):
    """A plugin said no (`answered`), or did not answer, and then what it was asked for may be done or not.

    The message is one line that names the plugin; `code` is the canonical one.
    """

    def __init__(self, message: str, code: int, *, answered: bool) -> None:
        super().__init__(message)
        self.code = code
        self.answered = answered


@dataclass(frozen=True)
class Connection:
    """A plugin that answers."""

    name: str
    address: Address  # where it was to begin with
    channel: grpc.Channel
    seconds: float = CALL_SECONDS  # after which a call is given up
    located: Callable[[], Address] | None = None  # where it is by now, which may be another port; None: where it was
    readers: grpc.Channel | None = None  # to those that read beside it, in turn; None: it has none

    def call(
        self,
        rpc: grpc.UnaryUnaryMultiCallable[Any, Any],
        request: Any,
        metadata: dict[str, str],
        most_seconds: float = math.inf,
    ) -> Any:
        """The reply, which is a success. Raises CallFailed."""
        seconds = min(self.seconds, most_seconds)
        try:
            reply = rpc(request, timeout=seconds, metadata=(*self.address.metadata, *metadata.items()))
        except grpc.RpcError as error:
            code = error.code()
            details = " ".join((error.details() or "no details").split())
            raise CallFailed(f"{self}: {code.name}: {details}", code.value[0], answered=False) from None
        if not reply.success:
            raise CallFailed(f"{self}: {' '.join(reply.error.split())}", reply.status.code, answered=True)
        return reply

    def __str__(self) -> str:
        return f"plugin {self.name} at {self.address.address}"


@contextmanager
def connect(config: HostConfig, plugins: Iterable[Plugin]) -> Iterator[dict[str, Connection]]:
    """A connection for each of `plugins`, by name, all SERVING. Raises StartError."""
    wanted = {plugin.name: plugin for plugin in plugins}
    with ExitStack() as stack:
        run = running(config.state)
        if run is None or run.config != str(config.file):
            supervisor = stack.enter_context(supervise(config, wanted.values(), quiet=True))
            by_now: Callable[[], Mapping[str, str]] = supervisor.addresses
            addresses, state = _addresses(wanted.values(), by_now()), None
        else:
            addresses, state = _running(run, wanted.values()), config.state
            by_now = functools.partial(_listed, config.state)
        connections = {}
        for name, address in addresses.items():
            plugin = wanted[name]
            locate = functools.partial(_located, plugin, address, by_now)
            opened = PluginChannel(name, locate, state if plugin.path else None, plugin.timeout)
            stack.enter_context(opened)
            readers = None
            if state and (names := [each.name for each in config.plugins.values() if each.reader_of == name]):
                found = functools.partial(_readers, plugin, names, locate, by_now)
                readers = stack.enter_context(PluginChannel(name, found, None, plugin.timeout))
            connections[name] = Connection(name, address, opened, plugin.timeout or CALL_SECONDS, locate, readers)
        yield connections


def running(state: Path) -> run_file.RunFile | None:
    """Of the host that runs for this folder; None where there is none. One that is just starting is waited for. Raises
    StartError where it does not come."""
    deadline = time.monotonic() + _STARTING_SECONDS
    while (run := run_file.read(state)) is None and run_file.held(state):
        if time.monotonic() > deadline:
            raise StartError(f"a host is just starting or stopping in {state.parent}; try again in a moment")
        time.sleep(0.05)
    return run


def _located(plugin: Plugin, address: Address, by_now: Callable[[], Mapping[str, str]]) -> Address:
    """Where a plugin listens that was at `address`, and may have been started anew."""
    listens = by_now().get(plugin.name) if plugin.path else None
    return plugin.started_at(listens) if listens else address


def _readers(
    plugin: Plugin, names: Iterable[str], locate: Callable[[], Address], by_now: Callable[[], Mapping[str, str]]
) -> Address:
    """Of all that listen by now, for gRPC to choose from; the plugin's own while none does."""
    now = by_now()
    there = [address for name in names if (address := now.get(name))]
    return plugin.started_at("ipv4:" + ",".join(there)) if there else locate()


def _listed(state: Path) -> Mapping[str, str]:
    """Where the plugins of the running host are."""
    run = run_file.read(state)
    return run.addresses if run else {}


def _addresses(plugins: Iterable[Plugin], started: Mapping[str, str]) -> dict[str, Address]:
    return {plugin.name: plugin.address or plugin.started_at(started[plugin.name]) for plugin in plugins}


def _running(run: run_file.RunFile, plugins: Iterable[Plugin]) -> dict[str, Address]:
    for plugin in plugins:
        if plugin.path and plugin.name not in run.addresses:
            raise StartError(f"the running host (pid {run.pid}) has no plugin {plugin.name}; restart it")
    addresses = _addresses(plugins, dict(run.addresses))
    for name, address in addresses.items():
        answer = wait_until_serving(address, _RUNNING_SECONDS)
        if answer != SERVING:
            raise StartError(
                f"plugin {name} at {address.address} is {answer}, though the host runs (pid {run.pid}); "
                "see what that host printed, or restart it"
            )
    return addresses
