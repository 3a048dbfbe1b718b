"""What holds for every DatabaseProvider. The guide's part; the additions are in `database_full.py`.

Every claim works in a collection of its own, which it removes, on vectors of its own.
"""

from __future__ import annotations

import random
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import grpc
import hector_plugins_pb2 as pb

from host.check.claims import Broken, Claims, NotOffered, expect
from host.check.odd_bytes import takes_no_odd_bytes
from host.check.subject import Subject

claims = Claims("database")
CLOSE = 1e-4  # of a score
DURABLE = "An acknowledged write is visible to the next search."
SCORES = "Scores: higher is better, COSINE by default, within [-1, 1]; results come best first, equal scores by id."
ALL_OR_NOTHING = "An upsert is all or nothing."
REFUSED = "NaN, infinity, a wrong dimension and a zero vector under COSINE are refused, naming item and field."
IN_REPLY = "What the caller can act on is gRPC OK with success=false and `error`, one sentence that names the thing."


def new_name() -> str:
    return f"check-{uuid.uuid4().hex[:20]}"


@contextmanager
def collection(check: Subject, dimension: int, **fields: Any) -> Iterator[str]:
    """A collection of this name for as long as it takes; `fields` go into CreateCollectionRequest."""
    name = new_name()
    check.ok("CreateCollection", pb.CreateCollectionRequest(name=name, dimension=dimension, **fields))
    try:
        yield name
    finally:
        kept = list(check.exchanges)
        with suppress(grpc.RpcError, NotOffered):
            check.call("DeleteCollection", pb.DeleteCollectionRequest(name=name))
        check.exchanges.clear()  # what a failure shows is not the tidying up
        check.exchanges.extend(kept)


def vectors(items: Mapping[str, Sequence[float]]) -> list[pb.Vector]:
    return [pb.Vector(id=key, vector=vector) for key, vector in items.items()]


def upsert(check: Subject, name: str, items: Mapping[str, Sequence[float]], **fields: Any) -> Any:
    return check.ok("UpsertVectors", pb.UpsertVectorsRequest(collection=name, vectors=vectors(items), **fields))


def search(check: Subject, name: str, vector: Sequence[float], limit: int = 10, **fields: Any) -> Any:
    return check.ok("SearchVectors", pb.SearchVectorsRequest(collection=name, vector=vector, limit=limit, **fields))


def ids(reply: Any) -> list[str]:
    return [result.id for result in reply.results]


def random_vectors(count: int, dimension: int, seed: int = 1) -> dict[str, list[float]]:
    numbers = random.Random(seed)
    return {f"v{i:04}": [numbers.gauss(0, 1) for _ in range(dimension)] for i in range(count)}


# ---------------------------------------------------------------- collections


@claims.guide(
    "A collection is made, used and deleted.", "CreateCollection, DeleteCollection: success=true when it is done."
)
def collection_life(check: Subject) -> None:
    name = new_name()
    check.ok("CreateCollection", pb.CreateCollectionRequest(name=name, dimension=2))
    upsert(check, name, {"a": [1, 0]})
    expect(ids(search(check, name, [1, 0])) == ["a"], "the vector just written is not found")
    check.ok("DeleteCollection", pb.DeleteCollectionRequest(name=name))


@claims.guide(
    "A collection that exists is not made again, and keeps what it holds.", "One that exists is ALREADY_EXISTS."
)
def existing_collection(check: Subject) -> None:
    with collection(check, 2) as name:
        upsert(check, name, {"a": [1, 0]})
        check.refused(
            "CreateCollection", pb.CreateCollectionRequest(name=name, dimension=2), "a second collection of one name"
        )
        expect(
            ids(search(check, name, [1, 0])) == ["a"], "the refused CreateCollection changed what the collection holds"
        )


@claims.guide("A deleted collection is gone.", "A collection that does not exist is NOT_FOUND.")
def deleted_collection(check: Subject) -> None:
    with collection(check, 2) as name:
        upsert(check, name, {"a": [1, 0]})
        check.ok("DeleteCollection", pb.DeleteCollectionRequest(name=name))
        check.refused(
            "SearchVectors", pb.SearchVectorsRequest(collection=name, vector=[1, 0]), "a search of a deleted collection"
        )
        check.refused("DeleteCollection", pb.DeleteCollectionRequest(name=name), "the deletion of a deleted collection")


@claims.guide(
    "A name that was deleted can be used again, of another dimension, and is empty.",
    "DeleteCollection deletes a collection and everything in it.",
)
def name_used_again(check: Subject) -> None:
    with collection(check, 2) as name:
        upsert(check, name, {"a": [1, 0]})
        check.ok("DeleteCollection", pb.DeleteCollectionRequest(name=name))
        check.ok("CreateCollection", pb.CreateCollectionRequest(name=name, dimension=3))
        expect(not ids(search(check, name, [1, 0, 0])), "the new collection has vectors of the deleted one")
        upsert(check, name, {"b": [1, 0, 0]})
        expect(ids(search(check, name, [1, 0, 0])) == ["b"], "the new collection does not hold what was written")


