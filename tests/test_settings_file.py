"""A settings file as plain values: `shared/settings_file.py`. Whatever is in it, reading it is bounded."""

from __future__ import annotations

import os
import threading
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shared import bounded_file
from shared.errors import StartError
from shared.settings_file import read_yaml
from tests.servers import run_plugin

TOY = "tests.toy_plugin"


def read(folder: Path, text: str | bytes) -> dict[str, Any]:
    path = folder / "settings.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_yaml(path)


def refusal(folder: Path, text: str | bytes) -> str:
    with pytest.raises(StartError) as caught:
        read(folder, text)
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < len(str(folder)) + 250
    return message


def test_the_types_of_json(tmp_path: Path) -> None:
    """Values are null, true, numbers, texts, lists and mappings, written in any way that YAML has."""
    text = """
a: null
b: [true, no, "yes"]
c: {d: 1, e: 0x10, f: 1_000, g: 1.5, h: -1.0e+3}
i: |
  two
  lines
j: !!str 5
"""
    assert read(tmp_path, text) == {
        "a": None,
        "b": [True, False, "yes"],
        "c": {"d": 1, "e": 16, "f": 1000, "g": 1.5, "h": -1000.0},
        "i": "two\nlines\n",
        "j": "5",
    }


@pytest.mark.parametrize("text", ["2024-02-01", "2024-13-45", "2024-02-01 10:00:00", "22:30", "1:2:3", "22:30.5", "="])
def test_what_yaml_makes_too_much_of(tmp_path: Path, text: str) -> None:
    """A date such as Azure's api-version, and a time of day, are the text that stands there."""
    assert read(tmp_path, f"a: {text}\n{text}: b\n") == {"a": text, text: "b"}


def test_keys_are_the_text_that_stands_there(tmp_path: Path) -> None:
    """A key that YAML would read as a number or as true keeps its name."""
    assert read(tmp_path, "{1: a, on: b, 2.50: c, null: d, ~: e}") == {
        "1": "a", "on": "b", "2.50": "c", "null": "d", "~": "e"
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("token: a\nport: 1\ntoken: ''\n", "line 3: the key 'token' again, which line 1 has; keep one of them"),
        ("port: 1\nheaders:\n  a: x\n  a: y\n", "line 4: the key 'a' again, which line 3 has"),
        ("port: 1\nlist:\n- b: [{c: 1,\n  c: 2}]\n", "line 4: the key 'c' again, which line 3 has"),
        ("plugins:\n  x: {a: 1}\n  x: {a: 1}\n", "line 3: the key 'x' again, which line 2 has"),
        ("a: &x {b: 1, b: 2}\n", "line 1: the key 'b' again"),
        ("1: a\n'1': b\n", "line 2: the key '1' again, which line 1 has"),
        ("<<: {a: 1}\n<<: {a: 2}\n", "line 2: the key (not shown, since it is no plain name with a value) again"),
        ("a b: 1\na b: 2\n", "line 2: the key (not shown, since it is no plain name with a value) again"),
    ],
)
def test_a_key_twice(tmp_path: Path, text: str, says: str) -> None:
    """The same key twice, at any level, is an error that names the key and both lines, never the last one silently."""
    message = refusal(tmp_path, text)
    assert f"settings.yaml: {says}" in message
    assert "a b" not in message


def test_an_empty_token_below_a_token_is_no_open_server(tmp_path: Path) -> None:
    """A plugin whose file empties its token further down does not start, and says which line it is."""
    file = tmp_path / "settings.yaml"
    file.write_text("token: s3cr3t-value\nhost: 127.0.0.1\ntoken: ''\n")
    done = run_plugin(TOY, "--port", "0", "--config", str(file))
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"error: {file}: line 3: the key 'token' again, which line 1 has; keep one of them\n"


def test_anchors_and_merges(tmp_path: Path) -> None:
    """Aliases and `<<` do what YAML says: a mapping's own keys win, then those of the first that is merged."""
    text = """
one: &one {a: 1, b: 1}
two: &two {b: 2, c: 2}
list: [*one, *one]
both: {<<: [*one, *two], c: 3}
only: {d: 4, <<: *two}
"<<": text
"""
    assert read(tmp_path, text) == {
        "one": {"a": 1, "b": 1},
        "two": {"b": 2, "c": 2},
        "list": [{"a": 1, "b": 1}, {"a": 1, "b": 1}],
        "both": {"a": 1, "b": 1, "c": 3},
        "only": {"b": 2, "c": 2, "d": 4},
        "<<": "text",
    }


LAUGHS = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 12)
)
MERGES = "a0: &a0 {x: y}\n" + "".join(f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 10)}]}}\n" for n in range(1, 12))
LONG = f"a: &a {'x' * 100_000}\nb: [{', '.join(['*a'] * 300)}]\n"


