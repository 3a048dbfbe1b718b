"""What `host index` reads beside UTF-8: encodings, tables, JSON, notebooks, PDF, Word; and what it must survive."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from host.chunks import Chunk, Kind, Line, chunk
from host.documents import KINDS, Document
from host.readers import process as reading
from host.readers import worker
from host.readers.json_values import json_lines
from host.readers.lines import read_lines
from host.readers.process import ReadingProcess
from host.readers.table import table_lines
from host.readers.text import decoded
from host.readers.unreadable import Unreadable
from tests import host_files as files

TEXTS = {
    "en": "The café serves naïve customers; it is open “every day” of the week – except for Sunday.\n",
    "de": "Die Würde des Menschen ist unantastbar. Sie zu achten und zu schützen ist Verpflichtung.\n",
    "fr": "Il était une fois un café où l'on déjeunait très bien, à l'été, ça va.\n",
    "es": "Señor, ¿dónde está el baño? Mañana llegará el niño. ¡Qué día!\n",
    "zh": "人人生而自由，在尊严和权利上一律平等。他们赋有理性和良心，并应以兄弟关系的精神相对待。\n",
    "zh, code": "# 读取配置文件\ndef load(path):\n    return open(path).read()  # 返回结果\n",
    "ja": "すべての人間は、生まれながらにして自由であり、かつ、尊厳と権利とについて平等である。\n",
    "ko": "모든 인간은 태어날 때부터 자유로우며 그 존엄과 권리에 있어 동등하다.\n",
    "ru": "Все люди рождаются свободными и равными в своем достоинстве и правах.\n",
}
ENCODINGS = [
    *[("utf-16", name) for name in TEXTS],  # with a mark
    *[("utf-32", name) for name in ("en", "zh")],
    *[(encoding, name) for encoding in ("utf-16-le", "utf-16-be") for name in ("en", "zh", "ru")],  # without
    *[("utf-8-sig", name) for name in ("en", "zh")],
    *[("cp1252", name) for name in ("en", "de", "fr", "es")],
    *[("latin-1", name) for name in ("de", "fr", "es")],
    *[("gbk", name) for name in ("zh", "zh, code")],
    *[("gb18030", name) for name in ("zh", "zh, code")],
    ("big5", "ja"), ("shift_jis", "ja"), ("euc_jp", "ja"), ("cp949", "ko"), ("cp1251", "ru"), ("koi8_r", "ru"),
]  # fmt: skip


@pytest.mark.parametrize(("encoding", "name"), ENCODINGS, ids=" ".join)
@pytest.mark.parametrize("times", [1, 200])
def test_encodings_are_told(encoding: str, name: str, times: int) -> None:
    """A text comes back letter by letter from the encoding that it was written in, however much of it there is."""
    if encoding == "big5":
        name, text = "zh", "人人生而自由，在尊嚴和權利上一律平等。他們賦有理性和良心。\n" * times
    else:
        text = TEXTS[name] * times
    assert decoded(text.encode(encoding)) == text


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ('<!doctype html><meta charset="iso-8859-2"><p>Wszyscy ludzie rodzą się wolni', "iso-8859-2"),
        ('<meta http-equiv=Content-Type content="text/html; charset=windows-1255"><p>כל בני אדם', "cp1255"),
        ('<?xml version="1.0" encoding="Shift_JIS"?><p>表</p>', "shift_jis"),
        ("# -*- coding: latin-1 -*-\nname = 'é'\n", "latin-1"),
        ("# vim: set fileencoding=koi8-r :\n# я\n", "koi8-r"),
        ("<meta charset=iso-8859-1>“quoted”", "cp1252"),
        ("<meta charset=rot13>café", "latin-1"),  # no encoding of texts
        ("<meta charset=nonsense>café", "latin-1"),
        ("<meta charset=utf-8>café", "latin-1"),  # not true
    ],
)
def test_a_declared_encoding_counts(text: str, encoding: str) -> None:
    """What a page, XML or a source file declares decides, if there is such an encoding and it is true."""
    assert decoded(text.encode(encoding)) == text


@pytest.mark.parametrize("name", ["de", "fr", "zh", "ja", "ko", "ru"])
@pytest.mark.parametrize("damage", [b"\xff", "café été\n".encode("latin-1"), b"\xe4\xba"], ids=["byte", "line", "cut"])
@pytest.mark.parametrize("where", ["middle", "end"])
def test_one_bad_byte_does_not_lose_a_text(name: str, damage: bytes, where: str) -> None:
    """UTF-8 in which a byte is wrong, a line is of another encoding or the end is cut off is still read as UTF-8."""
    text = TEXTS[name] * 20
    content = text.encode() + damage + (text.encode() if where == "middle" else b"")
    read = decoded(content)
    assert read is not None
    assert read.count(TEXTS[name]) == 20 * (1 + (where == "middle"))


@given(st.text(), st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-32"]))
def test_what_has_a_mark_or_is_utf_8_is_never_guessed(text: str, encoding: str) -> None:
    """UTF-8 and what begins with a byte order mark is read as such, whatever it looks like."""
    if "\0" in text or (encoding == "utf-8" and text.startswith("\ufeff")):
        return  # UTF-16 that begins with a NUL looks as UTF-32 does
    assert decoded(text.encode(encoding)) == text


@given(st.binary(max_size=3000))
def test_any_bytes_are_a_text_or_none(content: bytes) -> None:
    """No bytes raise anything; what is no text is None."""
    text = decoded(content)
    assert text is None or isinstance(text, str)


@pytest.mark.slow
@pytest.mark.parametrize(
    "unit", [b"\xff", b"a\xe9", b"\xe9\n", b"\xb0\xa1\n", b"\xb0\xa1", b"\0a", b"a\0", b"\x81a ", b"a" * 999 + b"\xe9"]
)
def test_encodings_are_told_in_a_time_that_grows_with_the_size(unit: bytes) -> None:
    """Eight times as many bytes take about eight times as long, never thirty times."""
    assert any(
        _cpu(decoded, unit * (2**20 // len(unit))) < 30 * max(_cpu(decoded, unit * (2**17 // len(unit))), 0.02)
        for _ in range(3)
    )


def _cpu(call: Any, *arguments: Any) -> float:
    began = time.process_time()
    call(*arguments)
    return time.process_time() - began


# ---------------------------------------------------------------- tables and JSON

_CELLS = st.text(st.characters(codec="utf-8", exclude_characters="\0\r\n"), max_size=12)


@given(st.lists(st.lists(_CELLS, min_size=2, max_size=4), min_size=1, max_size=6), st.sampled_from(",;\t|"))
def test_every_cell_is_in_its_row(rows: list[list[str]], delimiter: str) -> None:
    """Every cell of a table, quoted or not, stands in the line of its row, which is numbered as in a spreadsheet."""
    written = io.StringIO()
    csv.writer(written, delimiter=delimiter, quoting=csv.QUOTE_ALL).writerows(rows)
    # The delimiter is told by what there is most of.
    lines = {line.number: line for line in table_lines((delimiter * 300 + "\r\n") + written.getvalue())}
    for number, row in enumerate(rows, start=2):
        for cell in row:
            if cell.strip():
                assert " ".join(cell.split()) in lines[number].text
                assert lines[number].place == f"row {number}"


def test_a_row_names_its_columns() -> None:
    """The names in the first row stand beside the values of each other one; cells may hold line ends."""
    text = 'name;born;"what, she did"\nAda;1815;"wrote\nprograms"\n\nGrace;1906;\n'
    assert [(line.place, line.text) for line in table_lines(text)] == [
        ("row 1", "name; born; what, she did"),
        ("row 2", "name: Ada; born: 1815; what, she did: wrote programs"),
        ("row 4", "name: Grace; born: 1906"),
    ]
    assert [line.text for line in table_lines("1,2\n3,4\n")] == ["1; 2", "3; 4"]


def test_json_says_where_a_value_stands() -> None:
    """JSON on one line is read as its values with their paths; what was written to be read keeps its lines."""
    value = {"users": [{"name": "Ada", "tags": ["x", None, True]}, {"a b": 1.50, "big": 10**30}], "end": ""}
    wide = json.dumps(value | {"pad": "p" * 3000})
    assert [line.text[:40] for line in json_lines(wide)] == [
        "users[0].name: Ada",
        "users[0].tags[0]: x",
        "users[0].tags[2]: true",
        'users[1]["a b"]: 1.5',
        f"users[1].big: {10**30}"[:40],
        "pad: " + "p" * 35,
    ]
    assert [line.place for line in json_lines(wide)][:2] == ["users[0].name", "users[0].tags[0]"]
    plain = json.dumps(value, indent=2)
    assert [(line.number, line.text) for line in json_lines(plain)] == list(enumerate(plain.split("\n"), start=1))
    for broken in ("{" + "x" * 3000, "[" * 100_000):
        assert "".join(line.text for line in json_lines(broken)) == broken


@given(
    st.recursive(
        st.text() | st.integers() | st.booleans(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
    )
)
@settings(max_examples=50)
def test_every_value_of_json_is_there(value: Any) -> None:
    """Of any JSON on one line every text and number is in a line."""
    lines = json_lines(json.dumps([value, "p" * 3000], ensure_ascii=False))
    told = "\n".join(line.text for line in lines)

    def check(value: Any) -> None:
        if isinstance(value, dict | list):
            for inner in value.values() if isinstance(value, dict) else value:
                check(inner)
        elif isinstance(value, str):
            assert " ".join(value.split()) in told
        else:
            assert json.dumps(value) in told

    check(value)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "unit"),
    [
        ("table", '"'), ("table", '"a""'), ("table", 'a"b,"c\n'), ("table", "a,b;c\t"), ("table", ","), ("table", "\n"),
        ("json", "["), ("json", '{"a":'), ("json", '"a",'), ("json", "\\"),
        ("json lines", "[1,2]\n"), ("json lines", '{"a":['),
        ("text", "A1b2" * 90 + "\n"), ("text", "Ab1+" * 16 + "\n"), ("text", "data:a;"), ("text", "data:a;b;base64,"),
    ],
)  # fmt: skip
def test_a_megabyte_of_data_is_read_in_time_that_grows_with_its_size(kind: Kind, unit: str) -> None:
    """Eight times as much takes about eight times as long, and never thirty times, cut into passages."""

    def read(size: int) -> None:
        text = unit * (size // len(unit))
        lines = read_lines(Document("x", kind, text.encode()), ReadingProcess())
        chunk(lines, kind, chars=1000, overlap=100)

    assert any(_cpu(read, 2**20) < 30 * max(_cpu(read, 2**17), 0.02) for _ in range(3))


# ---------------------------------------------------------------- what a process of its own reads


@pytest.fixture(scope="module")
def process() -> Iterator[ReadingProcess]:
    with ReadingProcess() as process:
        yield process


def passages(process: ReadingProcess, name: str, content: bytes, chars: int = 60) -> list[Chunk]:
    kind = KINDS[os.path.splitext(name)[1]]
    return chunk(read_lines(Document(name, kind, content), process), kind, chars=chars, overlap=0)


def test_a_pdf_is_cited_by_its_pages(process: ReadingProcess) -> None:
    """Of a PDF each passage names its page, or the first and last where it goes over more."""
    content = files.pdf("cats purr\nat night", "dogs bark", "and " * 14 + "so on")
    assert [(c.place, c.line, c.end_line, c.text.strip()) for c in passages(process, "a.pdf", content)] == [
        ("page 1 to page 2", 1, 2, "cats purr\nat night\n\ndogs bark"),
        ("page 3", 3, 3, "and " * 14 + "so"),
        ("page 3", 3, 3, "on"),
    ]


def test_a_word_document_is_cited_by_its_paragraphs(process: ReadingProcess) -> None:
    """Of a Word document headings make sections, a table's rows are a line each, and paragraphs are counted."""
    content = files.docx(
        files.paragraph("Guide", "Heading1")
        + files.paragraph("cats &amp; dogs")
        + files.paragraph("Prices", "Heading2")
        + files.table(["cat", "1"], ["dog", "2"])
    )
    assert [(c.heading, c.place, c.text) for c in passages(process, "a.docx", content)] == [
        ("Guide", "paragraph 1 to paragraph 2", "Guide\n\ncats & dogs"),
        ("Guide > Prices", "paragraph 3 to paragraph 5", "Prices\n\ncat 1\n\ndog 2"),
    ]


