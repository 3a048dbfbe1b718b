"""Which part of a page is what it is about."""

from __future__ import annotations

from turbohtml import Document, Element

from .tree import is_blank, is_deep, outermost

_AROUND = (
    "nav", "footer", "aside", "body > header", "[role=navigation]", "[role=banner]", "[role=contentinfo]",
    "[role=complementary]",
)  # fmt: skip
_MAINS = ("main", "[role=main]")
_MAIN = ", ".join(_MAINS)
_MOST_MAINS = 10  # that are compared; a page for readers has one
_LEAST = 0.5  # of the text that is in none of _AROUND: what holds less is not the whole of it


def main_part(document: Document) -> Element | None:
    """The element with the main text; None where none holds most of the page's text."""
    body = document.select_one("body")
    if body is None:
        return None
    around = sum(len(part.text) for part in outermost(document, (*_AROUND, *_MAINS)) if not part.matches(_MAIN))
    text = len(body.text) - around
    articles: list[Element] = []
    candidates = document.select(_MAIN)
    if not candidates:
        articles = outermost(document, ["article"])
        candidates = articles if len(articles) == 1 else []
    # A text is gathered from all of the tree below, which is a good part of what a page takes: once for each.
    length, best = max(((len(part.text), part) for part in candidates[:_MOST_MAINS]), key=_length, default=(0, None))
    if best is not None and length >= _LEAST * text and not is_blank(best):
        return best
    if is_deep(document):
        return None  # the library's search takes long then
    best = document.main_content()
    if best is None or best.tag in ("html", "body") or len(best.text) < _LEAST * text or is_blank(best):
        return None
    return best if len(articles) < 2 or best.closest("article") is None else None  # one of several is not all


def _length(measured: tuple[int, Element]) -> int:
    return measured[0]
