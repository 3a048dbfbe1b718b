"""What `python -m host` does, one function a command. Each returns the exit status and raises StartError."""

from __future__ import annotations

import hashlib
import os
import shlex
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

from host import run_file, show
from host.clients import opened
from host.config import Database, HostConfig
from host.index import index as bring_in_line
from host.prune import prune as take_out
from host.run_file import RunFile
from host.search import search as find
from host.supervisor import supervise
from shared import logs
from shared.errors import StartError
from shared.visible import visible_json


def serve(config: HostConfig) -> int:
    """All plugins, until Ctrl-C or SIGTERM."""
    logs.setup("info")
    with serving(config):
        print("Ctrl-C stops them.", flush=True)
        _wait_for_ctrl_c()
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


def demo(config: HostConfig, folder: Path | None, question: str, keep: bool) -> int:
    """All of the above in one go, with the plugins of the running host where there is one.

    Without `folder` it indexes the Markdown files beside the YAML. Each folder has a collection of its own, so that
    only that folder answers.
    """
    again = ["demo", *([str(folder)] if folder else []), "-q", "your own question"]
    include = () if folder else ("*.md",)
    folder = folder or config.folder
    database = config.database()
    suffix = hashlib.sha256(os.fsencode(folder.resolve())).hexdigest()[:12]
    database = replace(database, collection=f"{database.collection[:100]}-demo-{suffix}")
    with ExitStack() as stack:
        run = run_file.read(config.state)
        shared = run is not None and run.config == str(config.file)
        if not shared:
            stack.enter_context(serving(config, quiet=True))
        index(config, folder, database, include)
        show.out.print(f"\nQ: {question}\n", style="bold", markup=False)
        search(config, question, 5, database, False)
        print("To try next:")
        for arguments in (again, ["index", "FOLDER"], ["search", "your own question"], ["serve"]):
            print("  " + _command(config, arguments))
        if keep and not shared:
            print("The plugins stay up; Ctrl-C stops them.", flush=True)
            _wait_for_ctrl_c()
    return 0


@contextmanager
def serving(config: HostConfig, *, quiet: bool = False) -> Iterator[None]:
    """Within, every plugin runs, was shown in a table and can be found through `.hector/run.json`."""
    if not config.plugins:
        raise StartError(f"{config.file} has no enabled plugin under `plugins:`")
    with (
        run_file.locked(config.state),
        supervise(config, config.plugins.values(), quiet=quiet) as supervisor,
    ):
        show.plugins(supervisor.statuses())
        try:
            run_file.write(config.state, RunFile(os.getpid(), str(config.file), supervisor.addresses()))
            yield
        finally:
            run_file.remove(config.state)


def _wait_for_ctrl_c() -> None:
    try:
        while True:
            time.sleep(3600)
    except KeyboardInterrupt:
        logs.line("stopping")


def _command(config: HostConfig, arguments: list[str]) -> str:
    """The command line, as it works in the current folder."""
    here = Path.cwd()
    python = Path(sys.executable)
    parts = [str(python.relative_to(here)) if python.is_relative_to(here) else str(python), "-m", "host", *arguments]
    if config.file != here / "hector.yaml":
        parts += ["--config", str(config.file.relative_to(here) if config.file.is_relative_to(here) else config.file)]
    return shlex.join(parts)
