"""What a sandboxed command may do, set up in the process that becomes it (`host/tether.py`), by Linux alone.

No namespaces, no root and no other program are needed. Three means, which everything the command starts inherits:

- no new privileges: no set-uid program gives any, and a host that is root hands on no capabilities;
- Landlock: nothing is written, made, renamed or removed but below the folders given and on /dev/null and its like;
  and no process outside is read, traced or taken over, the tether least of all;
- seccomp: owner, times and attributes of files are left alone. Sockets are TCP's and unix ones. `connect`, `listen` and
  a change of a file's mode are not carried out by the command but asked of the tether (`host/confine_answers.py`).

Only the standard library, and nothing of it that is slow to import: each start of a plugin waits for it.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import socket
import struct
from collections.abc import Iterable

NUMBERS: dict[str, dict[str, int]] = {
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
_PR_SET_NO_NEW_PRIVS, _PR_CAPBSET_DROP, _LAST_CAPABILITY = 38, 24, 63
_SECCOMP_SET_MODE_FILTER, _SECCOMP_FILTER_FLAG_NEW_LISTENER = 1, 8
_KILL, _NOTIFY, _ERRNO, _ALLOW = 0x80000000, 0x7FC00000, 0x00050000, 0x7FFF0000
_MSG_FASTOPEN = 0x20000000
_X32 = 0x40000000
# Landlock's rights on files that write in any way, by the version that brought them; and two of scope.
_WRITE_FILE, _MAKE_BLOCK, _REFER, _TRUNCATE, _IOCTL_DEV = 1 << 1, 1 << 11, 1 << 13, 1 << 14, 1 << 15
_MAKE_AND_REMOVE = sum(1 << bit for bit in range(4, 13))
_SCOPES = 1 | 2  # abstract unix sockets, signals
OLDEST_LANDLOCK = 3  # Linux 6.2: before that a file could be emptied
_DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/tty")

libc = ctypes.CDLL(None, use_errno=True)


def landlock_version() -> int:
    """0 where the kernel has none."""
    return max(0, int(libc.syscall(_LANDLOCK_CREATE, None, ctypes.c_size_t(0), ctypes.c_uint(1))))


def known_machine() -> bool:
    return platform.machine() in NUMBERS


def no_new_privileges() -> None:
    """Raises OSError."""
    for capability in range(_LAST_CAPABILITY + 1):
        libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0)  # takes a privilege; without it there is none to drop
    header = struct.pack("=II", 0x20080522, 0)
    checked(libc.capset(header, bytes(24)))
    checked(libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))


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
        checked(libc.syscall(_LANDLOCK_ADD, ruleset, 1, rule, ctypes.c_uint(0)))
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
    return checked(libc.syscall(_LANDLOCK_CREATE, attributes, ctypes.c_size_t(size), ctypes.c_uint(0)))


def _restrict(ruleset: int) -> None:
    checked(libc.syscall(_LANDLOCK_RESTRICT, ruleset, ctypes.c_uint(0)))
    os.close(ruleset)


def ask_for_connections(*, keep_attributes: bool) -> int:
    """The descriptor at which this process' `connect` and `listen` are answered from now on. Raises OSError.

    With `keep_attributes` mode, owner and the like of files can no longer be changed. Needs `no_new_privileges()`.
    """
    program = _program(NUMBERS[platform.machine()] | _EVERYWHERE, keep_attributes)
    buffer = ctypes.create_string_buffer(program, len(program))
    header = struct.pack("@HxxxxxxQ", len(program) // 8, ctypes.addressof(buffer))
    number = NUMBERS[platform.machine()]["seccomp"]
    return checked(libc.syscall(number, _SECCOMP_SET_MODE_FILTER, _SECCOMP_FILTER_FLAG_NEW_LISTENER, header))


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


def checked(result: int) -> int:
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result
