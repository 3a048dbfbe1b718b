"""What a confined command asks for and does not do itself (`host/confine.py`), carried out by the tether where it is
allowed: `connect`, `listen`, a change of a file's mode.

It is done on a copy of the address, the socket and the file; what the command changes meanwhile changes nothing.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import ipaddress
import os
import platform
import socket
import struct
import threading
from collections.abc import Iterable, Sequence

from host.confine import NUMBERS, checked, libc

_PIDFD_GETFD = 438
_NOTIF_RECV, _NOTIF_SEND, _NOTIF_ID_VALID = 0xC0502100, 0xC0182101, 0x40082102
_NOTIF_BYTES, _LONGEST_ADDRESS = 80, 128
_LONGEST_PATH = 4096
_AT_FDCWD = 0xFFFFFF9C  # -100
_MOST_CONNECTS = 64  # under way at once


class Networks:
    """Which addresses may be dialled. `allowed` are ranges as ipaddress reads them."""

    def __init__(self, allowed: Iterable[str]) -> None:
        self._ranges = [ipaddress.ip_network(text) for text in allowed]

    def allow(self, host: str) -> bool:
        address = _address(host)
        if address.is_unspecified:  # Linux takes it for this machine
            address = ipaddress.ip_address("127.0.0.1" if address.version == 4 else "::1")
        return any(address in allowed for allowed in self._ranges)


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """An IPv4 address as one, also where IPv6 carries it."""
    address = ipaddress.ip_address(host.partition("%")[0])
    return getattr(address, "ipv4_mapped", None) or address


def answer(listener: int, networks: Networks, folders: Sequence[str]) -> None:
    """Carries out, in threads, what the confined processes ask for at `listener`, as far as it is allowed: TCP to
    `networks`, unix sockets below `folders` ("" is any); to listen on loopback, in `networks` and on unix ones."""
    slots = threading.Semaphore(_MOST_CONNECTS)
    roots = [os.path.realpath(folder) if folder else "" for folder in folders]

    def respond(request: bytes) -> None:
        try:
            failure = _carry_out(listener, request, networks, roots)
        except OSError as error:
            failure = error.errno or errno.EACCES
        except Exception:  # an address that is none
            failure = errno.EACCES
        finally:
            slots.release()
        response = struct.pack("=QqiI", struct.unpack_from("=Q", request)[0], 0, -failure, 0)
        with contextlib.suppress(OSError):  # it was interrupted or has ended
            _control(listener, _NOTIF_SEND, response)

    def receive() -> None:
        while True:
            request = ctypes.create_string_buffer(_NOTIF_BYTES)
            if libc.ioctl(listener, ctypes.c_ulong(_NOTIF_RECV), request) != 0:
                if ctypes.get_errno() in (errno.EINTR, errno.ENOENT):  # the latter: who asked is gone already
                    if _hung_up(listener):
                        return
                    continue
                return
            slots.acquire()
            threading.Thread(target=respond, args=(request.raw,), daemon=True).start()

    threading.Thread(target=receive, daemon=True).start()


def _hung_up(listener: int) -> bool:
    import select

    poll = select.poll()
    poll.register(listener, 0)
    return any(event & select.POLLHUP for _, event in poll.poll(0))


def _carry_out(listener: int, request: bytes, networks: Networks, roots: Sequence[str]) -> int:
    """0, or the number of the error that the caller is to see."""
    identity, thread, _, number = struct.unpack_from("=QIIi", request)
    first, second, third = struct.unpack_from("=3Q", request, 32)
    name = next(name for name, known in NUMBERS[platform.machine()].items() if known == number and name != "arch")

    def still_asks() -> None:
        # Only after this is it certain that what was read belongs to whoever asks, not to another of the same number.
        _control(listener, _NOTIF_ID_VALID, struct.pack("=Q", identity))

    if name in ("connect", "listen"):
        with socket.socket(fileno=_copied(thread, first)) as own:
            address = _read(thread, second, min(third & 0xFFFFFFFF, _LONGEST_ADDRESS)) if name == "connect" else b""
            still_asks()
            return _connect(own, address, networks, roots) if address else _listen(own, second & 0x7FFFFFFF, networks)
    place = _copied(thread, first) if name == "fchmod" else _opened(thread, name, first, second)
    try:
        still_asks()
        if not _is_below(place, roots):
            return errno.EPERM
        os.chmod(f"/proc/self/fd/{place}", (third if name == "fchmodat" else second) & 0o7777)
        return 0
    finally:
        os.close(place)


def _opened(thread: int, name: str, first: int, second: int) -> int:
    """The file that `chmod` and `fchmodat` name, pinned: nothing that happens to the path changes it any more."""
    path = os.fsdecode(_read(thread, first if name == "chmod" else second, _LONGEST_PATH).partition(b"\0")[0])
    if name == "chmod" or first & 0xFFFFFFFF == _AT_FDCWD:
        return os.open(os.path.join(f"/proc/{thread}/cwd", path), os.O_PATH | os.O_CLOEXEC)
    folder = _copied(thread, first)
    try:
        return os.open(path, os.O_PATH | os.O_CLOEXEC, dir_fd=folder)
    finally:
        os.close(folder)


def _is_below(place: int, roots: Sequence[str]) -> bool:
    real = os.readlink(f"/proc/self/fd/{place}")
    return any(f"{real}/".startswith(f"{root}/") for root in roots)


def _read(thread: int, where: int, length: int) -> bytes:
    with open(f"/proc/{thread}/mem", "rb", buffering=0) as memory:
        memory.seek(where)
        return memory.read(length)


def _connect(own: socket.socket, address: bytes, networks: Networks, roots: Sequence[str]) -> int:
    family = struct.unpack_from("=H", address)[0]
    if family != own.family:
        return errno.EACCES
    if family == socket.AF_UNIX:
        return _connect_unix(own, address[2:].partition(b"\0")[0], roots)
    host = socket.inet_ntop(family, address[4:8] if family == socket.AF_INET else address[8:24])
    if not networks.allow(host):
        return errno.EACCES
    return _as_it_is(own, address)


def _connect_unix(own: socket.socket, path: bytes, roots: Sequence[str]) -> int:
    if not path.startswith(b"/"):  # abstract, or relative to a folder that may change
        return errno.EACCES
    # Pinned first and looked at then: links on the way cannot be changed in between.
    place = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        if not _is_below(place, roots):
            return errno.EACCES
        return _as_it_is(own, struct.pack("=H", socket.AF_UNIX) + f"/proc/self/fd/{place}\0".encode())
    finally:
        os.close(place)


def _as_it_is(own: socket.socket, address: bytes) -> int:
    """By the C library: Python's would wait where the socket is not to, and write the address anew."""
    if libc.connect(own.fileno(), address, len(address)) == 0:
        return 0
    return ctypes.get_errno()


