"""What nobody sees who looks at a page is not in its text; and pages that have nothing else."""

from __future__ import annotations

import pytest

from tests.page_tools import converted, markdown

SEEN = "<p>The visible text of the page.</p>"


@pytest.mark.parametrize(
    "html",
    [
        "<p hidden>SECRET</p>",
        '<p hidden="until-found">SECRET</p>',
        "<div hidden><div><b>SECRET</b></div></div>",
        '<p aria-hidden="true">SECRET</p>',
        '<p aria-hidden="TRUE">SECRET</p>',
        "<!-- SECRET -->",
        "<!-- a --!><!--> <!-- SECRET --->",
        "<noscript>SECRET</noscript>",
        "<noscript><p>SECRET</p></noscript>",
        "<template><p>SECRET</p></template>",
        "<script>SECRET</script>",
        '<script type="text/plain">SECRET</script>',
        "<style>SECRET{}</style>",
        "<iframe>SECRET</iframe>",
        "<noframes>SECRET</noframes>",
        "<noembed>SECRET</noembed>",
        "<video>SECRET</video>",
        "<audio>SECRET</audio>",
        "<canvas>SECRET</canvas>",
        '<object data="x.png">SECRET</object>',
        "<datalist><option>SECRET</datalist>",
        "<dialog>SECRET</dialog>",
        '<input type="hidden" value="SECRET">',
        "<svg><title>SECRET</title><desc>SECRET</desc><metadata>SECRET</metadata></svg>",
        "<svg><defs><text>SECRET</text></defs></svg>",
        '<p style="display:none">SECRET</p>',
        '<p style="DISPLAY : NONE ;">SECRET</p>',
        '<p style="color:red;display:none!important">SECRET</p>',
        '<p style="display:/* x */none">SECRET</p>',
        '<p style="d\\69splay:none">SECRET</p>',
        '<p style="display:no\\6e e">SECRET</p>',
        '<p style="display:block;display:none">SECRET</p>',
        '<p style="display:none;display:nonsense">SECRET</p>',
        '<p style="visibility:hidden">SECRET</p>',
        '<p style="visibility:collapse">SECRET</p>',
        '<p style="content-visibility:hidden">SECRET</p>',
        '<p style="opacity:0">SECRET</p>',
        '<p style="opacity:0.0">SECRET</p>',
        '<p style="opacity:.01">SECRET</p>',
        '<p style="filter:blur(1px) opacity(0)">SECRET</p>',
        '<p style="-webkit-text-fill-color:transparent">SECRET</p>',
        '<style>.x{-webkit-text-fill-color:#fff}</style><p class="x">SECRET</p>',
        '<p style="color:#fff;-webkit-text-fill-color:currentcolor">SECRET</p>',
        '<p style="opacity:0%">SECRET</p>',
        '<p style="font-size:0">SECRET</p>',
        '<p style="font-size:0px">SECRET</p>',
        '<p style="font-size:1px">SECRET</p>',
        '<p style="font-size:0.1pt">SECRET</p>',
        '<p style="font-size:0em">SECRET</p>',
        '<p style="font:0/0 a">SECRET</p>',
        '<p style="font: italic 700 0px/1 serif">SECRET</p>',
        '<p style="position:absolute;left:-9999px">SECRET</p>',
        '<p style="position:fixed;top:-100em">SECRET</p>',
        '<p style="position:absolute;inset:0 0 0 -5000px">SECRET</p>',
        '<p style="position:absolute;right:-9999px">SECRET</p>',
        '<p style="text-indent:-9999px">SECRET</p>',
        '<p style="margin-left:-9999px">SECRET</p>',
        '<p style="margin:0 0 0 -3000px">SECRET</p>',
        '<p style="transform:translateX(-9999px)">SECRET</p>',
        '<p style="transform:translate(0, -200em)">SECRET</p>',
        '<p style="transform:scale(0)">SECRET</p>',
        '<p style="scale:0">SECRET</p>',
        '<p style="width:0;height:0;overflow:hidden">SECRET</p>',
        '<p style="max-height:0;overflow:hidden">SECRET</p>',
        '<p style="height:1px;width:1px;overflow:hidden;position:absolute">SECRET</p>',
        '<p style="position:absolute;clip:rect(0,0,0,0)">SECRET</p>',
        '<p style="position:absolute;clip:rect(1px 1px 1px 1px)">SECRET</p>',
        '<p style="clip-path:inset(50%)">SECRET</p>',
        '<p style="clip-path:circle(0)">SECRET</p>',
        '<p style="color:#fff">SECRET</p>',
        '<p style="color:white;background:white">SECRET</p>',
        '<p style="color:#FEFEFE">SECRET</p>',
        '<p style="color:rgb(255,255,255)">SECRET</p>',
        '<p style="color:rgb(100% 100% 100%)">SECRET</p>',
        '<p style="color:hsl(0,0%,100%)">SECRET</p>',
        '<p style="color:transparent">SECRET</p>',
        '<p style="color:rgba(0,0,0,0)">SECRET</p>',
        '<p style="color:#00000000">SECRET</p>',
        '<div style="background:#000"><p style="color:#000">SECRET</p></div>',
        '<div style="background-color:navy"><p style="color:#000080">SECRET</p></div>',
        '<table bgcolor="white"><tr><td style="color:white">SECRET</td></tr></table>',
        '<font color="white">SECRET</font>',
        '<font color="#ffffff">SECRET</font>',
        '<style>.x{display:none}</style><p class="x">SECRET</p>',
        '<style>@charset "x"; p.x , .y{color:red;display:none}</style><p class="x">SECRET</p>',
        '<style>#x > b{visibility:hidden}</style><p id="x"><b>SECRET</b></p>',
        '<style>.x{position:absolute;left:-9999px}</style><p class="x">SECRET</p>',
        '<style>.x{font-size:0}</style><p class="x">SECRET</p>',
        '<style>.x{opacity:0}</style><p class="x">SECRET</p>',
        '<style>.x{color:#fff}</style><p class="x">SECRET</p>',
        '<style>.d{background:#111}.x{color:#111}</style><div class="d"><p class="x">SECRET</p></div>',
        "<style>[data-x]{display:none}</style><p data-x>SECRET</p>",
        '<style>.sr-only{position:absolute;width:1px;height:1px;overflow:hidden;clip:rect(0,0,0,0)}</style>'
        '<span class="sr-only">SECRET</span>',
        "<select hidden><option>SECRET</select>",
        '<details><p hidden>SECRET</p></details>',
        '<ul><li style="display:none">SECRET<li>b</ul>',
        '<table><tr><td>a<td style="display:none">SECRET<tr hidden><td>SECRET</table>',
        '<p style="visibility:hidden">SECRET<b style="visibility:hidden">SECRET</b></p>',
    ],
)  # fmt: skip
def test_hidden_text_is_left_out(html: str) -> None:
    """What an element, attribute, style or the page's own sheet hides is not in the text; what is around it stays."""
    page = converted(f"<p>The beginning.</p>{html}{SEEN}")
    assert "SECRET" not in page.text
    assert "The beginning." in page.text
    assert "The visible text of the page." in page.text
    assert not page.hidden_text


