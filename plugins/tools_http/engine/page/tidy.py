"""Brings a page's tree into a form that has an equal in Markdown: links that lead somewhere, one mark for a line break,
the language of code, parts of forms as the text that they show."""

from __future__ import annotations

import re
from collections import Counter
from itertools import islice
from urllib.parse import urlsplit

from turbohtml import Comment, Element, Node, Text

from .tree import is_blank, outermost, remove_each, select_each

_LINKED = ("http", "https", "mailto", "tel", "ftp")
_PICTURED = ("http", "https")
_LONGEST_URL = 2_000  # characters; what is longer is left out, its text stays
_LATER = ("data-src", "data-original", "data-lazy-src")  # where a script takes a picture from when it scrolls into view
_UNSAFE = re.compile(r"""[\x00-\x20\x7f"'()<>\\`{|}^]""")
_AROUND_URL = "".join(map(chr, range(33)))
_ENCODED = {ord(char): f"%{ord(char):02X}" for char in " \"'()<>\\`{|}^"} | dict.fromkeys(range(32)) | {127: None}
INLINE = frozenset(
    "a abbr acronym b bdi bdo big cite code data del dfn em font i ins kbd label mark q s samp small span strike "
    "strong sub sup time tt u var".split()
)
_EMPHASES = ("b", "strong", "i", "em", "cite", "dfn", "var", "s", "strike", "del", "code", "kbd", "samp", "tt")
_EMPHASIS = ", ".join(_EMPHASES)
_POWER = re.compile(r"[-+−]?(?:[0-9]{1,4}|[a-z])")
_LANGUAGE_NAME = re.compile(r"[A-Za-z0-9+#._-]{1,30}")
_CODED = (
    "pre[class], pre[lang], pre[data-lang], pre:has(> code[class]:not([class^=language-])), "
    "pre:has(> code[data-lang]), :is([class*=language-], [class*=highlight-], [class*=sourceCode]) > pre"
)
_MANY_BREAKS = 200  # from where on all of a page is looked through for runs of them
_MOST_EMPHASES = 10  # levels of elements around a break that are looked at
_MOST_LEVELS = 50  # of elements that a break is moved out of
_MOST_WORK = 20_000_000  # characters that are looked at to tell marks apart
_SPACES = re.compile(r"\s+")
_LANGUAGE = re.compile(
    r"(?:^|\s)(?:language-|lang-|highlight-source-|highlight-text-|brush:\s?|hljs\s+(?:language-)?|sourceCode\s+)"
    r"([A-Za-z0-9+#._-]{1,30})"
)


def tidy(root: Node, base: str) -> None:
    root.resolve_links(base)
    _links(root)
    _images(root, base)
    _breaks(root)
    _broken_emphasis(root)
    _no_delimiters(root)
    _scripts(root)
    _code(root)
    _forms(root)
    for heading in outermost(root, ["h1", "h2", "h3", "h4", "h5", "h6"]):
        if is_blank(heading) and heading.select_one("img") is None:
            heading.decompose()
    remove_each(root, ["li hr", "blockquote hr"])  # below a line without a blank one between it reads as another thing


def base_of(document: Node, url: str) -> str:
    """What relative links start from: the first `<base href>`, where it leads to the web, else the page."""
    element = document.select_one("base[href]")
    joined = absolute(str(element.attr("href")), url, _PICTURED) if element else ""
    try:
        return joined if joined and urlsplit(joined).hostname else url
    except ValueError:
        return url


def absolute(link: str, base: str, schemes: tuple[str, ...] = _LINKED) -> str:
    """The link as an absolute URL that can stand in Markdown; empty where it leads to none of `schemes`.

    >>> absolute("/rel?a=1", "http://127.0.0.1/d/p")
    'http://127.0.0.1/rel?a=1'
    """
    element = Element("a", {"href": link})
    element.resolve_links(base)
    return _safe(str(element.attr("href")), schemes)


