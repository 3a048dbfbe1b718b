"""No secret is shown: whichever setting it is put into, from whichever source, written rightly or not."""

from __future__ import annotations

import contextlib
import functools
import importlib
import io
import json
import ssl
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, unquote_plus

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from plugins.llm_openai.__main__ import build
from plugins.reasoning_react.__main__ import check as check_react
from plugins.tools_http.__main__ import check as check_tools
from shared.cli import configure
from shared.config import BaseConfig, may_hold_secrets, shown, types
from shared.credentials import check_exposure, server_credentials
from shared.errors import StartError
from shared.units import Addresses, Secret, SecretMapping, SecretUrl
from tests.llm_tools import QUIET
from tests.servers import ROOT, run_plugin

MARK = "s3cr3t"
SECTIONS = {
    "llm_openai": "llm_providers",
    "vector_hnsw": "database_providers",
    "vector_pg": "database_providers",
    "embed_st": "embedder_providers",
    "tools_http": "tool_providers",
    "reasoning_react": "reasoning_strategies",
}
CHECKS: dict[str, Callable[[Any], object]] = {
    "llm_openai": build,
    "tools_http": check_tools,
    "reasoning_react": check_react,
}
VARIABLES = {"endpoint": "OPENAI_BASE_URL", "api_key": "OPENAI_API_KEY", "organization": "OPENAI_ORG_ID"}
KINDS: dict[str, type[BaseConfig]] = {
    name: importlib.import_module(f"plugins.{name}.config").Config for name in SECTIONS
}
SETTINGS = [(plugin, name) for plugin, kind in KINDS.items() for name in types(kind) if may_hold_secrets(kind, name)]

