"""The command line of every plugin: `shared/cli.py`, in this process and through a real one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from shared.cli import configure
from shared.config import BaseConfig, setting
from shared.errors import StartError
from shared.units import Addresses, Secret, SecretMapping, SecretUrl
from tests.servers import environment, run_plugin
from tests.toy_plugin import Config

PLUGIN = "plugins.vector_hnsw"


def parse(*argv: str, **environ: str) -> Any:
    return configure(Config, package="toy", section="llm_providers", argv=argv, environ=environ)


def refusal(*argv: str, **environ: str) -> str:
    with pytest.raises(StartError) as caught:
        parse(*argv, **environ)
    return str(caught.value)


def test_order_of_sources(tmp_path: Path) -> None:
    """The command line wins over the environment, that over the file, that over the defaults."""
    file = tmp_path / "settings.yaml"
    file.write_text("port: 1\nmax_concurrent: 2\nlog_level: error\n")
    config = parse("--config", str(file), "--port", "7", TOY__PORT="8", TOY__MAX_CONCURRENT="9")
    assert (config.port, config.max_concurrent, config.log_level, config.timeout) == (7, 9, "error", 60.0)


def test_a_remedy_names_the_plugins_own_variable() -> None:
    """The last part of the package's name is what its variables begin with, wherever the package is."""
    for package, variable in (("my_db", "MY_DB__TOKEN"), ("plugins.toy", "TOY__TOKEN"), ("a.b.toy", "TOY__TOKEN")):
        with pytest.raises(StartError, match=f"set {variable} or put it in the file"):
            configure(Config, package=package, section="llm_providers", argv=["--token", "x"], environ={})


def test_flags() -> None:
    """A bool is an option with or without a value; `--name=value` is read too."""
    assert parse("--insecure").insecure is True
    assert parse("--insecure", "false").insecure is False
    assert parse("--max-concurrent=5").max_concurrent == 5


def test_an_address_on_the_command_line_is_the_whole_address() -> None:
    """--port overrules a socket from elsewhere, which would otherwise win silently."""
    assert parse("--port", "0", TOY__SOCKET="/run/toy.sock").socket == ""
    assert parse("--socket", "/run/other.sock", TOY__SOCKET="/run/toy.sock").socket == "/run/other.sock"


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["--prot", "1"], "command line: unknown option --prot; did you mean '--port'?"),
        (["--port"], "command line: argument --port: expected one argument; see --help"),
        (["--port", "many"], "command line: setting port = 'many': expected a whole number"),
        (["--name", "x"], "--name picks a block of a file: give --config FILE too"),
        (["--config", "/nowhere.yaml"], "cannot read /nowhere.yaml: No such file or directory"),
        (["--che"], "command line: unknown option --che; did you mean '--check'?"),
    ],
)
def test_mistakes(argv: list[str], says: str) -> None:
    """A mistake on the command line is an error in one line, like any other mistake in the settings."""
    assert refusal(*argv) == says


@pytest.mark.parametrize(
    "argv",
    [
        ["--token", "s3cr3t"],
        ["--token=s3cr3t"],
        ["--token:s3cr3t"],
        ["--tokens3cr3t"],
        ["s3cr3t"],
        ["-s3cr3t"],
        ["--port", "1", "s3cr3t"],
        ["--tokn=s3cr3t"],
        ["--tokn:s3cr3t"],
        ["--check=s3cr3t"],
    ],
)
def test_what_is_no_option_is_not_repeated(argv: list[str]) -> None:
    """The answer to a secret on the command line says where it belongs and does not print it once more."""
    message = refusal(*argv)
    assert message.startswith("command line: ")
    assert "s3cr3t" not in message
    if argv[0].startswith("--token"):
        assert "set TOY__TOKEN" in message