def _safe(url: str, schemes: tuple[str, ...]) -> str:
    """An absolute URL as it can stand in Markdown; empty where it is none, is too long or has another scheme."""
    if len(url) > _LONGEST_URL:
        return ""
    if _UNSAFE.search(url):
        # White space around it goes, and control characters in it, as in a browser: `java\nscript:` is a scheme.
        url = url.strip(_AROUND_URL).translate(_ENCODED)
    scheme = url[:8].partition(":")[0]
    return url if scheme in schemes or scheme.lower() in schemes else ""


def _links(root: Node) -> None:
    for link in select_each(root, ["a[href]", "area[href]"]):
        href = str(link.attr("href"))
        url = _safe(href, _LINKED)
        if not url or (is_blank(link) and link.select_one("img[alt]") is None):
            link.unwrap()
            continue
        if url != href:
            link.attrs["href"] = url
        if link.attr("title") is not None:
            del link.attrs["title"]


def _images(root: Node, base: str) -> None:
    for image in root.select("img"):
        alt = _SPACES.sub(" ", str(image.attr("alt") or "")).strip()
        url = _safe(str(image.attr("src") or ""), _PICTURED)
        url = url or next(
            (url for name in _LATER if (url := absolute(str(image.attr(name) or ""), base, _PICTURED))), ""
        )
        if not alt:
            image.decompose()  # decoration, or a pixel that counts visitors
        elif not url:
            image.replace_with(Text(alt))
        else:
            image.attrs["src"], image.attrs["alt"] = url, alt
            if "title" in image.attrs:
                del image.attrs["title"]


def _breaks(root: Node) -> None:
    """Line breaks stand between texts: none at the edge of a block, and two or more are the end of a paragraph."""
    marks = root.select("br")
    if len(marks) > _MANY_BREAKS:
        _thin_out(root)
    # Twice, since only when all have left what they begin or end does it show which stand side by side.
    for mark in marks:
        _move_to_edge(mark)
    for mark in marks:
        _move_to_edge(mark)
        if mark.parent is None:
            continue
        end = mark
        while _is_break(following := _beside(end, after=True)):
            assert following is not None
            following.extract()
            end = _paragraph_end(end)
        if end is not mark:
            _move_to_edge(end)


def _broken_emphasis(root: Node) -> None:
    """Takes marks away that are about text of three lines or more: two breaks would be written as HTML."""
    breaks: Counter[Element] = Counter()
    marks = root.select("br")
    emphases = set(select_each(root, _EMPHASES)) if len(marks) > 1 else set[Element]()
    for mark in marks if emphases else ():
        parent = mark.parent
        for _ in range(_MOST_EMPHASES):
            if not isinstance(parent, Element):
                break
            if parent in emphases:
                breaks[parent] += 1
            parent = parent.parent
    for element, count in breaks.items():
        if count > 1:
            element.unwrap()


def _no_delimiters(root: Node) -> None:
    """A line like `|:-|` would make a table of itself and the line above it: it goes on with that line instead."""
    for mark in root.select("br"):
        text = _beginning(_beside(mark, after=True))
        if "-" in text and not text.strip("|:- \t\n\r\f"):
            mark.replace_with(Text(" "))


def _beginning(node: Node | None) -> str:
    """Some of the first text in it."""
    if isinstance(node, Text):
        return node.data[:_LONGEST_URL]
    if not isinstance(node, Element):
        return ""
    first = islice(node.descendants, _MOST_LEVELS)
    return "".join(part.data[:_LONGEST_URL] for part in first if isinstance(part, Text))


def _thin_out(root: Node) -> None:
    """Leaves at most two with no text between them, wherever these stand in the tree."""
    run = 0
    superfluous: list[Element] = []
    for node in root.descendants:
        if isinstance(node, Text):
            if not node.data.isspace():
                run = 0
        elif isinstance(node, Element) and node.tag == "br":
            run += 1
            if run > 2:
                superfluous.append(node)
    for mark in superfluous:
        mark.extract()


def _paragraph_end(mark: Element) -> Element:
    if mark.tag == "br":
        end = Element("div")
        mark.replace_with(end)
        return end
    return mark


