"""Looks into a vector store, and moves vectors in and out.

    python -m {package}.admin ls
    python -m {package}.admin describe docs
    python -m {package}.admin index docs --m 32 --ef-search 200      # builds a new index in the background
    python -m {package}.admin alias docs docs-2       # from now on `docs` means the collection docs-2
    python -m {package}.admin aliases
    python -m {package}.admin export docs docs.jsonl     # or docs.npz
    python -m {package}.admin import docs docs.jsonl     # makes the collection where it is missing
    python -m {package}.admin snapshot docs before-upgrade
    python -m {package}.admin restore docs before-upgrade
    python -m {package}.admin backup --data-dir DIR backups/monday    # while the plugin runs or not
    python -m {package}.admin restore-backup --data-dir DIR backups/monday --replace
    python -m {package}.admin verify --data-dir DIR

JSON Lines hold {"id", "vector", "metadata"} in each line, behind a first one that says how the collection was made;
.npz holds the same as arrays. An import that was cut off goes on where it stopped when it is started again.
A backup is a folder with all there is: collections, graphs, snapshots. `backup` may be called while the plugin runs;
`restore-backup` and `verify`, which takes a backup too, only while it is stopped. These three work on folders of this
machine; all others talk to a running plugin, and a token that it wants is read from the environment.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import grpc
import hector_plugins_pb2 as pb
from google.protobuf.json_format import MessageToDict
from hector_plugins_pb2_grpc import DatabaseProviderStub

from shared.cli import naming
from shared.client import Address, channel
from shared.config import variable
from shared.errors import StartError
from shared.server import run
from shared.units import Secret
from shared.visible import visible_line

from . import PACKAGE, transfer
from .engine import backup
from .engine.files import make_file
from .engine.verify import verify

_PAGE_BYTES = 2 * 2**20
_CALL_SECONDS = 600.0


def main() -> int:
    arguments = _parser().parse_args()
    work: Callable[..., int] = arguments.work
    if work in (_verify, _backup, _restore_backup):
        return work(arguments)
    address = Address(
        arguments.address, Secret(os.environ.get(variable(PACKAGE, "token"), "")), tls_ca=arguments.tls_ca
    )
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
    collections = database.call(database.stub.ListCollections, pb.ListCollectionsRequest()).collections
    rows = [
        (
            collection.name,
            f"{collection.count:,}",
            str(collection.dimension),
            pb.Metric.Name(collection.metric)[7:].lower(),
            _bytes(collection.bytes_on_disk),
            " ".join(collection.aliases),
        )
        for collection in collections
    ]
    _table(("collection", "vectors", "dimension", "metric", "on disk", "aliases"), rows)
    return 0


def _describe(database: _Database, arguments: argparse.Namespace) -> int:
    reply = database.call(database.stub.DescribeCollection, pb.DescribeCollectionRequest(name=arguments.collection))
    about = MessageToDict(reply.collection, preserving_proto_field_name=True, always_print_fields_with_no_presence=True)
    print(json.dumps(about, indent=2))
    return 0


def _count(database: _Database, arguments: argparse.Namespace) -> int:
    print(database.call(database.stub.CountVectors, pb.CountVectorsRequest(collection=arguments.collection)).count)
    return 0


def _index(database: _Database, arguments: argparse.Namespace) -> int:
    index = pb.IndexParams(
        m=arguments.m,
        ef_construction=arguments.ef_construction,
        ef_search=arguments.ef_search,
        target_recall=arguments.target_recall,
    )
    request = pb.UpdateCollectionRequest(name=arguments.collection, index=index)
    collection = database.call(database.stub.UpdateCollection, request).collection
    index = collection.index
    now = f"m {index.m}, ef_construction {index.ef_construction}, ef_search {index.ef_search}"
    if index.target_recall:
        now += f", which is adjusted to keep a recall of {index.target_recall:g}"
    print(f"{collection.name}: {now}" + ("; a new index is being built" if collection.health.rebuilding else ""))
    return 0


def _alias(database: _Database, arguments: argparse.Namespace) -> int:
    request = pb.SetAliasRequest(alias=arguments.alias, collection=arguments.collection)
    before = database.call(database.stub.SetAlias, request).previous_collection
    print(f"{arguments.alias}: {arguments.collection}" + (f", before {before}" if before else ""))
    return 0


def _unalias(database: _Database, arguments: argparse.Namespace) -> int:
    gone = database.call(database.stub.DeleteAlias, pb.DeleteAliasRequest(alias=arguments.alias))
    print(f"{arguments.alias}: nothing, before {gone.collection}")
    return 0


def _aliases(database: _Database, arguments: argparse.Namespace) -> int:
    aliases = database.call(database.stub.ListAliases, pb.ListAliasesRequest()).aliases
    _table(("alias", "collection"), [(alias.alias, alias.collection) for alias in aliases])
    return 0


def _export(database: _Database, arguments: argparse.Namespace) -> int:
    file = Path(arguments.file)
    progress = _Progress("exported")
    aside = file.with_name(f".{file.name}.{os.getpid()}.tmp")
    made = False
    about = _about(database, arguments.collection)
    try:
        make_file(aside)
        made = True
        write = transfer.write_npz if file.suffix == ".npz" else transfer.write_lines
        write(aside, about, progress.through(_pages(database, arguments.collection, about)))
        aside.replace(file)
    except OSError as error:
        raise StartError(f"cannot write {file}: {error.strerror}") from None
    finally:
        if made:
            aside.unlink(missing_ok=True)
    progress.done()
    return 0


def _import(database: _Database, arguments: argparse.Namespace) -> int:
    about, items = transfer.read(Path(arguments.file))
    existing = {
        name: info
        for info in database.call(database.stub.ListCollections, pb.ListCollectionsRequest()).collections
        for name in (info.name, *info.aliases)
    }
    there = existing.get(arguments.collection)
    if about is None:
        first = next(items, None)
        if first is None:
            raise StartError(f"{arguments.file} holds no vectors")
        items = itertools.chain([first], items)
        about = pb.CollectionInfo(dimension=len(first.vector), metric=there.metric if there else pb.METRIC_COSINE)
    if arguments.metric:
        about.metric = pb.Metric.Value(f"METRIC_{arguments.metric.upper()}")
    if there is None:
        request = pb.CreateCollectionRequest(
            name=arguments.collection,
            dimension=about.dimension,
            metric=about.metric,
            index=about.index,
            embedding_model=about.embedding_model,
        )
        database.call(database.stub.CreateCollection, request)
    else:
        _refuse_another(about, there)
    progress = _Progress("imported")
    batches = transfer.batches(arguments.collection, items)
    if there is not None and there.count:
        batches = _not_there_yet(database, batches, progress)
    try:
        for reply in database.stream(database.stub.UpsertVectorsStream, batches):
            progress.add(reply.upserted_count)
    except StartError as error:
        raise StartError(
            f"{error}; {progress.count:,} vectors are there, and the same command goes on behind them"
        ) from None
    progress.done()
    return 0


def _refuse_another(wanted: pb.CollectionInfo, there: pb.CollectionInfo) -> None:
    """Raises StartError where vectors of the one would mean something else in the other."""
    for name in ("dimension", "metric", "embedding_model"):
        want, have = getattr(wanted, name), getattr(there, name)
        if want != have and want and have:
            text = (pb.Metric.Name(value) if name == "metric" else repr(value) for value in (want, have))
            raise StartError(
                f"the file has {name} {next(text)}, collection {there.name} {next(text)}; name another one"
            )


def _not_there_yet(
    database: _Database, batches: Iterator[pb.UpsertVectorsRequest], progress: _Progress
) -> Iterator[pb.UpsertVectorsRequest]:
    """Without the batches at the beginning that an import which was cut off has written already."""
    for batch in batches:
        ids = [vector.id for vector in batch.vectors]
        request = pb.GetVectorsRequest(
            collection=batch.collection, ids=ids, include_vectors=True, metadata_as_json=True
        )
        there = {vector.id: vector for vector in database.call(database.stub.GetVectors, request).vectors}
        if any(vector.id not in there or not transfer.is_same(vector, there[vector.id]) for vector in batch.vectors):
            yield batch
            break
        progress.add(len(ids))
    yield from batches


def _snapshot(database: _Database, arguments: argparse.Namespace) -> int:
    request = pb.CreateSnapshotRequest(collection=arguments.collection, name=arguments.name)
    made = database.call(database.stub.CreateSnapshot, request).snapshot
    print(f"{visible_line(made.name)}: {_bytes(made.size_bytes)}, sha256 {visible_line(made.sha256)}")
    return 0


def _snapshots(database: _Database, arguments: argparse.Namespace) -> int:
    snapshots = database.call(database.stub.ListSnapshots, pb.ListSnapshotsRequest()).snapshots
    rows = [
        (
            snapshot.collection,
            snapshot.name,
            _bytes(snapshot.size_bytes),
            time.strftime("%F %T", time.localtime(snapshot.created_unix_ms / 1000)),
        )
        for snapshot in snapshots
    ]
    _table(("collection", "snapshot", "size", "made"), rows)
    return 0


def _restore(database: _Database, arguments: argparse.Namespace) -> int:
    request = pb.RestoreSnapshotRequest(collection=arguments.collection, name=arguments.name)
    collection = database.call(database.stub.RestoreSnapshot, request).collection
    print(f"{visible_line(collection.name)}: {collection.count:,} vectors")
    return 0


def _verify(arguments: argparse.Namespace) -> int:
    problems = 0
    for line in verify(Path(arguments.data_dir)):
        print(visible_line(line))
        problems += line.startswith("damaged")
    return 1 if problems else 0


def _backup(arguments: argparse.Namespace) -> int:
    made = backup.make(Path(arguments.data_dir), Path(arguments.to))
    for file in made.left_out:
        print(f"left out: {file}; see `verify`", file=sys.stderr)
    print(f"{arguments.to}: {_holds(made)}")
    return 1 if made.left_out else 0


def _restore_backup(arguments: argparse.Namespace) -> int:
    restored = backup.put_back(Path(arguments.data_dir), Path(arguments.backup), instead=arguments.replace)
    print(f"{arguments.data_dir}: {_holds(restored)}, as of {time.strftime('%F %T', time.localtime(restored.created))}")
    if restored.replaced:
        print(f"what was there is in {restored.replaced}; delete it when you need it no longer")
    return 0


def _holds(made: backup.Backup) -> str:
    return f"{made.collections:,} collections, {_bytes(made.bytes)}, sequence {made.sequence}"


def _about(database: _Database, collection: str) -> pb.CollectionInfo:
    """As it was created; and its name."""
    collections = database.call(database.stub.ListCollections, pb.ListCollectionsRequest()).collections
    for info in collections:
        if collection in (info.name, *info.aliases):
            return pb.CollectionInfo(
                name=info.name,
                dimension=info.dimension,
                metric=info.metric,
                index=info.index,
                embedding_model=info.embedding_model,
            )
    raise StartError(f"there is no collection {collection!r}; `ls` lists those there are")


def _pages(database: _Database, collection: str, about: pb.CollectionInfo) -> Iterator[pb.Vector]:
    size, token = max(1, min(1000, _PAGE_BYTES // (4 * about.dimension + 500))), ""
    while True:
        request = pb.ListVectorsRequest(
            collection=collection, page_size=size, page_token=token, include_vectors=True, metadata_as_json=True
        )
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


# ---------------------------------------------------------------- for people


class _Progress:
    """A line on stderr, written anew every now and then while it goes to a terminal."""

    def __init__(self, what: str) -> None:
        self._what = what
        self.count = 0
        self._began = self._shown = time.monotonic()

    def add(self, count: int) -> None:
        self.count += count
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
        return f"{self._what} {self.count:,} vectors in {seconds:.1f} s, {self.count / max(seconds, 1e-9):,.0f}/s"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    rows = [[visible_line(text) for text in row] for row in rows]
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
        prog=f"python -m {PACKAGE}.admin",
        description=naming(PACKAGE, __doc__),
        epilog=f"A token of the plugin is read from {variable(PACKAGE, 'token')}.",
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
    indexing = command("index", _index, "change the parameters of its index", running, collection)
    for name in ("m", "ef_construction", "ef_search"):
        indexing.add_argument(f"--{name.replace('_', '-')}", type=int, default=0, metavar="N", help="[as it is]")
    indexing.add_argument("--target-recall", type=float, metavar="R", help="recall to keep, 0 for none [as it is]")
    aliasing = command("alias", _alias, "give a collection another name, or move that name to it", running)
    aliasing.add_argument("alias")
    aliasing.add_argument("collection")
    command("unalias", _unalias, "delete an alias; its collection stays", running).add_argument("alias")
    command("aliases", _aliases, "list the aliases", running)
    command("export", _export, "write its vectors to a file", running, collection).add_argument("file")
    importing = command("import", _import, "upsert the vectors of a file", running, collection)
    importing.add_argument("file")
    metrics = ("cosine", "dot", "euclidean")
    importing.add_argument("--metric", choices=metrics, help="of a collection that is made [the file's, or cosine]")
    command("snapshot", _snapshot, "keep a copy on the server", running, collection).add_argument("name")
    command("snapshots", _snapshots, "list the copies", running)
    command("restore", _restore, "put a collection back to a copy", running, collection).add_argument("name")
    folder = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    folder.add_argument("--data-dir", required=True, metavar="FOLDER", help="the plugin's")
    backing_up = command("backup", _backup, "copy all there is to a new folder, while the plugin runs or not", folder)
    backing_up.add_argument("to", metavar="TO")
    putting_back = command("restore-backup", _restore_backup, "put a backup back while the plugin is stopped", folder)
    putting_back.add_argument("backup", metavar="BACKUP")
    putting_back.add_argument("--replace", action="store_true", help="the store there, which is moved aside")
    command("verify", _verify, "read all of a stopped plugin's folder, or a backup, and say what is damaged", folder)
    return parser


if __name__ == "__main__":
    run(main)
