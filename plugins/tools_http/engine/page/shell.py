"""Pages without a visible text: those that a script would fill in a browser.

Only of these the hidden parts are read: what `<noscript>`, templates and hidden elements hold, the description in
`<meta>`, the article in JSON-LD. Whoever reads is told.
"""

from __future__ import annotations

import json
import re
from typing import Any

from turbohtml import Document, Element, Text

from . import hidden
from .tree import remove_each

NOTE = (
    "The page shows no text without JavaScript. What follows is what it hides (noscript, meta, JSON-LD, hidden "
    "elements): readers in a browser may see something else."
)
_WAITING = re.compile(
    r"loading|please wait|javascript|just a moment|laden|chargement|cargando|загрузка|加载|読み込み",
    re.IGNORECASE,
)
_WORD = re.compile(r"[^\W_]")
_MOST_WAITING = 100  # characters of a text that says no more than that
_METAS = ("meta[name=description i]", 'meta[property="og:description"]', 'meta[name="twitter:description"]')
_LD_FIELDS = ("headline", "name", "description", "articleBody", "text")
_LONGEST_LD = 2**20  # characters of a JSON-LD block that are read
_MOST_LD = 200  # values that are taken of all blocks


def is_empty(document: Document, html: str) -> bool:
    """Whether what is left of a page, with all that is hidden out of it, is no text: nothing, or a word to wait."""
    body = document.select_one("body") or document
    text, has_word = "", False
    for part in body.stripped_strings:
        has_word = has_word or _WORD.search(part) is not None
        if len(text) <= _MOST_WAITING:
            text += f" {' '.join(part[: 2 * _MOST_WAITING].split())}"
        elif has_word:
            return False
    if not has_word:
        return body.select_one("img[alt]") is None
    return len(text) <= _MOST_WAITING and "<script" in html[:200_000].lower() and bool(_WAITING.search(text))


def fill(document: Document) -> Element:
    """The body of a document that is as it was parsed, with all that it hides to be seen, and no code."""
    facts = [*_descriptions(document), *_linked_data(document)]
    remove_each(document, hidden.CODE)
    body = document.select_one("body") or Element("body")
    for element in body.select("template, noscript, dialog, video, audio, canvas, object"):
        if element.tag == "template":
            element.unwrap()
        else:
            element.tag = "div"
    seen = " ".join(body.text.split())
    for fact in facts:
        if fact not in seen:
            paragraph = Element("p")
            paragraph.append(Text(fact))
            body.append(paragraph)
    return body


def _descriptions(document: Document) -> list[str]:
    metas = (meta for selector in _METAS for meta in document.select(selector))
    return list(dict.fromkeys(text for meta in metas if (text := _line(meta.attr("content")))))


def _linked_data(document: Document) -> list[str]:
    texts: dict[str, None] = {}
    for script in document.select('script[type="application/ld+json" i]'):
        text = script.text
        if len(text) > _LONGEST_LD:
            continue
        try:
            todo: list[Any] = [json.loads(text)]
        except (ValueError, RecursionError):
            continue
        while todo and len(texts) < _MOST_LD:
            value = todo.pop()
            if isinstance(value, list):
                todo.extend(reversed(value))
            elif isinstance(value, dict):
                texts |= dict.fromkeys(filter(None, (_line(value.get(name)) for name in _LD_FIELDS)))
                todo.extend(inner for inner in reversed(value.values()) if isinstance(inner, list | dict))
    return list(texts)


def _line(value: object) -> str:
    return " ".join(value.split()) if isinstance(value, str) else ""
