"""Which label stands for which vector, so that equal vectors share one.

hnswlib links each node to its nearest ones, and a hundred equal vectors are nearest to each other: they become an
island that no search leaves, and everything else is lost to it. Texts that say the same are common. So a label is
one vector, prepared for the graph, and items with equal ones share it.

An item that gets a new vector keeps its label when the label was its alone: hnswlib stays better at updates in place
than at deletes and inserts. A label that nobody has any more is never used again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b

from shared.vectors.items import Floats

from .store import Place


@dataclass
class Plan:
    """What a write does to labels; it counts once `Labels.apply` is called."""

    places: list[Place] = field(default_factory=list)  # one for each item, row 0 for a new one
    put: dict[int, int] = field(default_factory=dict)  # label → index of the item whose vector it gets
    delete: set[int] = field(default_factory=set)  # labels that nobody has any more
    next_label: int = 0
    added: int = 0  # items more than before
    label_of: dict[bytes, int | None] = field(default_factory=dict)  # changes of what is known
    shared: dict[int, int] = field(default_factory=dict)


class Labels:
    """Knows the label of every vector, and how many items share it. Written by one thread."""

    def __init__(self, next_label: int) -> None:
        self.count = 0  # items
        self._next = next_label
        self._label_of: dict[bytes, int] = {}
        self._version_of: dict[int, int] = {}
        self._shared: dict[int, int] = {}  # items of labels that more than one has

    def load(self, rows: Iterable[tuple[int, int, bytes]]) -> None:
        """Takes in (label, version, digest) of items as the store has them."""
        known: dict[int, int] = {}
        for label, version, digest in rows:
            self.count += 1
            if label in self._version_of:
                self._shared[label] = self._shared.get(label, 1) + 1
            else:
                self._label_of[digest] = label
                self._version_of[label] = known.setdefault(version, version)  # one object for all of a write

    def follow(self, versions: dict[int, int]) -> None:
        """From here on `versions` is the graph's own mapping, equal now, so that memory holds it once.

        The graph changes it when it has the vectors; `apply` comes after that and finds it done.
        """
        assert versions.keys() == self._version_of.keys()
        self._version_of = versions

    @property
    def versions(self) -> Mapping[int, int]:
        """For every label in use, the sequence of the write that gave it its vector."""
        return self._version_of

    def plan_put(self, known: Sequence[Place | None], digests: Sequence[bytes], version: int) -> Plan:
        """Places for items with these vectors; `known` is where each was before."""
        plan = Plan(next_label=self._next)
        for index, (old, digest) in enumerate(zip(known, digests, strict=True)):
            if old and old.digest == digest:
                plan.places.append(old)
                continue
            label = self._find(plan, digest)
            if label is not None:
                self._leave(plan, old)
                plan.shared[label] = self._sharing(plan, label) + 1
            elif old and self._sharing(plan, old.label) == 1:
                label = old.label
                plan.label_of[old.digest] = None
                plan.label_of[digest] = label
                plan.put[label] = index
            else:
                self._leave(plan, old)
                label, plan.next_label = plan.next_label, plan.next_label + 1
                plan.label_of[digest] = label
                plan.put[label] = index
            new_version = version if label in plan.put else self._version_of[label]
            plan.places.append(Place(old.row if old else 0, label, new_version, digest))
            plan.added += old is None
        return plan

    def plan_delete(self, places: Iterable[Place]) -> Plan:
        plan = Plan(next_label=self._next)
        for place in places:
            self._leave(plan, place)
            plan.added -= 1
        return plan

    def apply(self, plan: Plan, version: int) -> None:
        """What was planned has been committed."""
        self.count += plan.added
        self._next = plan.next_label
        for digest, label in plan.label_of.items():
            if label is None:
                self._label_of.pop(digest, None)
            else:
                self._label_of[digest] = label
        self._version_of.update(dict.fromkeys(plan.put, version))
        for label, sharing in plan.shared.items():
            if sharing > 1:
                self._shared[label] = sharing
            else:
                self._shared.pop(label, None)
        for label in plan.delete:
            self._version_of.pop(label, None)

    def sharing(self, label: int) -> int:
        """How many items have it, if any."""
        return self._shared.get(label, 1)

    def _find(self, plan: Plan, digest: bytes) -> int | None:
        return plan.label_of[digest] if digest in plan.label_of else self._label_of.get(digest)

    def _sharing(self, plan: Plan, label: int) -> int:
        return plan.shared.get(label, self.sharing(label))

    def _leave(self, plan: Plan, place: Place | None) -> None:
        if place is None:
            return
        left = self._sharing(plan, place.label) - 1
        plan.shared[place.label] = left
        if not left:
            plan.delete.add(place.label)
            plan.label_of[place.digest] = None


def digests(prepared: Floats) -> list[bytes]:
    """One of 16 bytes for each row; equal rows have equal ones."""
    return [blake2b(row.tobytes(), digest_size=16).digest() for row in prepared]
