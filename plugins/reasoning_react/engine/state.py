"""A run as bytes that any server with the key can go on from, and nobody else can change.

    magic · version · key id · the run as JSON · HMAC-SHA256 of all that stands before

The JSON has each field of a run, those that say which run it is, when it ends and what its tools were among them, and
one run gives one text. Nothing of it is looked at before the HMAC was found right, so what opens is what was sealed.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Iterable, Sequence

from shared.errors import InvalidArgument, LimitReached, StartError

from .chat import Tool
from .left_out import lighten
from .run import Run
from .run_json import packed, packed_tool, unpacked

VERSION = 1  # of the JSON; one more whenever a field comes, goes or changes
SHORTEST_KEY = 32  # bytes

_MAGIC = b"hector-react"
_VERSION_BYTES, _ID_BYTES, _MAC_BYTES = 2, 8, 32
_HEADER = len(_MAGIC) + _VERSION_BYTES + _ID_BYTES


class Keys:
    """The key that seals, and those that open what was sealed with an older one."""

    def __init__(self, secret: bytes, older: Sequence[bytes] = ()) -> None:
        """Raises StartError where a secret is shorter than `SHORTEST_KEY`."""
        if any(len(one) < SHORTEST_KEY for one in (secret, *older)):
            raise StartError(
                f"state_key and older_state_keys must have at least {SHORTEST_KEY} characters; "
                "`openssl rand -hex 32` makes one"
            )
        self._by_id = {_derived(one, b"id")[:_ID_BYTES]: _derived(one, b"mac") for one in (*older, secret)}
        self.id = _derived(secret, b"id")[:_ID_BYTES]

    def mac(self, key_id: bytes, data: bytes | memoryview) -> bytes | None:
        """None: there is no such key."""
        key = self._by_id.get(key_id)
        return None if key is None else hmac.digest(key, data, "sha256")


def _derived(secret: bytes, purpose: bytes) -> bytes:
    return hmac.digest(secret, b"reasoning_react state " + purpose, "sha256")


def seal(run: Run, keys: Keys, *, most_bytes: int) -> bytes:
    """The run as a state of `most_bytes` at most. Where it would be larger, its oldest steps are left out of what the
    model is shown, and cut down, as far as it takes.

    Raises LimitReached (STATE_TOO_LARGE) where that is not enough, and InvalidArgument (BAD_STATE) where it holds what
    JSON cannot.
    """
    payload = _payload(run)
    while (over := _HEADER + len(payload) + _MAC_BYTES - most_bytes) > 0 and lighten(run, over + most_bytes // 8):
        payload = _payload(run)
    if over > 0:
        raise LimitReached(
            f"the state of the run would take {most_bytes + over:,} bytes, more than the {most_bytes:,} of "
            "max_state_bytes; send a shorter question, context, history or fewer tools, or raise it",
            reason="STATE_TOO_LARGE",
        )
    data = b"".join((_MAGIC, VERSION.to_bytes(_VERSION_BYTES), keys.id, payload))
    mac = keys.mac(keys.id, data)
    assert mac is not None
    return data + mac


def _payload(run: Run) -> bytes:
    try:
        text = json.dumps(packed(run), ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        raise InvalidArgument(
            "the run cannot be made a state: a tool's parameters or a number of it are nothing that JSON has, "
            "such as NaN, or too deep; send them as JSON",
            reason="BAD_STATE",
        ) from None
    return text.encode("utf-8", "surrogatepass")


def open_state(data: bytes, keys: Keys, *, now: float, most_bytes: int) -> Run:
    """The run that a state was made of. `now`: Unix time in seconds. `most_bytes`: of a state that is looked at.

    Raises InvalidArgument: BAD_STATE, STATE_VERSION, STATE_KEY_UNKNOWN, STATE_TAMPERED, STATE_EXPIRED.
    """
    if not data:
        raise _refused("BAD_STATE", "the state is empty; send that of Initialize's or of the last step's reply")
    if not data.startswith(_MAGIC) or len(data) < _HEADER + _MAC_BYTES:
        raise _refused("BAD_STATE", "the state is none of this strategy's; send that of the last reply, unchanged")
    if len(data) > most_bytes:
        raise _refused(
            "BAD_STATE", f"the state has {len(data):,} bytes, more than the {most_bytes:,} of max_state_bytes; raise it"
        )
    version = int.from_bytes(data[len(_MAGIC) : _HEADER - _ID_BYTES])
    if version != VERSION:
        raise _refused(
            "STATE_VERSION",
            f"the state is of version {version} and this server reads {VERSION}; "
            "go on with the release that made it, or begin anew with Initialize",
        )
    mac = keys.mac(data[_HEADER - _ID_BYTES : _HEADER], memoryview(data)[:-_MAC_BYTES])
    if mac is None:
        raise _refused(
            "STATE_KEY_UNKNOWN",
            "the state was made with a key that this server does not have; set the same state_key on every server, and "
            "former ones as older_state_keys, or begin anew with Initialize",
        )
    if not hmac.compare_digest(mac, data[-_MAC_BYTES:]):
        raise _refused("STATE_TAMPERED", "the state is not as it was sent out; send that of the last reply, unchanged")
    try:
        run = unpacked(json.loads(data[_HEADER:-_MAC_BYTES].decode("utf-8", "surrogatepass")))
    except (TypeError, ValueError, KeyError, RecursionError):
        raise _refused(
            "BAD_STATE", "the state has other fields than this server knows; begin anew with Initialize"
        ) from None
    if now >= run.expires:
        raise _refused(
            "STATE_EXPIRED",
            f"the state expired {now - run.expires:,.0f} s ago; begin anew with Initialize, or raise state_ttl",
        )
    return run


def _refused(reason: str, message: str) -> InvalidArgument:
    return InvalidArgument(message, reason=reason, field="state")


def digest_of(tools: Iterable[Tool]) -> dict[str, str]:
    """Name → what changes when anything of the tool does. Raises InvalidArgument where its parameters are no JSON."""
    return {tool.name: _digest(tool) for tool in tools}


def _digest(tool: Tool) -> str:
    try:
        text = json.dumps(packed_tool(tool), sort_keys=True, separators=(",", ":"), allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        raise InvalidArgument(
            f"the parameters of the tool {tool.name[:100]} are no JSON, or too deep; send a JSON Schema of type object"
        ) from None
    return hashlib.sha256(text.encode()).hexdigest()[:32]
