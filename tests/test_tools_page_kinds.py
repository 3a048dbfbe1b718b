"""What is no HTML: PDF, feeds, JSON, plain text and what cannot be read; and the tool's words about it."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Any

import pytest

from plugins.tools_http.engine.page.tool import fetch_page
from shared.errors import InvalidArgument
from shared.json_schema import complaint, schema_problem
from tests.page_tools import URL, FakeClient, converted, fetched, work


def pdf(pages: Sequence[Sequence[str]], title: str = "The title") -> bytes:
    """A PDF with these lines of text, in Latin-1, on its pages."""
    kids = " ".join(f"{4 + 2 * number} 0 R" for number in range(len(pages)))
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        f"<< /Type /Pages /Kids [{kids}] /Count {len(pages)} >>".encode(),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>",
    ]
    for number, lines in enumerate(pages):
        shown = " ".join(f"({line}) Tj T*" for line in lines)
        content = zlib.compress(f"BT /F1 11 Tf 14 TL 50 780 Td {shown} ET".encode("cp1252"))
        objects.append(
            b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Resources << /Font << /F1 3 0 R >> >> "
            b"/Contents %d 0 R >>" % (5 + 2 * number)
        )
        objects.append(b"<< /Length %d /Filter /FlateDecode >>\nstream\n%s\nendstream" % (len(content), content))
    body, places = b"%PDF-1.4\n", []
    for number, text in enumerate(objects, 1):
        places.append(len(body))
        body += b"%d 0 obj\n%s\nendobj\n" % (number, text)
    table = b"".join(b"%010d 00000 n \n" % place for place in places)
    size = len(objects) + 1
    trailer = b"<< /Size %d /Root 1 0 R /Info << /Title (%s) >> >>" % (size, title.encode("cp1252"))
    table = b"xref\n0 %d\n0000000000 65535 f \n%s" % (size, table)
    return body + b"%strailer %s\nstartxref\n%d\n%%%%EOF\n" % (table, trailer, len(body))


PDF = "application/pdf"
THREE = pdf([["Première page", "second line"], ["Page two"], []])


def test_pdf() -> None:
    """A PDF is its pages' text, each headed by its number, with the title beside it."""
    page = converted(THREE, PDF)
    assert page.text == "[Page 1 of 3]\n\nPremière page\nsecond line\n\n[Page 2 of 3]\n\nPage two"
    assert (page.title, page.pages, page.media_type, page.notes) == ("The title", 3, "text/plain", [])


@pytest.mark.parametrize("kind", ["", "application/octet-stream"])
def test_pdf_by_its_first_bytes(kind: str) -> None:
    """A PDF under a media type that says nothing is one all the same."""
    assert "Page two" in converted(THREE, kind).text


def test_pages_of_a_pdf() -> None:
    """Pages can be chosen, and the text says how to go on."""
    many = pdf([[f"Text {number}"] for number in range(1, 151)])
    page = converted(many, PDF)
    assert "Text 100" in page.text
    assert "Text 101" not in page.text
    assert page.notes == ["These are the pages 1 to 100 of 150. For more ask again with pages=101-150."]
    page = converted(many, PDF, pages=(101, 0))
    assert page.text.startswith("[Page 101 of 150]")
    assert page.text.endswith("Text 150")
    assert page.notes == ["These are the pages 101 to 150 of 150."]
    assert converted(many, PDF, pages=(7, 8)).text == "[Page 7 of 150]\n\nText 7\n\n[Page 8 of 150]\n\nText 8"
    assert converted(many, PDF, pages=(999, 0)).notes == ["The PDF has 150 pages: there is no page 999."]


def test_a_pdf_that_takes_long() -> None:
    """What was read when the time is over is the answer."""
    page = converted(THREE, PDF, seconds=-1)
    assert page.text == "[Page 1 of 3]\n\nPremière page\nsecond line"
    assert page.notes == ["These are the pages 1 to 1 of 3. For more ask again with pages=2-3."]


