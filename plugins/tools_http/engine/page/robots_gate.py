"""Asks robots.txt before a page is fetched: through the same client, so under the same policy. Answers are kept."""

from __future__ import annotations

import asyncio
import json
import time
from collections import OrderedDict
from dataclasses import dataclass

from shared.errors import CallerError, Code, InvalidArgument, PermissionDenied

from .. import urls
from ..exchange import Client, Request
from ..tool import Call
from ..urls import Url
from . import robots
from .work import Work

_KEPT_FOR = 3_600.0  # seconds; the RFC allows a day
_FAILURE_KEPT_FOR = 60.0
_MOST_KEPT = 1_000  # origins
_MOST_BYTES = 16 * 2**20  # of all files that are kept
_SMALL = 4_096  # bytes: read here and now, within a millisecond; a larger file by a worker


class RobotsUnreachable(CallerError):
    """Whether it may be read cannot be said now."""

    code = Code.UNAVAILABLE
    reason = "ROBOTS_UNREACHABLE"


@dataclass
class _Kept:
    body: bytes | None  # None: it could not be had, which means "not now"
    until: float  # of time.monotonic()
    why: str = ""


class _Asking:
    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.calls = 0


class RobotsGate:
    """`agent` is our product token. Belongs to one event loop."""

    def __init__(self, client: Client, work: Work, *, agent: str) -> None:
        self._client, self._work, self._agent = client, work, agent
        self._kept: OrderedDict[str, _Kept] = OrderedDict()
        self._bytes = 0
        self._asking: dict[str, _Asking] = {}

    async def check(self, url: str, call: Call) -> None:
        """Raises PermissionDenied (ROBOTS_DISALLOWED) or RobotsUnreachable where `url` may not be read."""
        parsed = urls.parse(url)
        call.audit.host = parsed.host
        try:
            await self._check(parsed, call)
        except CallerError as error:
            call.audit.rule = error.metadata.get("rule", call.audit.rule)
            raise

    async def _check(self, parsed: Url, call: Call) -> None:
        origin = parsed.origin
        kept = await self._file(origin, call)
        if kept.body is None:
            raise RobotsUnreachable(
                f"{origin}/robots.txt cannot be read now ({kept.why}), and until it can no page of {parsed.host} may "
                "be: try again later, or have the operator change the setting robots",
                field="url",
                retry_after=max(1.0, kept.until - time.monotonic()),
                metadata={"rule": "robots", "setting": "robots"},
            )
        if rule := await self._forbidding(kept.body, str(parsed), call):
            raise PermissionDenied(
                f"{origin}/robots.txt does not allow {self._agent} to read this page (by `{rule}`): use another "
                "source, or have the operator change the setting robots",
                reason="ROBOTS_DISALLOWED",
                field="url",
                metadata={"rule": "robots", "setting": "robots"},
            )

    async def _forbidding(self, body: bytes, url: str, call: Call) -> str:
        if len(body) <= _SMALL:
            rule = robots.forbidding(body, self._agent, url)
            return str(rule)[:200] if rule else ""
        payload = json.dumps({"agent": self._agent, "url": url}).encode() + b"\n" + body
        answer = await self._work(robots.JOB, payload, seconds=max(0.01, call.deadline - time.monotonic()))
        return answer.decode("utf-8", "replace")[:200]

    async def _file(self, origin: str, call: Call) -> _Kept:
        """One call asks; others for the same origin wait for its answer."""
        asking = self._asking.setdefault(origin, _Asking())
        asking.calls += 1
        try:
            async with asking.lock:
                kept = self._kept.get(origin)
                if kept is None or kept.until <= time.monotonic():
                    kept = await self._fetched(origin, call)
                    self._keep(origin, kept)
                self._kept.move_to_end(origin)
                return kept
        finally:
            asking.calls -= 1
            if not asking.calls:
                del self._asking[origin]

    async def _fetched(self, origin: str, call: Call) -> _Kept:
        now = time.monotonic()
        try:
            response = await self._client.send(
                Request(method="GET", url=f"{origin}/robots.txt", headers=(("Accept", "text/plain, */*;q=0.1"),)),
                deadline=call.deadline,
            )
        except CallerError as error:
            if error.reason == "TOO_MANY_REDIRECTS":
                return _Kept(b"", now + _KEPT_FOR)
            if error.reason == "UPSTREAM_TIMEOUT":
                # It may have been this call that had little time.
                return _Kept(None, now, error.message[:200])
            if isinstance(error, PermissionDenied | InvalidArgument):
                raise  # by the policy, which the page would meet as well
            return _Kept(None, now + _FAILURE_KEPT_FOR, error.message[:200])
        if response.status >= 500:
            return _Kept(None, now + _FAILURE_KEPT_FOR, f"HTTP status {response.status}")
        if not 200 <= response.status < 300:
            return _Kept(b"", now + _KEPT_FOR)  # there is none: all may be read
        return _Kept(response.body[: robots.MOST_BYTES], now + _KEPT_FOR)

    def _keep(self, origin: str, kept: _Kept) -> None:
        if old := self._kept.pop(origin, None):
            self._bytes -= len(old.body or b"")
        self._kept[origin] = kept
        self._bytes += len(kept.body or b"")
        while len(self._kept) > 1 and (len(self._kept) > _MOST_KEPT or self._bytes > _MOST_BYTES):
            _, dropped = self._kept.popitem(last=False)
            self._bytes -= len(dropped.body or b"")
