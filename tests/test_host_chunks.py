"""How documents are cut: `host/chunks.py` and `host/readers/html.py`."""

from __future__ import annotations

import base64
import contextlib
import math
import random
import subprocess
import sys
import time
from itertools import pairwise
from typing import get_args

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from host.chunks import LONGEST_TITLE, Chunk, Kind, Line, chunk, lines_of
from host.documents import Document
from host.readers.html import html_lines
from host.readers.lines import read_lines
from host.readers.process import ReadingProcess
from host.readers.unreadable import Unreadable
from tests.servers import environment

_BYTES = random.Random(1).randbytes(20_000)  # of an image

# Documents out of the pieces that mean something to the cutter.
_PIECES = st.sampled_from(
    ["# One", "## Two", "```", "~~~~", "===", "---", "", " ", "  indented", "def f():", "word " * 9, "x" * 70, "a\tb"]
)
_TEXTS = st.one_of(st.lists(_PIECES, max_size=60).map("\n".join), st.text(max_size=400))
_KINDS = st.sampled_from([kind for kind in get_args(Kind) if kind != "html"])


def lines(kind: Kind, text: str) -> list[Line]:
    return read_lines(Document("x", kind, text.encode()), ReadingProcess())


def cut(text: str, kind: Kind = "markdown", chars: int = 1000, overlap: int = 100) -> list[Chunk]:
    return chunk(lines_of(text), kind, chars=chars, overlap=overlap)


@example(text=f"{'a ' * 15}\n\n{'b ' * 20}\n\n{'c ' * 45}", kind="text", chars=100, overlap=50)
@given(text=_TEXTS, kind=_KINDS, chars=st.integers(80, 300), overlap=st.integers(0, 40))
def test_every_line_is_in_a_chunk_word_for_word(text: str, kind: Kind, chars: int, overlap: int) -> None:
    """Every line that is not blank stands in a chunk whose line numbers enclose it; no chunk is blank or too long."""
    chunks = cut(text, kind, chars, overlap)
    lines = {line.number: line.text for line in lines_of(text)}
    for found in chunks:
        assert found.text.strip()
        assert len(found.text) <= chars
        assert found.line <= found.end_line
    for number, line in lines.items():
        if line.strip() and len(line) <= chars:
            assert any(line in c.text.split("\n") for c in chunks if c.line <= number <= c.end_line)


@given(text=_TEXTS, kind=_KINDS)
def test_a_chunk_is_its_run_of_lines(text: str, kind: Kind) -> None:
    """A chunk's text is exactly the lines from `line` to `end_line`, where no line had to be cut."""
    lines = [line.text if line.text.strip() else "" for line in lines_of(text)]
    for found in cut(text, kind, chars=500, overlap=50):
        assert found.text == "\n".join(lines[found.line - 1 : found.end_line])


@given(text=st.text(alphabet="ab. ", min_size=1, max_size=900), chars=st.integers(20, 100))
def test_a_line_that_is_too_long_is_cut_without_loss(text: str, chars: int) -> None:
    """A line longer than a chunk comes back whole when its pieces are put together."""
    pieces = cut("x" + text + "x", "text", chars, 0)
    assert "".join(piece.text for piece in pieces).replace(" ", "") == ("x" + text + "x").replace(" ", "")
    assert {(piece.line, piece.end_line) for piece in pieces} == {(1, 1)}


def test_markdown_sections_carry_their_heading_path() -> None:
    """Each Markdown section is a chunk of its own, under the path of its headings."""
    chunks = cut("intro\n\n# A\n\none\n\n## B\n\ntwo\n\n# C #\n\nthree\n")
    assert [(c.heading, c.line, c.end_line) for c in chunks] == [
        ("", 1, 1),
        ("A", 3, 5),
        ("A > B", 7, 9),
        ("C", 11, 13),
    ]


def test_underlined_headings_count() -> None:
    """A line of its own over === or --- is a heading; a table's rule and front matter are not."""
    chunks = cut("Top\n===\n\none\n\nSub\n---\n\ntwo\n")
    assert [c.heading for c in chunks] == ["Top", "Top > Sub"]
    assert [c.heading for c in cut("---\ntitle: x\n---\n\ntext\n")] == [""]


def test_a_heading_in_fenced_code_is_no_heading() -> None:
    """A `#` line inside of a fence starts no section, and a fence ends only at its own kind."""
    chunks = cut("# A\n\n```sh\n# not one\n~~~\n\n# nor this\n```\n\nafter\n")
    assert [(c.heading, c.line, c.end_line) for c in chunks] == [("A", 1, 10)]


