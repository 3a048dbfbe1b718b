"""fetch_page: pages as Markdown, and what the tool says of them."""

from __future__ import annotations

import base64

import pytest

from tests.page_tools import URL, FakeClient, converted, fetched, markdown


@pytest.mark.parametrize(
    ("content_type", "body", "want"),
    [
        (
            "text/html",
            "PGh0bWw+PGhlYWQ+PG1ldGEgY2hhcnNldD0iZ2IxODAzMCI+PC9oZWFkPjxib2R5PjxoMT6827jxse08L2gxPjxwPsa7ufvDv73vzuXUqjwv"
            "cD48L2JvZHk+PC9odG1sPg==",
            "苹果每斤五元",
        ),
        (
            "text/html; charset=iso-8859-1",
            "77u/PGh0bWw+PGJvZHk+PHA+bmHDr3ZlIGNhZsOpPC9wPjwvYm9keT48L2h0bWw+",
            "naïve café",
        ),
    ],
)
def test_case_page_encoding(content_type: str, body: str, want: str) -> None:
    """Case page-encoding: gb18030 by `<meta>`, and a byte order mark that wins over the header."""
    page = converted(base64.b64decode(body), content_type)
    assert want in page.text
    assert "\ufffd" not in page.text


def test_case_page_table_link() -> None:
    """Case page-table-link: a pipe in a cell is escaped, a relative link is made absolute."""
    text = markdown(
        "<article><p>Intro text.</p><table><tr><th>Name</th><th>Price</th></tr><tr><td>A|B</td><td>1</td></tr></table>"
        '<p><a href="/rel?a=1">link</a></p></article>'
    )
    assert "A\\|B" in text
    assert "](http://127.0.0.1:8000/rel?a=1)" in text


def test_a_page_that_is_none_keeps_its_text() -> None:
    """HTTP status 404 is an error that names it, with the text of the page beside it."""
    client = FakeClient({URL: (404, {"content-type": "text/html"}, b"<h1>Gone</h1><p>Try the archive.")})
    output = fetched(client)
    assert output.error is not None
    assert output.error.reason == "UPSTREAM_NOT_FOUND"
    assert "404" in output.error.message
    assert output.metadata["status"] == 404
    assert "Try the archive." in output.text
