"""tools_http: python -m plugins.tools_http.policy says what would be allowed, and connects to nobody."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from plugins.tools_http import policy
from plugins.tools_http.config import Config
from shared.errors import StartError
from tests.servers import ROOT, SECONDS
from tests.tools_world import FakeResolver, Server

NAMES = {"a.test": [["8.8.8.8", "2606:4700::1"]], "in.test": [["8.8.8.8", "10.0.0.7"]]}


def ask(capsys: pytest.CaptureFixture[str], *argv: str) -> tuple[int, list[str]]:
    status = policy.main(argv, FakeResolver(NAMES))
    return status, capsys.readouterr().out.splitlines()


def test_what_is_allowed(capsys: pytest.CaptureFixture[str]) -> None:
    """An allowed call: URL in its one form, methods of the host, every address, the rule; status 0."""
    assert ask(capsys, "HTTP://A.test:80/x y#z") == (
        0,
        [
            "GET http://a.test/x%20y", "methods: GET, HEAD", "address 8.8.8.8 (public): allowed by the rule `address`",
            "address 2606:4700::1 (public): allowed by the rule `address`", "allowed by the rule `default`",
        ],
    )  # fmt: skip


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["http://127.1/"], "no IPv4 address"), (["gopher://a.test/"], "refused by the rule `scheme`"),
        (["http://127.1/"], "refused by the rule `url`: "), (["http:///a#b"], "refused by the rule `url`: "),
        (["http://b.test/"], "cannot be resolved"),
        (["http://in.test/"], "address 10.0.0.7 (private): refused by the rule `address`"),
        (["http://[::1]/"], "loopback"),
        (["http://a.test/", "--denied-hosts", "*.test"], "refused by the rule `denied_hosts`"),
        (["--allowed-hosts=b.test", "http://a.test/"], "refused by the rule `allowed_hosts`"),
        (["--insecure", "http://a.test:22/"], "refused by the rule `allowed_ports`"),
        (["http://a.test/", "--method", "post"], "refused by the rule `allowed_methods`"),
        (["http://a.test/", "--method=DELETE", "--allowed-methods", '{"a.test": ["PUT"]}'], "methods: PUT"),
        (["http://c.test/", "--proxy", "http://127.0.0.1:3128", "--proxy-resolves"], "`address`"),
    ],
)  # fmt: skip
def test_what_is_refused(argv: Sequence[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A refused call: the rule, what would allow it, and, for the operator, where the name leads; status 1."""
    status, lines = ask(capsys, *argv)
    assert status == 1
    assert words in "\n".join(lines)
    assert lines[-1].startswith("refused")


def test_names_that_a_proxy_resolves(capsys: pytest.CaptureFixture[str]) -> None:
    """With proxy_resolves a host that is allowed by name is allowed, and not resolved here."""
    options = ["--allowed-hosts", "c.test", "--proxy", "http://127.0.0.1:3128", "--proxy-resolves", "true"]
    assert ask(capsys, *options, "https://c.test/")[0] == 0


def test_it_takes_the_plugins_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Settings come from the same file, and a setting that cannot be read is one line."""
    file = tmp_path / "tools.yaml"
    file.write_text("allowed_methods: {a.test: [POST], '*': []}\nallowed_ports: [8000-8099]\n")
    assert ask(capsys, "http://a.test:8080/", "--method", "POST", "--config", str(file))[0] == 0
    assert ask(capsys, "--config", str(file), "http://b.test:8080/")[1][1] == "methods: none"
    with pytest.raises(StartError) as error:
        ask(capsys, "http://a.test/", "--allowed-networks", "10.0.0.1/8")
    assert "allowed_networks" in str(error.value)


@pytest.mark.parametrize(
    ("argv", "rule"),
    [
        (["--method", "POST", "--allowed-methods", "GET,POST"], "allowed_methods"),
        (["--allowed-methods", "GET,POST"], "default"),
        (["--method", "POST", "--allowed-methods", "*", "--allowed-hosts", "a.test"], "allowed_hosts"),
    ],
)
def test_the_rule_that_allows(argv: list[str], rule: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The rule that is named is the setting without which the call would be refused."""
    assert ask(capsys, "http://a.test/", *argv)[1][-1] == f"allowed by the rule `{rule}`"
    assert ask(capsys, "http://a.test:99/", "--allowed-ports", "99")[1][-1] == "allowed by the rule `allowed_ports`"


@pytest.mark.parametrize(
    ("option", "meant"), [("--methd", "--method"), ("--methods", "--method"), ("--timout", "--timeout")]
)
def test_an_option_that_is_none(option: str, meant: str) -> None:
    """The nearest option is named, be it the command's own or the plugin's."""
    with pytest.raises(StartError, match=f"did you mean '?{meant}"):
        policy.main(["http://a.test/", option, "5"], FakeResolver({}))


@pytest.mark.parametrize(
    "argv", [[], ["--method", "GET"], ["http://a.test", "http://b.test"], ["http://a.test", "--method"]]
)
def test_a_command_line_that_says_nothing(argv: list[str]) -> None:
    """No URL, two of them, or an option without its value end in one line."""
    with pytest.raises(StartError) as error:
        policy.main(argv, FakeResolver({}))
    assert "command line" in str(error.value)


def test_it_connects_to_nobody() -> None:
    """As a real command, allowed or not, it opens no connection; its status says which."""
    server = Server()
    try:
        url = f"http://127.0.0.1:{server.port}/"
        command = [sys.executable, "-m", "plugins.tools_http.policy", url]
        options = ["--allowed-ports", str(server.port), "--allowed-networks", "127.0.0.1"]
        statuses = [
            subprocess.run([*command, *more], cwd=ROOT, capture_output=True, timeout=SECONDS).returncode
            for more in ([], options)
        ]
        assert statuses == [1, 0]
        assert server.connections == 0
    finally:
        server.close()


def test_methods_as_settings_write_them() -> None:
    """`allowed_methods` is a list or a mapping, written as text, as JSON or as YAML has it."""
    forms = ("GET,POST", '["GET", "POST"]', ["GET", "POST"], '{"a.test": ["POST"]}', {"a.test": ["POST"]})
    read = [Config(allowed_methods=form).allowed_methods for form in forms]  # type: ignore[arg-type]
    assert read == [("GET", "POST")] * 3 + [{"a.test": ["POST"]}] * 2
