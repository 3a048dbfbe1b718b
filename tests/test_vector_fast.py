"""The search replies that fast.py puts together say what protobuf would have said."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import hector_plugins_pb2 as pb
import hector_plugins_pb2_grpc as rpc
from hypothesis import given, settings
from hypothesis import strategies as st

from plugins.vector_hnsw.engine import Hit, SearchResult
from plugins.vector_hnsw.engine.rows import Row
from plugins.vector_hnsw.fast import batch_reply, reply
from plugins.vector_hnsw.servicer import Servicer
from shared.errors import CallerError, InvalidArgument, NotFound
from shared.status import failure
from shared.structs import dump
from shared.vector_messages.replies import search_reply as packed
from tests.servers import start_plugin

_json = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
_metadata = st.dictionaries(st.text(max_size=8), _json, max_size=4).map(dump)
_scores = st.floats(width=32, allow_nan=False) | st.sampled_from([0.0, -0.0, 1.0, -1.0])
_hits = st.builds(
    lambda name, metadata, score: Hit(Row(1, 1, name, metadata), score), st.text(min_size=1), _metadata, _scores
)
_results = st.builds(SearchResult, st.lists(_hits, max_size=5), st.booleans(), st.booleans(), st.integers(0, 2**64 - 1))


@settings(deadline=None)
@given(_results, st.sampled_from([None, True, False]))
def test_reply(result: SearchResult, include_metadata: bool | None) -> None:
    """A reply parses to the message that the servicer builds, the first time and from what was kept."""
    request = pb.SearchVectorsRequest(include_metadata=include_metadata)
    for _ in range(2):
        assert pb.SearchVectorsResponse.FromString(reply(request, result)) == packed(request, result)


@settings(deadline=None, max_examples=30)
@given(st.lists(_results | st.sampled_from([InvalidArgument("bad"), NotFound("none")]), max_size=4))
def test_batch_reply(results: list[SearchResult | CallerError]) -> None:
    """A batch's reply parses to one message for each search, failures among them."""
    searches = [pb.SearchVectorsRequest()] * len(results)
    parsed = pb.SearchVectorsBatchResponse.FromString(batch_reply(searches, results))
    assert list(parsed.responses) == [
        failure(pb.SearchVectorsResponse(), one)
        if isinstance(one, CallerError)
        else packed(pb.SearchVectorsRequest(), one)
        for one in results
    ]


def test_long_lengths() -> None:
    """Lengths past one, two and three bytes of varint are written right."""
    for size in (127, 128, 16_383, 16_384, 2_100_000):
        result = SearchResult([Hit(Row(1, 1, "x" * size, "{}"), math.pi)], False, True, 1)
        parsed = pb.SearchVectorsResponse.FromString(reply(pb.SearchVectorsRequest(), result))
        assert parsed == packed(pb.SearchVectorsRequest(), result)


def test_over_a_socket(tmp_path: Path) -> None:
    """A plugin that runs answers searches with what was written, updates included, alone and in a batch."""
    with start_plugin("plugins.vector_hnsw", "--data-dir", str(tmp_path)) as plugin:
        stub = rpc.DatabaseProviderStub(plugin.channel())
        assert stub.CreateCollection(pb.CreateCollectionRequest(name="c", dimension=2)).success
        search = pb.SearchVectorsRequest(collection="c", vector=[1, 0])
        for text in ("one", "two"):
            item = pb.Vector(id="a", vector=[1, 0], metadata_json=dump({"text": text, "big": 2**60}))
            assert stub.UpsertVectors(pb.UpsertVectorsRequest(collection="c", vectors=[item])).success
            (hit,) = stub.SearchVectors(search).results
            assert (hit.metadata["text"], hit.metadata_json) == (text, item.metadata_json)
        bad = pb.SearchVectorsRequest(collection="c", vector=[1, 0, 0])
        replies = stub.SearchVectorsBatch(pb.SearchVectorsBatchRequest(searches=[search, bad])).responses
        assert [one.success for one in replies] == [True, False]
        assert replies[0] == stub.SearchVectors(search)
        assert not stub.SearchVectors(bad).success


def test_in_use(tmp_path: Path) -> None:
    """The plugin as it is started answers through fast.py, which writes a score behind the metadata."""
    with start_plugin("plugins.vector_hnsw", "--data-dir", str(tmp_path)) as plugin:
        stub = rpc.DatabaseProviderStub(plugin.channel())
        stub.CreateCollection(pb.CreateCollectionRequest(name="c", dimension=2))
        item = pb.Vector(id="a", vector=[1, 0], metadata_json='{"a": "b"}')
        stub.UpsertVectors(pb.UpsertVectorsRequest(collection="c", vectors=[item]))
        raw: Any = plugin.channel().unary_unary("/hector.plugins.v1.DatabaseProvider/SearchVectors")
        answer = raw(pb.SearchVectorsRequest(collection="c", vector=[1, 0]).SerializeToString())
        message = pb.SearchVectorsResponse.FromString(answer)
        assert message.results[0].id == "a"
        assert message.SerializeToString() != answer


def test_servicer_alone() -> None:
    """The servicer has both calls itself, so that fast.py can be left out."""
    assert {"SearchVectors", "SearchVectorsBatch"} <= vars(Servicer).keys()
