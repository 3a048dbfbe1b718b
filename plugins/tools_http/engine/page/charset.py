"""Bytes of a page → text, as the WHATWG encoding standard has it.

In this order: a byte order mark, the charset of the Content-Type, the `<meta>` of the first 1024 bytes, UTF-8 where the
bytes are that, and only then what they look like. Labels mean what browsers make of them: `iso-8859-1` is windows-1252,
`gb2312` is gb18030. Decoders, prescan and detector are turbohtml's, made from the standard's tables: Python's codecs
differ from it (`big5`, `koi8-u`), and some of their names are no charsets at all (`rot13`).
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator

import turbohtml
from turbohtml.detect import detect

_MARKS = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16le"), (codecs.BOM_UTF16_BE, "utf-16be"))
_PRESCAN = 1024  # bytes in which a <meta> or an XML declaration counts
_DETECTED = 2**16  # bytes that are looked at to find out a charset
_WRONG = 0.1  # of what is not ASCII: with more of it undecodable, the declared charset is not the text's
_XML = re.compile(rb"""\s{0,100}<\?xml\s[^>]{0,200}?encoding\s{0,20}=\s{0,20}["']([A-Za-z0-9._:-]{1,40})""")
_LABEL = re.compile(r"[A-Za-z0-9._:-]{1,40}")
_BAD = "\ufffd"


def decode(body: bytes, declared: str = "", *, markup: bool = False) -> tuple[str, str]:
    """The text and the encoding that gave it. `declared` is the charset of the Content-Type; `markup` says that a
    `<meta>` and an XML declaration count. What cannot be decoded becomes U+FFFD.

    >>> decode("€".encode("windows-1252"), "iso-8859-1")
    ('€', 'iso-8859-1')
    """
    for mark, name in _MARKS:
        if body.startswith(mark):
            return body[len(mark) :].decode(name, "replace"), name
    standard: tuple[str, str] | None = None
    for label in _declared(body, declared, markup):
        text = _decoded(body, label)
        if not _is_garbage(text):
            return text, label
        standard = standard or (text, label)
    if b"\x1b$" not in body:  # as in ISO-2022-JP, which is ASCII to the eye
        try:
            return body.decode("utf-8"), "utf-8"
        except UnicodeDecodeError:
            pass
    # Without its tags, or the detector would take the word of a <meta> that has been heard.
    guess = (detect(body[:_DETECTED].replace(b"<", b" ")).encoding or "windows-1252").lower()
    text = _decoded(body, guess)
    # A declared charset that is wrong gives way only to one that leaves nothing undecoded.
    return standard if standard and _BAD in text else (text, guess)


def _declared(body: bytes, declared: str, markup: bool) -> Iterator[str]:
    if is_label(declared):
        yield declared.strip().lower()
    if not markup:
        return
    start = body[:_PRESCAN]
    if (match := _XML.match(start)) and is_label(label := match[1].decode()):
        # Bytes in which this can be read are not UTF-16, whatever it says.
        yield "utf-8" if label.lower().startswith("utf-16") else label.lower()
    found = turbohtml.parse(start, positions=False)
    name = (found.encoding or "").lower()
    if found.encoding_confidence == "certain" or name not in ("utf-8", "windows-1252"):
        yield name


def is_label(label: str) -> bool:
    """Whether it names an encoding of the standard, whose `replacement` is none."""
    label = label.strip()
    if not _LABEL.fullmatch(label):
        return False
    try:
        return "e" in b"e e".decode(f"whatwg-{label}") or label.lower().startswith("utf-16")
    except (LookupError, UnicodeError):
        return False


def _decoded(body: bytes, label: str) -> str:
    if label in ("utf-8", "utf8"):
        return body.decode("utf-8", "replace")
    return body.decode(f"whatwg-{label}")


def _is_garbage(text: str) -> bool:
    bad = text.count(_BAD)
    if not bad:
        return False
    return bad > _WRONG * sum(not char.isascii() for char in text)
