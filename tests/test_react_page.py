"""The page of a run: `plugins/reasoning_react/seeing/page.py`, by its text and in a real browser."""

from __future__ import annotations

import base64
import hashlib
import html.parser
import re
import time
import unicodedata
from collections.abc import Iterator
from pathlib import Path

import pypdf
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib import image

from plugins.reasoning_react.seeing import page as module
from plugins.reasoning_react.seeing.page import page
from plugins.reasoning_react.seeing.trace import Call, Said, Step, Tokens, Trace, Turn
from shared.visible import visible
from tests.browser import Browser, browser

EVIL = (
    "</pre></script></style></title><script>alert(1)</script><img src=http://127.0.0.1:1/x onerror=alert(2)>"
    "<!--<a href='javascript:alert(3)'>\" onclick=\"alert(4)\" ' onfocus='alert(5)&lt;b&gt;&amp;#60;<style>*{color:red}"
    "<svg onload=alert(6)><iframe src=http://127.0.0.1:1/><meta http-equiv=refresh content=0><base href=//127.0.0.1:1/>"
    "\x00\x01\x1b[2J\r\u202edlrow\u2066\u200b\ufeff\U000e0041\ud800\udc00\u2028]]>"
)


def run_of(text: str) -> Trace:
    """A run in which every text is this one."""
    call = Call(text, text, text, text, seconds=0.5)
    failed = Call("2", "t", "{}", text, is_error=True, seconds=0.5)
    said = [Said(text, text, text, [text]), Said("tool", text)]
    turns = [
        Turn(0, said, [text, text], text, text, [text], text, Tokens(10, 5, 15), 1.5),
        Turn(2, said, error=text),
    ]
    steps = [
        Step(1, text, [call, failed], text, 2.0, 0.5, Tokens(10, 5, 15), turns, True),
        Step(2, text, [Call("3", "t", text)], seconds=1.0),
    ]
    return Trace(text, text, 1.79e9, b"", steps, True, text, "ANSWERED")


