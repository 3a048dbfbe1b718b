"""Writes a new project: all of it, or nothing."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path

from host.new import copied, rewrite
from host.new.kind import Kind
from host.new.names import check_name
from shared.errors import StartError

_DOTTED = ("gitignore", "dockerignore")


def generate(kind: Kind, name: str, to: Path | None = None) -> Path:
    """Makes the folder `to`, which is ./NAME unless said otherwise, with a plugin of that kind in it, called `name`.

    A folder that is empty, or has a `.git` alone, is filled. Raises StartError, and has then written nothing.
    """
    check_name(name)
    folder = (to or Path(name)).absolute()
    is_there = folder.exists() or folder.is_symlink()
    if is_there and not _is_free(folder):
        raise StartError(f"{folder} is there already; give another folder with --to, an empty or a new one")
    try:
        temporary = Path(tempfile.mkdtemp(prefix=f".{name}-", dir=folder.parent))
    except OSError as error:
        raise StartError(f"{folder} cannot be made: {folder.parent}: {error.strerror}; give another --to") from None
    try:
        copied.write(temporary / name, project(kind, name))
        if is_there:
            _fill(folder, temporary / name)
        else:
            (temporary / name).rename(folder)
    except OSError as error:
        raise StartError(f"{folder} cannot be written: {error.strerror}") from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return folder


def _is_free(folder: Path) -> bool:
    """Whether there is nothing in it that could be lost: a new repository's folder is as good as an empty one."""
    return folder.is_dir() and {path.name for path in folder.iterdir()} <= {".git"}


def _fill(folder: Path, content: Path) -> None:
    """Moves what is in `content` to `folder`, all of it or nothing."""
    moved: list[Path] = []
    try:
        for path in sorted(content.iterdir()):
            moved.append(path.rename(folder / path.name))
    except OSError:
        for path in moved:
            path.rename(content / path.name)
        raise


def project(kind: Kind, name: str) -> dict[str, bytes]:
    """Every file of the project, by path."""
    texts = dict(_around(kind, name))
    template = resources.files(f"host.new.kinds.{kind.name}")
    tests = [template / "test_plugin.py", resources.files("host.new.project") / "conftest.py"]
    for test in tests:
        texts[f"tests/{test.name}"] = rewrite.module(_read(test, kind, name), f"{name}.")
    for module in template.iterdir():
        if module.name.endswith(".py") and module.name != tests[0].name:
            texts[f"{name}/{module.name}"] = rewrite.module(_read(module, kind, name), ".")
    own = [text for path, text in texts.items() if path.endswith(".py")]
    shared = {f"{name}/shared/{path}": data for path, data in copied.files(own).items()}
    return {path: text.encode() for path, text in texts.items()} | shared


def _around(kind: Kind, name: str) -> Iterator[tuple[str, str]]:
    """The files beside the package."""
    for file in resources.files("host.new.project").iterdir():
        path = file.name.removesuffix(".in")
        if path != file.name:
            yield f".{path}" if path in _DOTTED else path, _read(file, kind, name)
    yield "hector.yaml", _read(resources.files(f"host.new.kinds.{kind.name}") / "hector.yaml", kind, name)


def _read(file: Traversable, kind: Kind, name: str) -> str:
    """A template's text, with what it leaves open filled in."""
    text = file.read_text(encoding="utf-8").replace(f"host.new.kinds.{kind.name}", name)
    if "{{edits}}" in text:
        text = text.replace("{{edits}}\n", (resources.files(f"host.new.kinds.{kind.name}") / "edits.md").read_text())
    for key, value in {
        "name": name,
        "NAME": name.upper(),
        "dashed": name.replace("_", "-"),
        "kind": kind.name,
        "service": kind.service,
        "A_service": kind.described[0].upper() + kind.described[1:],
        "section": kind.section,
        "port": str(kind.port),
        "needs": "".join(f'  "{need}",\n' for need in kind.needs),
        "check": f" {kind.check}" if kind.check else "",
        "version": copied.version(),
    }.items():
        text = text.replace("{{" + key + "}}", value)
    return text
