"""What holds for every DatabaseProvider that has the additions. What it answers UNIMPLEMENTED it does not offer."""

from __future__ import annotations

import json
import math
import struct
from typing import Any

import hector_plugins_pb2 as pb

from host.check.claims import Claims, expect
from host.check.database import collection, ids, new_name, random_vectors, search, upsert, vectors
from host.check.subject import DOMAIN, Subject, of_status
from shared.errors import Code

claims = Claims("database")
DETAILS = "`status` carries the canonical code and ErrorInfo{reason, domain}; BadRequest where a field is at fault."
DELETES = 'DeleteVectors takes ids or a filter; neither, or a filter that restricts nothing, is an error, never "all".'
PAGES = "ListVectors pages by an opaque token, each vector that is there throughout exactly once."
PARTIAL = "With allow_partial bad items are reported one by one and the rest is written."


def condition(field: str, op: int, value: Any) -> Any:
    return pb.Condition(compare=pb.Compare(field=field, op=op, value_json=json.dumps(value)))  # type: ignore[arg-type]


def must(*conditions: Any) -> Any:
    return pb.Filter(must=conditions)


def one_of(*keys: str) -> Any:
    return pb.Condition(ids=pb.IdList(ids=keys))


def library(check: Subject, name: str) -> None:
    """Six vectors with metadata, nearer to [1, 0] the earlier in the alphabet."""
    books: dict[str, dict[str, Any]] = {
        "a": {"year": 1999, "kind": "novel", "tags": ["sea", "love"], "author": {"name": "Ann"}},
        "b": {"year": 2005, "kind": "poems", "tags": [], "author": {"name": "Bob"}},
        "c": {"year": 2010, "kind": "novel", "tags": ["war"], "read": True},
        "d": {"year": 2020.5, "kind": "nove", "author": {"name": "Ann"}, "read": False},
        "e": {"year": "2005", "kind": None},
        "f": {},
    }
    items = [
        pb.Vector(id=key, vector=[1.0, number / 10], metadata_json=json.dumps(value))
        for number, (key, value) in enumerate(books.items())
    ]
    check.ok("UpsertVectors", pb.UpsertVectorsRequest(collection=name, vectors=items))


# ---------------------------------------------------------------- errors and replies


@claims.full("A failure carries the canonical code and an ErrorInfo.", DETAILS)
def error_codes(check: Subject) -> None:
    gone = new_name()
    for rpc, request in (
        ("SearchVectors", pb.SearchVectorsRequest(collection=gone, vector=[1])),
        ("DeleteCollection", pb.DeleteCollectionRequest(name=gone)),
        ("DescribeCollection", pb.DescribeCollectionRequest(name=gone)),
        ("CountVectors", pb.CountVectorsRequest(collection=gone)),
        ("ListVectors", pb.ListVectorsRequest(collection=gone)),
        ("GetVectors", pb.GetVectorsRequest(collection=gone, ids=["a"])),
    ):
        check.refused_with(rpc, request, "a collection that does not exist", Code.NOT_FOUND)
    with collection(check, 2) as name:
        create = pb.CreateCollectionRequest(name=name, dimension=2)
        check.refused_with("CreateCollection", create, "a collection that exists", Code.ALREADY_EXISTS)


@claims.full("A failure for a field names that field.", DETAILS)
def error_fields(check: Subject) -> None:
    with collection(check, 2) as name:
        items = vectors({"good": [1, 0], "bad": [1, 0, 0]})
        request = pb.UpsertVectorsRequest(collection=name, vectors=items)
        check.refused_with("UpsertVectors", request, "a bad vector", Code.INVALID_ARGUMENT, field="vectors[1].vector")
        query = pb.SearchVectorsRequest(collection=name, vector=[math.nan, 0])
        check.refused_with("SearchVectors", query, "a query with NaN", Code.INVALID_ARGUMENT, field="vector")
        query = pb.SearchVectorsRequest(collection=name, vector=[1, 0], limit=-1)
        check.refused_with("SearchVectors", query, "limit -1", Code.INVALID_ARGUMENT, field="limit")
    create = pb.CreateCollectionRequest(name=new_name(), dimension=0)
    check.refused_with("CreateCollection", create, "dimension 0", Code.INVALID_ARGUMENT, field="dimension")


