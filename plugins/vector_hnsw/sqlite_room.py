"""Where SQLite writes down what a large change replaces and what a large sort holds, for as long as that takes.

By itself it takes TMPDIR, /var/tmp or /tmp, and fails where none of them can be written, as in a container with a
read-only root. The folder of the data can be written, and has room.
"""

from __future__ import annotations

import os


def keep_in(folder: str | os.PathLike[str]) -> None:
    """There, unless SQLITE_TMPDIR says otherwise. To be called before `sqlite3` is imported, which looks then."""
    os.environ.setdefault("SQLITE_TMPDIR", os.path.abspath(folder))
