"""fetch_page against oracles: all visible text comes through, reads as itself in Markdown, and no bytes do harm."""

from __future__ import annotations

import html as escapes
import re
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from tests.page_tools import converted

_READER = MarkdownIt("commonmark", {"html": False}).enable(["table", "strikethrough"])


class Part(NamedTuple):
    html: str
    text: str  # what a reader sees of it


def read(markdown: str) -> tuple[str, list[str]]:
    """What a reader of Markdown sees, and where its links lead."""
    seen: list[str] = []
    links: list[str] = []
    for token in _READER.parse(markdown):
        for child in token.children or ():
            seen.append(child.content if child.type in ("text", "code_inline") else " ")
            if child.type == "link_open":
                links.append(str(child.attrs["href"]))
            elif child.type == "image":
                links.append(str(child.attrs["src"]))
        seen.append(token.content if token.type in ("fence", "code_block", "html_block") else " ")
    return "".join(seen), links


def squeezed(text: str) -> str:
    return "".join(text.split())


def unmarked(text: str) -> str:
    """Without marks that cost no text where they are read as themselves, and without the numbers that lists get."""
    return re.sub(r"[\^~*0-9.]", "", squeezed(text))


# Words that are something else in Markdown, if nobody takes care.
WORDS = st.sampled_from(
    r"alpha beta * _ **x** [a](b) ](http://evil.test/) # - + 1. 1) | a|b `c` ``` ~~~ <b> &amp; & <script> \ ! ![x](y) "
    r"=== --- *** >q ~s~ ~~t~~ http://evil.test/ www.evil.test a_b_c 2*3*4 é 漢字 😀 \| ` `` [ ] ( ) "
    r"<http://evil.test> ## = ^ {} : |:-| a\ x<y &lt; &#42; [x] [1]:http://evil.test [^1] <!--c--> "
    r"_a a_ ** __ $x$ 0.".split()
)
TEXT = st.lists(WORDS, min_size=1, max_size=4).map(" ".join)


def inline(parts: st.SearchStrategy[Part]) -> st.SearchStrategy[Part]:
    tags = st.sampled_from("b i em strong a code span del s u kbd mark small sup q-x".split())

    def wrap(tag: str, inner: list[Part], gap: str) -> Part:
        html = gap.join(part.html for part in inner)
        attributes = ' href="http://ok.test/1"' if tag == "a" else ""
        return Part(f"<{tag}{attributes}>{html}</{tag}>", gap.join(part.text for part in inner))

    return st.builds(wrap, tags, st.lists(parts, min_size=1, max_size=3), st.sampled_from(["", " "]))


PLAIN = TEXT.map(lambda text: Part(escapes.escape(text, quote=False), text)) | st.just(Part("<br>", " "))
INLINE = st.recursive(PLAIN, inline, max_leaves=6)
PRE = TEXT.map(lambda text: Part(f"<pre>x{escapes.escape(text)}\n {escapes.escape(text)}</pre>", f"x{text}{text}"))
LINE = st.builds(
    lambda tag, part: Part(f"<{tag}>{part.html}</{tag}>", part.text), st.sampled_from("p h1 h2 h6 div".split()), INLINE
)


def table(rows: list[list[Part]]) -> Part:
    html = "".join("<tr>" + "".join(f"<td>{cell.html}</td>" for cell in row) + "</tr>" for row in rows)
    return Part(f"<table>{html}</table>", " ".join(cell.text for row in rows for cell in row))


def blocks(inner: st.SearchStrategy[Part]) -> st.SearchStrategy[Part]:
    several = st.lists(inner, min_size=1, max_size=3)

    def listed(tag: str, items: list[Part]) -> Part:
        html = "".join(f"<li>{item.html}</li>" for item in items)
        return Part(f"<{tag}>{html}</{tag}>", " ".join(item.text for item in items))

    def wrapped(tag: str, items: list[Part]) -> Part:
        return Part(f"<{tag}>{''.join(item.html for item in items)}</{tag}>", " ".join(item.text for item in items))

    return st.builds(listed, st.sampled_from(["ul", "ol"]), several) | st.builds(
        wrapped, st.sampled_from(["blockquote", "div", "section"]), several
    )


