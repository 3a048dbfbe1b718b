"""Bytes of a text in an encoding that nobody names → str."""

from __future__ import annotations

import codecs
import contextlib
import re

from charset_normalizer import CharsetMatch, from_bytes
from charset_normalizer.constant import IANA_SUPPORTED

# UTF-32's mark begins with UTF-16's.
_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
# Of the encodings of a language the one that holds the others: Latin-1 is in cp1252, GBK in GB 18030. In the order in
# which they are meant where two give equally likely texts.
_OTHERS = ["gb18030", "euc_jp", "cp932", "big5", "cp949", "cp1251", "koi8_r", "cp1253", "cp1252", "cp1250", "cp1254"]
_UTF_16 = ["utf_16_le", "utf_16_be"]
# The ways to declare one: HTML, XML, Python, Emacs, Vim.
_DECLARED = re.compile(rb"(?:charset|coding|encoding)[=:]\s{0,9}[\"']?([A-Za-z0-9._-]{2,40})")
_HEAD = 1024  # bytes; HTML has to say it within them
_ENCODINGS = frozenset(IANA_SUPPORTED) - {"utf_7"}  # Python has others, which are none of texts
_SAMPLE = 2**16  # bytes that tell which of these it may be
_SOUND_PER_DAMAGED = 5  # letters beyond ASCII
_HIGH = re.compile(rb"[\x80-\xff]+")
_LETTERS = re.compile(rb"[A-Za-z]")
_NOT_TEXT = re.compile(rb"[\x00-\x06\x0e-\x1a\x7f]")  # no text of one byte a letter has them
_SIGN_IN_A_WORD = re.compile("[a-z][¡-¿][a-z]")
_HALF_WIDTH = re.compile("[｡-ﾟ]")


def decoded(content: bytes) -> str | None:
    """The text, without byte order mark; None where it is none, or of an encoding that cannot be told."""
    try:
        for mark, encoding in _MARKS:
            if content.startswith(mark):
                return content[len(mark) :].decode(encoding)
        if b"\0" not in content:
            return content.decode("utf-8")
    except UnicodeDecodeError:
        pass
    if b"\0" in content:
        return _likely(content, content, _UTF_16)
    if _NOT_TEXT.search(content):
        return None
    declared = _declared(content)
    if declared is not None:
        return declared
    damaged = _damaged_utf_8(content)
    if damaged is not None:
        return damaged
    sample = _sample(content)
    runs = _HIGH.findall(sample)
    # Letters with accents stand alone among more of ASCII; those of other scripts stand together.
    alone = 2 * sum(len(run) == 1 for run in runs) > len(runs)
    few = 2 * sum(map(len, runs)) < len(_LETTERS.findall(sample))
    return _latin(content) if alone and few else _likely(content, sample, _OTHERS)


def _declared(content: bytes) -> str | None:
    """In the encoding that a page, XML or a source file says it is in, where that is one, and true."""
    match = _DECLARED.search(content[:_HEAD])
    name = match[1].decode().lower().replace("_", "-") if match else ""
    with contextlib.suppress(LookupError):
        encoding = codecs.lookup(name).name.replace("-", "_")
        # Of what is called Latin-1 some is not.
        names = ("cp1252", encoding) if encoding == "iso8859_1" else (encoding,)
        if encoding in _ENCODINGS:
            return next((text for name in names if (text := _in(content, name)) is not None), None)
    return None


def _damaged_utf_8(content: bytes) -> str | None:
    """UTF-8 with a wrong byte or line: no other encoding has so many of its sequences by chance."""
    text = content.decode("utf-8", "replace").removeprefix("\ufeff")
    beyond_ascii = len(text) - len(text.encode("ascii", "ignore"))
    return text if beyond_ascii >= _SOUND_PER_DAMAGED * text.count("\ufffd") else None


def _sample(content: bytes) -> bytes:
    """Lines that are not ASCII, each once, since little is told by others."""
    lines: dict[bytes, None] = {}
    size = 0
    for line in content.split(b"\n"):
        if not line.isascii() and line not in lines:
            lines[line] = None
            size += len(line) + 1
            if size >= _SAMPLE:
                break
    return b"\n".join(lines)


def _latin(content: bytes) -> str | None:
    """Western European, unless its signs would stand within words, where Eastern European has letters."""
    text = _in(content, "cp1252")
    if text is None or _SIGN_IN_A_WORD.search(text):
        text = _in(content, "cp1250") or text
    return text


def _likely(content: bytes, sample: bytes, encodings: list[str]) -> str | None:
    """`content` in that of `encodings` in which `sample` looks most like a text."""
    # Of a long line the cut may go through a letter.
    cuts = range(4) if len(sample) > _SAMPLE else (0,)
    matches = next((m for cut in cuts if (m := list(from_bytes(sample[: _SAMPLE - cut], cp_isolation=encodings)))), [])
    best = min(map(_rank, matches), default=None)
    as_good = {name for match in matches if _rank(match) == best for name in _names(match)}
    for encoding in sorted(as_good, key=encodings.index):
        text = _in(content, encoding)
        # Letters of half a width are what other scripts look like in Japanese.
        if text is not None and "\0" not in text and (len(as_good) == 1 or not _HALF_WIDTH.search(text)):
            return text
    return None


def _names(match: CharsetMatch) -> list[str]:
    return [match.encoding, *match.could_be_from_charset]


def _rank(match: CharsetMatch) -> tuple[float, float]:
    return match.chaos, -match.coherence


def _in(content: bytes, encoding: str) -> str | None:
    try:
        return content.decode(encoding)
    except UnicodeDecodeError:
        return None
