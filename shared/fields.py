"""What a plugin does with the fields that it does not know: it says so, rather than answer another question."""

from __future__ import annotations

from google.protobuf.message import Message

from .errors import Unsupported


def take_only(message: Message, *names: str) -> None:
    """Raises Unsupported where `message` has a field set that is not one of `names`."""
    for field, _ in message.ListFields():
        if field.name not in names:
            raise Unsupported(f"this plugin does not have `{field.name}`; leave it out", field=field.name)
