"""Looks into a vector store, and moves vectors in and out.

    python -m plugins.vector_hnsw.admin ls
    python -m plugins.vector_hnsw.admin describe docs
    python -m plugins.vector_hnsw.admin export docs docs.jsonl     # or docs.npz
    python -m plugins.vector_hnsw.admin import docs docs.jsonl     # makes the collection where it is missing
    python -m plugins.vector_hnsw.admin snapshot docs before-upgrade
    python -m plugins.vector_hnsw.admin restore docs before-upgrade
    python -m plugins.vector_hnsw.admin verify --data-dir ./data/vector_hnsw    # while the plugin is stopped

JSON Lines hold {"id", "vector", "metadata"} in each line; .npz holds the arrays ids, vectors and metadata (JSON texts).
All but `verify` talk to a running plugin; where it wants a token, set VECTOR_HNSW__TOKEN.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import grpc
import hector_plugins_pb2 as pb
import numpy as np
from google.protobuf.json_format import MessageToDict
from hector_plugins_pb2_grpc import DatabaseProviderStub

from plugins.vector_hnsw.engine.files import make_file
from plugins.vector_hnsw.engine.verify import verify
from shared.client import Address, channel
from shared.errors import StartError
from shared.server import run
from shared.structs import dump, from_value
from shared.units import Secret

_BATCH = 500
_PAGE_BYTES = 2 * 2**20
_CALL_SECONDS = 600.0


def main() -> int:
    arguments = _parser().parse_args()
    work: Callable[..., int] = arguments.work
    if work is _verify:
        return _verify(arguments)
    address = Address(arguments.address, Secret(os.environ.get("VECTOR_HNSW__TOKEN", "")), tls_ca=arguments.tls_ca)
    with channel(address) as opened:
        return work(_Database(opened, address), arguments)


class _Database:
    """The plugin's calls; what it refuses becomes a StartError, one line."""

    def __init__(self, opened: grpc.Channel, address: Address) -> None:
        self.stub = DatabaseProviderStub(opened)
        self._address = address

    def call(self, method: Callable[..., Any], request: Any) -> Any:
        try:
            reply = method(request, timeout=_CALL_SECONDS, metadata=self._address.metadata)
        except grpc.RpcError as error:
            raise self.failed(error) from None
        return self.checked(reply)

    def stream(self, method: Callable[..., Any], requests: Iterable[Any]) -> Iterator[Any]:
        mistakes: list[StartError] = []

        def sent() -> Iterator[Any]:
            # gRPC takes them in a thread of its own, where an error would be lost.
            try:
                yield from requests
            except StartError as error:
                mistakes.append(error)

        try:
            for reply in method(sent(), metadata=self._address.metadata):
                yield self.checked(reply)
        except grpc.RpcError as error:
            raise self.failed(error) from None
        if mistakes:
            raise mistakes[0]

    def checked(self, reply: Any) -> Any:
        if not reply.success:
            raise StartError(reply.error)
        return reply

    def failed(self, error: Any) -> StartError:
        return StartError(f"{self._address.address}: {error.code().name}: {error.details()}")


def _ls(database: _Database, arguments: argparse.Namespace) -> int:
    found = database.call(database.stub.ListCollections, pb.ListCollectionsRequest()).collections
    rows = [
        (
            one.name,
            f"{one.count:,}",
            str(one.dimension),
            pb.Metric.Name(one.metric)[7:].lower(),
            _bytes(one.bytes_on_disk),
        )
        for one in found
    ]
    _table(("collection", "vectors", "dimension", "metric", "on disk"), rows)
    return 0


def _describe(database: _Database, arguments: argparse.Namespace) -> int:
    reply = database.call(database.stub.DescribeCollection, pb.DescribeCollectionRequest(name=arguments.collection))
    about = MessageToDict(reply.collection, preserving_proto_field_name=True, always_print_fields_with_no_presence=True)
    print(json.dumps(about, indent=2))
    return 0


def _count(database: _Database, arguments: argparse.Namespace) -> int:
    print(database.call(database.stub.CountVectors, pb.CountVectorsRequest(collection=arguments.collection)).count)
    return 0


