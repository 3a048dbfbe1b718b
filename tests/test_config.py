"""Settings and where they come from: `shared/config.py`."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.config import BaseConfig, Source, expand, from_environment, resolve, secret_texts, setting, shown, suggest
from shared.errors import StartError
from shared.units import Duration, Secret, SecretMapping, SecretUrl, Size
from tests.servers import unhurried


@dataclass(frozen=True, kw_only=True)
class Config(BaseConfig):
    folder: Path = setting("./data", "A folder.")
    ratio: float = setting(0.5, "A ratio.", at_least=0, at_most=1)
    count: int = setting(3, "A count.", at_least=1, at_most=9)
    size: Size = setting("1KiB", "A size.")
    wait: Duration = setting("1m", "A wait.")
    hosts: tuple[str, ...] = setting("", "Some hosts.")
    llm: dict[str, Any] = setting("{}", "Models.")
    headers: SecretMapping = setting("{}", "Headers.")
    mode: str = setting("slow", "A mode.", choices=("slow", "fast"))
    state_key: Secret = setting("", "A key.")
    endpoint: SecretUrl = setting("", "A URL.")


def given_by(**values: Any) -> Config:
    return resolve(Config, [Source("file", values)])


def refusal(**values: Any) -> str:
    with pytest.raises(StartError) as caught:
        given_by(**values)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_defaults() -> None:
    """Without any source every setting has its default, read as if a user had written it."""
    config = resolve(Config, [])
    assert config == Config()
    assert (config.folder, config.size, config.wait, config.hosts, config.llm) == (Path("data"), 1024, 60.0, (), {})
    assert (config.timeout, config.max_request_bytes, config.max_reply_bytes) == (60.0, 2**26, 2**22)


def test_order_of_sources() -> None:
    """Each setting comes from the first source that has it, the others from the sources behind."""
    sources = [
        Source("command line", {"count": "1"}),
        Source("host", {"count": "2", "mode": "fast"}),
        Source("environment", {"count": "3", "mode": "slow", "ratio": "0.3"}),
        Source("file", {"count": 4, "mode": "slow", "ratio": 0.4, "folder": "/file"}),
    ]
    config = resolve(Config, sources)
    assert (config.count, config.mode, config.ratio, config.folder) == (1, "fast", 0.3, Path("/file"))
    assert config.size == 1024


def test_strings_for_every_type() -> None:
    """Every setting can be written as a string, since hosts send nothing else."""
    config = given_by(
        port="8082",
        insecure="yes",
        timeout="500ms",
        max_reply_bytes="1MiB",
        folder="/srv",
        ratio="0.25",
        hosts="a,b",
        llm='{"fast": {"address": "127.0.0.1:1"}}',
        state_key="k",
    )
    assert (config.port, config.insecure, config.timeout, config.max_reply_bytes) == (8082, True, 0.5, 2**20)
    assert (config.folder, config.ratio, config.hosts) == (Path("/srv"), 0.25, ("a", "b"))
    assert config.llm == {"fast": {"address": "127.0.0.1:1"}}
    assert config.state_key.reveal() == "k"


def test_an_unknown_setting_suggests_the_nearest() -> None:
    """An unknown key is an error that names the source, the key and the nearest known one."""
    assert refusal(foldr="x") == "file: unknown setting 'foldr'; did you mean 'folder'?"


def test_a_suggestion_where_nothing_is_known() -> None:
    """Where there are no known names at all, nothing is suggested."""
    assert suggest("x", []) == ""
    assert suggest("x", ["beta", "alpha"]) == "; known are alpha, beta"


def test_an_unknown_setting_like_no_other_lists_all() -> None:
    """An unknown key that is near none is answered with all of them."""
    message = refusal(zzzzzz="x")
    assert all(field.name in message for field in fields(Config))


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"count": 0}, "file: setting count = 0: must be at least 1"),
        ({"count": "10"}, "file: setting count = '10': must be at most 9"),
        ({"ratio": "1.01"}, "file: setting ratio = '1.01': must be at most 1"),
        ({"mode": "warp"}, "file: setting mode = 'warp': must be one of slow, fast"),
        ({"count": "many"}, "file: setting count = 'many': expected a whole number"),
        ({"wait": "soon"}, "file: setting wait = 'soon': expected a duration such as 30s, 500ms or 2m"),
        ({"folder": None}, "file: setting folder: has no value"),
        ({"port": 65536}, "file: setting port = 65536: must be at most 65535"),
        ({"port": "-1"}, "file: setting port = '-1': must be at least 0"),
        ({"max_concurrent": 0}, "file: setting max_concurrent = 0: must be at least 1"),
        ({"log_level": "loud"}, "file: setting log_level = 'loud': must be one of debug, info, warning, error"),
        ({"tls_cert": "c.pem"}, "setting tls_cert needs tls_key beside it"),
        ({"tls_key": "k.pem"}, "setting tls_key needs tls_cert beside it"),
        ({"tls_client_ca": "ca.pem"}, "setting tls_client_ca needs tls_cert beside it"),
    ],
)
def test_bad_values(values: dict[str, Any], says: str) -> None:
    """A bad value is an error that names source, setting, value and remedy."""
    assert refusal(**values) == says


@pytest.mark.parametrize("bounds", [{"count": 1}, {"count": 9}, {"ratio": 0}, {"ratio": 1}])
def test_bounds_are_inclusive(bounds: dict[str, Any]) -> None:
    """The bounds of a setting are allowed values."""
    given_by(**bounds)


@pytest.mark.parametrize("token", ["geheim\n", " geheim", "pässword1", "a\tb", "   "])
def test_a_token_that_no_client_could_send(token: str) -> None:
    """A token that cannot stand in a header is refused at the start, and not shown."""
    message = refusal(token=token)
    assert message.startswith("setting token: must be printable ASCII")
    assert token.strip() not in message or not token.strip()


# ---------------------------------------------------------------- environment


def test_environment_names() -> None:
    """`PLUGIN__KEY` sets a key, in any case; other variables are not looked at."""
    environ = {
        "MY_PLUGIN__FOLDER": "/srv",
        "my_plugin__count": "4",
        "MY_PLUGIN": "x",
        "OTHER__COUNT": "5",
        "COUNT": "6",
    }
    assert from_environment(Config, "my_plugin", environ) == {"folder": "/srv", "count": "4"}


def test_environment_nesting() -> None:
    """`__` goes down into a mapping, as deep as there are names."""
    environ = {"P__LLM__FAST__ADDRESS": "h:1", "P__LLM__FAST__TOKEN": "t", "P__LLM__SLOW": "h:2"}
    values = from_environment(Config, "p", environ)
    assert values == {"llm": {"fast": {"address": "h:1", "token": "t"}, "slow": "h:2"}}
    assert resolve(Config, [Source("environment", values)]).llm["slow"] == "h:2"


@pytest.mark.parametrize(
    "environ",
    [
        {"P__LLM": "{}", "P__LLM__FAST": "x"},
        {"P__LLM__FAST": "x", "P__LLM": "{}"},
        {"P__LLM__FAST": "x", "P__LLM__FAST__TOKEN": "y"},
        {"P__LLM__FAST__TOKEN": "y", "P__LLM__FAST": "x"},
        {"P__COUNT": "1", "p__count": "2"},
    ],
)
def test_environment_that_contradicts_itself(environ: dict[str, str]) -> None:
    """Two variables for one setting are an error, whatever their order, and never a matter of luck."""
    with pytest.raises(StartError, match="and another variable both set"):
        from_environment(Config, "p", environ)


def test_environment_part_of_a_plain_setting() -> None:
    """`__` below a setting that is no mapping is an error naming the variable."""
    with pytest.raises(StartError, match=r"environment: P__COUNT__X sets a part of 'count', which is not a mapping"):
        from_environment(Config, "p", {"P__COUNT__X": "1"})


def test_environment_unknown_setting() -> None:
    """A variable for an unknown setting is an error that suggests the nearest, also where it is nested."""
    for name in ("P__CONT", "P__CONT__X"):
        with pytest.raises(StartError, match="environment: unknown setting 'cont'; did you mean 'count'"):
            resolve(Config, [Source("environment", from_environment(Config, "p", {name: "1"}))])


# ---------------------------------------------------------------- variables in files

ENVIRON = {"SET": "value", "EMPTY": "", "DOLLAR": "${SET} $$"}


@pytest.mark.parametrize(
    ("text", "expanded"),
    [
        ("${SET}", "value"),
        ("a ${SET} b ${SET}", "a value b value"),
        ("${UNSET:-fallback}", "fallback"),
        ("${EMPTY:-fallback}", "fallback"),
        ("${UNSET:-}", ""),
        ("${EMPTY}", ""),
        ("$${SET}", "${SET}"),
        ("$$$${SET}", "$${SET}"),
        ("${DOLLAR}", "${SET} $$"),
        ("$SET and $5 stay", "$SET and $5 stay"),
        ("${UNSET:-http://localhost:1/v1}", "http://localhost:1/v1"),
    ],
)
def test_expansion(text: str, expanded: str) -> None:
    """Variables are put in once: what they bring is not expanded again, and `$$` is a dollar."""
    assert expand(text, ENVIRON) == expanded


def test_expansion_goes_into_everything() -> None:
    """Texts are expanded at any depth; keys, numbers and the rest stay as they are."""
    value = {"${SET}": ["${SET}", {"a": "${SET}"}, 5, None, True, 1.5]}
    assert expand(value, ENVIRON) == {"${SET}": ["value", {"a": "value"}, 5, None, True, 1.5]}


def test_an_unset_variable() -> None:
    """An unset variable without a default is an error naming it and the way to give one."""
    with pytest.raises(StartError) as caught:
        expand("key: ${NOT_SET}", {})
    assert str(caught.value) == "${NOT_SET} is not set; set the variable or write ${NOT_SET:-default}"


@pytest.mark.parametrize("text", ["${SET", "${}", "${SET-x}", "${SET:?x}", "${1SET}", "${a b}", "pass${word"])
def test_a_dollar_brace_that_is_no_variable(text: str) -> None:
    """`${` in another form is an error that shows nothing of the text, and not left to stand silently."""
    with pytest.raises(StartError) as caught:
        expand(text, ENVIRON)
    assert "write $${" in str(caught.value)
    assert text not in str(caught.value)


@unhurried
@given(st.text(alphabet="${}:-AB x"), st.dictionaries(st.sampled_from(["A", "B"]), st.text(alphabet="${}AB")))
def test_doubled_dollars_escape_everything(text: str, environ: dict[str, str]) -> None:
    """Any text with its dollars doubled comes out as it was."""
    assert expand(text.replace("$", "$$"), environ) == text


# ---------------------------------------------------------------- secrets

SECRETS: list[dict[str, Any]] = [
    {"token": "s3cr3t-value"},
    {"state_key": "s3cr3t-value"},
    {"headers": {"fast": {"address": "h:1", "token": "s3cr3t-value"}}},
    {"headers": '{"fast": {"address": "h:1", "anything": "s3cr3t-value"}}'},
    {"headers": {"X-Api-Key": "s3cr3t-value", "Authorization": "Bearer s3cr3t-value"}},
    {"headers": {"list": ["s3cr3t-value", {"a": "s3cr3t-value"}]}},
    {"headers": {"s3cr3t-value as a name": "x"}},
    {"endpoint": "https://user:s3cr3t-value@example.org/v1"},
    {"endpoint": "https://s3cr3t-value@example.org/v1"},
    {"endpoint": "https://user:a s3cr3t-value@example.org/v1"},
    {"headers": {"s3cr3t-value": None}},
    {"endpoint": "https://user:a@s3cr3t-value@example.org/v1"},
    {"endpoint": "https://example.org/v1?s3cr3t-value=="},
    {"endpoint": "https://example.org/v1?api_key=s3cr3t-value"},
    {"endpoint": "https://example.org/v1?key=s3cr3t-value&x=s3cr3t-value"},
    {"endpoint": "https://example.org/v1?s3cr3t-value"},
    {"endpoint": "https://example.org/v1#s3cr3t-value"},
]


@pytest.mark.parametrize("values", SECRETS)
def test_secrets_are_masked_where_settings_are_shown(values: dict[str, Any]) -> None:
    """What is shown of the settings holds no secret, whatever it is called: nested ones, in lists, in URLs."""
    config = given_by(**values)
    for text in (str(shown(config)), repr(config), f"{config}"):
        assert "s3cr3t-value" not in text
        assert "***" in text


def test_numbers_are_masked_too() -> None:
    """A token that YAML reads as a number is still masked; what says nothing is not."""
    config = given_by(headers={"token": 12345678, "one": 1, "on": True, "empty": ""})
    masked = {"token": "***", "one": "***", "on": True, "empty": ""}
    assert shown(config)["headers"] == masked
    assert config.headers["token"] == 12345678


def test_what_is_no_secret_is_shown() -> None:
    """Settings of other types are shown as they are, and of a URL what is no secret."""
    config = given_by(llm={"max_tokens": 5, "token": "gpt"}, endpoint="https://me:x@example.org:1/v1?api-version=1")
    assert shown(config)["llm"] == {"max_tokens": 5, "token": "gpt"}
    assert shown(config)["endpoint"] == "https://***@example.org:1/v1?api-version=***"
    assert shown(given_by(endpoint="https://example.org/v1"))["endpoint"] == "https://example.org/v1"
    assert shown(given_by(endpoint="none"))["endpoint"] == "none"
    assert shown(config)["token"] == ""


@pytest.mark.parametrize(
    "values",
    [
        {"token": ["s3cr3t-value"]},
        {"token": {"value": "s3cr3t-value"}},
        {"headers": "s3cr3t-value"},
        {"headers": "X-Key: s3cr3t-value"},
        {"headers": '{"X-Key": "s3cr3t-value"'},
        {"headers": '{"s3cr3t-value": 1, "s3cr3t-value": 2, "a s3cr3t-value": 1, "a s3cr3t-value": 2}'[:-1]},
        {"headers": '{"a s3cr3t-value": 1, "a s3cr3t-value": 2}'},
        {"headers": ["X-Key: s3cr3t-value"]},
        {"headers": 5.5},
        {"endpoint": "s3cr3t-value"},
        {"endpoint": "user:s3cr3t-value@example.org"},
        {"endpoint": "https://user:s3cr3t-value"},
        {"endpoint": "https://user:a/s3cr3t-value@example.org"},
        {"endpoint": "https://user/s3cr3t-value@example.org"},
        {"endpoint": "https://user?s3cr3t-value@example.org"},
        {"endpoint": "https://[s3cr3t-value"},
        {"endpoint": "https://user:s3cr3t-value\n@example.org"},
        {"endpoint": {"url": "s3cr3t-value"}},
        {"llm": ["token: s3cr3t-value"]},
        {"llm": '{"token": "s3cr3t-value"'},
        {"count": {"token": "s3cr3t-value"}},
        {"mode": "https://u:s3cr3t-value@h"},
        {"wait": "api_key=s3cr3t-value"},
        {"wait": "key s3cr3t-value"},
        {"hosts": '[{"token": "s3cr3t-value"}'},
        {"token s3cr3t-value": None},
        {"token:s3cr3t-value": None},
        {"s3cr3t-value": None, "token": "x"},
    ],
)
def test_errors_show_no_secret(values: dict[str, Any]) -> None:
    """An error about a value, or about a key without its colon, does not show the secret in it, however malformed."""
    message = refusal(**values)
    assert "s3cr3t-value" not in message
    assert [key for key in ("token", *values) if key in message]


def test_a_huge_number_is_an_error_like_any_other() -> None:
    """A number too long to be written out is refused in a short line, whatever the setting's type."""
    for key in ("port", "wait", "size", "ratio", "insecure", "mode", "token", "headers", "folder"):
        assert len(refusal(**{key: 1 << 100_000})) < 200


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('{"a": 1, "b": 2, "a": 3}', "has the name 'a' twice"),
        ('{"a": {"token": "x", "token": ""}}', "has the name 'token' twice"),
        ('{"a": NaN}', "expected a mapping"),
        ('{"a": 1e999}', "expected a mapping"),
        ('{"a": ' + "[" * 100_000, "expected a mapping"),
        ('{"a": ' + "[" * 100 + "]" * 100 + "}", "is nested more than 64 deep"),
        ('{"a": "\\u0000"}', "has a NUL in it"),
        ('{"a": "\\ud800"}', "is not UTF-8"),
        ('{"a\\u0000": ""}', "has a NUL in it"),
    ],
)
@pytest.mark.parametrize("key", ["llm", "headers"])
def test_json_that_no_setting_can_be(key: str, text: str, says: str) -> None:
    """A mapping in JSON is bounded, has each name once and holds only what can be sent on."""
    message = refusal(**{key: text})
    assert message.startswith(f"file: setting {key}: {says}")


