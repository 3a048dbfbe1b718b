"""Charsets of pages: who decides, what labels mean, and what happens to pages that lie."""

from __future__ import annotations

import codecs

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plugins.tools_http.engine.page.charset import decode
from tests.page_tools import converted

HTML = "text/html"


def page(text: str, encoding: str, head: str = "") -> bytes:
    return f"<html><head>{head}</head><body><p>{text}</p></body></html>".encode(encoding)


RUSSIAN = "Съешь же ещё этих мягких французских булок, да выпей чаю"
JAPANESE = "色は匂へど散りぬるを我が世誰ぞ常ならむ有為の奥山今日越えて浅き夢見じ酔ひもせず"
CHINESE = "苹果每斤五元,香蕉每斤三元。今天的天气很好,我们去公园散步吧。"
KOREAN = "키스의 고유조건은 입술끼리 만나야 하고 특별한 기술은 필요치 않다"
GREEK = "Ξεσκεπάζω την ψυχοφθόρα βδελυγμία και άλλα λόγια"
POLISH = "Pchnąć w tę łódź jeża lub ośm skrzyń fig, zażółć gęślą jaźń"
FRENCH = "Voix ambiguë d’un cœur qui, au zéphyr, préfère les jattes de kiwis à 5 €"


@pytest.mark.parametrize(
    ("label", "codec", "text"),
    [
        ("utf-8", "utf-8", RUSSIAN),
        ("UTF8", "utf-8", CHINESE),
        ("iso-8859-1", "cp1252", FRENCH),
        ("latin1", "cp1252", FRENCH),
        ("us-ascii", "cp1252", FRENCH),
        ("windows-1252", "cp1252", FRENCH),
        ("x-cp1252", "cp1252", FRENCH),
        ("iso-8859-2", "iso-8859-2", POLISH),
        ("iso-8859-9", "cp1254", "Pijamalı hasta yağız şoföre çabucak güvendi"),
        ("iso-8859-15", "iso-8859-15", "5 € à la carte"),
        ("windows-1251", "cp1251", RUSSIAN),
        ("cp1251", "cp1251", RUSSIAN),
        ("koi8-r", "koi8-r", RUSSIAN),
        ("iso-8859-7", "iso-8859-7", GREEK),
        ("shift_jis", "cp932", JAPANESE),
        ("x-sjis", "cp932", JAPANESE + "①髙"),
        ("euc-jp", "euc_jp", JAPANESE),
        ("iso-2022-jp", "iso2022_jp", JAPANESE),
        ("gb2312", "gb18030", CHINESE + "镕€"),  # 镕 is in no GB2312
        ("gbk", "gb18030", CHINESE),
        ("gb18030", "gb18030", CHINESE + "😀"),
        ("big5", "big5hkscs", "蘋果每斤五元"),
        ("ks_c_5601-1987", "cp949", KOREAN + "똠방각하"),
        ("euc-kr", "cp949", KOREAN),
        ("windows-874", "cp874", "เป็นมนุษย์สุดประเสริฐเลิศคุณค่า"),
        ("tis-620", "cp874", "เป็นมนุษย์สุดประเสริฐ"),
        ("macintosh", "mac_roman", "naïve café"),
        ("utf-16", "utf-16-le", RUSSIAN),
        ("utf-16be", "utf-16-be", RUSSIAN),
    ],
)
def test_labels_mean_what_browsers_make_of_them(label: str, codec: str, text: str) -> None:
    """A charset of the Content-Type is read by the WHATWG standard's table of labels, and decodes whole."""
    assert converted(page(text, codec), f"{HTML}; charset={label}", markdown=False).text == text
    if not label.lower().startswith("utf-16"):
        head = f'<meta charset="{label}">'
        assert converted(page(text, codec, head), HTML, markdown=False).text == text


