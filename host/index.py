"""Brings a collection in line with a folder: embeds what is new or changed, removes what is gone.

The order survives a crash at any moment (see `host/manifest.py`): note what may come to exist, upsert, delete what
is stale, note that it is whole. Two runs at once on one collection are not guarded against.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from host import config
from host.chunks import Chunk, chunk
from host.clients import Collection, Embedder
from host.connect import CallFailed
from host.documents import Document, documents, read
from host.manifest import Entry, Manifest, Settings
from shared.errors import Code, StartError

TEXTS_AT_ONCE = 32  # in one call of the embedder
GROUP_CHUNKS = 256  # about so many between two saves of the manifest; an interrupted run loses no more


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
    skipped: Counter[str] = field(default_factory=Counter)  # files and folders, by reason


@dataclass(frozen=True)
class _Cut:
    """A document and its chunks."""

    document: Document
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
    root = folder.resolve()
    try:
        str(root).encode("utf-8")
    except UnicodeEncodeError:
        raise StartError(f"the name of folder {folder} is not UTF-8; rename it") from None
    settings = Settings(
        database.plugin.name, embedder.model, embedder.dimension, database.chunk_chars, database.chunk_overlap
    )
    manifest = Manifest(state / f"index-{collection.name}.json", root, settings)
    _create(collection, embedder.dimension, manifest)
    run = _Run(root, database, embedder, collection, manifest, report)
    before = collection.state()
    if before is None or before != manifest.store:
        run.believe_the_store()
    manifest.store = None
    run.update(include, exclude)
    after = collection.state()
    if after and after[1] == (collection.written_at or (before or (0, 0))[1]):  # nobody else has written
        manifest.store = after
    manifest.save()
    return run.tally


def _create(collection: Collection, dimension: int, manifest: Manifest) -> None:
    """Makes the collection where it is missing, and then forgets what an earlier one of this name held."""
    if manifest.whole:
        # Should this run die before it knows whether the collection is new, the next trusts no hash.
        manifest.save(whole=False)
    try:
        created = collection.create(dimension)
    except CallFailed as error:
        if manifest.whole and error.answered:
            manifest.save()
        raise
    if created:
        manifest.clear()
    manifest.save()


class _Run:
    def __init__(
        self,
        root: Path,
        database: config.Database,
        embedder: Embedder,
        collection: Collection,
        manifest: Manifest,
        report: Callable[[Tally], None],
    ) -> None:
        self.tally = Tally()
        self._root = root
        self._database = database
        self._embedder = embedder
        self._collection = collection
        self._manifest = manifest
        self._report = report

    def believe_the_store(self) -> None:
        """Somebody else has written into the collection, or a copy was put back: what is there counts, not the list.

        A file whose chunks are not all there, as of its hash, is embedded again; a chunk of no known file is deleted.
        """
        try:
            there = {key: str(about.get("sha256", "")) for key, about in self._collection.stored()}
        except CallFailed as error:
            if error.code == Code.UNIMPLEMENTED:
                return
            raise
        self.tally.removed += self._collection.delete(self._manifest.compare(there))

    def update(self, include: Sequence[str], exclude: Sequence[str] = ()) -> None:
        tally, files = self.tally, self._manifest.files
        changed: list[str] = []
        found: set[str] = set()
        for document in documents(self._root, tally.skipped, include, exclude):
            tally.files += 1
            found.add(document.path)
            if document.path in files and files[document.path].sha256 == document.sha256:
                tally.unchanged += 1
            else:
                changed.append(document.path)
                tally.bytes_to_embed += len(document.content)
        self._remove(files.keys() - found)
        self._report(tally)
        for group in self._groups(changed):
            self._replace(group)
            self._report(tally)

    def _remove(self, paths: set[str]) -> None:
        files = self._manifest.files
        gone = [self._manifest.chunk_id(path, n) for path in sorted(paths) for n in range(files[path].chunks)]
        self.tally.removed += self._collection.delete(gone)
        for path in paths:
            del files[path]
        self._manifest.save()

    def _groups(self, paths: Sequence[str]) -> Iterator[list[_Cut]]:
        chars, overlap = self._database.chunk_chars, self._database.chunk_overlap
        group: list[_Cut] = []
        for path in paths:
            document = read(self._root, path)
            if isinstance(document, Document):  # it may have gone since it was listed
                group.append(_Cut(document, chunk(document.lines(), document.kind, chars=chars, overlap=overlap)))
            if sum(len(cut.chunks) for cut in group) >= GROUP_CHUNKS:
                yield group
                group = []
        if group:
            yield group

    def _replace(self, group: Sequence[_Cut]) -> None:
        """Puts the chunks of `group` in the place of those that its files had."""
        manifest = self._manifest
        stale: list[str] = []
        for cut in group:
            path, before = cut.document.path, manifest.files.get(cut.document.path, Entry("", 0)).chunks
            stale += [manifest.chunk_id(path, number) for number in range(len(cut.chunks), before)]
            manifest.files[path] = Entry("", max(before, len(cut.chunks)))
        manifest.save()
        self._write(group)
        self.tally.removed += self._collection.delete(stale)
        for cut in group:
            manifest.files[cut.document.path] = Entry(cut.document.sha256, len(cut.chunks))
        manifest.save()
        self.tally.embedded += len(group)

    def _write(self, group: Sequence[_Cut]) -> None:
        """Embeds and upserts; a batch is upserted while the next is embedded."""
        items = [(cut, number) for cut in group for number in range(len(cut.chunks))]
        with ThreadPoolExecutor(1) as writer:
            writing: Future[None] | None = None
            for start in range(0, len(items), TEXTS_AT_ONCE):
                batch = items[start : start + TEXTS_AT_ONCE]
                embedded = self._embedder.documents([_context(cut, number) for cut, number in batch])
                if writing:
                    writing.result()
                ids = [self._manifest.chunk_id(cut.document.path, number) for cut, number in batch]
                vectors = dict(zip(ids, embedded.vectors, strict=True))
                metadata = {key: self._metadata(*item) for key, item in zip(ids, batch, strict=True)}
                writing = writer.submit(self._collection.upsert, vectors, metadata)
                self.tally.chunks += len(batch)
                self.tally.truncated += embedded.truncated
                self.tally.bytes_embedded += sum(len(cut.document.content) / len(cut.chunks) for cut, _ in batch)
                self._report(self.tally)
            if writing:
                writing.result()

    def _metadata(self, cut: _Cut, number: int) -> dict[str, Any]:
        found = cut.chunks[number]
        return {
            "path": cut.document.path,
            "root": str(self._root),
            "line": found.line,
            "end_line": found.end_line,
            "heading": found.heading,
            "text": found.text,
            "sha256": cut.document.sha256,
        }


def _context(cut: _Cut, number: int) -> str:
    """What is embedded: the passage below the names of its file and headings, which often hold the question's words."""
    found = cut.chunks[number]
    above = f"{cut.document.path} > {found.heading}" if found.heading else cut.document.path
    return f"{above}\n\n{found.text}"
