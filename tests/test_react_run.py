"""`python -m plugins.reasoning_react.run`, as somebody would type it, between scripted servers."""

from __future__ import annotations

import asyncio
import copy
import dataclasses
import io
import json
import os
import pty
import re
import signal
import stat
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import hector_plugins_pb2 as pb
import pytest

from plugins.reasoning_react.seeing.terminal import Timeline
from plugins.reasoning_react.seeing.trace import Call, Said, Step, Tokens, Trace, Turn, read, write
from shared.errors import StartError, Unavailable
from tests.loops import in_loop
from tests.react_command import KEY, SUM, USAGE, add, answers, asks, ended, in_order, world
from tests.react_peers import gave, said
from tests.servers import environment, start_plugin


@in_loop
async def test_a_question(tmp_path: Path) -> None:
    """The answer is on stdout and nothing else; on stderr is what happened, in its order, and what it took."""
    async with world(tmp_path, *SUM) as run:
        done = await run.run("What is 2 + 2?")
    assert (done.status, done.out) == (0, "It is 4.\n")
    in_order(done.err, "Step 1", "I add.", "→ add", '{"a":2,"b":2}', "← add", "4", "10 + 5 tokens", "Step 2",
             "[answered, 2 steps, 1 tool call, 20 + 10 tokens, ")  # fmt: skip
    assert "\x1b" not in done.err
    assert "Traceback" not in done.err


@pytest.mark.slow
@in_loop
async def test_what_the_model_is_told(tmp_path: Path) -> None:
    """What the plugin tells the model after a step is shown, also of a run elsewhere."""
    env = {"REASONING_REACT__STATE_KEY": KEY}
    async with world(tmp_path, SUM[0], SUM[0], SUM[1], SUM[0], SUM[0], SUM[1]) as run:
        done = await run.run("What is 2 + 2?")
        with start_plugin("plugins.reasoning_react", *run.options, env=env) as plugin:
            other = await dataclasses.replace(run, options=("--address", plugin.address)).run("What is 2 + 2?")
    for each in (done, other):
        assert (each.status, each.out) == (0, "It is 4.\n")
        in_order(each.err, "Step 2", "← add", "! You have made this call before", "Step 3")
        assert each.err.count("You have made this call before") == 1


@in_loop
async def test_what_is_piped_in(tmp_path: Path) -> None:
    """What is piped in is the question's background; without a question it is the question, whatever its encoding."""
    async with world(tmp_path, answers("Yes.")) as run:
        assert (await run.run("Is it long?", piped=b"diff --git\n")).status == 0
        assert (await run.run(piped=b"caf\xe9?\n")).status == 0
    for request, parts in zip(run.llm.requests, (("diff --git", "Is it long?"), ("caf\ufffd?",)), strict=True):
        in_order(request.messages[-1].content, *parts)


@pytest.mark.slow
@in_loop
async def test_nothing_comes_in(tmp_path: Path) -> None:
    """Where something is piped in and nothing comes, it is said what is waited for."""
    async with world(tmp_path, answers("Yes.")) as run, run.started("Well?") as process:
        assert process.stdin
        assert process.stderr
        assert b"waiting for what is piped in" in await process.stderr.readline()
        assert not run.llm.requests
        process.stdin.close()
        assert (await ended(process, b"")).out == "Yes.\n"


@pytest.mark.parametrize(
    ("redirected", "status", "out", "words"),
    [
        ("<&-", 0, "Yes.\n", "Step 1"),
        ("2>&-", 0, "Yes.\n", ""),
        (">&-", 0, "", "Step 1"),
        ("> /dev/full", 1, "", "error: cannot write the answer: No space left on device"),
    ],
)
@in_loop
async def test_streams_that_are_closed(tmp_path: Path, redirected: str, status: int, out: str, words: str) -> None:
    """A stream that is closed is one that nothing comes from, or that nobody reads; a full disk is told."""
    async with world(tmp_path, answers("Yes.")) as run:
        process = await asyncio.create_subprocess_exec(
            "sh", "-c", f'exec "$@" {redirected}', "sh",
            sys.executable, "-m", "plugins.reasoning_react.run", "Well?", *run.options,
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
            cwd=tmp_path, env=environment({}),
        )  # fmt: skip
        done = await ended(process, b"")
    assert (done.status, done.out) == (status, out), done
    assert words in done.err
    assert "Traceback" not in done.err


