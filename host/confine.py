"""What a sandboxed command may do, set up in the process that becomes it (`host/tether.py`), by Linux alone.

No namespaces, no root and no other program are needed. Three means, which everything the command starts inherits:

- no new privileges: no set-uid program gives any, and a host that is root hands on no capabilities;
- Landlock: nothing is written, made, renamed or removed but below the folders given and on /dev/null and its like;
  and no process outside is read, traced or taken over, the tether least of all;
- seccomp: owner, times and attributes of files are left alone. Sockets are TCP's and unix ones. `connect`, `listen` and
  a change of a file's mode are not carried out by the command but asked of the tether, which does it in its place, on
  its own copy of the address, the socket and the file, where it is allowed. What the command changes meanwhile
  changes nothing.

Only the standard library, and nothing of it that is slow to import: each start of a plugin waits for it.
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

# ---------------------------------------------------------------- numbers of the kernel's

_NUMBERS: dict[str, dict[str, int]] = {
    "x86_64": {
        "arch": 0xC000003E, "seccomp": 317, "socket": 41, "socketpair": 53, "connect": 42, "listen": 50, "sendto": 44,
        "sendmsg": 46, "sendmmsg": 307,
        "chmod": 90, "fchmod": 91, "fchmodat": 268, "chown": 92, "fchown": 93, "lchown": 94, "fchownat": 260,
        "utime": 132, "utimes": 235, "futimesat": 261, "utimensat": 280,
        "setxattr": 188, "lsetxattr": 189, "fsetxattr": 190, "removexattr": 197, "lremovexattr": 198,
        "fremovexattr": 199,
    },
    "aarch64": {
        "arch": 0xC00000B7, "seccomp": 277, "socket": 198, "socketpair": 199, "connect": 203, "listen": 201,
        "sendto": 206, "sendmsg": 211, "sendmmsg": 269,
        "fchmod": 52, "fchmodat": 53, "fchown": 55, "fchownat": 54, "utimensat": 88,
        "setxattr": 5, "lsetxattr": 6, "fsetxattr": 7, "removexattr": 14, "lremovexattr": 15, "fremovexattr": 16,
    },
}  # fmt: skip
# The same on every machine: io_uring would connect past the filter; the others are the newest ways to change a mode.
_EVERYWHERE = {"io_uring_setup": 425, "fchmodat2": 452, "setxattrat": 463, "removexattrat": 466, "file_setattr": 469}
_UNKNOWN_CALLS = ("io_uring_setup", "fchmodat2", "setxattrat", "removexattrat", "file_setattr")  # as on an old kernel
_MODE_CALLS = ("chmod", "fchmod", "fchmodat")
_FORBIDDEN_CALLS = (
    "chown", "fchown", "lchown", "fchownat", "utime", "utimes", "futimesat", "utimensat",
    "setxattr", "lsetxattr", "fsetxattr", "removexattr", "lremovexattr", "fremovexattr",
)  # fmt: skip
_LANDLOCK_CREATE, _LANDLOCK_ADD, _LANDLOCK_RESTRICT = 444, 445, 446
_PIDFD_GETFD = 438
_PR_SET_NO_NEW_PRIVS, _PR_CAPBSET_DROP, _LAST_CAPABILITY = 38, 24, 63
_SECCOMP_SET_MODE_FILTER, _SECCOMP_FILTER_FLAG_NEW_LISTENER = 1, 8
_KILL, _NOTIFY, _ERRNO, _ALLOW = 0x80000000, 0x7FC00000, 0x00050000, 0x7FFF0000
_NOTIF_RECV, _NOTIF_SEND, _NOTIF_ID_VALID = 0xC0502100, 0xC0182101, 0x40082102
_NOTIF_BYTES, _LONGEST_ADDRESS = 80, 128
_LONGEST_PATH = 4096
_AT_FDCWD = 0xFFFFFF9C  # -100
_MSG_FASTOPEN = 0x20000000
_X32 = 0x40000000
# Landlock's rights on files that write in any way, by the version that brought them; and two of scope.
_WRITE_FILE, _MAKE_BLOCK, _REFER, _TRUNCATE, _IOCTL_DEV = 1 << 1, 1 << 11, 1 << 13, 1 << 14, 1 << 15
_MAKE_AND_REMOVE = sum(1 << bit for bit in range(4, 13))
_SCOPES = 1 | 2  # abstract unix sockets, signals
OLDEST_LANDLOCK = 3  # Linux 6.2: before that a file could be emptied
_DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/tty")
_MOST_CONNECTS = 64  # under way at once

_libc = ctypes.CDLL(None, use_errno=True)


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


# ---------------------------------------------------------------- in the process that becomes the command


def landlock_version() -> int:
    """0 where the kernel has none."""
    return max(0, int(_libc.syscall(_LANDLOCK_CREATE, None, ctypes.c_size_t(0), ctypes.c_uint(1))))


def known_machine() -> bool:
    return platform.machine() in _NUMBERS


def no_new_privileges() -> None:
    """Raises OSError."""
    for capability in range(_LAST_CAPABILITY + 1):
        _libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0)  # takes a privilege; without it there is none to drop
    header = struct.pack("=II", 0x20080522, 0)
    _checked(_libc.capset(header, bytes(24)))
    _checked(_libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))


def write_only_below(folders: Iterable[str]) -> None:
    """`folders` are real paths. Raises OSError, also where one of them is a link by now: what is confined may have made
    it, to have more when it is started again. Needs `no_new_privileges()` before."""
    version = landlock_version()
    rights = _WRITE_FILE | _MAKE_AND_REMOVE | _REFER | _TRUNCATE | (_IOCTL_DEV if version >= 5 else 0)
    device_rights = rights & (_WRITE_FILE | _TRUNCATE | _IOCTL_DEV)
    ruleset = _ruleset(rights, _SCOPES if version >= 6 else 0)
    for path, allowed in [*((folder, rights) for folder in folders), *((path, device_rights) for path in _DEVICES)]:
        try:
            place = os.open(path, os.O_PATH | os.O_CLOEXEC)
        except FileNotFoundError:
            continue
        if path not in _DEVICES and os.readlink(f"/proc/self/fd/{place}") != path:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
        rule = struct.pack("=Qi", allowed, place)
        _checked(_libc.syscall(_LANDLOCK_ADD, ruleset, 1, rule, ctypes.c_uint(0)))
        os.close(place)
    _restrict(ruleset)


def leave_other_processes_alone() -> None:
    """For what may write anywhere: it could have the tether, whose memory is a file to it, dial for it. Raises OSError.
    Needs `no_new_privileges()` before."""
    # That comes with any rules of Landlock's. These take away what needs a privilege anyway.
    _restrict(_ruleset(_MAKE_BLOCK, 0))


def _ruleset(rights: int, scopes: int) -> int:
    version = landlock_version()
    attributes = struct.pack("=QQQ", rights, 0, scopes)
    size = 24 if version >= 6 else 16 if version >= 4 else 8
    return _checked(_libc.syscall(_LANDLOCK_CREATE, attributes, ctypes.c_size_t(size), ctypes.c_uint(0)))


def _restrict(ruleset: int) -> None:
    _checked(_libc.syscall(_LANDLOCK_RESTRICT, ruleset, ctypes.c_uint(0)))
    os.close(ruleset)


def ask_for_connections(*, keep_attributes: bool) -> int:
    """The descriptor at which this process' `connect` and `listen` are answered from now on. Raises OSError.

    With `keep_attributes` mode, owner and the like of files can no longer be changed. Needs `no_new_privileges()`.
    """
    program = _program(_NUMBERS[platform.machine()] | _EVERYWHERE, keep_attributes)
    buffer = ctypes.create_string_buffer(program, len(program))
    header = struct.pack("@HxxxxxxQ", len(program) // 8, ctypes.addressof(buffer))
    number = _NUMBERS[platform.machine()]["seccomp"]
    return _checked(_libc.syscall(number, _SECCOMP_SET_MODE_FILTER, _SECCOMP_FILTER_FLAG_NEW_LISTENER, header))


def _program(number: dict[str, int], keep_attributes: bool) -> bytes:
    """The filter, in the kernel's classic BPF: for each system call a few instructions of its own."""
    load, jump_if_equal, jump_if_any_bit, jump_if_at_least, give = 0x20, 0x15, 0x45, 0x35, 0x06

    def argument(position: int, *, high: bool = False) -> tuple[int, int, int, int]:
        return (load, 0, 0, 16 + 8 * position + 4 * high)

    def refuse(code: int) -> tuple[int, int, int, int]:
        return (give, 0, 0, _ERRNO | code)

    allow, notify = (give, 0, 0, _ALLOW), (give, 0, 0, _NOTIFY)
    stream, seqpacket = socket.SOCK_STREAM, socket.SOCK_SEQPACKET
    kind = [argument(1), (0x54, 0, 0, 0xF)]  # the type without its flags
    unix_kind = [*kind, (jump_if_equal, 2, 0, stream), (jump_if_equal, 1, 0, seqpacket), refuse(errno.EACCES), allow]
    blocks: dict[str, list[tuple[int, int, int, int]]] = {
        "connect": [notify],
        "listen": [notify],
        "socketpair": unix_kind,
        "socket": [
            argument(0),
            (jump_if_equal, 0, len(unix_kind), socket.AF_UNIX),
            *unix_kind,
            (jump_if_equal, 2, 0, socket.AF_INET),
            (jump_if_equal, 1, 0, socket.AF_INET6),
            refuse(errno.EAFNOSUPPORT),
            *kind,
            (jump_if_equal, 1, 0, stream),
            refuse(errno.EACCES),
            argument(2),
            (jump_if_equal, 2, 0, 0),
            (jump_if_equal, 1, 0, socket.IPPROTO_TCP),
            refuse(errno.EACCES),
            allow,
        ],
        # With an address these would be a `connect` of their own.
        "sendto": [
            argument(4),
            (jump_if_equal, 0, 3, 0),
            argument(4, high=True),
            (jump_if_equal, 0, 1, 0),
            (0x05, 0, 0, 1),
            refuse(errno.EACCES),
            argument(3),
            (jump_if_any_bit, 0, 1, _MSG_FASTOPEN),
            refuse(errno.EACCES),
            allow,
        ],
        "sendmsg": [argument(2), (jump_if_any_bit, 0, 1, _MSG_FASTOPEN), refuse(errno.EACCES), allow],
        "sendmmsg": [argument(3), (jump_if_any_bit, 0, 1, _MSG_FASTOPEN), refuse(errno.EACCES), allow],
        "io_uring_setup": [refuse(errno.ENOSYS)],
    }
    if keep_attributes:
        blocks |= {name: [refuse(errno.ENOSYS)] for name in _UNKNOWN_CALLS}
        blocks |= {name: [notify] for name in _MODE_CALLS if name in number}
        blocks |= {name: [refuse(errno.EPERM)] for name in _FORBIDDEN_CALLS if name in number}
    lines = [(load, 0, 0, 4), (jump_if_equal, 1, 0, number["arch"]), (give, 0, 0, _KILL), (load, 0, 0, 0)]
    lines += [(jump_if_at_least, 0, 1, _X32), refuse(errno.ENOSYS)]
    for name, block in blocks.items():
        lines += [(jump_if_equal, 0, len(block), number[name]), *block]
    lines.append(allow)
    return b"".join(struct.pack("=HBBI", *line) for line in lines)


# ---------------------------------------------------------------- in the tether


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
            if _libc.ioctl(listener, ctypes.c_ulong(_NOTIF_RECV), request) != 0:
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
    name = next(name for name, known in _NUMBERS[platform.machine()].items() if known == number and name != "arch")

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
    if _libc.connect(own.fileno(), address, len(address)) == 0:
        return 0
    return ctypes.get_errno()


def _listen(own: socket.socket, backlog: int, networks: Networks) -> int:
    if not _may_listen(own, networks):
        return errno.EACCES
    if _libc.listen(own.fileno(), backlog) != 0:
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
        return _checked(_libc.syscall(_PIDFD_GETFD, process, number, ctypes.c_uint(0)))
    finally:
        os.close(process)


def _process_of(thread: int) -> int:
    with open(f"/proc/{thread}/status", "rb") as file:
        return next(int(line.split()[1]) for line in file if line.startswith(b"Tgid:"))


def _control(descriptor: int, request: int, data: bytes) -> None:
    _checked(_libc.ioctl(descriptor, ctypes.c_ulong(request), data))


def _checked(result: int) -> int:
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result
