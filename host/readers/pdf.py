"""PDF as the lines of its pages, by pypdf. To be called in a process with bounds."""

from __future__ import annotations

import io
import logging

import pypdf
from pypdf.errors import DependencyError, FileNotDecryptedError, LimitReachedError

from host.chunks import Line, lines_of
from host.readers.unreadable import Unreadable


def pdf_lines(content: bytes) -> list[Line]:
    """Raises Unreadable. A page that cannot be read makes the document unreadable: none is left out unsaid."""
    logging.getLogger("pypdf").setLevel(logging.CRITICAL + 1)  # it quotes what it reads
    try:
        reader = pypdf.PdfReader(io.BytesIO(content))
        if reader.is_encrypted and not reader.decrypt(""):
            raise Unreadable("encrypted PDF")
        lines: list[Line] = []
        for number, page in enumerate(reader.pages, start=1):
            place = f"page {number}"
            lines += [Line(number, line.text, place=place) for line in lines_of(page.extract_text().strip("\n"))]
            lines.append(Line(number, "", place=place))
    except (DependencyError, FileNotDecryptedError):  # a way of encrypting that needs another library
        raise Unreadable("encrypted PDF") from None
    except LimitReachedError:
        raise Unreadable("PDF too large inside") from None
    except (Unreadable, MemoryError):
        raise
    except Exception:
        raise Unreadable("damaged PDF") from None
    if not any(line.text.strip() for line in lines):
        raise Unreadable("PDF without text, pictures of it perhaps")
    return lines
