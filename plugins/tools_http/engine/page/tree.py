"""Questions to a tree that stay linear in its size, however deep it is."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import chain, islice

from turbohtml import Element, Node

_SAMPLE, _DEEP = 100, 500
_FEW = 20  # elements whose ancestors are looked at sooner than all of the tree


def select_each(root: Node, selectors: Iterable[str]) -> list[Element]:
    """The elements that any of the selectors means, those of one behind those of another, and none twice.

    The library keeps a list of a document's elements for each tag; for several selectors in one it goes through all of
    the tree, and so it does below an element."""
    return list(dict.fromkeys(chain.from_iterable(map(root.select, selectors))))


def remove_each(root: Node, selectors: Iterable[str]) -> None:
    for element in select_each(root, selectors):
        element.decompose()


def outermost(root: Node, selectors: Sequence[str]) -> list[Element]:
    """The elements that any of the selectors means, without those in another of them."""
    every = select_each(root, selectors)
    if len(every) <= _FEW:
        meant = set(every)
        return [element for element in every if meant.isdisjoint(element.ancestors)]
    selector = ", ".join(selectors)
    if root.select_one(f":is({selector}) :is({selector})") is None:
        return every
    every = root.select(selector)  # outer ones first
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
