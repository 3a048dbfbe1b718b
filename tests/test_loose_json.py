"""JSON as models write it: `shared/loose_json`."""

from __future__ import annotations

import contextlib
import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.loose_json import CutOff, NotRead, Unreadable, read_value, read_whole

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=12,
)
CONTAINERS = st.lists(VALUES, max_size=4) | st.dictionaries(st.text(max_size=6), VALUES, max_size=4)
TOKENS = st.sampled_from(
    [
        '"a": ',
        '{"a": "x"}',
        '" b "',
        *"{}[]()\"'“”„‘:,\\ \na1-",
        *'.5 e9 0x "a" \'b\' “c” true None \\" \\u12 \\ud800 it\'s """ NaN'.split(),
    ]
)

READ: list[tuple[str, Any]] = [
    ("{'a': True, 'b': None, 'c': (1, 'x'), 'd': (3), 'e': (), 'f': (4,)}",
     {"a": True, "b": None, "c": [1, "x"], "d": 3, "e": [], "f": [4]}),
    ("{'a': \"it's\", 'b': 'say \"x\"'}", {"a": "it's", "b": 'say "x"'}),
    ("{'a': 0x1F, 'b': 1_000, 'c': .5, 'd': +2, 'e': 1.}", {"a": 31, "b": 1000, "c": 0.5, "d": 2, "e": 1.0}),
    ("{'a': '\\x41\\u0042\\n'}", {"a": "AB\n"}),
    ('{"a": """two\n"lines" """}', {"a": 'two\n"lines" '}),
    ('{"a": [1, 2,], "b": 3,}', {"a": [1, 2], "b": 3}),
    ('{"a": "one\ntwo\tthree\x01"}', {"a": "one\ntwo\tthree\x01"}),
    ("{“a”: “b”, ‘c’: „d“}", {"a": "b", "c": "d"}),
    ("{“a”: “he said “yes””}", {"a": "he said “yes”"}),
    ('{"a": "he said „yes" and left",}', {"a": 'he said „yes" and left'}),
    ('{"a": "he said "yes" and left"}', {"a": 'he said "yes" and left'}),
    ('{"a": "he said "yes", and left", "b": 1}', {"a": 'he said "yes", and left', "b": 1}),
    ("{'a': 'it's fine'}", {"a": "it's fine"}),
    ('{a: 1, b-c: "x"}', {"a": 1, "b-c": "x"}),
    ('{"a": [1, 2]], "b": 3}', {"a": [1, 2], "b": 3}),
    ('{"a": "\\d+ \\w"}', {"a": "\\d+ \\w"}),
    ('{"a": "\\ud83d\\ude00",}', {"a": "😀"}),
    ("\ufeff\u200b {\u200b'a'\u00a0: 1}", {"a": 1}),
]  # fmt: skip

REFUSED = [
    ('{"a": 1, "a": 2}', "'a' is there twice"),
    ("{'a': 1, 'a': 2}", "'a' is there twice"),
    ('{"a": {"b": 1, "b": 1}}', "'b' is there twice"),
    ('{"a": ' + "1" * 5_000 + "}", "digits"),
    ("{'a': " + "1" * 5_000 + "}", "digits"),
    ('{"a": 0.' + "1" * 5_000 + "}", "digits"),
    ('{"a": 1e999}', "'1e999' is too large"),
    ("{'a': -1e999}", "'-1e999' is too large"),
    ('{"a": NaN}', "'NaN' is no JSON value"),
    ("[1, -Infinity,]", "'-Infinity' is no JSON value"),
    ("{'a': nan}", "'nan' is no JSON value"),
    ('["\\ud800"]', "half of a character"),
    ("['\\udc00']", "half of a character"),
    ('["\ud800"]', "half of a character"),
    ('{"\\ud800": 1}', "half of a character"),
    ("[" * 10_000 + "]" * 10_000, "levels"),
    ("(" * 10_000, "levels"),
    ('{"a":' * 300 + "1" + "}" * 300, "levels"),
    ('{"a": "5" tape"}', "must be written"),
    ('{"cmd": "echo "x", "y": "z"", "k": 1}', "must be written"),
    ('{"a": "x", b": "y", c": "z"}', "must be written"),
    ('{"a": "x, "b": "y"}', "must be written"),
    ('{"a": "x" "y"}', "must be written"),
    ("{'a': 'the dogs' bone'}", "must be written"),
    ('{"a": "C:\\dir\\new"}', "backslash"),
    ('{"a": "C:\\Users"}', "hexadecimal"),
    ('{"a": "one \\\ntwo"}', "backslash"),
    ('{"a": """C:\\x"""}', "backslash"),
    ('{"a": 1 "b": 2}', "comma or }"),
    ('{"a": [1, 2}', "] is missing"),
    ("{a 1}", "colon"),
    ("{1: 2}", "key must be a string"),
    ("{'a': 1,, 'b': 2}", "key must be a string"),
    ("[,]", "value is missing"),
    ("[01]", "'01' is no number"),
    ("[2024-01-01]", "no number"),
    ('{"a": hello}', "nor in quotes"),
    ("{1, 2}", "key must be a string"),
    ("[b'x']", "nor in quotes"),
    ("['x', " + "1," * 200_000 + "]", "more than 100000 values"),
    ("hello", "nor in quotes"),
]

