"""A byte of store.db that the disk has changed: the item is named, not handed out, and its neighbours stay readable."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import hector_plugins_pb2 as pb
import pytest
from google.protobuf.struct_pb2 import Value

from plugins.vector_hnsw.engine import snapshots
from plugins.vector_hnsw.engine.files import checksum
from plugins.vector_hnsw.engine.store import TABLES
from plugins.vector_hnsw.engine.verify import verify
from shared.errors import Code
from tests.servers import details
from tests.vector_tools import contents, opened, vectors
from tests.vector_wire import Database, serving

ROWS = vectors(20, 4)
BAD = "item-number-07"
NAMES = [f"item-number-{n:02}" for n in range(20)]
# What stands in the file, at which of its bytes, and which bit is flipped; text stays text.
FLIPS = {
    "metadata, inside of a string": (b'"some words of item-number-07"', 8, 1),
    "metadata, no JSON any more": (b'{"text":"some words of item-number-07"', 0, 1),
    "metadata, no UTF-8 any more": (b'"some words of item-number-07"', 8, 0x80),
    "vector, its last bit": (ROWS[7].astype("<f4").tobytes(), 4, 1),
    "vector, an exponent": (ROWS[7].astype("<f4").tobytes(), 7, 0x40),
}


def fill(database: Database) -> None:
    database.create()
    database.upsert(
        *[
            pb.Vector(id=name, vector=row.tolist(), metadata_json=f'{{"text":"some words of {name}","n":{n}}}')
            for n, (name, row) in enumerate(zip(NAMES, ROWS, strict=True))
        ]
    )


def flip(file: Path, text: bytes, at: int, bit: int) -> None:
    raw = bytearray(file.read_bytes())
    assert raw.count(text) == 1
    raw[raw.index(text) + at] ^= bit
    file.write_bytes(raw)


@pytest.fixture(params=FLIPS)
def database(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Database]:
    with serving(tmp_path / "data") as database:
        fill(database)
    flip(tmp_path / "data" / "store.db", *FLIPS[request.param])
    with serving(tmp_path / "data") as database:
        yield database


def assert_names_it(call: Callable[[], object], name: str = BAD) -> dict[str, str]:
    with pytest.raises(grpc.RpcError) as caught:
        call()
    said = details(caught.value)
    assert said.status.code == int(Code.DATA_LOSS)
    assert said.reason == "ITEM_DAMAGED"
    assert name in said.status.message
    assert "write it anew, delete it, or restore a backup" in said.status.message
    assert said.metadata["id"] == name
    return dict(said.metadata)


def test_a_flipped_byte(database: Database) -> None:
    """Get, list, search alone and in a batch say DATA_LOSS with the item's id when they would hand it out; everything
    else is found, got and listed as before; and written anew the item is whole."""
    stub = database.stub

    def get(*names: str) -> pb.GetVectorsResponse:
        return stub.GetVectors(pb.GetVectorsRequest(collection="c", ids=names, include_vectors=True))

    search = pb.SearchVectorsRequest(collection="c", vector=ROWS[7].tolist(), limit=20, include_vectors=True)
    exact = pb.SearchVectorsRequest(collection="c", vector=ROWS[7].tolist(), limit=20, include_vectors=True, exact=True)
    assert_names_it(lambda: get(*NAMES))
    assert_names_it(lambda: stub.SearchVectors(search))
    assert_names_it(lambda: stub.SearchVectors(exact))
    assert_names_it(lambda: stub.SearchVectorsBatch(pb.SearchVectorsBatchRequest(searches=[search])))
    others = [name for name in NAMES if name != BAD]
    assert [one.id for one in get(*others).vectors] == others
    for number, name in enumerate(NAMES):
        if name != BAD:
            (best,) = database.search(ROWS[number].tolist(), limit=1, include_vectors=True).results
            assert (best.id, best.metadata["n"]) == (name, number)
    listed, token = [], ""
    while True:
        page = pb.ListVectorsRequest(collection="c", page_size=6, page_token=token, include_vectors=True)
        try:
            reply = stub.ListVectors(page)
        except grpc.RpcError:
            token = assert_names_it(lambda page=page: stub.ListVectors(page))["page_token"]  # type: ignore[misc]
            continue
        listed += [one.id for one in reply.vectors]
        token = reply.next_page_token
        if not token:
            break
    assert listed == others
    fill_again = pb.Vector(id=BAD, vector=ROWS[7].tolist(), metadata_json='{"n":7}')
    assert database.upsert(fill_again).success
    assert database.search(ROWS[7].tolist(), limit=1, include_vectors=True).results[0].id == BAD
    assert len(stub.SearchVectors(exact).results) == 20
    assert len(contents(database.engine, "c", 4)) == 20


def test_a_damaged_item_can_be_deleted(database: Database) -> None:
    """Deleted by its id, a damaged item is in nobody's way any more."""
    assert database.delete(BAD).deleted_count == 1
    assert len(database.search(limit=20, include_vectors=True).results) == 19
    assert database.stub.CountVectors(pb.CountVectorsRequest(collection="c")).count == 19


