"""The additions to searches: metrics, paging, filters. The other additions are in `database_full.py`."""

from __future__ import annotations

import json
import math
from typing import Any

import hector_plugins_pb2 as pb
from google.protobuf import json_format

from host.check.claims import Claims, expect
from host.check.database import CLOSE, collection, ids, new_name, random_vectors, search, upsert
from host.check.database_full import condition, library, must, one_of
from host.check.subject import Subject
from shared.errors import Code

claims = Claims("database")
METRICS = "COSINE in [-1, 1]; DOT raw; EUCLIDEAN 1/(1+d), d the true distance. Higher is better under each."
FILTERS = "Filter: every `must` holds, at least one `should`, no `must_not`; an empty list asks for nothing."


def filtered(check: Subject, name: str, wanted: Any) -> list[str]:
    return ids(search(check, name, [1, 0], filter=wanted))


# ---------------------------------------------------------------- scores


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


# ---------------------------------------------------------------- filters


@claims.full("Each operator compares as it is called.", "Operators: EQ NE GT GTE LT LTE IN NOT_IN CONTAINS PREFIX.")
def operators(check: Subject) -> None:
    cases: list[tuple[str, int, Any, list[str]]] = [
        ("year", pb.OPERATOR_EQ, 2005, ["b"]),
        ("year", pb.OPERATOR_UNSPECIFIED, 2005, ["b"]),
        ("year", pb.OPERATOR_EQ, "2005", ["e"]),
        ("year", pb.OPERATOR_GT, 2005, ["c", "d"]),
        ("year", pb.OPERATOR_GTE, 2005, ["b", "c", "d"]),
        ("year", pb.OPERATOR_LT, 2005, ["a"]),
        ("year", pb.OPERATOR_LTE, 2005, ["a", "b"]),
        ("kind", pb.OPERATOR_NE, "novel", ["b", "d"]),
        ("kind", pb.OPERATOR_IN, ["poems", "nove"], ["b", "d"]),
        ("kind", pb.OPERATOR_NOT_IN, ["poems", "nove"], ["a", "c"]),
        ("kind", pb.OPERATOR_PREFIX, "nov", ["a", "c", "d"]),
        ("kind", pb.OPERATOR_CONTAINS, "ove", ["a", "c", "d"]),
        ("tags", pb.OPERATOR_CONTAINS, "war", ["c"]),
        ("author.name", pb.OPERATOR_EQ, "Ann", ["a", "d"]),
        ("read", pb.OPERATOR_EQ, True, ["c"]),
        ("read", pb.OPERATOR_EQ, False, ["d"]),
    ]
    with collection(check, 2) as name:
        library(check, name)
        for field, op, value, expected in cases:
            what = f"{field} {pb.Operator.Name(op)} {json.dumps(value)}"  # type: ignore[arg-type]
            wanted = condition(field, op, value)
            as_value = pb.Condition(compare=pb.Compare(field=field, op=op))  # type: ignore[arg-type]
            json_format.ParseDict(value, as_value.compare.value)
            for form in (wanted, as_value):
                # Whether what lacks the field is unequal to a value is left open.
                within = [one_of("a", "b", "c", "d")] if op in (pb.OPERATOR_NE, pb.OPERATOR_NOT_IN) else []
                got = filtered(check, name, must(form, *within))
                expect(got == expected, f"{what} gives {got}, not {expected}")


@claims.full("must, should and must_not are joined as they are called.", FILTERS)
def filter_lists(check: Subject) -> None:
    novel = condition("kind", pb.OPERATOR_EQ, "novel")
    ann = condition("author.name", pb.OPERATOR_EQ, "Ann")
    late = condition("year", pb.OPERATOR_GT, 2000)
    exists = pb.Condition(exists="author")
    inside = pb.Condition(filter=pb.Filter(should=[novel, late]))
    cases = [
        (pb.Filter(must=[novel, ann]), ["a"]),
        (pb.Filter(should=[novel, ann]), ["a", "c", "d"]),
        (pb.Filter(must_not=[novel, ann]), ["b", "e", "f"]),
        (pb.Filter(must=[late], must_not=[novel]), ["b", "d"]),
        (pb.Filter(must=[exists], should=[late]), ["b", "d"]),
        (pb.Filter(must=[exists]), ["a", "b", "d"]),
        (pb.Filter(must_not=[exists]), ["c", "e", "f"]),
        (pb.Filter(must=[inside], must_not=[ann]), ["b", "c"]),
        (must(one_of("f", "b", "zz")), ["b", "f"]),
        (pb.Filter(must_not=[one_of("a", "b")], must=[novel]), ["c"]),
        (pb.Filter(), ["a", "b", "c", "d", "e", "f"]),
    ]
    with collection(check, 2) as name:
        library(check, name)
        for wanted, expected in cases:
            got = filtered(check, name, wanted)
            expect(got == expected, f"the filter gives {got}, not {expected}")


