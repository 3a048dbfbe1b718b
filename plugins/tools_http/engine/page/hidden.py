"""Takes out of a page what nobody sees who looks at it: the place to hide instructions to a model."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from turbohtml import Element, Node
from turbohtml.cssom import StyleDeclaration, computed_style

from . import sheets, styles
from .colors import Backgrounds, has_color, is_unseen
from .tree import remove_each

# No text to be read, in any browser.
CODE = ("script", "style", "head", "link", "meta")
# What a browser keeps from sight, whatever the sheets say; of media what it shows in their place where it knows none.
_UNSEEN = (
    "template", "noscript", "noembed", "noframes", "iframe", "video", "audio", "canvas", "object[data]", "datalist",
    "dialog:not([open])", "[hidden]", "[aria-hidden=true i]", "[type=hidden i]",
    "svg title", "svg desc", "svg metadata", "svg defs",
)  # fmt: skip
_COSTLY = 2_000  # elements at most whose cascade is looked at, or that are taken apart
_MOST_RULES = 500

Shows = Callable[[StyleDeclaration], bool]


def remove(document: Node) -> None:
    """All that is hidden, by elements, attributes, style attributes and the page's own sheets."""
    remove_each(document, _UNSEEN)
    rules = sheets.rules(document)
    _remove_by_rules(document, rules)
    _remove_by_attributes(document, rules)
    remove_each(document, CODE)


def _remove_by_attributes(document: Node, rules: Sequence[sheets.Rule]) -> None:
    budget = _COSTLY
    backgrounds: Backgrounds | None = None
    for element in document.select("[style]"):
        style = styles.declarations(str(element.attr("style")))
        if styles.hides(style):
            element.decompose()
            continue
        if styles.hides_text(style):
            budget -= _remove_text(element, styles.shows_text, budget)
        elif has_color(style):
            backgrounds = backgrounds or Backgrounds(document, rules)
            if is_unseen(style, backgrounds, element):
                budget -= _remove_text(element, has_color, budget)
    fonts = document.select("font[color]")
    colored = [rule for rule in rules if has_color(rule.style)][:_MOST_RULES]
    if not fonts and not colored:
        return
    backgrounds = backgrounds or Backgrounds(document, rules)
    for font in fonts:
        if not font.attr("style"):
            style = styles.declarations(f"color:{font.attr('color')}")
            if is_unseen(style, backgrounds, font):
                budget -= _remove_text(font, has_color, budget)
    for rule in colored:
        for element in sheets.matches(document, rule.selector):
            if budget <= 0:
                return
            budget -= 1
            if not element.attr("style") and is_unseen(rule.style, backgrounds, element):
                budget -= _remove_text(element, has_color, budget)


def _remove_by_rules(document: Node, rules: Sequence[sheets.Rule]) -> None:
    """First all is looked at and then taken out: a change of the tree has the library read the sheets anew."""
    hidden: dict[Element, bool] = {}  # of each element whether all in it is; else its text is
    for rule in [rule for rule in rules if styles.hides(rule.style) or styles.hides_text(rule.style)][:_MOST_RULES]:
        for element in sheets.matches(document, rule.selector):
            if len(hidden) >= _COSTLY:
                break
            if element not in hidden and _is_hidden_by(rule.style, element):
                hidden[element] = styles.hides(rule.style)
    budget = _COSTLY
    for element, wholly in hidden.items():
        if wholly:
            element.decompose()
        else:
            budget -= _remove_text(element, styles.shows_text, budget)


def _is_hidden_by(style: StyleDeclaration, element: Element) -> bool:
    """Whether no other rule and no attribute says otherwise, of the properties that often do."""
    if "display" in style:
        return computed_style(element)["display"].lower() == "none"
    return "visibility" not in style or computed_style(element)["visibility"].lower() != "visible"


def _remove_text(element: Element, shows: Shows, most: int) -> int:
    """Takes out the element, but for elements in it that are shown again; returns how many were looked at for that.

    With more than `most` of them all is taken out.
    """
    if element.parent is None:
        return 0
    inner = element.select("[style]")
    if len(inner) > most:
        element.decompose()
        return 0
    outermost: list[Element] = []
    covered: set[Node] = set()
    for candidate in inner:
        if candidate not in covered and shows(styles.declarations(str(candidate.attr("style")))):
            outermost.append(candidate)
            covered.update(candidate.select("[style]"))
    # The element itself stays: a hidden cell still holds its place.
    for shown in outermost:
        shown.extract()
    element.clear()
    element.extend(outermost)
    return 1 + len(inner)
