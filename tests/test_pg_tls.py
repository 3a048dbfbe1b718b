"""vector_pg and a database behind TLS.

The PostgreSQL of the tests is built without TLS, and listens on a unix socket. So a terminator stands before it, which
speaks what PostgreSQL's own listener does: SSLRequest, one byte, then TLS.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

import hector_plugins_pb2 as pb
import pytest
from hector_plugins_pb2_grpc import DatabaseProviderStub

from tests.pg_server import own_server
from tests.servers import SECONDS, missing, run_plugin, start_plugin
from tests.test_credentials import Certificates

pytestmark = pytest.mark.slow
_SSL_REQUEST, _GSS_REQUEST = b"\0\0\0\x08\x04\xd2\x16\x2f", b"\0\0\0\x08\x04\xd2\x16\x30"


class Terminator:
    """A TLS port before the PostgreSQL whose socket is `path`. `encrypted` counts the connections that came through."""

    def __init__(self, path: str, cert: str, key: str) -> None:
        self.encrypted, self.port = 0, 0
        self._path = path
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(cert, key)

    async def start(self) -> None:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError), contextlib.closing(writer):
            while (request := await reader.readexactly(8)) == _GSS_REQUEST:
                writer.write(b"N")
            if request != _SSL_REQUEST:
                return  # nothing goes on unencrypted
            writer.write(b"S")
            await writer.start_tls(self._context)
            self.encrypted += 1
            to_reader, to_writer = await asyncio.open_unix_connection(self._path)
            with contextlib.closing(to_writer):
                await asyncio.wait(
                    [asyncio.create_task(_copy(reader, to_writer)), asyncio.create_task(_copy(to_reader, writer))],
                    return_when=asyncio.FIRST_COMPLETED,
                )


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(2**16):
            writer.write(data)
            await writer.drain()


@contextlib.contextmanager
def running(terminator: Terminator) -> Iterator[Terminator]:
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    try:
        asyncio.run_coroutine_threadsafe(terminator.start(), loop).result(SECONDS)
        yield terminator
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(SECONDS)


def test_verify_full(tmp_path: Path) -> None:
    """With sslmode=verify-full vector_pg serves over TLS, where the certificate is of the CA that `sslrootcert` names
    and of the host that was asked for; else it does not start, and says why and no password."""
    if shutil.which("openssl") is None:
        missing("the openssl command, which makes the certificates")
    pem = Certificates(tmp_path)
    with own_server() as server:
        path = f"{server.data}/.s.PGSQL.5432"
        with running(Terminator(path, pem["server"], pem.key("server"))) as terminator:

            def environment(host: str, ca: str) -> dict[str, str]:
                where = f"host={host} hostaddr=127.0.0.1 port={terminator.port} user=postgres password=sesame"
                return {"VECTOR_PG__URL": f"{where} dbname=postgres sslmode=verify-full sslrootcert={pem[ca]}"}

            with start_plugin("plugins.vector_pg", env=environment("localhost", "ca")) as plugin:
                stub = DatabaseProviderStub(plugin.channel())
                assert stub.CreateCollection(pb.CreateCollectionRequest(name="a", dimension=2)).success
                vector = pb.Vector(id="x", vector=[1, 0])
                assert stub.UpsertVectors(pb.UpsertVectorsRequest(collection="a", vectors=[vector])).success
                reply = stub.SearchVectors(pb.SearchVectorsRequest(collection="a", vector=[1, 0]))
                assert [hit.id for hit in reply.results] == ["x"]
            assert terminator.encrypted > 0
            for host, ca, says in (
                ("localhost", "other-ca", "certificate verify failed"),
                ("db.example", "ca", 'does not match host name "db.example"'),
            ):
                ended = run_plugin("plugins.vector_pg", "--port", "0", env=environment(host, ca))
                assert ended.returncode == 2
                assert "cannot connect to the database" in ended.stderr
                assert says in ended.stderr
                assert "sesame" not in ended.stderr + ended.stdout