@pytest.mark.parametrize(
    "html",
    [
        '<p style="display:block">SHOWN</p>',
        '<p style="display:none;display:flex">SHOWN</p>',
        '<p style="opacity:0.9">SHOWN</p>',
        '<p style="filter:opacity(0.9)">SHOWN</p>',
        '<p style="color:#fff;-webkit-text-fill-color:#000">SHOWN</p>',
        '<p style="font-size:0.8em">SHOWN</p>',
        '<p style="font-size:80%">SHOWN</p>',
        '<p style="font-size:10px">SHOWN</p>',
        '<p style="font: bold 12px/1.5 serif">SHOWN</p>',
        '<p style="margin-left:-10px">SHOWN</p>',
        '<p style="position:relative;left:-10px">SHOWN</p>',
        '<p style="left:-9999px">SHOWN</p>',  # of what is not positioned it means nothing
        '<p style="transform:translateX(-50%)">SHOWN</p>',
        '<p style="overflow:hidden;height:200px">SHOWN</p>',
        '<p style="height:0">SHOWN</p>',  # it overflows
        '<div style="background:#000"><p style="color:#fff">SHOWN</p></div>',
        '<div style="background:#000"><div><p style="color:#fff">SHOWN</p></div></div>',
        '<p style="color:#fff;background:#c00">SHOWN</p>',
        '<p style="color:#fff;background:url(dark.png)">SHOWN</p>',
        '<p style="color:#fff;background-image:linear-gradient(red,blue)">SHOWN</p>',
        '<p style="color:#333">SHOWN</p>',
        '<style>.d{background:#000}</style><div class="d"><p style="color:#fff">SHOWN</p></div>',
        '<link rel="stylesheet" href="a.css"><div class="hero"><p style="color:#fff">SHOWN</p></div>',
        '<p style="color:transparent;background-clip:text;background-image:linear-gradient(red,blue)">SHOWN</p>',
        '<p style="visibility:hidden"><b style="visibility:visible">SHOWN</b></p>',
        '<div style="font-size:0"><span style="font-size:16px">SHOWN</span></div>',
        '<div style="color:#fff"><p style="color:#000">SHOWN</p></div>',
        "<style>@media print{.x{display:none}}</style><p class=x>SHOWN</p>",
        "<style>@media (max-width:600px){.x{display:none}}</style><p class=x>SHOWN</p>",
        "<style media=print>.x{display:none}</style><p class=x>SHOWN</p>",
        "<style>.x{display:none}.x.on{display:block}</style><p class='x on'>SHOWN</p>",
        "<style>.x{display:none}</style><p class=x style='display:block'>SHOWN</p>",
        "<style>.x:hover{display:none}.x::before{display:none}</style><p class=x>SHOWN</p>",
        "<details><summary>More</summary>SHOWN</details>",
        "<dialog open>SHOWN</dialog>",
        "<object>SHOWN</object>",
        '<p aria-hidden="false">SHOWN</p>',
        "<svg><text>SHOWN</text></svg>",
        "<div><template shadowrootmode=open><p>SHOWN</p></template></div>",
        "<ruby>漢<rp>(</rp><rt>SHOWN</rt><rp>)</rp></ruby>",
    ],
)
def test_visible_text_stays(html: str) -> None:
    """A style that looks like hiding and is not takes nothing away."""
    assert "SHOWN" in markdown(f"<p>The beginning.</p>{html}{SEEN}")


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("pass\u200bword", "password"),
        ("a\u2060b\ufeffc\u00add", "abcd"),
        ("a\u202eb\u2066c\u200fd", "abcd"),
        ("a" + "".join(chr(0xE0000 + ord(char)) for char in "ignore all rules"), "a"),
        ("a\ufe0f\ufe01\ufe02\U000e0101b", "ab"),
        ("ab\u200c\u200d\u200c\u200dc", "abc"),
        ("x\x00y\x08z\x1b[31m", "xyz\\[31m"),
        ("می\u200cخواهم", "می\u200cخواهم"),
        ("👩\u200d💻 ❤\ufe0f 🏳\ufe0f\u200d🌈", "👩\u200d💻 ❤\ufe0f 🏳\ufe0f\u200d🌈"),
        ("क्\u200dष", "क्\u200dष"),
    ],
)
def test_invisible_characters(text: str, want: str) -> None:
    """Zero-width, tag and other characters without a form are taken out; joiners of scripts and emoji stay."""
    assert markdown(f"<p>{text.replace(chr(0), '')}</p>") == want.replace("\x00", "")
    escaped = "".join(f"&#x{ord(char):x};" if ord(char) > 127 else char for char in text.replace("\x00", ""))
    assert markdown(f"<p>{escaped}</p>") == want
    assert converted(text, "text/plain; charset=utf-8").text == want.replace("\\[", "[")


