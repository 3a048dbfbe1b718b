"""PDF → text, by pypdf: about as fast as PDFium on pages of text, it bounds what it unpacks and the tokens of a page,
and answers what cannot be read with an exception, where PDFium short of memory ends its process."""

from __future__ import annotations

import io
import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

_MOST_PAGES = 100  # in one answer
_MOST_CHARS = 4_000_000


@dataclass
class Document:
    text: str = ""
    title: str = ""
    pages: int = 0
    notes: list[str] = field(default_factory=list)
    problem: str = ""


def read(body: bytes, *, first: int, last: int, seconds: float) -> Document:
    """The text of the pages `first` to `last` (from 1; 0 for the last one), as many as `seconds` and bounds allow."""
    # The import takes a third of a second, and few pages are PDF.
    import pypdf

    logging.getLogger("pypdf").setLevel(logging.CRITICAL + 1)  # it quotes what it reads
    until = time.monotonic() + seconds
    document = Document()
    try:
        reader = pypdf.PdfReader(io.BytesIO(body))
        if reader.is_encrypted and not reader.decrypt(""):
            document.problem = "the PDF is encrypted and needs a password"
            return document
        document.pages = len(reader.pages)
        title = reader.metadata.title if reader.metadata else None
        document.title = " ".join(str(title or "")[:1_000].split())[:300]
    except Exception as error:
        document.problem = f"the PDF is damaged ({type(error).__name__})"
        return document
    last = min(last or document.pages, document.pages, first + _MOST_PAGES - 1)
    parts: list[str] = []
    size, done, unread = 0, first - 1, []
    for number in range(first, last + 1):
        if parts and (time.monotonic() > until or size > _MOST_CHARS):
            break
        try:
            text = reader.pages[number - 1].extract_text().strip()
        except Exception:
            text = ""
            unread.append(number)
        if text:
            parts.append(f"[Page {number} of {document.pages}]\n\n{text}")
            size += len(text)
        done = number
    document.text = "\n\n".join(parts)
    document.notes = list(_notes(document, first, done, unread))
    return document


def _notes(document: Document, first: int, done: int, unread: list[int]) -> Iterator[str]:
    total = document.pages
    if first > total:
        yield f"The PDF has {total} pages: there is no page {first}."
    elif done < total or first > 1:
        more = f" For more ask again with pages={done + 1}-{min(total, done + _MOST_PAGES)}." if done < total else ""
        yield f"These are the pages {first} to {done} of {total}.{more}"
    if unread:
        yield f"Pages that cannot be read: {', '.join(map(str, unread[:20]))}{' and more' if len(unread) > 20 else ''}."
    if not document.text and first <= total:
        yield "The pages hold no text; they may be pictures of it."
