"""`max_memory`: how much the processes of one plugin may have resident together, and what happens past that.

Where a cgroup (version 2) with the memory controller can be made, the kernel holds the bound and kills the plugin.
Elsewhere on Linux the host adds up ten times a second what the processes have resident, and kills them itself: what
is shared among them counts once, and a plugin that is quick can be past the bound for a tenth of a second. Elsewhere
than on Linux there is no `max_memory`, and a configuration that asks for it is refused.
"""

from __future__ import annotations

import contextlib
import functools
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

_PAGE = os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 4096
_PROC = Path("/proc")


class Bound:
    """The bound of one run of a plugin. `cgroup` is where its processes belong; None: they are watched."""

    def __init__(self, largest: int, cgroup: Path | None = None) -> None:
        """`largest` is in bytes; `cgroup` the folder in which to make one (`cgroup_folder()`)."""
        self._largest = largest
        self.cgroup = _made(cgroup, largest) if cgroup else None

    def exceeded(self, parent: int) -> str:
        """What to say once the processes below `parent` are past the bound; empty while they are not."""
        if self.cgroup:
            return self._message("the kernel killed it") if _kills(self.cgroup) else ""
        pids = below(parent)
        # Resident pages are quickly read, but count what is shared once for each process.
        if sum(map(_resident, pids)) <= self._largest or sum(map(_proportional, pids)) <= self._largest:
            return ""
        return self._message("was killed")

    def _message(self, what: str) -> str:
        return f"it took more memory than security.max_memory, {self._largest / 2**20:.5g} MiB, and {what}"

    def remove(self) -> None:
        """After every process in it has ended."""
        if self.cgroup:
            with contextlib.suppress(OSError):
                self.cgroup.rmdir()


def enforceable() -> bool:
    return sys.platform == "linux"


@functools.cache
def cgroup_folder() -> Path | None:
    """The nearest cgroup above this process in which one with a bound can be made; None where there is none."""
    folder = _likely_folder()
    made = _made(folder, 2**30) if folder else None
    if made is None:
        return None
    # Whether a process may go there depends on more than the modes of files.
    join = [
        sys.executable,
        "-I",
        "-S",
        "-c",
        "import sys; open(sys.argv[1], 'w').write('0')",
        str(made / "cgroup.procs"),
    ]
    try:
        return folder if subprocess.run(join, capture_output=True, check=False).returncode == 0 else None  # noqa: S603
    finally:
        with contextlib.suppress(OSError):
            made.rmdir()


def _made(folder: Path, largest: int) -> Path | None:
    """A cgroup of its own, with the bound; None where it cannot be had."""
    try:
        cgroup = Path(tempfile.mkdtemp(prefix="hector-", dir=folder))
    except OSError:
        return None
    try:
        (cgroup / "memory.max").write_text(str(largest))
        with contextlib.suppress(OSError):  # where there is no swap there is no such file
            (cgroup / "memory.swap.max").write_text("0")
        (cgroup / "memory.oom.group").write_text("1")
    except OSError:
        with contextlib.suppress(OSError):
            cgroup.rmdir()
        return None
    return cgroup


def _likely_folder() -> Path | None:
    try:
        mounts = [line.split() for line in (_PROC / "self" / "mountinfo").read_text().splitlines()]
        root = next(Path(fields[4]) for fields in mounts if fields[fields.index("-") + 1] == "cgroup2")
        lines = (_PROC / "self" / "cgroup").read_text().splitlines()
        own = root / next(line for line in lines if line.startswith("0::"))[4:]
    except (OSError, StopIteration, ValueError, IndexError):
        return None
    return _nearest(own, root)


def _nearest(own: Path, root: Path) -> Path | None:
    for folder in [own, *own.parents]:
        if not folder.is_relative_to(root):
            return None
        with contextlib.suppress(OSError):
            # To move a process there, also the cgroup above both has to be this user's.
            controllers = (folder / "cgroup.subtree_control").read_text().split()
            if "memory" in controllers and os.access(folder, os.W_OK) and os.access(folder / "cgroup.procs", os.W_OK):
                return folder
    return None


def below(pid: int) -> list[int]:
    """Every process below `pid`, by /proc."""
    children: dict[int, list[int]] = {}
    for child, parent in _parents():
        children.setdefault(parent, []).append(child)
    pids = [pid]
    for each in pids:
        pids.extend(children.get(each, ()))
    return pids[1:]


def _parents() -> Iterator[tuple[int, int]]:
    for name in filter(str.isdigit, os.listdir(_PROC)):
        with contextlib.suppress(OSError):
            # PID (NAME) STATE PARENT ...; NAME can hold anything.
            fields = (_PROC / name / "stat").read_bytes().rpartition(b")")[2].split()
            yield int(name), int(fields[1])


def _resident(pid: int) -> int:
    """Bytes; 0 where it has ended."""
    try:
        return int((_PROC / str(pid) / "statm").read_bytes().split()[1]) * _PAGE
    except (OSError, IndexError):
        return 0


def _proportional(pid: int) -> int:
    """Bytes; of what several processes share each has its part."""
    try:
        for line in (_PROC / str(pid) / "smaps_rollup").read_bytes().splitlines():
            if line.startswith(b"Pss:"):
                return int(line.split()[1]) * 1024
    except (OSError, IndexError):
        pass
    return _resident(pid)


def _kills(cgroup: Path) -> int:
    with contextlib.suppress(OSError, ValueError):
        for line in (cgroup / "memory.events").read_text().splitlines():
            name, _, count = line.partition(" ")
            if name == "oom_kill":
                return int(count)
    return 0