def test_verify_names_it(tmp_path: Path) -> None:
    """`admin verify` finds each of them."""
    for number, (what, where) in enumerate(FLIPS.items()):
        folder = tmp_path / str(number)
        with serving(folder) as database:
            fill(database)
        flip(folder / "store.db", *where)
        said = [line for line in verify(folder) if line.startswith("damaged")]
        assert len(said) == 1, what
        assert BAD in said[0]


def test_filters_over_metadata_that_is_no_json(tmp_path: Path) -> None:
    """A filter has to look into it, so that search, count, list and delete by filter name the item; ids still work."""
    with serving(tmp_path / "data") as database:
        fill(database)
    flip(tmp_path / "data" / "store.db", *FLIPS["metadata, no JSON any more"])
    with serving(tmp_path / "data") as database:
        wanted = pb.Filter(must=[pb.Condition(compare=pb.Compare(field="n", value=Value(number_value=3)))])
        stub = database.stub
        assert_names_it(lambda: database.search(filter=wanted))
        assert_names_it(lambda: stub.CountVectors(pb.CountVectorsRequest(collection="c", filter=wanted)))
        assert_names_it(lambda: stub.ListVectors(pb.ListVectorsRequest(collection="c", filter=wanted)))
        assert_names_it(lambda: database.delete(filter=wanted))
        named = pb.Filter(must=[pb.Condition(ids=pb.IdList(ids=[NAMES[3]]))])
        assert [one.id for one in database.search(filter=named).results] == [NAMES[3]]
        assert database.delete(BAD).deleted_count == 1
        assert [one.id for one in database.search(filter=wanted).results] == [NAMES[3]]


def test_a_flipped_byte_of_an_id(tmp_path: Path) -> None:
    """An id that is another one now is not handed out: the item is named as it reads, and the rest is found."""
    with serving(tmp_path / "data") as database:
        fill(database)
    with sqlite3.connect(tmp_path / "data" / "store.db") as connection:
        connection.execute("UPDATE items_1 SET id = 'item-number-0G' WHERE id = ?", (BAD,))
    connection.close()
    with serving(tmp_path / "data") as database:
        assert_names_it(lambda: database.search(ROWS[7].tolist(), limit=1), "item-number-0G")
        assert database.search(ROWS[3].tolist(), limit=1).results[0].id == NAMES[3]
        assert database.delete("item-number-0G").deleted_count == 1
        assert len(database.search(limit=20).results) == 19


def test_a_version_that_is_another(tmp_path: Path) -> None:
    """An item whose version the disk has changed is DATA_LOSS, not a bug of ours, and others are found."""
    with serving(tmp_path / "data") as database:
        fill(database)
        with sqlite3.connect(tmp_path / "data" / "store.db") as connection:
            connection.execute("UPDATE items_1 SET version = 1 WHERE id = ?", (BAD,))
        connection.close()
        with pytest.raises(grpc.RpcError) as caught:
            database.search(ROWS[7].tolist(), limit=1)
        assert caught.value.code() == grpc.StatusCode.DATA_LOSS
        assert database.search(ROWS[3].tolist(), limit=1).results[0].id == NAMES[3]


def downgrade(file: Path, number: int) -> None:
    """Makes of a store or snapshot what the version before the sums would have written."""
    with sqlite3.connect(file) as connection:
        for column in ("text_sum", "vector_sum"):
            connection.execute(f"ALTER TABLE items_{number} DROP COLUMN {column}")
        if number:
            connection.execute("UPDATE store SET value = '2' WHERE key = 'format'")
    connection.close()
    if not number:
        header = json.loads(file.with_suffix(".json").read_text())
        header |= {"sha256": checksum(file), "size": file.stat().st_size}
        del header["seal"]
        file.with_suffix(".json").write_text(json.dumps(header | {"seal": snapshots.seal_of(header)}))


def test_a_store_of_the_format_before(tmp_path: Path) -> None:
    """A store and a snapshot without checksums are opened, get them, and notice damage from then on."""
    assert "text_sum" in TABLES
    data = tmp_path / "data"
    with serving(data) as database:
        fill(database)
        database.engine.create_snapshot("c", "s")
        before = contents(database.engine, "c", 4)
    downgrade(data / "store.db", 1)
    downgrade(data / "snapshots" / "c" / "s.db", 0)
    with opened(data) as engine:
        assert contents(engine, "c", 4) == before
        engine.delete("c")
        engine.restore_snapshot("c", "s")
        assert contents(engine, "c", 4) == before
    flip(data / "store.db", *FLIPS["metadata, inside of a string"])
    with serving(data) as database:
        assert_names_it(lambda: database.search(ROWS[7].tolist(), limit=1))
    assert any(BAD in line for line in verify(data))
