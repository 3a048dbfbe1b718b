"""A vector store on a disk that it has filled itself: run by test_vector_full_disk.py where that is a small tmpfs.

python -m tests.vector_full_disk FOLDER WHAT
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

import numpy as np

from plugins.vector_hnsw.engine import Engine, Item, Query
from shared.errors import PluginError, StorageFull
from shared.vectors.filters import Compare, Operator
from tests.servers import wait_until
from tests.vector_tools import all_of

DIMENSION = 8


def main(disk: Path, what: str) -> None:
    child = os.fork()
    if not child:
        engine = Engine(disk / "data")
        engine.open()
        engine.create("c", DIMENSION)
        engine.create("other", DIMENSION)
        print(f"filled with {fill(engine, disk)}", flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    engine = Engine(disk / "data")
    engine.open()
    count = engine.count("c")
    expected = set(range(count))
    if what == "collection":
        assert engine.delete("c") == count
        expected = set()
    elif what == "most":
        assert engine.delete_vectors("c", filter=all_of(Compare("n", Operator.LT, count - 10)))[0] == count - 10
        expected = {*range(count - 10, count)}
    else:
        gone = {*range(0, count, 2)}
        assert engine.delete_vectors("c", [f"i{n}" for n in gone])[0] == len(gone)
        expected -= gone
    print("deleted", flush=True)
    check(engine, expected)

    def writes() -> bool:
        try:
            engine.upsert("other", [item(n) for n in range(20)])
        except StorageFull:
            return False
        return True

    wait_until(writes, "room for a write")
    if what != "half":  # of which no page is empty
        size = (disk / "data" / "store.db").stat().st_size
        wait_until(lambda: (disk / "data" / "store.db").stat().st_size < size / 4, "a smaller file")
    engine.close()
    engine = Engine(disk / "data")
    engine.open()
    check(engine, expected)
    assert engine.count("other") == 20
    engine.close()
    print("sound", flush=True)


def item(n: int) -> Item:
    vector = np.random.default_rng(n).normal(size=DIMENSION).astype(np.float32)
    return Item(f"i{n}", vector, json.dumps({"n": n, "text": "x" * 2500}))


def fill(engine: Engine, disk: Path) -> int:
    """Until not one item more fits, and then the rest, as others on the disk would."""
    count, size = 0, 256
    while size:
        try:
            engine.upsert("c", [item(n) for n in range(count, count + size)])
            count += size
        except StorageFull:
            size //= 4
    try:
        with (disk / "others").open("wb", buffering=0) as file:
            while file.write(b"x" * 4096):
                pass
    except OSError:
        pass
    return count


def check(engine: Engine, expected: set[int]) -> None:
    """Listed, counted, filtered and searched, these are the items that there are."""
    found: list[str] = []
    token, more = "", True
    while more:
        try:
            page, token = engine.page("c", token=token, size=500)
        except PluginError:
            assert not expected
            return
        found += [one.id for one in page]
        more = bool(token)
    assert sorted(found) == sorted(f"i{n}" for n in expected)
    assert engine.count("c") == engine.count("c", all_of(Compare("n", Operator.GTE, 0))) == len(expected)
    for n in sorted(expected)[:20]:
        assert engine.search("c", Query(item(n).vector, limit=1)).hits[0].id == f"i{n}"  # type: ignore[arg-type]
    assert engine.search("c", Query(np.ones(DIMENSION, np.float32), limit=1000)).complete


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
