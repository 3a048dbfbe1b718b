"""Which answers are bugs: no input may make a plugin say INTERNAL, or UNKNOWN, which is what an exception becomes."""

from __future__ import annotations

from tests.fuzz.http2 import Connection

BUGS = {"2": "UNKNOWN", "13": "INTERNAL"}
# What gRPC itself says, before a plugin sees anything of the call: of HTTP/2 that is broken, of headers that it cannot
# read, and, as its specification demands, of a compressed message that cannot be unpacked.
OF_GRPC = (
    "Failed parsing HTTP/2",
    "Compression bit set but no encoding configured",
    "Error parsing '",
    "Illegal header key",
    "Metadata keys cannot be zero length",
    "Decompression failed",
    "Duplicate 'host' header",
)


def bug_of(connection: Connection, stream: int) -> str:
    """The code and the message with which the stream ended where they are a bug's, else an empty text."""
    code, message = BUGS.get(connection.statuses.get(stream, "")), connection.messages.get(stream, "")
    return f"{code} ({message})" if code and not message.startswith(OF_GRPC) else ""