class _Tags(html.parser.HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[str] = []
        self.attributes: set[str] = set()
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes |= {name for name, _ in attrs}

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def tags_of(text: str) -> _Tags:
    parser = _Tags()
    parser.feed(text)
    parser.close()
    return parser


PLAIN = tags_of(page(run_of("word")))


def test_hostile_text_makes_no_element() -> None:
    """Whatever the texts hold, the page has the elements and attributes that it has for plain ones, and their marks."""
    found = tags_of(page(run_of(EVIL)))
    assert [tag for tag in found.tags if tag != "span"] == [tag for tag in PLAIN.tags if tag != "span"]
    assert found.attributes == PLAIN.attributes
    assert not {"script", "img", "iframe", "base", "link", "object"} & set(found.tags)
    assert not any(name.startswith("on") or name in ("style", "src") for name in found.attributes)


@given(st.text(st.characters(), min_size=1, max_size=200))
def test_any_text(text: str) -> None:
    """The page of any text can be written as UTF-8, shows what of it can be seen, and has no control in it."""
    whole = page(run_of(text))
    whole.encode()
    found = tags_of(whole)
    assert [tag for tag in found.tags if tag != "span"] == [tag for tag in PLAIN.tags if tag != "span"]
    assert visible(text, "{}") in "".join(found.text)
    assert not [c for c in whole if unicodedata.category(c) in ("Cc", "Cs") and c not in "\n\t"]


@pytest.mark.parametrize(
    "character", ["\x00", "\x1b", "\r", "\x7f", "\x9b", "\u202e", "\u2066", "\u200b", "\u2028", "\ufeff", "\U000e0041"]
)
def test_what_cannot_be_seen(character: str) -> None:
    """A control, a mark of direction, a letter of no width: its number stands there, set apart from the text."""
    whole = page(Trace(f"a{character}b"))
    assert character not in whole
    assert f'a<span class="unseen">U+{ord(character):04X}</span>b' in whole


def test_what_can_be_seen_stays() -> None:
    """Letters of all scripts, emoji made of several and line breaks of either kind are as they were."""
    text = "Zażółć שלום سلام नमस्ते 👩\u200d🚀 می\u200cخواهم\n\tnext"
    assert text in page(Trace(text))
    assert "one\ntwo" in page(Trace("one\r\ntwo"))


def test_the_policy_names_the_style() -> None:
    """The policy allows the one style sheet, by its hash, and nothing else; no element has a style of its own."""
    whole = page(run_of("word"))
    style = re.search("<style>(.*?)</style>", whole, re.DOTALL)
    assert style
    digest = base64.b64encode(hashlib.sha256(style[1].encode()).digest()).decode()
    assert f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'" in whole
    assert "url(" not in style[1]
    assert "@import" not in style[1]


def test_everything_is_there() -> None:
    """Thought, arguments, result, tokens, time, what the model was asked and what it wrote: exactly, for each step."""
    step = Step(
        1,
        "I think.",
        [
            Call("id-1", "find", '{"a":  1}', "two  blanks", seconds=0.25),
            Call("id-2", "drop", "{}", "no!", denied=True, seconds=0.25),
            Call("id-3", "wait", "{}"),
        ],
        "You repeat yourself.",
        1.5,
        0.25,
        Tokens(1200, 34, 1234),
        [Turn(3, [Said("tool", "seen", "find")], ["find"], "hm", "", ['find({"a":  1})'], "TOOL_CALLS", None, 1.25)],
        True,
    )
    whole = page(Trace("Why?", steps=[step]))
    text = "\n".join(tags_of(whole).text)
    for part in ("Why?", "not ended", "I think.", '{"a":  1}', "two  blanks", "You repeat yourself.",
                 "1,200 + 34 tokens", "1.5 s", "0.2 s", "denied", "unanswered", "hm", "id-2",
                 "3 messages as in the turn before", 'find({"a":  1})', "seen", "tokens unknown"):  # fmt: skip
        assert part in text, part


def test_very_long_and_very_many() -> None:
    """A text past a bound is cut and says by how much; a thousand steps make a page in seconds."""
    whole = page(Trace("q", answer="a" * (module.LONGEST + 5)))
    assert "… 5 more characters" in whole
    assert whole.count("a" * 1000) == module.LONGEST // 1000
    began = time.monotonic()
    many = page(Trace("q", steps=[Step(n, "t" * 1000, [Call("i", "t", "{}", "<" * 5000)]) for n in range(1, 1001)]))
    assert time.monotonic() - began < 20
    assert many.count("<article") == 1000


# ---------------------------------------------------------------- in a browser


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with browser() as running:
        yield running


def written(folder: Path, trace: Trace) -> Path:
    file = folder / "trace.html"
    file.write_text(page(trace), encoding="utf-8")
    return file


@pytest.mark.slow
def test_a_browser_has_no_complaint(chromium: Browser, tmp_path: Path) -> None:
    """A browser takes style and policy as they are, loads nothing, and shows hostile text as text."""
    chromium.look()
    chromium.open(written(tmp_path, run_of(EVIL)))
    assert chromium.complaints == []
    assert chromium.requested() == [(tmp_path / "trace.html").as_uri()]
    assert chromium.run("document.querySelectorAll('script, img, iframe, base, pre *:not(span.unseen)').length") == 0
    shown = chromium.run("document.querySelector('.call pre').textContent")
    assert shown == visible(EVIL, "{}")
    assert chromium.run("getComputedStyle(document.querySelector('.call')).borderLeftWidth") == "4px"


@pytest.mark.slow
def test_the_policy_holds(chromium: Browser, tmp_path: Path) -> None:
    """Would a script or a picture get into the page all the same, the browser would refuse it and say so."""
    file = tmp_path / "broken.html"
    broken = "<script>document.title = 'run'</script><img src='http://127.0.0.1:1/x'><p style='color: red' id=p>x</p>"
    file.write_text(page(Trace("q")).replace("</main>", broken + "</main>"), encoding="utf-8")
    chromium.look()
    chromium.open(file)
    assert chromium.run("document.title") == "q"
    assert chromium.run("getComputedStyle(document.getElementById('p')).color") != "rgb(255, 0, 0)"
    assert len([text for text in chromium.complaints if "Content Security Policy" in text]) == 3, chromium.complaints


@pytest.mark.slow
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [360, 1000])
def test_light_and_dark_on_any_width(chromium: Browser, tmp_path: Path, dark: bool, width: int) -> None:
    """Paper and ink are the reader's choice and far apart; the page is nowhere wider than the window."""
    chromium.look(width=width, dark=dark)
    chromium.open(written(tmp_path, run_of("word " + "w" * 3000)))
    chromium.run("document.querySelectorAll('details').forEach(part => { part.open = true })")
    assert chromium.run("document.documentElement.scrollWidth") == width
    chromium.screenshot(tmp_path / "page.png")
    pixels = image.imread(tmp_path / "page.png")[:, :, :3].mean(axis=2)
    paper = float(pixels[2, 2])
    assert paper < 0.2 if dark else paper > 0.9
    assert float(pixels.max()) > 0.7, "nothing light in it"
    assert float(pixels.min()) < 0.3, "nothing dark in it"


