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


@pytest.mark.parametrize(
    ("html", "want"),
    [
        # Headings, paragraphs, breaks.
        ("<h1>A</h1><h2>B</h2><h6>C</h6><p>d</p>", "# A\n\n## B\n\n###### C\n\nd"),
        ("<h2> A  <b>b</b>\n c </h2><h3></h3><h3> <br> </h3>", "## A **b** c"),
        ("<p>a\n  b\t c</p>  <p>d</p>", "a b c\n\nd"),
        ("a<br>b", "a  \nb"),
        ("<p>a<br><br>b<br/> <br>\n<br>c<br></p>", "a\n\nb\n\nc"),
        ("<p><b>a<br></b>b</p>", "**a**  \nb"),
        ("<p><b>a<br>b<br>c</b></p>", "a  \nb  \nc"),  # not as HTML
        ("<p><b>a<b><br></b>b</b></p>", "**a  \nb**"),
        ("<p>a<br><b><br>c</b></p>", "a\n\n**c**"),
        ("<p>a |<br>|:-|</p>", r"a | |:-|"),  # no table
        ("<div>a<div>b</div>c</div>", "a\n\nb\n\nc"),
        ("<p>a</p><hr><p>b</p>", "a\n\n---\n\nb"),
        ("<p>a <b>b</b>, <em>c</em>; <code>d</code> <del>e</del></p>", "a **b**, *c*; `d` ~~e~~"),
        ("<p>10<sup>6</sup>, x<sup>-2</sup>, H<sub>2</sub>O, 1<sup>st</sup></p>", "10^6, x^-2, H2O, 1st"),
        ("<details><summary>S</summary><p>b</p></details>", "S\n\nb"),
        # Lists.
        ("<ul><li>a<li>b<ul><li>c<ul><li>d</ul></ul><li>e</ul>", "- a\n- b\n  - c\n    - d\n- e"),
        ("<ol start=3><li>a<li>b<ol><li>c</ol></ol>", "3. a\n4. b\n   1. c"),
        ("<ul><li><p>a</p><p>b</p><li>c</ul>", "- a\n\n  b\n\n- c"),
        ("<ul><li>a<pre>x\n y</pre></ul>", "- a\n  ```\n  x\n   y\n  ```"),
        ("<ol><li>x<table><tr><td>a<td>b</table>y<li>z</ol>", "1\\. x\n\n| a | b |\n| --- | --- |\n\ny\n\n2\\. z"),
        ("<dl><dt>T<dd>D</dl>", "T\n\nD"),
        ("<select><option>a<option>b</select>", "- a\n- b"),
        # Quotes and code.
        ("<blockquote><p>a</p><blockquote>b</blockquote></blockquote>", "> a\n>\n> > b"),
        ("<pre>a\n```\n  b</pre>", "````\na\n```\n  b\n````"),
        ('<pre><code class="language-python">x = 1\n</code></pre>', "```python\nx = 1\n```"),
        ('<pre><code class="hljs language-js">x</code></pre>', "```js\nx\n```"),
        ('<pre class="brush: ruby">x</pre>', "```ruby\nx\n```"),
        ('<div class="highlight-source-rust"><pre>x</pre></div>', "```rust\nx\n```"),
        ('<div class="highlight-python notranslate"><div class="highlight"><pre>x</pre></div></div>', "```\nx\n```"),
        ('<pre lang="c++">x</pre>', "```c++\nx\n```"),
        ('<pre class="x y`z"><span class="k">a</span> <b>b</b></pre>', "```\na b\n```"),
        ("<p><code>a`b</code> and <code>`</code></p>", "``a`b`` and `` ` ``"),
        ("<p><kbd>Ctrl</kbd></p>", "`Ctrl`"),
        # Tables.
        ("<table><tr><th>A<th>B<tr><td>1<td>2</table>", "| A | B |\n| --- | --- |\n| 1 | 2 |"),
        (
            "<table><caption>C</caption><thead><tr><td>A<td>B</thead><tbody><tr><td>1<td>2</tbody><tfoot><tr><td>3<td>4</table>",
            "C\n\n| A | B |\n| --- | --- |\n| 1 | 2 |\n| 3 | 4 |",
        ),
        ("<table><tr><td>a<td>b<tr><td>c</table>", "| a | b |\n| --- | --- |\n| c |  |"),
        ("<table><tr><td colspan=2>a<td>b<tr><td>c<td>d<td>e</table>",
         "| a |  | b |\n| --- | --- | --- |\n| c | d | e |"),
        ("<table><tr><td rowspan=2>a<td>b<tr><td>c</table>", "| a | b |\n| --- | --- |\n| a | c |"),
        ("<table><tr><td>a<td rowspan=3>b<tr><td>c<tr><td>d</table>", "| a | b |\n| --- | --- |\n| c | b |\n| d | b |"),
        ("<table><tr><td rowspan=2 colspan=2>a<td>b<tr><td>c</table>",
         "| a |  | b |\n| --- | --- | --- |\n| a |  | c |"),
        ("<table><tr><td>a<td>b<br>c<tr><td><p>d</p><p>e</p><td>f</table>", "| a | b c |\n| --- | --- |\n| d e | f |"),
        ("<table><tr><th>a<td>1<tr><th>b<td>2</table>", "| a | 1 |\n| --- | --- |\n| b | 2 |"),
        ("<table><tr><td>a|b<td><code>c|d</code><tr><td>e\\|f<td>g</table>",
         "| a\\|b | `c\\|d` |\n| --- | --- |\n| e\\\\\\|f | g |"),
        ("<table><tr><td>alone</table>", "alone"),
        ("<table></table><p>a</p><table><tr></tr></table>", "a"),
        ("<table role=presentation><tr><td>a<td>b</table>", "a\n\nb"),
        ("<table><tr><td><h2>a</h2><td><table><tr><td>1<td>2<tr><td>3<td>4</table></table>",
         "## a\n\n| 1 | 2 |\n| --- | --- |\n| 3 | 4 |"),
        ("<table><tr><td>a<td><ul><li>x<li>y</ul></table>", "| a | * x * y |\n| --- | --- |"),
    ],
)  # fmt: skip
def test_shapes(html: str, want: str) -> None:
    """Each part of HTML has one form in Markdown."""
    assert markdown(f"<body>{html}") == want


