"""Feeds (RSS, Atom, RDF) → Markdown: a list of what they announce, newest as the feed has it."""

from __future__ import annotations

import re
from html.entities import html5

import turbohtml
from turbohtml import Element, HTMLParseError, Text
from turbohtml.extract import Entry, Feed

from . import hidden, html
from .tidy import absolute

_MOST_ENTRIES = 200
_WEB = ("http", "https")
_AMPERSAND = re.compile(r"&(?!(?:amp|lt|gt|quot|apos|#[0-9]{1,7}|#x[0-9A-Fa-f]{1,6});)([A-Za-z0-9]{1,31};)?")
_RSS = re.compile(r"<rss(?=[\s>])(?![^>]{0,2000}\sversion\s?=)")
_CONTROLS = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")


def convert(xml: str, *, url: str, markdown: bool) -> html.Page | None:
    """None where it is no feed, or XML that cannot be read at all."""
    feed = _parsed(xml)
    if feed is None or not (feed.title or feed.entries):
        return None
    title = " ".join((feed.title or "").split())
    page = html.Page(text="", title=title)
    base = absolute(feed.link or "", url, _WEB) or url
    body = Element("body")
    if title:
        body.append(Element("h1", None, [Text(title)]))
    if feed.description:
        body.append(_content(feed.description))
    for entry in feed.entries[:_MOST_ENTRIES]:
        _add(body, entry, base)
    if len(feed.entries) > _MOST_ENTRIES:
        page.notes.append(f"These are the first {_MOST_ENTRIES} of the feed's {len(feed.entries)} entries.")
    page.text = html.write(body, base, markdown=markdown)
    return page


def _parsed(xml: str) -> Feed | None:
    xml = xml.lstrip()
    for text in (xml, _repaired(xml)):
        try:
            feed = turbohtml.parse_xml(text).feed()
        except (HTMLParseError, ValueError):
            continue
        if feed is not None:
            return feed
    return None


def _repaired(xml: str) -> str:
    """Without what feeds often have and XML has not (HTML's entities, a bare `&`, control characters), and with the
    version of RSS that some leave out."""
    xml = _RSS.sub('<rss version="2.0"', xml, count=1)
    return _AMPERSAND.sub(lambda match: html5.get(match[1] or "", f"&amp;{match[1] or ''}"), _CONTROLS.sub("", xml))


def _add(body: Element, entry: Entry, base: str) -> None:
    link = absolute(entry.link or "", base, _WEB)
    title = " ".join((entry.title or "").split()) or link
    heading = Element("h2")
    heading.append(Element("a", {"href": link}, [Text(title)]) if link else Text(title))
    body.append(heading)
    facts = [" ".join(fact.split()) for fact in (entry.published or entry.updated, entry.author) if fact]
    if facts:
        body.append(Element("p", None, [Text(" · ".join(facts))]))
    if text := entry.content or entry.summary:
        body.append(_content(str(text)))


def _content(text: str) -> Element:
    """What an entry says, which may be HTML of anybody's."""
    element = turbohtml.parse_fragment(text, positions=False)
    hidden.remove(element)
    return element