def test_a_notebook_is_cited_by_its_cells(process: ReadingProcess) -> None:
    """Of a notebook Markdown has its headings, code is kept together, and what it printed counts but for images."""
    outputs: list[dict[str, object]] = [
        {"output_type": "stream", "text": ["42\n"]},
        {"output_type": "display_data", "data": {"image/png": "iVBOR" * 1000}},
        {"output_type": "error", "ename": "ValueError", "evalue": "no"},
    ]
    content = files.notebook(("markdown", "# Cats\n\nThey purr.", []), ("code", "# not one\n\nx = 6 * 7\nx", outputs))
    assert [(c.heading, c.place, c.text) for c in passages(process, "a.ipynb", content, chars=200)] == [
        ("Cats", "cell 1 to cell 2", "# Cats\n\nThey purr.\n\n# not one\n\nx = 6 * 7\nx\n\n42\n\n\nValueError: no")
    ]
    old = json.dumps(
        {"worksheets": [{"cells": [{"cell_type": "heading", "level": 2, "source": "Old"}, {"input": "x"}]}]}
    )
    assert [(c.heading, c.text) for c in passages(process, "a.ipynb", old.encode())] == [("Old", "Old\n\nx")]


_SOUND = {
    "a.pdf": files.pdf("cats purr\nat night", "dogs bark"),
    "b.docx": files.docx(files.paragraph("Guide", "Heading1") + files.table(["cat", "1"], ["dog", "2"])),
    "c.ipynb": files.notebook(("markdown", "# Cats", []), ("code", "x", [{"output_type": "stream", "text": ["1"]}])),
}