@pytest.mark.parametrize(
    ("content_type", "body", "want"),
    [
        # The byte order mark wins over all.
        (f"{HTML}; charset=gbk", codecs.BOM_UTF8 + page("é", "utf-8"), "é"),
        (f"{HTML}; charset=utf-8", codecs.BOM_UTF16_LE + page("é漢", "utf-16-le"), "é漢"),
        (f"{HTML}; charset=utf-8", codecs.BOM_UTF16_BE + page("é漢", "utf-16-be"), "é漢"),
        (HTML, codecs.BOM_UTF8 + page("é", "utf-8", '<meta charset="gbk">'), "é"),
        # The header wins over <meta>.
        (f"{HTML}; charset=windows-1251", page("Привет", "cp1251", "<meta charset=utf-8>"), "Привет"),
        (f'{HTML}; Charset="windows-1251"', page("Привет", "cp1251"), "Привет"),
        (f"{HTML};charset='windows-1251'", page("Привет", "cp1251"), "Привет"),
        (f"{HTML}; a=b; charset = windows-1251 ; c=d", page("Привет", "cp1251"), "Привет"),
        # A label that is none is as if there were none.
        (f"{HTML}; charset=rot13", page("Привет, мир", "cp1251", "<meta charset=cp1251>"), "Привет, мир"),
        (f"{HTML}; charset=", page("é", "utf-8"), "é"),
        (f"{HTML}; charset=utf-7", page("é", "utf-8"), "é"),
        (f"{HTML}; charset=idna", page("é", "utf-8"), "é"),
        (f"{HTML}; charset=\xff\x00", page("é", "utf-8"), "é"),
        # <meta> in its forms.
        (HTML, page("Привет", "cp1251", "<meta http-equiv=content-type content='a; charset=cp1251'>"), "Привет"),
        (HTML, page("Привет", "cp1251", "<META CHARSET=cp1251 />"), "Привет"),
        (HTML, page("Привет", "cp1251", "<meta content='text/html;charset=cp1251' http-equiv=Content-Type>"), "Привет"),
        # One in a comment is none, and one behind a comment counts.
        (HTML, page("é", "utf-8", "<!-- <meta charset=gbk> -->"), "é"),
        (HTML, page("Привет", "cp1251", "<!-- <meta charset=gbk> --><meta charset=cp1251>"), "Привет"),
        (HTML, page("é", "utf-8", "<!-- a > b <meta charset='gbk' -->"), "é"),
        (HTML, page("Привет", "cp1251", "<!--><meta charset=cp1251>"), "Привет"),
        (HTML, page("é", "utf-8", "<a title='<meta charset=gbk>'>"), "é"),
        # UTF-16 in a <meta> cannot be: the bytes that say it are none.
        (HTML, page("é", "utf-8", "<meta charset=utf-16>"), "é"),
        # Behind the first 1024 bytes it is not looked for.
        (HTML, page("é", "utf-8", " " * 1024 + "<meta charset=gbk>"), "é"),
        (HTML, page("Привет", "cp1251", " " * 900 + "<meta charset=cp1251>"), "Привет"),
        # Strict UTF-8 before a guess.
        (HTML, page("ÃÂ© é", "utf-8"), "ÃÂ© é"),
        (HTML, b"<p>plain", "plain"),
        # Bytes that are in no charset become U+FFFD, and the rest stays.
        (f"{HTML}; charset=utf-8", page("éàèöüñçßøå ", "utf-8")[:-18] + b"\xff!", "éàèöüñçßøå \ufffd!"),
        # The XML declaration of XHTML.
        ("application/xhtml+xml", b'<?xml version="1.0" encoding="cp1251"?>' + page("Привет", "cp1251"), "Привет"),
    ],
)  # fmt: skip
def test_who_decides(content_type: str, body: bytes, want: str) -> None:
    """Byte order mark, header, `<meta>` of the first 1024 bytes, strict UTF-8, in this order."""
    assert converted(body, content_type, markdown=False).text == want


@pytest.mark.parametrize(
    ("codec", "text"),
    [
        ("cp1251", RUSSIAN),
        ("koi8-r", RUSSIAN),
        ("cp932", JAPANESE),
        ("euc_jp", JAPANESE),
        ("gb18030", CHINESE),
        ("big5", "蘋果每斤五元,香蕉每斤三元。今天的天氣很好,我們去公園散步吧。"),
        ("cp949", KOREAN),
        ("iso-8859-7", GREEK),
        ("cp1252", FRENCH),
        ("iso-2022-jp", JAPANESE),
    ],
)
def test_the_detector_is_asked_last(codec: str, text: str) -> None:
    """A page that says nothing and is no UTF-8 is what it looks like."""
    assert converted(page(f"{text} {text}", codec), HTML, markdown=False).text == f"{text} {text}"


def test_a_header_that_is_plainly_wrong() -> None:
    """A charset under which most of a page cannot be decoded gives way to what the page says, and to what it is."""
    assert converted(page(CHINESE, "gb18030", "<meta charset=gb18030>"), f"{HTML}; charset=utf-8").text == CHINESE
    assert converted(page(RUSSIAN, "cp1251"), f"{HTML}; charset=utf-8").text == RUSSIAN


@pytest.mark.parametrize("content_type", ["text/plain; charset=iso-8859-1", "text/plain"])
def test_plain_text(content_type: str) -> None:
    """Text that is no markup is decoded by the same order, without `<meta>`."""
    text = "Déjà <meta charset=gbk> vu: 5 €"
    assert converted(text.encode("cp1252"), content_type).text == text


@given(
    st.binary(max_size=300),
    st.text(max_size=20) | st.sampled_from(["utf-8", "gbk", "utf-16", "big5", "x-user-defined"]),
)
@settings(max_examples=60)
def test_no_bytes_and_no_label_fail(body: bytes, label: str) -> None:
    """Any bytes under any label are a text, and the encoding has a name."""
    for markup in (False, True):
        text, encoding = decode(body, label, markup=markup)
        text.encode("utf-8")
        assert encoding
