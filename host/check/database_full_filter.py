"""The additions to filters, of searches and of counts. The other additions are in `database_full.py`."""

from __future__ import annotations

import json
from typing import Any

import hector_plugins_pb2 as pb
from google.protobuf import json_format

from host.check.claims import Claims, expect
from host.check.database import collection, ids, random_vectors, search
from host.check.database_full import condition, library, must, one_of
from host.check.subject import Subject
from shared.errors import Code

claims = Claims("database")
FILTERS = "Filter: every `must` holds, at least one `should`, no `must_not`; an empty list asks for nothing."


def filtered(check: Subject, name: str, wanted: Any) -> list[str]:
    return ids(search(check, name, [1, 0], filter=wanted))


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
