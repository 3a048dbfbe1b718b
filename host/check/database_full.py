"""What holds for every DatabaseProvider that has the additions. What it answers UNIMPLEMENTED it does not offer."""

from __future__ import annotations

import json
import math
from typing import Any

import grpc
import hector_plugins_pb2 as pb

from host.check.claims import Claims, expect
from host.check.database import collection, ids, new_name, search, upsert, vectors
from host.check.refusal import of_call, of_reply
from host.check.subject import Subject
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
    reply = check.ok("DeleteVectors", pb.DeleteVectorsRequest(collection=name, ids=["a", "never", "a"]))
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


@claims.full(
    "A reply past 4 MiB is refused in words, not broken off by the client.",
    "A reply past a client's default of 4 MiB is refused with a message that names the paging or streaming call, "
    "unless the settings allow more.",
)
def large_reply(check: Subject) -> None:
    with collection(check, 2) as name, check.other_channel(4 << 20) as usual:
        items = vectors({f"big{number}": [1, number] for number in range(60)})
        for item in items:
            item.metadata.update({"text": "a long text " * 8738})
        check.ok("UpsertVectors", pb.UpsertVectorsRequest(collection=name, vectors=items))
        request = pb.SearchVectorsRequest(collection=name, vector=[1, 30], limit=60)
        try:
            reply = check.call("SearchVectors", request, over=usual)
        except grpc.RpcError as error:
            refusal = of_call(error)
        else:
            expect(not reply.success, "a reply of 6 MiB fits into 4", reply)
            refusal = of_reply(reply)
        broken_off = "Received message larger than max" in refusal.message or "CLIENT: " in refusal.message
        expect(not broken_off, f"the reply of 6 MiB is sent, and the client breaks it off: {refusal.message}")
        calls = "limit" in refusal.message or "offset" in refusal.message or "page" in refusal.message
        expect(calls, f"the error names no way to get at the results: {refusal.message}")
        expect(len(ids(search(check, name, [1, 30], limit=5))) == 5, "the server does not go on afterwards")


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
        last = upsert(check, name, {"a": [1, 0, 0], "b": [0, 1, 0]}).sequence
        listed = check.ok("ListCollections", pb.ListCollectionsRequest()).collections
        mine = [info for info in listed if info.name == name]
        expect(len(mine) == 1, f"the list has the collection just made {len(mine)} times")
        for told in (mine[0], check.ok("DescribeCollection", pb.DescribeCollectionRequest(name=name)).collection):
            got = (told.name, told.dimension, told.metric, told.embedding_model, told.count, told.sequence)
            expected = (name, 3, pb.METRIC_DOT, "check-model", 2, last)
            expect(got == expected, f"name, dimension, metric, model, count and sequence are {got}, not {expected}")


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