@pytest.mark.parametrize("text", [LAUGHS, MERGES, LONG], ids=["lists", "merges", "texts"])
def test_aliases_that_multiply(tmp_path: Path, text: str) -> None:
    """A file whose aliases make a giant of it is refused before it is one: in one line and in little memory."""
    path = tmp_path / "settings.yaml"
    path.write_text(text)
    tracemalloc.start()
    try:
        message = refusal(tmp_path, text)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert "with what its aliases repeat the file has more than 100000 values" in message
    assert peak < 100e6


@pytest.mark.parametrize(
    "text", ["a: &a [*a]\n", "a: &a {b: *a}\n", "a: &a {b: [1, {c: *a}]}\n", "&a {b: *a}\n", "a: &a {<<: *a}\n"]
)
def test_an_alias_inside_of_what_it_repeats(tmp_path: Path, text: str) -> None:
    """An alias that repeats itself is refused in one line."""
    assert "line 1: nested more than 64 deep, or an alias that repeats itself" in refusal(tmp_path, text)


@pytest.mark.parametrize("text", ["a: " + "[" * 100 + "]" * 100, "a: " + "[" * 1000, "a: " + "{b: " * 90 + "}" * 90])
def test_deep_nesting(tmp_path: Path, text: str) -> None:
    """Nesting that nobody can mean is refused in one line."""
    assert "nested more than 64 deep" in refusal(tmp_path, text)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a: .inf", "line 1: an infinite number, or none"),
        ("a: -.INF", "line 1: an infinite number, or none"),
        ("a: .nan", "line 1: an infinite number, or none"),
        ("a: 1.0e+9999", "line 1: an infinite number, or none"),
        ("a: " + "9" * 5000, "line 1: a number of more than 30 characters"),
        ("a: 0x" + "f" * 100_000, "line 1: a number of more than 30 characters"),
        ("a: !!int s3cr3t", "line 1: this is no int"),
        ("a: !!int ''", "line 1: this is no int"),
        ("a: !!float s3cr3t", "line 1: this is no float"),
        ("a: !!bool s3cr3t", "line 1: this is no bool"),
        ("a: !!timestamp s3cr3t", "line 1: a tag that settings do not have"),
        ("a: !!binary s3cr3t", "line 1: a tag that settings do not have"),
        ("a: !!set {s3cr3t}", "line 1: a tag that settings do not have"),
        ("a: !!omap [s3cr3t: 1]", "line 1: a tag that settings do not have"),
        ("a: !!pairs [s3cr3t: 1]", "line 1: a tag that settings do not have"),
        ("a: !!python/object/apply:os.system [s3cr3t]", "line 1: a tag that settings do not have"),
        ("a: !s3cr3t b", "line 1: a tag that settings do not have"),
        ("a: !s3cr3t [b]", "line 1: a tag that settings do not have"),
        ("a:\n  ? [s3cr3t]\n  : 1", "line 2: a key that is no text"),
        ("a:\n  ? {s3cr3t: 1}\n  : 1", "line 2: a key that is no text"),
        ("a:\n  ?\n  : s3cr3t", "line 2: a key that is no text"),
        ("<<: s3cr3t", "line 1: `<<` takes in a mapping or a list of them"),
        ("<<: [{a: 1}, s3cr3t]", "line 1: `<<` takes in a mapping or a list of them"),
        ("a: s3cr3t\0", "is not YAML: something in it cannot be read"),
    ],
)
def test_what_no_setting_is_written_in(tmp_path: Path, text: str, says: str) -> None:
    """Numbers that are none, tags, keys that are no text and bytes that are no text are refused, naming the line."""
    message = refusal(tmp_path, text)
    assert says in message
    assert "s3cr3t" not in message


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (
            "a: 1\nplugins:\n  a: b: s3cr3t\n",
            ":3 is not YAML: a colon that begins no value here; put the text in quotes",
        ),
        ('b: 1\na: "s3cr3t\nb: 1\n', ":2 is not YAML: a quote that is opened and not closed"),
        ("a:\n\tb: s3cr3t\n", ":2 is not YAML: a tab, which counts for nothing here; indent with blanks"),
        ("a: @s3cr3t\n", ":1 is not YAML: a value that begins with a special character; put it in quotes"),
        ("a: [1, s3cr3t\nb: 3\n", ":1 is not YAML: a [ or { that is opened and not closed"),
        ("a: {\n", ":2 is not YAML: it ends, or goes on, where a value should be"),
        ("a:\n   b: 1\n  c: 2\n", ":3 is not YAML: a line that is not indented as the others of its block are"),
        ("a: 1\ns3cr3t\nb: 2\n", ":2 is not YAML: a key without a colon and a value"),
        ("a: 1\n---\nb: s3cr3t\n", ":2 is not YAML: a second document, after `---`; a settings file is one"),
        ("a: *s3cr3t\n", ":1 is not YAML: an alias (*NAME) without its anchor (&NAME) above it"),
        ("%s3cr3t\na: 1\n", ":2 is not YAML: put texts with special characters in quotes"),
    ],
    ids=["colon", "quote", "tab", "character", "list", "mapping", "indented", "key", "document", "alias", "directive"],
)
def test_mistakes_of_yaml(tmp_path: Path, text: str, says: str) -> None:
    """What everybody gets wrong once is told in words, with the line where it is to be mended, as FILE:LINE."""
    message = refusal(tmp_path, text)
    assert says in message
    assert "s3cr3t" not in message


