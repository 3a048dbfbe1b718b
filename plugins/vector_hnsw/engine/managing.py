"""Collections and their aliases: made, changed, described, deleted."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from shared.errors import (
    AlreadyExists,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    quoted,
)
from shared.vectors.checks import LARGEST_DIMENSION, checked_name, within

from . import checks, health
from .collection import OpenCollection
from .flat import index_for
from .graph import Graph
from .labels import Labels
from .metric import Metric
from .rebuilding import cause_to_rebuild
from .space import Space
from .store import Collection
from .upkeep import Upkeep


@dataclass(frozen=True)
class Description:
    """A collection as it is now. `bytes_on_disk` are its ids, metadata, vectors and graph."""

    spec: Collection
    count: int
    sequence: int
    bytes_on_disk: int
    sampled_recall: float
    tombstone_ratio: float
    rebuilding: bool
    rebuild_progress: float
    aliases: tuple[str, ...] = ()


class Managing(Space, Upkeep):
    def create(
        self,
        name: str,
        dimension: int,
        *,
        metric: Metric = Metric.COSINE,
        m: int = 0,
        ef_construction: int = 0,
        ef_search: int = 0,
        target_recall: float | None = None,
        embedding_model: str = "",
        if_not_exists: bool = False,
    ) -> bool:
        """Makes a collection and returns True; False when an equal one was there and `if_not_exists` is set.

        0 for `m`, `ef_construction`, `ef_search` means 16, 200, 100, or what the equal one has. With a `target_recall`,
        0.5 to 0.999, `ef_search` is what it begins with; 0 is none, None what the equal one has. Raises
        InvalidArgument, AlreadyExists, LimitReached, Overloaded.
        """
        named = _named(m, ef_construction, ef_search, target_recall)
        wanted = Collection(
            number=0,
            name=checked_name(name),
            dimension=within("dimension", dimension, 1, LARGEST_DIMENSION),
            metric=metric,
            embedding_model=checks.checked_model_name(embedding_model),
            **(checks.INDEX_DEFAULTS | named),
        )
        with self._writing:
            there = self._collections.get(self._name_of(name))
            if there is not None:
                if not if_not_exists:
                    raise AlreadyExists(checks.taken(name, there.spec), reason="COLLECTION_EXISTS")
                # Index parameters may have been changed since; those that are not named need not be equal.
                free = {*checks.INDEX_DEFAULTS, "target_recall"} - named.keys()
                if there.spec.target_recall:
                    free.add("ef_search")
                unnamed = {key: getattr(there.spec, key) for key in free}
                if other := checks.difference(there.spec, replace(wanted, **unnamed)):
                    raise AlreadyExists(other, reason="COLLECTION_EXISTS")
                return False
            self._check_number()
            graph = index_for(wanted, 0, self._threads)

            def store() -> Collection:
                with self._store.write() as transaction:
                    return self._store.create(transaction, wanted)

            spec = self._when_full_too(store, deletes=False)
            self._collections[name] = OpenCollection(spec, self._store, Labels(0), graph, self._max_limit)
        return True

    def update_index(
        self,
        name: str,
        *,
        m: int = 0,
        ef_construction: int = 0,
        ef_search: int = 0,
        target_recall: float | None = None,
    ) -> str:
        """Changes the index parameters that are not 0, and the recall to keep unless it is None, durably, and returns
        the collection's name. Where the graph was made with others a new one is built while the old one is searched,
        also after a kill.

        Raises NotFound, InvalidArgument, LimitReached (for a moment there are two graphs), FailedPrecondition for an
        `ef_search` by itself where a recall is kept.
        """
        named = _named(m, ef_construction, ef_search, target_recall)
        if not named:
            raise InvalidArgument(
                "index names nothing to change; set m, ef_construction, ef_search or target_recall",
                reason="NOTHING_NAMED",
                field="index",
            )
        with self._writing:
            entry = self._find(name, "name")
            if ef_search and target_recall is None and entry.spec.target_recall:
                raise FailedPrecondition(
                    f"collection {entry.spec.name} adjusts ef_search to keep a recall of {entry.spec.target_recall:g}; "
                    "set target_recall to 0 to set ef_search yourself, or set it with a search",
                    reason="RECALL_IS_KEPT",
                    field="index.ef_search",
                )
            spec = replace(entry.spec, **named)
            if spec == entry.spec:
                return spec.name
            if isinstance(entry.graph, Graph) and cause_to_rebuild(entry.graph, spec) == "parameters":
                count = entry.graph.count
                self._check_memory(index_for(spec, count, self._threads).bytes_with(count))

            def store() -> None:
                with self._store.write() as transaction:
                    self._store.set_index(transaction, spec)

            self._when_full_too(store, deletes=False)
            entry.spec, entry.tuned_count = spec, 0
            self._after(entry)
            return spec.name

    def delete(self, name: str) -> int:
        """Removes the collection with everything in it and returns how many vectors that were. Raises NotFound."""
        with self._writing:
            spec = self._find(name, "name").spec
            if aliases := self._aliases.of(spec.name):
                raise FailedPrecondition(
                    f"collection {spec.name} has the alias {aliases[0][0]}"
                    + (f" and {len(aliases) - 1} more" if len(aliases) > 1 else "")
                    + "; move it to another collection, or delete it first",
                    reason="COLLECTION_HAS_ALIASES",
                    field="name",
                )

            def drop() -> int:
                with self._store.write() as transaction:
                    return self._store.drop(transaction, spec.number)

            count = self._when_full_too(drop, deletes=True)
            del self._collections[spec.name]
            with suppress(OSError):  # the next start removes what is left
                self._cache.remove(spec.number)
            self._give_back()
        return count

    def describe_all(self) -> list[Description]:
        """By name, with the recall that was measured last."""
        descriptions: list[Description] = []
        for name in sorted(self._collections):
            with suppress(NotFound):  # it was deleted meanwhile
                descriptions.append(self.describe(name, sample=False))
        return descriptions

    def describe(self, name: str, *, sample: bool = True) -> Description:
        """`sample`: measures recall, which reads every vector; once for each state of the collection.

        Raises NotFound.
        """

        def read(entry: OpenCollection) -> Description:
            with entry.describing:  # whoever asks meanwhile for the same gets the same
                sequence = self._store.counters(entry.spec.number)[1]
                if sample and entry.sampled_at != (state := (sequence, entry.graphs, entry.spec.ef_search)):
                    entry.sampled_recall = health.sampled_recall(entry, self._store)
                    entry.sampled_at = state
                if entry.measured_at != sequence:
                    entry.bytes_used = self._store.bytes_used(entry.spec.number)
                    entry.measured_at = sequence
            return Description(
                entry.spec,
                entry.labels.count,
                sequence,
                entry.bytes_used + self._cache.size(entry.spec.number),
                entry.sampled_recall,
                entry.graph.tombstone_ratio if entry.graph else 0.0,
                entry.rebuilding,
                entry.rebuild_progress,
                tuple(alias for alias, _ in self._aliases.of(entry.spec.name)),
            )

        return self._read(name, read, "name")

    # -- aliases ------------------------------------------------------------------------------------------------

    def set_alias(self, alias: str, collection: str, *, expected: str | None = None) -> str:
        """Has `alias` name the collection, durably and at one moment; returns what it named until now, "" for nothing.

        `expected` is what it must have named. Raises InvalidArgument, NotFound, AlreadyExists, LimitReached,
        FailedPrecondition.
        """
        checked_name(alias, "alias", "alias")
        with self._writing:
            if alias in self._collections:
                raise AlreadyExists(
                    f"{alias} is a collection; take another name for the alias",
                    reason="COLLECTION_EXISTS",
                    field="alias",
                )
            target = self._find(collection).spec.name
            before = self._aliases.check_move(alias, expected, self._max_collections)
            if before != target:
                self._when_full_too(lambda: self._aliases.set(alias, target), deletes=False)
            return before

    def delete_alias(self, alias: str) -> str:
        """Durably; returns what it named. Raises NotFound."""
        with self._writing:
            if not (target := self._aliases.target(alias)):
                raise NotFound(
                    f"there is no alias {quoted(alias)}; list the aliases to see which there are",
                    reason="ALIAS_NOT_FOUND",
                    field="alias",
                )
            self._when_full_too(lambda: self._aliases.delete(alias), deletes=True)
            return target

    def list_aliases(self, collection: str = "") -> list[tuple[str, str]]:
        """(alias, collection) of one collection or of all, by alias. Raises NotFound."""
        return self._aliases.of(self._find(collection).spec.name if collection else "")


def _named(m: int, ef_construction: int, ef_search: int, target_recall: float | None) -> dict[str, Any]:
    named = checks.index_parameters(m=m, ef_construction=ef_construction, ef_search=ef_search)
    return named if target_recall is None else named | {"target_recall": checks.checked_target(target_recall)}