@claims.full(
    "A success has neither `error` nor `status`.", "When `success` is true, `error` is empty and `status` unset."
)
def clean_success(check: Subject) -> None:
    with collection(check, 2) as name:
        for reply in (upsert(check, name, {"a": [1, 0]}), search(check, name, [1, 0])):
            expect(not reply.HasField("status"), "a success has a `status`", reply)


@claims.full("Replies count what was created, written and deleted.", "`created`, `upserted_count`, `deleted_count`.")
def counts(check: Subject) -> None:
    name = new_name()
    reply = check.ok("CreateCollection", pb.CreateCollectionRequest(name=name, dimension=2))
    expect(reply.created, "a new collection is not called created", reply)
    reply = upsert(check, name, {"a": [1, 0], "b": [0, 1], "c": [1, 1]})
    expect(
        reply.upserted_count == 3, f"three vectors were written, and upserted_count is {reply.upserted_count}", reply
    )
    reply = check.ok("DeleteVectors", pb.DeleteVectorsRequest(collection=name, ids=["a", "never"]))
    expect(reply.deleted_count == 1, f"one vector was deleted, and deleted_count is {reply.deleted_count}", reply)
    reply = check.ok("DeleteCollection", pb.DeleteCollectionRequest(name=name))
    expect(reply.deleted_count == 2, f"two vectors went with it, and deleted_count is {reply.deleted_count}", reply)


@claims.full(
    "Each write raises the sequence, and a search tells the one that it saw.",
    "`sequence` counts the store's committed writes.",
)
def sequence(check: Subject) -> None:
    with collection(check, 2) as name:
        first = upsert(check, name, {"a": [1, 0]})
        second = upsert(check, name, {"b": [1, 0]})
        expect(0 < first.sequence < second.sequence, f"two writes have {first.sequence} and {second.sequence}", second)
        reply = search(check, name, [1, 0])
        expect(reply.sequence >= second.sequence, f"a search after {second.sequence} saw {reply.sequence}", reply)
        gone = check.ok("DeleteVectors", pb.DeleteVectorsRequest(collection=name, ids=["a"]))
        expect(gone.sequence > second.sequence, f"a deletion after {second.sequence} has {gone.sequence}", gone)


# ---------------------------------------------------------------- collections


@claims.full(
    "With if_not_exists the same collection is a success, another one is not.",
    "`if_not_exists` with other parameters: ALREADY_EXISTS.",
)
def if_not_exists(check: Subject) -> None:
    with collection(check, 2) as name:
        upsert(check, name, {"a": [1, 0]})
        request = pb.CreateCollectionRequest(name=name, dimension=2, if_not_exists=True)
        reply = check.ok("CreateCollection", request)
        expect(not reply.created, "a collection that existed is called created", reply)
        expect(ids(search(check, name, [1, 0])) == ["a"], "the collection lost what it held")
        for other in (
            pb.CreateCollectionRequest(name=name, dimension=3, if_not_exists=True),
            pb.CreateCollectionRequest(name=name, dimension=2, metric=pb.METRIC_DOT, if_not_exists=True),
        ):
            check.refused_with("CreateCollection", other, "if_not_exists with other parameters", Code.ALREADY_EXISTS)


@claims.full(
    "Collections are listed and described.",
    "ListCollections: every collection; DescribeCollection: parameters and size.",
)
def described(check: Subject) -> None:
    with collection(check, 3, metric=pb.METRIC_DOT, embedding_model="check-model") as name:
        upsert(check, name, {"a": [1, 0, 0], "b": [0, 1, 0]})
        listed = check.ok("ListCollections", pb.ListCollectionsRequest()).collections
        mine = [info for info in listed if info.name == name]
        expect(len(mine) == 1, f"the list has the collection just made {len(mine)} times")
        for told in (mine[0], check.ok("DescribeCollection", pb.DescribeCollectionRequest(name=name)).collection):
            got = (told.name, told.dimension, told.metric, told.embedding_model, told.count)
            expected = (name, 3, pb.METRIC_DOT, "check-model", 2)
            expect(got == expected, f"name, dimension, metric, model and count are {got}, not {expected}")