CELLS = st.lists(st.lists(INLINE, min_size=1, max_size=3), min_size=1, max_size=3).map(table)
BLOCK = st.recursive(
    LINE | PRE | CELLS | INLINE.map(lambda part: Part(f"<p>{part.html}</p>", part.text)), blocks, max_leaves=6
)
PAGE = st.lists(BLOCK, min_size=1, max_size=3)


def check(parts: list[Part]) -> None:
    html = "<body>" + "".join(part.html for part in parts)
    want = squeezed("".join(part.text for part in parts))
    plain = converted(html, "text/html; charset=utf-8", main_only=False, markdown=False)
    text, links = read(converted(html, "text/html; charset=utf-8", main_only=False).text)
    assert unmarked(text) == unmarked(want)
    assert set(links) <= {"http://ok.test/1"}
    for char in set(want) - set("^•*-.|0123456789"):
        assert plain.text.count(char) >= want.count(char), char


@given(PAGE)
@settings(max_examples=30, deadline=None)
def test_text_reads_as_itself(parts: list[Part]) -> None:
    """Whatever a page's text is, a reader of the Markdown sees that text, in order, and no link but the page's."""
    check(parts)


@pytest.mark.slow
@given(PAGE)
@settings(max_examples=3_000, deadline=None)
def test_text_reads_as_itself_at_length(parts: list[Part]) -> None:
    """As above, with many more pages."""
    check(parts)


TAGS = (
    "html head body title base meta link div p span b i a ul ol li table tr td th thead tbody caption colgroup col pre "
    "code h1 h2 blockquote br hr img form select option button textarea input svg math template script style noscript "
    "iframe object dialog details summary video main article nav footer font nobr ruby rt dl dt dd sup frameset "
    "plaintext"
).split()
ATTRIBUTES = st.sampled_from(
    [
        "", " hidden", ' style="display:none"', ' style="color:#fff"', ' style="visibility:hidden"', ' style="}{;:"',
        ' href="javascript:x"', ' href="/r"', " href=http://[", ' src="i" alt="a"', " colspan=9", " rowspan=70000",
        " colspan=-1", " charset=gbk", ' http-equiv=refresh content="0;url=http://["', " lang=x", " class=x", "=", ' "',
        " shadowrootmode=open", " role=main",
    ]
)  # fmt: skip
PIECES = (
    st.builds(lambda tag, attribute: f"<{tag}{attribute}>", st.sampled_from(TAGS), ATTRIBUTES)
    | st.sampled_from(TAGS).map(lambda tag: f"</{tag}>")
    | st.sampled_from(["x", " ", "|", "\n", "`", "*", "&amp;", "&#0;", "<!--", "-->", "<![CDATA[", "]]>", "<", "\x00",
                       "😀", "\u200b", "<style>.x{display:none}p,b{color:white}</style>", "<style>*{visibility:hidden}",
                       '<rss version="2.0">'])
)  # fmt: skip
KINDS = st.sampled_from(
    "text/html application/xml application/rss+xml text/plain application/pdf application/json x/y \x00".split()
)


@given(st.lists(PIECES, max_size=30).map("".join).map(str.encode) | st.binary(max_size=200), KINDS)
@settings(max_examples=60, deadline=None)
def test_no_bytes_do_harm(body: bytes, kind: str) -> None:
    """Any bytes under any media type are a text, or one sentence that says why not."""
    for prefix in (b"", b"%PDF-1.7\n"):
        page = converted(prefix + body, kind)
        assert page.text.strip() == page.text
        assert not page.problem or not page.text


@pytest.mark.slow
@given(st.lists(PIECES, max_size=80).map("".join).map(str.encode), KINDS)
@settings(max_examples=10_000, deadline=None)
def test_no_bytes_do_harm_at_length(body: bytes, kind: str) -> None:
    """As above, with many more."""
    converted(body, kind)
    converted(body, kind, main_only=False, markdown=False)
