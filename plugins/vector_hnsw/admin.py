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
import json
import os
import time
from collections.abc import Callable
from typing import Any

import hector_plugins_pb2 as pb
from google.protobuf.json_format import MessageToDict

from shared.cli import naming
from shared.client import Address, channel
from shared.config import variable
from shared.server import run
from shared.units import Secret
from shared.visible import visible_line

from . import PACKAGE, sqlite_room
from .administering.database import Database
from .administering.shown import bytes_of, table


def main() -> int:
    arguments = _parser().parse_args()
    work: Callable[..., int] = arguments.work
    if work in (_verify, _backup, _restore_backup):
        sqlite_room.keep_in(arguments.data_dir)
        return work(arguments)
    address = Address(
        arguments.address, Secret(os.environ.get(variable(PACKAGE, "token"), "")), tls_ca=arguments.tls_ca
    )
    with channel(address) as opened:
        return work(Database(opened, address), arguments)


def _ls(database: Database, arguments: argparse.Namespace) -> int:
    collections = database.call(database.stub.ListCollections, pb.ListCollectionsRequest()).collections
    rows = [
        (
            collection.name,
            f"{collection.count:,}",
            str(collection.dimension),
            pb.Metric.Name(collection.metric)[7:].lower(),
            bytes_of(collection.bytes_on_disk),
            " ".join(collection.aliases),
        )
        for collection in collections
    ]
    table(("collection", "vectors", "dimension", "metric", "on disk", "aliases"), rows)
    return 0


def _describe(database: Database, arguments: argparse.Namespace) -> int:
    reply = database.call(database.stub.DescribeCollection, pb.DescribeCollectionRequest(name=arguments.collection))
    about = MessageToDict(reply.collection, preserving_proto_field_name=True, always_print_fields_with_no_presence=True)
    print(json.dumps(about, indent=2))
    return 0


def _count(database: Database, arguments: argparse.Namespace) -> int:
    print(database.call(database.stub.CountVectors, pb.CountVectorsRequest(collection=arguments.collection)).count)
    return 0


def _index(database: Database, arguments: argparse.Namespace) -> int:
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


def _alias(database: Database, arguments: argparse.Namespace) -> int:
    request = pb.SetAliasRequest(alias=arguments.alias, collection=arguments.collection)
    before = database.call(database.stub.SetAlias, request).previous_collection
    print(f"{arguments.alias}: {arguments.collection}" + (f", before {before}" if before else ""))
    return 0


def _unalias(database: Database, arguments: argparse.Namespace) -> int:
    gone = database.call(database.stub.DeleteAlias, pb.DeleteAliasRequest(alias=arguments.alias))
    print(f"{arguments.alias}: nothing, before {gone.collection}")
    return 0


def _aliases(database: Database, arguments: argparse.Namespace) -> int:
    aliases = database.call(database.stub.ListAliases, pb.ListAliasesRequest()).aliases
    table(("alias", "collection"), [(alias.alias, alias.collection) for alias in aliases])
    return 0


def _export(database: Database, arguments: argparse.Namespace) -> int:
    from .administering import vectors

    return vectors.export(database, arguments)


def _import(database: Database, arguments: argparse.Namespace) -> int:
    from .administering import vectors

    return vectors.import_(database, arguments)


def _snapshot(database: Database, arguments: argparse.Namespace) -> int:
    request = pb.CreateSnapshotRequest(collection=arguments.collection, name=arguments.name)
    made = database.call(database.stub.CreateSnapshot, request).snapshot
    print(f"{visible_line(made.name)}: {bytes_of(made.size_bytes)}, sha256 {visible_line(made.sha256)}")
    return 0


def _snapshots(database: Database, arguments: argparse.Namespace) -> int:
    snapshots = database.call(database.stub.ListSnapshots, pb.ListSnapshotsRequest()).snapshots
    rows = [
        (
            snapshot.collection,
            snapshot.name,
            bytes_of(snapshot.size_bytes),
            time.strftime("%F %T", time.localtime(snapshot.created_unix_ms / 1000)),
        )
        for snapshot in snapshots
    ]
    table(("collection", "snapshot", "size", "made"), rows)
    return 0


def _restore(database: Database, arguments: argparse.Namespace) -> int:
    request = pb.RestoreSnapshotRequest(collection=arguments.collection, name=arguments.name)
    collection = database.call(database.stub.RestoreSnapshot, request).collection
    print(f"{visible_line(collection.name)}: {collection.count:,} vectors")
    return 0


# What works on a folder loads SQLite, which finds out at once where it may write.


def _verify(arguments: argparse.Namespace) -> int:
    from .administering import folder

    return folder.verify(arguments)


def _backup(arguments: argparse.Namespace) -> int:
    from .administering import folder

    return folder.back_up(arguments)


def _restore_backup(arguments: argparse.Namespace) -> int:
    from .administering import folder

    return folder.restore(arguments)


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