@pytest.mark.parametrize(
    "cell", ["<b>@</b>", "<b>@</b> and more", "<i><b>@</b></i>", '<a href="/x"><b>@</b></a>', "<s>@</s>"]
)
def test_marked_text_in_cells(cell: str) -> None:
    """No letter of marked text in cells is lost, wherever in the page they stand; the marks are not kept."""
    for before in range(0, 130, 3):
        words = [f"c{number:03}" for number in range(40)]
        rows = "".join(f"<tr><td>{cell.replace('@', word)}</td><td>z</td></tr>" for word in words)
        text = markdown(f"<p><i>x</i><br>{'y' * before}</p><table>{rows}</table>")
        assert [word for word in words if word not in text] == []
        assert "*c" not in text


@pytest.mark.parametrize(
    ("link", "want"),
    [
        ('<a href="/x">t</a>', "[t](http://127.0.0.1:8000/x)"),
        ('<a href="x">t</a>', "[t](http://127.0.0.1:8000/d/x)"),
        ('<a href="../x">t</a>', "[t](http://127.0.0.1:8000/x)"),
        ('<a href="?q=1&amp;r=2">t</a>', "[t](http://127.0.0.1:8000/d/p?q=1&r=2)"),
        ('<a href="#f">t</a>', "[t](http://127.0.0.1:8000/d/p#f)"),
        ('<a href="//o.test/p">t</a>', "[t](http://o.test/p)"),
        ('<a href="https://o.test">t</a>', "[t](https://o.test)"),
        ('<a href=" \n/x ">t</a>', "[t](http://127.0.0.1:8000/x)"),
        ('<a href="HTTPS://O.test/">t</a>', "[t](HTTPS://O.test/)"),
        ('<a href="mailto:a@b.test">t</a>', "[t](mailto:a@b.test)"),
        ('<a href="tel:+1">t</a>', "[t](tel:+1)"),
        ('<a href="/a b(c)[d]&quot;">t</a>', "[t](http://127.0.0.1:8000/a%20b%28c%29[d]%22)"),
        ('<a href="/a&#10;b">t</a>', "[t](http://127.0.0.1:8000/ab)"),
        ('<a href="/é?ü">t</a>', "[t](http://127.0.0.1:8000/é?ü)"),
        ('<a href="http://[::1]:8/">t</a>', "[t](http://[::1]:8/)"),
        ('<a href="">t</a>', "t"),
        ("<a>t</a>", "t"),
        ('<a href="/x"></a>t', "t"),
        ('<a href="javascript:alert(1)">t</a>', "t"),
        ('<a href="JaVaScRiPt:alert(1)">t</a>', "t"),
        ('<a href="&#1;javascript:alert(1)">t</a>', "t"),
        ('<a href=" java&#10;script:alert(1)">t</a>', "t"),
        ('<a href="java&Tab;script:alert(1)">t</a>', "t"),
        ('<a href="data:text/html,x">t</a>', "t"),
        ('<a href="vbscript:x">t</a>', "t"),
        ('<a href="file:///etc/passwd">t</a>', "t"),
        ('<a href="blob:http://x/1">t</a>', "t"),
        (f'<a href="/{"x" * 3000}">t</a>', "t"),
        ('<a href="/x" title="a title">t</a>', "[t](http://127.0.0.1:8000/x)"),
        ('<a href="/x">a <b>b</b></a>', "[a **b**](http://127.0.0.1:8000/x)"),
        ('<a href="/x">a](http://evil.test) [b</a>', "[a\\](http://evil.test) \\[b](http://127.0.0.1:8000/x)"),
        ('<a href="/x"><h2>T</h2><p>p</p></a>', "[T p](http://127.0.0.1:8000/x)"),
        ('<img src="i.png" alt="A picture">', "![A picture](http://127.0.0.1:8000/d/i.png)"),
        ('<img src="i.png" alt="a](http://evil.test) b\n\n# c">',
         "![a\\](http://evil.test) b # c](http://127.0.0.1:8000/d/i.png)"),
        ('<img src="i.png">t', "t"),
        ('<img src="i.png" alt="">t', "t"),
        ('<img src="data:image/png;base64,AAAA" alt="A">', "A"),
        ('<img src="data:image/gif;base64,AA" data-src="/l.png" alt="A">', "![A](http://127.0.0.1:8000/l.png)"),
        ('<a href="/x"><img src="i" alt="A"></a>', "[![A](http://127.0.0.1:8000/d/i)](http://127.0.0.1:8000/x)"),
        ('<map><area href="/x" alt="y"></map>t', "t"),
    ],
)  # fmt: skip
def test_links_and_pictures(link: str, want: str) -> None:
    """Links and pictures are absolute and can be clicked safely; what leads nowhere on the web is its text."""
    assert markdown(f"<body>{link}") == want


