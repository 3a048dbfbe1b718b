"""An agent on the five real plugins and a scripted endpoint: it answers from an indexed document, and cites it."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from host import demo_model, run_file
from tests.react_endpoint import Asked, Model, Reply, call, says
from tests.servers import ROOT, SECONDS, environment, wait_until

pytestmark = pytest.mark.slow

WOMBAT = """\
# Animals

The cat sleeps on the sofa.

## The wombat

The wombat lives in the broom cupboard.
It eats grass at night, and sleeps by day behind the brooms.
"""
FACT = "The wombat lives in the broom cupboard."
MORE = """
  plain:
    name: "A plain tool loop"
    llm: "default"
    database: "docs"
    tools: []
    search: {threshold: 0.3}
"""


@pytest.fixture(scope="module")
def model() -> Iterator[Model]:
    model = Model()
    with model:
        yield model


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, model: Model) -> Iterator[Path]:
    """The repository's own hector.yaml with one more agent, served, and a folder of documents, indexed."""
    folder = tmp_path_factory.mktemp("agents")
    (folder / "hector.yaml").write_text((ROOT / "hector.yaml").read_text() + MORE)
    (folder / "docs").mkdir()
    (folder / "docs" / "animals.md").write_text(WOMBAT)
    (folder / "docs" / "rivers.md").write_text("# Rivers\n\nThe Nile is long, and the Rhine is cold.\n")
    env = environment() | {"OPENAI_BASE_URL": model.url, "OPENAI_API_KEY": "key"}
    with (folder / "serve.log").open("w") as log:
        serve = subprocess.Popen(
            [sys.executable, "-m", "host", "serve", "--no-reload"], cwd=folder, env=env, stdout=log, stderr=log
        )
    try:
        wait_until(
            lambda: bool(run_file.read(folder / ".hector")) or serve.poll() is not None,
            "the plugins",
            SECONDS,
            (folder / "serve.log").read_text,
        )
        host(folder, "index", "docs")
        yield folder
    finally:
        serve.terminate()
        assert serve.wait(SECONDS) in (0, 130)


