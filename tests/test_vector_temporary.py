"""Where vector_hnsw's SQLite keeps its temporary files, which not every machine has a place for."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.servers import environment

# What each command comes to once SQLite is loaded, replaced by a look at the file of a large temporary table.
_LOOK = """
import importlib, os, sys
import shared.server

def look(*arguments, **options):
    import sqlite3
    connection = sqlite3.connect(":memory:")
    connection.execute("CREATE TEMP TABLE t AS WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c "
                       "LIMIT 100000) SELECT x, hex(randomblob(50)) FROM c")
    places = [os.readlink(f"/proc/self/fd/{number}") for number in os.listdir("/proc/self/fd") if number > "2"
              and os.path.lexists(f"/proc/self/fd/{number}")]
    print(*[os.path.dirname(place) for place in places if "etilqs" in place])
    return 0

shared.server.serve = look
if sys.argv[0].endswith("admin"):
    verify = sys.modules["plugins.vector_hnsw.administering.folder"] = type(sys)("folder")
    verify.verify = look
sys.exit(importlib.import_module(sys.argv[0]).main())
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
@pytest.mark.parametrize("is_said", [False, True])
@pytest.mark.parametrize("command", [("__main__",), ("admin", "verify")])
def test_temporary_files_are_where_the_data_is(command: tuple[str, ...], is_said: bool, tmp_path: Path) -> None:
    """In `data_dir`, which can be written, unless SQLITE_TMPDIR names another place; of the admin command too."""
    data, other = tmp_path / "data", tmp_path / "other"
    data.mkdir()
    other.mkdir()
    module, *words = command
    argv = [f"plugins.vector_hnsw.{module}", *words, "--data-dir", "data"]
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.argv = {argv!r}\n{_LOOK}"],
        cwd=tmp_path,
        env=environment({"TMPDIR": "/tmp"} | ({"SQLITE_TMPDIR": str(other)} if is_said else {})),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.split() == [str(other if is_said else data)], done.stderr