@pytest.mark.slow
def test_every_text_can_be_read(chromium: Browser, tmp_path: Path) -> None:
    """Text stands out from what is behind it by 4.5 to 1 or more, in light and in dark, as WCAG 2 asks."""
    ratio = """(() => {
      const light = text => { const [r, g, b] = text.match(/[0-9.]+/g).slice(0, 3).map(Number).map(
        c => (c /= 255) <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
        return 0.2126 * r + 0.7152 * g + 0.0722 * b };
      const behind = part => { for (; part; part = part.parentElement) {
        const colour = getComputedStyle(part).backgroundColor;
        if (!/, 0\\)$/.test(colour)) return light(colour) } return NaN };
      const ratios = [...document.querySelectorAll('body *')].filter(part => [...part.childNodes].some(
        node => node.nodeType === 3 && node.data.trim())).map(part => { const one = light(getComputedStyle(part).color),
          other = behind(part); return (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05) });
      return Math.min(...ratios) })()"""
    for dark in (False, True):
        chromium.look(dark=dark)
        chromium.open(written(tmp_path, run_of("word\u202e")))
        assert chromium.run(ratio) >= 4.5, dark


@pytest.mark.slow
def test_print(chromium: Browser, tmp_path: Path) -> None:
    """On paper all of it is there: what is folded on the screen, and the end of what is scrolled there."""
    step = Step(
        1,
        calls=[Call("1", "read", "{}", "\n".join(f"line-{n}" for n in range(100)))],
        turns=[Turn(0, [Said("system", "folded-text")])],
    )
    chromium.look(dark=True)
    chromium.open(written(tmp_path, Trace("What is printed?", steps=[step])))
    chromium.print(tmp_path / "page.pdf")
    text = "".join(part.extract_text() for part in pypdf.PdfReader(tmp_path / "page.pdf").pages)
    for part in ("What is printed?", "line-0", "line-99", "folded-text"):
        assert part in text


@pytest.mark.slow
def test_without_javascript(chromium: Browser, tmp_path: Path) -> None:
    """With scripts turned off it looks the same, to the pixel."""
    trace = run_of("word")
    chromium.look()
    chromium.open(written(tmp_path, trace))
    chromium.screenshot(tmp_path / "with.png", whole=True)
    chromium.call("Emulation.setScriptExecutionDisabled", value=True)
    try:
        chromium.open(written(tmp_path, trace))
        chromium.screenshot(tmp_path / "without.png", whole=True)
    finally:
        chromium.call("Emulation.setScriptExecutionDisabled", value=False)
    assert (tmp_path / "with.png").read_bytes() == (tmp_path / "without.png").read_bytes()
