"""What holds for writing to every DatabaseProvider: the guide's part."""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import hector_plugins_pb2 as pb
from google.protobuf import json_format

from host.check.claims import Claims, expect
from host.check.database import (
    ALL_OR_NOTHING,
    CLOSE,
    DURABLE,
    REFUSED,
    collection,
    ids,
    random_vectors,
    search,
    upsert,
    vectors,
)
from host.check.subject import Subject

claims = Claims("database")


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
        upsert(check, name, {"a": [1, 0]})
        reply = search(check, name, [1, 0])
        expect(not reply.results[0].metadata.fields, "replaced by a vector without metadata it has some", reply)


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
            request = pb.SearchVectorsRequest(collection=name, vector=vector)
            refusal = check.refused("SearchVectors", request, f"a query with {what}")
            expect(not refusal.reply.results, f"a query with {what}: the failure has results", refusal.reply)


@claims.guide("The error of a bad vector says which one it is.", REFUSED)
def error_names_item(check: Subject) -> None:
    with collection(check, 2) as name:
        for what, vector in {
            "a vector of another dimension": [1.0, 0.0, 0.0],
            "a vector with NaN": [math.nan, 1.0],
            "a vector with infinity": [1.0, math.inf],
            "a zero vector under COSINE": [0.0, 0.0],
        }.items():
            items = vectors({"first-good": [1, 0], "the-bad-one": vector})
            refusal = check.refused("UpsertVectors", pb.UpsertVectorsRequest(collection=name, vectors=items), what)
            text = " ".join((refusal.message, *refusal.fields))
            named = "the-bad-one" in text or "[1]" in text
            expect(named, f"{what}: the error names neither the id nor the position of the bad one", refusal.reply)


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
        "tab\tand\x00null",
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
