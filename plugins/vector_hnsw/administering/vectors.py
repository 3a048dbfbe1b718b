"""Vectors to a file and from one, by a running plugin's calls."""

from __future__ import annotations

import argparse
import itertools
import os
from collections.abc import Iterator
from pathlib import Path

import grpc
import hector_plugins_pb2 as pb

from shared.errors import StartError

from .. import transfer
from ..engine.files import make_file
from .database import CALL_SECONDS, Database
from .shown import Progress

_PAGE_BYTES = 2 * 2**20


def export(database: Database, arguments: argparse.Namespace) -> int:
    file = Path(arguments.file)
    progress = Progress("exported")
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


def import_(database: Database, arguments: argparse.Namespace) -> int:
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
    progress = Progress("imported")
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
    database: Database, batches: Iterator[pb.UpsertVectorsRequest], progress: Progress
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


def _about(database: Database, collection: str) -> pb.CollectionInfo:
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


def _pages(database: Database, collection: str, about: pb.CollectionInfo) -> Iterator[pb.Vector]:
    size, token = max(1, min(1000, _PAGE_BYTES // (4 * about.dimension + 500))), ""
    while True:
        request = pb.ListVectorsRequest(
            collection=collection, page_size=size, page_token=token, include_vectors=True, metadata_as_json=True
        )
        try:
            reply = database.checked(
                database.stub.ListVectors(request, timeout=CALL_SECONDS, metadata=database.address.metadata)
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