@in_loop
async def test_settings(tmp_path: Path) -> None:
    """Every setting of the plugin is an option, a variable or a line of --config FILE."""
    (tmp_path / "react.yaml").write_text("temperature: 0.25\n")
    async with world(tmp_path, answers("Yes.")) as run:
        env = {"REASONING_REACT__MAX_ITERATIONS": "3"}
        done = await run.run("Well?", "--model", "one", "--config", "react.yaml", env=env)
    assert (done.status, done.out) == (0, "Yes.\n")
    (request,) = run.llm.requests
    assert (request.model, request.options.temperature) == ("one", 0.25)


@in_loop
async def test_the_end_at_a_limit(tmp_path: Path) -> None:
    """A run that ends at a limit prints the best answer there is, and has a status of its own."""
    turns = (asks('{"a": 1, "b": 1}'), asks('{"a": 2, "b": 2}'), answers("About 4."))
    async with world(tmp_path, *turns) as run:
        done = await run.run("How much?", "--max-iterations", "2")
    assert (done.status, done.out) == (3, "About 4.\n")
    assert "[max iterations, " in done.err


@in_loop
async def test_errors_of_tools(tmp_path: Path) -> None:
    """A tool that fails is seen to, with its words."""

    def fails(request: Any, context: Any) -> Any:
        return pb.ExecuteToolResponse(error="the disk is full", result="")

    async with world(tmp_path, *SUM, tools={"add": fails}) as run:
        done = await run.run("What is 2 + 2?")
    assert done.status == 0
    in_order(done.err, "→ add", "✗ failed: add", "the disk is full")


@in_loop
async def test_hostile_text(tmp_path: Path) -> None:
    """What others write is shown as text, whatever it would have a terminal do; a piped answer stays exact."""
    evil = "\x1b]0;owned\x07\x1b[2J\u202eevil"
    thought = pb.StreamTextResponse(reasoning=f"thought {evil}")
    turns = ([thought, *asks('{"a": 2, "b": 2}', text=f"text {evil}")], answers(f"It is {evil}."))
    async with world(tmp_path, *turns, tools={"add": lambda request, context: gave(evil)}) as run:
        done = await run.run("What is 2 + 2?")
    assert done.out == f"It is {evil}.\n"
    assert not {"\x1b", "\x07", "\u202e"} & set(done.err)
    for before in ("thought ", "text ", "     "):
        assert f"{before}‹U+001B›]0;owned‹U+0007›‹U+001B›[2J‹U+202E›evil" in done.err


@in_loop
async def test_in_a_terminal(tmp_path: Path) -> None:
    """In a terminal a thought is there, dim, while the model is still writing; so is the answer, without control
    characters."""
    seen = {"thought": asyncio.Event(), "answer": asyncio.Event()}

    def turn(first: str, key: str, rest: list[pb.StreamTextResponse]) -> Any:
        return lambda request, context: [pb.StreamTextResponse(text=first), seen[key].wait(), *rest]

    async with world(
        tmp_path,
        turn("Thought: Let me think. ", "thought", said('\nAction: add\nAction Input: {"a": 2, "b": 2}', usage=USAGE)),
        turn("Final Answer: It is\x1b[2J", "answer", said(" four.", usage=USAGE)),
    ) as run:
        keyboard, screen = pty.openpty()
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "plugins.reasoning_react.run", "What is 2 + 2?", *run.options, "--mode", "text",
            stdin=screen, stdout=screen, stderr=screen, cwd=tmp_path,
            env=environment({"TERM": "xterm", "NO_COLOR": ""}),
        )  # fmt: skip
        os.close(screen)
        reader = asyncio.StreamReader()
        loop = asyncio.get_running_loop()
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(keyboard, "rb"))
        shown = ""
        try:
            while True:
                data = await reader.read(65536)
                shown += data.decode(errors="replace")
                if "Let me think" in shown:
                    seen["thought"].set()
                if "It is" in shown:
                    seen["answer"].set()
                if not data:
                    break
        except OSError:  # how a terminal of Linux says that its program has ended
            pass
        assert await process.wait() == 0
    assert "\x1b[2mLet me think" in shown
    assert "\x1b[2J" not in shown
    assert shown.count("It is‹U+001B›[2J four.") == 1