def test_fenced_code_stays_whole_when_it_fits() -> None:
    """A fence with blank lines inside is not split between chunks where one chunk can hold it."""
    code = "```\n" + "\n\n".join(["x = 1"] * 8) + "\n```"
    chunks = cut("p " * 40 + "\n\n" + code + "\n\n" + "q " * 40, chars=120, overlap=0)
    assert code in [c.text for c in chunks]


def test_a_heading_without_text_goes_with_the_next_section() -> None:
    """No chunk is a bare heading while there is text after it."""
    assert [(c.heading, c.line) for c in cut("# A\n\n## B\n\ntext\n")] == [("A > B", 1)]
    assert [(c.heading, c.text) for c in cut("text\n\n# Last\n")] == [("", "text"), ("Last", "# Last")]


def test_chunks_overlap_by_whole_lines_within_a_section() -> None:
    """A chunk starts with the last lines of the one before, up to `overlap` characters, but not across headings."""
    text = "\n\n".join(f"paragraph {n} " + "x" * 28 for n in range(6)) + "\n\n# New\n\nother"
    chunks = cut(text, chars=100, overlap=50)
    assert all(b.line <= a.end_line for a, b in pairwise(chunks[:-1]))
    assert chunks[-1].text == "# New\n\nother"


def test_source_is_cut_before_top_level_definitions() -> None:
    """A source file is cut where a definition starts, not at the blank lines inside of one."""
    body = "\n\n".join("    x = 1" for _ in range(6))
    text = f"def a():\n{body}\n\n\ndef b():\n{body}\n\n\ndef c():\n{body}\n"
    assert [c.text.split("\n")[0] for c in cut(text, "source", chars=100, overlap=0)] == [
        "def a():",
        "def b():",
        "def c():",
    ]


def test_line_ends_of_all_kinds_count_once() -> None:
    """Windows and old Mac line ends give the numbers that an editor shows, and a form feed is no line end."""
    assert [(line.number, line.text) for line in lines_of("a\r\nb\rc\nd\x0ce")] == [
        (1, "a"),
        (2, "b"),
        (3, "c"),
        (4, "d\x0ce"),
    ]


_PAGE = """<!doctype html>
<html><head><title>T</title><style>p { color: red }</style></head>
<body><nav><a href="/">home</a></nav>
<h1>Guide &amp;
 more</h1>
<p>First <b>bold</b>&#10;word
second line</p><p>same line</p>
<script>
var hidden = "<p>no</p>";
</script>
<pre>
  kept

  as is
</pre>
<h2>Sub</h2>
<ul><li>one<li>two</ul>
<table><tr><td>a</td><td>b</td></tr></table>
</body></html>
"""


def test_html_gives_visible_text_with_source_line_numbers() -> None:
    """Visible text only, with the line numbers of the source; script, style and nav are left out."""
    found = [(line.number, line.text) for line in html_lines(_PAGE) if line.text]
    assert found == [
        (2, "T"),
        (4, "Guide & more"),
        (6, "First bold word"),
        (7, "second line"),
        (7, "same line"),
        (12, "  kept"),
        (14, "  as is"),
        (16, "Sub"),
        (17, "one"),
        (17, "two"),
        (18, "a b"),
    ]


def test_html_headings_make_sections() -> None:
    """An HTML document is cut at h1 to h6, under the path of its headings."""
    chunks = chunk(html_lines(_PAGE), "html", chars=1000, overlap=100)
    assert [(c.heading, c.line, c.end_line) for c in chunks] == [
        ("Guide & more", 2, 14),
        ("Guide & more > Sub", 16, 18),
    ]


@example(words=["</p>", "\n", "word"])
@example(words=["\n", "<!-- c -->", "\n", "word"])
@example(words=["<p>", "\n", "<!-- c -->", "word"])
@given(words=st.lists(st.sampled_from(["word", "<p>", "</p>", "<b>", "</b>", "<br>", "\n", "&lt;", "<!-- c -->"])))
def test_html_keeps_every_visible_word_on_its_line(words: list[str]) -> None:
    """However tags are nested, every word of the source is found on its own source line."""
    text = " ".join(words)
    expected = [number for number, line in enumerate(text.split("\n"), 1) for word in line.split() if word == "word"]
    got = [line.number for line in html_lines(text) for word in line.text.split() if word == "word"]
    assert got == expected


def test_a_heading_is_its_words() -> None:
    """A heading's marks before and behind are not its words; what only looks like a mark is."""
    for line, heading in {
        "# One": "One",
        "## Two ##": "Two",
        "###   Three   #  ": "Three",
        "# C#": "C#",
        "# F# #": "F#",
        "# a # b": "a # b",
        "   # deep": "deep",
    }.items():
        assert [c.heading for c in cut(f"{line}\n\ntext\n")] == [heading], line


