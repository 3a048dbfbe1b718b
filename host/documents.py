"""A folder's documents: which files are read, as what, and why the others are not."""

from __future__ import annotations

import fnmatch
import hashlib
import os
import stat
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from host.chunks import Kind, Line, lines_of
from host.html_lines import html_lines
from shared.errors import StartError

LARGEST = 2**20  # bytes; what is larger is data rather than a document
_SKIPPED_FOLDERS = frozenset(("node_modules", "__pycache__"))
_GENERATED = ("*_pb2*.py*",)
# fmt: off
_TEXT = ("", ".txt", ".rst", ".adoc", ".org", ".tex", ".log")
_MARKDOWN = (".md", ".markdown", ".mdx")
_HTML = (".html", ".htm", ".xhtml")
_SOURCE = (
    ".py", ".pyi", ".go", ".rs", ".js", ".mjs", ".jsx", ".ts", ".tsx", ".java", ".kt", ".scala", ".c", ".h", ".cc",
    ".cpp", ".hpp", ".cs", ".rb", ".php", ".swift", ".lua", ".pl", ".r", ".jl", ".ex", ".hs", ".sh", ".bash", ".ps1",
    ".sql", ".proto", ".css", ".scss", ".toml", ".yaml", ".yml", ".ini", ".cfg", ".mk", ".tf",
)
# fmt: on
KINDS: dict[str, Kind] = {
    **dict.fromkeys(_TEXT, "text"),
    **dict.fromkeys(_MARKDOWN, "markdown"),
    **dict.fromkeys(_HTML, "html"),
    **dict.fromkeys(_SOURCE, "source"),
}


@dataclass(frozen=True)
class Document:
    path: str  # below the folder, with "/"
    kind: Kind
    content: bytes  # UTF-8

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.content).hexdigest()

    def lines(self) -> list[Line]:
        text = self.content.decode("utf-8-sig")
        return html_lines(text) if self.kind == "html" else lines_of(text)


def documents(root: Path, skipped: Counter[str], include: Sequence[str] = ()) -> Iterator[Document]:
    """Every document below `root`, in the order of the paths. What is left out is counted in `skipped` by reason.

    `include`: with patterns such as `*.md`, only files whose name or path below `root` fits one.
    """
    for path in _paths(root, skipped):
        if include and not any(fnmatch.fnmatch(name, one) for one in include for name in (path, Path(path).name)):
            skipped["not included"] += 1
            continue
        found = read(root, path)
        if isinstance(found, Document):
            yield found
        else:
            skipped[found] += 1


def read(root: Path, path: str) -> Document | str:
    """The document, or why it is none."""
    kind = KINDS.get(os.path.splitext(path)[1].lower())
    if any(fnmatch.fnmatch(os.path.basename(path), pattern) for pattern in _GENERATED):
        return "generated"
    if kind is None:
        return "of no kind that is read"
    try:
        about = (root / path).stat()
        if not stat.S_ISREG(about.st_mode):
            return "not a regular file"
        if about.st_size > LARGEST:
            return "over 1 MiB"
        content = (root / path).read_bytes()
        text = content.decode("utf-8")
        path.encode("utf-8")
    except OSError:
        return "unreadable"
    except UnicodeError:
        return "binary or not UTF-8"
    return "binary or not UTF-8" if "\0" in text else Document(path, kind, content)


def _paths(root: Path, skipped: Counter[str]) -> Iterator[str]:
    def failed(error: OSError) -> None:
        if Path(error.filename) == root:
            raise StartError(f"cannot read folder {root}: {error.strerror}")
        skipped["unreadable"] += 1

    for folder, folders, files in os.walk(root, onerror=failed):
        kept = [name for name in folders if not _is_foreign(Path(folder, name))]
        skipped["hidden or foreign folder"] += len(folders) - len(kept)
        folders[:] = sorted(kept)
        for name in sorted(files):
            if name.startswith("."):
                skipped["hidden"] += 1
            else:
                yield Path(folder, name).relative_to(root).as_posix()


def _is_foreign(folder: Path) -> bool:
    """Not written by the author of the documents: settings of tools, packages, caches, virtual environments."""
    return folder.name.startswith(".") or folder.name in _SKIPPED_FOLDERS or (folder / "pyvenv.cfg").exists()
