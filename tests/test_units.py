"""How values are written in settings: `shared/units.py`."""

from __future__ import annotations

import contextlib
import copy
import json
import math
import os
import pickle
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.units import (
    READERS,
    Duration,
    Secret,
    SecretMapping,
    SecretUrl,
    Size,
    name_for_message,
    read_addresses,
    read_bool,
    read_duration,
    read_list,
    read_mapping,
    read_secret_mapping,
    read_secret_url,
    read_size,
    secret_texts_in,
)
from tests.servers import unhurried


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("30s", 30),
        ("500ms", 0.5),
        ("2m", 120),
        ("1h", 3600),
        ("1.5", 1.5),
        (" 5 S ", 5),
        (30, 30),
        (0.25, 0.25),
        (0, 0),
    ],
)
def test_duration_units(text: object, seconds: float) -> None:
    """A duration is seconds, whatever unit it is written in, and a bare number is seconds."""
    assert read_duration(text) == seconds


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("1GB", 10**9),
        ("1GiB", 2**30),
        ("64MiB", 2**26),
        ("64 mib", 2**26),
        ("1.5kB", 1500),
        ("4096", 4096),
        (4096, 4096),
        ("7b", 7),
        ("2TiB", 2**41),
    ],
)
def test_size_units(text: object, count: int) -> None:
    """A size is bytes: decimal units are powers of ten, binary ones powers of two."""
    assert read_size(text) == count


@pytest.mark.parametrize(
    "value", ["", "s", "-5s", "5 parsecs", "5s5s", "1e3", "0x10", "٣s", True, None, [], math.inf, math.nan, "9" * 400]
)
@pytest.mark.parametrize("kind", [Duration, Size])
def test_not_a_quantity(kind: Any, value: object) -> None:
    """What is no number with a known unit is a ValueError, however large or odd, and never another exception."""
    with pytest.raises(ValueError, match=r"expected a (duration|size)"):
        READERS[kind](value)


@pytest.mark.parametrize("value", [True, "true", "Yes", "on", "1", 1, " TRUE "])
def test_true(value: object) -> None:
    """The usual words for yes are True."""
    assert read_bool(value) is True


@pytest.mark.parametrize("value", [False, "false", "No", "off", "0", 0])
def test_false(value: object) -> None:
    """The usual words for no are False."""
    assert read_bool(value) is False


@pytest.mark.parametrize("value", ["", "maybe", 2, None, "truefalse"])
def test_not_a_bool(value: object) -> None:
    """A word that is neither yes nor no is refused, not taken for no."""
    with pytest.raises(ValueError, match="true or false"):
        read_bool(value)


def test_lists() -> None:
    """A list is written with commas or as JSON; blanks around and between are dropped."""
    assert read_list("a, b ,,c") == ("a", "b", "c")
    assert read_list('["a, b", "c"]') == ("a, b", "c")
    assert read_list(["a", {"b": 1}]) == ("a", '{"b": 1}')
    assert read_list("") == ()


def test_mappings() -> None:
    """A mapping is a mapping or its JSON; its keys become text."""
    assert read_mapping({"a": 1, 2: "b"}) == {"a": 1, "2": "b"}
    assert read_mapping('{"a": {"b": [1]}}') == {"a": {"b": [1]}}


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (int, "1.5"),
        (int, True),
        (int, 1.0),
        (int, "9" * 5000),
        (float, "nan"),
        (float, "inf"),
        (float, 10**400),
        (float, True),
        (float, "one"),
        (str, 10),
        (str, None),
        (Path, 5),
        (tuple[str, ...], "[1"),
        (tuple[str, ...], 5),
        (dict[str, Any], "{"),
        (dict[str, Any], "[]"),
        (dict[str, Any], 5),
        (Secret, 1234),
        (SecretUrl, 1234),
        (SecretUrl, "127.0.0.1:8000"),
        (SecretUrl, "http://"),
        (SecretUrl, "http://127.0.0.1:port"),
        (SecretUrl, "http://127.0.0.1:0"),
        (SecretUrl, "http://127.0.0.1:65536"),
        (SecretUrl, "http://[::1"),
        (SecretUrl, "http://a b/"),
        (SecretUrl, "http://a\\@b/"),
        (SecretUrl, "http://a\nb/"),
        (SecretMapping, "{"),
        (SecretMapping, 5),
    ],
)
def test_wrong_type(kind: Any, value: object) -> None:
    """A value of another type is a ValueError that says what was expected."""
    with pytest.raises(ValueError, match="expected "):
        READERS[kind](value)


