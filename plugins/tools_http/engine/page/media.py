"""What a response holds, by its Content-Type and, where that says nothing, by its first bytes."""

from __future__ import annotations

import re

_CHARSET = re.compile(r"""charset\s{0,20}=\s{0,20}["']?([^\s"';,]{1,40})""", re.IGNORECASE)
_VAGUE = ("", "application/octet-stream", "application/x-unknown", "binary/octet-stream", "unknown/unknown", "*/*")
_HTML = re.compile(rb"<(?:!doctype\s+html|html|head|body|title|h[1-6]|div|p|table|a|b|br|script|style|meta|!--)[\s>]",
                   re.IGNORECASE)  # fmt: skip
_SNIFFED = 1024  # bytes


def media_type(content_type: str) -> tuple[str, str]:
    """The media type and the charset, in lower case; empty where there is none.

    >>> media_type('Text/HTML; Charset="UTF-8"')
    ('text/html', 'utf-8')
    """
    kind, _, parameters = content_type[:1000].partition(";")
    charset = _CHARSET.search(parameters)
    return kind.strip().lower(), charset[1].lower() if charset else ""


def sniffed(kind: str, body: bytes) -> str:
    """`kind`, or where it says nothing what the first bytes look like; empty for bytes that are no text."""
    start = body[:_SNIFFED]
    if kind not in _VAGUE:
        return kind
    if start.startswith(b"%PDF-"):
        return "application/pdf"
    text = start.lstrip(b"\xef\xbb\xbf \t\r\n\f")
    if text.startswith(b"<?xml"):
        return "application/xml"
    if _HTML.match(text):
        return "text/html"
    # As the MIME sniffing standard: these bytes stand in no text, but for UTF-16 with its mark.
    if re.search(rb"[\x00-\x08\x0b\x0e-\x1a\x1c-\x1f]", start) and not start.startswith((b"\xff\xfe", b"\xfe\xff")):
        return ""
    return "text/plain"