@claims.guide(
    "A collection without a name or a dimension is refused.", "Dimension 1-16,384; a name of 1-128 characters."
)
def bad_collection(check: Subject) -> None:
    for name, dimension, what in (
        ("", 2, "an empty name"),
        (new_name(), 0, "dimension 0"),
        (new_name(), -1, "dimension -1"),
        (new_name(), 16_385, "dimension 16,385"),
    ):
        request = pb.CreateCollectionRequest(name=name, dimension=dimension)
        try:
            check.refused("CreateCollection", request, what)
        except Broken:
            check.call("DeleteCollection", pb.DeleteCollectionRequest(name=name))
            raise


@claims.guide("A vector may have 16,384 floats.", "Dimension 1-16,384.")
def largest_dimension(check: Subject) -> None:
    items = random_vectors(2, 16_384, seed=4)
    with collection(check, 16_384) as name:
        upsert(check, name, items)
        expect(ids(search(check, name, items["v0001"])) == ["v0001", "v0000"], "the nearest to a vector is not itself")


@claims.guide("A name may have 128 characters, of all that are allowed.", "Collection names: 1-128 of A-Za-z0-9._-.")
def good_collection_names(check: Subject) -> None:
    for name in (new_name().ljust(128, "x"), f"{new_name()}.A_z-0"):
        check.ok("CreateCollection", pb.CreateCollectionRequest(name=name, dimension=2))
        try:
            upsert(check, name, {"a": [1, 0]})
            expect(ids(search(check, name, [1, 0])) == ["a"], f"in a collection named {name} nothing is found")
        finally:
            check.ok("DeleteCollection", pb.DeleteCollectionRequest(name=name))


@claims.guide(
    "Collection names that are no names are refused.",
    "Collection names: 1-128 of A-Za-z0-9._-, not starting with a dot.",
)
def bad_collection_names(check: Subject) -> None:
    for name in ("../up", "a/b", ".hidden", "a b", "ä" + new_name(), "x" * 129):
        request = pb.CreateCollectionRequest(name=name, dimension=2)
        try:
            check.refused("CreateCollection", request, f"the name {name[:20]!r}")
        except Broken:
            check.call("DeleteCollection", pb.DeleteCollectionRequest(name=name))
            raise


@claims.guide(
    "Collections do not see one another.", "A vector's id is unique in its collection; a search is of one collection."
)
def collections_apart(check: Subject) -> None:
    with collection(check, 2) as first, collection(check, 2) as second:
        upsert(check, first, {"a": [1, 0], "only": [1, 0.1]})
        upsert(check, second, {"a": [0, 1]})
        check.ok("DeleteVectors", pb.DeleteVectorsRequest(collection=first, ids=["a"]))
        expect(ids(search(check, second, [1, 0])) == ["a"], "a deletion in one collection reached another")
        expect(ids(search(check, first, [1, 0])) == ["only"], "the collection does not hold what was left in it")


@claims.guide(
    "A collection that does not exist is refused by every call, and is not made.",
    "`collection`: an existing collection; else NOT_FOUND.",
)
def unknown_collection(check: Subject) -> None:
    name = new_name()
    item = pb.Vector(id="a", vector=[1, 0])
    requests: list[tuple[str, Any]] = [
        ("UpsertVectors", pb.UpsertVectorsRequest(collection=name, vectors=[item])),
        ("SearchVectors", pb.SearchVectorsRequest(collection=name, vector=[1, 0])),
        ("DeleteVectors", pb.DeleteVectorsRequest(collection=name, ids=["a"])),
        ("DeleteCollection", pb.DeleteCollectionRequest(name=name)),
    ]
    for rpc, request in requests:
        refusal = check.refused(rpc, request, "a collection that does not exist")
        expect(name in refusal.message, f"the error of {rpc} does not name the collection", refusal.reply)


# ---------------------------------------------------------------- bytes


@claims.guide("Bytes that are no message do no harm.", "What proto3 refuses gRPC answers; the server goes on.")
def broken_bytes(check: Subject) -> None:
    with collection(check, 2) as name:
        upsert(check, name, {"a": [1, 0]})
        takes_no_odd_bytes(check, "SearchVectors")
        expect(ids(search(check, name, [1, 0])) == ["a"], "the server does not go on after them")


@claims.guide("A request of 6 MiB is taken.", "Requests may have up to 64 MiB.")
def large_request(check: Subject) -> None:
    with collection(check, 2) as name:
        items = vectors({f"big{number}": [1, number] for number in range(60)})
        for item in items:
            item.metadata.update({"text": "a long text " * 8738})
        check.ok("UpsertVectors", pb.UpsertVectorsRequest(collection=name, vectors=items))
        expect(ids(search(check, name, [1, 30], limit=1)) == ["big30"], "what was written is not found")
