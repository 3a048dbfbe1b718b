"""HTML → Markdown or plain text: what a reader sees of a page, and what it is about.

turbohtml parses and writes; in between its tree is put in order. Measured on hostile pages beside trafilatura,
resiliparse, selectolax and html-to-markdown, it alone neither lost text in depth nor took time in the square of the
input, but for runs of `<br>`, which `tidy` ends; and it was the fastest.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

import turbohtml
from turbohtml import Document, Element, Markdown, Node, PlainText, Text

from . import hidden, shell, tables
from .invisible import without
from .main_text import main_part
from .tidy import INLINE, absolute, base_of, plain_emphasis, tidy
from .tree import is_blank

_MARKDOWN = Markdown(
    tables=Markdown.Tables(cell_blocks="text"),
    links=Markdown.Links(autolink=False),
    document=Markdown.Document(line_break="spaces"),
)
_RAW = re.compile(r"<(?:strong|em|s|del|code|br)>")
_TEXT = PlainText(images=True)
_SOON = 30.0  # seconds
_LONGEST_TITLE = 300  # characters
_LONGEST_LANGUAGE = 35


@dataclass(kw_only=True)
class Page:
    text: str
    title: str = ""
    language: str = ""
    whole: bool = True  # no part of it was recognised as its main text, or none was asked for
    hidden: bool = False  # what a browser would not show is in the text
    notes: list[str] = field(default_factory=list)  # for the reader of the text


def convert(html: str, *, url: str, main_only: bool = True, markdown: bool = True) -> Page:
    """`url` is what relative links start from, where the page names no other."""
    document = _parsed(html)
    title, language = title_of(document), _language(document)
    base = base_of(document, url)
    notes = _sent_on(document, base, url)
    for template in document.select("template[shadowrootmode]"):
        template.unwrap()  # a browser shows what is in it
    hidden.remove(document)
    page = Page(text="", title=title, language=language, notes=notes)
    root: Node = document.select_one("body") or document
    if shell.is_empty(document, html):
        document = _parsed(html)
        root = shell.fill(document)
        page.hidden = bool(root.text.strip())
        page.notes.append(shell.NOTE if page.hidden else "The page has no text.")
    elif main_only:
        part = main_part(document)
        page.whole = part is None
        if part is not None:
            root = part
            _leave_only(part)
        else:
            page.notes.append("No part of the page stands out as its main text: this is the whole page.")
    page.text = write(root, base, document=document, title=page.title, markdown=markdown)
    return page


def write(root: Node, base: str, *, document: Node | None = None, title: str = "", markdown: bool = True) -> str:
    """The tree below `root` as text, headed by `title` where it has no first heading of its own. `document`: one that
    holds nothing else, of which the library tells the elements sooner than of a part."""
    tidy(document or root, base)
    tables.tidy(document or root)
    if title and isinstance(root, Element) and root.select_one("h1") is None and not is_blank(root):
        heading = Element("h1")
        heading.append(Text(title))
        root.insert(0, heading)
    if not markdown:
        return without(root.to_text(_TEXT).replace("\xa0", " ")).strip()
    text = root.to_markdown(_MARKDOWN)
    if "<" in text:
        text = _without_html(root, text)
    return without(text.replace("\xa0", " ")).strip()


def _without_html(root: Node, text: str) -> str:
    """`text` is the Markdown of `root`; its own again, less what the library has no Markdown for."""
    if "<table>" in text:
        tables.make_square(root)  # what it does with rows of unequal length
        text = root.to_markdown(_MARKDOWN)
    for strict in (False, True):
        if _RAW.search(text):
            # Its way out where Markdown's marks would be read otherwise; a mark less is easier to read than HTML.
            plain_emphasis(root, strict=strict)
            text = root.to_markdown(_MARKDOWN)
    return text


def _leave_only(part: Element) -> None:
    """Takes out of the document all but the part and what it stands in."""
    for ancestor in [part, *part.ancestors]:
        for sibling in [*ancestor.previous_siblings, *ancestor.next_siblings]:
            sibling.extract()
    if part.tag in INLINE:
        part.tag = "div"  # or it would be taken for a link or a mark, and unwrapped


def title_of(document: Document) -> str:
    for selector, attribute in (("title:not(svg title)", ""), ('meta[property="og:title"]', "content"), ("h1", "")):
        element = document.select_one(selector)
        if element is not None:
            text = " ".join((str(element.attr(attribute) or "") if attribute else element.text)[:2_000].split())
            if text := without(text):
                return text[:_LONGEST_TITLE]
    return ""


def _sent_on(document: Document, base: str, url: str) -> list[str]:
    try:
        refresh = document.meta_refresh(base)
    except ValueError:
        return []
    target = absolute(refresh[1], base) if refresh and refresh[0] <= _SOON else ""
    return [f"The page sends its readers on to {target}"] if target and target != url else []


def _language(document: Document) -> str:
    element = document.select_one("html[lang]")
    return str(element.attr("lang") or "")[:_LONGEST_LANGUAGE] if element else ""


def _parsed(html: str) -> Document:
    return turbohtml.parse(html, positions=False, allow_declarative_shadow_roots=False)
