"""A project's own copy of what its plugin stands on: modules of `shared/` and the contract's stubs, in NAME/shared.

`copied.json` there says which version it is of and what each file was like, so that renewing it overwrites nothing that
somebody has changed. A module comes along when the project imports it, or another that does.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.metadata
import importlib.util
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from host.new import rewrite
from shared.errors import StartError

LIST = "copied.json"
ALWAYS = ("testing",)
_STUBS = (
    "hector_plugins_pb2.py",
    "hector_plugins_pb2.pyi",
    "hector_plugins_pb2_grpc.py",
    "hector_plugins_pb2_grpc.pyi",
)
_ABOUT = '''"""What hector-plugins {version} gives its plugins, as the project's own copy. Apache-2.0, see LICENSE here.

Not to be edited: `python -m host new --renew DIR` writes it anew, with the modules that the project then imports.
"""
'''


def files(own: Iterable[str]) -> dict[str, bytes]:
    """Everything in the copy, by path, for a project whose own modules have the texts `own`."""
    shared = _folder("shared")
    content = {"__init__.py": _ABOUT.format(version=version()).encode(), "LICENSE": _license()}
    for path in _needed(shared, {*ALWAYS, *(name for text in own for name in _imported(text))}):
        inside = path.relative_to(shared)
        text = path.read_bytes().decode()
        content[inside.as_posix()] = rewrite.stub_imports(text, len(inside.parts)).encode()
    for name in _STUBS:
        text = (_folder("hector_plugins_pb2") / name).read_text(encoding="utf-8")
        content[name] = rewrite.stub_imports(text, 1).encode()
    content[LIST] = _list(content)
    return content


def renew(project: Path) -> str:
    """Writes the project's copy anew; what it is then, in words. Raises StartError, and has then changed nothing."""
    if not project.is_dir():
        raise StartError(f"there is no folder {project}; --renew takes that of a project, with its pyproject.toml")
    lists = sorted(project.glob(f"*/shared/{LIST}"))
    if len(lists) != 1:
        near = [folder for folder in project.absolute().parents[:2] if [*folder.glob(f"*/shared/{LIST}")]]
        remedy = f"; {near[0]} is one" if near else ""
        raise StartError(
            f"{project} is no project that `python -m host new` made: it has no NAME/shared/{LIST}{remedy}"
        )
    folder = lists[0].parent
    try:
        before: dict[str, Any] = json.loads(lists[0].read_text(encoding="utf-8"))
        known: Mapping[str, str] = before["files"]
        was = str(before["version"])
    except (OSError, ValueError, KeyError, TypeError):
        raise StartError(f"{lists[0]} cannot be read; put back the one that your project was made with") from None
    present = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if _counts(path)}
    changed = sorted(name for name, path in present.items() if known.get(name) != _digest(path.read_bytes()))
    if changed := [name for name in changed if name != LIST]:
        raise StartError(
            f"{folder / changed[0]} is not as it was copied, and would be lost; move your changes out of shared/ first"
        )
    own = [_source(path) for path in _own_modules(project, folder)]
    new = files(own)
    if new == {name: path.read_bytes() for name, path in present.items()}:
        return f"{folder} is up to date, of hector-plugins {version()}"
    temporary = Path(tempfile.mkdtemp(prefix=".shared-", dir=folder.parent))
    try:
        write(temporary / "new", new)
        folder.rename(temporary / "old")
        try:
            (temporary / "new").rename(folder)
        except OSError:
            (temporary / "old").rename(folder)
            raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    since = f" (it was of {was})" if was != version() else ""
    return f"{folder} is of hector-plugins {version()} now{since}, {len(new)} files"


def write(folder: Path, content: Mapping[str, bytes]) -> None:
    for name, data in content.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


def version() -> str:
    try:
        return importlib.metadata.version("hector-plugins")
    except importlib.metadata.PackageNotFoundError:
        return "of an unknown version"


def _needed(shared: Path, names: Iterable[str]) -> Iterator[Path]:
    """The files of modules of `shared`, and of all that they import of it."""
    waiting, seen = sorted(names), set(names)
    while waiting:
        name = waiting.pop()
        package, single = shared / name, shared / f"{name}.py"
        paths = sorted(package.rglob("*.py")) if package.is_dir() else [single]
        if not paths[0].is_file():
            raise StartError(f"hector-plugins {version()} has no shared/{name}.py, which the project imports")
        for path in paths:
            yield path
            depth = len(path.relative_to(shared).parts)
            for other in _relative(path.read_text(encoding="utf-8"), depth):
                if other not in seen and (shared / f"{other}.py").is_file() | (shared / other).is_dir():
                    seen.add(other)
                    waiting.append(other)


def _relative(text: str, level: int) -> Iterator[str]:
    """The modules that a module imports from `level` folders above itself, its own being 1."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ImportFrom) and node.level == level:
            if node.module:
                yield node.module.partition(".")[0]
            else:
                yield from (alias.name for alias in node.names)


def _imported(text: str) -> Iterator[str]:
    """The modules of `shared` that a project's module imports, wherever its `shared` is; stubs are left out."""
    for node in ast.walk(ast.parse(text)):
        if not isinstance(node, ast.ImportFrom) or not node.module or "shared" not in node.module.split("."):
            continue
        _, _, inner = f".{node.module}.".partition(".shared.")
        names = [inner.partition(".")[0]] if inner.strip(".") else [alias.name for alias in node.names]
        yield from (name for name in names if not name.startswith("hector_plugins_pb2"))


def _own_modules(project: Path, copy: Path) -> Iterator[Path]:
    for top in (copy.parent, project / "tests"):
        for path in top.rglob("*.py"):
            if not path.is_relative_to(copy):
                yield path


def _source(path: Path) -> str:
    try:
        text = path.read_text(encoding="utf-8")
        ast.parse(text)
    except (SyntaxError, ValueError) as error:  # a ValueError for what is not UTF-8
        line = f", line {error.lineno}" if isinstance(error, SyntaxError) else ""
        raise StartError(f"{path}{line}: this is not Python; mend it, since what it imports comes along") from None
    return text


def _counts(path: Path) -> bool:
    return path.is_file() and "__pycache__" not in path.parts


def _list(content: Mapping[str, bytes]) -> bytes:
    digests = {name: _digest(data) for name, data in sorted(content.items())}
    return json.dumps({"version": version(), "files": digests}, indent=1).encode() + b"\n"


def _digest(data: bytes) -> str:
    return hashlib.sha256(data.replace(b"\r\n", b"\n")).hexdigest()  # Git may have changed how lines end


def _folder(module: str) -> Path:
    spec = importlib.util.find_spec(module)
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent


def _license() -> bytes:
    beside = _folder("shared").parent / "LICENSE"
    if beside.is_file():
        return beside.read_bytes()
    for path in importlib.metadata.files("hector-plugins") or ():
        if path.name == "LICENSE":
            return Path(os.fspath(path.locate())).read_bytes()
    raise StartError("hector-plugins is installed without its LICENSE, which belongs to a copy; install it again")
