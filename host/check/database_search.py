"""What holds for the searches of every DatabaseProvider; the rest of the guide's part is in `database.py`."""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor

import hector_plugins_pb2 as pb

from host.check.claims import Claims, expect
from host.check.database import CLOSE, SCORES, collection, ids, random_vectors, search, upsert
from host.check.subject import Subject

claims = Claims("database")


@claims.guide("The nearest vector comes first.", SCORES)
def best_first(check: Subject) -> None:
    with collection(check, 2) as name:
        upsert(check, name, {"far": [-1, 0.1], "near": [1, 0.1], "middle": [0.1, 1], "nearest": [1, 0]})
        reply = search(check, name, [1, 0])
        expect(
            ids(reply) == ["nearest", "near", "middle", "far"], "the results are not in the order of nearness", reply
        )
        scores = [result.score for result in reply.results]
        expect(scores == sorted(scores, reverse=True), "the scores do not fall from one result to the next", reply)


@claims.guide("The score of a new collection is the cosine.", SCORES)
def cosine(check: Subject) -> None:
    query = [1.0, 2.0, -0.5]
    items = {
        "same": [2.0, 4.0, -1.0],
        "right angle": [-2.0, 1.0, 0.0],
        "opposite": [-1.0, -2.0, 0.5],
        "other": [3.0, 1.0, 7.0],
    }
    with collection(check, 3) as name:
        upsert(check, name, items)
        reply = search(check, name, query)
        expect(
            len(reply.results) == len(items),
            "vectors with a score of zero or less are missing, without a threshold",
            reply,
        )
        for result in reply.results:
            vector = items.get(result.id, query)
            true = sum(a * b for a, b in zip(query, vector, strict=True)) / math.hypot(*query) / math.hypot(*vector)
            expect(
                abs(result.score - true) < CLOSE,
                f"the score of {result.id} is {result.score:.6f}, its cosine {true:.6f}",
                reply,
            )
            expect(-1 <= result.score <= 1, f"the score {result.score!r} is outside of [-1, 1]", reply)


@claims.guide("Under COSINE no score leaves [-1, 1], and length does not count.", "COSINE in [-1, 1], clamped.")
def clamped(check: Subject) -> None:
    items = random_vectors(40, 7, seed=3)
    with collection(check, 7) as name:
        upsert(check, name, {key: [x * 1000 for x in vector] for key, vector in items.items()})
        for key, vector in list(items.items())[:20]:
            reply = search(check, name, [x / 1000 for x in vector], limit=40)
            expect(all(-1 <= hit.score <= 1 for hit in reply.results), "a score is outside of [-1, 1]", reply)
            expect(ids(reply)[0] == key, "the same direction at another length is not the nearest", reply)


@claims.guide("Equal scores come in the order of their ids.", "Ties among what is returned break on id.")
def ties(check: Subject) -> None:
    with collection(check, 2) as name:
        upsert(check, name, {key: [1, 0] for key in ("d", "a", "c", "e", "b")})
        reply = search(check, name, [1, 0])
        expect(ids(reply) == ["a", "b", "c", "d", "e"], "results of one score are not in the order of their ids", reply)


@claims.guide("A search gives `limit` results at most, and ten where it is 0.", "`limit` 0 means 10.")
def limit(check: Subject) -> None:
    with collection(check, 4) as name:
        items = random_vectors(25, 4)
        upsert(check, name, items)
        for asked, count in ((1, 1), (3, 3), (25, 25), (100, 25), (0, 10)):
            hits = ids(search(check, name, items["v0003"], limit=asked))
            expect(len(hits) == count, f"limit {asked} of 25 vectors gives {len(hits)} results, not {count}")
            expect(len(set(hits)) == len(hits), "a result comes twice")
            expect(hits[0] == "v0003", "the nearest is not among the results")


@claims.guide("A limit below zero, or of two billion, is refused.", "`limit` above the configured maximum is an error.")
def bad_limit(check: Subject) -> None:
    with collection(check, 2) as name:
        upsert(check, name, {"a": [1, 0]})
        for value in (-1, 2**31 - 1):
            check.refused(
                "SearchVectors", pb.SearchVectorsRequest(collection=name, vector=[1, 0], limit=value), f"limit {value}"
            )


@claims.guide("A threshold keeps the scores that reach it.", "`threshold` keeps score >= threshold; 0 means none.")
def threshold(check: Subject) -> None:
    with collection(check, 2) as name:
        upsert(check, name, {"same": [1, 0], "near": [1, 0.5], "right angle": [0, 1], "opposite": [-1, 0]})
        everything = search(check, name, [1, 0])
        expect(len(everything.results) == 4, "threshold 0 leaves results out", everything)
        reply = search(check, name, [1, 0], threshold=0.5)
        expect(ids(reply) == ["same", "near"], "threshold 0.5 does not keep just the scores of 0.5 and more", reply)
        near = next(hit.score for hit in everything.results if hit.id == "near")
        reply = search(check, name, [1, 0], threshold=near)
        expect(ids(reply) == ["same", "near"], "a score that equals the threshold is left out", reply)
        reply = search(check, name, [1, 0], threshold=-0.5)
        expect(len(reply.results) == 3, "threshold -0.5 does not keep just the scores of -0.5 and more", reply)


@claims.guide(
    "A search of an empty collection is a success without results.", "`limit` results, or all the matches there are."
)
def empty_collection(check: Subject) -> None:
    with collection(check, 2) as name:
        expect(not ids(search(check, name, [1, 0])), "an empty collection has results")


@claims.guide("Searches side by side each get their own answer.", "Each request has its own reply.")
def parallel_searches(check: Subject) -> None:
    items = random_vectors(100, 12, seed=2)
    with collection(check, 12) as name, ThreadPoolExecutor(8) as pool:
        upsert(check, name, items)
        hits = pool.map(lambda key: ids(search(check, name, items[key], limit=1)), items)
        for key, nearest in zip(items, hits, strict=True):
            expect(nearest == [key], f"with others at the same time the search for {key} gave {nearest}")


@claims.guide("Very long and very short vectors have their cosine.", "COSINE in [-1, 1]; finite vectors are taken.")
def extremes(check: Subject) -> None:
    with collection(check, 2) as name:
        upsert(check, name, {"long": [1e25, 1e25], "short": [1e-25, 0]})
        reply = search(check, name, [1e25, 1e25])
        expect(ids(reply) == ["long", "short"], "the results are not in the order of nearness", reply)
        expect(abs(reply.results[0].score - 1) < CLOSE, "the score of a vector with itself is not 1", reply)
        expect(abs(reply.results[1].score - math.sqrt(0.5)) < CLOSE, "the score is not the cosine", reply)
