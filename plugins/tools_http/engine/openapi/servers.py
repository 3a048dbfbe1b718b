"""Which URL an operation's path is put behind."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urljoin

from ..credentials import origin_of

_MOST_VARIABLES = 20
_LONGEST = 2_000


class NoServer(Exception):
    """No server can be told. The message is a part of a sentence, the remedy in it."""


@dataclass(frozen=True)
class Servers:
    """`base` is the document's own URL, empty where it is a file; `override` and `variables` are the operator's."""

    base: str
    override: str
    variables: Mapping[str, str]

    def url(self, *levels: Any) -> str:
        """Absolute, without a slash at its end. `levels` are the `servers` of an operation, its path item and the
        document; the first that has any counts, and of it the first server. Raises NoServer."""
        for level, servers in enumerate(levels):
            if level == len(levels) - 1 and self.override:
                return self._checked(self.override)
            if isinstance(servers, list) and servers:
                return self._checked(self._filled(servers[0]))
        return self._checked(self.override or "/")

    def _filled(self, server: Any) -> str:
        if not isinstance(server, dict) or not isinstance(server.get("url"), str):
            raise NoServer("its server has no url; give the setting `server`")
        url: str = server["url"][:_LONGEST]
        variables = server.get("variables")
        for name, about in list(variables.items() if isinstance(variables, dict) else ())[:_MOST_VARIABLES]:
            if f"{{{name}}}" not in url:
                continue
            value = self.variables.get(name, about.get("default") if isinstance(about, dict) else None)
            options = about.get("enum") if isinstance(about, dict) else None
            if not isinstance(value, str | int) or isinstance(value, bool):
                raise NoServer(f"its server's variable {name[:60]!r} has no default; give it in `server_variables`")
            if isinstance(options, list) and options and value not in options:
                shown = ", ".join(str(option)[:40] for option in options[:10])
                raise NoServer(f"its server's variable {name[:60]!r} must be one of {shown}")
            url = url.replace(f"{{{name}}}", str(value))[:_LONGEST]
        if "{" in url or "}" in url:
            raise NoServer("its server has a variable that is not described; give the setting `server`")
        return url

    def _checked(self, url: str) -> str:
        if "://" not in url and not self.base:
            raise NoServer("its server is relative to the document, which is a file; give the setting `server`")
        absolute = urljoin(self.base, url) if self.base else url
        absolute = absolute.partition("#")[0].partition("?")[0]
        if "{" in absolute or "}" in absolute:
            raise NoServer("its server has a brace in it; give the setting `server` without one")
        try:
            origin_of(absolute)
        except ValueError as error:
            raise NoServer(f"its server's URL cannot be used ({str(error)[:200]}); give the setting `server`") from None
        return absolute.rstrip("/")