def _listen(own: socket.socket, backlog: int, networks: Networks) -> int:
    if not _may_listen(own, networks):
        return errno.EACCES
    if libc.listen(own.fileno(), backlog) != 0:
        return ctypes.get_errno()
    if not _may_listen(own, networks):  # a listening socket can be shut and bound anew, also in between
        own.shutdown(socket.SHUT_RDWR)
        return errno.EACCES
    return 0


def _may_listen(own: socket.socket, networks: Networks) -> bool:
    if own.family == socket.AF_UNIX:
        return True
    host, port = own.getsockname()[:2]
    address = _address(host)
    # A socket without a port would get one at every address of the machine.
    return port != 0 and (address.is_loopback or (not address.is_unspecified and networks.allow(host)))


def _copied(thread: int, descriptor: int) -> int:
    """What is open there, as a descriptor of this process."""
    process = os.pidfd_open(_process_of(thread))
    try:
        number = ctypes.c_int(descriptor & 0xFFFFFFFF)
        return checked(libc.syscall(_PIDFD_GETFD, process, number, ctypes.c_uint(0)))
    finally:
        os.close(process)


def _process_of(thread: int) -> int:
    with open(f"/proc/{thread}/status", "rb") as file:
        return next(int(line.split()[1]) for line in file if line.startswith(b"Tgid:"))


def _control(descriptor: int, request: int, data: bytes) -> None:
    checked(libc.ioctl(descriptor, ctypes.c_ulong(request), data))
