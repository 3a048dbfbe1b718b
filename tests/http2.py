"""HTTP/2 by hand, for what no gRPC client can be made to do: stop in the middle, never read, send any path."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager

DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
END_STREAM, ACK, END_HEADERS = 1, 1, 4
_INITIAL_WINDOW = 4  # a setting
_CHUNK = 16_384


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def message(payload: bytes, announced: int | None = None) -> bytes:
    """A gRPC message, or the beginning of one that is `announced` to be longer."""
    return b"\0" + struct.pack(">I", len(payload) if announced is None else announced) + payload


def headers(path: bytes, *more: tuple[bytes, bytes]) -> bytes:
    """A header block without compression."""
    fields = [
        (b":method", b"POST"),
        (b":scheme", b"http"),
        (b":path", path),
        (b":authority", b"localhost"),
        (b"te", b"trailers"),
        (b"content-type", b"application/grpc"),
        *more,
    ]
    return b"".join(b"\0" + bytes([len(name)]) + name + bytes([len(value)]) + value for name, value in fields)


class Connection:
    """One to `address` (HOST:PORT), whose peer may send `window` bytes in each stream and not one more."""

    def __init__(self, address: str, *, window: int = 65_535) -> None:
        host, _, port = address.rpartition(":")
        self.socket = socket.create_connection((host, int(port)), timeout=60)
        self._unread = b""
        self._window = {0: 65_535}  # what may be sent, in all and in each stream
        self._first_window = 65_535
        self.socket.sendall(
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(SETTINGS, 0, 0, struct.pack(">HI", _INITIAL_WINDOW, window))
        )
        self._read_one(0)  # the settings, which are acknowledged: else the connection ends after 5 seconds

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def call(self, stream: int, path: str | bytes, body: bytes | None = None) -> None:
        """A call with a whole message, or without any where `body` is None; never ended by this side then."""
        raw = path if isinstance(path, bytes) else path.encode()
        data = frame(HEADERS, END_HEADERS, stream, headers(raw))
        if body is not None:
            data += frame(DATA, END_STREAM, stream, message(body))
        self.send(data)

    def upload(self, stream: int, path: str, *, announced: int, sent: int) -> bool:
        """Sends the first `sent` bytes of a message as fast as the peer lets it; False where the peer ends it."""
        self.call(stream, path)
        data = message(b"", announced)
        while sent > 0:
            room = min(self._window[0], self._window.get(stream, self._first_window))
            size = min(room - len(data), _CHUNK - len(data), sent)
            if size <= 0:
                if not self._read_one(stream):
                    return False
                continue
            data += b"x" * size
            try:
                self.send(frame(DATA, 0, stream, data))
            except OSError:
                return False
            self._window[0] -= len(data)
            self._window[stream] = self._window.get(stream, self._first_window) - len(data)
            sent, data = sent - size, b""
        return True

    def read_frame(self) -> tuple[int, int, int, bytes]:
        """(kind, flags, stream, payload). Raises OSError where the connection ends."""
        while len(self._unread) < 9 or len(self._unread) < 9 + int.from_bytes(self._unread[:3], "big"):
            more = self.socket.recv(65_536)
            if not more:
                raise ConnectionResetError
            self._unread += more
        size = int.from_bytes(self._unread[:3], "big")
        kind, flags = self._unread[3], self._unread[4]
        stream = int.from_bytes(self._unread[5:9], "big")
        payload, self._unread = self._unread[9 : 9 + size], self._unread[9 + size :]
        return kind, flags, stream, payload

    def _read_one(self, stream: int) -> bool:
        """Takes in a frame; False where it ends the stream or the connection."""
        try:
            kind, flags, of, payload = self.read_frame()
        except OSError:
            return False
        try:
            if kind == WINDOW_UPDATE:
                self._window[of] = self._window.get(of, self._first_window) + int.from_bytes(payload, "big")
            elif kind == SETTINGS and not flags & ACK:
                self._settings(payload)
            elif kind == PING and not flags & ACK:
                self.send(frame(PING, ACK, 0, payload))
        except OSError:  # it has ended the connection since
            return False
        return not (kind == GOAWAY or (of == stream and (kind == RST_STREAM or flags & END_STREAM)))

    def _settings(self, payload: bytes) -> None:
        for start in range(0, len(payload), 6):
            name, value = struct.unpack(">HI", payload[start : start + 6])
            if name == _INITIAL_WINDOW:
                for stream in self._window.keys() - {0}:
                    self._window[stream] += value - self._first_window
                self._first_window = value
        self.send(frame(SETTINGS, ACK, 0))


@contextmanager
def connections(address: str, count: int, *, window: int = 65_535) -> Iterator[list[Connection]]:
    opened = [Connection(address, window=window) for _ in range(count)]
    try:
        yield opened
    finally:
        for connection in opened:
            connection.socket.close()


def at_once(jobs: list[threading.Thread], seconds: float) -> None:
    for job in jobs:
        job.start()
    for job in jobs:
        job.join(seconds)
        assert not job.is_alive()
