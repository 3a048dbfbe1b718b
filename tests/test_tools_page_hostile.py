"""Pages made to do harm: however deep, long or crooked they are, they take time by their size and lose no text.

Each page of some 300 kB takes well under half a second on an idle core; ten times that is allowed here, of processor
time, since the machine may be busy.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import pytest

from plugins.tools_http.engine.page import robots
from tests.page_tools import converted, markdown

SECONDS = 5.0  # of processor time


def named(cases: Mapping[str, Any], quick: str) -> list[Any]:
    """The cases under their names; all but the quick ones are for the long run."""
    return [
        pytest.param(
            *([case] if isinstance(case, str) else case),
            id=name,
            marks=() if name in quick.split() else pytest.mark.slow,
        )
        for name, case in cases.items()
    ]


DEEP = {
    "div": "<div>",
    "span": "<span>",
    "b": "<b>",
    "emphasis": "<b><i>",
    "font": "<p><font>",
    "list": "<ul><li>x",
    "ordered": "<ol><li>x",
    "quote": "<blockquote><p>x",
    "table": "<table><tr><td>",
    "table-header": "<table><tr><th>x<td>",
    "article": "<article><p>x",
    "section": "<section><h2>x",
    "pre": "<pre>x",
    "code": "<code>x",
    "link": "<a href=x><b>x</b><table>",
    "details": "<details><summary>x",
    "svg": "<svg><g>",
    "math": "<math><mrow>",
    "form": "<fieldset><legend>x",
    "definition": "<dl><dd>x",
    "custom": "<x-y>",
    "styled": "<div style='color:#fff;background:#000'>",
    "visibility": "<i style='visibility:visible'>",
    "main": "<div role=main>x",
    "q": "<q>x",
    "ruby": "<ruby><rt>x",
}


@pytest.mark.parametrize("element", named(DEEP, "div b list table font"))
def test_ten_thousand_elements_in_each_other(element: str) -> None:
    """Nesting of 10,000 elements neither recurses nor loses the text inside, closed or not."""
    begin = time.process_time()
    for html in (element * 10_000 + "NEEDLE", "<p>first</p>" + element * 10_000 + "NEEDLE</p></div></b>tail"):
        assert "NEEDLE" in markdown(html)
        assert "NEEDLE" in markdown(html, main_only=False)
        assert "NEEDLE" in converted(html, markdown=False).text
    assert time.process_time() - begin < SECONDS


LONG = {
    "open-tags": ("<a ", 100_000),
    "less-than": ("<", 300_000),
    "attributes": ("<p " + " ".join(f"a{i}=1" for i in range(30_000)) + ">", 1),
    "comments": ("<!--", 75_000),
    "ended-comments": ("<!---->", 40_000),
    "ampersands": ("&", 300_000),
    "entities": ("&amp", 75_000),
    "breaks": ("<br>", 75_000),
    "breaks-apart": ("<br><i></i> ", 30_000),
    "breaks-in-depth": ("<b><br>", 40_000),
    "breaks-and-comments": ("<br><!---->\n", 25_000),
    "paragraphs": ("<p>x", 75_000),
    "links": ('<a href="x">y</a>', 17_000),
    "links-odd": ('<a href=" /a b\\">y</a>', 15_000),
    "pictures": ('<img src=" data:x" data-src="/x" alt="y">', 8_000),
    "cells": ("<table><tr>" + "<td>x" * 50_000, 1),
    "rows": ("<table>" + "<tr><td>x" * 30_000, 1),
    "rows-ragged": ("<table>" + "<tr><td>x<tr><td>x<td>y" * 12_000, 1),
    "one-wide-row": ("<table><tr>" + "<td>x" * 20_000 + "<tr><td>y" * 10_000, 1),
    "spans": ("<table>" + "<tr><td colspan=1000 rowspan=65534>x" * 7_000, 1),
    "tables": ("<table><tr><td>a<td>b</table>", 10_000),
    "wide-cell": ("<table>" + "<tr><td>x" * 10_000 + "<tr><td>" + "y" * 100_000, 1),
    "options": ("<select>" + "<option>x" * 30_000, 1),
    "backticks": ("<pre>" + "`" * 300_000, 1),
    "code-backticks": ("<code>" + "` " * 150_000, 1),
    "white-space": ("<p>a" + " \n" * 150_000, 1),
    "emphasis": ("<b>*</b>", 30_000),
    "emphasis-in-a-word": ("<b>(</b>x", 30_000),
    "misnested": ("<a><p><b></a>", 20_000),
    "foster": ("<table><a>x", 25_000),
    "headings": ("<h1>", 70_000),
    "hidden": ("<p hidden>", 30_000),
    "styles": ("<p style='visibility:hidden'><b style='visibility:visible'>x", 5_000),
    "style-in-depth": ("<div style='visibility:hidden'><div style='visibility:visible'>", 4_000),
    "long-style": (f"<p style='{'a:b;' * 70_000}'>x", 1),
    "rules": (f"<style>{''.join(f'.a{i}{{display:none}}' for i in range(15_000))}</style>{'<p class=a1>' * 300}", 1),
    "rule-braces": ("<style>" + "{" * 300_000 + "</style>", 1),
    "selectors": ("<style>" + "p " * 140 + "{display:none}</style>" + "<p>" * 30_000, 1),
    "has": ("<style>:has(:has(p)){display:none} div div div div div{color:#fff}</style>" + "<div>" * 30_000, 1),
    "zero-width": ("a\u200b", 75_000),
    "modifiers": ("é\ufe0f\ufe0f", 40_000),
    "metas": ("<meta charset=gbk>", 15_000),
    "json-ld": ('<script type="application/ld+json">' + "[" * 300_000 + "</script>", 1),
    "json-ld-blocks": ('<script type="application/ld+json">{"name":"x"}</script>', 5_000),
    "templates": ("<template>", 30_000),
    "cdata": ("<svg><![CDATA[", 20_000),
    "nul": ("\x00", 300_000),
    "doctype": ("<!doctype html>", 20_000),
    "plaintext": ("<plaintext>", 25_000),
    "sup": ("x<sup>2</sup>", 20_000),
    "bases": ("<base href=/x/>", 20_000),
    "frames": ("<frameset><frame>", 18_000),
}  # fmt: skip


@pytest.mark.parametrize(("piece", "times"), named(LONG, "open-tags attributes breaks spans rules emphasis metas"))
def test_long_pages_take_time_by_their_size(piece: str, times: int) -> None:
    """No repetition of anything takes more than linear time, or gives a text of another order than the page."""
    html = piece * times
    begin = time.process_time()
    text = markdown(html)
    assert time.process_time() - begin < SECONDS
    assert len(text) <= 10 * len(html) + 1_000


XML = {
    "laughs": "<!DOCTYPE r [<!ENTITY a 'aaaaaaaaaa'>" + "".join(
        f"<!ENTITY {chr(98 + i)} '{f'&{chr(97 + i)};' * 10}'>" for i in range(20)) + "]><rss><channel><title>&t;",
    "external": "<!DOCTYPE r [<!ENTITY x SYSTEM 'file:///etc/passwd'>]><rss><channel><title>&x;</title></channel></rss>",
    "deep": "<rss version='2.0'>" + "<channel>" * 60_000,
    "items": "<rss version='2.0'><channel>" + "<item><title>x</title></item>" * 10_000 + "</channel></rss>",
    "item-deep": "<rss version='2.0'><channel><item><description>" + "&lt;div>" * 20_000
    + "</description></item></channel></rss>",
    "ampersands": "<rss version='2.0'>" + "&" * 200_000,
    "tag": "<rss " + " " * 300_000,
    "rss": "<rss" * 75_000,
}  # fmt: skip


@pytest.mark.parametrize("xml", named(XML, "laughs external item-deep"))
def test_hostile_xml(xml: str) -> None:
    """No entity is expanded or fetched, and nothing takes long."""
    begin = time.process_time()
    page = converted(xml, "application/xml")
    assert time.process_time() - begin < SECONDS
    assert len(page.text) <= len(xml) + 1_000
    assert "root:" not in page.text


ROBOTS = {
    "stars": "User-agent: *\nDisallow: /" + "*a" * 200_000 + "b$",
    "rules": "User-agent: *\n" + "Disallow: /*aa*b\n" * 25_000,
    "agents": "User-agent: x\n" * 30_000 + "Disallow: /",
    "line": "Disallow: " + "x" * 500_000,
    "ends": "\r\n" * 200_000,
    "percent": "User-agent: *\nDisallow: /" + "%41" * 100_000,
}


@pytest.mark.parametrize("text", named(ROBOTS, "stars"))
def test_hostile_robots(text: str) -> None:
    """A robots.txt of 500 kB is read, and its patterns matched, in linear time."""
    begin = time.process_time()
    robots.forbidding(text.encode(), "hector-plugins", "http://a.test/" + "a" * 8_000)
    assert time.process_time() - begin < SECONDS
