"""A folder's documents: which files are read, as what, and why the others are not."""

from __future__ import annotations

import hashlib
import os
import stat
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from host.chunks import Kind
from host.patterns import Ignored, Patterns
from shared.errors import StartError

LARGEST = 2**20  # bytes of a text; what is larger is data rather than a document
LARGEST_BINARY = 2**25  # of a file that holds pictures too
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
    **dict.fromkeys((".csv", ".tsv"), "table"),
    **dict.fromkeys((".json", ".geojson", ".webmanifest"), "json"),
    **dict.fromkeys((".jsonl", ".ndjson"), "json lines"),
    ".ipynb": "notebook",
    ".pdf": "pdf",
    ".docx": "docx",
}
BINARY: tuple[Kind, ...] = ("notebook", "pdf", "docx")


class Skipped:
    """What was left out: files, and folders with a "/" at the end."""

    def __init__(self) -> None:
        self.paths: list[tuple[str, str]] = []  # with the reason of each

    def add(self, path: str, reason: str) -> None:
        self.paths.append((path, reason))

    def reasons(self) -> Counter[str]:
        return Counter(reason for _, reason in self.paths)


@dataclass(frozen=True)
class Document:
    path: str  # below the folder, with "/"
    kind: Kind
    content: bytes

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.content).hexdigest()


def documents(
    root: Path, skipped: Skipped, include: Sequence[str] = (), exclude: Sequence[str] = ()
) -> Iterator[Document]:
    """Every document below `root`, in the order of the paths, and what links lead to beside. What is left out goes into
    `skipped`.

    `root` has no links in it, as of `Path.resolve`. `include` and `exclude` are patterns as in a `.gitignore`, such as
    `*.md`: with the first only files that fit. Raises StartError, at the end, where one of `include` fits no file.
    """
    try:
        included, ignored = [Patterns([pattern]) for pattern in include], Ignored(root, exclude)
    except ValueError as error:
        raise StartError(str(error)) from None
    of_use: set[int] = set()

    def candidates() -> Iterator[tuple[str, str]]:
        """Path and that of where it leads to; links come last."""
        links: list[str] = []
        for path in _paths(root, skipped, ignored):
            fitting = {index for index, patterns in enumerate(included) if patterns.check(path)}
            of_use.update(fitting)
            if included and not fitting:
                skipped.add(path, "not included")
            elif os.path.islink(root / path):
                links.append(path)
            else:
                yield path, path
        for path in links:
            yield path, os.path.relpath(os.path.realpath(root / path), root)

    read_already: set[str] = set()
    for path, target in candidates():
        if target in read_already:
            skipped.add(path, "link to another document")
        elif isinstance(document := read(root, path), Document):
            read_already.add(target)
            yield document
        else:
            skipped.add(path, document)
    for index, pattern in enumerate(include):
        if index not in of_use:
            raise StartError(f"--include {pattern} fits no file below {root}; nothing was changed")


def read(root: Path, path: str) -> Document | str:
    """The document, or why it is none. `root` has no links in it."""
    kind = KINDS.get(os.path.splitext(path)[1].lower())
    if kind is None:
        return "of no kind that is read"
    try:
        path.encode("utf-8")
        content = _content(root, path, LARGEST_BINARY if kind in BINARY else LARGEST)
    except OSError:
        return "unreadable"
    except UnicodeEncodeError:
        return "of a name that is not UTF-8"
    return content if isinstance(content, str) else Document(path, kind, content)


def _content(root: Path, path: str, at_most: int) -> bytes | str:
    """The bytes of a regular file below `root`, or why they are not read. Raises OSError."""
    # Where a link leads counts, not where it stands: out of the folder is somebody else's.
    real = Path(os.path.realpath(root / path, strict=True))
    if not real.is_relative_to(root):
        return "link out of the folder"
    if real.is_relative_to("/proc") or real.is_relative_to("/sys"):  # no files, whatever they say of themselves
        return "not a regular file"
    below = real.relative_to(root)
    linked = below.as_posix() != path
    if linked and (below.name.startswith(".") or any(_is_foreign(root / above) for above in list(below.parents)[:-1])):
        return "hidden"
    if not stat.S_ISREG(real.stat().st_mode):  # opening a device can do something by itself
        return "not a regular file"
    # Not to wait, should it have become a pipe meanwhile, and not through a link that has come meanwhile.
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOFOLLOW", 0)
    with open(os.open(real, flags), "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            return "not a regular file"
        content = file.read(at_most + 1)  # whatever its size was before: it may grow
    return content if len(content) <= at_most else f"over {at_most // 2**20} MiB"


def _paths(root: Path, skipped: Skipped, ignored: Ignored) -> Iterator[str]:
    """Every file below `root` as a path with "/", in the order of the paths, those in a folder before its folders."""
    folders = [root]
    while folders:
        folder = folders.pop()
        below = folder.relative_to(root)
        files: list[str] = []
        inner: list[Path] = []
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        inner.append(Path(entry.path))
                    elif not os.path.isdir(entry.path):  # unlike entry.is_dir(), not an error for links in a circle
                        files.append(entry.name)
                    elif not Path(os.path.realpath(entry.path)).is_relative_to(root):
                        skipped.add(f"{(below / entry.name).as_posix()}/", "link out of the folder")
                    # A link to a folder that is here anyway is neither read again nor left out.
        except OSError as error:
            if folder == root:
                raise StartError(f"cannot read folder {root}: {error.strerror}") from None
            skipped.add(f"{below.as_posix()}/", "unreadable")
            continue
        for each in sorted(inner, reverse=True):
            if _is_foreign(each):
                skipped.add(f"{(below / each.name).as_posix()}/", "hidden or foreign folder")
            elif ignored.is_left_out(each, is_folder=True):
                skipped.add(f"{(below / each.name).as_posix()}/", "ignored folder")
            else:
                folders.append(each)
        for name in sorted(files):
            path = (below / name).as_posix()
            if name.startswith("."):
                skipped.add(path, "hidden")
            elif ignored.is_left_out(folder / name, is_folder=False):
                skipped.add(path, "ignored")
            else:
                yield path


def _is_foreign(folder: Path) -> bool:
    """Not written by the author of the documents: settings of tools, caches, virtual environments."""
    return folder.name.startswith(".") or (folder / "pyvenv.cfg").exists()
