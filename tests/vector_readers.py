"""Readers of a vector store in processes of their own, called as if they were here."""

from __future__ import annotations

import importlib
import multiprocessing
import time
from collections.abc import Mapping
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from plugins.vector_hnsw.engine import Engine, ReaderEngine

# What a reader answers as the writer does.
READS = {
    "search", "search_many", "get", "page", "count", "describe", "describe_all", "list_aliases", "list_snapshots",
}  # fmt: skip


class Reader:
    """A ReaderEngine in another process, which may open one folder after another.

    `patches` are its thresholds: {"flat.MOST": 30}.
    """

    def __init__(self, patches: Mapping[str, object] | None = None) -> None:
        self._patches = dict(patches or {})
        self._begin()

    def _begin(self) -> None:
        self._is_open = False
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, self._patches), daemon=True)
        self._process.start()
        theirs.close()

    def open(self, folder: Path) -> None:
        if self._is_open:
            self("close")
        self("open", folder)
        self._is_open = True

    def close(self) -> None:
        if self._is_open:
            self("close")
        self._is_open = False

    def kill(self) -> None:
        """SIGKILL, and another process that has nothing open."""
        self.end()
        self._begin()

    def end(self) -> None:
        self._process.kill()
        self._process.join()

    def __call__(self, name: str, *values: Any, **options: Any) -> Any:
        self._pipe.send((name, values, options))
        result, error = self._pipe.recv()
        if error is not None:
            raise error
        return result


class Beside:
    """An engine that writes, with readers beside it: what is asked is asked of the `chosen` one of them (0: the
    writer), and the rest of the writer."""

    def __init__(self, writer: Engine, readers: list[Reader]) -> None:
        self._writer = writer
        self._readers = readers
        self.chosen = 0

    def __getattr__(self, name: str) -> Any:
        if name not in READS or not self.chosen:
            return getattr(self._writer, name)
        reader = self._readers[self.chosen - 1]
        return lambda *values, **options: reader(name, *values, **options)


def _serve(pipe: Connection, patches: Mapping[str, object]) -> None:
    for name, value in patches.items():
        module, _, variable = name.partition(".")
        setattr(importlib.import_module(f"plugins.vector_hnsw.engine.{module}"), variable, value)
    engine: ReaderEngine | None = None
    while True:
        try:
            name, values, options = pipe.recv()
        except EOFError:
            return
        try:
            result = None
            if name == "open":
                engine = ReaderEngine(*values, threads=1)
                engine.open()
            elif name == "settle":
                assert engine is not None
                _settle(engine)
            else:
                result = getattr(engine, name)(*values, **options)
            pipe.send((result, None))
        except Exception as error:
            pipe.send((None, error))


def _settle(engine: ReaderEngine) -> None:
    """Waits for rebuilds, of what was written until now."""
    engine.list_aliases()
    while any(entry.rebuilding or entry.graph is None for entry in engine._by_number.values()):
        time.sleep(0.01)