@pytest.mark.parametrize(
    ("base", "want"),
    [
        ("http://base.test/d/", "http://base.test/d/r"),
        ("/b/", "http://127.0.0.1:8000/b/r"),
        ("//o.test/", "http://o.test/r"),
        ("javascript:x", "http://127.0.0.1:8000/d/r"),
        ("data:text/html,x", "http://127.0.0.1:8000/d/r"),
        ("file:///", "http://127.0.0.1:8000/d/r"),
        ("http://[", "http://127.0.0.1:8000/d/r"),
        ("", "http://127.0.0.1:8000/d/r"),
    ],
)
def test_base(base: str, want: str) -> None:
    """Links start from the first `<base href>`, where that leads to the web."""
    html = f'<head><base target="x"><base href="{base}"><base href="http://second.test/"></head><a href="r">t</a>'
    assert markdown(html) == f"[t]({want})"


NAVIGATION = "<nav><ul><li><a href=/1>Home</a><li><a href=/2>News</a></ul></nav>"
STORY = "<h1>Tea</h1><p>Loose leaves steep best just off the boil, and a pot holds its heat better than a cup does.</p>"


@pytest.mark.parametrize("main", ["<main>{}</main>", "<div role=main>{}</div>", "<article>{}</article>"])
def test_main_text(main: str) -> None:
    """The main text stands alone by default, and with all around it where that is asked for."""
    html = f"<body>{NAVIGATION}{main.format(STORY)}<aside>Advertisement</aside><footer>Imprint</footer>"
    page = converted(html)
    assert page.text.startswith("# Tea\n\nLoose leaves")
    assert not page.whole_page
    assert page.notes == []
    assert not [word for word in ("Home", "Advertisement", "Imprint") if word in page.text]
    whole = converted(html, main_only=False)
    assert not [word for word in ("Tea", "Home", "Advertisement", "Imprint") if word not in whole.text]
    assert whole.whole_page


@pytest.mark.parametrize(
    "html",
    [
        f"{STORY}<p>Second.",
        f"<main>Skip</main>{STORY}{STORY}",
        f"<article>{STORY}</article><article><h2>B</h2><p>{'Another story. ' * 20}</article>",
        "<main></main><p>Outside.",
    ],
)
def test_where_no_main_text_is_told_the_whole_page_is_given(html: str) -> None:
    """What is called main and holds little of the page is not taken for all of it: nothing is lost."""
    page = converted(f"<body>{html}<footer>Imprint</footer>")
    assert page.whole_page
    assert "Imprint" in page.text
    assert page.notes == ["No part of the page stands out as its main text: this is the whole page."]


@pytest.mark.parametrize(
    ("html", "title", "text"),
    [
        ("<title>A &amp; *b*\n c</title><p>x", "A & *b* c", "# A & \\*b\\* c\n\nx"),
        ("<title>A</title><h1>B</h1><p>x", "A", "# B\n\nx"),
        ('<meta property="og:title" content="O"><p>x', "O", "# O\n\nx"),
        ("<h1>B</h1><p>x", "B", "# B\n\nx"),
        ("<svg><title>S</title></svg><p>x", "", "x"),
        ("<p>x", "", "x"),
    ],
)
def test_title(html: str, title: str, text: str) -> None:
    """The title is in the metadata, and heads the text where that has no heading of its own."""
    page = converted(html)
    assert (page.title, page.text) == (title, text)


def test_a_page_that_sends_its_readers_on() -> None:
    """The target of a `<meta http-equiv=refresh>` is told."""
    page = converted('<meta http-equiv="refresh" content="0; url=/new"><p>Moved.')
    assert "The page sends its readers on to http://127.0.0.1:8000/new" in page.notes
    assert page.text == "Moved."
    assert converted('<meta http-equiv="refresh" content="0; url=javascript:x"><p>Moved.').notes[1:] == []
