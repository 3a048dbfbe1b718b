"""Any sequence of calls on a vector store, against a plain-Python oracle."""

from __future__ import annotations

import json
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from plugins.vector_hnsw.engine import Engine, Item, Metric, Mode, Query, flat, matches
from plugins.vector_hnsw.engine.filters import Compare, Exists, Filter, Ids, Operator
from shared.errors import AlreadyExists, InvalidArgument, NotFound
from shared.structs import dump
from tests import test_vector_filters
from tests.servers import wait_until
from tests.vector_tools import Floats, exact_scores, ids, killed

DIMENSION = 6
COLLECTIONS = ["c", "d"]
# A pool, so that vectors repeat; more of it than ids, so that not too many do.
POOL = np.random.default_rng(11).normal(size=(300, DIMENSION)).astype(np.float32)
POOL[:20] = POOL[20:40] * np.float32(2)  # equal under COSINE and not otherwise
POOL[40:50] = POOL[50:60] + np.float32(1e-6)

NUMBERS = st.integers(0, len(POOL) - 1)
NAMES = st.integers(0, 120).map(lambda n: f"i{n}")
METADATA = st.fixed_dictionaries(
    {"n": st.integers(0, 4)}, optional={"s": st.sampled_from(["a", "ab", "b"]), "o": st.just({"k": None})}
)
BATCHES = st.lists(st.tuples(NAMES, NUMBERS, METADATA), min_size=1, max_size=40)
FILTERS = st.one_of(
    st.builds(lambda n: Filter((Compare("n", Operator.LTE, n),)), st.integers(-1, 4)),
    st.builds(lambda n: Filter((), (), (Compare("n", Operator.IN, [n, n + 1]),)), st.integers(0, 4)),
    st.builds(lambda s: Filter((Compare("s", Operator.PREFIX, s),)), st.sampled_from(["a", "b", "z"])),
    st.builds(lambda names: Filter((Ids(tuple(names)),)), st.lists(NAMES, max_size=8)),
    st.just(Filter((Exists("o.k"),), (Compare("n", Operator.EQ, 1), Compare("s", Operator.EQ, "a")))),
)


def fits(filter: Filter | None, name: str, document: dict[str, Any]) -> bool:
    return filter is None or test_vector_filters.fits(filter, name, document)


@dataclass
class Model:
    """A collection as it ought to be: id to (number of its vector, metadata)."""

    metric: Metric
    items: dict[str, tuple[int, dict[str, Any]]]

    def copy(self) -> Model:
        return Model(self.metric, dict(self.items))

    def kept(self, filter: Filter | None) -> list[str]:
        return sorted(name for name, (_, document) in self.items.items() if fits(filter, name, document))

    def scores(self, query: Floats, names: list[str]) -> dict[str, float]:
        rows = np.array([POOL[self.items[name][0]] for name in names], np.float32).reshape(len(names), DIMENSION)
        return dict(zip(names, exact_scores(self.metric, query, rows).tolist(), strict=True))


