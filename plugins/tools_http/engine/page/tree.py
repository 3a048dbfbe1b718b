"""Questions to a tree that stay linear in its size, however deep it is."""

from __future__ import annotations

from turbohtml import Element, Node


def outermost(root: Node, selector: str) -> list[Element]:
    """The elements that a selector means, without those in another of them."""
    inner: set[Node] = set()
    chosen = []
    for element in root.select(selector):
        if element not in inner:
            chosen.append(element)
            inner.update(element.select(selector))
    return chosen


def is_blank(node: Node) -> bool:
    """Whether it has no text but white space; stops at the first text there is."""
    return next(node.stripped_strings, None) is None
