"""The additions that change what is there: metadata, aliases, the index. The others are in `database_full.py`."""

from __future__ import annotations

import json
from typing import Any

import hector_plugins_pb2 as pb

from host.check.claims import Claims, expect
from host.check.database import collection, ids, new_name, search, upsert
from host.check.database_full import condition, library, must
from host.check.subject import Subject
from shared.errors import Code

claims = Claims("database")
UPDATES = "UpdateMetadata changes metadata and leaves vectors as they are: all or nothing, unless allow_partial is set."
ALIASES = "An alias is another name of a collection; every request takes it where it takes an existing collection."


def metadata_of(check: Subject, name: str, key: str) -> Any:
    """Of one vector, as JSON has it."""
    reply = check.ok("GetVectors", pb.GetVectorsRequest(collection=name, ids=[key], metadata_as_json=True))
    expect(len(reply.vectors) == 1, f"vector {key} is not there", reply)
    return json.loads(reply.vectors[0].metadata_json or "{}")


def update(name: str, *updates: Any, **fields: Any) -> Any:
    return pb.UpdateMetadataRequest(collection=name, updates=updates, **fields)


# ---------------------------------------------------------------- metadata


@claims.full("Metadata is merged key by key, or replaced, and the vector stays.", UPDATES)
def update_metadata(check: Subject) -> None:
    with collection(check, 2) as name:
        library(check, name)
        before = search(check, name, [1, 0], include_vectors=True)
        change = pb.MetadataUpdate(id="b", metadata_json='{"year": 2006, "new": null}', remove_keys=["tags", "never"])
        reply = check.ok("UpdateMetadata", update(name, change))
        expect(reply.updated_count == 1, f"one was changed, and updated_count is {reply.updated_count}", reply)
        got = metadata_of(check, name, "b")
        expected: dict[str, Any] = {"year": 2006, "new": None, "kind": "poems", "author": {"name": "Bob"}}
        expect(got == expected, f"merged, the metadata is {got}, not {expected}")
        change = pb.MetadataUpdate(id="b", metadata_json='{"only": [1]}')
        check.ok("UpdateMetadata", update(name, change, mode=pb.METADATA_MODE_REPLACE))
        got = metadata_of(check, name, "b")
        expect(got == {"only": [1]}, f"replaced, the metadata is {got}")
        after = search(check, name, [1, 0], include_vectors=True)
        same = [(hit.id, list(hit.vector), hit.score) for hit in before.results]
        expect([(hit.id, list(hit.vector), hit.score) for hit in after.results] == same, "a vector changed", after)
        hits = ids(search(check, name, [1, 0], filter=must(condition("year", pb.OPERATOR_EQ, 2006))))
        expect(not hits, f"a filter on what is gone finds {hits}")


@claims.full("An update of what is not there is NOT_FOUND, and changes nothing; with allow_partial the rest.", UPDATES)
def update_missing(check: Subject) -> None:
    with collection(check, 2) as name:
        library(check, name)
        changes = [pb.MetadataUpdate(id=key, metadata_json='{"mark": 1}') for key in ("a", "never", "c")]
        check.refused_with("UpdateMetadata", update(name, *changes), "an id that is not there", Code.NOT_FOUND)
        expect("mark" not in metadata_of(check, name, "a"), "a part of a refused update was written")
        reply = check.ok("UpdateMetadata", update(name, *changes, allow_partial=True))
        got = [(error.index, error.id, error.status.code) for error in reply.errors]
        expect(got == [(1, "never", Code.NOT_FOUND)], f"the errors are {got}", reply)
        expect(reply.updated_count == 2, f"two were changed, and updated_count is {reply.updated_count}", reply)
        expect(metadata_of(check, name, "c").get("mark") == 1, "the good ones were not written", reply)


@claims.full("A filter changes what matches, and one that restricts nothing is refused.", UPDATES)
def update_by_filter(check: Subject) -> None:
    with collection(check, 2) as name:
        library(check, name)
        change = pb.MetadataUpdate(metadata_json='{"mark": 1}')
        novel = must(condition("kind", pb.OPERATOR_EQ, "novel"))
        reply = check.ok("UpdateMetadata", update(name, change, filter=novel))
        expect(reply.updated_count == 2, f"two match, and updated_count is {reply.updated_count}", reply)
        marked = must(condition("mark", pb.OPERATOR_EQ, 1))
        hits = ids(search(check, name, [1, 0], filter=marked))
        expect(hits == ["a", "c"], f"the changed ones are {hits}")
        check.refused("UpdateMetadata", update(name, change, filter=pb.Filter()), "a filter that restricts nothing")
        expect(ids(search(check, name, [1, 0], filter=marked)) == ["a", "c"], "a refused update was written")


# ---------------------------------------------------------------- aliases