CUT = [
    '{"a": "b',
    '{"a": tr',
    '{"a": -',
    '{"a": 1e',
    '{"a": "\\u12',
    '{"a"',
    '{"a": [1, 2',
    "{'a': 'b",
    "{'a': Tr",
    "['x', (1",
]
CUT += ["", "   ", "{", "[", '"abc', "1e", "-", "{“a", '{"a": "x", "b', "{'a': 1}"[:-1], '{"a": {"b": 1}']


@given(CONTAINERS, st.booleans(), st.sampled_from([None, 1]))
def test_what_is_json_is_read_as_json_reads_it(value: Any, ascii_only: bool, indent: int | None) -> None:
    """Text that `json` writes is read to the same value, types included, and all of it."""
    text = json.dumps(value, ensure_ascii=ascii_only, indent=indent)
    read, end = read_value(text + " {")
    assert (repr(read), end) == (repr(json.loads(text)), len(text))


@given(CONTAINERS)
def test_what_is_a_python_literal_is_read(value: Any) -> None:
    """`repr` of a value is read to the value."""
    text = repr(value)
    assert read_value(text) == (value, len(text))


@given(CONTAINERS)
def test_no_beginning_of_a_value_is_a_value(value: Any) -> None:
    """Every beginning of a value, of JSON and of Python, is cut off."""
    for text in (json.dumps(value), json.dumps(value, ensure_ascii=False, indent=1), repr(value)):
        for end in range(len(text)):
            with pytest.raises(CutOff):
                read_value(text[:end])


@given(st.sampled_from(['{"k": "', "{'k': '", '{"k": ', "[", ""]), st.lists(TOKENS, max_size=14))
def test_whatever_stands_there(head: str, tokens: list[str]) -> None:
    """Any text is a value, cut off or unreadable, never another error; and no beginning of what is read is a value."""
    text = head + "".join(tokens)
    try:
        value, end = read_value(text)
    except (CutOff, Unreadable):
        return
    json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
    if isinstance(value, dict | list):
        for at in range(end):
            with pytest.raises(NotRead):
                read_value(text[:at])


@pytest.mark.parametrize(("text", "value"), READ)
def test_what_is_almost_json(text: str, value: Any) -> None:
    """Python's literals, and what the repair mends, are read."""
    assert read_value(text + " and more") == (value, len(text))
    assert repr(read_value(text)[0]) == repr(value)


@pytest.mark.parametrize(("text", "words"), REFUSED, ids=[text[:30] for text, _ in REFUSED])
def test_what_is_refused(text: str, words: str) -> None:
    """What could be more than one value, or is none that JSON has, is refused with the reason."""
    with pytest.raises(Unreadable) as error:
        read_value(text)
    assert words in str(error.value)
    assert len(str(error.value)) < 200


@pytest.mark.parametrize("text", CUT)
def test_what_is_cut_off(text: str) -> None:
    """A value that the end of the text has cut is said to be, and not completed."""
    with pytest.raises(CutOff):
        read_value(text)


def test_a_value_in_the_middle_of_a_text() -> None:
    """It is read from where it begins; what follows does not matter."""
    text = 'see {"a": [1, 2]} and {"b"'
    assert read_value(text, 4) == ({"a": [1, 2]}, 17)
    assert read_value('"text" 5') == ("text", 6)
    assert read_value(" 12, 13") == (12, 3)


def test_a_whole_text() -> None:
    """`read_whole` lets blanks and surplus brackets pass, and nothing else."""
    assert read_whole(' {"a": 1}}} \n') == {"a": 1}
    with pytest.raises(Unreadable, match="more behind"):
        read_whole('{"a": 1} x')


def test_limits_do_not_depend_on_the_stack() -> None:
    """200 levels are read, 201 are not, however deep the caller is."""
    for depth, is_read in ((200, True), (201, False)):
        for text in ("[" * depth + "]" * depth, "['x', " + "[" * (depth - 1) + "]" * depth):
            if is_read:
                read_value(text)
            else:
                with pytest.raises(Unreadable):
                    read_value(text)


UNITS = [
    '{"a":"',
    '["x" ,',
    "'\"",
    "[[],",
    '{"a":1,',
    "{'a':[],",
    "\\n",
    '"   ,   ',
    '"a" b",',
    "(",
    "1,",
    "1",
    "',",
    "'\\x41",
]
UNITS += [
    "]",
    "[[[]",
    '"a",',
    "„",
    "'s ",
    '"""',
    ", k: ",
    '", "k',
    "\\u00e9",
    '"\\"',
    "   ",
    "-",
    "e",
    '{"k":{"',
    "'',",
]
HEADS = ["", "[", "['x',", '["', "{'k': '", '{"k": "']


@pytest.mark.slow
@pytest.mark.parametrize("unit", UNITS)
def test_a_megabyte_is_read_within_a_second(unit: str) -> None:
    """Ten times the second that 1 MB may take, as the machine may be busy, and no more than twice what grows with the
    text where it is eight times as long."""
    for head in HEADS:
        small, large = (_seconds(head + unit * (size // len(unit))) for size in (125_000, 1_000_000))
        assert large < 10
        assert large < 16 * small + 0.5, head


def _seconds(text: str) -> float:
    began = time.process_time()
    with contextlib.suppress(NotRead):
        read_value(text)
    return time.process_time() - began


@pytest.mark.parametrize("unit", UNITS)
def test_reading_is_linear(unit: str) -> None:
    """Sixteen times the text takes nowhere near the 256 times as long that it would if time grew with the square."""
    for head in HEADS:
        texts = [head + unit * (size // len(unit)) for size in (5_000, 80_000)]
        small, large = (min(_seconds(text) for _ in range(2)) for text in texts)
        assert large < 80 * small + 0.1, head
