"""What a worker process does for fetch_page: the bytes of a response → text.

A request is a line of JSON, then the body; a reply is a line of JSON (Converted's facts), then the text in UTF-8.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from ..decoding import decode as decode_text
from . import feeds, html, pdf
from .charset import decode
from .invisible import without
from .media import media_type, sniffed

JOB = f"{__name__}:convert"
_TEXTS = (
    "application/javascript",
    "application/x-ndjson",
    "application/yaml",
    "application/x-yaml",
    "application/toml",
)
_HTML = ("text/html", "application/xhtml+xml", "application/vnd.wap.xhtml+xml")


@dataclass(kw_only=True)
class Converted:
    """`problem` is a sentence where the body is nothing that can be read; the text may be empty then."""

    text: str = ""
    media_type: str = ""  # of the text
    charset: str = ""  # of the body
    title: str = ""
    language: str = ""
    whole_page: bool = True
    hidden_text: bool = False
    notes: list[str] = field(default_factory=list)
    problem: str = ""
    pages: int = 0  # of a PDF


def request(body: bytes, **options: Any) -> bytes:
    """`options`: url, content_type, main_only, markdown, pages, seconds."""
    return json.dumps(options).encode() + b"\n" + body


def reply(answer: bytes) -> Converted:
    head, _, text = answer.partition(b"\n")
    return Converted(**json.loads(head), text=decode_text(text))


def convert(payload: bytes) -> bytes:
    head, _, body = payload.partition(b"\n")
    converted = _convert(body, **json.loads(head))
    text = converted.text.encode("utf-8", "replace")
    facts = {name: value for name, value in vars(converted).items() if name != "text"}
    return json.dumps(facts).encode() + b"\n" + text


def _convert(
    body: bytes, *, url: str, content_type: str, main_only: bool, markdown: bool, pages: tuple[int, int], seconds: float
) -> Converted:
    kind, charset = media_type(content_type)
    kind = sniffed(kind, body)
    written = "text/markdown" if markdown else "text/plain"
    if kind in _HTML:
        text, encoding = decode(body, charset, markup=True)
        page = html.convert(text, url=url, main_only=main_only, markdown=markdown)
        return _of_page(page, written, encoding)
    if kind == "application/pdf":
        document = pdf.read(body, first=pages[0], last=pages[1], seconds=seconds)
        return Converted(
            text=without(document.text),
            media_type="text/plain",
            title=without(document.title),
            notes=document.notes,
            problem=document.problem,
            pages=document.pages,
        )
    if kind.endswith(("+xml", "/xml")):
        text, encoding = decode(body, charset, markup=True)
        feed = feeds.convert(text, url=url, markdown=markdown)
        return _of_page(feed, written, encoding) if feed else _as_it_is(text, encoding, kind)
    if kind.startswith("text/") or kind.endswith(("+json", "/json")) or kind in _TEXTS:
        return _as_it_is(*decode(body, charset), kind)
    return Converted(problem=f"it is {kind or 'binary data of an unknown kind'}, which has no text to be read")


def _of_page(page: html.Page, kind: str, encoding: str) -> Converted:
    return Converted(
        text=page.text,
        media_type=kind,
        charset=encoding,
        title=page.title,
        language=page.language,
        whole_page=page.whole,
        hidden_text=page.hidden,
        notes=page.notes,
    )


def _as_it_is(text: str, encoding: str, kind: str) -> Converted:
    return Converted(text=without(text).strip(), media_type=kind, charset=encoding)