@claims.full(
    "A vector of another embedding model is refused.",
    "`embedding_model` is kept; an upsert or search that names another is refused.",
)
def embedding_model(check: Subject) -> None:
    with collection(check, 2, embedding_model="check-model") as name:
        item = pb.UpsertVectorsRequest(collection=name, vectors=[pb.Vector(id="a", vector=[1, 0])])
        query = pb.SearchVectorsRequest(collection=name, vector=[1, 0])
        for rpc, request in (("UpsertVectors", item), ("SearchVectors", query)):
            other = (("x-embedding-model", "other-model"),)
            check.refused(rpc, request, "a vector of another model", metadata=other)
            check.ok(rpc, request, metadata=(("x-embedding-model", "check-model"),))
            check.ok(rpc, request)


# ---------------------------------------------------------------- deleting


@claims.full("A filter deletes what matches, and with ids of these those that match.", DELETES)
def delete_by_filter(check: Subject) -> None:
    novel = must(condition("kind", pb.OPERATOR_EQ, "novel"))
    with collection(check, 2) as name:
        library(check, name)
        check.ok("DeleteVectors", pb.DeleteVectorsRequest(collection=name, ids=["a", "b"], filter=novel))
        expect(ids(search(check, name, [1, 0])) == list("bcdef"), "ids and filter do not delete their intersection")
        reply = check.ok("DeleteVectors", pb.DeleteVectorsRequest(collection=name, filter=novel))
        expect(reply.deleted_count == 1, f"one matched, and deleted_count is {reply.deleted_count}", reply)
        expect(ids(search(check, name, [1, 0])) == list("bdef"), "the filter does not delete just what matches")


@claims.full("A filter that restricts nothing deletes nothing.", DELETES)
def delete_by_empty_filter(check: Subject) -> None:
    nothing = [
        pb.Filter(),
        must(pb.Condition(filter=pb.Filter())),
        must(condition("kind", pb.OPERATOR_NOT_IN, [])),
        pb.Filter(must_not=[pb.Condition(ids=pb.IdList())]),
    ]
    with collection(check, 2) as name:
        library(check, name)
        for wanted in nothing:
            request = pb.DeleteVectorsRequest(collection=name, filter=wanted)
            check.refused("DeleteVectors", request, "a filter that restricts nothing")
        expect(len(ids(search(check, name, [1, 0]))) == 6, "a refused deletion deleted")


@claims.full("A dry run counts and deletes nothing.", "`dry_run`: counts and deletes nothing.")
def dry_run(check: Subject) -> None:
    with collection(check, 2) as name:
        library(check, name)
        request = pb.DeleteVectorsRequest(collection=name, ids=["a", "b", "zz"], dry_run=True)
        reply = check.ok("DeleteVectors", request)
        expect(reply.deleted_count == 2, f"two would go, and deleted_count is {reply.deleted_count}", reply)
        expect(len(ids(search(check, name, [1, 0]))) == 6, "the dry run deleted")


# ---------------------------------------------------------------- reading and writing


@claims.full(
    "Vectors come back bit for bit, under every metric.", "Original vectors come back bit for bit, whatever the metric."
)
def bit_for_bit(check: Subject) -> None:
    odd = [0.1, -1e-30, 3.4e15, 1e-45, -0.0, 123456.789]
    packed = struct.pack("<6f", *odd)
    for metric in (pb.METRIC_COSINE, pb.METRIC_DOT, pb.METRIC_EUCLIDEAN):
        with collection(check, 6, metric=metric) as name:
            upsert(check, name, {"a": odd})
            request = pb.GetVectorsRequest(collection=name, ids=["a"], include_vectors=True)
            reply = check.ok("GetVectors", request)
            expect(len(reply.vectors) == 1, "the vector is not there", reply)
            same = struct.pack("<6f", *reply.vectors[0].vector) == packed
            expect(
                same, f"under {pb.Metric.Name(metric)} the vector comes back as {list(reply.vectors[0].vector)}", reply
            )