def test_variables_that_multiply() -> None:
    """Variables of a file cannot make more of it than a bounded text: one line says so."""
    with pytest.raises(StartError, match="its variables bring more than"):
        expand({"a": ["${BIG}"] * 1000, "b": "${BIG}" * 1000}, {"BIG": "x" * 100_000})
    assert expand(["${BIG}"] * 10, {"BIG": "x" * 100_000})[9] == "x" * 100_000


def test_secret_texts() -> None:
    """`secret_texts` finds what has to be kept out of the log, in the clear, the longest first; and nothing else."""
    headers = {"fast": {"token": "bbbbb", "on": True}, "list": ["cccc", 123], "A": "Bearer dd"}
    config = given_by(token="aaaaaa", headers=headers, llm={"x": "shown"})
    assert secret_texts(config)[0] == "Bearer%20dd"
    assert set(secret_texts(config)) == {
        "aaaaaa", "bbbbb", "cccc", "123", "dd", "Bearer dd", "Bearer+dd", "Bearer%20dd"
    }  # fmt: skip
    assert secret_texts(given_by()) == []


def test_secret_texts_of_a_url() -> None:
    """Of a URL they are user, password and parameters, as written and as meant, and what Basic makes of them."""
    config = given_by(endpoint="http://me:p%40ss%20word@example.org/v1?key=va%2Flue&bare")
    basic = base64.b64encode(b"me:p@ss word").decode()
    assert {"me:p%40ss%20word", "p%40ss%20word", "p@ss word", "va%2Flue", "va/lue", "bare", basic} <= set(
        secret_texts(config)
    )
    assert not [text for text in secret_texts(config) if "example.org" in text or text in ("key", "/v1")]


@unhurried
@given(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1))
def test_every_spelling_of_a_secret_is_found(text: str) -> None:
    """However a library may have written a secret, `secret_texts` has it: in URLs, in JSON, in a repr."""
    found = secret_texts(given_by(headers={"x": text}))
    for form in (text, quote(text, safe=""), quote_plus(text), json.dumps(text)[1:-1], repr(text)[1:-1]):
        assert form in found


def test_a_field_that_is_no_setting() -> None:
    """A field without `setting`, or of a type that nothing reads, is a bug that names the field and the remedy."""
    for body, says in (
        ({"__annotations__": {"depth": "int"}}, r"Mine\.depth is no setting yet: give it a setting\(default, help\)"),
        ({"__annotations__": {"depth": "int"}, "depth": 3}, r"Mine\.depth is no setting yet"),
    ):
        with pytest.raises(TypeError, match=says):
            type("Mine", (BaseConfig,), body)

    @dataclass(frozen=True, kw_only=True)
    class Odd(BaseConfig):
        number: complex = setting("1", "A number.")

    with pytest.raises(TypeError, match=r"Odd\.number cannot be of type complex; take str, int"):
        resolve(Odd, [])