@claims.full("An alias is taken for its collection, and moves in one step.", ALIASES)
def aliases(check: Subject) -> None:
    alias = new_name()
    with collection(check, 2) as first, collection(check, 2) as second:
        upsert(check, first, {"in first": [1, 0]})
        upsert(check, second, {"in second": [1, 0]})
        reply = check.ok("SetAlias", pb.SetAliasRequest(alias=alias, collection=first))
        try:
            expect(not reply.previous_collection, "a new alias had a collection before", reply)
            expect(ids(search(check, alias, [1, 0])) == ["in first"], "a search by the alias is not of its collection")
            upsert(check, alias, {"by alias": [1, 0]})
            hits = ids(search(check, first, [1, 0]))
            expect(hits == ["by alias", "in first"], f"written by the alias, the collection has {hits}")
            reply = check.ok("SetAlias", pb.SetAliasRequest(alias=alias, collection=second))
            expect(reply.previous_collection == first, f"it named {reply.previous_collection!r} before", reply)
            expect(ids(search(check, alias, [1, 0])) == ["in second"], "the alias was not moved")
            listed = check.ok("ListAliases", pb.ListAliasesRequest(collection=second)).aliases
            got = [(item.alias, item.collection) for item in listed]
            expect(got == [(alias, second)], f"the collection's aliases are {got}")
            told = check.ok("DescribeCollection", pb.DescribeCollectionRequest(name=alias)).collection
            expect(told.name == second and list(told.aliases) == [alias], "the description is not the collection's")
        finally:
            check.call("DeleteAlias", pb.DeleteAliasRequest(alias=alias))
        query = pb.SearchVectorsRequest(collection=alias, vector=[1, 0])
        check.refused_with("SearchVectors", query, "an alias that was deleted", Code.NOT_FOUND)
        expect(ids(search(check, second, [1, 0])) == ["in second"], "with the alias its collection lost something")


@claims.full(
    "An alias is moved only from where it is expected, and its collection is not deleted under it.",
    "`expected_collection`: else FAILED_PRECONDITION; so is the deletion of a collection that has aliases.",
)
def alias_refusals(check: Subject) -> None:
    alias = new_name()
    with collection(check, 2) as first, collection(check, 2) as second:
        check.ok("SetAlias", pb.SetAliasRequest(alias=alias, collection=first, expected_collection=""))
        try:
            taken = pb.SetAliasRequest(alias=second, collection=first)
            check.refused_with("SetAlias", taken, "an alias named as a collection", Code.ALREADY_EXISTS)
            nowhere = pb.SetAliasRequest(alias=alias, collection=new_name())
            check.refused_with("SetAlias", nowhere, "an alias of no collection", Code.NOT_FOUND)
            late = pb.SetAliasRequest(alias=alias, collection=second, expected_collection=second)
            check.refused_with("SetAlias", late, "an alias that is elsewhere", Code.FAILED_PRECONDITION)
            named = check.ok("ListAliases", pb.ListAliasesRequest(collection=first)).aliases
            expect([item.alias for item in named] == [alias], "a refused SetAlias moved the alias")
            deletion = pb.DeleteCollectionRequest(name=first)
            check.refused_with("DeleteCollection", deletion, "a collection with an alias", Code.FAILED_PRECONDITION)
            expect(not ids(search(check, first, [1, 0])), "the collection is not there after a refused deletion")
        finally:
            check.call("DeleteAlias", pb.DeleteAliasRequest(alias=alias))
        gone = pb.DeleteAliasRequest(alias=alias)
        check.refused_with("DeleteAlias", gone, "an alias that does not exist", Code.NOT_FOUND)


# ---------------------------------------------------------------- the index


@claims.full(
    "The parameters of an index are kept, and can be changed.",
    "IndexParams at creation; UpdateCollection: 0 stays as it is, at least one is to be set.",
)
def index_parameters(check: Subject) -> None:
    index = pb.IndexParams(m=8, ef_construction=60, ef_search=40)
    with collection(check, 2, index=index) as name:
        upsert(check, name, {"a": [1, 0], "b": [0, 1]})
        empty = pb.UpdateCollectionRequest(name=name)
        check.refused_with("UpdateCollection", empty, "a change of nothing", Code.INVALID_ARGUMENT)
        gone = pb.UpdateCollectionRequest(name=new_name(), index=index)
        check.refused_with("UpdateCollection", gone, "a collection that does not exist", Code.NOT_FOUND)
        told = check.ok("DescribeCollection", pb.DescribeCollectionRequest(name=name)).collection
        expect(told.index == index, f"the parameters are {told.index}, not {index}")
        change = pb.UpdateCollectionRequest(name=name, index=pb.IndexParams(ef_search=77))
        changed = check.ok("UpdateCollection", change).collection
        told = check.ok("DescribeCollection", pb.DescribeCollectionRequest(name=name)).collection
        for info in (changed, told):
            got = (info.index.m, info.index.ef_construction, info.index.ef_search)
            expect(got == (8, 60, 77), f"after the change of ef_search the parameters are {got}")
        expect(ids(search(check, name, [1, 0])) == ["a", "b"], "the change lost what the collection holds")


@claims.full(
    "A recall that a collection is asked to keep is told and can be changed; a share that no sample tells is refused.",
    "IndexParams.target_recall: 0.5 to 0.999, kept by adjusting ef_search; 0: none is kept; unset: as it is.",
)
def target_recall(check: Subject) -> None:
    with collection(check, 2, index=pb.IndexParams(target_recall=0.9)) as name:
        upsert(check, name, {"a": [1, 0], "b": [0, 1]})
        for wanted in (0.9, 0.95, 0.0):
            if wanted != 0.9:
                index = pb.IndexParams(target_recall=wanted)
                check.ok("UpdateCollection", pb.UpdateCollectionRequest(name=name, index=index))
            told = check.ok("DescribeCollection", pb.DescribeCollectionRequest(name=name)).collection
            got = told.index.target_recall
            expect(abs(got - wanted) < 1e-9, f"the recall to keep is {got:g}, not {wanted:g}", told)
        for share in (1.0, -0.9, float("nan")):
            request = pb.UpdateCollectionRequest(name=name, index=pb.IndexParams(target_recall=share))
            check.refused_with("UpdateCollection", request, f"a target_recall of {share}", Code.INVALID_ARGUMENT)
        expect(ids(search(check, name, [1, 0])) == ["a", "b"], "the changes lost what the collection holds")
