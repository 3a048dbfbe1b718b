"""Brings a page's tree into a form that has an equal in Markdown: links that lead somewhere, one mark for a line break,
the language of code, parts of forms as the text that they show."""

from __future__ import annotations

import re

from turbohtml import Element, Node, Text

_LINKED = ("http", "https", "mailto", "tel", "ftp")
_PICTURED = ("http", "https")
_LONGEST_URL = 2_000  # characters; what is longer is left out, its text stays
_LATER = ("data-src", "data-original", "data-lazy-src")  # where a script takes a picture from when it scrolls into view
_UNSAFE = re.compile(r"""[\x00-\x20\x7f"'()<>\\`{|}^]""")
_AROUND_URL = "".join(map(chr, range(33)))
_ENCODED = {ord(char): f"%{ord(char):02X}" for char in " \"'()<>\\`{|}^"} | dict.fromkeys(range(32)) | {127: None}
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
    _code(root)
    _forms(root)
    for heading in root.select("h1, h2, h3, h4, h5, h6"):
        if not heading.text.strip() and heading.select_one("img") is None:
            heading.decompose()


def base_of(document: Node, url: str) -> str:
    """What relative links start from: the first `<base href>`, where it leads to the web, else the page."""
    element = document.select_one("base[href]")
    joined = absolute(str(element.attr("href")), url, _PICTURED) if element else ""
    return joined or url


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
    for link in root.select("a[href], area[href]"):
        url = _safe(str(link.attr("href")), _LINKED)
        if not url or not (link.text.strip() or link.select_one("img[alt]")):
            link.unwrap()
            continue
        link.attrs["href"] = url
        if "title" in link.attrs:
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
    """Two line breaks or more, with nothing between them, are the end of a paragraph."""
    breaks = root.select("br")
    for mark in breaks:
        following = _next(mark)
        if not _is_break(following):
            continue
        while _is_break(following):
            assert following is not None
            following.extract()
            following = _next(mark)
        mark.replace_with(Element("div"))


def _next(node: Node) -> Node | None:
    """The next sibling that is not white space alone."""
    sibling = node.next_sibling
    while isinstance(sibling, Text) and not sibling.data.strip():
        sibling = sibling.next_sibling
    return sibling


def _is_break(node: Node | None) -> bool:
    return isinstance(node, Element) and node.tag == "br"


def _code(root: Node) -> None:
    for block in root.select("pre"):
        code = block.select_one("code")
        holders = [holder for holder in (code, block, block.parent) if isinstance(holder, Element)]
        names = [str(holder.attr("class") or "")[:300] for holder in holders]
        found = next((match[1] for name in names if (match := _LANGUAGE.search(name))), "")
        language = found or str((code or block).attr("data-lang") or block.attr("lang") or "")
        for holder in holders[:-1]:
            if "class" in holder.attrs:
                del holder.attrs["class"]
        if re.fullmatch(r"[A-Za-z0-9+#._-]{1,30}", language):
            (code or block).attrs["class"] = f"language-{language.lower()}"


def _forms(root: Node) -> None:
    """Choices as a list, fields and buttons each by itself."""
    for element in root.select("option, select, optgroup, datalist, textarea, button"):
        if element.tag == "option":
            element.tag = "li"
        elif element.tag in ("select", "optgroup"):
            element.tag = "ul"
        elif element.tag == "textarea":
            element.tag = "div"
        else:
            element.insert_before(Text(" "))
            element.insert_after(Text(" "))
