"""Runs a command, ends with this host however the host ends, and leaves none of the command's processes behind.

    python tether.py DESCRIPTOR OPTIONS COMMAND ARGUMENT...

Linux only; a script, not to be imported. DESCRIPTOR is a socket whose other end only the host has. On it goes the
command's process id, a line of its own, and once the command has ended its exit status, negative for a signal. When
the other end is closed, because the host wants so or is gone, everything is killed.

OPTIONS is JSON: `cgroup`, a folder into which the command is put; `writable`, folders beside which it writes nothing;
`networks`, all that it may dial. What is left out, or null, is not restricted (`host/confine.py`).

The kernel hands to this process whatever loses its parent below it (PR_SET_CHILD_SUBREAPER), also what has made itself
a session of its own, so that in the end everything the command started is a child of this process and can be killed.
Should this process be killed itself, the command is too (PR_SET_PDEATHSIG), and the host kills what is left of its
process group; what has left that stays.

Elsewhere than on Linux plugins end with the host on Ctrl-C and SIGTERM, but outlive one that is killed outright.
"""

import contextlib
import ctypes
import json
import os
import select
import signal
import socket
import sys
import time
from typing import Any

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36
KILL_SECONDS = 5.0  # for killed processes to be gone; what hangs in the kernel is not waited for


def main(control: socket.socket, options: dict[str, Any], command: list[str]) -> None:
    control.set_inheritable(False)
    ours, theirs = socket.socketpair()
    libc = ctypes.CDLL(None)
    libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    # Signals to the whole group are the command's. Blocked, not ignored: the command must not miss one that comes
    # between the fork and the exec.
    signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGTERM, signal.SIGINT, signal.SIGHUP))
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    own = os.getpid()
    command_pid = os.fork()
    if command_pid == 0:
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        _become(command, own, options, theirs)
    theirs.close()
    _answer(ours, options)
    with contextlib.suppress(OSError):  # where the host is gone the read below says so
        control.sendall(b"%d\n" % command_pid)
    status = None
    while status is None:
        ready, _, _ = select.select([woken, control.fileno()], [], [])
        if control.fileno() in ready:  # nothing is ever sent here: it was closed
            break
        os.read(woken, 4096)
        status = _reap(command_pid)
    _kill_all()
    if status is not None:
        with contextlib.suppress(OSError):
            control.sendall(b"%d\n" % status)


def _become(command: list[str], parent: int, options: dict[str, Any], tether: socket.socket) -> None:
    """The command, in the place of this process."""
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # Python ignores it, which a command would inherit
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    # A parent that ended before the request was made sends nothing any more.
    if os.getppid() == parent:
        try:
            _confine(options, tether)
        except OSError as error:
            print(f"error: cannot be confined: {error}", file=sys.stderr, flush=True)
            os._exit(2)
        try:
            os.execv(command[0], command)  # noqa: S606  # no shell is wanted
        except OSError as error:
            print(f"error: cannot run {command[0]}: {error.strerror}", file=sys.stderr, flush=True)
    os._exit(2)


def _confine(options: dict[str, Any], tether: socket.socket) -> None:
    """What is to hold for the command, for this process."""
    if options.get("cgroup"):
        with open(options["cgroup"] + "/cgroup.procs", "w") as file:
            file.write("0")
    writable, networks = options.get("writable"), options.get("networks")
    if writable is None and networks is None:
        return
    from host import confine  # it takes a while, and most commands do without

    confine.no_new_privileges()
    if writable is None:
        confine.leave_other_processes_alone()
    else:
        confine.write_only_below(writable)
    if networks is not None:
        listener = confine.ask_for_connections(keep_attributes=writable is not None)
        socket.send_fds(tether, [b"l"], [listener])
        os.close(listener)


def _answer(command: socket.socket, options: dict[str, Any]) -> None:
    """Has threads that answer what the command may not do itself."""
    with command:
        if options.get("networks") is not None:
            _, listeners, _, _ = socket.recv_fds(command, 1, 1)
            if listeners:  # else it failed and has ended
                from host.confine_answers import Networks, answer

                # Unix sockets are no network: only a command that writes nowhere else is kept to its own.
                folders = [""] if options.get("writable") is None else options["writable"]
                answer(listeners[0], Networks(options["networks"]), folders)


def _reap(command_pid: int) -> int | None:
    """Takes leave of every child that has ended; the command's exit status, if it was among them."""
    status = None
    with contextlib.suppress(ChildProcessError):
        while True:
            pid, wait_status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                break
            if pid == command_pid:
                status = os.waitstatus_to_exitcode(wait_status)
    return status


def _kill_all() -> None:
    """Kills the children, those that become children by that, and so on. A child's id is its own until it is reaped."""
    deadline = time.monotonic() + KILL_SECONDS
    while (children := _children()) and time.monotonic() < deadline:
        for pid in children:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        _reap(0)
        time.sleep(0.005)


def _children() -> list[int]:
    own = str(os.getpid())
    children = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError), open(f"/proc/{name}/stat", "rb") as file:
            # PID (NAME) STATE PARENT ...; NAME can hold anything.
            if file.read().rpartition(b")")[2].split()[1].decode() == own:
                children.append(int(name))
    return children


if __name__ == "__main__":
    sys.path.append(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))  # for `host`
    main(socket.socket(fileno=int(sys.argv[1])), json.loads(sys.argv[2]), sys.argv[3:])