@pytest.mark.parametrize("text", ["a\0b", "\ud800"])
@pytest.mark.parametrize("kind", [str, Path, Secret, SecretUrl, tuple[str, ...]])
def test_text_that_none_can_be(kind: Any, text: str) -> None:
    """A NUL, which no file's name can have, and half of a character, which cannot be sent, are refused when read."""
    with pytest.raises(ValueError, match=r"has a NUL in it|is not UTF-8"):
        READERS[kind](text)


def test_a_path_of_other_bytes() -> None:
    """A path may have bytes that are no UTF-8, as they come from the command line or the environment."""
    assert bytes(READERS[Path](os.fsdecode(b"/srv/\xff"))) == b"/srv/\xff"
    with pytest.raises(ValueError, match="is not UTF-8"):
        READERS[str](os.fsdecode(b"/srv/\xff"))


@unhurried
@given(st.sampled_from(sorted(READERS, key=str)), st.text() | st.integers() | st.floats() | st.none() | st.binary())
def test_readers_raise_value_errors_only(kind: Any, value: object) -> None:
    """No value whatever makes a reader raise anything but ValueError."""
    with contextlib.suppress(ValueError):
        read = READERS[kind](value)
        assert READERS[kind](read) == read


def test_a_secret_hides() -> None:
    """A secret shows itself in no way of formatting it; only `reveal` gives it away."""
    secret = Secret("open sesame")
    shown = [str(secret), repr(secret), f"{secret}", f"{secret!r}", f"{secret:>20}", "%s %r" % (secret, secret)]  # noqa: UP031
    shown += ["-".join(map(str, [secret])), str([secret]), str({"a": secret})]
    assert not [text for text in shown if "sesame" in text]
    assert secret.reveal() == "open sesame"
    assert type(secret.reveal()) is str


def test_a_copied_secret_hides_too() -> None:
    """Copies of a secret, as dataclasses make them, are secrets."""
    secret = Secret("open sesame")
    for copied in (copy.deepcopy(secret), copy.copy(secret), pickle.loads(pickle.dumps(secret)), Secret(secret)):
        assert isinstance(copied, Secret)
        assert copied.reveal() == "open sesame"
    url = SecretUrl("http://me:sesame@h/")
    for again in (copy.deepcopy(url), pickle.loads(pickle.dumps(url)), SecretUrl(url), read_secret_url(url)):
        assert isinstance(again, SecretUrl)
        assert again.reveal() == "http://me:sesame@h/"


def test_no_secret_shows_as_nothing() -> None:
    """An empty secret prints as empty, so that one can see that none is set."""
    assert (str(Secret()), repr(Secret())) == ("", "''")
    assert not Secret()


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("http://127.0.0.1:8000/v1", "http://127.0.0.1:8000/v1"),
        ("http://me@h", "http://***@h"),
        ("http://me:sesame@h:1/v1/", "http://***@h:1/v1/"),
        ("http://me:open sesame@h", "http://***@h"),
        ("http://me:a/b?c#d@h/v1", "http://***@h/v1"),
        ("http://me:a@sesame@h/v1", "http://***@h/v1"),
        ("http://h/v1?key=sesame&b=c", "http://h/v1?key=***&b=***"),
        ("http://h/v1?sesame", "http://h/v1?***"),
        ("http://h/v1?c2VzYW1l==", "http://h/v1?***"),
        ("http://h/v1?key=c2VzYW1l==", "http://h/v1?key=***"),
        ("http://h/v1?a sesame=b", "http://h/v1?***"),
        ("http://h/v1#sesame", "http://h/v1#***"),
        ("me:sesame@h", "***"),
        ("sesame", "***"),
        ("none", "none"),
        ("", ""),
    ],
)
def test_a_url_hides(url: str, shown: str) -> None:
    """A URL prints its address and the names of its parameters; what can be a secret is masked, however odd the URL."""
    secret = SecretUrl(url)
    assert (str(secret), f"{secret}", repr(secret), f"{secret:s}") == (shown, shown, repr(shown), shown)
    assert secret.reveal() == url
    assert type(secret.reveal()) is str


@pytest.mark.parametrize("url", ["http://user/pass@h/v1", "http://user?pass@h", "http://h/v1?mail=a@b", "http://a#b@h"])
def test_a_url_that_can_be_read_in_two_ways(url: str) -> None:
    """An @ behind the host is refused: a part of a password could otherwise pass for a host or a path."""
    with pytest.raises(ValueError, match="has an @ behind the host: write it as %40"):
        read_secret_url(url)