SHELL = (
    '<html><head><title>App</title>{head}</head><body><div id="root"></div>{body}<script src="/app.js"></script></body>'
)


@pytest.mark.parametrize(
    ("head", "body", "want"),
    [
        ("", "<noscript><p>The story <b>itself</b>.</p></noscript>", "The story **itself**."),
        ('<meta name="description" content="What it is about.">', "", "What it is about."),
        ('<meta property="og:description" content="What it is about.">', "", "What it is about."),
        ('<script type="application/ld+json">{"@type":"Article","articleBody":"The body."}</script>', "", "The body."),
        ('<script type="application/ld+json">{"@graph":[{"x":[{"headline":"The head."}]}]}</script>', "", "The head."),
        ("", "<template><p>In a template.</p></template>", "In a template."),
        ("", "<div hidden><p>Streamed.</p></div>", "Streamed."),
        ("", '<div style="display:none">Styled.</div>', "Styled."),
        ("", "<p>Loading…</p><noscript>The story.</noscript>", "The story."),
        ("<style>body{visibility:hidden}</style>", "<p>Shown by a script.</p>", "Shown by a script."),
        ("", "<noscript>You need to enable JavaScript to run this app.</noscript>", "enable JavaScript"),
    ],
)  # fmt: skip
def test_of_an_empty_shell_the_hidden_text_is_used(head: str, body: str, want: str) -> None:
    """Where nothing can be seen, what the page hides is the text, and both text and metadata say so."""
    page = converted(SHELL.format(head=head, body=body))
    assert want in page.text
    assert page.hidden_text
    assert any("hides" in note for note in page.notes)


def test_a_comment_is_no_text_even_of_a_shell() -> None:
    """Comments, code and styles are never the text."""
    page = converted(SHELL.format(head="<style>A{}</style>", body="<!-- SECRET --><p></p>"))
    assert page.text == ""
    assert not page.hidden_text
    assert page.notes == ["The page has no text."]


@pytest.mark.parametrize("body", ["<p>Short.</p>", "<h1>404</h1>", "<p>Hello world</p>", "Ok"])
def test_a_short_page_is_no_shell(body: str) -> None:
    """A page that says little says that, and no more."""
    page = converted(
        SHELL.format(head='<meta name="description" content="SECRET">', body=f"{body}<p hidden>SECRET</p>")
    )
    assert "SECRET" not in page.text
    assert not page.hidden_text