def host(folder: Path, *arguments: str) -> str:
    argv = [sys.executable, "-m", "host", *arguments]
    done = subprocess.run(
        argv, cwd=folder, env=environment(), capture_output=True, text=True, timeout=SECONDS, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def events(folder: Path, *arguments: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in host(folder, "call", *arguments, "--json", "--stream").splitlines()]


def cites(asked: Asked) -> Reply:
    """The fact, word for word, by the number of the passage that has it."""
    (number,) = re.findall(rf"\[(\d+)\] animals\.md[^\[]*{re.escape(FACT)}", asked.results[-1])
    return says(f"It lives in the broom cupboard: “{FACT}” [{number}]")


@pytest.mark.parametrize("agent", ["assistant", "plain"])
def test_the_answer_cites_the_passage_that_the_model_was_given(folder: Path, model: Model, agent: str) -> None:
    """With a reasoning plugin and without: the answer streams, its citation and its quote are right."""
    model.plays(call("search_documents", query="Where does the wombat live?"), cites)
    seen = events(folder, agent, "Where does the wombat live?")
    kinds = [event["event"] for event in seen]
    assert kinds.count("AnswerDelta") >= 2
    assert "".join(event["text"] for event in seen if event["event"] == "AnswerDelta") == seen[-1]["answer"]
    (asked,) = (event for event in seen if event["event"] == "ActionAsked")
    assert (asked["tool"], json.loads(asked["arguments"])) == (
        "search_documents",
        {"query": "Where does the wombat live?"},
    )
    (observed,) = (event for event in seen if event["event"] == "Observed")
    assert FACT in observed["content"]
    done = seen[-1]
    assert (done["event"], done["stop_reason"], done["steps"], done["tool_calls"]) == ("Done", "ANSWERED", 2, 1)
    (citation,) = done["citations"]
    assert (citation["path"], citation["quotes"]) == ("animals.md", [FACT])
    lines = WOMBAT.splitlines()
    assert FACT in lines[citation["line"] - 1 : citation["end_line"]]
    assert citation["place"] == f"docs/animals.md:{citation['line']}"
    assert citation["text"] in observed["content"]
    assert (done["unknown_citations"], done["unfound_quotes"]) == ([], [])
    offered = {"assistant": {"search_documents", "fetch_page"}, "plain": {"search_documents"}}
    assert offered[agent] <= set(model.asked[0].tools)
    assert "Cite the passage behind each statement" in model.asked[0].text


def test_what_is_made_up_is_told(folder: Path, model: Model) -> None:
    """A citation of no passage and a quote that stands nowhere are told apart, in words and as fields."""
    text = "It lives on the moon [9], “the wombat lives on the moon” [1]."
    model.plays(call("search_documents", query="wombat"), says(text))
    done = events(folder, "assistant", "Where?")[-1]
    assert (done["unknown_citations"], done["unfound_quotes"]) == ([9], ["the wombat lives on the moon"])
    assert [citation["number"] for citation in done["citations"]] == [1]


def test_below_the_floor_nothing_is_given(folder: Path, model: Model) -> None:
    """`search: threshold` keeps passages that are far from the query away from the model."""
    model.plays(call("search_documents", query="quarterly tax returns of companies"), says("I do not know."))
    seen = events(folder, "plain", "Taxes?")
    (observed,) = (event for event in seen if event["event"] == "Observed")
    assert "No passage of the documents is near to" in observed["content"]
    assert seen[-1]["citations"] == []


@pytest.mark.parametrize("victim", ["llm_openai", "reasoning_react"])
def test_a_plugin_that_is_killed_in_mid_run_is_waited_for(folder: Path, model: Model, victim: str) -> None:
    """The LLM plugin or the strategy dies in the second step: that is taken again once it is back, the first is not."""

    def kills(asked: Asked) -> Reply:
        status = json.loads(host(folder, "status", "--json"))
        (pid,) = (plugin["pid"] for plugin in status["plugins"] if plugin["name"] == victim)
        os.kill(pid, signal.SIGKILL)
        return says("lost")

    model.plays(call("search_documents", query="wombat"), kills, cites, for_good=True)
    seen = events(folder, "assistant", "Where does the wombat live?")
    kinds = [event["event"] for event in seen]
    assert "Waiting" in kinds
    assert kinds.count("Observed") == 1
    assert seen[-1]["answer"].startswith("It lives in the broom cupboard")
    assert [citation["path"] for citation in seen[-1]["citations"]] == ["animals.md"]


def test_the_demo_shows_an_agent_without_a_key(tmp_path: Path) -> None:
    """`demo` without an endpoint runs the agent on the scripted model, says so, and cites what stands there."""
    shutil.copy(ROOT / "hector.yaml", tmp_path)
    (tmp_path / "animals.md").write_text(WOMBAT)
    env = {key: value for key, value in environment().items() if not key.startswith("OPENAI_")}
    done = subprocess.run(
        [sys.executable, "-m", "host", "demo", "-q", "Where does the wombat live?"],
        cwd=tmp_path,
        env=env,
        capture_output=True,
        text=True,
        timeout=2 * SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    out = done.stdout
    assert out.count("SERVING") == 5
    assert "fetch_page  (tools_http, read only, idempotent)" in out
    assert "runs on the scripted model that ships with the host" in out
    assert '→ search_documents {"query":"Where does the wombat live?"}' in out
    assert f"animals.md says: “{FACT}” [1]. {demo_model.ABOUT}" in out
    assert re.search(rf"^\[1\] animals\.md:\d+ .*\n    “{re.escape(FACT)}”$", out, re.MULTILINE)
    assert "[answered, 2 steps, 1 tool call, " in out
    assert not (tmp_path / ".hector" / "run.json").exists()