def test_an_encrypted_pdf_is_called_one(process: ReadingProcess) -> None:
    """A PDF that needs a password says so."""
    import pypdf

    writer, content = pypdf.PdfWriter(io.BytesIO(files.pdf("secret"))), io.BytesIO()
    writer.encrypt("password", algorithm="RC4-128")
    writer.write(content)
    with pytest.raises(Unreadable, match=r"^encrypted PDF$"):
        passages(process, "a.pdf", content.getvalue())


def test_a_picture_of_text_is_called_one(process: ReadingProcess) -> None:
    """A PDF without any text is not taken for one that was read."""
    with pytest.raises(Unreadable, match=r"^PDF without text, pictures of it perhaps$"):
        passages(process, "a.pdf", files.pdf_of([b""]))


@pytest.mark.slow
@pytest.mark.parametrize("name", files.HOSTILE)
def test_a_hostile_file_is_survived(process: ReadingProcess, name: str) -> None:
    """What is made to hang, to eat memory or to crash is given up within bounds, and the next document is read."""
    content = files.HOSTILE[name]()
    with contextlib.suppress(Unreadable):
        passages(process, name, content)
    assert passages(process, "a.pdf", files.pdf("cats purr"))[0].text == "cats purr"


@pytest.mark.slow
@given(st.data())
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_damaged_file_is_read_or_named(process: ReadingProcess, data: st.DataObject) -> None:
    """A file that is changed, cut off or put together of two is read or called unreadable, and nothing else happens."""
    name = data.draw(st.sampled_from(sorted(_SOUND)))
    content = bytearray(_SOUND[name])
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(content)))
        change = data.draw(st.sampled_from(["byte", "cut", "repeat", "other"]))
        if change == "byte":
            content[at : at + 1] = data.draw(st.binary(min_size=1, max_size=2))
        elif change == "cut":
            del content[at : at + data.draw(st.integers(1, 200))]
        elif change == "repeat":
            content[at:at] = content[at : at + 100] * data.draw(st.integers(1, 20))
        else:
            content[at:] = _SOUND[data.draw(st.sampled_from(sorted(_SOUND)))][at:]
    with contextlib.suppress(Unreadable):
        for passage in passages(process, name, bytes(content)):
            assert passage.text.strip()
    assert passages(process, "a.pdf", files.pdf("cats purr"))[0].text == "cats purr"


