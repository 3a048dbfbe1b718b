"""The additions to deleting; the others are in `database_full.py`."""

from __future__ import annotations

import hector_plugins_pb2 as pb

from host.check.claims import Claims, expect
from host.check.database import collection, ids, search
from host.check.database_full import DELETES, condition, library, must
from host.check.subject import Subject

claims = Claims("database")


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
