"""Fails a test in which a plugin's event loop did not come round: one turn used more than 50 ms of its thread's CPU
time, or stood still for 500 ms. Whatever else is called meanwhile, health included, waits as long.

    python -m tests.loop_watchdog MODULE ARGS…     runs the module under watch, as `tests.servers.start_plugin` does
    @pytest.mark.loop_may_stall("why")             for a test in which that is meant

A turn is everything between two looks at the sockets. What counts, so that a busy machine is not a slow plugin:

- CPU time is the loop thread's own (CLOCK_THREAD_CPUTIME_ID): waiting for a core or for the GIL is not in it.
- It stood still for the wall time of the turn, less its CPU time, less the time in which the thread was ready to run
  and had no core (the kernel's run delay, /proc/PID/task/TID/schedstat). What is left was spent asleep in a lock, in
  the file system, in the network, or waiting for the GIL. Who holds the GIL may have no core either: that part of the
  wall time in which any other thread of Python's was ready and had none is taken off, whether or not it held anything,
  and so is the time in which a hypervisor gave the whole machine none. On a loaded machine less is found than there is.
- A whole machine that stands, or that reads this program's own pages from a slow disk, looks like a sleep too, but then
  nobody runs: it is none where the process used hardly any CPU time and the thread that looks after long turns came
  late itself.
- Memory that the machine's host has to find first is slow to touch (12 us a page were measured, for 0.3): of a turn
  with many page faults the time in the kernel is not counted.
- Within the test process (`served`) the test's own threads hold the GIL and fill the heap, which no plugin can help:
  there the CPU time of other threads is taken off as well, all of their run delay, and the time that the garbage
  collector took.

The start is exempt: what a process does before `start_plugin` has read `listening on`, and the turn in which `served`
starts a server.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import os
import resource
import runpy
import sys
import threading
import time
import traceback
import types
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

CPU_SECONDS = 0.05
STILL_SECONDS = 0.5
REPORT = "LOOP_WATCHDOG_REPORT"
"""Environment variable: the file that a watched process appends its stalls to, one JSON object a line."""

# How long a turn has lasted when the stack is taken that a report shows.
_LOOK_AFTER = 0.03
# The same, where nothing keeps the thread that looks from running.
_IN_TIME = 0.2
# Page faults in a turn (2 MB) from which on they may be what takes the time.
_MANY_FAULTS = 500
# How old the other threads' run delays may be at the start of a turn. Older delays taken off too excuse too much.
_FRESH = 0.1


@dataclass(frozen=True)
class Stall:
    """One turn that took too long. `when`: its start, by time.monotonic(), which all processes share."""

    when: float
    what: str


class WatchedLoop(asyncio.SelectorEventLoop):
    """An event loop that appends to `stalls`. `shared`: other threads of the process are not the plugin's."""

    def __init__(self, *, shared: bool = False, report: Path | None = None) -> None:
        super().__init__()
        self.stalls: list[Stall] = []
        self._shared, self._report = shared, report
        self._turn: _Turn | None = None
        self._clock: _Clock | None = None
        self.longest: tuple[float, str] = (0, "")

    def _process_events(self, event_list: Any) -> None:
        self.longest = (0, "")
        with self._harmless():
            if self._clock is None:  # made in the loop's own thread
                self._clock = _Clock(self)
            self._turn = self._clock.begin()
        super()._process_events(event_list)  # type: ignore[misc]

    def _run_once(self) -> None:
        super()._run_once()  # type: ignore[misc]
        turn, clock = self._turn, self._clock
        self._turn = None
        with self._harmless():
            if turn is not None and clock is not None and (why := clock.end(turn, self._shared)):
                self._say(Stall(turn.began, why + self._where(turn, clock)))

    @contextlib.contextmanager
    def _harmless(self) -> Iterator[None]:
        """A bug in here fails the test, but does not end the loop, which tests would wait for in vain."""
        try:
            yield
        except Exception:
            self._say(Stall(time.monotonic(), "the watchdog has a bug:\n" + traceback.format_exc()))

    def _where(self, turn: _Turn, clock: _Clock) -> str:
        seconds, name = self.longest
        longest = f"; its longest callback, {seconds * 1000:.0f} ms: {name}" if name else ""
        stack = clock.stacks.pop(turn.began, "")
        return longest + (f"; the stack after {_LOOK_AFTER * 1000:.0f} ms or more:\n{stack}" if stack else "")

    def _say(self, stall: Stall) -> None:
        self.stalls.append(stall)
        if self._report is not None:
            with self._report.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"when": stall.when, "what": stall.what}) + "\n")

    def close(self) -> None:
        if self._clock is not None:
            self._clock.close()
        super().close()


@dataclass(frozen=True)
class _Turn:
    began: float
    cpu: float
    process: float
    delay: float
    collected: float
    faults: int
    kernel: float