def _move_to_edge(mark: Element) -> None:
    """Out of elements that it begins or ends; away, where one of these is a block."""
    for _ in range(_MOST_LEVELS):
        parent = mark.parent
        if not isinstance(parent, Element):
            return
        first, last = _beside(mark, after=False) is None, _beside(mark, after=True) is None
        if not (first or last):
            return
        if parent.tag not in INLINE:
            mark.extract()
            return
        if last:
            parent.insert_after(mark)
        else:
            parent.insert_before(mark)


def _beside(node: Node, *, after: bool) -> Node | None:
    """The sibling before or after it that is not white space alone."""
    sibling = node.next_sibling if after else node.previous_sibling
    while isinstance(sibling, Comment) or (isinstance(sibling, Text) and not sibling.data.strip()):
        sibling = sibling.next_sibling if after else sibling.previous_sibling
    return sibling


def _is_break(node: Node | None) -> bool:
    return isinstance(node, Element) and node.tag == "br"


def _scripts(root: Node) -> None:
    """Raised text has no mark of its own: a power gets one, since 10⁶ is not 106."""
    for element in select_each(root, ["sup", "sub"]):
        if element.tag == "sup" and _POWER.fullmatch(element.text.strip()):
            before = element.previous_sibling
            if isinstance(before, Text) and before.data[-1:].isalnum() and element.select_one("a") is None:
                element.insert(0, Text("^"))
        element.unwrap()


def plain_emphasis(root: Node, *, strict: bool) -> None:
    """Takes marks away where Markdown may not tell them apart: in each other, side by side, or at the edge of a word at
    other signs than letters; `strict`: wherever they are about more than plain letters between spaces."""
    inner: set[Node] = set()  # of those that keep their marks
    work = _MOST_WORK
    for element in root.select(_EMPHASIS):
        text = element.text if work > 0 else ""
        work -= len(text)
        before, after = element.previous_sibling, element.next_sibling
        opens, closes = _is_open(before, -1), _is_open(after, 0)
        if (
            element in inner
            or not (text[:1].isalnum() or opens)
            or not (text[-1:].isalnum() or closes)
            or (strict and not (opens and closes and text.isascii() and text[:1].isalnum() and text[-1:].isalnum()))
            or (isinstance(before, Element) and before.matches(_EMPHASIS))
        ):
            element.unwrap()
        else:
            inner.update(element.select(_EMPHASIS))


def _is_open(node: Node | None, place: int) -> bool:
    """Whether what stands beside a mark is white space, or the edge of a block."""
    if node is None:
        return True
    return isinstance(node, Text) and bool(node.data) and node.data[place].isspace()


def _code(root: Node) -> None:
    """Says the language of a block where it is read: in the class of `<code>`, else of `<pre>`."""
    for block in root.select(_CODED):
        code = next((child for child in block if isinstance(child, Element) and child.tag == "code"), None)
        holders = [holder for holder in (code, block, block.parent) if isinstance(holder, Element)]
        classes = [str(holder.attr("class") or "")[:300] for holder in holders]
        found = next((match[1] for text in classes if (match := _LANGUAGE.search(text))), "")
        language = found or str((code or block).attr("data-lang") or block.attr("lang") or "")
        for holder in filter(None, (code, block)):
            if "class" in holder.attrs:
                del holder.attrs["class"]
        if _LANGUAGE_NAME.fullmatch(language):
            (code or block).attrs["class"] = f"language-{language.lower()}"


def _forms(root: Node) -> None:
    """Choices as a list, fields and buttons each by itself."""
    for element in select_each(root, ["option", "select", "optgroup", "datalist", "textarea", "button"]):
        if element.tag == "option":
            element.tag = "li"
        elif element.tag in ("select", "optgroup"):
            element.tag = "ul"
        elif element.tag == "textarea":
            element.tag = "div"
        else:
            element.insert_before(Text(" "))
            element.insert_after(Text(" "))