def test_unreadable_files(tmp_path: Path) -> None:
    """A file that is missing, a folder or not UTF-8 is an error that names it."""
    (tmp_path / "latin").write_bytes(b"token: \xff\xfe\n")
    for name, says in (("missing", "No such file"), (".", "Is a directory"), ("latin", "not UTF-8")):
        with pytest.raises(StartError, match=f"cannot read .*{says}"):
            read_yaml(tmp_path / name)


@pytest.mark.parametrize("path", ["/dev/zero", "large"])
def test_a_file_without_end(tmp_path: Path, path: str) -> None:
    """Of an endless or huge file only so much is read as settings can have."""
    (tmp_path / "large").write_bytes(b"#" * (256 * 2**10 + 1))
    with pytest.raises(StartError, match="it has more than 256 KiB"):
        read_yaml(tmp_path / path)
    (tmp_path / "large").write_bytes(b"#" * (256 * 2**10))
    assert read_yaml(tmp_path / "large") == {}


@pytest.mark.parametrize("text", [LAUGHS, "a: &a [*a]\n", "a: " + "[" * 1000, "a: \xff\n", 'a: "\\UFFFFFFFF"\n'])
def test_a_process_that_is_given_such_a_file(tmp_path: Path, text: str) -> None:
    """A plugin with a hostile file ends with exactly one line, no traceback, and status 2."""
    (tmp_path / "settings.yaml").write_bytes(text.encode("latin-1"))
    done = run_plugin(TOY, "--port", "0", "--config", str(tmp_path / "settings.yaml"))
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert done.stderr.startswith("error: ")


def test_a_pipe_that_nobody_writes_into(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A FIFO without a writer, and one whose writer says nothing, are given up after a while."""
    monkeypatch.setattr(bounded_file, "_LONGEST_WAIT", 0.05)
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    with pytest.raises(StartError, match=r"cannot read .*fifo: its end did not come within 0\.05 s"):
        read_yaml(fifo)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    writer = os.open(fifo, os.O_WRONLY)
    try:
        with pytest.raises(StartError, match="its end did not come"):
            read_yaml(fifo)
    finally:
        os.close(reader)
        os.close(writer)


def test_a_pipe(tmp_path: Path) -> None:
    """What a program writes into a pipe, as with `--config <(decrypt settings)`, is read to its end."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    text = "a: " + "x" * 200_000 + "\nb: 1\n"
    writer = threading.Thread(target=fifo.write_text, args=(text,))
    writer.start()
    try:
        assert read_yaml(fifo)["b"] == 1
    finally:
        writer.join()


@settings(deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.lists(
        st.sampled_from(
            [*"abc:{}[],&*!|>-?#%@`'\"\\ \n\t01.~<=\x00\x85\u2028\ud7ff", "<<", "!!", "0x", "&a ", "*a", ": ", "\n- "]
        ),
        max_size=40,
    ).map("".join)
    | st.binary(max_size=40)
)
def test_any_text_at_all(tmp_path: Path, text: str | bytes) -> None:
    """Whatever stands in a file, reading it gives a mapping of plain values or a StartError in one line."""
    try:
        outcome: Any = read(tmp_path, text)
    except StartError as error:
        outcome = str(error).splitlines()
    assert is_plain(outcome)
    assert isinstance(outcome, dict) or len(outcome) == 1


def is_plain(value: object) -> bool:
    if isinstance(value, dict):
        return all(isinstance(key, str) and is_plain(item) for key, item in value.items())
    if isinstance(value, list):
        return all(map(is_plain, value))
    return value is None or type(value) in (str, bool, int, float)


# PyYAML itself writes no NEL that it could read again.
_TEXTS = st.text(st.characters(exclude_characters="\x85", exclude_categories=["Cs"]), min_size=1, max_size=8)


@settings(deadline=None, suppress_health_check=list(HealthCheck), max_examples=50)
@given(
    st.dictionaries(
        _TEXTS,
        st.recursive(
            st.none() | st.booleans() | st.integers(-(10**20), 10**20) | _TEXTS,
            lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_TEXTS, inner, max_size=3),
            max_leaves=10,
        ),
        max_size=4,
    )
)
def test_what_is_written_comes_back(tmp_path: Path, values: dict[str, Any]) -> None:
    """What PyYAML writes of plain values is read as these values."""
    text = yaml.safe_dump(values, allow_unicode=True)
    assert read(tmp_path, text) == values