@claims.full(
    "A filtered search fills its limit, however few match.",
    "A filtered search fills `limit` whenever that many matches exist.",
)
def filtered_limit(check: Subject) -> None:
    with collection(check, 8) as name:
        items = [
            pb.Vector(id=key, vector=vector, metadata_json=json.dumps({"rare": number % 97 == 0}))
            for number, (key, vector) in enumerate(random_vectors(970, 8, seed=9).items())
        ]
        check.ok("UpsertVectors", pb.UpsertVectorsRequest(collection=name, vectors=items))
        rare = must(condition("rare", pb.OPERATOR_EQ, True))
        reply = search(check, name, list(items[1].vector), limit=10, filter=rare)
        expect(len(reply.results) == 10, f"ten of 970 match, and the search gives {len(reply.results)}", reply)
        expect(reply.complete, "ten results of ten are not called complete", reply)


@claims.full(
    "Integers above 2^53 are kept, and compared exactly.",
    "Filters compare integers exactly; `metadata_json` holds what the Struct cannot.",
)
def big_integers(check: Subject) -> None:
    big = 2**53
    with collection(check, 2) as name:
        items = [
            pb.Vector(id=f"v{step}", vector=[1, step], metadata_json=json.dumps({"n": big + step})) for step in range(3)
        ]
        check.ok("UpsertVectors", pb.UpsertVectorsRequest(collection=name, vectors=items))
        got = filtered(check, name, must(condition("n", pb.OPERATOR_EQ, big + 1)))
        expect(got == ["v1"], f"n = 2^53 + 1 gives {got}")
        got = filtered(check, name, must(condition("n", pb.OPERATOR_GT, big)))
        expect(got == ["v1", "v2"], f"n > 2^53 gives {got}")
        reply = search(check, name, [1, 0])
        for step, hit in enumerate(reply.results):
            text = hit.metadata_json or "{}"
            # 2^53 and 2^53 + 2 are doubles, so that the Struct may hold them.
            kept = json.loads(text).get("n") if hit.metadata_json else int(hit.metadata.fields["n"].number_value)
            expect(kept == big + step, f"n = 2^53 + {step} comes back as {kept}", reply)


@claims.full("A filter that makes no sense is refused.", "Condition: exactly one kind; IN takes a list.")
def bad_filters(check: Subject) -> None:
    broken = pb.Condition(compare=pb.Compare(field="a", value_json="{"))
    with collection(check, 2) as name:
        library(check, name)
        for wanted, what in (
            (must(pb.Condition()), "a condition of no kind"),
            (must(condition("kind", pb.OPERATOR_IN, "novel")), "IN with no list"),
            (must(broken), "a value that is no JSON"),
        ):
            request = pb.SearchVectorsRequest(collection=name, vector=[1, 0], filter=wanted)
            check.refused_with("SearchVectors", request, what, Code.INVALID_ARGUMENT)


@claims.full("CountVectors counts what matches.", "CountVectors: counted, not estimated.")
def count(check: Subject) -> None:
    with collection(check, 2) as name:
        library(check, name)
        for wanted, expected in ((None, 6), (must(condition("kind", pb.OPERATOR_EQ, "novel")), 2)):
            reply = check.ok("CountVectors", pb.CountVectorsRequest(collection=name, filter=wanted))
            expect(reply.count == expected, f"{expected} match, and the count is {reply.count}", reply)


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
