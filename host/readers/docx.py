"""Word documents as the lines of their paragraphs, by mammoth. To be called in a process with bounds."""

from __future__ import annotations

import io
import zipfile

import mammoth

from host.chunks import Line
from host.readers.html import html_lines
from host.readers.unreadable import Unreadable

_MOST_INSIDE = 2**25  # bytes of all but pictures, unpacked


def docx_lines(content: bytes) -> list[Line]:
    """Paragraphs, list items and table rows are numbered from 1. Raises Unreadable."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            # No more is ever unpacked than is declared.
            if sum(part.file_size for part in archive.infolist() if not _is_media(part.filename)) > _MOST_INSIDE:
                raise Unreadable("Word document too large inside")
        html = mammoth.convert_to_html(
            io.BytesIO(content),
            include_embedded_style_map=False,
            external_file_access=False,
            convert_image=mammoth.images.img_element(lambda image: {}),  # but its description
        ).value
    except (Unreadable, MemoryError):
        raise
    except Exception:
        raise Unreadable("damaged Word document") from None
    lines: list[Line] = []
    number = 0
    # A row of a table is one line.
    for line in html_lines(html.replace("<td><p>", "<td>").replace("</p></td>", "</td>")):
        number += bool(line.text)
        lines.append(line._replace(number=max(number, 1), place=f"paragraph {max(number, 1)}"))
    return lines


def _is_media(name: str) -> bool:
    return name.startswith("word/media/")
