"""HTTP/2 by hand: a connection that sends any frame in any order, and reads what comes back.

The `h2` package refuses to break the protocol, so only its parts are used: `hyperframe` makes frames, `hpack` headers.
"""

from __future__ import annotations

import contextlib
import socket
import struct
from collections.abc import Iterable, Mapping
from typing import Any

import hpack
from hyperframe import exceptions
from hyperframe.frame import (
    DataFrame,
    Frame,
    GoAwayFrame,
    HeadersFrame,
    PingFrame,
    RstStreamFrame,
    SettingsFrame,
    WindowUpdateFrame,
)

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
FRAME = 16_384  # most bytes of a frame that every server takes
WINDOW = 65_535
KEPT = 65_536  # bytes of what was sent that are kept for a report
Header = tuple[str | bytes, str | bytes]


class Connection:
    """One TCP connection to HOST:PORT. Raises OSError where the server has gone or does not read for `seconds`."""

    def __init__(
        self, address: str, *, settings: Mapping[int, int] | None = None, seconds: float = 1.0, greet: bool = True
    ) -> None:
        host, _, port = address.rpartition(":")
        self.sent = bytearray()
        self.statuses: dict[int, str] = {}  # stream → grpc-status, as text
        self.messages: dict[int, str] = {}  # stream → grpc-message
        self.ended = False  # the server has said GOAWAY or closed
        self._socket = socket.create_connection((host, int(port)), seconds)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._encoder, self._decoder = hpack.Encoder(), hpack.Decoder()
        self._received = b""
        self._next_stream = 1
        self._window = self._first_window = WINDOW
        self._windows: dict[int, int] = {}
        if greet:
            self.send(PREFACE, SettingsFrame(0, settings=dict(settings or {})))

    def send(self, *parts: bytes | Frame) -> None:
        data = b"".join(part if isinstance(part, bytes) else part.serialize() for part in parts)
        self.sent += data[: KEPT - len(self.sent)]
        self._socket.sendall(data)

    def headers(self, path: str | bytes, token: str = "", extra: Iterable[Header] = (), **pseudo: str | bytes) -> bytes:
        """A header block as a gRPC client would send it. `pseudo` replaces: method, scheme, authority, content_type."""
        fields: list[Header] = [
            (":method", pseudo.get("method", "POST")),
            (":scheme", pseudo.get("scheme", "http")),
            (":path", path),
            (":authority", pseudo.get("authority", "localhost")),
            ("te", "trailers"),
            ("content-type", pseudo.get("content_type", "application/grpc")),
        ]
        if token:
            fields.append(("authorization", f"Bearer {token}"))
        # Not compressed: that would cost the attacker more than it costs the server.
        return bytes(self._encoder.encode([*fields, *extra], huffman=False))

    def open(self, path: str | bytes, token: str = "", extra: Iterable[Header] = (), **pseudo: str | bytes) -> int:
        """Begins a call, and gives its stream's number."""
        return self.open_with(self.headers(path, token, extra, **pseudo))

    def open_with(self, block: bytes, *flags: str) -> int:
        """As `open`, with the header block given. `flags` come on top of END_HEADERS."""
        stream, self._next_stream = self._next_stream, self._next_stream + 2
        frame = HeadersFrame(stream, block)
        frame.flags |= {"END_HEADERS", *flags}
        self.send(frame)
        return stream

    def message(
        self, stream: int, payload: bytes, *, length: int | None = None, flag: int = 0, end: bool = False
    ) -> None:
        """A gRPC message with the length and the compressed flag that are given, true or not."""
        data = struct.pack(">BI", flag, len(payload) if length is None else length) + payload
        self.data(stream, data, end=end)

    def message_whole(self, stream: int, payload: bytes, *, end: bool = True, seconds: float = 1.0) -> None:
        """As `message`, however large it is; gives up after `seconds` without room."""
        data = struct.pack(">BI", 0, len(payload)) + payload
        waits = 20
        for _ in range(waits):
            data = data[self.data(stream, data, end=end) :]
            if not data or self.ended or stream in self.statuses:
                return
            self.read(seconds / waits)

    def data(self, stream: int, data: bytes, *, end: bool = False) -> int:
        """As much of `data` as the server's windows have room for; gives how many bytes that was."""
        self.read()
        room = self._room(stream)
        end = end and len(data) <= room
        data = data[:room]
        self._window -= len(data)
        self._windows[stream] = self._windows.get(stream, self._first_window) - len(data)
        starts = range(0, len(data), FRAME) if data else [0]
        frames = [DataFrame(stream, data[start : start + FRAME]) for start in starts]
        if end:
            frames[-1].flags.add("END_STREAM")
        self.send(*frames)
        return len(data)

    def _room(self, stream: int) -> int:
        return max(0, min(self._window, self._windows.get(stream, self._first_window)))

    def reset(self, stream: int, error: int = 8) -> None:
        self.send(RstStreamFrame(stream, error_code=error))

    def read(self, seconds: float = 0.0) -> None:
        """Takes in what has come, `seconds` at most for something to come; answers settings and pings."""
        before = self._socket.gettimeout()
        self._socket.settimeout(seconds or 0.0)
        try:
            while data := self._socket.recv(2**18):
                self._received += data
                self._socket.settimeout(0.0)
            self.ended = True
        except (BlockingIOError, TimeoutError):
            pass
        finally:
            self._socket.settimeout(before)
        while frame := self._next_frame():
            self._take(frame)

    def wait(self, stream: int, seconds: float) -> str:
        """The stream's grpc-status, or an empty text where none came."""
        waits = 10
        for _ in range(waits):
            if stream in self.statuses or self.ended:
                break
            self.read(seconds / waits)
        return self.statuses.get(stream, "")

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._socket.close()

    def _next_frame(self) -> Frame | None:
        if len(self._received) < 9:
            return None
        length = int.from_bytes(self._received[:3], "big")
        if len(self._received) < 9 + length:
            return None
        head, body = memoryview(self._received[:9]), memoryview(self._received[9 : 9 + length])
        self._received = self._received[9 + length :]
        frame, _ = Frame.parse_frame_header(head)
        try:
            frame.parse_body(body)
        except exceptions.HyperframeError:
            return Frame(0)
        return frame

    def _take(self, frame: Any) -> None:
        if isinstance(frame, SettingsFrame) and "ACK" not in frame.flags:
            first = frame.settings.get(SettingsFrame.INITIAL_WINDOW_SIZE, self._first_window)
            for stream in self._windows:
                self._windows[stream] += first - self._first_window
            self._first_window = first
            self.send(SettingsFrame(0, flags=["ACK"]))
        elif isinstance(frame, PingFrame) and "ACK" not in frame.flags:
            self.send(PingFrame(0, frame.opaque_data, flags=["ACK"]))
        elif isinstance(frame, WindowUpdateFrame):
            if frame.stream_id:
                self._windows[frame.stream_id] = (
                    self._windows.get(frame.stream_id, self._first_window) + frame.window_increment
                )
            else:
                self._window += frame.window_increment
        elif isinstance(frame, DataFrame) and frame.flow_controlled_length:
            self.send(
                WindowUpdateFrame(0, window_increment=frame.flow_controlled_length),
                WindowUpdateFrame(frame.stream_id, window_increment=frame.flow_controlled_length),
            )
        elif isinstance(frame, HeadersFrame):
            with contextlib.suppress(hpack.HPACKError):
                for name, value in self._decoder.decode(frame.data, raw=True):
                    if name == b"grpc-status":
                        self.statuses[frame.stream_id] = bytes(value).decode("latin-1")
                    elif name == b"grpc-message":
                        self.messages[frame.stream_id] = bytes(value).decode("latin-1")
        elif isinstance(frame, RstStreamFrame):
            self.statuses.setdefault(frame.stream_id, f"reset {frame.error_code}")
        elif isinstance(frame, GoAwayFrame):
            self.ended = True