# ---------------------------------------------------------------- saved runs


@in_loop
async def test_save_needs_a_key(tmp_path: Path) -> None:
    """Without a state_key --save refuses and says what to do, before the model is asked; --html needs none."""
    async with world(tmp_path, *SUM) as run:
        done = await run.run("What is 2 + 2?", "--save", "run.json", env={"REASONING_REACT__STATE_KEY": ""})
        assert done.status == 2
        in_order(done.err, "--save needs a state_key", "REASONING_REACT__STATE_KEY", "openssl rand -hex 32")
        assert done.err.count("\n") == 1
        assert run.llm.requests == []
        assert os.listdir(tmp_path) == []
        done = await run.run("What is 2 + 2?", "--html", "run.html", env={"REASONING_REACT__STATE_KEY": ""})
        assert done.status == 0


@in_loop
async def test_save(tmp_path: Path) -> None:
    """A saved run has the question, each step with its actions, results, tokens and time, and what the model was asked
    and wrote; it is its owner's alone. Resumed after its end it is only shown."""
    async with world(tmp_path, *SUM) as run:
        assert (await run.run("What is 2 + 2?", "--save", "run.json", "--html", "run.html")).status == 0
        asked = len(run.llm.requests)
        again = await run.run("--resume", "run.json", "--html", "again.html", env={"REASONING_REACT__STATE_KEY": ""})
        assert len(run.llm.requests) == asked
    assert (again.status, again.out) == (0, "It is 4.\n")
    assert stat.S_IMODE((tmp_path / "run.json").stat().st_mode) == 0o600
    trace = run.trace()
    assert (trace["question"], trace["answer"], trace["stop_reason"]) == ("What is 2 + 2?", "It is 4.", "ANSWERED")
    first, second = trace["steps"]
    (call,) = first["calls"]
    assert (call["tool"], json.loads(call["arguments"]), call["result"]) == ("add", {"a": 2, "b": 2}, "4")
    assert (call["id"], first["tokens"]["total"]) == (run.tools.calls[0].call_id, 15)
    assert 0 < call["seconds"] <= first["tool_seconds"] <= first["seconds"]
    # The second turn was given all that the first was given, and more.
    (turn,) = second["turns"]
    assert turn["repeated"] == len(first["turns"][0]["messages"]) == len(run.llm.requests[0].messages)
    assert len(turn["messages"]) == len(run.llm.requests[1].messages) - turn["repeated"]
    assert [turn["text"], first["turns"][0]["tools"]] == ["It is 4.", ["add"]]
    html = (tmp_path / "run.html").read_text()
    assert html == (tmp_path / "again.html").read_text()
    assert "What is 2 + 2?" in html


@in_loop
async def test_ctrl_c_in_mid_tool(tmp_path: Path) -> None:
    """Ctrl-C ends the tool's call and the run, keeps what there is, and says how to go on. The step that was under way
    is then taken again, under the same id, so that a tool knows it."""
    begun = asyncio.Event()

    async def hangs(request: Any, context: Any) -> str:
        begun.set()
        await asyncio.Event().wait()
        raise AssertionError

    turns = (asks('{"a": 1, "b": 1}'), *SUM, *SUM)
    async with world(tmp_path, *turns) as run:
        run.tools.scripts["add"] = lambda request, context: (
            hangs(request, context) if len(run.tools.calls) == 2 else add(request, context)
        )
        async with run.started("What is 2 + 2?", "--save", "run.json", "--html", "run.html") as process:
            assert process.stdin
            process.stdin.close()
            await begun.wait()
            run.tools.ended.clear()
            process.send_signal(signal.SIGINT)
            done = await ended(process)
            await run.tools.ended.wait()
        assert (done.status, done.out) == (130, "")
        in_order(done.err, "→ add", "stopped", "[not ended, 2 steps", "go on with --resume run.json --save run.json")
        assert "Traceback" not in done.err
        assert [step["is_whole"] for step in run.trace()["steps"]] == [True, False]
        assert "cut short" in (tmp_path / "run.html").read_text()
        run.llm.turns[1:3] = []  # the model says once more what it said
        run.llm.requests.clear()
        run.llm.turns = list(SUM)
        done = await run.run("--resume", "run.json", "--save", "run.json")
    assert (done.status, done.out) == (0, "It is 4.\n")
    assert [step["number"] for step in run.trace()["steps"]] == [1, 2, 3]
    assert all(step["is_whole"] for step in run.trace()["steps"])
    ids = [call.call_id for call in run.tools.calls]
    assert ids[1] == ids[2] != ids[0]


