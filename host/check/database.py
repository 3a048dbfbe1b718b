"""What holds for every DatabaseProvider. The guide's part; the additions are in `database_full.py`.

Every claim works in a collection of its own, which it removes, on vectors of its own.
"""

from __future__ import annotations

import math
import random
import uuid
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import Any

import grpc
import hector_plugins_pb2 as pb
from google.protobuf import json_format

from host.check.claims import Broken, Claims, NotOffered, expect
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
    ):
        check.refused("CreateCollection", pb.CreateCollectionRequest(name=name, dimension=dimension), what)


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


# ---------------------------------------------------------------- writing


@claims.guide("A write that was acknowledged is seen by the next search.", DURABLE)
def read_your_writes(check: Subject) -> None:
    with collection(check, 3) as name:
        for number in range(20):
            upsert(check, name, {f"id{number}": [1, number, 0.5]})
            hits = ids(search(check, name, [1, number, 0.5], limit=50))
            expect(f"id{number}" in hits, f"vector {number} was acknowledged and is not found")
            expect(len(hits) == number + 1, f"{number + 1} vectors were written, {len(hits)} are found")


@claims.guide("A write is seen over another connection.", DURABLE)
def other_connection(check: Subject) -> None:
    with collection(check, 2) as name, check.other_channel() as other:
        upsert(check, name, {"a": [1, 0]})
        request = pb.SearchVectorsRequest(collection=name, vector=[1, 0], limit=5)
        expect(
            ids(check.ok("SearchVectors", request, over=other)) == ["a"],
            "the vector is not found over another connection",
        )


@claims.guide(
    "An upsert of an id that exists replaces its vector.", "UpsertVectors inserts new ids and replaces existing ones."
)
def replaces_vector(check: Subject) -> None:
    with collection(check, 2) as name:
        upsert(check, name, {"a": [1, 0], "b": [1, 1]})
        upsert(check, name, {"a": [0, 1]})
        reply = search(check, name, [0, 1])
        expect(sorted(ids(reply)) == ["a", "b"], "an id that was written twice does not come once", reply)
        expect(ids(reply)[0] == "a", "the replaced vector is not where the new one is", reply)
        expect(abs(reply.results[0].score - 1) < CLOSE, "the new vector's score is not that of the new vector", reply)


@claims.guide("An upsert replaces an id's metadata as a whole.", "Metadata is replaced as a whole by an upsert.")
def replaces_metadata(check: Subject) -> None:
    with collection(check, 2) as name:
        first: dict[str, Any] = {"old": 1, "both": "first"}
        for metadata in (first, {"both": "second"}):
            item = pb.Vector(id="a", vector=[1, 0])
            item.metadata.update(metadata)
            check.ok("UpsertVectors", pb.UpsertVectorsRequest(collection=name, vectors=[item]))
        reply = search(check, name, [1, 0])
        expect(len(reply.results) == 1, "the id does not come once", reply)
        expect(dict(reply.results[0].metadata) == {"both": "second"}, "the metadata is not the new one alone", reply)


@claims.guide("Of an id that comes twice in one request the last counts.", "An id twice in one request: the last wins.")
def last_wins(check: Subject) -> None:
    with collection(check, 2) as name:
        items = [pb.Vector(id="a", vector=[1, 0]), pb.Vector(id="b", vector=[1, 1]), pb.Vector(id="a", vector=[0, 1])]
        check.ok("UpsertVectors", pb.UpsertVectorsRequest(collection=name, vectors=items))
        reply = search(check, name, [0, 1])
        expect(ids(reply) == ["a", "b"], "the id does not come once, with its last vector", reply)


@claims.guide("With one bad vector in a request nothing of it is written.", ALL_OR_NOTHING)
def all_or_nothing(check: Subject) -> None:
    with collection(check, 2) as name:
        upsert(check, name, {"old": [1, 1]})
        bad = vectors({"good": [1, 0], "bad": [1, 0, 0], "later": [0, 1], "old": [0, 1]})
        check.refused(
            "UpsertVectors",
            pb.UpsertVectorsRequest(collection=name, vectors=bad),
            "a vector of another dimension among good ones",
        )
        reply = search(check, name, [1, 1])
        expect(ids(reply) == ["old"], "a part of a refused request was written", reply)
        expect(abs(reply.results[0].score - 1) < CLOSE, "a vector was replaced by a refused request", reply)


