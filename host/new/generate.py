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

MODULES = ("__init__.py", "__main__.py", "config.py", "engine.py", "servicer.py")  # in reading order
_DOTTED = ("gitignore", "dockerignore")


def generate(kind: Kind, name: str, to: Path | None = None) -> Path:
    """Makes the folder `to`, which is ./NAME unless said otherwise, with a plugin of that kind in it, called `name`.

    Raises StartError, and has then written nothing.
    """
    check_name(name)
    folder = (to or Path(name)).absolute()
    if folder.exists() or folder.is_symlink():
        raise StartError(f"{folder} is there already; give another folder with --to, or remove it")
    try:
        temporary = Path(tempfile.mkdtemp(prefix=f".{name}-", dir=folder.parent))
    except OSError as error:
        raise StartError(f"{folder} cannot be made: {folder.parent}: {error.strerror}; give another --to") from None
    try:
        copied.write(temporary / name, project(kind, name))
        (temporary / name).rename(folder)
    except OSError as error:
        raise StartError(f"{folder} cannot be written: {error.strerror}") from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return folder


def project(kind: Kind, name: str) -> dict[str, bytes]:
    """Every file of the project, by path."""
    texts = dict(_around(kind, name))
    template = resources.files(f"host.new.kinds.{kind.name}")
    for module in MODULES:
        texts[f"{name}/{module}"] = rewrite.module(_read(template / module, kind, name), ".")
    for test in (template / "test_plugin.py", resources.files("host.new.project") / "conftest.py"):
        texts[f"tests/{test.name}"] = rewrite.module(_read(test, kind, name), f"{name}.")
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
        "section": kind.section,
        "port": str(kind.port),
        "needs": "".join(f'  "{need}",\n' for need in kind.needs),
        "version": copied.version(),
    }.items():
        text = text.replace("{{" + key + "}}", value)
    return text