@pytest.mark.parametrize(
    "body",
    [
        b"%PDF-1.7",
        b"%PDF-1.7\n" + bytes(range(256)) * 100,
        THREE[:-300],
        THREE.replace(b"/Kids [4 0 R", b"/Kids [2 0 R"),
        THREE.replace(b"/Count 3", b"/Count 999999999"),
        THREE.replace(b"/Type /Catalog", b"/X " + b"[" * 50_000 + b"]" * 50_000),
        THREE.replace(b"/Root 1 0 R", b"/Root 9 0 R"),
        THREE.replace(b"stream\nx", b"stream\ny"),
    ],
    ids=["empty", "noise", "cut", "loop", "count", "deep", "root", "stream"],
)
def test_damaged_pdf(body: bytes) -> None:
    """A damaged PDF gives what can be read, or a sentence that says what is wrong."""
    page = converted(body, PDF)
    assert page.text or page.problem.startswith("the PDF is damaged (") or page.notes


def test_a_pdf_without_text() -> None:
    """Of a PDF that is a picture it is said that it holds no text."""
    assert converted(pdf([[]]), PDF).notes == ["The pages hold no text; they may be pictures of it."]


RSS = """<?xml version="1.0"?><rss version="2.0" xmlns:content="http://purl.org/rss/1.0/modules/content/"><channel>
<title>News &amp; more</title><link>http://site.test/</link><description>About &lt;b&gt;it&lt;/b&gt;</description>
<item><title>One</title><link>/1</link><pubDate>Mon, 1 Jan 2024</pubDate><author>A. Writer</author>
<description>&lt;p&gt;Hello &lt;a href="/a"&gt;there&lt;/a&gt;
&lt;/p&gt;&lt;p hidden&gt;SECRET&lt;/p&gt;</description></item>
<item><title><![CDATA[Two <x>]]></title><link>javascript:x</link>
<content:encoded><![CDATA[<p>Full<script>SECRET</script>]]></content:encoded>
<description>Short</description></item></channel></rss>"""


def test_rss() -> None:
    """A feed is a list of its entries, with absolute links, and what they hide left out."""
    page = converted(RSS, "application/rss+xml")
    assert page.title == "News & more"
    assert page.media_type == "text/markdown"
    assert "# News & more\n\nAbout **it**\n\n## [One](http://site.test/1)\n\nMon, 1 Jan 2024" in page.text
    assert "Hello [there](http://site.test/a)" in page.text
    assert page.text.endswith("## Two \\<x>\n\nFull")
    assert "SECRET" not in page.text


@pytest.mark.parametrize(
    ("xml", "want"),
    [
        ('<feed xmlns="http://www.w3.org/2005/Atom"><title>A</title><entry><title>E</title><link href="/e"/><summary>s'
         "</summary></entry></feed>", "# A\n\n## [E](http://127.0.0.1:8000/e)\n\ns"),
        ('<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#" xmlns="http://purl.org/rss/1.0/"><channel><title>R'
         "</title></channel><item><title>i</title><link>http://l.test/</link></item></rdf:RDF>", "# R\n\n## [i](http://l.test/)"),
        ("<rss><channel><title>A &nbsp; &amp; &B</title><item><title>x & y</title></item></channel></rss>",
         "# A & &B\n\n## x & y"),
        ("\n<rss version='2.0'><channel><title>T\x01</title></channel></rss>", "# T"),
    ],
)  # fmt: skip
def test_feeds_of_other_kinds(xml: str, want: str) -> None:
    """Atom and RDF are feeds too, and feeds with common faults are read."""
    assert converted(xml, "text/xml; charset=utf-8").text == want


