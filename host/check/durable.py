"""What holds for what a database has acknowledged, when its process ends."""

from __future__ import annotations

import signal
import threading

import grpc
import hector_plugins_pb2 as pb

from host.check import database, launch
from host.check.claims import Broken, Claims, expect
from host.check.launch import started
from host.check.subject import Subject

claims = Claims("started")
DURABLE = "An acknowledged write is durable: it survives kill -9."


@claims.full("What a database has acknowledged is there after SIGKILL, and what it deleted is not.", DURABLE)
def survives_kill(check: Subject) -> None:
    _survives(check, signal.SIGKILL)


@claims.full("What a database has acknowledged is there after SIGTERM, and what it deleted is not.", DURABLE)
def survives_stop(check: Subject) -> None:
    _survives(check, signal.SIGTERM)


def _survives(check: Subject, number: signal.Signals) -> None:
    """Writes until the process is gone, starts it again and looks for every write that was acknowledged."""
    name = database.new_name()
    acknowledged: list[str] = []
    with started(check) as (process, subject):
        subject.ok("CreateCollection", pb.CreateCollectionRequest(name=name, dimension=4))
        database.upsert(subject, name, {"kept": [0, 0, 0, 1], "deleted": [0, 1, 0, 0]})
        subject.ok("DeleteVectors", pb.DeleteVectorsRequest(collection=name, ids=["deleted"]))
        kept = pb.Vector(id="kept", vector=[1, 0, 0, 0])  # which replaces what it was
        kept.metadata.update({"text": "ünïcode", "list": [1, None, {"a": "b"}]})
        subject.ok("UpsertVectors", pb.UpsertVectorsRequest(collection=name, vectors=[kept]))
        gone = database.new_name()
        subject.ok("CreateCollection", pb.CreateCollectionRequest(name=gone, dimension=4))
        subject.ok("DeleteCollection", pb.DeleteCollectionRequest(name=gone))
        threading.Timer(1.0, process.signal, (number,)).start()
        for count in range(900):
            try:
                database.upsert(subject, name, {f"id{count}": [1, count, 1, 0]})
            except (Broken, grpc.RpcError):
                break
            acknowledged.append(f"id{count}")
        process.signal(number)
        process.wait(launch.STOP_SECONDS)
    with started(check) as (_, subject):
        reply = database.search(subject, name, [1, 0, 0, 0], limit=1000)
        hits = set(database.ids(reply))
        lost = [key for key in ("kept", *acknowledged) if key not in hits]
        expect(
            not lost, f"of {len(acknowledged) + 1} acknowledged vectors {len(lost)} are lost, such as {lost[:3]}", reply
        )
        expect("deleted" not in hits, "a vector whose deletion was acknowledged is back", reply)
        first = reply.results[0]
        as_it_was = first.id == "kept" and first.score > 0.9999
        expect(as_it_was, "a vector that was replaced is not what replaced it", reply)
        expect(first.metadata == kept.metadata, "the metadata is not what was written", reply)
        query = pb.SearchVectorsRequest(collection=gone, vector=[1, 0, 0, 0])
        subject.refused("SearchVectors", query, "a collection whose deletion was acknowledged")
        subject.ok("DeleteCollection", pb.DeleteCollectionRequest(name=name))
