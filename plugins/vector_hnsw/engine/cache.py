"""A graph on disk: only a cache, so anything doubtful about it means to build it anew.

hnswlib loads damaged files silently or crashes on them, and it saves to a full disk without complaint. So a graph
is written aside, its size checked, synced, and renamed; then a small JSON header with the checksum of both is, in
the same way. The header's rename is the moment from which the new graph counts.

The files are in `graphs/UUID/`, by the store's uuid: what lies beside it may be somebody else's, and is neither
read nor removed.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import logging
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from shared.errors import InvalidArgument

from . import checks
from .files import make_file, make_folder, sync_file, sync_folder
from .graph import Graph
from .store import Collection

_log = logging.getLogger("hector")
_FORMAT = 3
_OURS = re.compile(r"(?P<number>\d+)(\.json|-\d+\.hnsw)(?P<aside>\.tmp)?")
# All that reading a damaged header or file can raise.
_DOUBTFUL = (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError)


class GraphCache:
    """The graphs of one store, in a folder of their own below `folder`. `store` is the store's uuid: another store's
    graphs are not read."""

    def __init__(self, folder: Path, store: str) -> None:
        self._folder = folder / store
        self._store = store
        make_folder(self._folder)
        self._move_in(folder)

    def save(self, graph: Graph, collection: Collection, sequence: int) -> bool:
        """Writes the graph, which has every write up to `sequence`. False, logged, when the disk would not take it."""
        name = f"{collection.number}-{sequence}.hnsw"
        try:
            self._write_graph(graph, name)
            made = replace(collection, m=graph.m, ef_construction=graph.ef_construction)
            header = self._header(made) | {"file": name, "sequence": sequence}
            header["sha256"] = _checksum(self._folder / name, header)
            self._write_header(collection.number, header)
        except (OSError, RuntimeError) as error:
            _log.warning("event=graph_not_saved collection=%s cause=%r", collection.name, str(error))
            (self._folder / name).unlink(missing_ok=True)
            return False
        finally:
            for path, _, aside in self._files():
                if aside:
                    path.unlink(missing_ok=True)
        self._remove(collection.number, but=name)
        return True

    def load(self, graph: Graph, collection: Collection, newest: int) -> tuple[int, npt.NDArray[np.int64]] | None:
        """Fills `graph` from disk: its sequence, and the labels in it. None, logged with the cause, when it must be
        built.

        `newest` is the store's sequence: a graph from beyond it belongs to a future that a backup undid.
        """
        if not self.has(collection):
            return None
        try:
            header = self._verified(collection, newest)
            return int(header["sequence"]), graph.read_file(str(self._folder / header["file"]))
        except _DOUBTFUL as error:
            _log.warning("event=graph_rebuilt collection=%s cause=%r", collection.name, str(error))
            self.remove(collection.number)
            return None

    def as_saved(self, collection: Collection) -> Collection:
        """The collection with the index parameters that the graph on disk was made with; they may be others by now."""
        try:
            header = json.loads(self._header_path(collection).read_bytes())
            return replace(
                collection, **checks.index_parameters(m=header["m"], ef_construction=header["ef_construction"])
            )
        except (*_DOUBTFUL, InvalidArgument):
            return collection

    def has(self, collection: Collection) -> bool:
        """Whether a graph of it was saved."""
        return self._header_path(collection).exists()

    def why_not(self, collection: Collection, newest: int) -> str:
        """Why `load` would not take what is on disk; empty when it would."""
        try:
            self._verified(collection, newest)
        except _DOUBTFUL as error:
            return str(error)
        return ""

    def _verified(self, collection: Collection, newest: int) -> dict[str, Any]:
        header: dict[str, Any] = json.loads(self._header_path(collection).read_bytes())
        checksum = header.pop("sha256")
        wrong = [key for key, value in self._header(collection).items() if header[key] != value]
        if wrong:
            raise ValueError(f"it was made with another {wrong[0]}")
        if header["sequence"] > newest:
            raise ValueError("it is newer than the database")
        header["file"] = str(Path(header["file"]).name)
        if checksum != _checksum(self._folder / header["file"], header):
            raise ValueError("its checksum is wrong")
        return header

    def _header_path(self, collection: Collection) -> Path:
        return self._folder / f"{collection.number}.json"

    def remove(self, number: int) -> None:
        """Deletes what is kept of a collection."""
        (self._folder / f"{number}.json").unlink(missing_ok=True)
        self._remove(number)

    def remove_all_but(self, numbers: set[int]) -> None:
        """Deletes what is kept of collections that are no more, and what a kill left half written."""
        for path, number, aside in self._files():
            if aside or number not in numbers:
                path.unlink(missing_ok=True)

    def size(self, number: int) -> int:
        """Bytes on disk."""
        size = 0
        for path in self._folder.glob(f"{number}-*.hnsw"):
            with suppress(FileNotFoundError):  # a newer one has taken its place meanwhile
                size += path.stat().st_size
        return size

    def _header(self, collection: Collection) -> dict[str, Any]:
        return {
            "format": _FORMAT,
            "hnswlib": importlib.metadata.version("hnswlib"),
            "store": self._store,
            "number": collection.number,
            "space": collection.metric.space,
            "dimension": collection.dimension,
            "m": collection.m,
            "ef_construction": collection.ef_construction,
        }

    def _files(self) -> Iterator[tuple[Path, int, bool]]:
        """Those that this class has written: each with its collection's number, and whether it was half written."""
        for path in self._folder.iterdir():
            if (ours := _OURS.fullmatch(path.name)) and path.is_file():
                yield path, int(ours["number"]), bool(ours["aside"])

    def _move_in(self, folder: Path) -> None:
        """Takes over the graphs of this store that an earlier version has written beside everybody else's."""
        for path in folder.glob("*.json"):
            with suppress(*_DOUBTFUL):
                header = json.loads(path.read_bytes())
                if _OURS.fullmatch(path.name) and header["store"] == self._store and _OURS.fullmatch(header["file"]):
                    (folder / header["file"]).replace(self._folder / header["file"])
                    path.replace(self._folder / path.name)

    def _write_graph(self, graph: Graph, name: str) -> None:
        aside = self._folder / (name + ".tmp")
        make_file(aside)
        expected = graph.write_file(str(aside))
        if aside.stat().st_size != expected:
            raise OSError(f"{aside.stat().st_size} of {expected} bytes were written; is the disk full?")
        sync_file(aside)
        aside.replace(self._folder / name)

    def _write_header(self, number: int, header: dict[str, Any]) -> None:
        aside = self._folder / f"{number}.json.tmp"
        make_file(aside)
        aside.write_text(json.dumps(header), encoding="utf-8")
        sync_file(aside)
        # The graph's name must be durable before a header points to it.
        sync_folder(self._folder)
        aside.replace(self._folder / f"{number}.json")
        sync_folder(self._folder)

    def _remove(self, number: int, but: str = "") -> None:
        for path, of, _ in self._files():
            if of == number and path.name != but and path.suffix != ".json":
                path.unlink(missing_ok=True)


def _checksum(file: Path, header: dict[str, Any]) -> str:
    digest = hashlib.sha256(json.dumps(header, sort_keys=True).encode())
    with file.open("rb") as content:
        while block := content.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