@claims.full(
    "GetVectors keeps the order of the ids, and names those that are missing.",
    "`vectors` in the order of `ids`; `missing_ids` those that do not exist.",
)
def get_vectors(check: Subject) -> None:
    with collection(check, 2) as name:
        library(check, name)
        reply = check.ok("GetVectors", pb.GetVectorsRequest(collection=name, ids=["f", "zz", "a", "c", "yy"]))
        got = [vector.id for vector in reply.vectors]
        expect(got == ["f", "a", "c"], f"the vectors are {got}", reply)
        expect(list(reply.missing_ids) == ["zz", "yy"], f"the missing ids are {list(reply.missing_ids)}", reply)
        expect(not reply.vectors[1].vector, "vectors come unasked", reply)
        expect(reply.vectors[1].metadata["kind"] == "novel", "the metadata is not the vector's", reply)


@claims.full("The pages of a list give each vector once, though it is written to meanwhile.", PAGES)
def list_vectors(check: Subject) -> None:
    items = random_vectors(60, 4, seed=7)
    with collection(check, 4) as name:
        upsert(check, name, items)
        seen: list[str] = []
        token = ""
        for page in range(30):
            request = pb.ListVectorsRequest(collection=name, page_size=7, page_token=token)
            reply = check.ok("ListVectors", request)
            expect(len(reply.vectors) <= 7, f"a page of 7 has {len(reply.vectors)} vectors", reply)
            seen += [vector.id for vector in reply.vectors]
            token = reply.next_page_token
            if not token:
                break
            upsert(check, name, {f"new{page}": [1, 2, 3, 4], "v0001": [4, 3, 2, 1]})
        expect(not token, "the pages do not end")
        throughout = [key for key in seen if key in items]
        expect(
            sorted(throughout) == sorted(items),
            f"of 60 vectors {len(set(throughout))} came, in {len(throughout)} places",
        )
        bad = pb.ListVectorsRequest(collection=name, page_token="no token of anybody's")  # noqa: S106  # it is none
        check.refused_with("ListVectors", bad, "a page_token that is none", Code.INVALID_ARGUMENT)


@claims.full("metadata_json wins over the Struct.", "`metadata_json` wins in requests.")
def json_wins(check: Subject) -> None:
    with collection(check, 2) as name:
        item = pb.Vector(id="a", vector=[1, 0], metadata_json='{"from": "json"}')
        item.metadata.update({"from": "struct"})
        check.ok("UpsertVectors", pb.UpsertVectorsRequest(collection=name, vectors=[item]))
        reply = search(check, name, [1, 0])
        expect(reply.results[0].metadata["from"] == "json", "the metadata is the Struct's", reply)
        for text in ("{", "[]", '"a"'):
            bad = pb.Vector(id="b", vector=[1, 0], metadata_json=text)
            request = pb.UpsertVectorsRequest(collection=name, vectors=[bad])
            check.refused_with("UpsertVectors", request, f"metadata_json {text}", Code.INVALID_ARGUMENT)


@claims.full("With allow_partial the good are written and the bad reported.", PARTIAL)
def partial(check: Subject) -> None:
    with collection(check, 2) as name:
        items = vectors({"a": [1, 0], "bad": [1], "c": [0, 1], "zero": [0, 0]})
        request = pb.UpsertVectorsRequest(collection=name, vectors=items, allow_partial=True)
        reply = check.ok("UpsertVectors", request)
        expect(reply.upserted_count == 2, f"two are good, and upserted_count is {reply.upserted_count}", reply)
        got = [(error.index, error.id) for error in reply.errors]
        expect(got == [(1, "bad"), (3, "zero")], f"the errors are of {got}", reply)
        for error in reply.errors:
            refusal = of_status(error.status)
            good = refusal.code == Code.INVALID_ARGUMENT and refusal.domain == DOMAIN and refusal.message
            expect(good, "an item's error has no code, domain and message of the contract", reply)
        expect(sorted(ids(search(check, name, [1, 0]))) == ["a", "c"], "what was written is not what was good")