@in_loop
async def test_sigterm(tmp_path: Path) -> None:
    """SIGTERM does what Ctrl-C does, also while the model is writing."""
    asked = asyncio.Event()

    def hangs(request: Any, context: Any) -> Any:
        asked.set()
        return [pb.StreamTextResponse(text="Let me"), asyncio.Event().wait()]

    async with world(tmp_path, hangs) as run:
        async with run.started("Well?", "--save", "run.json") as process:
            assert process.stdin
            process.stdin.close()
            await asked.wait()
            process.send_signal(signal.SIGTERM)
            done = await ended(process)
        await run.llm.ended.wait()
    assert (done.status, done.out) == (143, "")
    assert len(run.trace()["steps"]) == 1


@in_loop
async def test_an_llm_that_fails(tmp_path: Path) -> None:
    """Where the LLM fails it is one line with a remedy; the run is saved, and can be resumed when it is back."""
    down = [Unavailable("the endpoint is down; start it")]
    async with world(tmp_path, SUM[0], down) as run:
        done = await run.run("What is 2 + 2?", "--save", "run.json")
        assert (done.status, done.out) == (1, "")
        (line,) = [line for line in done.err.splitlines() if line.startswith("error: ")]
        assert "the endpoint is down; start it" in line
        assert "Traceback" not in done.err
        run.llm.turns = [SUM[1]]
        done = await run.run("--resume", "run.json", "--save", "run.json")
    assert (done.status, done.out) == (0, "It is 4.\n")
    assert len(run.tools.calls) == 1


@pytest.mark.slow
@in_loop
async def test_nobody_there(tmp_path: Path) -> None:
    """Without servers it is one line that says what to start or set."""
    async with world(tmp_path, *SUM) as run:
        for options, words in (
            (("--llm", "127.0.0.1:1"), "llm"),
            (("--tools", "127.0.0.1:1"), "tools"),
            (("--address", "127.0.0.1:1"), "start it with `python -m plugins.reasoning_react`"),
            (("--address", run.options[1]), "give the address of one"),
        ):
            servers = dict(zip(run.options[::2], run.options[1::2], strict=True)) | dict([options])
            if "--address" in servers:
                servers = dict([options])
            other = dataclasses.replace(run, options=tuple(part for pair in servers.items() for part in pair))
            done = await other.run("What is 2 + 2?")
            assert (done.status, done.out) == (1, ""), done
            (line,) = [line for line in done.err.splitlines() if line.startswith("error: ")]
            assert words in line
            assert "Traceback" not in done.err


@pytest.mark.slow
@in_loop
async def test_another_key(tmp_path: Path) -> None:
    """A run that was saved with another key, or was changed, is refused with the remedy."""
    async with world(tmp_path, SUM[0], [Unavailable("down")]) as run:
        await run.run("What is 2 + 2?", "--save", "run.json")
        done = await run.run("--resume", "run.json", env={"REASONING_REACT__STATE_KEY": KEY[::-1]})
        assert done.status == 1
        assert "key" in done.err
        trace = run.trace()
        trace["state"] = trace["state"][:80] + ("A" if trace["state"][80] != "A" else "B") + trace["state"][81:]
        (tmp_path / "changed.json").write_text(json.dumps(trace))
        done = await run.run("--resume", "changed.json")
    assert done.status == 1
    assert "error: " in done.err
    assert "Traceback" not in done.err


@pytest.mark.slow
@in_loop
async def test_files_that_cannot_be_written(tmp_path: Path) -> None:
    """A file that cannot be written is told before the model is asked; one that goes away later ends nothing."""
    (tmp_path / "folder").mkdir()
    gone = tmp_path / "gone"
    gone.mkdir()

    def removes(request: Any, context: Any) -> str:
        for file in gone.iterdir():
            file.unlink()
        gone.rmdir()
        return "4"

    async with world(tmp_path, *SUM, tools={"add": removes}) as run:
        for option, name in (("--save", "nowhere/run.json"), ("--html", "folder"), ("--html", "nowhere/x.html")):
            done = await run.run("What is 2 + 2?", option, name)
            assert (done.status, done.err.count("\n")) == (2, 1)
            assert f"cannot write {name}: " in done.err
        assert run.llm.requests == []
        done = await run.run("What is 2 + 2?", "--save", "gone/run.json")
    assert (done.status, done.out) == (1, "It is 4.\n")
    assert done.err.count("cannot write gone/run.json: ") == 1


