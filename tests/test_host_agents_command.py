"""`python -m host call`, `chat`, `tools` and `try`, as people type them."""

from __future__ import annotations

import io
import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from host.__main__ import main
from host.config import load
from shared.errors import StartError
from tests.agent_fakes import FakeLLM, FakeTools, Turn, world
from tests.servers import ROOT, SECONDS, environment

KEYS = "y yes, a yes to every call of this tool from now on, n no, or say why not: "
AGENT = {"name": "An agent", "llm": "first"}


def host(monkeypatch: pytest.MonkeyPatch, file: Path, *arguments: str, stdin: str = "") -> int:
    monkeypatch.setattr(sys, "argv", ["host", *arguments, "--config", str(file)])
    monkeypatch.setattr(sys, "stdin", io.StringIO(stdin))
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    return main()


def adds(request: Any, nth: int) -> Turn:
    return [("add", {"a": 2, "b": 3})] if request.messages[-1].role != "tool" else "It is 5."


def test_call_prints_the_answer_alone_on_stdout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What was called and what it brought is on stderr; --llm takes another block, or a model's name."""
    llm = FakeLLM(adds)
    with world(tmp_path, llm=llm) as here:
        file = here.write_config(my_agent=AGENT)
        assert host(monkeypatch, file, "call", "my_agent", "2 + 3?") == 0
        out, err = capsys.readouterr()
        assert out == "It is 5.\n"
        assert '→ add {"a": 2, "b": 3}' in err
        assert "[answered, 2 steps, 1 tool call, 30 tokens, " in err
        for name, model in (("second", "second-model"), ("gpt-x", "gpt-x")):
            assert host(monkeypatch, file, "call", "my_agent", "2 + 3?", "--llm", name) == 0
            assert llm.requests[-1].model == model