# The secret's text, and in the second place how it stands in a URL.
VALUES: dict[Any, list[Callable[[str], Any]]] = {
    Secret: [
        lambda s: s,
        lambda s: s + "\n",
        lambda s: [s],
        lambda s: {"value": s},
        lambda s: {s: None},
    ],
    SecretUrl: [
        lambda s: f"http://me:{quote(s, safe='')}@127.0.0.1:8000/v1",
        lambda s: f"http://{quote(s, safe='')}@127.0.0.1:8000/v1",
        lambda s: f"http://127.0.0.1:8000/v1?key={quote(s, safe='')}&other={quote(s, safe='')}",
        lambda s: f"http://127.0.0.1:8000/v1?{quote(s, safe='')}==",
        lambda s: f"http://127.0.0.1:8000/v1#{s}",
        lambda s: f"http://me:{s}@127.0.0.1:8000/v1",
        lambda s: f"http://{s}@127.0.0.1:8000/v1",
        lambda s: f"http://me:{s}@127.0.0.1:port/v1",
        lambda s: f"http://me:{quote(s, safe='')}",
        lambda s: f"me:{s}@127.0.0.1",
        lambda s: f"ftp://me:{s}@127.0.0.1",
        lambda s: s,
        lambda s: [f"http://me:{s}@127.0.0.1"],
        lambda s: {"url": s},
    ],
    SecretMapping: [
        lambda s: {"X-Key": s},
        lambda s: {"Authorization": f"Bearer {s}"},
        lambda s: {"b": {"api_key": s, "model": "m"}},
        lambda s: {"b": {"endpoint": f"http://me:{quote(s, safe='')}@127.0.0.1/v1", "headers": {"X-Key": s}}},
        lambda s: {"b": {"endpoint": f"http://me:{s}@127.0.0.1:port/v1"}},
        lambda s: {"b": {"api_key": [s]}},
        lambda s: {"b": {"headers": f"X-Key: {s}"}},
        lambda s: {"b": {f"api_key {s}": None}},
        lambda s: {"b": [s]},
        lambda s: {"a": [{"b": s}, [s]]},
        lambda s: {s: None},
        lambda s: {f"X-Key {s}": None},
        lambda s: {"X-Key": None, "Y": s},
        lambda s: {"X-Key": s + "\n"},
        lambda s: [f"X-Key: {s}"],
        lambda s: f"X-Key: {s}",
        lambda s: f"Bearer {s}",
        lambda s: s,
        lambda s: json.dumps({"X-Key": s})[:-1],
        lambda s: json.dumps({f"X-Key {s}": 1})[:-1] + f', "X-Key {s}": 2}}',
    ],
    Addresses: [
        lambda s: {"address": "127.0.0.1:8084", "token": s},
        lambda s: {"a": {"address": "127.0.0.1:8084", "token": s}, "b": "127.0.0.1:8085"},
        lambda s: [{"address": "127.0.0.1:8084", "token": s}, "127.0.0.1:8085"],
        lambda s: json.dumps({"a": {"address": "unix:/run/tools", "token": s}}),
        lambda s: {"a": {"address": f"{s}@127.0.0.1:8084"}},
        lambda s: f"http://me:{s}@127.0.0.1:8084",
        lambda s: {"a": {"address": "127.0.0.1:8084", "token": [s]}},
        lambda s: {"a": {"address": "127.0.0.1:8084", f"token {s}": None}},
        lambda s: {"a": {"address": "127.0.0.1:8084", "toke": s}},
        lambda s: {f"a {s}": "127.0.0.1:8084"},
        lambda s: {"a": None, "token": s},
        lambda s: [s],
        lambda s: s,
        lambda s: json.dumps({"a": {"address": "127.0.0.1:8084", "token": s}})[:-1],
    ],
    tuple[Secret, ...]: [
        lambda s: [s * 10, s],
        lambda s: f"{s * 10},{s * 10}",
        lambda s: json.dumps([s * 10]),
        lambda s: [{"key": s * 10}],
        lambda s: {s: s},
        lambda s: json.dumps([s])[:-1],
    ],
}
# YAML that is broken at the secret; {0} is the setting.
BROKEN = [
    "{0} {1}",
    "port: 1\n{0} {1}",
    "{{{0} {1}}}",
    "{0}:{1}",
    "{0}: {1}: x",
    "{0}: [{1}",
    '{0}: "{1}',
    "{0}: '{1}",
    "{0}: !{1} x",
    "{0}: *{1}",
    "{0}: %{1}",
    "{0}: @{1}",
    "{0}: | {1}",
    "{0}: {1}\n\tport: 1",
    "{0}: {{X {1}}}",
    "{0}: x\n{0}: {1}",
    "- {0}: {1}",
    "{0}: {1}\nport: many",
]
SIGNS = [
    "",
    " ",
    "@",
    ":",
    "/",
    "?",
    "#",
    "&",
    "=",
    "%40",
    "+",
    "'",
    '"',
    "\\",
    "<",
    "{",
    "}",
    "[",
    "]",
    ",",
    "|",
    "*",
    "$",
    "é",
]
secrets = st.lists(st.sampled_from(SIGNS), max_size=3).map(lambda signs: MARK + "".join(signs) + MARK)


def said(plugin: str, argv: list[str], environ: Mapping[str, str]) -> str:
    """All that --check, or else a start that fails, writes, and what a debugger would show of the settings."""
    out = io.StringIO()
    check = CHECKS.get(plugin, lambda _: None)
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
        try:
            config = configure(
                KINDS[plugin],
                package=f"plugins.{plugin}",
                section=SECTIONS[plugin],
                argv=argv,
                environ=environ,
                variables=VARIABLES if plugin == "llm_openai" else {},
                check=check,
            )
            print(config, repr(config), shown(config))
            check_exposure(config)
            server_credentials(config)
            check(config)
        except StartError as error:
            print(f"error: {error}")
        except SystemExit:
            pass
    return out.getvalue()


def assert_hidden(text: str) -> None:
    for form in (text, unquote(text), unquote_plus(text), text.lower()):
        assert MARK not in form


@pytest.fixture
def _one_ssl_context(monkeypatch: pytest.MonkeyPatch) -> None:
    """To read the authorities of the world anew for each example would be most of the test's time."""
    monkeypatch.setattr(ssl, "create_default_context", functools.cache(ssl.create_default_context))