def test_a_long_heading_is_not_kept_a_thousand_times() -> None:
    """Of a heading each chunk below it keeps LONGEST_TITLE characters; its own line is cut like any other."""
    chunks = cut("# " + "x" * 500_000 + "\n\n" + "## " + "y" * 500_000 + "\n\n" + "text\n\n" * 5000)
    assert sum(len(found.heading) for found in chunks) <= len(chunks) * (2 * LONGEST_TITLE + len(" > "))
    assert sum(found.text.count("x") for found in chunks) >= 500_000


# Read in time that grows with the square of their length, each of these takes minutes.
_SIZE = 256 * 1024
_HOSTILE: dict[str, tuple[Kind, str]] = {
    "heading of blanks": ("markdown", "# a" + " " * (_SIZE - 4) + "b"),
    "blank lines in one block": ("source", "f\n" + "  x\n\n" * (_SIZE // 5 - 1)),
    "blank lines in code": ("markdown", "```\n" + "x\n\n" * (_SIZE // 3 - 2)),
    "one line": ("text", "x" * _SIZE),
    "line ends": ("markdown", "\n" * _SIZE),
    "tags without end": ("html", "<a " * (_SIZE // 3)),
    "end tags without end": ("html", "</a " * (_SIZE // 4)),
    "quotes without end": ("html", "<a b='" * (_SIZE // 6)),
    "comments without end": ("html", "<!--" * (_SIZE // 4)),
    "declarations without end": ("html", "<!" * (_SIZE // 2)),
    "instructions without end": ("html", "<?" * (_SIZE // 2)),
    "scripts without end": ("html", "<script></scrip" * (_SIZE // 15)),
    "less-than": ("html", "<" * _SIZE),
    "pieces of one line": ("html", "<p>" + "<b>x</b>" * (_SIZE // 8 - 1)),
    "references": ("html", "&" * _SIZE),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", _HOSTILE)
def test_no_document_takes_long(name: str) -> None:
    """A document of 256 KiB costs a second of CPU time at most, whatever is in it; twenty times that fails."""
    pytest.importorskip("resource")
    code = (
        "import resource; resource.setrlimit(resource.RLIMIT_CPU, (20, 20))\n"
        "from tests.test_host_chunks import _HOSTILE\n"
        "from host.documents import Document\n"
        "from host.chunks import chunk\n"
        "from host.readers.lines import read_lines\n"
        "from host.readers.process import ReadingProcess\n"
        f"kind, text = _HOSTILE[{name!r}]\n"
        "assert 250_000 < len(text) <= 256 * 1024\n"
        "chunk(read_lines(Document('x', kind, text.encode()), ReadingProcess()), kind, chars=100, overlap=50)\n"
    )
    assert subprocess.run([sys.executable, "-c", code], env=environment(), check=False).returncode == 0


def test_html_that_is_broken_reads_as_in_a_browser() -> None:
    """Stray signs are text, comments of every form are none, and what never ends takes only the rest with it."""
    for source, seen in {
        "a < b <3 <1": "a < b <3 <1",
        "a <!-- <p> --> b <!doctype x> c <? php ?> d </ e> f": "a b c d f",
        "a <!--> b": "a b",
        "a <b title='x > y' c>b</b> <i =\">c</i>": "a b c",
        "a <b \"'>b</b>": "a b",
        "a <textarea><p>b</textarea> c": "a <p>b c",
        "a <script>'</scrip' < b</script > c": "a c",
        "a <b": "a",
        "a <!-- b": "a",
        "a <nav>b <p>c": "a b c",
        "a <nav>b</nav> c": "a c",
        "a <svg>b <p>c": "a b c",
        "a <svg><title>b</title></svg> c": "a c",
        "<title>a <p>b": "a <p>b",
        "R&D, Q&A &c; AT&T; &ampx": "R&D, Q&A &c; AT&T; &x",
        "<select><option>a<option>b</select><button>c</button><button>d</button>": "a b c d",
        "<title>a</title>b <img src=x alt=' a  picture '>c": "a b a picture c",
        "<table><tr><td>a<td>b<th>c</table>": "a b c",
        "a &lt;b&gt; &amp &#65; &#x41; &nosuch; &#" + "9" * 5000 + "; b": "a <b> & A A &nosuch; \ufffd b",
    }.items():
        assert " ".join(line.text for line in html_lines(source) if line.text) == seen, source


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["markdown", "source", "text", "html"])
@pytest.mark.parametrize(
    "unit",
    [
        "```\n",
        "- a: 1\n",
        "x\n\n",
        "<p>a <b>b</b>\n",
        "<nav>\n",
        "# h\n",
        "| a | b |\n",
        "data:image/png;base64,",
        "  ",
    ],
)
def test_a_megabyte_is_cut_in_time_that_grows_with_its_size(kind: Kind, unit: str) -> None:
    """Eight times as much takes about eight times as long, never thirty times, and a mebibyte about a second."""
    # Once is enough: what is linear looks like the square by chance, never the other way round.
    assert any(is_linear(kind, unit, 2**20, at_most=10) for _ in range(3))


@pytest.mark.slow
@given(
    unit=st.lists(
        st.sampled_from(
            [
                *"#=-~`<>!&;:{}[]()|*+\"'/\\ \t\n",
                "a",
                "B2",
                "é",
                "--",
                "<!--",
                "-->",
                "```",
                "data:",
                ";base64,",
                "<p>",
                "</p>",
                "<table>",
                "<svg>",
                "<title>",
            ]
        ),
        min_size=1,
        max_size=5,
    ).map("".join),
    kind=st.sampled_from(["markdown", "source", "text", "html", "table", "json", "json lines"]),
)
@settings(max_examples=40, deadline=None)
def test_anything_is_cut_in_time_that_grows_with_its_size(unit: str, kind: Kind) -> None:
    """Whatever is repeated, as whatever kind of document: eight times as much never takes thirty times as long."""
    assert any(is_linear(kind, unit, 2**17) for _ in range(3))


def is_linear(kind: Kind, unit: str, size: int, at_most: float = math.inf) -> bool:
    """Whether `size` takes less than `at_most` seconds and less than thirty times an eighth of it."""
    whole = seconds(kind, unit, size)
    return whole < at_most and whole < 30 * max(seconds(kind, unit, size // 8), 0.005)


def seconds(kind: Kind, unit: str, size: int) -> float:
    """Of the processor, to read and cut a document that is `unit` again and again."""
    text = unit * (size // len(unit))
    began = time.process_time()
    with contextlib.suppress(Unreadable):  # control characters
        chunk(lines(kind, text), kind, chars=1000, overlap=100)
    return time.process_time() - began


def test_comments_are_no_headings() -> None:
    """What begins with # in front matter or in an HTML comment is no heading; behind it headings are."""
    text = "---\n# a comment\ntitle: x\n---\n<!--\n# no\n-->\n<!-- # neither -->\n# yes\n\nwords\n"
    text += "<!-- a --> b\n## two\n\nmore\n"
    assert [found.heading for found in cut(text)] == ["", "yes", "yes > two"]
    assert [found.heading for found in cut("---\n# yes\n\nwords\n")] == ["", "yes"]
    assert [found.heading for found in cut("+++\n# a comment\ntitle = 1\n+++\n# yes\n\nwords\n")] == ["", "yes"]
    # Four blanks make it code, which no comment begins in.
    assert [found.heading for found in cut("    <!-- code\n\n# yes\n\nwords\n")] == ["", "yes"]


@pytest.mark.parametrize(
    "image",
    [
        "data:image/png;base64," + base64.b64encode(_BYTES).decode(),
        "data:image/svg+xml;charset=utf-8;name=a_b;base64," + base64.b64encode(_BYTES).decode(),
        "data:image/png;base64," + base64.b64encode(_BYTES).decode().replace("+", "%2B").replace("/", "%2F"),
        base64.urlsafe_b64encode(_BYTES).decode(),
        "\n" + base64.encodebytes(_BYTES).decode(),
        "\r\n" + base64.encodebytes(_BYTES).decode().replace("\n", "\r\n"),
    ],
    ids=["data", "parameters", "in a URL", "bare", "wrapped", "wrapped for mail"],
)
def test_an_image_within_a_text_gives_no_passages(image: str) -> None:
    """Of an image in base64 nothing is left but the words beside it, in Markdown, HTML and plain text."""
    for kind, text in (
        ("markdown", f"![a cat]({image}) words"),
        ("html", f"<img src={image}> words"),
        ("text", f"{image} words"),
    ):
        found = chunk(lines(kind, text), kind, chars=500, overlap=0)  # type: ignore[arg-type]
        assert len(found) == 1
        assert "words" in found[0].text
        assert len("".join(found[0].text.split())) < 120
        ends = image.count("\n")
        assert (found[0].line, found[0].end_line) in ((1, 1 + ends), (1 + ends, 1 + ends))


def test_long_words_are_kept() -> None:
    """What is long and regular without being base64 stays: a drawn-out letter, a rule, a table of numbers."""
    for word in ("x" * 900, "a" * 500 + "b" * 500, "0123456789" * 90, "=" * 70 + "\n", "1234567890" * 7 + "\n"):
        text = word * 9
        assert "".join(line.text for line in lines("text", text)) == text.replace("\n", "")
