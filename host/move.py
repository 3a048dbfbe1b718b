"""`python -m host move`: a collection from one database plugin to another, over the contract, and the proof that it is
the same there.

It goes over the source page by page, asks the target for the same ids, and writes what is missing or different. So it
can be broken off and begun again, and what is written to the source meanwhile is brought along by the next pass; it
ends with a pass that has found nothing to write.
"""

from __future__ import annotations

import hashlib
import json
import random
from array import array
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import hector_plugins_pb2 as pb
from hector_plugins_pb2_grpc import DatabaseProviderStub

from shared.errors import StartError

_PAGE = 200
_PASSES = 10
_SEARCHES = 20  # that are compared in the end
_SECONDS = 300.0
_LARGEST = 64 * 2**20


@dataclass
class Store:
    """A collection of a database plugin."""

    place: str  # ADDRESS/COLLECTION, as it was given
    stub: DatabaseProviderStub
    collection: str
    token: str
    page: int = field(default=_PAGE)

    def call(self, rpc: str, request: Any) -> Any:
        """The reply, which is a success. Raises StartError, or Missing where there is no such collection."""
        metadata = (("authorization", f"Bearer {self.token}"),) if self.token else ()
        try:
            reply = getattr(self.stub, rpc)(request, timeout=_SECONDS, metadata=metadata)
        except grpc.RpcError as error:
            if error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED and hasattr(request, "page_size"):
                raise TooMuch from None
            raise StartError(f"{self.place}: {rpc}: {error.code().name}: {error.details()}") from None
        if not reply.success:
            kind = Missing if reply.status.code == 5 else StartError
            raise kind(f"{self.place}: {rpc}: {reply.error}")
        return reply

    def describe(self) -> pb.CollectionInfo:
        info: pb.CollectionInfo = self.call(
            "DescribeCollection", pb.DescribeCollectionRequest(name=self.collection)
        ).collection
        return info

    def pages(self) -> Iterator[list[pb.Vector]]:
        token = ""
        while True:
            request = pb.ListVectorsRequest(
                collection=self.collection,
                page_size=self.page,
                page_token=token,
                include_vectors=True,
                metadata_as_json=True,
            )
            try:
                reply = self.call("ListVectors", request)
            except TooMuch:
                if self.page == 1:
                    raise StartError(f"{self.place}: a vector is too large for a reply") from None
                self.page = max(1, self.page // 4)
                continue
            yield list(reply.vectors)
            token = reply.next_page_token
            if not token:
                return

    def get(self, ids: list[str]) -> dict[str, pb.Vector]:
        request = pb.GetVectorsRequest(collection=self.collection, ids=ids, include_vectors=True, metadata_as_json=True)
        return {vector.id: vector for vector in self.call("GetVectors", request).vectors}

    def count(self) -> int:
        return int(self.call("CountVectors", pb.CountVectorsRequest(collection=self.collection)).count)


class Missing(StartError):
    pass


class TooMuch(Exception):
    """The page does not fit into a reply."""


@dataclass(frozen=True)
class Moved:
    """`written`: vectors, over all passes; `digest`: of ids, vectors and metadata as both sides gave them."""

    count: int
    written: int
    deleted: int
    digest: str


@contextmanager
def opened(place: str, token: str = "") -> Iterator[Store]:
    """`place`: ADDRESS/COLLECTION, where ADDRESS is HOST:PORT or unix:PATH."""
    address, slash, collection = place.rpartition("/")
    if not slash or not address or not collection:
        raise StartError(f"{place}: name plugin and collection, as 127.0.0.1:8082/docs")
    options = [("grpc.max_receive_message_length", _LARGEST)]
    with grpc.insecure_channel(address, options=options) as channel:
        yield Store(place, DatabaseProviderStub(channel), collection, token)


def command(source: str, target: str, *, token_files: tuple[str | None, str | None], delete: bool) -> int:
    tokens = [_first_line(path) if path else "" for path in token_files]
    with ExitStack() as stack:
        one = stack.enter_context(opened(source, tokens[0]))
        other = stack.enter_context(opened(target, tokens[1]))
        moved = move(one, other, delete=delete)
    print(
        f"{moved.count} vectors are the same on both sides ({moved.written} written, {moved.deleted} deleted), "
        f"and so are {min(_SEARCHES, moved.count)} searches; sha256 {moved.digest}"
    )
    return 0


def _first_line(path: str) -> str:
    try:
        return (Path(path).read_text(encoding="utf-8").splitlines() or [""])[0].strip()
    except (OSError, ValueError):
        raise StartError(f"the token file {path} cannot be read") from None


def move(source: Store, target: Store, *, delete: bool = False) -> Moved:
    """Raises StartError where the target cannot be made the same. `delete`: what only the target has is taken out."""
    info = source.describe()
    _made(target, info)
    written = deleted = 0
    for _ in range(_PASSES):
        wrote, digest = _brought_along(source, target)
        written += wrote
        count, there = source.count(), target.count()
        if there > count:
            gone = _only_in(target, source)
            if gone and not delete:
                raise StartError(
                    f"{target.place} has {len(gone)} vectors that {source.place} has not, such as {gone[0]!r}; "
                    "take them out with --delete, or take another collection"
                )
            for start in range(0, len(gone), 1000):
                request = pb.DeleteVectorsRequest(collection=target.collection, ids=gone[start : start + 1000])
                deleted += target.call("DeleteVectors", request).deleted_count
        elif not wrote and there == count:
            _compare_searches(source, target)
            return Moved(count, written, deleted, digest)
    raise StartError(f"{source.place} is written faster than it can be copied; stop its writers, and begin again")


def _made(target: Store, info: pb.CollectionInfo) -> None:
    try:
        there = target.describe()
    except Missing:
        target.call(
            "CreateCollection",
            pb.CreateCollectionRequest(
                name=target.collection,
                dimension=info.dimension,
                metric=info.metric,
                embedding_model=info.embedding_model,
            ),
        )
        return
    for name in ("dimension", "metric", "embedding_model"):
        have, want = getattr(there, name), getattr(info, name)
        if have != want:
            raise StartError(f"{target.place} exists with {name} {have}, not {want}; take another collection")


def _brought_along(source: Store, target: Store) -> tuple[int, str]:
    """How many vectors were written, and the digest of those of the source."""
    written, digest = 0, 0
    for page in source.pages():
        if not page:
            continue
        there = target.get([vector.id for vector in page])
        digests = {vector.id: _digest(vector) for vector in page}
        different = [
            vector for vector in page if vector.id not in there or _digest(there[vector.id]) != digests[vector.id]
        ]
        if different:
            target.call("UpsertVectors", pb.UpsertVectorsRequest(collection=target.collection, vectors=different))
        written += len(different)
        for one in digests.values():  # whatever the order in which a side lists them
            digest ^= int.from_bytes(one)
    return written, f"{digest:064x}"


def _digest(vector: pb.Vector) -> bytes:
    numbers = array("f", vector.vector).tobytes()
    metadata = json.dumps(_plain(json.loads(vector.metadata_json or "{}")), sort_keys=True)
    return hashlib.sha256(b"%d %s%s%s" % (len(vector.id), vector.id.encode(), numbers, metadata.encode())).digest()


def _plain(value: Any) -> Any:
    """Numbers in one form: a store may give 1e22 as an integer."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _only_in(one: Store, other: Store) -> list[str]:
    """Ids that the other has not."""
    gone: list[str] = []
    for page in one.pages():
        ids = [vector.id for vector in page]
        there = other.get(ids) if ids else {}
        gone += [name for name in ids if name not in there]
    return gone


def _compare_searches(source: Store, target: Store) -> None:
    """Exact ones, for vectors that are there: the same ids but for ties, with the same scores."""
    sample: list[pb.Vector] = []
    for page in source.pages():
        sample += page
        if len(sample) > 10 * _PAGE:
            break
    for vector in random.sample(sample, min(_SEARCHES, len(sample))):
        results = []
        for store in (source, target):
            request = pb.SearchVectorsRequest(
                collection=store.collection, vector=vector.vector, limit=10, exact=True, include_metadata=False
            )
            results.append(store.call("SearchVectors", request).results)
        pairs = zip(*results, strict=False)
        alike = all(abs(one.score - other.score) <= 1e-4 * max(1.0, abs(one.score)) for one, other in pairs)
        if len(results[0]) != len(results[1]) or not alike:
            raise StartError(f"a search for the vector {vector.id!r} is not answered alike; was one side written to?")
