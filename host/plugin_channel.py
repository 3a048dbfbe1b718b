"""A channel to a plugin that outlives the plugin's processes: each call waits while the plugin is between two of them
(`host/gate.py`), goes to where the plugin listens by then, and takes no longer than `security.timeout`.

It is a grpc.Channel, so generated stubs take it: DatabaseProviderStub(PluginChannel("vectors", locate)).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import grpc

from host import gate
from shared.client import Address, channel

_AGAIN_SECONDS = 0.1
_GRACE_SECONDS = 1.0  # a plugin that holds the bound itself says so in better words


class PluginChannel(grpc.Channel):
    """Calls raise PluginAwayError where the plugin does not come back, beside what gRPC raises."""

    def __init__(
        self, name: str, locate: Callable[[], Address], state: Path | None = None, timeout: float | None = None
    ) -> None:
        """`locate` says where the plugin listens, each time anew. `state` is the folder of the host that runs it; None:
        nobody starts it anew meanwhile. `timeout` bounds each call, in seconds."""
        self._name, self._locate, self._state = name, locate, state
        self._timeout = timeout + _GRACE_SECONDS if timeout else None
        self._lock = threading.Lock()
        self._dialled: tuple[Address, grpc.Channel] | None = None
        self._old: list[grpc.Channel] = []  # on which calls may be under way

    def unary_unary(self, *arguments: Any, **options: Any) -> Any:
        return _Call(self, lambda dialled: dialled.unary_unary(*arguments, **options))

    def unary_stream(self, *arguments: Any, **options: Any) -> Any:
        return _Stream(self, lambda dialled: dialled.unary_stream(*arguments, **options))

    def stream_unary(self, *arguments: Any, **options: Any) -> Any:
        return _Call(self, lambda dialled: dialled.stream_unary(*arguments, **options), bounded=False)

    def stream_stream(self, *arguments: Any, **options: Any) -> Any:
        return _Stream(self, lambda dialled: dialled.stream_stream(*arguments, **options), bounded=False)

    def subscribe(self, callback: Any, try_to_connect: bool = False) -> None:
        self.dialled().subscribe(callback, try_to_connect)

    def unsubscribe(self, callback: Any) -> None:
        self.dialled().unsubscribe(callback)

    def close(self) -> None:
        with self._lock:
            for each in [*self._old, *([self._dialled[1]] if self._dialled else [])]:
                each.close()
            self._dialled, self._old = None, []

    def __enter__(self) -> PluginChannel:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def waits(self) -> bool:
        return self._state is not None

    def passed(self) -> ExitStack:
        """To be closed when the call is over; until then the plugin stays."""
        stack = ExitStack()
        if self._state:
            stack.enter_context(gate.calling(self._state, self._name))
        return stack

    def dialled(self) -> grpc.Channel:
        address = self._locate()
        with self._lock:
            if self._dialled and self._dialled[0] == address:
                return self._dialled[1]
            if self._dialled:
                self._old.append(self._dialled[1])
            self._dialled = address, channel(address)
            return self._dialled[1]

    def bound(self, timeout: float | None) -> float | None:
        return min((each for each in (timeout, self._timeout) if each is not None), default=None)


def _never_sent(error: Any) -> bool:
    """Whether there was no connection to send the call on, so that it can be made again without being made twice."""
    unavailable = error.code() == grpc.StatusCode.UNAVAILABLE
    return unavailable and "failed to connect to all addresses" in (error.details() or "")


class _Call:
    """A multi-callable with one reply."""

    def __init__(self, owner: PluginChannel, make: Callable[[grpc.Channel], Any], *, bounded: bool = True) -> None:
        self._owner, self._make, self._bounded = owner, make, bounded
        self._again = bounded and owner.waits  # a request that is one message can be sent again

    def __call__(self, request: Any, timeout: float | None = None, **options: Any) -> Any:
        deadline = time.monotonic() + gate.WAIT_SECONDS
        while True:
            with self._owner.passed():
                try:
                    return self._bare()(request, timeout=self._bound(timeout), **options)
                except grpc.RpcError as error:
                    if not (self._again and _never_sent(error) and time.monotonic() < deadline):
                        raise
            time.sleep(_AGAIN_SECONDS)  # its process has ended, and the host is about to see it

    def with_call(self, request: Any, timeout: float | None = None, **options: Any) -> Any:
        with self._owner.passed():
            return self._bare().with_call(request, timeout=self._bound(timeout), **options)

    def future(self, request: Any, timeout: float | None = None, **options: Any) -> Any:
        return self._begun(lambda: self._bare().future(request, timeout=self._bound(timeout), **options))

    def _begun(self, begin: Callable[[], Any]) -> Any:
        """The call; whatever becomes of it, the plugin may go afterwards."""
        passed = self._owner.passed()
        try:
            call = begin()
        except BaseException:
            passed.close()
            raise
        if not call.add_callback(passed.close):
            passed.close()
        return call

    def _bare(self) -> Any:
        return self._make(self._owner.dialled())

    def _bound(self, timeout: float | None) -> float | None:
        return self._owner.bound(timeout) if self._bounded else timeout


class _Stream(_Call):
    """A multi-callable whose replies are iterated."""

    def __call__(self, request: Any, timeout: float | None = None, **options: Any) -> Any:
        return self._begun(lambda: self._bare()(request, timeout=self._bound(timeout), **options))
