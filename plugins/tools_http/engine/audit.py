"""The one log line of a call: what was asked of whom, and how it ended. No secret, no query."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any

from shared import logs

from .tool import Audit


class Line:
    """Written once: by the run of a tool, or where none began by the call.

    `event=tool_call`, or `event=security` where the policy or robots.txt refused.
    """

    def __init__(self, tool: str, clean: Callable[[str], str] = str) -> None:
        """`clean` takes secrets out: a server can redirect to a host that is named like our key."""
        self.audit = Audit()
        self.in_run = False  # the run writes it
        self._tool, self._clean, self._began = tool, clean, time.monotonic()

    def write(self, outcome: str, *, repeated: bool = False) -> None:
        audit = self.audit
        fields: dict[str, Any] = {"tool": self._tool, "host": self._clean(audit.host), "status": audit.status}
        fields |= {"bytes": audit.bytes, "rule": audit.rule, "code": outcome}
        if repeated:
            fields["repeated"] = True
        fields["ms"] = round((time.monotonic() - self._began) * 1000, 2)
        refused = outcome.startswith(("BLOCKED_", "ROBOTS_"))
        logs.event("security" if refused else "tool_call", level=logging.WARNING if refused else logging.INFO, **fields)