def _export(database: _Database, arguments: argparse.Namespace) -> int:
    file = Path(arguments.file)
    progress = _Progress("exported")
    aside = file.with_name(f".{file.name}.{os.getpid()}.tmp")
    made = False
    try:
        make_file(aside)
        made = True
        if file.suffix == ".npz":
            _write_npz(aside, progress.through(_pages(database, arguments.collection)))
        else:
            with aside.open("w", encoding="utf-8") as lines:
                for vector in progress.through(_pages(database, arguments.collection)):
                    item = {"id": vector.id, "vector": list(vector.vector), "metadata": _metadata(vector)}
                    lines.write(dump(item) + "\n")
        aside.replace(file)
    except OSError as error:
        raise StartError(f"cannot write {file}: {error.strerror}") from None
    finally:
        if made:
            aside.unlink(missing_ok=True)
    progress.done()
    return 0


def _import(database: _Database, arguments: argparse.Namespace) -> int:
    items = _read(Path(arguments.file))
    first = next(items, None)
    if first is None:
        raise StartError(f"{arguments.file} holds no vectors")
    metric = pb.Metric.Value(f"METRIC_{arguments.metric.upper()}")
    request = pb.CreateCollectionRequest(
        name=arguments.collection, dimension=len(first.vector), metric=metric, if_not_exists=True
    )
    existing = database.call(database.stub.ListCollections, pb.ListCollectionsRequest()).collections
    if arguments.collection not in [one.name for one in existing]:
        database.call(database.stub.CreateCollection, request)
    progress = _Progress("imported")
    for reply in database.stream(database.stub.UpsertVectorsStream, _batches(arguments.collection, first, items)):
        progress.add(reply.upserted_count)
    progress.done()
    return 0


def _snapshot(database: _Database, arguments: argparse.Namespace) -> int:
    request = pb.CreateSnapshotRequest(collection=arguments.collection, name=arguments.name)
    made = database.call(database.stub.CreateSnapshot, request).snapshot
    print(f"{made.name}: {_bytes(made.size_bytes)}, sha256 {made.sha256}")
    return 0


def _snapshots(database: _Database, arguments: argparse.Namespace) -> int:
    found = database.call(database.stub.ListSnapshots, pb.ListSnapshotsRequest()).snapshots
    rows = [
        (
            one.collection,
            one.name,
            _bytes(one.size_bytes),
            time.strftime("%F %T", time.localtime(one.created_unix_ms / 1000)),
        )
        for one in found
    ]
    _table(("collection", "snapshot", "size", "made"), rows)
    return 0


def _restore(database: _Database, arguments: argparse.Namespace) -> int:
    request = pb.RestoreSnapshotRequest(collection=arguments.collection, name=arguments.name)
    found = database.call(database.stub.RestoreSnapshot, request).collection
    print(f"{found.name}: {found.count:,} vectors")
    return 0


def _verify(arguments: argparse.Namespace) -> int:
    problems = 0
    for line in verify(Path(arguments.data_dir)):
        print(line)
        problems += line.startswith("damaged")
    return 1 if problems else 0


# ---------------------------------------------------------------- vectors in files


