"""The style sheets that stand in a page, as far as they matter for what is hidden."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from turbohtml import Element, Node, SelectorSyntaxError
from turbohtml.cssom import StyleDeclaration, StyleSheet

_LONGEST = 2**19  # characters of all sheets together
_MOST_RULES = 5_000
_LONGEST_SELECTOR = 300
# States that come and go, and parts that are no elements, say nothing of how the page is first seen.
_CHANGING = re.compile(r"::|:(?:hover|focus|active|visited|target|checked|before|after|placeholder|selection|first-l)")
_SCREEN = re.compile(r"\s*(?:|all|screen|(?:only\s+)?screen)\s*", re.IGNORECASE)


class Rule(NamedTuple):
    selector: str
    style: StyleDeclaration


def rules(document: Node) -> list[Rule]:
    """Those that hold whatever the screen: what stands in an at-rule (`@media print`) is not read."""
    left, read = _LONGEST, []
    for sheet in document.select("style"):
        if not _SCREEN.fullmatch(str(sheet.attr("media") or "")[:100]):
            continue
        text = sheet.text[:left]
        left -= len(text)
        read += [Rule(rule.selector_text, rule.style) for rule in StyleSheet(text).rules]
        if left <= 0 or len(read) > _MOST_RULES:
            break
    return read[:_MOST_RULES]


def matches(document: Node, selector: str) -> Sequence[Element]:
    """The elements that a selector of a sheet means; none where it cannot be said."""
    if len(selector) > _LONGEST_SELECTOR or _CHANGING.search(selector):
        return ()
    try:
        return document.select(selector)
    except (SelectorSyntaxError, ValueError, RecursionError):
        return ()
