"""What a collection holds of which file, so that a second run embeds only what changed.

The ids of a file's chunks are numbered, so their number says them all. A file's entry is saved twice: before its
chunks are written, without a hash and with as many ids as may then exist, and with its hash when everything is
there. So after a crash at any moment every id in the collection is known here, and what is not known to be whole is
embedded again. A list that is lost, or of an older state of the collection, is completed from the collection.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from host import atomic

_LARGEST = 2**28  # bytes; a million files are about half of that
MOST_CHUNKS = 2**22  # of one file: it has at most that many characters (`host/documents.py`, `host/readers/worker.py`)


@dataclass(frozen=True)
class Settings:
    """What every entry depends on. Where one differs, nothing that was embedded before is good any more."""

    model: str
    dimension: int
    chunk_chars: int
    chunk_overlap: int


@dataclass(frozen=True)
class Entry:
    sha256: str  # of the file's content; empty: not known to be whole
    chunks: int  # ids number 0 to chunks - 1 may exist


class Manifest:
    """The entries of every folder that was indexed into one collection, read from and saved to one file."""

    def __init__(self, path: Path, settings: Settings) -> None:
        """Reads `path`; a file that is missing, broken or of other settings has no hashes."""
        self._path = path
        self._settings = settings
        self.whole = False  # the file's hashes can be trusted
        self.store: tuple[int, int] | None = None  # count and sequence of the collection when the last run ended
        self.roots: dict[str, dict[str, Entry]] = {}  # by folder, the entries by path below it
        try:
            document = atomic.read(path, at_most=_LARGEST)
            self.roots, self.whole = _entries(document), _is_whole(document, settings)
        except (OSError, ValueError):
            return
        if self.whole:
            self.store = _store(document)
        else:
            self.roots = {
                folder: {name: Entry("", entry.chunks) for name, entry in files.items()}
                for folder, files in self.roots.items()
            }

    def of(self, root: Path) -> dict[str, Entry]:
        """The entries of one folder, which may be a new one. What is changed in them is saved."""
        return self.roots.setdefault(str(root), {})

    def clear(self) -> None:
        """Forgets everything: the collection is a new one."""
        self.roots.clear()

    def save(self, *, whole: bool = True) -> None:
        """Atomically. `whole=False` has the next reader trust no hash. Raises StartError."""
        roots = {
            folder: {name: [entry.sha256, entry.chunks] for name, entry in files.items()}
            for folder, files in self.roots.items()
        }
        document = {"whole": whole, "settings": asdict(self._settings), "store": self.store, "roots": roots}
        atomic.write(self._path, json.dumps(document) + "\n")  # with `indent` it takes ten times as long

    def hash_of(self, metadata: Mapping[str, Any]) -> str:
        """Of the file that a chunk is of; empty where the chunk was cut by other settings than these."""
        cut_by = metadata.get("chunk_chars"), metadata.get("chunk_overlap")
        is_current = cut_by == (self._settings.chunk_chars, self._settings.chunk_overlap)
        return str(metadata.get("sha256", "")) if is_current else ""

    def compare(self, stored: Mapping[str, str]) -> list[str]:
        """Takes what is in the collection for the truth, for every root: the `hash_of` each chunk by its id.

        A file whose chunks are not all there, or of which there are more than the list has, has no hash any more.
        Returns the ids that no file of these roots can have.
        """
        impossible: list[str] = []
        roots = {_prefix(root): (root, files) for root, files in self.roots.items()}
        names = {root: {_name(path): path for path in files} for root, files in self.roots.items()}
        for key in stored:
            prefix, slash, rest = key.partition("/")
            if prefix + slash not in roots:
                continue  # of a folder that is not indexed from here
            root, files = roots[prefix + slash]
            name, _, digits = rest.rpartition("#")
            number = int(digits) if digits.isdecimal() and len(digits) < 9 else MOST_CHUNKS
            path = names[root].get(name, name)
            if number >= MOST_CHUNKS or chunk_id(root, path, number) != key:
                impossible.append(key)
            elif path not in files or files[path].chunks <= number:
                files[path] = Entry("", number + 1)
        for root, files in self.roots.items():
            for path, entry in files.items():
                if any(stored.get(key) != entry.sha256 for key in chunk_ids(root, path, entry)):
                    files[path] = Entry("", entry.chunks)
        return impossible


def _prefix(root: str) -> str:
    return f"{hashlib.sha256(root.encode()).hexdigest()[:12]}/"


def chunk_ids(root: Path | str, path: str, entry: Entry) -> list[str]:
    """Those that may exist."""
    return [chunk_id(root, path, number) for number in range(entry.chunks)]


def chunk_id(root: Path | str, path: str, number: int) -> str:
    """`HASH/path#number`, HASH being the folder's. A path too long for an id (512 bytes) is hashed too."""
    return f"{_prefix(str(root))}{_name(path)}#{number}"


def _name(path: str) -> str:
    return path if len(path.encode()) <= 480 else hashlib.sha256(path.encode()).hexdigest()


def _entries(document: object) -> dict[str, dict[str, Entry]]:
    """Each root's entries by path. Raises ValueError where that is not what `save` writes."""
    match document:
        case {"roots": dict(roots)} if all(isinstance(files, dict) for files in roots.values()):
            return {
                _utf8(root): {_utf8(name): _entry(entry) for name, entry in files.items()}
                for root, files in roots.items()
            }
    raise ValueError("no manifest")


def _utf8(name: str) -> str:
    name.encode()  # JSON can name what UTF-8 cannot
    return name


def _entry(value: object) -> Entry:
    match value:
        case [str(sha256), int(chunks)] if 0 <= chunks <= MOST_CHUNKS:
            return Entry(sha256, int(chunks))
    raise ValueError("no entry of a manifest")


def _store(document: object) -> tuple[int, int] | None:
    match document:
        case {"store": [int(count), int(sequence)]}:
            return count, sequence
    return None


def _is_whole(document: object, settings: Settings) -> bool:
    match document:
        case {"whole": True, "settings": dict(written)}:
            return written == asdict(settings)
    return False
