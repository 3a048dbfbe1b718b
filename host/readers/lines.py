"""The lines of a document, whatever it is."""

from __future__ import annotations

import re
from collections.abc import Callable

from host.chunks import Kind, Line, lines_of, unless_blank
from host.documents import BINARY, Document
from host.readers.html import html_lines
from host.readers.json_values import json_lines, records_lines
from host.readers.process import ReadingProcess
from host.readers.table import table_lines
from host.readers.text import decoded
from host.readers.unreadable import Unreadable

_READERS: dict[Kind, Callable[[str], list[Line]]] = {
    "html": html_lines,
    "table": table_lines,
    "json": json_lines,
    "json lines": records_lines,
}
# What is no words: an image within a text, and what is as long and as regular without saying what it is.
_DATA = re.compile(r"data:[A-Za-z0-9.+/-]{1,100}+(?:;[A-Za-z0-9.+/=_-]{1,100}+){0,5}?;base64,[A-Za-z0-9+/=%_-]{64,}+")
_WRAPPED = re.compile(r"(?:^[ \t>]{0,8}[A-Za-z0-9+/]{60,100}={0,2}[ \t]?\r?\n){8,}+", re.MULTILINE)
_BLOB = re.compile(r"(?<![A-Za-z0-9+/=_-])[A-Za-z0-9+/_-]{400,}+={0,2}")


def read_lines(document: Document, process: ReadingProcess) -> list[Line]:
    """Raises Unreadable, which says why."""
    if document.kind in BINARY:
        lines = process.read(document.kind, document.content)
        return [line._replace(text=unless_blank(_words(line.text))) for line in lines]
    text = decoded(document.content)
    if text is None or "\0" in text:
        raise Unreadable("binary or of an unknown encoding")
    return _READERS.get(document.kind, lines_of)(_words(text))


def _words(text: str) -> str:
    return _WRAPPED.sub(_shortened, _BLOB.sub(_shortened, _DATA.sub("data:", text)))


def _shortened(match: re.Match[str]) -> str:
    blob = match[0]
    # Base64 of anything has letters of both kinds and digits all over; a word that is drawn out has not.
    return "\n" * blob.count("\n") if len(set(blob)) > 30 else blob
