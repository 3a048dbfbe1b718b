"""The additions to searches: metrics, paging, streams. The other additions are in `database_full.py`."""

from __future__ import annotations

import math
from typing import Any

import hector_plugins_pb2 as pb

from host.check.claims import Claims, expect
from host.check.database import CLOSE, collection, ids, new_name, random_vectors, search, upsert
from host.check.database_full import library
from host.check.subject import Subject
from shared.errors import Code

claims = Claims("database")
METRICS = "COSINE in [-1, 1]; DOT raw; EUCLIDEAN 1/(1+d), d the true distance. Higher is better under each."


@claims.full("DOT is the dot product, and more is better.", METRICS)
def dot(check: Subject) -> None:
    _metric(check, pb.METRIC_DOT, lambda a, b: sum(x * y for x, y in zip(a, b, strict=True)))


@claims.full("EUCLIDEAN is 1/(1+d), and more is better.", METRICS)
def euclidean(check: Subject) -> None:
    _metric(check, pb.METRIC_EUCLIDEAN, lambda a, b: 1 / (1 + math.dist(a, b)))


@claims.full(
    "A zero vector is good where the metric has a value for it.", "A zero vector is refused under COSINE alone."
)
def zero_vector(check: Subject) -> None:
    for metric in (pb.METRIC_DOT, pb.METRIC_EUCLIDEAN):
        with collection(check, 2, metric=metric) as name:
            upsert(check, name, {"zero": [0, 0], "one": [1, 0]})
            expect(len(search(check, name, [0, 0]).results) == 2, "a search with a zero vector does not find both")


@claims.full(
    "min_score wins over threshold, and may be 0 or less.",
    "`min_score` wins over `threshold` and may be 0 or negative.",
)
def min_score(check: Subject) -> None:
    with collection(check, 2) as name:
        upsert(check, name, {"same": [1, 0], "near": [1, 0.5], "opposite": [-1, 0.1]})
        for low, expected in ((0.0, ["same", "near"]), (-1.0, ["same", "near", "opposite"]), (0.95, ["same"])):
            reply = search(check, name, [1, 0], min_score=low, threshold=0.99)
            expect(ids(reply) == expected, f"min_score {low} gives {ids(reply)}, not {expected}", reply)


@claims.full(
    "An exact search is the truth, and says that it is exact.", "`exact`: compare with every match; the reply says so."
)
def exact(check: Subject) -> None:
    items = random_vectors(300, 8, seed=5)
    with collection(check, 8, metric=pb.METRIC_EUCLIDEAN) as name:
        upsert(check, name, items)
        query = [0.1] * 8
        reply = search(check, name, query, exact=True)
        expect(reply.exact, "the reply does not say that it is exact", reply)
        true = sorted(items, key=lambda key: (math.dist(items[key], query), key))[:10]
        expect(ids(reply) == true, f"the ten nearest are {true}", reply)


@claims.full(
    "`offset` pages through all results, ties included, each once.",
    "`offset` pages: each match comes exactly once, ties included.",
)
def offset(check: Subject) -> None:
    with collection(check, 2) as name:
        items = {f"t{number:02}": [1.0, 0.0] for number in range(20)} | {"first": [1.0, 0.0], "far": [0.0, 1.0]}
        upsert(check, name, items)
        whole = ids(search(check, name, [1, 0], limit=22))
        paged = [key for start in range(0, 28, 7) for key in ids(search(check, name, [1, 0], limit=7, offset=start))]
        expect(paged == whole, f"the pages give {paged}")
        expect(sorted(paged) == sorted(items), "the pages do not give each vector once")


@claims.full(
    "`complete` is true where `limit` or all matches were found.",
    "`complete`: `limit` results, or all the matches there are.",
)
def complete(check: Subject) -> None:
    with collection(check, 2) as name:
        library(check, name)
        for limit in (2, 6, 10):
            reply = search(check, name, [1, 0], limit=limit)
            expect(reply.complete, f"limit {limit} of six vectors is not called complete", reply)


@claims.full(
    "Vectors and metadata come where they are asked for.", "include_vectors; include_metadata, by default true."
)
def included(check: Subject) -> None:
    with collection(check, 2) as name:
        library(check, name)
        reply = search(check, name, [1, 0], limit=1)
        expect(not reply.results[0].vector, "a vector comes unasked", reply)
        reply = search(check, name, [1, 0], limit=1, include_vectors=True, include_metadata=False)
        expect(list(reply.results[0].vector) == [1, 0], "the vector does not come as it was written", reply)
        hit = reply.results[0]
        expect(not hit.metadata.fields and not hit.metadata_json, "metadata comes that was declined", reply)


@claims.full(
    "Several searches in one call are answered in order, each for itself.",
    "SearchVectorsBatch: one reply for each search, in order, each with its own success.",
)
def search_batch(check: Subject) -> None:
    with collection(check, 2) as name:
        upsert(check, name, {"a": [1, 0], "b": [0, 1]})
        queries = [[0, 1], [1, 0], [1, 0, 0], [0, 1]]
        searches = [pb.SearchVectorsRequest(collection=name, vector=query, limit=1) for query in queries]
        searches.append(pb.SearchVectorsRequest(collection=new_name(), vector=[1, 0]))
        reply = check.ok("SearchVectorsBatch", pb.SearchVectorsBatchRequest(searches=searches))
        got = [ids(answer) if answer.success else answer.status.code for answer in reply.responses]
        expected = [["b"], ["a"], Code.INVALID_ARGUMENT, ["b"], Code.NOT_FOUND]
        expect(got == expected, f"the answers are {got}, not {expected}", reply)


@claims.full(
    "A stream of searches answers each message once, in order, and goes on after a bad one.",
    "SearchVectorsStream: each message is answered once, in order, with a success of its own.",
)
def search_stream(check: Subject) -> None:
    with collection(check, 2) as name:
        upsert(check, name, {"a": [1, 0], "b": [0, 1]})
        queries = [[0, 1], [1, 0, 0], [1, 0], [0, 1]]
        searches = [pb.SearchVectorsRequest(collection=name, vector=query, limit=1) for query in queries]
        replies = check.stream("SearchVectorsStream", searches)
        got = [ids(answer) if answer.success else answer.status.code for answer in replies]
        expected = [["b"], Code.INVALID_ARGUMENT, ["a"], ["b"]]
        expect(got == expected, f"the answers are {got}, not {expected}", replies)


def _metric(check: Subject, metric: int, score: Any) -> None:
    items = {"a": [3.0, 1.0, -2.0], "b": [-1.0, 4.0, 0.5], "c": [0.5, 0.5, 0.5], "d": [-6.0, -2.0, 4.0]}
    query = [1.5, 0.5, -1.0]
    with collection(check, 3, metric=metric) as name:
        upsert(check, name, items)
        reply = search(check, name, query)
        expect(len(reply.results) == 4, "not all vectors are found", reply)
        for hit in reply.results:
            true = score(items[hit.id], query)
            right = abs(hit.score - true) < CLOSE * max(1, abs(true))
            expect(right, f"the score of {hit.id} is {hit.score:.6f}, not {true:.6f}", reply)
        expected = sorted(items, key=lambda key: -score(items[key], query))
        expect(ids(reply) == expected, f"the order is {ids(reply)}, not {expected}", reply)
