"""What goes with every call of another plugin."""

from __future__ import annotations

import re

from shared import logs
from shared.client import Address


def who(name: str, address: Address) -> str:
    """A provider, for messages: by its name, or where it was given none by the address that is in the settings. A path
    of this machine is nobody else's business."""
    is_numbered = re.fullmatch(r"server_[0-9]+", name) is not None
    return address.address if is_numbered and not address.address.startswith("unix:") else name


def without_token(text: str, address: Address) -> str:
    """What a provider says, if it says the token that it was called with."""
    token = address.token.reveal()
    return text.replace(token, "***") if token else text


def metadata(address: Address) -> tuple[tuple[str, str], ...]:
    """The credentials, and the id of the call that this one is made for: it ties the lines of all logs together."""
    current = logs.request_id.get()
    return (*address.metadata, ("x-request-id", current)) if current else address.metadata