@in_loop
async def test_nobody_reads(tmp_path: Path) -> None:
    """Where nobody reads stderr the run goes on; where nobody reads the answer it ends without a traceback."""
    async with world(tmp_path, *SUM, *SUM) as run:
        async with run.started("What is 2 + 2?") as process:
            assert process.stdin
            assert process.stdout
            assert process.stderr
            process.stdin.close()
            process._transport.get_pipe_transport(2).close()  # type: ignore[attr-defined]
            assert await process.stdout.read() == b"It is 4.\n"
            assert await process.wait() == 0
        async with run.started("What is 2 + 2?") as process:
            assert process.stdin
            assert process.stderr
            process._transport.get_pipe_transport(1).close()  # type: ignore[attr-defined]
            process.stdin.close()
            err = await process.stderr.read()
            assert await process.wait() == 1
    assert b"Traceback" not in err
    assert b"BrokenPipe" not in err


# ---------------------------------------------------------------- a run of a plugin


@pytest.mark.slow
@in_loop
async def test_a_plugin_elsewhere(tmp_path: Path) -> None:
    """With --address the run is that plugin's: the same timeline, and a file and a page without the model's turns."""
    env = {"REASONING_REACT__STATE_KEY": KEY, "REASONING_REACT__TOKEN": "secret-token"}
    async with world(tmp_path, *SUM, *SUM) as run:
        with start_plugin("plugins.reasoning_react", *run.options, env=env) as plugin:
            other = dataclasses.replace(run, options=("--address", plugin.address))
            done = await other.run("What is 2 + 2?", "--save", "run.json", "--html", "run.html", env=env)
            assert (done.status, done.out) == (0, "It is 4.\n")
            in_order(done.err, "Step 1", "I add.", "→ add", '{"a":2,"b":2}', "← add", "4", "10 + 5 tokens", "Step 2",
                     "[answered, 2 steps, 1 tool call, 20 + 10 tokens, ")  # fmt: skip
            assert [step["turns"] for step in run.trace()["steps"]] == [[], []]
            wrong = await other.run("What is 2 + 2?", env={"REASONING_REACT__TOKEN": "wrong-token"})
            assert wrong.status == 1
            assert "UNAUTHENTICATED: the plugin at --address wants its token" in wrong.err
            run.llm.requests.clear()
            options = ("--model", "one", "--temperature", "0.5", "--max-iterations", "1", "--mode", "text")
            limited = await other.run("What is 2 + 2?", *options, env=env)
            assert (limited.status, limited.out) == (3, "It is 4.\n")
            request = run.llm.requests[0]
            assert (request.model, request.options.temperature, len(request.tools)) == ("one", 0.5, 0)
            refused = await other.run("What is 2 + 2?", "--tools", "127.0.0.1:1", env=env)
            assert (refused.status, refused.err.count("\n")) == (2, 1)


# ---------------------------------------------------------------- the command line and the file, by themselves


@pytest.mark.slow
@pytest.mark.parametrize(
    ("args", "words"),
    [
        ([], "question"),
        (["one", "two"], "more than one question"),
        (["q", "--sav", "x"], "did you mean '--save'"),
        (["q", "--max-iteration", "3"], "did you mean '--max-iterations'"),
        (["q", "--max-iterations", "x"], "max_iterations"),
        (["q", "--state-key", "abcdefgh"], "REASONING_REACT__STATE_KEY"),
        (["q", "--save"], "--save: expected one argument"),
        (["q", "--resume", "x"], "leave out one of the two"),
        (["--resume", "nowhere.json"], "cannot read nowhere.json: No such file"),
        (["q", "--tls-ca", "nowhere.pem", "--address", "127.0.0.1:1"], "cannot read nowhere.pem"),
        (["q", "--tls-ca", "ca.pem"], "--tls-ca is for the plugin at --address"),
        (["q", "--address", "http://127.0.0.1:1"], "--address: an address is HOST:PORT or unix:PATH"),
        (["q", "--address", "127.0.0.1"], "--address: an address is HOST:PORT or unix:PATH"),
    ],
)
@in_loop
async def test_what_cannot_be_meant(tmp_path: Path, args: Sequence[str], words: str) -> None:
    """A mistake on the command line is one line, which names it, and status 2; no secret is repeated."""
    async with world(tmp_path, *SUM) as run:
        done = await dataclasses.replace(run, options=()).run(*args)
    assert (done.status, done.out, done.err.count("\n")) == (2, "", 1), done.err
    assert words in done.err
    assert "abcdefgh" not in done.err


