"""What the README of reasoning_react shows: what models write, and the edits that make another strategy."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from plugins.reasoning_react.engine.reader import read
from plugins.reasoning_react.engine.reading import Act, Final, Malformed, ThoughtOnly
from shared.errors import Unavailable
from tests.loops import in_loop
from tests.react_command import KEY, SUM, answers, in_order, world
from tests.servers import ROOT

PLUGIN = ROOT / "plugins" / "reasoning_react"
README = (PLUGIN / "README.md").read_text(encoding="utf-8")


def _schema(**properties: str) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {name: {"type": kind} for name, kind in properties.items()},
        "required": list(properties),
    }


TOOLS = {"search": _schema(q="string"), "add": _schema(a="integer", b="integer")}


def rows() -> list[tuple[str, str]]:
    section = README.partition("## What models write")[2].partition("\n## ")[0]
    found = re.findall(r"^\| `(.*?)` \| (.*) \|$", section, re.MULTILINE)
    return [(text.replace("⏎", "\n"), meaning) for text, meaning in found]


def test_there_are_rows() -> None:
    """The table is found where this test looks for it, whole."""
    assert len(rows()) == README.partition("## What models write")[2].partition("\n## ")[0].count("\n| `") >= 30


@pytest.mark.parametrize(("text", "meaning"), rows(), ids=range(len(rows())))
def test_what_models_write(text: str, meaning: str) -> None:
    """Each row of the table is read as it says."""
    reading = read(text, TOOLS)
    if meaning.startswith("the answer"):
        answer = re.match("the answer `(.*?)`", meaning)
        assert answer
        assert isinstance(reading, Final)
        assert reading.text == answer[1]
    elif meaning.startswith("a thought"):
        assert isinstance(reading, ThoughtOnly)
    elif meaning.startswith("nothing"):
        assert isinstance(reading, Malformed)
    else:
        assert isinstance(reading, Act)
        calls = [(name, json.loads(arguments)) for name, arguments in re.findall(r"`(\w+) (\{.*?\})`", meaning)]
        assert calls
        assert [(call.name, call.arguments) for call in reading.calls] == calls


# ---------------------------------------------------------------- another strategy


def edited(folder: Path) -> Path:
    """A copy of the plugin as `plugins.plan_execute`, with the README's edits."""
    plugin = folder / "plugins" / "plan_execute"
    shutil.copytree(PLUGIN, plugin, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "plugins" / "__init__.py").touch()
    (diff,) = re.findall(r"^```diff\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
    for part in re.split(r"^\+\+\+ ", diff, flags=re.MULTILINE)[1:]:
        name, _, rest = part.partition("\n")
        file = plugin / name
        text = file.read_text(encoding="utf-8") if file.exists() else ""
        for hunk in re.split(r"^@@\n", rest, flags=re.MULTILINE)[1:]:
            lines = [(line[:1] or " ", line[1:]) for line in hunk.splitlines()]
            before = "".join(f"{line}\n" for sign, line in lines if sign != "+")
            after = "".join(f"{line}\n" for sign, line in lines if sign != "-")
            assert text.count(before) == 1 or not text, f"{name} has not once:\n{before}"
            text = text.replace(before, after) if text else after
        file.write_text(text, encoding="utf-8")
    return plugin


PLAN = "1. Add 2 and 2.\n2. Say what it is."


@pytest.mark.parametrize("mode", ["native", "text"])
@in_loop
async def test_plan_and_execute(tmp_path: Path, mode: str) -> None:
    """The edits of the README make plan-and-execute of a copy: a plan first, asked for without tools, kept in the state
    and shown to the model from then on; its other parts work as they were."""
    edited(tmp_path / "copy")
    in_text = SUM[0] if mode == "native" else answers('Thought: I add.\nAction: add\nAction Input: {"a": 2, "b": 2}')
    async with world(tmp_path, answers(PLAN), in_text, [Unavailable("the endpoint is down")]) as run:
        copy = dataclasses.replace(run, folder=tmp_path / "copy")  # where its modules are found first
        options = ("What is 2 + 2?", "--mode", mode, "--save", "../run.json")
        key = {"PLAN_EXECUTE__STATE_KEY": KEY}  # the copy's settings go by its own name
        done = await copy.run(*options, module="plugins.plan_execute.run", env=key)
        assert done.status == 1, done
        in_order(done.err, "Step 1", PLAN.splitlines()[0], "Step 2", "→ add", "4", "Step 3", "the endpoint is down")
        first, second, third = run.llm.requests
        assert not first.tools
        assert "Write a plan" in first.messages[-1].content
        assert bool(second.tools) is (mode == "native")
        for request in (second, third):
            in_order("\n".join(one.content for one in request.messages), "What is 2 + 2?", PLAN, "point by point")
            assert "Write a plan" not in request.messages[-1].content
            assert request.messages[-1].role != "assistant"  # many endpoints refuse it
        run.llm.turns = [answers("Final Answer: It is 4.")]
        run.llm.requests.clear()
        refused = await run.run("--resume", "run.json")  # by the plugin as it is
        assert refused.status == 1
        assert "version" in refused.err
        done = await copy.run("--resume", "../run.json", module="plugins.plan_execute.run", env=key)
    assert (done.status, done.out) == (0, "It is 4.\n")
    assert len(run.tools.calls) == 1
