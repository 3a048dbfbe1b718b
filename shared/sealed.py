"""What a server hands out and gets back as it was: bytes that only the holder of the key can make.

Whoever has them can read them; nobody can change them. For the state of a run, which any server with the key goes on
from.
"""

from __future__ import annotations

import hmac
import json
from typing import Any

from .errors import InvalidArgument

SHORTEST_KEY = 16  # bytes
_VERSION = b"sealed1\0"
_MAC_BYTES = 32


class Sealed:
    def __init__(self, key: bytes) -> None:
        """`key`: at least SHORTEST_KEY bytes, as `openssl rand -hex 32` gives them."""
        if len(key) < SHORTEST_KEY:
            raise ValueError(f"a key must have at least {SHORTEST_KEY} characters; `openssl rand -hex 32` makes one")
        self._key = key

    def seal(self, value: Any) -> bytes:
        """`value`, which JSON can hold, and its HMAC-SHA256."""
        data = _VERSION + json.dumps(value, separators=(",", ":"), sort_keys=True).encode()
        return data + self._mac(data)

    def open(self, state: bytes, field: str = "state") -> Any:
        """The value that was sealed. Raises InvalidArgument, naming `field`, where these are not the bytes."""
        data, mac = state[:-_MAC_BYTES], state[-_MAC_BYTES:]
        if not hmac.compare_digest(self._mac(data), mac):
            raise InvalidArgument(
                f"{field} is not as this server, or another with its key, has sent it out; send it unchanged, or begin "
                "anew",
                reason="STATE_TAMPERED",
                field=field,
            )
        if not data.startswith(_VERSION):
            raise InvalidArgument(
                f"{field} is of another version of this server; begin anew", reason="STATE_VERSION", field=field
            )
        return json.loads(data.removeprefix(_VERSION))

    def _mac(self, data: bytes) -> bytes:
        return hmac.digest(self._key, data, "sha256")