class _Clock:
    """What a loop's thread, and the process around it, have used. Made in that thread."""

    def __init__(self, loop: WatchedLoop) -> None:
        self.stacks: dict[float, str] = {}  # where it was, by the start of the turn
        self._looked_at = time.monotonic()
        self._missed = (0.0, 0.0)  # the start of a turn, and for how long at most nobody looked during it
        self._thread = threading.get_native_id()
        self._delay_file = _open(f"/proc/self/task/{self._thread}/schedstat")
        self._others: tuple[float, dict[int, float]] = (0.0, {})
        self._machine = 0.0
        self._collecting = self._collected = 0.0
        self._closed = threading.Event()
        gc.callbacks.append(self._on_collection)
        looking = threading.Thread(target=self._look, args=(loop, threading.get_ident()), daemon=True)
        looking.start()
        self._not_others = {self._thread, looking.native_id}

    def close(self) -> None:
        self._closed.set()
        with contextlib.suppress(ValueError):
            gc.callbacks.remove(self._on_collection)
        if self._delay_file is not None:
            os.close(self._delay_file)
            self._delay_file = None

    def begin(self) -> _Turn:
        now = time.monotonic()
        if now - self._others[0] > _FRESH:
            self._others, self._machine = (now, self._other_delays()), _machine_seconds()
        return _Turn(
            now, time.thread_time(), time.process_time(), _delay(self._delay_file), self._collected, *_faults()
        )

    def end(self, turn: _Turn, shared: bool) -> str:
        """Why the turn was too long; "" where it was not."""
        wall = time.monotonic() - turn.began
        if wall < CPU_SECONDS:
            return ""
        cpu = time.thread_time() - turn.cpu
        used = cpu - (self._collected - turn.collected if shared else 0)
        faults, kernel = _faults()
        if faults - turn.faults > _MANY_FAULTS:
            used -= kernel - turn.kernel
        if used > CPU_SECONDS:
            return f"one turn used {used * 1000:.0f} ms of CPU time, more than {CPU_SECONDS * 1000:.0f} ms"
        if self._delay_file is None or wall - cpu < STILL_SECONDS:
            return ""
        computed = time.process_time() - turn.process
        if computed < STILL_SECONDS / 10 and self._missed_during(turn, time.monotonic()) > _IN_TIME:
            return ""
        running = computed if shared else cpu
        before = self._others[1]
        after = self._other_delays()
        if not before.keys() <= after.keys():
            return ""  # a thread ended meanwhile, and of how long it was without a core nothing is known
        delayed = sum(now - before.get(thread, 0) for thread, now in after.items())
        own = _delay(self._delay_file) - turn.delay
        lost = max(0.0, time.monotonic() - self._others[0] - (_machine_seconds() - self._machine))
        still = wall - running - own - lost
        # Where it waited for the GIL, its holder had no core for a part of that: at most all of this time, and beside a
        # plugin's own threads, as it did on the whole.
        still = still - delayed if shared else still * max(0.0, 1 - delayed / wall)
        if still < STILL_SECONDS:
            return ""
        return (
            f"one turn stood still for {still:.2f} s, more than {STILL_SECONDS} s (it took {wall:.2f} s; running "
            f"{running:.2f}, without a core {own:.2f}, other threads without one {delayed:.2f}, machine {lost:.2f})"
        )

    def _other_delays(self) -> dict[int, float]:
        """Of the threads that may hold the GIL: those of libraries, which compute without it, are none."""
        found = {}
        for thread in threading.enumerate() if self._delay_file is not None else ():
            native = thread.native_id
            if native in self._not_others or native is None:
                continue
            file = _open(f"/proc/self/task/{native}/schedstat")
            if file is not None:
                with contextlib.suppress(OSError, IndexError):  # it has just ended
                    found[native] = _delay(file)
                os.close(file)
        return found

    def _on_collection(self, phase: str, _: object) -> None:
        if threading.get_native_id() == self._thread:
            if phase == "start":
                self._collecting = time.thread_time()
            else:
                self._collected += time.thread_time() - self._collecting

    def _missed_during(self, turn: _Turn, now: float) -> float:
        """For how long at most nobody looked during that turn, until now."""
        began, longest = self._missed
        return max(longest if began == turn.began else 0.0, now - max(self._looked_at, turn.began))

    def _look(self, loop: WatchedLoop, thread: int) -> None:
        """Notes where a long turn is, once for each, and for how long this thread itself could not look."""
        while not self._closed.wait(_LOOK_AFTER / 2):
            turn, now = loop._turn, time.monotonic()
            if turn is not None:
                self._missed = turn.began, self._missed_during(turn, now)
            self._looked_at = now
            if turn is None or turn.began in self.stacks or now - turn.began < _LOOK_AFTER:
                continue
            frame = sys._current_frames().get(thread)
            self.stacks.clear()
            self.stacks[turn.began] = "".join(traceback.format_stack(frame)[-8:])


