"""Brings a collection in line with a folder: embeds what is new or changed, removes what is gone.

The order survives a crash at any moment (see `host/manifest.py`): note what may come to exist, upsert, delete what
is stale, note that it is whole.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from host import config
from host.chunks import Chunk, chunk
from host.clients import Collection, Embedder
from host.documents import Document, Skipped, documents, read
from host.manifest import Entry, Manifest, chunk_id, chunk_ids
from host.moved import doubled, moved_from, take_along
from host.readers.lines import read_lines
from host.readers.process import ReadingProcess
from host.readers.unreadable import Unreadable
from host.reconcile import reconciled, resolved

TEXTS_AT_ONCE = 32  # in one call of the embedder
_CHARS_AT_ONCE = 2**19  # and so many: many servers take no message of over 4 MiB
GROUP_CHUNKS = 256  # about so many, or files, between two saves of the manifest; an interrupted run loses no more


@dataclass
class Tally:
    """How far a run is. `report` gets the same object again and again."""

    files: int = 0  # read
    unchanged: int = 0  # of these
    embedded: int = 0  # of these, so far
    chunks: int = 0  # embedded so far
    truncated: int = 0  # of these, longer than the model reads
    removed: int = 0  # chunks deleted so far
    bytes_to_embed: int = 0
    bytes_embedded: float = 0
    skipped: Skipped = field(default_factory=Skipped)
    moved: dict[str, int] = field(default_factory=dict)  # folders that are here now: their chunks that were taken along
    doubled: list[tuple[str, str]] = field(default_factory=list)  # a folder, and one below it that is indexed too


@dataclass(frozen=True)
class _Cut:
    """A document's chunks. Not its content, which can be a hundred times as large."""

    path: str
    sha256: str
    size: int  # bytes
    chunks: Sequence[Chunk]


def index(
    folder: Path,
    database: config.Database,
    embedder: Embedder,
    collection: Collection,
    state: Path,
    report: Callable[[Tally], None] = lambda tally: None,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
) -> Tally:
    """Indexes what is below `folder` and fits a pattern of `include`, if there are any, and none of `exclude`; what
    does not is removed.

    The manifest is kept in `state`. Raises StartError.
    """
    root = resolved(folder)
    with ReadingProcess() as process, reconciled(database, embedder, collection, state, root) as (manifest, removed):
        run = _Run(root, database, embedder, collection, manifest, report, process)
        run.tally.removed += removed
        run.update(include, exclude)
        run.tally.doubled = list(doubled(manifest, root))
    return run.tally


