"""Any sequence of calls on a vector store, against a plain-Python oracle."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from plugins.vector_hnsw.engine import Change, Engine, Item, MetadataMode, Metric, Mode, Query, fields, flat, matches
from shared.errors import AlreadyExists, FailedPrecondition, InvalidArgument, NotFound
from shared.structs import dump
from shared.vector_messages.requests import dumped
from shared.vectors.filters import Compare, Exists, Filter, Ids, Operator
from tests import test_vector_filters
from tests.servers import wait_until
from tests.vector_tools import Floats, exact_scores, ids, killed

DIMENSION = 6
LARGEST = 5_000
# A pool, so that vectors repeat, and are as near to each other as float32 allows.
POOL = np.random.default_rng(11).normal(size=(LARGEST, DIMENSION)).astype(np.float32)
POOL[:20] = POOL[20:40] * np.float32(2)  # equal under COSINE and not otherwise
POOL[40:50] = POOL[50:60] + np.float32(1e-6)

COLLECTIONS = ["c", "d"]
# What a call names: a collection, or what may be an alias of one.
CALLED = st.sampled_from(["c", "c", "c", "d", "x", "y"])
# Mostly small: a large one takes as long as ten of those.
SIZES = st.one_of(*[st.integers(1, 40)] * 6, st.integers(41, 600), st.integers(601, LARGEST))
NUMBERS = st.integers(0, 299)
NAMES = st.integers(0, 120).map(lambda n: f"i{n}") | st.integers(0, LARGEST).map(lambda n: f"i{n}")
METADATA = st.fixed_dictionaries(
    {"n": st.integers(0, 4)}, optional={"s": st.sampled_from(["a", "ab", "b"]), "o": st.just({"k": None})}
)
BATCHES = st.lists(st.tuples(NAMES, NUMBERS, METADATA), min_size=1, max_size=40)
INDEXES = st.fixed_dictionaries(
    {},
    optional={
        "m": st.sampled_from([8, 16, 24]),
        "ef_construction": st.sampled_from([60, 100]),
        "ef_search": st.sampled_from([60, 150]),
    },
)
# Such as fit everything, though some look as if they did not.
EMPTY = st.sampled_from(
    [Filter(), Filter((Filter(),)), Filter((), (), (Ids(()),)), Filter((Compare("n", Operator.NOT_IN, []),))]
)
FILTERS = st.one_of(
    st.builds(lambda n: Filter((Compare("n", Operator.LTE, n),)), st.integers(-1, 4)),
    st.builds(lambda n: Filter((), (), (Compare("n", Operator.IN, [n, n + 1]),)), st.integers(0, 4)),
    st.builds(lambda n: Filter((Compare("n", Operator.IN, list(range(n, 60))),)), st.integers(0, 5)),
    st.builds(lambda s: Filter((Compare("s", Operator.PREFIX, s),)), st.sampled_from(["a", "b", "z"])),
    st.builds(lambda names: Filter((Ids(tuple(names)),)), st.lists(NAMES, max_size=8)),
    st.just(Filter((Exists("o.k"),), (Compare("n", Operator.EQ, 1), Compare("s", Operator.EQ, "a")))),
)
REMOVED = st.lists(st.sampled_from(["n", "s", "o", "z"]), max_size=2, unique=True)
CHANGES = st.tuples(NAMES, st.none() | METADATA, REMOVED)


def fits(filter: Filter | None, name: str, document: dict[str, Any]) -> bool:
    return filter is None or test_vector_filters.fits(filter, name, document)


def changed(
    document: dict[str, Any], metadata: Any, remove: Sequence[str], mode: MetadataMode
) -> dict[str, Any] | None:
    """The document after a change; None where the change is refused."""
    if mode is MetadataMode.REPLACE:
        return None if metadata is None or remove else dict(metadata)
    if (metadata is None and not remove) or set(remove) & set(metadata or ()):
        return None
    return {key: value for key, value in {**document, **(metadata or {})}.items() if key not in remove}


@dataclass
class Model:
    """A collection as it ought to be: id to (number of its vector, metadata), and its index parameters."""

    metric: Metric
    items: dict[str, tuple[int, dict[str, Any]]]
    index: dict[str, Any] = field(default_factory=lambda: {"m": 16, "ef_construction": 100, "ef_search": 100})

    def copy(self) -> Model:
        return replace(self, items=dict(self.items))

    def kept(self, filter: Filter | None) -> list[str]:
        return sorted(name for name, (_, document) in self.items.items() if fits(filter, name, document))

    def scores(self, query: Floats, names: list[str]) -> dict[str, float]:
        rows = POOL[[self.items[name][0] for name in names]].reshape(len(names), DIMENSION)
        return dict(zip(names, exact_scores(self.metric, query, rows).tolist(), strict=True))


class Machine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.parent = Path(tempfile.mkdtemp())
        self.folder = self.parent / "0"
        self.lives = 0
        self.models: dict[str, Model] = {}
        self.aliases: dict[str, str] = {}
        self.snapshots: dict[tuple[str, str], Model] = {}
        self.found = self.wanted = 0
        self.engine = self.start()

    def start(self) -> Engine:
        engine = Engine(self.folder, threads=1)
        engine.open()
        return engine

    def teardown(self) -> None:
        self.engine.close()
        shutil.rmtree(self.parent)
        assert self.found >= 0.9 * self.wanted, f"recall {self.found / self.wanted}"

    def model(self, called: str) -> Model | None:
        return self.models.get(self.aliases.get(called, called))

    # -- collections

    @initialize(metric=st.sampled_from(list(Metric)), size=SIZES, distinct=st.sampled_from([1, 3, 300, LARGEST]))
    def begin(self, metric: Metric, size: int, distinct: int) -> None:
        self.create("c", metric)
        self.fill("c", size, distinct, 0)

    @rule(name=st.sampled_from([*COLLECTIONS, "x"]), metric=st.sampled_from(list(Metric)))
    def create(self, name: str, metric: Metric) -> None:
        index = Model(metric, {}).index
        if name in self.models or name in self.aliases:
            with pytest.raises(AlreadyExists):
                self.engine.create(name, DIMENSION, metric=metric)
            there = self.model(name)
            if there and there.metric is metric:
                assert not self.engine.create(name, DIMENSION, metric=metric, if_not_exists=True)
        elif name in COLLECTIONS:
            assert self.engine.create(name, DIMENSION, metric=metric, **index)
            self.models[name] = Model(metric, {})

    @rule(called=st.sampled_from(["d", "x"]))
    def drop(self, called: str) -> None:
        model = self.model(called)
        if model is None:
            with pytest.raises(NotFound):
                self.engine.delete(called)
        elif called != "d" or "d" in self.aliases.values():
            with pytest.raises(FailedPrecondition):
                self.engine.delete(called)
        else:
            assert self.engine.delete("d") == len(model.items)
            del self.models["d"]

    @rule(called=CALLED, index=INDEXES)
    def update_index(self, called: str, index: dict[str, int]) -> None:
        model = self.model(called)
        if model is None or not index:
            with pytest.raises((NotFound, InvalidArgument)):
                self.engine.update_index(called, **index)
            return
        self.engine.update_index(called, **index)
        model.index = {**model.index, **index}

    @rule(alias=st.sampled_from(["x", "y", "d"]), called=CALLED, expected=st.sampled_from([None, None, "", "c", "d"]))
    def set_alias(self, alias: str, called: str, expected: str | None) -> None:
        before = self.aliases.get(alias, "")
        if alias == "d" and "d" not in self.models:
            return  # then it could become an alias
        if alias == "d" or self.model(called) is None or (expected is not None and expected != before):
            with pytest.raises((NotFound, AlreadyExists, FailedPrecondition)):
                self.engine.set_alias(alias, called, expected=expected)
        else:
            assert self.engine.set_alias(alias, called, expected=expected) == before
            self.aliases[alias] = self.aliases.get(called, called)

    @rule(alias=st.sampled_from(["x", "y", "c"]))
    def delete_alias(self, alias: str) -> None:
        if alias in self.aliases:
            assert self.engine.delete_alias(alias) == self.aliases.pop(alias)
        else:
            with pytest.raises(NotFound):
                self.engine.delete_alias(alias)

    # -- writes

    @rule(called=CALLED, size=SIZES, distinct=st.sampled_from([1, 3, 300, LARGEST]), n=st.integers(0, 4))
    def fill(self, called: str, size: int, distinct: int, n: int) -> None:
        """Many items, of `distinct` vectors: the fewer those are, the more ties there are."""
        if model := self.model(called):
            new = {f"i{i}": ((7 * i + n) % distinct, {"n": (i + n) % 5, "s": "ab"[i % 2]}) for i in range(size)}
            batch = [Item(name, POOL[number], dump(document)) for name, (number, document) in new.items()]
            assert self.engine.upsert(called, batch).count == size
            model.items |= new

    @rule(called=CALLED, batch=BATCHES, mode=st.sampled_from(list(Mode)), partial=st.booleans())
    def upsert(self, called: str, batch: list[tuple[str, int, dict[str, Any]]], mode: Mode, partial: bool) -> None:
        new = [Item(one, POOL[number], dump(document)) for one, number, document in batch]
        model = self.model(called)
        if model is None:
            with pytest.raises(NotFound):
                self.engine.upsert(called, new)
            return
        wrong = {
            index
            for index, (one, *_) in enumerate(batch)
            if (mode is Mode.INSERT_ONLY and one in model.items)
            or (mode is Mode.UPDATE_ONLY and one not in model.items)
        }
        if wrong and not partial:
            with pytest.raises((AlreadyExists, NotFound)):
                self.engine.upsert(called, new, mode=mode)
            return
        good = {one: (number, doc) for index, (one, number, doc) in enumerate(batch) if index not in wrong}
        written = self.engine.upsert(called, new, mode=mode, partial=partial)
        assert (written.count, set(written.wrong)) == (len(good), wrong)
        model.items |= good

    @rule(called=CALLED, batch=BATCHES)
    def upsert_with_a_bad_one(self, called: str, batch: list[tuple[str, int, dict[str, Any]]]) -> None:
        if model := self.model(called):
            new = [Item(one, POOL[number], dump(document)) for one, number, document in batch]
            bad = Item("bad", np.full(DIMENSION, np.nan, np.float32))
            with pytest.raises(InvalidArgument):
                self.engine.upsert(called, [*new, bad])
            assert set(self.engine.upsert(called, [bad, *new], partial=True).wrong) == {0}
            model.items |= {one: (number, document) for one, number, document in batch}

    @rule(
        called=CALLED,
        changes=st.lists(CHANGES, max_size=12),
        mode=st.sampled_from(list(MetadataMode)),
        partial=st.booleans(),
    )
    def update_metadata(
        self, called: str, changes: list[tuple[str, Any, list[str]]], mode: MetadataMode, partial: bool
    ) -> None:
        wanted = [Change(name, metadata, tuple(remove)) for name, metadata, remove in changes]
        model = self.model(called)
        if model is None:
            with pytest.raises((NotFound, InvalidArgument)):
                self.engine.update_metadata(called, wanted, dumped, mode=mode)
            return
        after, wrong = dict(model.items), set()
        for index, (name, metadata, remove) in enumerate(changes):
            new = changed(after[name][1], metadata, remove, mode) if name in after else None
            if new is None:
                wrong.add(index)
            else:
                after[name] = (after[name][0], new)
        if wrong and not partial:
            with pytest.raises((NotFound, InvalidArgument)):
                self.engine.update_metadata(called, wanted, dumped, mode=mode)
            return
        written = self.engine.update_metadata(called, wanted, dumped, mode=mode, partial=partial)
        good = {name for index, (name, *_) in enumerate(changes) if index not in wrong}
        assert (written.count, set(written.wrong)) == (len(good), wrong)
        model.items = after

    @rule(
        called=CALLED,
        filter=FILTERS,
        metadata=st.none() | METADATA,
        remove=REMOVED,
        mode=st.sampled_from(list(MetadataMode)),
    )
    def update_matching(
        self, called: str, filter: Filter, metadata: Any, remove: list[str], mode: MetadataMode
    ) -> None:
        change, model = Change("", metadata, tuple(remove)), self.model(called)
        if model is None or changed({}, metadata, remove, mode) is None:
            with pytest.raises((NotFound, InvalidArgument)):
                self.engine.update_matching(called, filter, change, dumped, mode=mode)
            return
        names = model.kept(filter)
        assert self.engine.update_matching(called, filter, change, dumped, mode=mode).count == len(names)
        for name in names:
            number, document = model.items[name]
            model.items[name] = (number, changed(document, metadata, remove, mode) or {})

    @rule(called=CALLED, names=st.lists(NAMES, max_size=12), filter=st.none() | FILTERS, dry=st.booleans())
    def delete(self, called: str, names: list[str], filter: Filter | None, dry: bool) -> None:
        model = self.model(called)
        if model is None or (not names and filter is None):
            with pytest.raises((NotFound, InvalidArgument)):
                self.engine.delete_vectors(called, names, filter)
            return
        gone = [one for one in model.kept(filter) if not names or one in names]
        assert self.engine.delete_vectors(called, names, filter, dry_run=dry)[0] == len(gone)
        for one in [] if dry else gone:
            del model.items[one]

    @rule(called=CALLED, nothing=EMPTY, dry=st.booleans())
    def change_by_nothing(self, called: str, nothing: Filter, dry: bool) -> None:
        """A filter that restricts nothing deletes nothing, and changes nothing."""
        if self.model(called):
            with pytest.raises(InvalidArgument):
                self.engine.delete_vectors(called, [], nothing, dry_run=dry)
            with pytest.raises(InvalidArgument):
                self.engine.update_matching(called, nothing, Change("", {"n": 9}), dumped)

    # -- reads

    @rule(
        called=CALLED,
        number=NUMBERS,
        moved=st.booleans(),
        filter=st.none() | FILTERS | EMPTY,
        limit=st.sampled_from([1, 10, 50]),
        offset=st.sampled_from([0, 0, 7]),
        pick=st.integers(0, 49),
    )
    def search(
        self, called: str, number: int, moved: bool, filter: Filter | None, limit: int, offset: int, pick: int
    ) -> None:
        query = POOL[number] + np.float32(0.1 * moved)
        model = self.model(called)
        if model is None:
            with pytest.raises(NotFound):
                self.engine.search(called, Query(query))
            return
        names = model.kept(filter)
        truth = model.scores(query, names)
        wanted = sorted(truth.values(), reverse=True)[offset : offset + limit]
        for exact in (True, False):
            asked = Query(query, limit, offset, filter=filter, exact=exact, ef=200, with_vectors=True)
            (many,) = self.engine.search_many(called, [asked])
            result = self.engine.search(called, asked)
            assert ids(many) == ids(result)
            assert len(set(ids(result))) == len(result.hits) == len(wanted)
            assert result.complete
            assert result.exact or not exact
            for hit in result.hits:
                assert hit.id in truth, f"{hit.id} is not there, or does not fit"
                there, document = model.items[hit.id]
                assert json.loads(hit.metadata) == document
                assert hit.vector is not None
                assert hit.vector.tobytes() == POOL[there].tobytes()
                assert hit.score == pytest.approx(truth[hit.id], abs=2e-5, rel=1e-5)
            scores = [hit.score for hit in result.hits]
            assert [(-hit.score, hit.id) for hit in result.hits] == sorted((-hit.score, hit.id) for hit in result.hits)
            if result.exact:
                assert scores == pytest.approx(wanted, abs=2e-5, rel=1e-5)
            elif limit == 10 and wanted:
                self.found += sum(score >= wanted[-1] - 2e-5 * max(1, abs(wanted[-1])) for score in scores)
                self.wanted += len(wanted)
            if scores:
                # A score that the reply shows, as `min_score`, keeps the hits that have it and those that are better.
                least = scores[pick % len(scores)]
                assert float(np.float32(least)) == least
                kept = self.engine.search(called, asked._replace(min_score=least))
                assert ids(kept) == [hit.id for hit in result.hits if hit.score >= least]

    @rule(
        called=CALLED,
        number=NUMBERS,
        filter=st.none() | EMPTY | FILTERS,
        limit=st.sampled_from([3, 10]),
        exact=st.booleans(),
    )
    def search_pages(self, called: str, number: int, filter: Filter | None, limit: int, exact: bool) -> None:
        """Each match once over the pages; and the last score of a page, as `min_score`, keeps that page."""
        model = self.model(called)
        if model is None:
            return
        wanted = model.kept(filter)
        limit = max(limit, -(-len(wanted) // 12))
        seen: list[str] = []
        for offset in range(0, len(wanted) + limit, limit):
            asked = Query(POOL[number], limit, offset, filter=filter, exact=exact)
            found = self.engine.search(called, asked)
            seen += ids(found)
            if found.hits:
                least = min(hit.score for hit in found.hits)
                assert ids(self.engine.search(called, asked._replace(min_score=least))) == ids(found)
        assert sorted(seen) == wanted

    @rule(called=CALLED, names=st.lists(NAMES, max_size=6))
    def get(self, called: str, names: list[str]) -> None:
        if model := self.model(called):
            found = self.engine.get(called, names, with_vectors=True)
            assert found.keys() == {one for one in names if one in model.items}
            for one, item in found.items():
                assert item.vector is not None
                number, document = model.items[one]
                assert (item.vector.tobytes(), json.loads(item.metadata)) == (POOL[number].tobytes(), document)

    @rule(called=CALLED, filter=st.none() | EMPTY | FILTERS, size=st.sampled_from([1, 7, 1000]))
    def page(self, called: str, filter: Filter | None, size: int) -> None:
        if model := self.model(called):
            wanted = model.kept(filter)
            names, token, size = [], "", max(size, len(wanted) // 50)
            while True:
                some, token = self.engine.page(called, token=token, size=size, filter=filter)
                names += [item.id for item in some]
                if not token:
                    break
            assert sorted(names) == wanted
            assert self.engine.count(called, filter) == len(names)

    # -- snapshots and restarts

    @rule(called=CALLED, snapshot=st.sampled_from(["s", "S", "t"]))
    def take(self, called: str, snapshot: str) -> None:
        model, key = self.model(called), (self.aliases.get(called, called), snapshot)
        if model is None or key in self.snapshots:
            with pytest.raises((NotFound, AlreadyExists)):
                self.engine.create_snapshot(called, snapshot)
        else:
            self.engine.create_snapshot(called, snapshot)
            self.snapshots[key] = model.copy()

    @rule(called=CALLED, snapshot=st.sampled_from(["s", "S", "t"]))
    def restore(self, called: str, snapshot: str) -> None:
        key = (self.aliases.get(called, called), snapshot)
        if key not in self.snapshots:
            with pytest.raises(NotFound):
                self.engine.restore_snapshot(called, snapshot)
        else:
            self.engine.restore_snapshot(called, snapshot)
            self.models[key[0]] = self.snapshots[key].copy()

    @rule(called=CALLED, snapshot=st.sampled_from(["s", "S", "t"]))
    def forget(self, called: str, snapshot: str) -> None:
        key = (self.aliases.get(called, called), snapshot)
        if key in self.snapshots:
            self.engine.delete_snapshot(called, snapshot)
            del self.snapshots[key]

    @rule(kill=st.booleans(), settled=st.booleans())
    def restart(self, kill: bool, settled: bool) -> None:
        if settled:
            self.settle()
        if kill:
            self.lives += 1
            self.folder = killed(self.folder, self.parent / str(self.lives))
        self.engine.close()
        self.engine = self.start()

    def settle(self) -> None:
        """Waits for rebuilds, so that a failure can be played again."""
        entries = self.engine._collections.values()
        wait_until(lambda: not any(entry.rebuilding for entry in entries), "end of the rebuild")

    @invariant()
    def counts_are_right(self) -> None:
        self.settle()
        described = self.engine.describe_all()
        assert [one.spec.name for one in described] == sorted(self.models)
        for one in described:
            model = self.models[one.spec.name]
            assert one.count == self.engine.count(one.spec.name) == len(model.items)
            assert {key: getattr(one.spec, key) for key in model.index} == model.index
            assert [*one.aliases] == sorted(alias for alias, name in self.aliases.items() if name == one.spec.name)
        assert self.engine.list_aliases() == sorted(self.aliases.items())
        assert [(one.collection, one.name) for one in self.engine.list_snapshots()] == sorted(self.snapshots)


def run(examples: int, steps: int) -> None:
    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            print_blob=True,
        ),
    )


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Thresholds so low that a hundred items meet them."""
    monkeypatch.setattr(flat, "MOST", 30)
    monkeypatch.setattr(matches, "_FEW_NUMBERS", 20 * DIMENSION)
    monkeypatch.setattr(matches, "_MOST_RECENT", 60)
    monkeypatch.setattr(fields, "_LEAST_ITEMS", 5)
    monkeypatch.setattr(fields, "_SCANS", 1)


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("most", [0, *(pytest.param(most, marks=pytest.mark.slow) for most in (30, 1000))])
def test_a_short_life(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    """Create, upsert, update, delete, search, page, alias, snapshot, restore, restart and kill, in any order and at any
    size, are the oracle's, with a graph of however few vectors, with one past thirty, and past a thousand."""
    monkeypatch.setattr(flat, "MOST", most)
    run(8, 30)


@pytest.mark.slow
@pytest.mark.usefixtures("small")
def test_a_long_life(tmp_path: Path) -> None:
    """The same for many and longer lives."""
    run(100, 60)
