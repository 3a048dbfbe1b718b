"""All collections of one folder: what may be asked of them, who waits for whom, and the folder's life.

A write is checked as a whole, then committed to the store, then applied to the graph, then acknowledged. A kill
between the last two loses nothing: the store knows what the graph has not got. Writes come one after another;
searches go on beside them.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from filelock import FileLock, Timeout

from shared.errors import (
    PluginError,
    StartError,
    StorageFull,
)

from . import opening
from .aliases import Aliases
from .cache import GraphCache
from .files import make_folder
from .managing import Managing
from .reading import Reading
from .restoring import HIDDEN, Restoring
from .snapshots import Snapshots
from .store import Store
from .writing import Writing


class Engine(Managing, Writing, Reading, Restoring):
    """Thread-safe. `open` before anything else, `close` at the end; a kill instead of `close` loses nothing."""

    def __init__(
        self,
        data_dir: Path,
        *,
        max_limit: int = 1000,
        max_collections: int = 1000,
        max_memory: int = 0,
        max_read: int = 64 * 2**20,
        threads: int = 0,
    ) -> None:
        """Takes the folder, which no other process may use meanwhile. Raises StartError.

        `max_memory` bounds what the graphs take, in bytes; 0 does not. A call that hands out more than `max_read`
        bytes of metadata and vectors raises TooLarge.
        """
        super().__init__(max_limit, max_collections, max_memory, threads)
        self._data_dir = data_dir
        self._max_read = max_read
        # Whichever thread closes lets go of it.
        self._lock = FileLock(data_dir / "lock", mode=0o600, thread_local=False)
        try:
            make_folder(data_dir)
            self._lock.acquire(timeout=0)
        except Timeout:
            raise StartError(f"{data_dir} is in use by another process; stop it, or choose another data_dir") from None
        except OSError as error:
            raise StartError(f"cannot use data_dir {data_dir}: {error.strerror}") from None

    def open(self) -> None:
        """Verifies the database, loads or builds every graph. Raises StartError, and lets go of the folder then."""
        try:
            opening.refuse_wrong_folder(self._data_dir)
            self._store = Store(self._data_dir / "store.db", max_read=self._max_read)
            self._store.fields.on_wanted = self._index_field
            try:
                self._open_all()
                self._store.database.keep_reserve()
            except BaseException:
                self._store.close()
                raise
        except BaseException as error:
            self._lock.release()
            if isinstance(error, OSError):
                raise StartError(f"cannot use data_dir {self._data_dir}: {error.strerror}") from None
            if isinstance(error, PluginError):
                raise StartError(f"cannot open data_dir {self._data_dir}: {error.message}") from None
            raise

    def close(self) -> None:
        """Saves the graphs, so that the next start need not catch up, and lets go of the folder.

        What is called afterwards raises Unavailable.
        """
        with self._writing:
            for entry in self._collections.values():
                if entry.unsaved:
                    self._save(entry)
            self._store.close()
            self._lock.release()

    def _open_all(self) -> None:
        self._cache = GraphCache(self._data_dir / "graphs", self._store.database.uuid)
        self._snapshots = Snapshots(self._data_dir / "snapshots", self._store.database.uuid)
        try:
            self._when_full_too(self._store.finish_removing, deletes=True)
        except StorageFull:
            self._finish_removing_later()
        with suppress(StorageFull):
            self._drop_hidden()
        specs = [spec for spec in self._store.collections() if spec.name != HIDDEN]
        self._aliases = Aliases(self._store, {spec.name for spec in specs})
        self._cache.remove_all_but({spec.number for spec in specs})
        for spec in specs:
            entry = self._collections[spec.name] = self._opened(spec)
            self._save_where_due(entry)
            with self._writing:
                self._rebuild_where_needed(entry)
                self._tune_where_due(entry)