WHOLE = Trace(
    "Why?\x00\ud800",
    "background",
    1.79e9,
    bytes(range(256)),
    [
        Step(
            1,
            "hm",
            [Call("1", "add", "{}", "4", True, True, 0.5), Call("2", "add", "{}")],
            "note",
            1.0,
            0.5,
            Tokens(1, 2, 3),
            [Turn(2, [Said("user", "Why?", "n", ["c"])], ["add"], "r", "t", ["c"], "STOP", None, 0.25, "e")],
            True,
        )
    ],
    True,
    "answer",
    "ANSWERED",
)


def test_a_file_gives_back_what_was_written(tmp_path: Path) -> None:
    """What was written is read back, whatever characters there are; a link stays one, nothing is left over."""
    (tmp_path / "real.json").write_text("before")
    (tmp_path / "run.json").symlink_to("real.json")
    for trace in (WHOLE, Trace("q")):
        write(tmp_path / "run.json", trace)
        assert read(tmp_path / "run.json") == trace
    assert sorted(path.name for path in tmp_path.iterdir()) == ["real.json", "run.json"]
    assert (tmp_path / "run.json").is_symlink()


def test_a_file_that_is_no_trace(tmp_path: Path) -> None:
    """What is no trace, or has a part of another type, too many or too few parts, is refused in one sentence."""
    file = tmp_path / "run.json"
    write(file, WHOLE)
    good = json.loads(file.read_text())

    def changed(path: str, value: Any) -> str:
        content = copy.deepcopy(good)
        place, keys = content, [int(key) if key.isdigit() else key for key in path.split(".")]
        for key in keys[:-1]:
            place = place[key]
        if value is None:
            del place[keys[-1]]
        else:
            place[keys[-1]] = value
        return json.dumps(content)

    cases = ["", "[]", "{", "null", "[" * 100_000, "{}", '{"format": "another"}', changed("format", "another 2")]
    paths = ("state", "steps", "steps.0", "steps.0.number", "steps.0.calls.0.result", "steps.0.turns.0.messages.0.role",
             "done", "question", "steps.0.tokens.total", "steps.0.more", "more", "began")  # fmt: skip
    cases += [changed(path, {"no": "part"}) for path in paths]
    cases += [changed(path, None) for path in ("state", "question", "steps.0.number", "steps.0.calls.0.id")]
    for text in cases:
        file.write_text(text)
        with pytest.raises(StartError, match=re.escape(str(file))):
            read(file)


@pytest.mark.parametrize(
    ("text", "shown", "rest"),
    [
        ("", "", 0),
        ("one\ntwo\n", "one|two", 0),
        ("a" * 75, "a" * 75, 0),
        ("a" * 76, "a" * 75 + "|a", 0),
        ("a" * 75 + "\nb", "a" * 75 + "|b", 0),
        ("\n\none\n\ntwo", "one||two", 0),
        ("a\n" * 20, "|".join("a" * 12), 15),
        ("a" * 2000, "|".join(["a" * 75] * 12), 1100),
        ("\x1b[2J", "‹U+001B›[2J", 0),
    ],
)
def test_the_head_of_a_result(text: str, shown: str, rest: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a result there are as many lines as fit, long ones broken, and how much more there is."""
    monkeypatch.setenv("COLUMNS", "80")
    err = io.StringIO()
    Timeline(io.StringIO(), err).result(Call("1", "tool", "{}", text))
    lines = [line.strip() for line in err.getvalue().splitlines()[1:]]
    more = [f"… {rest:,} more characters"] if rest else []
    assert lines == ([*shown.split("|"), *more] if shown else [])