def test_addresses() -> None:
    """One address, several or named ones, as text, JSON or YAML's values: a mapping by name, in their order."""
    one = {"server_1": {"address": "127.0.0.1:8084"}}
    for written in ("127.0.0.1:8084", " 127.0.0.1:8084,", ["127.0.0.1:8084"], {"address": "127.0.0.1:8084"}):
        assert dict(read_addresses(written)) == one
    several = read_addresses("a.test:1, unix:/run/b, [::1]:3, dns:///c.test:4")
    assert list(several) == ["server_1", "server_2", "server_3", "server_4"]
    named = {"b": "b.test:1", "a": {"address": "a.test:2", "tls_ca": "/ca.pem"}}
    assert dict(read_addresses(named)) == dict(read_addresses(json.dumps(named)))
    assert list(read_addresses(named)) == ["b", "a"]
    assert dict(read_addresses("")) == {}


def test_addresses_hide_their_tokens() -> None:
    """Of addresses everything is shown but tokens."""
    value = read_addresses({"a": {"address": "a.test:2", "token": "s3cr3t", "tls_ca": "/ca.pem"}})
    assert repr(value) == "{'a': {'address': 'a.test:2', 'token': '***', 'tls_ca': '/ca.pem'}}"
    assert value["a"]["token"] == "s3cr3t"
    assert list(secret_texts_in(value)) == ["s3cr3t", "s3cr3t"]


@pytest.mark.parametrize(
    "value",
    [
        *("s3cr3t", "me:s3cr3t@a.test:1", "http://a.test:1", "a.test:", ":1", "a.test:1 s3cr3t", "unix:", 5, None),
        *({"a": "s3cr3t"}, {"a s3cr3t": "a.test:1"}, {"a": {"address": "a.test:1", "tokn": "s3cr3t"}}, {"a": {}}),
        *({"a": {"address": "a.test:1", "token": 5}}, {"address": "s3cr3t"}, [["a.test:1"]], '{"a": "s3cr3t"', "[5]"),
    ],
)
def test_what_is_no_address(value: object) -> None:
    """Anything else is refused with what was expected, and not repeated."""
    with pytest.raises(ValueError, match="address") as raised:
        read_addresses(value)
    assert "s3cr3t" not in str(raised.value)


def test_a_mapping_hides() -> None:
    """A mapping that can hold secrets prints its names only, and is a mapping like any other to its holder."""
    mapping = read_secret_mapping('{"X-Key": "sesame", "inner": {"list": ["sesame", 7]}, "on": true, "a sesame": 1}')
    shown = "{'X-Key': '***', 'inner': {'list': ['***', '***']}, 'on': True, '***': '***'}"
    assert [str(mapping), repr(mapping), f"{mapping}", f"{mapping:s}", "%s" % mapping] == [shown] * 5  # noqa: UP031
    assert str({"headers": mapping}) == f"{{'headers': {shown}}}"
    assert {**mapping} == {"X-Key": "sesame", "inner": {"list": ["sesame", 7]}, "on": True, "a sesame": 1}
    with pytest.raises(TypeError):
        json.dumps(mapping)
    for again in (copy.deepcopy(mapping), pickle.loads(pickle.dumps(mapping)), read_secret_mapping(mapping)):
        assert again == mapping
        assert str(again) == shown


def test_a_mapping_of_secrets_and_others() -> None:
    """Inside of a mapping secrets print as elsewhere, and what is under a public name as it is."""
    inner = {"endpoint": SecretUrl("http://me:sesame@h"), "api_key": Secret("sesame"), "model": "small", "x": "sesame"}
    mapping = SecretMapping({"b": inner | {"headers": SecretMapping({"model": "sesame"})}}, public=("model",))
    assert mapping.masked() == {
        "b": {"endpoint": "http://***@h", "api_key": "***", "model": "small", "x": "***", "headers": {"model": "***"}}
    }


@pytest.mark.parametrize("name", ["api_key sesame", "api_key:sesame", "", "x" * 65, "a\nb", 5, None, ("a",)])
def test_a_name_that_is_none(name: object) -> None:
    """What is no plain name is not repeated in a message; nor is a name that stands alone."""
    assert name_for_message(name) == "(not shown, since it is no plain name with a value)"
    assert name_for_message("sesame", None) == name_for_message(name)
    assert name_for_message("api-key", 0) == "'api-key'"
