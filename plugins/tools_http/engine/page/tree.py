"""Questions to a tree that stay linear in its size, however deep it is."""

from __future__ import annotations

from itertools import islice

from turbohtml import Element, Node

_SAMPLE, _DEEP = 100, 500
_FEW = 20  # elements whose ancestors are looked at sooner than all of the tree


def outermost(root: Node, selector: str) -> list[Element]:
    """The elements that a selector means, without those in another of them."""
    every = root.select(selector)
    if len(every) <= _FEW:
        meant = set(every)
        return [element for element in every if meant.isdisjoint(element.ancestors)]
    if root.select_one(f":is({selector}) :is({selector})") is None:
        return every
    inner: set[Node] = set()
    chosen = []
    for element in every:
        if element not in inner:
            chosen.append(element)
            inner.update(element.select(selector))
    return chosen


def is_deep(root: Node) -> bool:
    """Whether elements stand deeper than in any page for readers, by a sample of them."""
    elements = root.select("*")
    sample = elements[:: max(1, len(elements) // _SAMPLE)]
    return any(sum(1 for _ in islice(element.ancestors, _DEEP)) == _DEEP for element in sample)


def is_blank(node: Node) -> bool:
    """Whether it has no text but white space; stops at the first text there is."""
    return next(node.stripped_strings, None) is None