def _pages(database: _Database, collection: str) -> Iterator[pb.Vector]:
    about = database.call(database.stub.DescribeCollection, pb.DescribeCollectionRequest(name=collection)).collection
    size, token = max(1, min(1000, _PAGE_BYTES // (4 * about.dimension + 500))), ""
    while True:
        request = pb.ListVectorsRequest(collection=collection, page_size=size, page_token=token, include_vectors=True)
        try:
            reply = database.checked(
                database.stub.ListVectors(request, timeout=_CALL_SECONDS, metadata=database._address.metadata)
            )
        except grpc.RpcError as error:
            # Much metadata can make a page larger than a reply may be.
            if error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED and size > 1:
                size //= 2
                continue
            raise database.failed(error) from None
        yield from reply.vectors
        token = reply.next_page_token
        if not token:
            return


def _batches(collection: str, first: pb.Vector, items: Iterator[pb.Vector]) -> Iterator[pb.UpsertVectorsRequest]:
    request = pb.UpsertVectorsRequest(collection=collection, vectors=[first])
    for item in items:
        if len(request.vectors) == _BATCH:
            yield request
            request = pb.UpsertVectorsRequest(collection=collection)
        request.vectors.append(item)
    yield request


def _read(file: Path) -> Iterator[pb.Vector]:
    try:
        if file.suffix == ".npz":
            with np.load(file, allow_pickle=False) as arrays:
                for name, vector, metadata in zip(arrays["ids"], arrays["vectors"], arrays["metadata"], strict=True):
                    yield pb.Vector(id=str(name), vector=vector.tolist(), metadata_json=str(metadata))
            return
        with file.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, start=1):
                if line.strip():
                    yield _vector(file, number, line)
    except (OSError, KeyError, ValueError) as error:
        raise StartError(f"cannot read {file}: {error}") from None


def _vector(file: Path, number: int, line: str) -> pb.Vector:
    try:
        item = json.loads(line)
        return pb.Vector(id=item["id"], vector=item["vector"], metadata_json=dump(item.get("metadata", {})))
    except (ValueError, KeyError, TypeError) as error:
        wanted = '{"id": "…", "vector": [...], "metadata": {...}}'
        raise StartError(f"{file}:{number} is not {wanted}: {error!r}") from None


def _write_npz(file: Path, vectors: Iterable[pb.Vector]) -> None:
    found = list(vectors)
    with file.open("wb") as out:
        np.savez_compressed(
            out,
            ids=np.array([one.id for one in found], dtype=np.str_),
            vectors=np.array([np.array(one.vector, np.float32) for one in found]),
            metadata=np.array([dump(_metadata(one)) for one in found], dtype=np.str_),
        )


def _metadata(vector: pb.Vector) -> Any:
    if vector.metadata_json:
        return json.loads(vector.metadata_json)
    return {key: from_value(value) for key, value in vector.metadata.fields.items()}


# ---------------------------------------------------------------- for people


class _Progress:
    """A line on stderr, written anew every now and then while it goes to a terminal."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._count = 0
        self._began = self._shown = time.monotonic()

    def add(self, count: int) -> None:
        self._count += count
        if sys.stderr.isatty() and time.monotonic() - self._shown > 0.2:
            self._shown = time.monotonic()
            print(f"\r{self._line()} ", end="", file=sys.stderr, flush=True)

    def through(self, vectors: Iterable[pb.Vector]) -> Iterator[pb.Vector]:
        for vector in vectors:
            self.add(1)
            yield vector

    def done(self) -> None:
        print(f"\r{self._line()}" if sys.stderr.isatty() else self._line(), file=sys.stderr)

    def _line(self) -> str:
        seconds = time.monotonic() - self._began
        return f"{self._what} {self._count:,} vectors in {seconds:.1f} s, {self._count / max(seconds, 1e-9):,.0f}/s"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]
    for row in [head, *rows]:
        print("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip())


def _bytes(count: int) -> str:
    size, units = float(count), ["B", "kB", "MB", "GB", "TB"]
    while size >= 1000 and len(units) > 1:
        size, units = size / 1000, units[1:]
    return f"{size:.3g} {units[0]}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m plugins.vector_hnsw.admin",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    running = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    running.add_argument("--address", default="127.0.0.1:8082", help="of the running plugin [127.0.0.1:8082]")
    running.add_argument("--tls-ca", metavar="FILE", default="", help="PEM file of the CA, where the plugin speaks TLS")
    collection = argparse.ArgumentParser(add_help=False)
    collection.add_argument("collection")
    add = parser.add_subparsers(required=True, metavar="COMMAND").add_parser

    def command(name: str, work: Callable[..., int], help: str, *parents: argparse.ArgumentParser) -> Any:
        made = add(name, parents=list(parents), help=help, allow_abbrev=False)
        made.set_defaults(work=work)
        return made

    command("ls", _ls, "list the collections", running)
    command("describe", _describe, "one collection, with the health of its index", running, collection)
    command("count", _count, "how many vectors it holds", running, collection)
    command("export", _export, "write its vectors to a file", running, collection).add_argument("file")
    importing = command("import", _import, "upsert the vectors of a file", running, collection)
    importing.add_argument("file")
    metrics = ("cosine", "dot", "euclidean")
    importing.add_argument("--metric", choices=metrics, default="cosine", help="of a collection that is made [cosine]")
    command("snapshot", _snapshot, "keep a copy on the server", running, collection).add_argument("name")
    command("snapshots", _snapshots, "list the copies", running)
    command("restore", _restore, "put a collection back to a copy", running, collection).add_argument("name")
    verifying = command("verify", _verify, "read all of a stopped plugin's folder and say what is damaged")
    verifying.add_argument("--data-dir", required=True)
    return parser


if __name__ == "__main__":
    run(main)
