"""Runs a command that ends when this host does, however the host ends. Linux only; a script, not to be imported.

    python tether.py HOST_PID COMMAND ARGUMENT...

The kernel is asked to send SIGKILL to this process when the thread that started it is gone, and then the command
takes this process over, request included. So no plugin is left that holds its port and its files when its host was
killed outright; what it had acknowledged is durable anyway. Not covered: processes that the command itself starts.
Elsewhere than on Linux plugins end with the host on Ctrl-C and SIGTERM, but outlive one that is killed outright.

Why a script: the other way, code between fork and exec (`preexec_fn`), can deadlock in a process that has threads.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1

if __name__ == "__main__":
    host, command = int(sys.argv[1]), sys.argv[2:]
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    # A host that ended before the request was made sends nothing any more.
    if os.getppid() == host:
        try:
            os.execv(command[0], command)  # noqa: S606  # no shell is wanted
        except OSError as error:
            print(f"error: cannot run {command[0]}: {error.strerror}", file=sys.stderr)
    sys.exit(2)
