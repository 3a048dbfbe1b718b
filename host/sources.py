"""Which files a plugin is made of, and whether they are others than before."""

from __future__ import annotations

import contextlib
import hashlib
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from host.config import HostConfig, Plugin
from host.modules import import_path

_LARGEST_READ = 4 * 2**20  # bytes; of a larger file its size and time count
_MOST_FILES = 5000


@dataclass(frozen=True)
class Sources:
    """`trees` are folders with all below, of which the Python files count; `files` count themselves."""

    trees: tuple[Path, ...] = ()
    files: tuple[Path, ...] = ()

    def all(self) -> Iterator[Path]:
        yield from self.files
        for tree in self.trees:
            for number, path in enumerate(sorted(tree.rglob("*.py"))):
                if number < _MOST_FILES and "__pycache__" not in path.parts:
                    yield path

    def fingerprint(self) -> str:
        """Another text for other contents; a mere touch leaves it as it is."""
        total = hashlib.sha256()
        for path in self.all():
            total.update(f"{path}\0{_content(path)}\0".encode(errors="surrogateescape"))
        return total.hexdigest()

    def mistake(self) -> str:
        """The first Python file that does not compile, and why; empty where all do."""
        for path in self.all():
            if path.suffix == ".py":
                with contextlib.suppress(OSError):
                    try:
                        compile(path.read_bytes(), str(path), "exec", dont_inherit=True)
                    except (SyntaxError, ValueError) as error:
                        line = getattr(error, "lineno", None)
                        return f"{path}{f':{line}' if line else ''}: {getattr(error, 'msg', None) or error}"
        return ""


def sources_in(config: HostConfig) -> dict[str, Sources]:
    """Of each plugin that the host starts."""
    return {name: sources_of(plugin) for name, plugin in config.plugins.items() if not plugin.address}


def sources_of(plugin: Plugin) -> Sources:
    """A module's package, with the `shared` that ours have beside it; a script with those of its kind beside it; any
    other executable alone."""
    if plugin.module:
        return _of_module(plugin.module, plugin.folder)
    path = (plugin.folder / plugin.path).resolve()
    beside = sorted(path.parent.glob(f"*{path.suffix}")) if path.suffix else [path]
    return Sources(files=tuple(beside[:_MOST_FILES]))


def _of_module(module: str, folder: Path) -> Sources:
    inner = Path(*module.split("."))
    for root in map(Path, [*import_path(module, folder).split(os.pathsep), *sys.path]):
        package, file = root / inner, root / inner.with_suffix(".py")
        if (package / "__main__.py").is_file():
            shared = root / "shared"
            return Sources(trees=(package, shared) if shared.is_dir() else (package,))
        if file.is_file():
            return Sources(files=(file,))
    return Sources()


def _content(path: Path) -> str:
    try:
        stat = path.stat()
        if stat.st_size > _LARGEST_READ:
            return f"{stat.st_size} {stat.st_mtime_ns}"
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return "away"
