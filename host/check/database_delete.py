"""What holds for deleting from every DatabaseProvider: the guide's part."""

from __future__ import annotations

import hector_plugins_pb2 as pb

from host.check.claims import Claims, expect
from host.check.database import collection, ids, search, upsert
from host.check.subject import Subject

claims = Claims("database")


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
