"""Files of the kinds that only libraries read, small and made by hand: PDF, Word, notebooks; and hostile ones."""

from __future__ import annotations

import io
import json
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence

_TYPES = "http://schemas.openxmlformats.org/package/2006/content-types"
_RELATIONS = "http://schemas.openxmlformats.org/package/2006/relationships"
_WORD = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
_OFFICE = "http://schemas.openxmlformats.org/officeDocument/2006/relationships/officeDocument"


def pdf(*pages: str, trailer: str = "") -> bytes:
    """A page of each text, a line of the one as one of the other."""
    streams = []
    for text in pages:
        shown = "".join(f"({line}) Tj T* " for line in text.split("\n"))
        streams.append(f"BT /F1 12 Tf 14 TL 72 720 Td {shown} ET".encode())
    return pdf_of(streams, trailer)


def pdf_of(streams: Sequence[bytes], trailer: str = "", about: str = "") -> bytes:
    """A page of each content stream, which `about` describes beside its length."""
    kids = " ".join(f"{4 + 2 * at} 0 R" for at in range(len(streams)))
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        f"<< /Type /Pages /Kids [{kids}] /Count {len(streams)} >>".encode(),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    ]
    for at, stream in enumerate(streams):
        objects.append(
            f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents {5 + 2 * at} 0 R "
            "/Resources << /Font << /F1 3 0 R >> >> >>".encode()
        )
        head = f"<< /Length {len(stream)} {about} >>\nstream\n".encode()
        objects.append(head + stream + b"\nendstream")
    content, offsets = b"%PDF-1.4\n", []
    for number, text in enumerate(objects, start=1):
        offsets.append(len(content))
        content += b"%d 0 obj\n%s\nendobj\n" % (number, text)
    table = "".join(f"{offset:010} 00000 n \n" for offset in offsets)
    return (
        content
        + (
            f"xref\n0 {len(objects) + 1}\n0000000000 65535 f \n{table}"
            f"trailer << /Size {len(objects) + 1} /Root 1 0 R {trailer} >>\nstartxref\n{len(content)}\n%%EOF"
        ).encode()
    )


def docx(body: str, dtd: str = "", parts: Mapping[str, bytes] | None = None) -> bytes:
    """A Word document; `paragraph` makes what its body is of. `parts` are further files in word/."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("[Content_Types].xml", f'<Types xmlns="{_TYPES}"/>')
        relation = f'<Relationship Id="r1" Type="{_OFFICE}" Target="word/document.xml"/>'
        archive.writestr("_rels/.rels", f'<Relationships xmlns="{_RELATIONS}">{relation}</Relationships>')
        archive.writestr(
            "word/document.xml",
            f'<?xml version="1.0"?>{dtd}<w:document xmlns:w="{_WORD}"><w:body>{body}</w:body></w:document>',
        )
        for name, part in (parts or {}).items():
            archive.writestr(f"word/{name}", part)
    return content.getvalue()


def paragraph(text: str, style: str = "") -> str:
    styled = f'<w:pPr><w:pStyle w:val="{style}"/></w:pPr>' if style else ""
    return f"<w:p>{styled}<w:r><w:t>{text}</w:t></w:r></w:p>"


def linked_image(target: str) -> tuple[str, dict[str, bytes]]:
    """A paragraph with an image that is not in the document, and the part that says where it is."""
    about = 'xmlns:wp="http://schemas.openxmlformats.org/drawingml/2006/wordprocessingDrawing"'
    about += ' xmlns:a="http://schemas.openxmlformats.org/drawingml/2006/main"'
    about += ' xmlns:pic="http://schemas.openxmlformats.org/drawingml/2006/picture"'
    about += ' xmlns:r="http://schemas.openxmlformats.org/officeDocument/2006/relationships"'
    picture = '<pic:pic><pic:blipFill><a:blip r:link="r9"/></pic:blipFill></pic:pic>'
    drawing = f'<wp:docPr descr="a cat"/><a:graphic><a:graphicData>{picture}</a:graphicData></a:graphic>'
    kind = "http://schemas.openxmlformats.org/officeDocument/2006/relationships/image"
    relation = f'<Relationship Id="r9" Type="{kind}" Target="{target}" TargetMode="External"/>'
    relations = f'<Relationships xmlns="{_RELATIONS}">{relation}</Relationships>'
    body = f"<w:p><w:r><w:drawing><wp:inline {about}>{drawing}</wp:inline></w:drawing></w:r></w:p>"
    return body, {"_rels/document.xml.rels": relations.encode()}


def table(*rows: Sequence[str]) -> str:
    cells = ("".join(f"<w:tc>{paragraph(cell)}</w:tc>" for cell in row) for row in rows)
    return f"<w:tbl>{''.join(f'<w:tr>{row}</w:tr>' for row in cells)}</w:tbl>"


def notebook(*cells: tuple[str, str, list[dict[str, object]]]) -> bytes:
    """Of each cell the kind, the source and the outputs."""
    return json.dumps(
        {
            "nbformat": 4,
            "cells": [
                {"cell_type": kind, "source": source.splitlines(keepends=True), "outputs": outputs}
                for kind, source, outputs in cells
            ],
        }
    ).encode()


# ---------------------------------------------------------------- hostile


def _twice(content: bytes) -> bytes:
    return zlib.compress(zlib.compress(content))


_LAUGHS = "".join(f'<!ENTITY a{n} "{f"&a{n - 1};" * 10}">' for n in range(1, 10))
HOSTILE: dict[str, Callable[[], bytes]] = {
    "a laughing document.docx": lambda: docx(paragraph("&a9;"), f'<!DOCTYPE x [<!ENTITY a0 "lol">{_LAUGHS}]>'),
    "a bomb.docx": lambda: docx("", parts={"bomb": b"\0" * (2**25 + 1)}),
    "a bomb of XML.docx": lambda: docx("<w:p>" + "<w:r/>" * (2**20 // 6) + "</w:p>"),
    "deep.docx": lambda: docx("<w:ins>" * 100_000 + "</w:ins>" * 100_000),
    "no zip.docx": lambda: b"PK\x03\x04" + b"x" * 1000,
    "a bomb.pdf": lambda: pdf_of([_twice(b"(x) Tj " * 2**24)], about="/Filter [/FlateDecode /FlateDecode]"),
    "many words.pdf": lambda: pdf_of(
        [zlib.compress(b"BT /F1 12 Tf " + b"(x) Tj " * 2**20)], about="/Filter /FlateDecode"
    ),
    "deep.pdf": lambda: pdf_of([b"[" * 500_000]),
    "no pages.pdf": lambda: b"%PDF-1.4\n" + b"1 0 obj\n" * 10_000,
    "round.pdf": lambda: pdf("x", trailer="/Prev 9"),
    "deep.ipynb": lambda: b"[" * 2**24,
    "wide.ipynb": lambda: b'{"cells": [' + b"[]," * 2**21 + b"[]]}",
    "odd.ipynb": lambda: b'{"cells": [{"source": 7}]}',
}
