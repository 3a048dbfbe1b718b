"""Hot reload: a changed YAML or manifest, or a changed source file of a plugin, starts just the plugins anew for which
something is other than before.

What cannot be read, does not compile, or is still being written changes nothing: what runs goes on, and the next edit
is looked at.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import watchfiles

from host.config import HostConfig, load
from host.discovery import folders_of
from host.sources import Sources, sources_in
from host.supervisor import Supervisor
from shared import logs
from shared.errors import StartError

_STEP_MS = 100  # what follows within this time is the same edit
_STOP_MS = 500  # how long a watch may take to notice that it is to end
_RESTING = watchfiles.DefaultFilter(ignore_dirs=("__pycache__", ".git", ".hector", "node_modules", ".venv"))


@contextmanager
def watching(supervisor: Supervisor, config: HostConfig, fingerprints: Mapping[str, str]) -> Iterator[None]:
    """Within, files are watched. `config` and `fingerprints` are as they were before the plugins were started, so that
    an edit which was made meanwhile counts. On a disk that tells of no changes WATCHFILES_FORCE_POLLING helps."""
    watcher = _Watcher(supervisor, config, fingerprints)
    try:
        watcher.start()
        yield
    finally:
        watcher.stop()


def fingerprints_of(config: HostConfig) -> dict[str, str]:
    return {name: sources.fingerprint() for name, sources in sources_in(config).items()}


class _Watcher:
    def __init__(self, supervisor: Supervisor, config: HostConfig, fingerprints: Mapping[str, str]) -> None:
        self._supervisor = supervisor
        self._file = config.file
        self._config = config
        self._content: str | None = None  # of the YAML and the manifests; None: not looked at yet
        self._sources: dict[str, Sources] = {}
        self._fingerprints = dict(fingerprints)
        self._lock = threading.Lock()  # one change is dealt with at a time
        self._over = threading.Event()
        self._again = threading.Event()  # other files are to be watched
        self._thread = threading.Thread(target=self._keep_watching, name="watcher", daemon=True)

    def start(self) -> None:
        self._note_sources()
        self._thread.start()

    def stop(self) -> None:
        self._over.set()
        self._again.set()
        if self._thread.ident is not None:
            self._thread.join(10)

    def _keep_watching(self) -> None:
        while not self._over.is_set():
            self._again.clear()
            if self._over.is_set():
                return
            flat = {self._file.parent, *folders_of(self._config)}
            flat |= {file.parent for sources in self._sources.values() for file in sources.files}
            trees = {tree for sources in self._sources.values() for tree in sources.trees}
            threads = [
                threading.Thread(target=self._watch, args=(_there(paths), recursive), daemon=True)
                for paths, recursive in ((flat, False), (trees, True))
                if paths
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            self._over.wait(0.1)

    def _watch(self, paths: list[Path], recursive: bool) -> None:
        looked = False
        try:
            for changes in watchfiles.watch(
                *paths,
                watch_filter=_RESTING,
                step=_STEP_MS,
                stop_event=self._again,
                rust_timeout=_STOP_MS,
                recursive=recursive,
                raise_interrupt=False,
                ignore_permission_denied=True,
                yield_on_timeout=True,
            ):
                # Once without cause too: for what changed before anything was watched.
                if changes or not looked:
                    self.look()
                    looked = True
        except (OSError, RuntimeError) as error:  # a folder that is gone, or no inotify left
            logs.event("not_watched", level=logging.WARNING, cause=str(error))
            self._again.wait(5)
            self._again.set()

    def look(self) -> None:
        """Deals with what is other than at the last look."""
        with self._lock:
            content = self._all_texts()
            if content != self._content:
                before, self._content = self._content, content
                if not self._reload(first=before is None):
                    self._content = before
            for name, sources in list(self._sources.items()):
                fingerprint = sources.fingerprint()
                if fingerprint != self._fingerprints.get(name):
                    self._fingerprints[name] = fingerprint
                    self._restart(name, sources)

    def _reload(self, first: bool) -> bool:
        """False where a file is being written at the moment: it is looked at again when that is done."""
        try:
            config = load(self._file)
            if self._all_texts() != self._content:
                return False
            if not config.plugins and _is_blank(self._file):  # as many editors leave it for a moment before they write
                raise StartError(f"{self._file} is empty")
            changed = self._supervisor.reload(config)
        except StartError as error:
            for line in str(error).splitlines():
                logs.event("config_broken", level=logging.ERROR, cause=line, remedy="everything runs on as before")
            return True
        if changed or not first:
            logs.event("config_read", file=str(self._file))
        self._config = config
        self._note_sources()
        if not first:
            self._again.set()  # other files may have to be watched
        return True

    def _restart(self, name: str, sources: Sources) -> None:
        mistake = sources.mistake()
        if mistake:
            logs.event("source_broken", level=logging.ERROR, plugin=name, cause=mistake, remedy="it runs on as before")
        else:
            self._supervisor.restart(name)

    def _note_sources(self) -> None:
        """Those that are new are as they should be; a change of the others is still to be dealt with."""
        self._sources = sources_in(self._config)
        known = self._fingerprints
        self._fingerprints = {name: known.get(name) or each.fingerprint() for name, each in self._sources.items()}

    def _all_texts(self) -> str:
        return _text(self._file) + "".join(map(_text, manifests_in(folders_of(self._config))))


def manifests_in(folders: Iterable[Path]) -> list[Path]:
    return sorted(file for folder in folders for file in folder.glob("*.plugin.yaml"))


def _text(file: Path) -> str:
    try:
        return f"{file}\n{file.read_text(encoding='utf-8', errors='replace')}\n"
    except OSError:
        return ""


def _is_blank(file: Path) -> bool:
    return not _text(file).removeprefix(f"{file}\n").strip()


def _there(paths: Iterable[Path]) -> list[Path]:
    return sorted(path for path in paths if path.is_dir())