class _Run:
    def __init__(
        self,
        root: Path,
        database: config.Database,
        embedder: Embedder,
        collection: Collection,
        manifest: Manifest,
        report: Callable[[Tally], None],
        process: ReadingProcess,
    ) -> None:
        self.tally = Tally()
        self._root = root
        self._database = database
        self._embedder = embedder
        self._collection = collection
        self._manifest = manifest
        self._files = manifest.of(root)
        self._report = report
        self._process = process

    def update(self, include: Sequence[str], exclude: Sequence[str] = ()) -> None:
        tally, files = self.tally, self._files
        hashes: dict[str, str] = {}
        sizes: dict[str, int] = {}
        for document in documents(self._root, tally.skipped, include, exclude):
            tally.files += 1
            hashes[document.path] = document.sha256
            sizes[document.path] = len(document.content)
        for old in moved_from(self._manifest, self._root, hashes):
            tally.moved[old] = take_along(self._manifest, self._collection, old, self._root, hashes)
        changed = [path for path, sha256 in hashes.items() if path not in files or files[path].sha256 != sha256]
        tally.unchanged = len(hashes) - len(changed)
        tally.bytes_to_embed = sum(sizes[path] for path in changed)
        self._remove(files.keys() - hashes.keys())
        self._report(tally)
        for group in self._groups(changed):
            self._replace(group)
            self._report(tally)

    def _remove(self, paths: set[str]) -> None:
        if not paths:
            return
        files = self._files
        gone = [key for path in sorted(paths) for key in chunk_ids(self._root, path, files[path])]
        self.tally.removed += self._collection.delete(gone)
        for path in paths:
            del files[path]
        self._manifest.save()

    def _groups(self, paths: Sequence[str]) -> Iterator[list[_Cut]]:
        chars, overlap = self._database.chunk_chars, self._database.chunk_overlap
        group: list[_Cut] = []
        for path in paths:
            document = read(self._root, path)
            if not isinstance(document, Document):  # since it was listed it has changed
                self._skip(path, document)
                continue
            try:
                lines = read_lines(document, self._process)
            except Unreadable as error:
                self._skip(path, str(error))
                self.tally.bytes_to_embed -= len(document.content)
                continue
            chunks = chunk(lines, document.kind, chars=chars, overlap=overlap)
            group.append(_Cut(path, document.sha256, len(document.content), chunks))
            if max(len(group), sum(len(cut.chunks) for cut in group)) >= GROUP_CHUNKS:
                yield group
                group = []
        if group:
            yield group

    def _skip(self, path: str, reason: str) -> None:
        """It was counted as read, and what there is of it is of an earlier state that it could be read in."""
        self.tally.files -= 1
        self.tally.skipped.add(path, reason)
        self._remove({path} & self._files.keys())

    def _replace(self, group: Sequence[_Cut]) -> None:
        """Puts the chunks of `group` in the place of those that its files had."""
        manifest, files = self._manifest, self._files
        stale: list[str] = []
        for cut in group:
            before = files.get(cut.path, Entry("", 0)).chunks
            stale += [chunk_id(self._root, cut.path, number) for number in range(len(cut.chunks), before)]
            files[cut.path] = Entry("", max(before, len(cut.chunks)))
        manifest.save()
        self._write(group)
        self.tally.removed += self._collection.delete(stale)
        for cut in group:
            files[cut.path] = Entry(cut.sha256, len(cut.chunks))
        manifest.save()
        self.tally.embedded += len(group)

    def _write(self, group: Sequence[_Cut]) -> None:
        """Embeds and upserts; a batch is upserted while the next is embedded."""
        items = [(cut, number) for cut in group for number in range(len(cut.chunks))]
        with ThreadPoolExecutor(1) as writer:
            writing: Future[None] | None = None
            at_once = max(1, min(TEXTS_AT_ONCE, _CHARS_AT_ONCE // self._database.chunk_chars))
            for start in range(0, len(items), at_once):
                batch = items[start : start + at_once]
                embedded = self._embedder.documents([_context(cut, number) for cut, number in batch])
                if writing:
                    writing.result()
                ids = [chunk_id(self._root, cut.path, number) for cut, number in batch]
                vectors = dict(zip(ids, embedded.vectors, strict=True))
                metadata = {key: self._metadata(*item) for key, item in zip(ids, batch, strict=True)}
                writing = writer.submit(self._collection.upsert, vectors, metadata)
                self.tally.chunks += len(batch)
                self.tally.truncated += embedded.truncated
                self.tally.bytes_embedded += sum(cut.size / len(cut.chunks) for cut, _ in batch)
                self._report(self.tally)
            if writing:
                writing.result()

    def _metadata(self, cut: _Cut, number: int) -> dict[str, Any]:
        piece = cut.chunks[number]
        position = {"position": piece.place} if piece.place else {}
        return position | {
            "path": cut.path,
            "root": str(self._root),
            "line": piece.line,
            "end_line": piece.end_line,
            "heading": piece.heading,
            "text": piece.text,
            "sha256": cut.sha256,
            "chunk_chars": self._database.chunk_chars,
            "chunk_overlap": self._database.chunk_overlap,
        }


def _context(cut: _Cut, number: int) -> str:
    """What is embedded: the passage below the names of its file and headings, which often hold the question's words."""
    piece = cut.chunks[number]
    above = f"{cut.path} > {piece.heading}" if piece.heading else cut.path
    return f"{above}\n\n{piece.text}"
