"""The additions to reading and writing; the others are in `database_full.py`."""

from __future__ import annotations

import json
import re
import struct

import hector_plugins_pb2 as pb

from host.check.claims import Claims, expect
from host.check.database import collection, ids, random_vectors, search, upsert, vectors
from host.check.database_full import PAGES, PARTIAL, condition, library, must
from host.check.refusal import DOMAIN, of_status
from host.check.subject import Subject
from shared.errors import Code

claims = Claims("database")


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
        request = pb.GetVectorsRequest(collection=name, ids=["a"], include_vectors=True, include_metadata=False)
        reply = check.ok("GetVectors", request)
        expect(len(reply.vectors[0].vector) == 2, "the vector does not come", reply)
        expect(not reply.vectors[0].metadata.fields, "metadata comes that was declined", reply)


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


@claims.full(
    "A list gives what matches its filter, with vectors and metadata as asked.",
    "ListVectors: `filter`; include_vectors; include_metadata, by default true.",
)
def list_matches(check: Subject) -> None:
    with collection(check, 2) as name:
        library(check, name)
        novel = must(condition("kind", pb.OPERATOR_EQ, "novel"))
        for with_vectors in (False, True):
            request = pb.ListVectorsRequest(collection=name, filter=novel, include_vectors=with_vectors)
            reply = check.ok("ListVectors", request)
            got = sorted(vector.id for vector in reply.vectors)
            expect(got == ["a", "c"], f"the list of two matches has {got}", reply)
            for vector in reply.vectors:
                expect(len(vector.vector) == (2 if with_vectors else 0), "vectors do not come as asked", reply)
                expect(vector.metadata["kind"] == "novel", "the metadata is not the vector's", reply)
        request = pb.ListVectorsRequest(collection=name, filter=novel, include_metadata=False)
        reply = check.ok("ListVectors", request)
        expect(not any(vector.metadata.fields for vector in reply.vectors), "metadata comes that was declined", reply)


@claims.full(
    "With metadata_as_json metadata comes as JSON text alone.",
    "metadata_as_json: metadata comes in metadata_json alone, as it is stored.",
)
def metadata_as_json(check: Subject) -> None:
    with collection(check, 2) as name:
        item = pb.Vector(id="a", vector=[1, 0], metadata_json='{"n": 9007199254740993, "s": "x"}')
        check.ok("UpsertVectors", pb.UpsertVectorsRequest(collection=name, vectors=[item]))
        get = pb.GetVectorsRequest(collection=name, ids=["a"], metadata_as_json=True)
        listed = pb.ListVectorsRequest(collection=name, metadata_as_json=True)
        for hits in (
            search(check, name, [1, 0], metadata_as_json=True).results,
            check.ok("GetVectors", get).vectors,
            check.ok("ListVectors", listed).vectors,
        ):
            expect(not hits[0].metadata.fields, "the Struct is filled too")
            got = json.loads(hits[0].metadata_json or "null")
            expect(got == {"n": 9007199254740993, "s": "x"}, f"the metadata is {got}")


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
    "A stream of upserts is answered as it goes, before its end.",
    "UpsertVectorsStream answers each message once, in order, when durable.",
)
def upsert_stream_as_it_goes(check: Subject) -> None:
    with collection(check, 2) as name:
        for number, reply in enumerate(
            check.in_turns(
                "UpsertVectorsStream",
                [
                    pb.UpsertVectorsRequest(collection=name, vectors=vectors({f"v{number}": [1, 0]}))
                    for number in range(3)
                ],
            )
        ):
            expect(reply.success, f"message {number} failed", reply)


@claims.full(
    "A snapshot brings a collection back to what it was.",
    "CreateSnapshot keeps a copy, RestoreSnapshot puts the collection back to it.",
)
def snapshots(check: Subject) -> None:
    with collection(check, 2) as name:
        upsert(check, name, {"a": [1, 0], "b": [0, 1]})
        made = check.ok("CreateSnapshot", pb.CreateSnapshotRequest(collection=name, name="check"))
        expect(made.snapshot.name == "check" and made.snapshot.collection == name, "the snapshot is another's", made)
        hex_digits = re.fullmatch("[0-9a-f]{64}", made.snapshot.sha256)
        expect(hex_digits, f"sha256 is {made.snapshot.sha256!r}, not 64 hex digits", made)
        expect(made.snapshot.size_bytes > 0 and made.snapshot.created_unix_ms > 0, "size or time is 0", made)
        try:
            upsert(check, name, {"c": [1, 1]})
            check.ok("DeleteVectors", pb.DeleteVectorsRequest(collection=name, ids=["a"]))
            listed = check.ok("ListSnapshots", pb.ListSnapshotsRequest(collection=name)).snapshots
            expect([info.name for info in listed] == ["check"], f"the list has {[info.name for info in listed]}")
            restored = check.ok("RestoreSnapshot", pb.RestoreSnapshotRequest(collection=name, name="check"))
            told = (restored.collection.name, restored.collection.count)
            expect(told == (name, 2), f"name and count of the restored collection are {told}", restored)
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
