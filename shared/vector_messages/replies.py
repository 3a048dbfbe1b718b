"""Replies from values to messages, sized before they are packed."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import hector_plugins_pb2 as pb

from ..errors import CallerError, TooLarge
from ..give_way import give_way
from ..status import failure, to_status
from ..structs import fill
from ..vectors.checks import LONGEST_ID
from ..vectors.items import Floats, Item
from .requests import with_metadata

_FEWER_HITS = "page with limit and offset, or leave include_vectors unset, or set include_metadata to false"
TOO_LARGE_HINTS = {
    "SearchVectors": _FEWER_HITS,
    "SearchVectorsStream": _FEWER_HITS,
    "SearchVectorsBatch": "send fewer searches at once",
    "GetVectors": "name fewer ids at once, or set include_metadata to false",
    "ListVectors": "ask for a smaller page_size, or set include_metadata to false",
}
# A character of stored JSON takes at least a sixth of a byte in a reply: `\u0001` is one byte there.
CHARACTERS_A_BYTE = 6


class Hit(Protocol):
    """An item as it was found: `metadata` as JSON text, `vector` None where it was not asked for."""

    @property
    def id(self) -> str: ...

    @property
    def score(self) -> float: ...

    @property
    def metadata(self) -> str: ...

    @property
    def vector(self) -> Floats | None: ...


class SearchResult(Protocol):
    """What a search found: `hits`, best first."""

    @property
    def hits(self) -> Sequence[Hit]: ...

    @property
    def exact(self) -> bool: ...

    @property
    def complete(self) -> bool: ...

    @property
    def sequence(self) -> int: ...


class Room:
    """What is left of `max_reply_bytes` while a reply is packed, so that one that is too large is not packed whole."""

    def __init__(self, most: int, hint: str) -> None:
        self._most, self._left, self._hint = most, most, hint

    def take(self, count: int) -> None:
        """Raises TooLarge when a reply with `count` bytes more is refused anyway."""
        self._left -= count
        if self._left < 0:
            raise self.too_large()

    def too_large(self) -> TooLarge:
        return TooLarge(
            f"the reply has more bytes than max_reply_bytes of {self._most}: {self._hint}", reason="REPLY_TOO_LARGE"
        )

    def check(self, count: int) -> None:
        """As `take`, for bytes that are taken later."""
        self.take(count)
        self._left += count

    @contextmanager
    def hinting(self) -> Iterator[None]:
        """Within, the engine may refuse to read more than any reply can hold."""
        try:
            yield
        except TooLarge:
            raise self.too_large() from None


def least_bytes(request: pb.SearchVectorsRequest, result: SearchResult) -> int:
    """What the reply has at least."""
    text = size = 0
    for hit in result.hits:
        text += len(hit.metadata)
        size += len(hit.id)
        if hit.vector is not None:
            size += hit.vector.nbytes
    return size + (text // CHARACTERS_A_BYTE if with_metadata(request) else 0)


def search_reply(
    request: pb.SearchVectorsRequest, result: SearchResult, room: Room | None = None
) -> pb.SearchVectorsResponse:
    """Raises TooLarge where there is not `room` for it."""
    metadata = with_metadata(request)
    reply = pb.SearchVectorsResponse(
        success=True, exact=result.exact, complete=result.complete, sequence=result.sequence
    )
    if room is not None:
        room.check(least_bytes(request, result))
    for hit in result.hits:
        packed = _result(hit, metadata, request.metadata_as_json)
        if room is not None:
            room.take(packed.ByteSize())
        reply.results.append(packed)
    return reply


def batch_reply(
    searches: Sequence[pb.SearchVectorsRequest], results: Sequence[SearchResult | CallerError], room: Room | None = None
) -> pb.SearchVectorsBatchResponse:
    """Raises TooLarge where there is not `room` for it."""
    reply = pb.SearchVectorsBatchResponse()
    for request, result in zip(searches, results, strict=True):
        if isinstance(result, CallerError):
            failed = failure(reply.responses.add(), result)
            if room is not None:
                room.take(failed.ByteSize())
        else:
            reply.responses.append(search_reply(request, result, room))
    return reply


def _result(hit: Hit, with_metadata: bool, as_json: bool) -> pb.VectorResult:
    result = pb.VectorResult(id=hit.id, score=hit.score)
    if with_metadata and as_json:
        result.metadata_json = hit.metadata
    elif with_metadata:
        fill_metadata(result, hit.metadata)
    if hit.vector is not None:
        result.vector.extend(hit.vector.tolist())
    return result


def pack_items(into: Any, items: Sequence[Item], room: Room, as_json: bool = False) -> None:
    """Appends each to the repeated field `into`, `as_json` with its metadata as stored. Raises TooLarge where there is
    not `room` for them."""
    vectors = sum(item.vector.nbytes for item in items if item.vector is not None)
    room.check(vectors + sum(len(item.metadata) for item in items) // CHARACTERS_A_BYTE)
    for item in items:
        vector = into.add(id=item.id)
        if as_json:
            vector.metadata_json = item.metadata
        else:
            fill_metadata(vector, item.metadata)
        if item.vector is not None:
            vector.vector.extend(item.vector.tolist())
        room.take(vector.ByteSize())
        give_way()


def fill_metadata(message: pb.VectorResult | pb.Vector, metadata: str) -> None:
    if metadata not in ("{}", "") and not fill(message.metadata, json.loads(metadata)):
        message.metadata_json = metadata


def item_errors(
    items: Sequence[pb.Vector] | Sequence[pb.MetadataUpdate], wrong: Mapping[int, CallerError]
) -> list[pb.ItemError]:
    return [
        pb.ItemError(index=index, id=items[index].id[: 2 * LONGEST_ID], status=to_status(error))
        for index, error in sorted(wrong.items())
    ]
