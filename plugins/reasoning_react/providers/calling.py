"""What goes with every call of another plugin."""

from __future__ import annotations

from shared import logs
from shared.client import Address


def metadata(address: Address) -> tuple[tuple[str, str], ...]:
    """The credentials, and the id of the call that this one is made for: it ties the lines of all logs together."""
    current = logs.request_id.get()
    return (*address.metadata, ("x-request-id", current)) if current else address.metadata
