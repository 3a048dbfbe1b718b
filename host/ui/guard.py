"""Who may ask the page's server: the page that it served itself, opened by whoever was told the token.

Whatever a browser has open can send requests to 127.0.0.1, and can have a name of its own point there. So `Host` has
to name this machine's loopback, which a name that was bent to it does not; `Origin` and `Sec-Fetch-Site`, where a
browser sends them, have to be this page's; and everything under /api/ wants the token in a header, which no other page
can set without asking first. There are no cookies. Other users of the machine lack the token.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse, Response

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

# Any port: of a tunnel, as `ssh -L` makes it, the browser's end may have another.
_LOOPBACK = re.compile(r"(?:127\.0\.0\.1|localhost|\[::1\])(?::[0-9]{1,5})?")
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=(), payment=(), usb=()",
    "Cache-Control": "no-store",
}


class Guard:
    """Middleware: refuses, or passes on and adds HEADERS to the answer."""

    def __init__(self, app: App, token: str) -> None:
        self._app, self._token = app, token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":  # a WebSocket: there is none here
            await send({"type": "websocket.close", "code": 1008})
            return

        async def with_headers(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        refused = self._refused(scope["method"], scope["path"], Headers(scope=scope))
        await (refused or self._app)(scope, receive, with_headers)

    def _refused(self, method: str, path: str, headers: Headers) -> Response | None:
        hosts, origins = headers.getlist("host"), headers.getlist("origin")
        if len(hosts) != 1 or not _LOOPBACK.fullmatch(hosts[0].lower()):
            return refusal(403, "This page is served to this machine alone: open it at http://127.0.0.1 and its port.")
        if origins and origins != [f"http://{hosts[0]}"]:
            return refusal(403, "Requests of other pages are refused.")
        is_api = path.startswith("/api/")
        if is_api and headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
            return refusal(403, "Requests of other pages are refused.")
        if method not in (("GET", "POST") if is_api else ("GET", "HEAD")):
            return refusal(405, "There is no such method here.")
        if is_api and not self._knows_token(headers.getlist("authorization")):
            return refusal(401, "The token is missing or of an earlier start: open the address that `serve` printed.")
        if method == "POST" and headers.get("content-type", "").partition(";")[0].strip() != "application/json":
            return refusal(415, "A request here is JSON.")
        return None

    def _knows_token(self, credentials: list[str]) -> bool:
        if len(credentials) != 1:
            return False
        scheme, _, given = credentials[0].partition(" ")
        return scheme == "Bearer" and hmac.compare_digest(given.encode("utf-8", "replace"), self._token.encode())


def refusal(status: int, message: str) -> Response:
    return JSONResponse({"error": message}, status)
