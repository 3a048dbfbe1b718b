"""What `python -m host` does, one function a command. Each returns the exit status and raises StartError."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path

from host import run_file, show
from host.clients import opened
from host.config import Database, HostConfig
from host.index import index as bring_in_line
from host.prune import prune as take_out
from host.run_file import RunFile
from host.search import search as find
from host.supervisor import Supervisor, supervise
from shared import logs
from shared.cli import installed
from shared.errors import StartError
from shared.visible import visible_json


def serve(config: HostConfig, *, reload: bool = True, page_port: int | None = None) -> int:
    """All plugins, until Ctrl-C or SIGTERM; with `reload` those anew for which a file has changed. With `page_port`
    the page is served there."""
    logs.setup("info")
    if reload:
        installed({"watchfiles": "watchfiles>=1.1,<2"})
        from host import watch

        fingerprints = watch.fingerprints_of(config)
    if page_port is not None:
        installed({"starlette": "starlette>=1.6,<2", "uvicorn": "uvicorn>=0.50,<1"})
        from host.ui import server as page

        listener = page.listen(page_port)  # before anything is loaded: the port may be taken
    # Whoever finds run.json may stop this host, so that Ctrl-C is waited for before.
    with started(config) as supervisor, until_ctrl_c(), findable(config, supervisor), ExitStack() as stack:
        if reload:
            stack.enter_context(watch.watching(supervisor, config, fingerprints))
        if page_port is not None:
            address = stack.enter_context(page.serving(config, supervisor.statuses, listener))
            print(f"The page, for this machine and whoever has its address: {address}")
        print("Ctrl-C stops them.", flush=True)
        wait()
    return 0


def index(
    config: HostConfig,
    folder: Path | None,
    database: Database,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    *,
    prune: bool = False,
    verbose: bool = False,
) -> int:
    """With `prune` also takes out what is gone, of every folder; then `folder` may be gone too, or None."""
    if folder is None and not prune:
        raise StartError("which folder? Name the one that holds the documents, as in `index docs`")
    is_there = folder is not None and folder.is_dir()
    if folder and not is_there and (folder.exists() or not prune):
        raise StartError(f"{folder} is not a folder; name the one that holds the documents")
    began = time.monotonic()
    with opened(config, database) as (embedder, collection):
        if folder and is_there:
            with show.progress() as report:
                tally = bring_in_line(folder, database, embedder, collection, config.state, report, include, exclude)
            show.indexed(tally, time.monotonic() - began, verbose)
        if prune:
            show.pruned(take_out(folder, database, embedder, collection, config.state))
    return 0


def search(config: HostConfig, question: str, limit: int, database: Database, as_json: bool) -> int:
    if not question.strip():
        raise StartError('the question is empty; name what to look for, as in `search "how do I add a plugin?"`')
    with opened(config, database) as (embedder, collection):
        passages = list(find(question, limit, embedder, collection))
    if as_json:
        for passage in passages:
            print(visible_json(passage.json()))
    else:
        show.passages(passages, question)
    return 0


@contextmanager
def serving(config: HostConfig, *, quiet: bool = False) -> Iterator[Supervisor]:
    """Within, every plugin runs, was shown in a table and can be found through `.hector/run.json`."""
    with started(config, quiet=quiet) as supervisor, findable(config, supervisor):
        yield supervisor


@contextmanager
def started(config: HostConfig, *, quiet: bool = False) -> Iterator[Supervisor]:
    """Within, every plugin runs, and no other host is started on this configuration."""
    if not config.plugins:
        raise StartError(f"{config.file} has no enabled plugin under `plugins:`")
    with (
        run_file.locked(config.state),
        supervise(config, config.plugins.values(), quiet=quiet, state=config.state) as supervisor,
    ):
        yield supervisor


@contextmanager
def findable(config: HostConfig, supervisor: Supervisor) -> Iterator[None]:
    """Shows the plugins in a table; within, `.hector/run.json` says where they are."""

    def write() -> None:
        statuses = {status.name: asdict(status) for status in supervisor.statuses()}
        run_file.write(config.state, RunFile(os.getpid(), str(config.file), supervisor.addresses(), statuses))

    show.plugins(supervisor.statuses())
    try:
        supervisor.listen(write)
        yield
    finally:
        supervisor.listen(None)
        run_file.remove(config.state)


@contextmanager
def until_ctrl_c() -> Iterator[None]:
    """What is within ends with Ctrl-C or SIGTERM, and what is around it goes on from there."""
    _interrupts.clear()
    taken = [number for number in signal.valid_signals() if signal.getsignal(number) is signal.default_int_handler]
    try:
        for number in taken:
            signal.signal(number, _interrupt)
        yield
    except KeyboardInterrupt:
        logs.line("stopping")
    finally:
        for number in taken:
            signal.signal(number, signal.default_int_handler)


_interrupts: list[int] = []  # the signals that have come


def _interrupt(number: int, _: object) -> None:
    _interrupts.append(number)
    raise KeyboardInterrupt


def wait() -> None:
    """Within `until_ctrl_c`, until then: also where Python loses a KeyboardInterrupt, as it does in whatever object is
    being finalised at that moment, gRPC's channels for example."""
    while not _interrupts:
        time.sleep(0.5)  # a signal that comes just before a sleep begins does not end it
    raise KeyboardInterrupt
