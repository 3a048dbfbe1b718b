"""What a person sees: the table of plugins, the progress of an index run, the passages found."""

from __future__ import annotations

import shlex
import textwrap
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from host.index import Tally
from host.prune import Pruned
from host.search import Passage, excerpt
from host.supervisor import Status
from shared.visible import visible, visible_line

out = Console(highlight=False)
err = Console(stderr=True, highlight=False)
_INDENT = "   "


def plugins(statuses: Iterable[Status]) -> None:
    table = Table("name", "type", "address", "status", "pid")
    for status in statuses:
        pid = "-" if status.pid is None else str(status.pid)
        table.add_row(*(escape(plain(text)) for text in (status.name, status.kind, status.address, status.status, pid)))
    out.print(table)


@contextmanager
def progress() -> Iterator[Callable[[Tally], None]]:
    """A bar on stderr while a person watches; what it yields is called with the tally as it grows."""
    columns = (
        BarColumn(),
        TextColumn("{task.fields[files]} files · {task.fields[chunks]} chunks · {task.fields[rate]} chunks/s · left"),
        TimeRemainingColumn(),
    )
    began = time.monotonic()
    with Progress(*columns, console=err, transient=True, disable=not err.is_terminal) as bar:
        task = bar.add_task("", total=None, files="0", chunks=0, rate="-")

        def report(tally: Tally) -> None:
            bar.update(
                task,
                total=tally.bytes_to_embed,
                completed=tally.bytes_embedded,
                files=f"{tally.unchanged + tally.embedded}/{tally.files}",
                chunks=tally.chunks,
                rate=f"{tally.chunks / (time.monotonic() - began):.1f}",
            )

        yield report


def indexed(tally: Tally, seconds: float, verbose: bool = False) -> None:
    """What was done, and what was left out: a line of numbers each; with `verbose` a line before for each that was."""
    if verbose:
        for path, reason in sorted(tally.skipped.paths):
            _print(f"skipped {path}: {reason}")
    for old, chunks in tally.moved.items():
        _print(f"{old} is gone and its files are here: {chunks} chunks taken along")
    for outer, below in tally.doubled:
        remedy = shlex.join(["index", outer, "--exclude", f"/{below}/"])
        _print(f"{below} is indexed by itself too, so its passages are there twice: {remedy}")
    out.print(
        f"{tally.files} files read, {tally.unchanged} unchanged, {tally.chunks} chunks embedded, "
        f"{tally.removed} removed, {seconds:.1f} s",
        soft_wrap=True,
    )
    if tally.truncated:
        out.print(f"{tally.truncated} chunks are longer than the model reads: lower chunk_chars", soft_wrap=True)
    reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(tally.skipped.reasons().items()))
    out.print(f"skipped: {reasons or 'nothing'}", soft_wrap=True)


def pruned(pruned: Pruned) -> None:
    for folder, count in pruned.of_folders.items():
        _print(f"{count} chunks removed of {folder}, which is gone")
    for folder, count in (+pruned.of_files).items():
        _print(f"{count} chunks removed of files that are gone from {folder}")
    if not pruned.of_folders and not +pruned.of_files:
        _print("nothing to prune")
    for folder, count in pruned.unknown.items():
        remedy = shlex.join(["index", folder, "--prune"])
        _print(f"{count} chunks left of {folder}, which was indexed from elsewhere and is not here: {remedy}")


def passages(hits: Sequence[Passage], question: str) -> None:
    """Rank, place, heading, score, and the part of the passage that is nearest to the question."""
    if not hits:
        out.print("nothing found; `python -m host index DIR` fills the collection")
    for passage in hits:
        head = Text.assemble(
            f"{passage.rank}. ",
            (plain(passage.place), "bold cyan"),
            "  ",
            (f"score {passage.score:.3f}", "green"),
        )
        if passage.heading:
            head.append(f"  {plain(passage.heading)}", "italic")
        out.print(head, soft_wrap=True)
        for line in visible(textwrap.dedent(excerpt(passage.text, question))).split("\n"):
            out.print("\n".join(_wrapped(line)), markup=False, soft_wrap=True)
        out.print()


def plain(text: str) -> str:
    """As a line on a terminal, which a document, a file's name or a plugin's output must not give orders to."""
    return visible_line(text)


def _print(line: str) -> None:
    out.print(plain(line), markup=False, soft_wrap=True)


def _wrapped(line: str) -> list[str]:
    """Indented, and on a terminal wrapped below its own start."""
    if not out.is_terminal:
        return [(_INDENT + line).rstrip()]
    indent = _INDENT + line[: len(line) - len(line.lstrip())]
    return textwrap.wrap(line.strip(), out.width, initial_indent=indent, subsequent_indent=indent) or [""]