def test_call_as_json(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """With --json each event is a line; pieces of text come with --stream alone."""
    with world(tmp_path, llm=FakeLLM(adds)) as here:
        file = here.write_config(my_agent=AGENT)
        kinds = []
        for more in ((), ("--stream",)):
            assert host(monkeypatch, file, "call", "my_agent", "2 + 3?", "--json", *more) == 0
            events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
            kinds.append([event["event"] for event in events])
            assert (events[-1]["answer"], events[-1]["stop_reason"]) == ("It is 5.", "ANSWERED")
    assert kinds[0] == ["StepBegan", "ActionAsked", "Observed", "StepEnded", "StepBegan", "StepEnded", "Done"]
    assert [kind for kind in kinds[1] if kind != "AnswerDelta"] == kinds[0]
    assert kinds[1].count("AnswerDelta") == 3


def test_a_failed_call_as_json(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With --json the last line says why there is no answer, whether the run failed or never began; so does stderr."""
    with world(tmp_path) as here:
        file = here.write_config(my_agent=AGENT)
        assert host(monkeypatch, file, "call", "my_agent", "?", "--json") == 1
        out, err = capsys.readouterr()
        message = "plugin llm: UNIMPLEMENTED: Method not found!"
        failed = {"event": "Failed", "message": message, "code": "UNIMPLEMENTED", "reason": ""}
        assert json.loads(out.splitlines()[-1]) == failed
        assert err.splitlines()[-1] == f"error: {message}"
        with pytest.raises(StartError):
            host(monkeypatch, file, "call", "my_agnet", "?", "--json")
        (line,) = capsys.readouterr().out.splitlines()
        assert json.loads(line)["code"] == "FAILED_PRECONDITION"
        assert "did you mean 'my_agent'" in json.loads(line)["message"]


def test_a_tool_plugin_of_which_nothing_says_that_it_is_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A plugin straight under `plugins:`, without manifest, is asked what it is: `tools` and agents have its tools."""
    for reflects in (True, False):
        llm = FakeLLM(lambda request, nth: "Fine.")
        with world(tmp_path, llm=llm, reflects=reflects) as here:
            file = here.write_config(my_agent={"llm": "first"})
            document = yaml.safe_load(file.read_text())
            document["plugins"]["mine"] = document["plugins"].pop("tool_providers")["tools"]
            file.write_text(yaml.safe_dump(document, sort_keys=False))
            if reflects:
                assert host(monkeypatch, file, "tools") == 0
                assert "add  (mine)\n    Adds.\n" in capsys.readouterr().out
            else:
                with pytest.raises(StartError, match="has no tool plugin"):
                    host(monkeypatch, file, "tools")
            assert host(monkeypatch, file, "call", "my_agent", "2 + 3?") == 0
            assert bool(llm.requests[0].tools) is reflects


def test_call_says_what_is_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """An unknown agent with the nearest, an empty question, a limit that was reached, a model that fails."""
    llm = FakeLLM(lambda request, nth: [("echo", {"text": str(nth)})] if request.tools else "So far.")
    with world(tmp_path, llm=llm) as here:
        file = here.write_config(my_agent=AGENT | {"reasoning": {"max_iterations": 2}}, other=AGENT)
        with pytest.raises(StartError, match=r"has no agents\.my_agnet; did you mean 'my_agent'"):
            host(monkeypatch, file, "call", "my_agnet", "?")
        with pytest.raises(StartError, match="the question is empty"):
            host(monkeypatch, file, "call", "my_agent", " ")
        assert host(monkeypatch, file, "call", "my_agent", "?") == 3
        assert capsys.readouterr().out == "So far.\n"
    with world(tmp_path) as here:
        file = here.write_config(my_agent=AGENT)
        assert host(monkeypatch, file, "call", "my_agent", "?") == 1
        out, err = capsys.readouterr()
        assert (out, err.splitlines()[-1]) == ("", "error: plugin llm: UNIMPLEMENTED: Method not found!")


def test_approval_without_a_terminal_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """--approve where nobody can be asked is an error before anything is called."""
    llm = FakeLLM(adds)
    with world(tmp_path, llm=llm) as here:
        with pytest.raises(StartError, match="--approve asks in the terminal before each call, and there is none here"):
            host(monkeypatch, here.write_config(my_agent=AGENT), "call", "my_agent", "?", "--approve")
        assert llm.requests == []


def test_chat_keeps_the_conversation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each line is a question that knows those before; /new forgets them."""
    llm = FakeLLM(lambda request, nth: f"answer {nth}")
    with world(tmp_path, llm=llm) as here:
        file = here.write_config(my_agent=AGENT | {"tools": []})
        assert host(monkeypatch, file, "chat", "my_agent", stdin="one\n\ntwo\n/new\nthree\n") == 0
    assert capsys.readouterr().out == "answer 0\nanswer 1\nanswer 2\n"
    assert [[message.content for message in request.messages] for request in llm.requests] == [
        [],
        ["one", "answer 0"],
        [],
    ]


def test_tools_lists_all_also_in_the_flat_form(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A tool in the guide's flat form has a schema like others, in words and as JSON."""
    with world(tmp_path) as here:
        file = here.write_config()
        assert host(monkeypatch, file, "tools") == 0
        text = capsys.readouterr().out
        assert host(monkeypatch, file, "tools", "--json") == 0
        listed = {tool["name"]: tool for tool in map(json.loads, capsys.readouterr().out.splitlines())}
    assert text.startswith("add  (tools)\n    Adds.\n    a?: integer\n    b?: integer\necho  (tools, read only)\n")
    assert "    text: string\n" in text
    integer = {"type": "integer"}
    assert listed["add"]["parameters"] == {"type": "object", "properties": {"a": integer, "b": integer}}
    assert listed["echo"]["read_only"]


@pytest.mark.parametrize("reflects", [True, False])
def test_try_calls_any_rpc(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], reflects: bool
) -> None:
    """By reflection, or by the contract where a plugin has none: its RPCs, a request to edit, a call and its status."""
    with world(tmp_path, llm=FakeLLM(lambda request, nth: "one two"), reflects=reflects) as here:
        file = here.write_config()

        def tried(*arguments: str, stdin: str = "") -> tuple[int, str, str]:
            status = host(monkeypatch, file, "try", *arguments, stdin=stdin)
            return status, *capsys.readouterr()

        status, out, err = tried("tools")
        assert status == 0
        assert "hector.plugins.v1.ToolProvider\n  rpc ListTools(ListToolsRequest) returns (ListToolsResponse)\n" in out
        assert ("has no reflection; taking it to speak hector_plugins.proto" in err) == (not reflects)
        status, out, _ = tried("tools", "ExecuteTool")
        assert json.loads(out)["tool"] == ""
        request = json.dumps({"tool": "echo", "parameters_json": '{"text": "x"}', "parameters": {"text": "x"}})
        status, out, err = tried("tools", "ExecuteTool", request)
        assert (status, json.loads(out)) == (0, {"success": True, "result": "x"})
        assert re.search(r"^OK in \d+\.\d ms$", err, re.MULTILINE)
        assert tried("tools", "ExecuteTool", "-", stdin=request)[0] == 0
        status, out, err = tried("tools", "ExecuteTool", '{"tool": "fail", "parameters_json": "{}"}')
        assert (status, json.loads(out)["error"]) == (1, "it broke; mend it")
        assert "the reply says success: false" in err
        status, out, err = tried("llm", "StreamText", '{"prompt": "x"}')
        assert (status, out.count("{\n")) == (0, 4)  # two words, the last message and its usage
        assert tried("tools", "ListTools")[0] == 0
        status, _, err = tried("strategy", "Initialize", "{}")
        assert status == 1
        assert re.search(r"^UNIMPLEMENTED in \d+\.\d ms: Method not found!$", err, re.MULTILINE)
        for arguments, words in (
            (("tool",), "no enabled plugin tool; did you mean 'tools'"),
            (("tools", "ExecuteTol"), "the server has no RPC ExecuteTol; did you mean"),
            (("tools", "ExecuteTool", '{"tol": 1}'), "has no field tol; did you mean tool?"),
        ):
            with pytest.raises(StartError) as refusal:
                tried(*arguments)
            assert words in str(refusal.value)


def test_the_readmes_agent_is_one(tmp_path: Path) -> None:
    """The YAML of host/README.md, in place of the agents of hector.yaml, loads as it says."""
    (block,) = re.findall(r"```yaml\n(.*?)```", (ROOT / "host" / "README.md").read_text(), re.DOTALL)
    above, _, _ = (ROOT / "hector.yaml").read_text().partition("\nagents:")
    file = tmp_path / "hector.yaml"
    file.write_text(f"{above}\n{block}")
    agent = load(file).agent("assistant")
    assert agent.reasoning
    assert (agent.prompt, agent.max_iterations, agent.max_seconds) == ("Be brief.", 10, 600.0)
    assert (agent.max_hits, agent.min_score, agent.max_tokens, agent.max_tool_calls) == (5, 0.25, 200_000, 50)


# ---------------------------------------------------------------- in a terminal


class Typed:
    """A command in a terminal of its own."""

    def __init__(self, *arguments: str) -> None:
        self._terminal, theirs = pty.openpty()
        self.seen = ""
        self.process = subprocess.Popen(
            [sys.executable, "-m", "host", *arguments],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env=environment() | {"TERM": "dumb"},
            start_new_session=True,
        )
        os.close(theirs)

    def until(self, text: str) -> None:
        deadline = time.monotonic() + SECONDS
        while text not in self.seen:
            assert time.monotonic() < deadline, self.seen
            if not select.select([self._terminal], [], [], 1)[0]:
                continue
            try:
                self.seen += os.read(self._terminal, 65536).decode(errors="replace")
            except OSError:  # it has ended
                assert text in self.seen, self.seen
                return

    def type(self, text: str) -> None:
        os.write(self._terminal, text.encode())

    def end(self) -> int:
        try:
            while piece := os.read(self._terminal, 65536):
                self.seen += piece.decode(errors="replace")
        except OSError:
            pass
        os.close(self._terminal)
        return self.process.wait(SECONDS)


@pytest.fixture
def typed() -> Any:
    started: list[Typed] = []

    def start(*arguments: str) -> Typed:
        started.append(Typed(*arguments))
        return started[-1]

    yield start
    for one in started:
        if one.process.poll() is None:
            one.process.kill()
            one.process.wait()


@pytest.mark.slow
def test_a_person_approves_in_the_terminal(tmp_path: Path, typed: Callable[..., Typed]) -> None:
    """Escape sequences in arguments are shown and not obeyed; y, a reason and a do as they say."""
    texts = ["\x1b[2J\u202egone", "second", "third", "fourth"]

    def script(request: Any, nth: int) -> Turn:
        return [("echo", {"text": texts[nth]})] if nth < len(texts) else "Done with it."

    tools = FakeTools()
    with world(tmp_path, llm=FakeLLM(script), tools=tools) as here:
        file = here.write_config(my_agent=AGENT)
        terminal = typed("call", "my_agent", "?", "--approve", "--config", str(file))
        terminal.until(KEYS)
        assert 'allow? echo {"text":"\\u001b[2J‹U+202E›gone"} (only reads)' in terminal.seen
        terminal.type("y\n")
        for text, answer in (("second", "leave it"), ("third", "a")):
            terminal.until(f'allow? echo {{"text":"{text}"}} (only reads)\r\n{KEYS}')
            terminal.type(answer + "\n")
        assert terminal.end() == 0
    assert "Done with it." in terminal.seen
    assert "not allowed: leave it" in terminal.seen
    assert "\x1b[2J" not in terminal.seen
    ran = [json.loads(request.parameters_json)["text"] for request in tools.requests]
    assert ran == ["\x1b[2J\u202egone", "third", "fourth"]


@pytest.mark.slow
def test_ctrl_c_ends_the_answer_upstream_and_not_the_conversation(tmp_path: Path, typed: Callable[..., Typed]) -> None:
    """In a chat Ctrl-C stops what is being written and asks for the next question; call ends with status 130."""
    llm = FakeLLM(lambda request, nth: "one two")
    llm.hangs = True
    with world(tmp_path, llm=llm) as here:
        file = here.write_config(my_agent=AGENT | {"tools": []})
        terminal = typed("chat", "my_agent", "--config", str(file))
        terminal.until("> ")
        terminal.type("hello\n")
        terminal.until("two")
        os.kill(terminal.process.pid, signal.SIGINT)
        assert llm.cancelled.wait(SECONDS)
        llm.hangs = False
        terminal.until("stopped\r\n\r\n> ")
        terminal.type("again\n")
        terminal.until("[answered, 1 step, ")
        terminal.type("/quit\n")
        assert terminal.end() == 0
        llm.hangs = True
        llm.cancelled.clear()
        terminal = typed("call", "my_agent", "hello", "--stream", "--config", str(file))
        terminal.until("two")
        os.kill(terminal.process.pid, signal.SIGINT)
        assert llm.cancelled.wait(SECONDS)
        assert terminal.end() == 130