def test_bombs_are_not_unpacked(process: ReadingProcess) -> None:
    """XML that grows by its entities and an archive that grows by a thousand are refused in no time."""
    with pytest.raises(Unreadable, match="damaged Word document"):
        passages(process, "a.docx", files.HOSTILE["a laughing document.docx"]())
    with pytest.raises(Unreadable, match="Word document too large inside"):
        passages(process, "a.docx", files.HOSTILE["a bomb.docx"]())


def test_nothing_outside_of_a_document_is_read(process: ReadingProcess, tmp_path: Path) -> None:
    """Neither an entity nor an image of a Word document opens a file of this machine."""
    secret = tmp_path / "secret.txt"
    secret.write_text("owned")
    dtd = f'<!DOCTYPE x [<!ENTITY e SYSTEM "{secret.as_uri()}">]>'
    try:
        found = passages(process, "a.docx", files.docx(files.paragraph("text &e;"), dtd))
    except Unreadable:
        found = []
    assert "owned" not in "".join(c.text for c in found)
    fifo = tmp_path / "fifo"  # whoever opened it would wait
    os.mkfifo(fifo)
    body, parts = files.linked_image(fifo.as_uri())
    found = passages(process, "a.docx", files.docx(body, parts=parts))
    assert [c.text for c in found] == ["a cat"]


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGXCPU"), reason="POSIX only")
def test_what_takes_too_long_or_too_much_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A reader that spins, eats memory or crashes is given up, which is named, and the next document is read."""
    (tmp_path / "sitecustomize.py").write_text(
        "import os, sys, types\n"
        "kept = []\n"
        "m = types.ModuleType('host.readers.notebook')\n"
        "def notebook_lines(content):\n"
        "    if content == b'spin':\n"
        "        while True: pass\n"
        "    if content == b'eat': return ['x' * 10**8 for _ in range(100)]\n"
        "    if content == b'crash': os.abort()\n"
        "    if content == b'keep': kept.append('x' * 10**8)\n"
        "    if content == b'print': print('hello'); os.write(1, b'hello')\n"
        "    from host.chunks import Line\n"
        "    return [Line(1, content.decode())]\n"
        "m.notebook_lines = notebook_lines\n"
        "sys.modules['host.readers.notebook'] = m\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(reading, "_CLOCK", 120)
    with ReadingProcess(memory=2**28, cpu_seconds=1) as process:
        for content, why in {
            b"spin": "takes too long to read",
            b"eat": "takes too much memory to read",
            b"crash": "crashes its reader",
        }.items():
            with pytest.raises(Unreadable, match=why):
                process.read("notebook", content)
            assert process.read("notebook", b"print") == [Line(1, "print")]
        for _ in range(6):  # what the others left behind counts against none
            assert process.read("notebook", b"keep") == [Line(1, "keep")]
    monkeypatch.setattr(reading, "_CLOCK", 0)
    with ReadingProcess() as process, pytest.raises(Unreadable, match="takes too long to read"):
        process.read("notebook", b"spin")


def test_too_much_text_is_refused_as_a_whole(process: ReadingProcess) -> None:
    """Of a document with more text than is taken nothing is read, and that is said."""
    content = files.notebook(("markdown", "word " * (worker.MOST_TEXT // 5 + 1), []))
    with pytest.raises(Unreadable, match=r"^over 4 million characters$"):
        passages(process, "a.ipynb", content)


def test_the_process_has_no_secret_and_does_not_stay(monkeypatch: pytest.MonkeyPatch, process: ReadingProcess) -> None:
    """The process has none of the host's environment, and is gone with it."""
    monkeypatch.setenv("SOME_API_KEY", "owned")
    with ReadingProcess() as own:
        own.read("pdf", files.pdf("cats purr"))
        assert own._process
        pid = own._process.pid
        if Path("/proc").exists():
            assert b"owned" not in Path(f"/proc/{pid}/environ").read_bytes()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