@pytest.mark.parametrize(
    ("body", "kind", "want"),
    [
        (b'{"a": [1, 00]}', "application/json", '{"a": [1, 00]}'),
        (b'{"a":1}', "application/ld+json; charset=utf-8", '{"a":1}'),
        (b"<a><b>x</b></a>", "application/xml", "<a><b>x</b></a>"),
        (b"<a><b>x", "text/xml", "<a><b>x"),
        (b"# T\n\n| a |\n", "text/markdown", "# T\n\n| a |"),
        (b"<b>not HTML</b>", "text/plain", "<b>not HTML</b>"),
        (b"a,b\n1,2\n", "text/csv", "a,b\n1,2"),
        (b"plain", "", "plain"),
        (b"<!DOCTYPE html><p>x", "", "x"),
        (b"  <div>x</div>", "application/octet-stream", "x"),
        (b"", "text/plain", ""),
        (b"", "", ""),
    ],
)
def test_text_of_other_kinds(body: bytes, kind: str, want: str) -> None:
    """What is text already stays as it is, and what says nothing of its kind is looked at."""
    page = converted(body, kind, main_only=False)
    assert (page.text, page.problem) == (want, "")


@pytest.mark.parametrize(
    ("body", "kind"), [(b"\x89PNG\r\n\x1a\n", "image/png"), (b"\x00\x01\x02", ""), (b"PK", "application/zip")]
)
def test_what_is_no_page(body: bytes, kind: str) -> None:
    """A body that is no text is an error that names its kind and the tool for it."""
    output = fetched(FakeClient({URL: (200, {"content-type": kind}, body)}))
    assert output.error is not None
    assert output.error.reason == "NOT_A_PAGE"
    assert "custom_api_call" in output.error.message
    assert kind in output.error.message
    assert output.text == ""


def test_the_request() -> None:
    """Markdown is asked for first, and HTML before all else."""
    client = FakeClient({URL: (200, {"content-type": "text/markdown"}, b"# T")})
    output = fetched(client)
    accept = dict(client.requests[0].headers)["Accept"]
    assert accept.startswith("text/markdown, text/html;q=0.9,")
    assert client.requests[0].method == "GET"
    assert (output.text, output.content_type, output.error) == ("# T", "text/markdown", None)


def test_metadata_and_notes() -> None:
    """What is known of a page is in the metadata, and what a reader has to know heads the text."""
    client = FakeClient({URL: (200, {"content-type": "text/html"}, b"<html lang=fr><title>T</title><p>x")})
    output = fetched(client)
    assert output.text == "[No part of the page stands out as its main text: this is the whole page.]\n\n# T\n\nx"
    facts = {
        "status": 200,
        "url": URL,
        "title": "T",
        "language": "fr",
        "charset": "utf-8",
        "whole_page": True,
        "hidden_text": False,
    }
    assert {name: output.metadata[name] for name in facts} == facts
    assert fetched(client, {"format": "text", "main_only": False}).text == "T\n\nx"


def test_the_schema() -> None:
    """The parameters are a schema that models take, with an example that holds to it."""
    tool = fetch_page(FakeClient({}), work)
    schema = dict(tool.parameters)
    assert schema_problem(schema) == ""
    assert [complaint(example, schema) for example in schema["examples"]] == [""]
    assert complaint({"url": "x", "format": "html"}, schema)
    assert complaint({}, schema)
    assert complaint({"url": "x", "pages": "a"}, schema)
    assert tool.name in "fetch_page"
    assert "Example" in tool.description


@pytest.mark.parametrize(
    ("pages", "good"), [("1", True), ("2-", True), ("2-3", True), ("0", False), ("3-2", False), ("0-1", False)]
)
def test_the_argument_pages(pages: str, good: bool) -> None:
    """Pages that cannot be are refused before anything is fetched."""
    client = FakeClient({URL: (200, {"content-type": PDF}, THREE)})
    arguments: dict[str, Any] = {"pages": pages}
    if good:
        assert fetched(client, arguments).error is None
    else:
        with pytest.raises(InvalidArgument, match="3-7"):
            fetched(client, arguments)
        assert client.requests == []