@claims.full(
    "INSERT_ONLY refuses what exists, UPDATE_ONLY what does not.",
    "UpsertMode: an id that exists, or does not, is an error.",
)
def upsert_modes(check: Subject) -> None:
    with collection(check, 2) as name:
        upsert(check, name, {"old": [1, 0]})
        for mode, bad, good in (
            (pb.UPSERT_MODE_INSERT_ONLY, "old", "new"),
            (pb.UPSERT_MODE_UPDATE_ONLY, "never", "old"),
        ):
            request = pb.UpsertVectorsRequest(collection=name, vectors=vectors({bad: [0, 1]}), mode=mode)
            check.refused("UpsertVectors", request, f"{pb.UpsertMode.Name(mode)} of {bad!r}")
            upsert(check, name, {good: [1, 1]}, mode=mode)
        expect(sorted(ids(search(check, name, [1, 0]))) == ["new", "old"], "a refused upsert was written")


@claims.full(
    "A stream of upserts answers each message once, in order, and goes on after a bad one.",
    "UpsertVectorsStream answers each message once, in order, when durable, with a `success` of its own.",
)
def upsert_stream(check: Subject) -> None:
    with collection(check, 2) as name:
        batches: list[dict[str, list[float]]] = [{"a": [1, 0]}, {"bad": [1]}, {"b": [0, 1], "c": [1, 1]}, {"a": [1, 2]}]
        requests = [pb.UpsertVectorsRequest(collection=name, vectors=vectors(batch)) for batch in batches]
        replies = check.stream("UpsertVectorsStream", requests)
        got = [(reply.success, reply.upserted_count) for reply in replies]
        expect(got == [(True, 1), (False, 0), (True, 2), (True, 1)], f"success and count are {got}", replies)
        expect(sorted(ids(search(check, name, [1, 0]))) == ["a", "b", "c"], "what was acknowledged is not all there")


@claims.full(
    "A snapshot brings a collection back to what it was.",
    "CreateSnapshot keeps a copy, RestoreSnapshot puts the collection back to it.",
)
def snapshots(check: Subject) -> None:
    with collection(check, 2) as name:
        upsert(check, name, {"a": [1, 0], "b": [0, 1]})
        made = check.ok("CreateSnapshot", pb.CreateSnapshotRequest(collection=name, name="check"))
        expect(made.snapshot.name == "check" and made.snapshot.collection == name, "the snapshot is another's", made)
        try:
            upsert(check, name, {"c": [1, 1]})
            check.ok("DeleteVectors", pb.DeleteVectorsRequest(collection=name, ids=["a"]))
            listed = check.ok("ListSnapshots", pb.ListSnapshotsRequest(collection=name)).snapshots
            expect([info.name for info in listed] == ["check"], f"the list has {[info.name for info in listed]}")
            check.ok("RestoreSnapshot", pb.RestoreSnapshotRequest(collection=name, name="check"))
            got = sorted(ids(search(check, name, [1, 0])))
            expect(got == ["a", "b"], f"the restored collection has {got}")
        finally:
            check.call("DeleteSnapshot", pb.DeleteSnapshotRequest(collection=name, name="check"))
        request = pb.RestoreSnapshotRequest(collection=name, name="check")
        check.refused_with("RestoreSnapshot", request, "a snapshot that was deleted", Code.NOT_FOUND)


@claims.full("A snapshot's name is no path.", "Snapshots have names, never client paths.")
def snapshot_names(check: Subject) -> None:
    with collection(check, 2) as name:
        upsert(check, name, {"a": [1, 0]})
        for bad in ("../up", "/etc/check", "a/b", ""):
            request = pb.CreateSnapshotRequest(collection=name, name=bad)
            check.refused_with("CreateSnapshot", request, f"the name {bad!r}", Code.INVALID_ARGUMENT)