def _open(path: str) -> int | None:
    try:
        return os.open(path, os.O_RDONLY)
    except OSError:  # not Linux, or the thread has ended
        return None


def _machine_seconds() -> float:
    """Time that the machine's cores have had, by its own account: none while a hypervisor lets it stand."""
    try:
        columns = [int(ticks) for ticks in Path("/proc/stat").read_text(encoding="ascii").split("\n", 1)[0].split()[1:]]
    except OSError:
        return 0.0
    # user, nice, system, idle, iowait, irq, softirq; the next is what was stolen.
    return sum(columns[:7]) / os.sysconf("SC_CLK_TCK") / (os.cpu_count() or 1)


def _faults() -> tuple[int, float]:
    """Page faults of this thread, and its seconds in the kernel, so far."""
    usage = resource.getrusage(getattr(resource, "RUSAGE_THREAD", resource.RUSAGE_SELF))
    return usage.ru_minflt, usage.ru_stime


def _delay(file: int | None) -> float:
    """Seconds for which that thread was ready to run and had no core."""
    return 0.0 if file is None else int(os.pread(file, 100, 0).split()[1]) / 1e9


# ---------------------------------------------------------------- which callback it was

_run = asyncio.events.Handle._run


def _timed_run(handle: Any) -> None:
    loop = handle._loop
    if not isinstance(loop, WatchedLoop):
        _run(handle)
        return
    callback, began = handle._callback, time.monotonic()
    try:
        _run(handle)
    finally:
        seconds = time.monotonic() - began
        if seconds > 0.01 and seconds > loop.longest[0]:
            with loop._harmless():
                loop.longest = (seconds, _name(callback))


if __name__ != "__main__":  # where this file runs as a program, it is imported once more
    asyncio.events.Handle._run = _timed_run  # type: ignore[method-assign,assignment]


def _name(callback: Any) -> str:
    """A task is named by its coroutines, and where they wait now that the turn is over."""
    task = getattr(callback, "__self__", None)
    if not isinstance(task, asyncio.Task):
        return getattr(callback, "__qualname__", None) or repr(callback)
    names: list[str] = []
    coroutine: Any = task.get_coro()
    while coroutine is not None and len(names) < 12:
        name = getattr(coroutine, "__qualname__", None) or type(coroutine).__name__
        frame, code = getattr(coroutine, "cr_frame", None), getattr(coroutine, "cr_code", None)
        if isinstance(code, types.CodeType):  # Cython's coroutines have other ones
            name += f" ({Path(code.co_filename).name}:{frame.f_lineno if frame else code.co_firstlineno})"
        names.append(name)
        coroutine = getattr(coroutine, "cr_await", None)
    return " > ".join(names)


# ---------------------------------------------------------------- what the tests ask


@dataclass
class Watched:
    """A loop of this process, or the report of another. `since`: earlier turns are the start, and exempt."""

    name: str
    loop: WatchedLoop | None = None
    report: Path | None = None
    since: float = 0.0
    seen: int = field(default=0, repr=False)

    def new(self) -> list[Stall]:
        if self.loop is not None:
            # The answer that a test waited for goes out before the turn that gave it is over.
            over = threading.Event()
            if self.loop.is_running():
                self.loop.call_soon_threadsafe(over.set)
                over.wait(10)
            stalls = self.loop.stalls
        elif self.report is not None and self.report.exists():
            lines = self.report.read_text(encoding="utf-8").splitlines(keepends=True)
            stalls = [Stall(**json.loads(line)) for line in lines if line.endswith("\n")]
        else:
            stalls = []
        new, self.seen = stalls[self.seen :], len(stalls)
        return [stall for stall in new if stall.when >= self.since]


_watched: list[Watched] = []
_ended: list[str] = []


@contextlib.contextmanager
def watching(name: str, *, loop: WatchedLoop | None = None, report: Path | None = None) -> Iterator[Watched]:
    """Has `stalls` tell of this loop, or of the process that has this report, as long as the block lasts. Set `since`
    of what is given, to exempt what was before."""
    watched = Watched(name, loop, report)
    _watched.append(watched)
    try:
        yield watched
    finally:
        _watched.remove(watched)
        _ended.extend(_told(watched))


def stalls() -> list[str]:
    """What has stalled since this was asked last."""
    found = [*_ended, *(line for watched in _watched for line in _told(watched))]
    _ended.clear()
    return found


def _told(watched: Watched) -> list[str]:
    return [f"the event loop of {watched.name}: {stall.what}" for stall in watched.new()]


# ---------------------------------------------------------------- a process under watch


def main() -> None:
    report = Path(os.environ[REPORT])
    # What `asyncio.run` calls.
    asyncio.events.new_event_loop = lambda: WatchedLoop(report=report)
    module, sys.argv[1:] = sys.argv[1], sys.argv[2:]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    # Under its own name, so that there is one class WatchedLoop in the process.
    from tests import loop_watchdog

    loop_watchdog.main()