@pytest.mark.usefixtures("_one_ssl_context")
@settings(deadline=None, suppress_health_check=list(HealthCheck), max_examples=300)
@given(st.data())
def test_no_source_and_no_mistake_shows_a_secret(tmp_path: Path, data: st.DataObject) -> None:
    """A secret in any setting that can hold one, right or mistyped, from any source, shows in no word of a start."""
    plugin, setting = data.draw(st.sampled_from(SETTINGS))
    secret = data.draw(secrets)
    source = data.draw(st.sampled_from(["environment", "part", "variable", "options", "plain", "block", "broken"]))
    value = data.draw(st.sampled_from(VALUES[types(KINDS[plugin])[setting]]))(secret)
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=data.draw(st.booleans()))
    prefix, file = f"{plugin.upper()}__", tmp_path / "settings.yaml"
    argv, environ = ["--check"] if data.draw(st.booleans()) else [], dict(QUIET)
    if source == "environment":
        environ[prefix + setting.upper()] = text
    elif source == "part":
        environ[f"{prefix}{setting.upper()}__X_KEY"] = text
    elif source == "variable":
        environ[VARIABLES.get(setting, prefix + setting.upper())] = text
    elif source == "options":
        flag = "--" + data.draw(st.sampled_from([setting, setting.replace("_", "-")]))
        argv += data.draw(
            st.sampled_from(
                [[flag, text], [f"{flag}={text}"], [f"{flag}:{text}"], [flag + secret], [secret], ["-" + secret]]
            )
        )
    else:
        if source == "plain":
            content = json.dumps({setting: value}, ensure_ascii=False)
        elif source == "block":
            block = {"path": plugin, "config": {setting: value}}
            content = json.dumps({"plugins": {SECTIONS[plugin]: {plugin: block}}}, ensure_ascii=False)
        else:
            content = data.draw(st.sampled_from(BROKEN)).format(setting, secret)
        file.write_text(content, encoding="utf-8")
        argv += ["--config", str(file)]
    assert_hidden(said(plugin, argv, environ))


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("headers", f'{{"api-key": "{MARK}"'),
        ("headers", f"api-key: {MARK}"),
        ("headers", json.dumps({"api-key": [MARK]})),
        ("fallbacks", json.dumps({"b": {"api_kye": MARK}})),
        ("endpoint", f"http://me:open {MARK}@127.0.0.1:port/v1"),
        ("proxy", f"http://me:{MARK}@127.0.0.1:99999"),
    ],
)
@pytest.mark.parametrize("check", [[], ["--check"]])
def test_a_mistyped_secret_of_a_process(setting: str, value: str, check: list[str]) -> None:
    """A plugin that is given a mistyped secret ends with status 2 and one line: the setting, and not the secret."""
    done = run_plugin(
        "plugins.llm_openai", "--port", "0", *check, env=QUIET | {f"LLM_OPENAI__{setting.upper()}": value}
    )
    assert done.returncode == 2
    assert (done.stderr.count("\n"), setting in done.stderr) == (1, True)
    assert MARK not in done.stdout + done.stderr


@pytest.mark.parametrize("plugin", SECTIONS)
def test_every_plugin_says_what_can_be_secret(plugin: str) -> None:
    """--help of every plugin has no option for what can hold a secret, and names those settings below."""
    done = run_plugin(f"plugins.{plugin}", "--help")
    kind = KINDS[plugin]
    options = (SecretUrl, Addresses)  # as long as they hold none
    hidden = [name for name in types(kind) if may_hold_secrets(kind, name) and types(kind)[name] not in options]
    assert hidden[0] == "token"
    assert " ".join(done.stdout.split()).endswith(
        f"No options, since others could read them here: {', '.join(hidden)}."
    )
    assert not [name for name in hidden if f"--{name.replace('_', '-')} " in done.stdout]


def test_the_plugins_are_all_there() -> None:
    """This file knows every plugin of the repository."""
    assert {path.parent.name for path in (ROOT / "plugins").glob("*/__main__.py")} == set(SECTIONS)
