"""Converted models in the cache folder: made once, checked at each start, made anew when anything has changed.

    CACHE/hector-plugins/embed_st/KEY/manifest.json   the checksum of every other file
                                      made.json       what KEY stands for
                                      facts.json, tokenizer.json, reference.npy, model.xml, …
                                  KEY.failed.txt      why it could not be converted, so that it is tried once only

KEY stands for the model's files, the libraries' versions and the form. Where there is no PyTorch, as in a light image,
one that was made with it is taken. A folder of that name is whole: it is written
under another name and renamed, so that two processes may convert at once and a kill leaves nothing behind that counts.
Folders and files are for this user only. Nothing is removed but what was made here: files of ours by their names, and
folders with a name that nobody else gives.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
import shutil
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from shared import logs
from shared.errors import StartError

from . import convert, reference
from .backends import Floats, UnfitError
from .convert import Kind, Task
from .facts import ModelFacts
from .models import Source, sha256
from .tokenizer import Tokenizer

# Counts up when what is written changes.
FORMAT = 3
_CONVERTERS = ("torch", "transformers", "sentence-transformers")
_LIBRARIES = (*_CONVERTERS, "tokenizers")
_MORE_LIBRARIES: Mapping[Kind, tuple[str, ...]] = {
    "openvino": ("openvino",),
    "onnx": ("onnxruntime",),
    "onnx-int8": ("onnxruntime", "onnx"),
}
_MANIFEST, _MADE = "manifest.json", "made.json"
# Names of folders that are no conversions: what is being written, and what was damaged.
_PARTIAL, _DAMAGED = ".partial-", ".damaged-"
_FAILED, _LONGEST_REASON = ".failed.txt", 1_000  # beside a folder that could not be made: why, in so many bytes
_PASSING = ("no space", "memory", "allocate", "quota", "too many open files", "interrupted")
_OURS = re.compile(rf"{re.escape(_PARTIAL)}[0-9a-f]{{32}}")
_FILES = (
    _MANIFEST,
    _MADE,
    convert.FACTS,
    convert.TOKENIZER,
    convert.VECTORS,
    convert.REFUSED,
    "model.onnx",
    "model.xml",
    "model.bin",
)
_ROOT = Path(__file__).parents[__package__.count(".") + 1]


@dataclass(frozen=True)
class Converted:
    folder: Path
    facts: ModelFacts
    tokenizer: Tokenizer
    reference: Floats
    """Vectors of `reference.TEXTS`, made by sentence-transformers."""


@contextmanager
def converted(source: Source, kind: Kind, cache: Path) -> Iterator[Converted]:
    """The model in that form, from `cache` or made now, which takes seconds. Its folder may go when the block ends.

    Raises UnfitError where the model cannot be had in that form, StartError where it cannot be served at all.
    """
    final = cache / "hector-plugins" / "embed_st" / key(source, kind)
    failure = final.with_name(final.name + _FAILED)
    if not _version("torch") and (elsewhere := _made_elsewhere(source, kind, final.parent)):
        final = elsewhere
    elif not _whole(final):
        _raise_remembered(failure)
        try:
            _private_folder(final.parent)
            _sweep(final.parent)
            partial = _beside(final, _PARTIAL)
            _private_folder(partial)
        except OSError as error:
            logs.event(
                "cache_unwritable", level=logging.WARNING, folder=cache, error=error, then="converted_each_start"
            )
            with tempfile.TemporaryDirectory(prefix="embed_st-") as folder:
                _make(source, kind, Path(folder))
                yield _read(Path(folder), source)
            return
        try:
            _make(source, kind, partial)
            _put(partial, final)
        except UnfitError as error:
            if error.lasts:
                _remember(failure, str(error))
            raise
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    yield _read(final, source)


def key(source: Source, kind: Kind) -> str:
    """Another one for every model, form and set of library versions."""
    return hashlib.sha256(_parts(source, kind).encode()).hexdigest()[:32]


def _parts(source: Source, kind: Kind) -> str:
    versions = {name: _version(name) for name in (*_LIBRARIES, *_MORE_LIBRARIES[kind])}
    parts = {"format": FORMAT, "kind": kind, "versions": versions, "files": source.files, "texts": reference.TEXTS}
    return json.dumps(parts, sort_keys=True)


def _made_elsewhere(source: Source, kind: Kind, cache: Path) -> Path | None:
    """A whole conversion of the model that differs in the libraries alone that converted it."""
    wanted = _without_converters(_parts(source, kind))
    for made in sorted(cache.glob(f"*/{_MADE}")):
        with suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
            if _without_converters(made.read_text(encoding="utf-8")) == wanted and _whole(made.parent):
                return made.parent
    return None


def _without_converters(parts: str) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(parts)
    value["versions"] = {name: it for name, it in value["versions"].items() if name not in (*_CONVERTERS, "onnx")}
    return value


def _version(library: str) -> str:
    try:
        return version(library)
    except PackageNotFoundError:
        return ""


def _make(source: Source, kind: Kind, folder: Path) -> None:
    """Fills the empty `folder`. Raises UnfitError and StartError."""
    logs.event("convert", model=source.name, form=kind)
    started = time.monotonic()
    _in_child(Task(str(source.folder.resolve()), source.name, source.sha256, kind, str(folder)))
    (folder / _MADE).write_text(_parts(source, kind), encoding="utf-8")
    manifest = {file.name: sha256(file) for file in sorted(folder.iterdir())}
    (folder / _MANIFEST).write_text(json.dumps(manifest), encoding="utf-8")
    for file in folder.iterdir():
        file.chmod(0o600)
    logs.event("converted", model=source.name, form=kind, seconds=time.monotonic() - started)


def _in_child(task: Task) -> None:
    """`convert(task)` in a process of its own. Raises UnfitError and StartError."""
    command = [sys.executable, "-m", convert.__name__, json.dumps(asdict(task))]
    with tempfile.TemporaryFile() as said:
        # Standard input is how it notices that we are gone.
        with subprocess.Popen(command, cwd=_ROOT, stdin=subprocess.PIPE, stdout=said, stderr=said) as child:  # noqa: S603
            status = child.wait()
        said.seek(0)
        last = (said.read().decode(errors="replace").strip().splitlines() or [""])[-1][:200]
    failed = Path(task.target) / convert.FAILED
    if failed.exists():
        raise StartError(failed.read_text(encoding="utf-8"))
    if status:
        error = UnfitError(f"converting it ended with status {status} ({last})")
        # One that was killed, or had no room, may well succeed the next time.
        error.lasts = status > 0 and not any(word in last.lower() for word in _PASSING)
        raise error


def _raise_remembered(failure: Path) -> None:
    """Raises UnfitError where the same conversion has failed before."""
    with suppress(OSError):
        reason = failure.read_bytes()[:_LONGEST_REASON].decode(errors="replace")
        raise UnfitError(f"{reason}, at an earlier start; delete {failure.name} in the cache to try again")


def _remember(failure: Path, reason: str) -> None:
    written = _beside(failure, _PARTIAL)
    try:
        written.touch(mode=0o600)
        written.write_text(reason, encoding="utf-8")
        written.rename(failure)
    except OSError as error:
        logs.event("cache_unwritable", level=logging.WARNING, folder=failure.parent, error=error)
        with suppress(OSError):
            written.unlink()


def _put(partial: Path, final: Path) -> None:
    """Renames. What another process has put there meanwhile is as good; what was there before is damaged."""
    for _ in range(2):
        try:
            partial.rename(final)
            return
        except OSError:
            if _whole(final):
                return
            damaged = _beside(final, _DAMAGED)
            with suppress(FileNotFoundError):  # another process was quicker
                final.rename(damaged)
                _discard(damaged)
    partial.rename(final)


def _beside(final: Path, prefix: str) -> Path:
    return final.with_name(f"{prefix}{uuid.uuid4().hex}")


def _private_folder(path: Path) -> None:
    for folder in (*reversed(path.parents), path):
        if not folder.exists():
            folder.mkdir(mode=0o700, exist_ok=True)


def _discard(damaged: Path) -> None:
    """Removes a conversion but for what somebody else has put there."""
    names = set(_FILES)
    with suppress(OSError, ValueError):
        manifest = json.loads((damaged / _MANIFEST).read_bytes())
        names |= {name for name in manifest if isinstance(name, str) and Path(name).name == name}
    try:
        for name in names:
            (damaged / name).unlink(missing_ok=True)
        damaged.rmdir()
    except OSError as error:
        logs.event("cache_left", level=logging.WARNING, folder=damaged, error=error, why="it holds what is not ours")


def _whole(folder: Path) -> bool:
    """Whether every file is there as it was written. Reads them all: 60 ms for 90 MB."""
    if not folder.exists():
        return False
    try:
        manifest = json.loads((folder / _MANIFEST).read_bytes())
        if all(sha256(folder / name) == digest for name, digest in manifest.items()):
            return True
    except (OSError, ValueError, AttributeError):
        pass
    logs.event("cache_damaged", level=logging.WARNING, folder=folder, then="converted_anew")
    return False


def _read(folder: Path, source: Source) -> Converted:
    if (folder / convert.REFUSED).exists():
        raise UnfitError((folder / convert.REFUSED).read_text(encoding="utf-8"))
    facts = replace(ModelFacts.from_json((folder / convert.FACTS).read_text(encoding="utf-8")), name=source.name)
    tokenizer = Tokenizer.load(folder / convert.TOKENIZER, facts.max_tokens)
    return Converted(folder, facts, tokenizer, np.load(folder / convert.VECTORS))


def _sweep(folder: Path) -> None:
    """Removes what conversions that were killed left more than a day ago."""
    for left in folder.iterdir():
        if _OURS.fullmatch(left.name) and time.time() - left.lstat().st_mtime > 86_400:
            shutil.rmtree(left, ignore_errors=True)  # which follows no link
            with suppress(OSError):
                left.unlink()  # a reason that was not written to its end
