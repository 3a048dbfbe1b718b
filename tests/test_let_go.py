"""What a call that failed held is free when it has ended, and not with the next collection of garbage: that may be
hundreds of calls away, each with its megabytes."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from typing import Any

import hector_plugins_pb2 as pb
import pytest

from tests.servers import SECONDS, wait_until
from tests.vector_wire import SERVICE, Database, serving, vector

SEARCH = pb.SearchVectorsRequest(collection="none", vector=[1.0])
WRONG = [vector(name, metadata_json="{") for name in "xy"]
CHANGES = [pb.MetadataUpdate(id=name) for name in "xy"]
KINDS = (pb.SearchVectorsRequest, pb.SearchVectorsBatchRequest, pb.UpsertVectorsRequest, pb.UpdateMetadataRequest)


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    with serving(tmp_path_factory.mktemp("let_go")) as database:
        database.create()
        yield database


@pytest.mark.parametrize(
    ("method", "request_"),
    [
        ("SearchVectors", SEARCH),
        ("SearchVectors", pb.SearchVectorsRequest(collection="c", vector=[1.0], exact=True)),
        ("SearchVectorsBatch", pb.SearchVectorsBatchRequest(searches=[SEARCH])),
        ("SearchVectorsBatch", pb.SearchVectorsBatchRequest(searches=[SEARCH] * 5)),
        ("SearchVectorsStream", SEARCH),
        ("UpsertVectors", pb.UpsertVectorsRequest(collection="c", vectors=WRONG)),
        ("UpsertVectorsStream", pb.UpsertVectorsRequest(collection="c", vectors=WRONG, allow_partial=True)),
        ("UpdateMetadata", pb.UpdateMetadataRequest(collection="c", updates=CHANGES)),
    ],
)  # fmt: skip
def test_a_request_that_failed(database: Database, method: str, request_: Any) -> None:
    """No request is left when calls have failed, alone or several at once, while nobody looks for garbage."""
    call: Any = database.server.channel().stream_stream(f"/{SERVICE}/{method}")
    sent = request_.SerializeToString()
    gc.collect()
    gc.disable()
    try:
        before = left()
        replies = [call(iter([sent]), timeout=SECONDS) for _ in range(4)]
        assert all(b"google.rpc.ErrorInfo" in reply for each in replies for reply in each)
        wait_until(lambda: left() <= before, "end of what the requests hold")
    finally:
        gc.enable()


def left() -> int:
    """Requests in this process; those of the test itself are bytes."""
    return sum(type(item) in KINDS for item in gc.get_objects())