@claims.guide("Vectors that cannot be compared are refused.", REFUSED)
def bad_vectors(check: Subject) -> None:
    with collection(check, 3) as name:
        bad = {
            "too few floats": [1.0, 0.0],
            "too many floats": [1.0, 0.0, 0.0, 0.0],
            "no floats": [],
            "NaN": [1.0, math.nan, 0.0],
            "infinity": [1.0, math.inf, 0.0],
            "minus infinity": [1.0, -math.inf, 0.0],
            "a zero vector under COSINE": [0.0, 0.0, 0.0],
        }
        for what, vector in bad.items():
            request = pb.UpsertVectorsRequest(collection=name, vectors=[pb.Vector(id="a", vector=vector)])
            check.refused("UpsertVectors", request, f"a vector with {what}")
        expect(not ids(search(check, name, [1, 0, 0])), "a refused vector was written")


@claims.guide("A search with a vector that cannot be compared is refused.", REFUSED)
def bad_queries(check: Subject) -> None:
    with collection(check, 3) as name:
        upsert(check, name, {"a": [1, 0, 0]})
        bad = {
            "too few floats": [1.0, 0.0],
            "too many floats": [1.0, 0.0, 0.0, 0.0],
            "no floats": [],
            "NaN": [1.0, math.nan, 0.0],
            "infinity": [math.inf, 0.0, 0.0],
            "zeros alone under COSINE": [0.0, 0.0, 0.0],
        }
        for what, vector in bad.items():
            check.refused(
                "SearchVectors", pb.SearchVectorsRequest(collection=name, vector=vector), f"a query with {what}"
            )


@claims.guide("The error of a bad vector says which one it is.", REFUSED)
def error_names_item(check: Subject) -> None:
    with collection(check, 2) as name:
        items = vectors({"first-good": [1, 0], "the-bad-one": [1, 0, 0]})
        refusal = check.refused(
            "UpsertVectors", pb.UpsertVectorsRequest(collection=name, vectors=items), "a vector of another dimension"
        )
        named = "the-bad-one" in refusal.message or "[1]" in refusal.message or any("[1]" in f for f in refusal.fields)
        expect(named, "the error names neither the id nor the position of the bad vector", refusal.reply)


@claims.guide("Ids are any text of 1 to 512 bytes, and come back as they were.", "Ids: UTF-8 of 1-512 bytes.")
def odd_ids(check: Subject) -> None:
    odd = [
        "x" * 512,
        "ä" * 256,
        "a b",
        "a/b",
        "../a",
        "'; DROP TABLE x; --",
        "日本語",
        "A",
        "a",
        " a ",
        "0",
        "%s",
        "e\u0301",
        "\u00e9",
    ]
    with collection(check, 2) as name:
        upsert(check, name, {key: [1, number] for number, key in enumerate(odd, 1)})
        reply = search(check, name, [1, 1], limit=100)
        expect(sorted(ids(reply)) == sorted(odd), "the ids that come back are not those that were written", reply)
        check.ok("DeleteVectors", pb.DeleteVectorsRequest(collection=name, ids=["a"]))
        expect(
            sorted(ids(search(check, name, [1, 1], limit=100))) == sorted(set(odd) - {"a"}),
            "the deletion of one id was not of that id alone",
        )


@claims.guide("Ids that are empty or too long are refused.", "Ids: UTF-8 of 1-512 bytes.")
def bad_ids(check: Subject) -> None:
    with collection(check, 2) as name:
        for key, what in (("", "an empty id"), ("x" * 513, "an id of 513 bytes"), ("ä" * 257, "an id of 514 bytes")):
            item = pb.Vector(id=key, vector=[1, 0])
            check.refused("UpsertVectors", pb.UpsertVectorsRequest(collection=name, vectors=[item]), what)


@claims.guide("Metadata comes back as it was sent.", "A result carries the metadata of its vector.")
def metadata(check: Subject) -> None:
    value = {
        "text": 'two\nlines, ünïcode, \u0000 and "quotes"',
        "number": -1.5,
        "whole": 2020,
        "yes": True,
        "no": False,
        "nothing": None,
        "list": [1, "two", [3], {"four": 4}, None],
        "inside": {"a": {"b": {"c": "deep"}}},
        "empty": {},
        "none": [],
        "": "an empty key",
    }
    with collection(check, 2) as name:
        item = pb.Vector(id="a", vector=[1, 0])
        json_format.ParseDict(value, item.metadata)
        check.ok(
            "UpsertVectors", pb.UpsertVectorsRequest(collection=name, vectors=[item, pb.Vector(id="b", vector=[0, 1])])
        )
        reply = search(check, name, [1, 0])
        expect(ids(reply) == ["a", "b"], "the results are not the two vectors, best first", reply)
        expect(reply.results[0].metadata == item.metadata, "the metadata that comes back is not what was sent", reply)
        expect(not reply.results[1].metadata.fields, "a vector without metadata has some", reply)


