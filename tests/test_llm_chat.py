"""`python -m plugins.llm_openai.chat`, as somebody would type it."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.llm_endpoint import Endpoint
from tests.llm_tools import started
from tests.servers import ROOT, SECONDS, Served, environment


@pytest.fixture(scope="module")
def endpoint() -> Iterator[Endpoint]:
    with Endpoint() as running:
        yield running


@pytest.fixture(scope="module")
def plugin(endpoint: Endpoint) -> Iterator[Served]:
    with started(
        endpoint, "--model", "echo", "--max-retries", "0", env={"LLM_OPENAI__TOKEN": "secret-token"}
    ) as running:
        yield running


def chat(plugin: Served, *args: str, typed: str = "", token: str = "secret-token") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "plugins.llm_openai.chat", "--address", plugin.address, *args],
        input=typed,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        env=environment({"LLM_OPENAI__TOKEN": token}),
        cwd=ROOT,
        check=False,
    )


def test_one_question(plugin: Served, endpoint: Endpoint) -> None:
    """The answer is on stdout and nothing else; what it took is on stderr; what is piped in is below the question."""
    done = chat(plugin, "Say this", "--system", "Be brief.", typed="and that\n")
    assert (done.returncode, done.stdout) == (0, "Say this\n\nand that\n")
    assert "3 + 2 tokens" in done.stderr
    assert [message["role"] for message in endpoint.bodies[-1]["messages"]] == ["system", "user"]


def test_a_question_that_is_piped_in(plugin: Served, endpoint: Endpoint) -> None:
    """Without a question what is piped in is the question, whole, whatever its encoding."""
    before = len(endpoint.bodies)
    done = subprocess.run(
        [sys.executable, "-m", "plugins.llm_openai.chat", "--address", plugin.address],
        input=b"caf\xe9\n\nand cake\n",
        capture_output=True,
        timeout=SECONDS,
        env=environment({"LLM_OPENAI__TOKEN": "secret-token"}),
        cwd=ROOT,
        check=False,
    )
    assert (done.returncode, done.stdout.decode()) == (0, "caf\ufffd\n\nand cake\n")
    assert len(endpoint.bodies) == before + 1


def test_a_talk(plugin: Served, endpoint: Endpoint) -> None:
    """In a terminal each line is a turn, earlier ones are remembered, an empty line ends it."""
    keyboard, screen = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "plugins.llm_openai.chat", "--address", plugin.address],
        stdin=screen,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=environment({"LLM_OPENAI__TOKEN": "secret-token"}),
        cwd=ROOT,
    ) as process:
        os.close(screen)
        os.write(keyboard, b"one\ntwo\n\n")
        out, _ = process.communicate(timeout=SECONDS)
        os.close(keyboard)
    assert process.returncode == 0
    assert [word for word in out.decode().split() if word != ">"] == ["one", "two"]
    assert [message["content"] for message in endpoint.bodies[-1]["messages"]] == ["one", "one", "two"]


def test_reasoning_is_not_the_answer(plugin: Served) -> None:
    """Reasoning goes to stderr."""
    done = chat(plugin, "Hi", "--model", "think")
    assert done.stdout == "Four.\n"
    assert "Two and two." in done.stderr


def test_models(plugin: Served) -> None:
    """--models lists them, the default marked."""
    done = chat(plugin, "--models")
    assert done.returncode == 0
    assert done.stdout.splitlines()[0] == "echo\tdefault"


@pytest.mark.parametrize(
    ("args", "token", "words"),
    [
        (["Hi", "--model", "cut-off"], "secret-token", "UNAVAILABLE"),
        (["Hi", "--model", "nobody"], "secret-token", "NOT_FOUND"),
        (["Hi"], "wrong-token", "UNAUTHENTICATED"),
        (["--models"], "wrong-token", "UNAUTHENTICATED"),
        (["Hi", "--address", "127.0.0.1:1"], "", "start it with"),
        (["Hi", "--tls-ca", "/nowhere.pem"], "", "cannot read /nowhere.pem"),
    ],
)
def test_errors(plugin: Served, args: list[str], token: str, words: str) -> None:
    """An error is one line on stderr and a status other than 0."""
    done = chat(plugin, *args, token=token)
    assert done.returncode != 0
    assert words in done.stderr
    assert done.stderr.count("\n") == 1
