"""Which labels share a vector, so that the graph has one node for them all.

hnswlib links each node to its nearest ones, and a hundred equal vectors are nearest to each other: they become an
island that no search leaves, and everything else is lost to it. Texts that say the same are common, so equal vectors
share a node. It bears the label of one of them, maybe of one that is gone.
"""

from __future__ import annotations

from collections.abc import Collection
from hashlib import blake2b

from plugins.vector_hnsw.engine.metric import Floats


class Twins:
    """Knows each label's node and each node's labels. A node that never had a second label costs one entry."""

    def __init__(self) -> None:
        self._node_with: dict[bytes, int] = {}
        self._node_of: dict[int, int] = {}  # of labels that are at another label's node
        self._labels_at: dict[int, dict[int, None]] = {}  # of nodes that are not just their own label's

    @property
    def nodes(self) -> int:
        return len(self._node_with)

    def node_with(self, vector: Floats) -> int | None:
        return self._node_with.get(_digest(vector))

    def labels_at(self, node: int) -> Collection[int]:
        return self._labels_at.get(node, (node,))

    def is_astray(self, label: int) -> bool:
        """Whether the label is at a node that bears another's."""
        return label in self._node_of

    def labels_left_at(self, node: int) -> bool:
        """Whether the node that bears this label, which has left it, has others."""
        return node in self._labels_at

    def add(self, label: int, vector: Floats) -> None:
        """A new node, which bears the label's name."""
        self._node_with[_digest(vector)] = label

    def join(self, label: int, node: int) -> None:
        self._labels_at.setdefault(node, {node: None})[label] = None
        if label != node:
            self._node_of[label] = node

    def leave(self, label: int, node_vector: Floats) -> bool:
        """Takes the label from its node, which has `node_vector`. True when that was the node's last label."""
        node = self.node_of(label)
        self._node_of.pop(label, None)
        labels = self._labels_at.get(node, {node: None})
        del labels[label]
        if labels:
            return False
        self._labels_at.pop(node, None)
        del self._node_with[_digest(node_vector)]
        return True

    def node_of(self, label: int) -> int:
        return self._node_of.get(label, label)

    def heir(self, node: int) -> int:
        """One of the node's labels, if possible one whose name is free."""
        labels = self._labels_at[node]
        return next((label for label in labels if label not in self._labels_at), next(iter(labels)))

    def rename(self, node: int, heir: int, vector: Floats) -> None:
        """The node, which has the vector, bears the heir's label from now on."""
        labels = self._labels_at.pop(node)
        self._node_with[_digest(vector)] = heir
        for label in labels:
            self._node_of[label] = heir
        del self._node_of[heir]
        if len(labels) > 1:
            self._labels_at[heir] = labels


def _digest(vector: Floats) -> bytes:
    return blake2b(vector.tobytes(), digest_size=16).digest()