@claims.guide(
    "A thousand vectors in one request are all there, each nearest to itself.",
    "UpsertVectors: each is written. " + DURABLE,
)
def a_thousand(check: Subject) -> None:
    items = random_vectors(1000, 16)
    with collection(check, 16) as name:
        upsert(check, name, items)
        everything = ids(search(check, name, items["v0000"], limit=1000))
        expect(len(set(everything)) == len(everything), "a result comes twice")
        expect(len(everything) == 1000, f"of 1000 vectors a search with limit 1000 gives {len(everything)}")
        for key in list(items)[::50]:
            expect(ids(search(check, name, items[key], limit=1)) == [key], f"the nearest to {key} is not itself")


@claims.guide("Writers side by side lose nothing.", DURABLE)
def parallel_writes(check: Subject) -> None:
    items = list(random_vectors(160, 8).items())
    with collection(check, 8) as name, ThreadPoolExecutor(8) as pool:
        batches = [dict(items[start : start + 5]) for start in range(0, 160, 5)]
        list(pool.map(lambda batch: upsert(check, name, batch), batches))
        hits = ids(search(check, name, items[0][1], limit=200))
        expect(sorted(hits) == [key for key, _ in items], f"of 160 acknowledged vectors {len(set(hits))} are found")


# ---------------------------------------------------------------- deleting


@claims.guide(
    "Deleting ids deletes those and no others.", "DeleteVectors deletes by ids; the next search does not see them."
)
def delete_ids(check: Subject) -> None:
    with collection(check, 2) as name:
        upsert(check, name, {"a": [1, 0], "b": [1, 1], "c": [0, 1]})
        check.ok("DeleteVectors", pb.DeleteVectorsRequest(collection=name, ids=["a", "c"]))
        reply = search(check, name, [1, 0])
        expect(ids(reply) == ["b"], "what is left is not what was not deleted", reply)


@claims.guide(
    "Deleting an id that is not there is no failure.",
    "DeleteVectors: ids to delete; `deleted_count` says how many were.",
)
def delete_missing(check: Subject) -> None:
    with collection(check, 2) as name:
        upsert(check, name, {"a": [1, 0]})
        check.ok("DeleteVectors", pb.DeleteVectorsRequest(collection=name, ids=["never", "a", "a"]))
        expect(not ids(search(check, name, [1, 0])), "the id that was there is still there")


@claims.guide(
    "A deletion that says not what is refused, and deletes nothing.",
    'DeleteVectors without ids and filter is an error, never "all".',
)
def delete_nothing(check: Subject) -> None:
    with collection(check, 2) as name:
        upsert(check, name, {"a": [1, 0]})
        check.refused("DeleteVectors", pb.DeleteVectorsRequest(collection=name), "a deletion without ids and filter")
        expect(ids(search(check, name, [1, 0])) == ["a"], "a refused deletion deleted")


@claims.guide("A deleted id can be written again.", "UpsertVectors inserts new ids.")
def delete_and_write(check: Subject) -> None:
    with collection(check, 2) as name:
        for number in range(5):
            upsert(check, name, {"a": [1, number]})
            expect(ids(search(check, name, [1, number])) == ["a"], "the id written again is not found once")
            check.ok("DeleteVectors", pb.DeleteVectorsRequest(collection=name, ids=["a"]))
            expect(not ids(search(check, name, [1, number])), "the deleted id is still found")


# ---------------------------------------------------------------- bytes


@claims.guide("Bytes that are no message do no harm.", "What proto3 refuses gRPC answers; the server goes on.")
def broken_bytes(check: Subject) -> None:
    with collection(check, 2) as name:
        upsert(check, name, {"a": [1, 0]})
        for data in (b"\x0a\x02\xff\xfe", b"\xff" * 40, b"\x0a\xff\xff\xff\xff\x0f"):
            answer = check.raw("SearchVectors", data)
            taken = not isinstance(answer, grpc.RpcError) and pb.SearchVectorsResponse.FromString(answer).success
            expect(not taken, f"the bytes {data[:8].hex()} were taken for a search")
        expect(ids(search(check, name, [1, 0])) == ["a"], "the server does not go on after them")


@claims.guide("A request of 8 MiB is taken.", "Requests may have up to 64 MiB.")
def large_request(check: Subject) -> None:
    with collection(check, 1024) as name:
        items = [pb.Vector(id=f"big{number}", vector=[number + 1.0] * 1024) for number in range(2048)]
        check.ok("UpsertVectors", pb.UpsertVectorsRequest(collection=name, vectors=items))
        expect(len(ids(search(check, name, [1.0] * 1024, limit=1000))) == 1000, "not all of it was written")