def test_check_prints_every_setting_and_its_source(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """--check prints each setting on a line of its own, as YAML, with where it is from, and ends with status 0."""
    file = tmp_path / "settings.yaml"
    file.write_text('max_concurrent: 2\nsocket: "a # b\\nc"\n')
    with pytest.raises(SystemExit) as caught:
        parse("--config", str(file), "--check", TOY__LOG_LEVEL="debug", TOY__HOST="local\u2028host" + " x" * 999)
    assert caught.value.code == 0
    text = capsys.readouterr().out
    lines = text.removesuffix("\n").split("\n")
    assert [line.partition(":")[0] for line in lines] == list(Config.__dataclass_fields__)
    assert f"max_concurrent: 2  # {file}" in lines
    assert 'log_level: "debug"  # environment' in lines
    assert "timeout: 60.0  # default" in lines
    values = yaml.safe_load(text.replace("\u2028", "?"))
    assert values["socket"] == "a # b\nc"


def test_check_masks_secrets(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """--check shows that a secret is set, and from where, but not what it is."""
    with pytest.raises(SystemExit):
        parse("--check", TOY__TOKEN="s3cr3t-value")
    text = capsys.readouterr().out
    assert 'token: "***"  # environment' in text
    assert "s3cr3t" not in text


@pytest.mark.parametrize(
    ("environ", "says"),
    [
        ({"TOY__HOST": "0.0.0.0"}, "0.0.0.0 can be reached from other machines"),
        ({"TOY__TLS_CERT": "/nowhere.pem", "TOY__TLS_KEY": "/nowhere.key"}, "setting tls_key: cannot read"),
    ],
)
def test_check_refuses_what_cannot_be_served(
    environ: dict[str, str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """--check prints the settings and then refuses those that a start would refuse."""
    assert says in refusal("--check", **environ)
    assert "log_level: " in capsys.readouterr().out


@pytest.mark.parametrize(
    "option", [["--url", "{}"], ["--url={}"], ["--mapping", "{}"], ["--token={}"], ["--keys", "{}"]]
)
@pytest.mark.parametrize("value", ["http://me:s3cr3t@h/v1", "http://s3cr3t@h", "http://h?s3cr3t", "http://h#s3cr3t"])
def test_what_can_hold_a_secret_is_no_option(option: list[str], value: str) -> None:
    """Other users of the machine could read it there: the error names the variable to use in its place."""
    argv = [part.format(value) for part in option]
    with pytest.raises(StartError) as caught:
        configure(WithSecrets, package="toy", section="llm_providers", argv=argv, environ={})
    flag = option[0].partition("=")[0]
    assert str(caught.value).startswith(f"command line: {flag}")
    assert f"set TOY__{flag[2:].upper()} or put it in the file" in str(caught.value)
    assert "s3cr3t" not in str(caught.value)


def test_a_url_without_a_secret_is_an_option() -> None:
    """A URL that is an address and no more is an option like any other."""
    argv = ["--url", "http://127.0.0.1:8000/v1"]
    config = configure(WithSecrets, package="toy", section="llm_providers", argv=argv, environ={})
    assert config.url.reveal() == "http://127.0.0.1:8000/v1"
    environ = {"TOY__URL": "http://me:s3cr3t@h", "TOY__MAPPING__KEY": "s3cr3t"}
    config = configure(WithSecrets, package="toy", section="llm_providers", argv=[], environ=environ)
    assert (config.url.reveal(), dict(config.mapping)) == ("http://me:s3cr3t@h", {"key": "s3cr3t"})


def test_addresses_with_a_token_are_no_option() -> None:
    """As with other secrets, the error names the variable, and not the token."""
    about = json.dumps({"address": "a.test:1", "token": "s3cr3t"})
    with pytest.raises(StartError) as caught:
        configure(WithSecrets, package="toy", section="llm_providers", argv=["--at", about], environ={})
    assert str(caught.value).startswith("command line: --at with more than addresses is no option")
    assert "set TOY__AT or put it in the file" in str(caught.value)
    assert "s3cr3t" not in str(caught.value)


def test_addresses_without_a_token_are_an_option() -> None:
    """Addresses that are no more are an option like any other; a part of the setting can be a variable of its own."""
    config = configure(
        WithSecrets, package="toy", section="llm_providers", argv=["--at", "a.test:1,b.test:2"], environ={}
    )
    assert [about["address"] for about in config.at.values()] == ["a.test:1", "b.test:2"]
    environ = {"TOY__AT__WEB__ADDRESS": "a.test:1", "TOY__AT__WEB__TOKEN": "s3cr3t", "TOY__KEYS": "k1, k2"}
    config = configure(WithSecrets, package="toy", section="llm_providers", argv=[], environ=environ)
    assert dict(config.at) == {"web": {"address": "a.test:1", "token": "s3cr3t"}}
    assert [key.reveal() for key in config.keys] == ["k1", "k2"]
    assert "s3cr3t" not in repr(config)
    assert "k1" not in repr(config)


def test_check_where_the_terminal_is_simple(tmp_path: Path) -> None:
    """--check prints settings that the output cannot spell, such as a path of other bytes, and not a traceback."""
    env = {"VECTOR_HNSW__DATA_DIR": os.fsdecode(b"/srv/\xff\xc3\xbc"), "PYTHONIOENCODING": "ascii"}
    done = run_plugin(PLUGIN, "--check", env=env, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert 'data_dir: "/srv/\\udcff\\xfc"' in done.stdout


def test_an_empty_path() -> None:
    """A path that is empty is an error; it would be the current folder."""
    with pytest.raises(StartError, match="command line: setting data_dir = '': has no value"):
        configure(WithFolder, package="toy", section="llm_providers", argv=["--data-dir", ""], environ={})


@dataclass(frozen=True, kw_only=True)
class WithFolder(BaseConfig):
    data_dir: Path = setting("./data", "A folder.")


@dataclass(frozen=True, kw_only=True)
class WithSecrets(BaseConfig):
    url: SecretUrl = setting("", "A URL.")
    at: Addresses = setting("", "Addresses.")
    keys: tuple[Secret, ...] = setting("", "Keys.")
    mapping: SecretMapping = setting("{}", "A mapping.")


# ---------------------------------------------------------------- through a process


@pytest.mark.parametrize(
    ("module", "library", "remedy"),
    [
        ("plugins.vector_hnsw", "hnswlib", "'hnswlib>=0.8,<0.9'"),
        ("plugins.embed_st", "numpy", "'numpy>=2.0,<3'"),
        ("plugins.embed_st", "tokenizers", "'tokenizers>=0.23,<1'"),
        ("plugins.reasoning_react", "jsonschema_rs", "'jsonschema-rs>=0.60,<0.70'"),
        ("host serve", "rich", "'rich>=14,<16'"),
    ],
)
def test_a_missing_library(module: str, library: str, remedy: str, tmp_path: Path) -> None:
    """Without a library a plugin or the host ends before it listens: one line that says what to install, status 2."""
    name, *arguments = module.split()
    script = f"import sys, runpy; sys.modules[{library!r}] = None; runpy.run_module({name!r}, None, '__main__', True)"
    argv = [sys.executable, "-c", script, *arguments]
    done = subprocess.run(argv, capture_output=True, text=True, env=environment(), cwd=tmp_path, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"error: {library} is not installed: pip install {remedy}\n"


def test_help() -> None:
    """--help shows every setting with its meaning, but no secret as an option."""
    done = run_plugin(PLUGIN, "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert "--data-dir DIR" in done.stdout
    assert "--max-concurrent" in done.stdout
    assert "VECTOR_HNSW__KEY" in done.stdout
    assert "--token" not in done.stdout


def test_check_of_a_process(tmp_path: Path) -> None:
    """--check of a real plugin prints its settings, touches nothing and ends with status 0."""
    env = {"VECTOR_HNSW__TOKEN": "s3cr3t-value", "VECTOR_HNSW__DATA_DIR": str(tmp_path / "not made")}
    done = run_plugin(PLUGIN, "--check", "--port", "9", env=env, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    settings = yaml.safe_load(done.stdout)
    assert (settings["port"], settings["token"], settings["data_dir"]) == (9, "***", str(tmp_path / "not made"))
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("argv", "env", "names"),
    [
        (["--prot", "1"], {}, "--prot"),
        (["--port", "99999"], {}, "port"),
        (["--host", "0.0.0.0"], {}, "0.0.0.0"),
        (["--config", "/nowhere.yaml"], {}, "/nowhere.yaml"),
        ([], {"VECTOR_HNSW__DATA_DRI": "x"}, "did you mean 'data_dir'"),
        (["--config", "settings.yaml"], {}, "${SURELY_UNSET_HERE}"),
        (["--config", "new\nline.yaml"], {}, "line.yaml"),
    ],
)
def test_a_bad_setting_ends_the_process(tmp_path: Path, argv: list[str], env: dict[str, str], names: str) -> None:
    """A bad setting is exactly one line on stderr, nothing on stdout, status 2 and no traceback."""
    (tmp_path / "settings.yaml").write_text("data_dir: ${SURELY_UNSET_HERE}\n")
    done = run_plugin(PLUGIN, *argv, env=env, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: ")
    assert done.stderr.endswith("\n")
    assert done.stderr.count("\n") == 1
    assert names in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_the_example_of_every_plugin_is_accepted(tmp_path: Path) -> None:
    """--check takes each plugin's own example.yaml."""
    root = Path(__file__).resolve().parent.parent
    for example in sorted(root.glob("plugins/*/example.yaml")):
        done = run_plugin(f"plugins.{example.parent.name}", "--config", str(example), "--check", cwd=tmp_path)
        assert (done.returncode, done.stderr) == (0, "")
        assert json.dumps(str(example)).strip('"') in done.stdout