class Machine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.parent = Path(tempfile.mkdtemp())
        self.folder = self.parent / "0"
        self.lives = 0
        self.models: dict[str, Model] = {}
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

    # -- collections

    @initialize(metric=st.sampled_from(list(Metric)), batch=BATCHES)
    def begin(self, metric: Metric, batch: list[tuple[str, int, dict[str, Any]]]) -> None:
        self.create("c", metric)
        self.upsert("c", batch, Mode.UPSERT, False)

    @rule(name=st.sampled_from(COLLECTIONS), metric=st.sampled_from(list(Metric)))
    def create(self, name: str, metric: Metric) -> None:
        if name in self.models:
            with pytest.raises(AlreadyExists):
                self.engine.create(name, DIMENSION, metric=metric)
        else:
            assert self.engine.create(name, DIMENSION, metric=metric)
            self.models[name] = Model(metric, {})

    @rule(name=st.just("d"))
    def drop(self, name: str) -> None:
        model = self.models.pop(name, None)
        if model is None:
            with pytest.raises(NotFound):
                self.engine.delete(name)
        else:
            assert self.engine.delete(name) == len(model.items)

    # -- writes

    @rule(name=st.sampled_from(COLLECTIONS), batch=BATCHES, mode=st.sampled_from(list(Mode)), partial=st.booleans())
    def upsert(self, name: str, batch: list[tuple[str, int, dict[str, Any]]], mode: Mode, partial: bool) -> None:
        new = [Item(one, POOL[number], dump(document)) for one, number, document in batch]
        if name not in self.models:
            with pytest.raises(NotFound):
                self.engine.upsert(name, new)
            return
        model = self.models[name].items
        wrong = {
            index
            for index, (one, *_) in enumerate(batch)
            if (mode is Mode.INSERT_ONLY and one in model) or (mode is Mode.UPDATE_ONLY and one not in model)
        }
        if wrong and not partial:
            with pytest.raises((AlreadyExists, NotFound)):
                self.engine.upsert(name, new, mode=mode)
            return
        good = {one: (number, doc) for index, (one, number, doc) in enumerate(batch) if index not in wrong}
        written = self.engine.upsert(name, new, mode=mode, partial=partial)
        assert (written.count, set(written.wrong)) == (len(good), wrong)
        model |= good

    @rule(name=st.sampled_from(COLLECTIONS), batch=BATCHES)
    def upsert_with_a_bad_one(self, name: str, batch: list[tuple[str, int, dict[str, Any]]]) -> None:
        if name in self.models:
            new = [Item(one, POOL[number], dump(document)) for one, number, document in batch]
            bad = Item("bad", np.full(DIMENSION, np.nan, np.float32))
            with pytest.raises(InvalidArgument):
                self.engine.upsert(name, [*new, bad])
            assert set(self.engine.upsert(name, [bad, *new], partial=True).wrong) == {0}
            self.models[name].items |= {one: (number, document) for one, number, document in batch}

    @rule(
        name=st.sampled_from(COLLECTIONS),
        names=st.lists(NAMES, max_size=12),
        filter=st.none() | FILTERS,
        dry=st.booleans(),
    )
    def delete(self, name: str, names: list[str], filter: Filter | None, dry: bool) -> None:
        if name not in self.models or (not names and filter is None):
            with pytest.raises((NotFound, InvalidArgument)):
                self.engine.delete_vectors(name, names, filter)
            return
        model = self.models[name]
        gone = [one for one in model.kept(filter) if not names or one in names]
        assert self.engine.delete_vectors(name, names, filter, dry_run=dry)[0] == len(gone)
        for one in [] if dry else gone:
            del model.items[one]

    # -- reads

    @rule(
        name=st.sampled_from(COLLECTIONS),
        number=NUMBERS,
        moved=st.booleans(),
        filter=st.none() | FILTERS,
        limit=st.sampled_from([1, 10, 50]),
        offset=st.sampled_from([0, 0, 7]),
    )
    def search(self, name: str, number: int, moved: bool, filter: Filter | None, limit: int, offset: int) -> None:
        query = POOL[number] + np.float32(0.1 * moved)
        if name not in self.models:
            with pytest.raises(NotFound):
                self.engine.search(name, Query(query))
            return
        model = self.models[name]
        names = model.kept(filter)
        truth = model.scores(query, names)
        wanted = sorted(truth.values(), reverse=True)[offset : offset + limit]
        for exact in (True, False):
            asked = Query(query, limit, offset, filter=filter, exact=exact, ef=200, with_vectors=True)
            (many,) = self.engine.search_many(name, [asked])
            result = self.engine.search(name, asked)
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

    @rule(
        name=st.sampled_from(COLLECTIONS),
        number=NUMBERS,
        filter=st.none() | st.just(Filter()) | FILTERS,
        limit=st.sampled_from([3, 10]),
        exact=st.booleans(),
    )
    def search_pages(self, name: str, number: int, filter: Filter | None, limit: int, exact: bool) -> None:
        """Each match once over the pages; and the last score of a page, as `min_score`, keeps that page."""
        if name not in self.models:
            return
        wanted = self.models[name].kept(filter)
        seen: list[str] = []
        for offset in range(0, len(wanted) + limit, limit):
            asked = Query(POOL[number], limit, offset, filter=filter, exact=exact)
            found = self.engine.search(name, asked)
            seen += ids(found)
            if found.hits:
                least = min(hit.score for hit in found.hits)
                assert float(np.float32(least)) == least
                assert ids(self.engine.search(name, asked._replace(min_score=least))) == ids(found)
        assert sorted(seen) == wanted

    @rule(name=st.sampled_from(COLLECTIONS), dry=st.booleans())
    def delete_by_nothing(self, name: str, dry: bool) -> None:
        if name in self.models:
            for nothing in (Filter(), Filter((Filter(),)), Filter((Compare("n", Operator.NOT_IN, []),))):
                with pytest.raises(InvalidArgument):
                    self.engine.delete_vectors(name, [], nothing, dry_run=dry)

    @rule(name=st.sampled_from(COLLECTIONS), names=st.lists(NAMES, max_size=6))
    def get(self, name: str, names: list[str]) -> None:
        if name in self.models:
            found = self.engine.get(name, names, with_vectors=True)
            model = self.models[name].items
            assert found.keys() == {one for one in names if one in model}
            for one, item in found.items():
                assert item.vector is not None
                assert (item.vector.tobytes(), json.loads(item.metadata)) == (
                    POOL[model[one][0]].tobytes(),
                    model[one][1],
                )

    @rule(name=st.sampled_from(COLLECTIONS), filter=st.none() | FILTERS, size=st.sampled_from([1, 7, 1000]))
    def page(self, name: str, filter: Filter | None, size: int) -> None:
        if name in self.models:
            names, token = [], ""
            while True:
                some, token = self.engine.page(name, token=token, size=size, filter=filter)
                names += [item.id for item in some]
                if not token:
                    break
            assert sorted(names) == self.models[name].kept(filter)
            assert self.engine.count(name, filter) == len(names)

    # -- snapshots and restarts

    @rule(name=st.sampled_from(COLLECTIONS), snapshot=st.sampled_from(["s", "S", "t"]))
    def take(self, name: str, snapshot: str) -> None:
        key = (name, snapshot)
        if name not in self.models or key in self.snapshots:
            with pytest.raises((NotFound, AlreadyExists)):
                self.engine.create_snapshot(name, snapshot)
        else:
            self.engine.create_snapshot(name, snapshot)
            self.snapshots[key] = self.models[name].copy()

    @rule(name=st.sampled_from(COLLECTIONS), snapshot=st.sampled_from(["s", "S", "t"]))
    def restore(self, name: str, snapshot: str) -> None:
        if (name, snapshot) not in self.snapshots:
            with pytest.raises(NotFound):
                self.engine.restore_snapshot(name, snapshot)
        else:
            self.engine.restore_snapshot(name, snapshot)
            self.models[name] = self.snapshots[name, snapshot].copy()

    @rule(name=st.sampled_from(COLLECTIONS), snapshot=st.sampled_from(["s", "S", "t"]))
    def forget(self, name: str, snapshot: str) -> None:
        if (name, snapshot) in self.snapshots:
            self.engine.delete_snapshot(name, snapshot)
            del self.snapshots[name, snapshot]

    @rule(kill=st.booleans())
    def restart(self, kill: bool) -> None:
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
        assert [one.spec.name for one in self.engine.describe_all()] == sorted(self.models)
        for name, model in self.models.items():
            assert self.engine.count(name) == len(model.items)
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


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("most", [0, 30, 1000])
def test_a_short_life(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    """Create, upsert, update, delete, search, snapshot, restore, restart and kill, in any order, are the oracle's, with
    a graph of however few vectors, with one past thirty, and without one."""
    monkeypatch.setattr(flat, "MOST", most)
    run(15, 30)


@pytest.mark.slow
@pytest.mark.usefixtures("small")
def test_a_long_life(tmp_path: Path) -> None:
    """The same for many and longer lives."""
    run(150, 80)
