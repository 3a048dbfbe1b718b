"""vector_pg with a replica: reads from it, and a primary that is killed under load."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import hector_plugins_pb2 as pb
import pytest
from hector_plugins_pb2_grpc import DatabaseProviderStub

from tests.pg_server import OwnServer, own_server
from tests.servers import start_plugin, wait_until
from tests.test_pg_crash import listed, upsert, written_meanwhile

psycopg = pytest.importorskip("psycopg")
pytestmark = pytest.mark.slow
_TURNS = int(os.environ.get("FAILOVERS", "1"))


@contextmanager
def pair() -> Iterator[tuple[OwnServer, OwnServer]]:
    """A primary, and a standby without which it acknowledges nothing."""
    with own_server() as primary:
        folder = Path(primary.data).parent / "standby"
        primary.own(folder)
        primary.run("pg_basebackup", "-h", primary.data, "-U", "postgres", "-R", "-c", "fast", "-D", str(folder))
        for copied in (folder / ".handle_pids.json", folder / "log", *folder.glob(".s.PGSQL*")):
            copied.unlink(missing_ok=True)
        standby = OwnServer(folder)
        try:
            with psycopg.connect(primary.url, autocommit=True) as connection:
                connection.execute("ALTER SYSTEM SET synchronous_standby_names = '*'")
                connection.execute("SELECT pg_reload_conf()")
                sql = "SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'"
                wait_until(lambda: connection.execute(sql).fetchone() == (1,), "a standby in step")
            yield primary, standby
        finally:
            standby.stop()
            shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.parametrize("turn", range(_TURNS))
def test_a_failover_under_load(turn: int) -> None:
    """The primary is killed while four write, the standby is promoted: the plugin goes on there by itself, and every
    acknowledged write is there, and no other number of vectors than it tells."""
    with pair() as (primary, standby):
        url = f"host={primary.data},{standby.data} user=postgres dbname=postgres target_session_attrs=read-write"
        with start_plugin("plugins.vector_pg", "--patience", "60s", env={"VECTOR_PG__URL": url}) as plugin:
            stub = DatabaseProviderStub(plugin.channel())
            assert stub.CreateCollection(pb.CreateCollectionRequest(name="a", dimension=2)).success
            with written_meanwhile(stub, "a") as (acknowledged, more):
                wait_until(lambda: len(acknowledged) > 20 + turn, "writes")
                primary.kill()
                standby.run("pg_ctl", "promote", "-D", standby.data)
                more()
                wait_until(more, "a write after the promotion")
            there = listed(stub, "a")
            assert set(acknowledged) <= there
            assert stub.CountVectors(pb.CountVectorsRequest(collection="a")).count == len(there)


def test_reads_from_a_replica() -> None:
    """With `replica_url` searches go there: they see each write once it is replayed, and `sequence` says how far they
    are."""
    with pair() as (primary, standby):
        env = {"VECTOR_PG__URL": primary.url, "VECTOR_PG__REPLICA_URL": standby.url}
        with start_plugin("plugins.vector_pg", env=env) as plugin:
            stub = DatabaseProviderStub(plugin.channel())
            assert stub.CreateCollection(pb.CreateCollectionRequest(name="a", dimension=2)).success

            def seen() -> pb.SearchVectorsResponse:
                reply = stub.SearchVectors(pb.SearchVectorsRequest(collection="a", vector=[1, 0]))
                assert reply.success or reply.status.code == 5, reply.error
                return reply

            first = upsert(stub, "a", "x").sequence
            wait_until(lambda: seen().sequence >= first, "the write on the replica")
            with psycopg.connect(standby.url, autocommit=True) as connection:
                connection.execute("SELECT pg_wal_replay_pause()")
                second = upsert(stub, "a", "y").sequence
                reply = seen()
                assert (reply.sequence, [hit.id for hit in reply.results]) == (first, ["x"])
                connection.execute("SELECT pg_wal_replay_resume()")
            wait_until(lambda: seen().sequence >= second, "the second write on the replica")
            assert [hit.id for hit in seen().results] == ["x", "y"]
