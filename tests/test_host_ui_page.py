"""The page in a real browser: what people see and do, and that nothing which others write is more than text."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import hector_plugins_pb2 as pb
import pytest
import yaml

from host import demo_endpoint, demo_model
from host.log_files import LogFile
from host.supervisor import Status
from shared.visible import visible
from tests.agent_fakes import FakeLLM, FakeTools, world
from tests.browser import Browser, browser
from tests.page_client import Client, page
from tests.servers import SECONDS, environment, wait_until

pytestmark = pytest.mark.slow
AGENT = {"llm": "first", "tools": ["plugin:tools"], "description": "Adds."}
EVIL = (
    "</pre></script><script>alert(1)</script><img src=http://127.0.0.1:1/x onerror=alert(2)>"
    '<a href=\'javascript:alert(3)\'>x</a>" onclick="alert(4)" <svg onload=alert(5)> [1](javascript:alert(6)) '
    "\x1b[2J\u202eedoc\u2066\u200b {{alert(7)}} **<b>bold</b>** `<i>code</i>`"
)

MADE_BY_OTHERS = "main script, main img, main svg, main iframe, main b, main i"


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with browser() as running:
        yield running


class Page:
    """What a person does with it."""

    def __init__(self, chromium: Browser, client: Client) -> None:
        self.browser = chromium
        chromium.open("about:blank")
        chromium.look()
        chromium.open(client.address)
        self.until("document.querySelector('#file').textContent")

    def run(self, script: str) -> Any:
        return self.browser.run(script)

    def until(self, script: str) -> None:
        wait_until(lambda: bool(self.run(f"!!({script})")), script, SECONDS, lambda: str(self.run("main.innerText")))

    def go(self, view: str) -> None:
        # The hash changes at once, and the view a little later.
        self.run("window.left = main.firstElementChild, null")
        self.run(f"location.hash = {json.dumps('#/' + view)}")
        self.until("document.activeElement && main.firstElementChild && main.firstElementChild !== window.left")

    def click(self, text: str) -> None:
        """The button of this text, once it is there and can be pressed."""
        find = (
            f"[...document.querySelectorAll('button')].find((b) => b.textContent === {json.dumps(text)} && !b.hidden)"
        )
        self.until(f"{find} && !{find}.disabled")
        self.run(f"{find}.click()")

    def ask(self, question: str) -> None:
        self.until("document.querySelector('.composer textarea')")
        self.run(f"document.querySelector('.composer textarea').value = {json.dumps(question)}")
        self.click("Ask")

    def text(self, selector: str) -> str:
        return str(self.run(f"document.querySelector({json.dumps(selector)})?.textContent ?? ''"))

    def is_plain(self) -> None:
        """Nothing that others wrote became an element, ran, or asked for anything; and the browser has no complaint."""
        assert (
            self.run("document.querySelectorAll('main script, main img, main svg, main iframe, main b, main i').length")
            == 0
        )
        assert self.run(
            "[...document.querySelectorAll('main a')].every((a) => a.getAttribute('href').startsWith('#/'))"
        )
        assert self.browser.complaints == []
        origin = self.run("location.origin")
        assert all(url.startswith(f"{origin}/") for url in self.browser.requested())


@contextmanager
def shown(chromium: Browser, file: Path, statuses: list[Status]) -> Iterator[Page]:
    with page(file, lambda: statuses) as client:
        yield Page(chromium, client)
        chromium.open("about:blank")


STATUSES = [
    Status("llm", "llm_provider", "127.0.0.1:1", "restarting", 12, 3, "it ended with status 1"),
    Status("tools", "tool_provider", "127.0.0.1:2", "SERVING", None),
]


def test_what_others_write_is_text(chromium: Browser, tmp_path: Path) -> None:
    """Markup and script in a plugin's cause, its log, a tool's result, a question, an answer: shown as written."""

    class EvilTools(FakeTools):
        def ExecuteTool(self, request: Any, context: Any) -> Any:
            return pb.ExecuteToolResponse(success=False, error=EVIL, result=EVIL)

    def script(request: Any, nth: int) -> Any:
        return [("echo", {"text": EVIL})] if nth == 0 else EVIL

    statuses = [Status("tools", EVIL, EVIL, EVIL, 1, 0, EVIL)]
    log = LogFile(tmp_path / ".hector", "tools")
    log.line(EVIL)
    with world(tmp_path, llm=FakeLLM(script), tools=EvilTools(), reflects=True) as here:
        file = here.write_config(my_agent=AGENT | {"name": EVIL, "description": EVIL, "prompt": EVIL})
        with shown(chromium, file, statuses) as shown_page:
            assert shown_page.text(".card .cause") == visible(EVIL, "{}")
            shown_page.is_plain()
            shown_page.go("plugins/tools/log")
            shown_page.until("document.querySelector('.line')")
            assert visible(EVIL, "{}") in shown_page.text(".line")
            shown_page.go("plugins/tools/call/hector.plugins.v1.ToolProvider%2FExecuteTool")
            shown_page.click("Call")
            shown_page.until("document.querySelector('.reply')")
            assert "<script>alert(1)" in shown_page.text(".reply pre")
            shown_page.go("ask")
            shown_page.ask(EVIL)
            shown_page.until("document.querySelector('.answer .facts')")
            for selector in (".question", ".tool div pre", ".answer"):
                assert "<script>alert(1)</script><img src=" in shown_page.text(selector), selector
            assert shown_page.run("document.querySelector('.answer .unseen').textContent") == "U+001B"
            shown_page.is_plain()
            shown_page.go("runs")
            shown_page.until("document.querySelector('.card a')")
            shown_page.run("document.querySelector('.card a').click()")
            shown_page.until("document.querySelector('.timeline')")
            shown_page.is_plain()
            assert shown_page.run("document.title") == "Run · Hector"
    log.close()


def test_the_token_leaves_the_address(chromium: Browser, tmp_path: Path) -> None:
    """The address has no token once it was taken; a reload goes on; without it the page says what to open."""
    with world(tmp_path) as here, page(here.write_config(my_agent=AGENT)) as client:
        first = Page(chromium, client)
        assert client.token not in first.run("location.href + document.documentElement.outerHTML + document.cookie")
        chromium.open(client.address.partition("#")[0])
        first.until("document.querySelector('#file').textContent")
        chromium.run("sessionStorage.clear()")
        chromium.open(client.address.partition("#")[0])
        first.until("document.querySelector('#notice').textContent.includes('open the address that')")


def test_an_answer_appears_while_it_is_written(chromium: Browser, tmp_path: Path) -> None:
    """Words are there while the model writes on; Stop ends it upstream and keeps them; then one can ask again."""
    llm = FakeLLM(lambda request, nth: "Half an answer")
    llm.hangs = True
    with world(tmp_path, llm=llm) as here, shown(chromium, here.write_config(my_agent=AGENT), STATUSES) as shown_page:
        shown_page.go("ask")
        shown_page.ask("?")
        shown_page.until("document.querySelector('.answer').textContent.includes('Half an answer')")
        assert not llm.cancelled.is_set()
        shown_page.go("plugins")  # it goes on meanwhile
        shown_page.go("ask/my_agent")
        shown_page.until("document.querySelector('.answer')?.textContent.includes('Half an answer')")
        assert not llm.cancelled.is_set()
        shown_page.click("Stop")
        assert llm.cancelled.wait(SECONDS)
        shown_page.until("document.querySelector('.answer .facts')?.textContent === 'stopped'")
        assert "Half an answer" in shown_page.text(".answer")
        llm.hangs = False
        shown_page.ask("once more")
        shown_page.until("document.querySelectorAll('.turn').length === 2")
        shown_page.until("document.querySelector('.turn:last-child .answer .facts')")


def test_a_page_that_closes_ends_its_run(chromium: Browser, tmp_path: Path) -> None:
    """What the model is asked for a page that is gone is cancelled."""
    llm = FakeLLM(lambda request, nth: "Half")
    llm.hangs = True
    with world(tmp_path, llm=llm) as here, shown(chromium, here.write_config(my_agent=AGENT), STATUSES) as shown_page:
        shown_page.go("ask")
        shown_page.ask("?")
        shown_page.until("document.querySelector('.answer').textContent.includes('Half')")
        chromium.open("about:blank")
        assert llm.cancelled.wait(SECONDS)


def test_a_person_allows_and_denies(chromium: Browser, tmp_path: Path) -> None:
    """The exact arguments are shown, nothing is called before a click, a denial reaches the model with its reason."""
    tools = FakeTools()
    turns: list[Any] = [[("add", {"a": 1, "b": 2})], [("echo", {"text": "x"})], "Done."]
    with (
        world(tmp_path, llm=FakeLLM(lambda request, nth: turns[nth]), tools=tools) as here,
        shown(chromium, here.write_config(my_agent=AGENT), STATUSES) as shown_page,
    ):
        shown_page.go("ask")
        shown_page.until("document.querySelector('.check input')")
        shown_page.run("document.querySelector('.check input').click()")
        shown_page.ask("?")
        shown_page.until("document.querySelector('.approval')")
        assert (shown_page.text(".approval pre"), tools.requests) == ('{"a":1,"b":2}', [])
        shown_page.click("Allow")
        shown_page.until("document.querySelector('.approval pre')?.textContent.includes('text')")
        shown_page.run("document.querySelector('.approval input').value = 'not today'")
        shown_page.click("Deny")
        shown_page.until("document.querySelector('.answer .facts')")
        assert [request.tool for request in tools.requests] == ["add"]
        assert "not today" in shown_page.text(".steps")
        assert shown_page.run("document.querySelector('.approval') === null")


def test_a_form_makes_the_request(chromium: Browser, tmp_path: Path) -> None:
    """What is filled in becomes the request, in lists, maps and messages inside it; JSON and form say the same."""
    with world(tmp_path, reflects=True) as here, shown(chromium, here.write_config(), STATUSES) as shown_page:
        shown_page.go("plugins/tools/call/hector.plugins.v1.ToolProvider%2FExecuteTool")
        shown_page.until("document.querySelector('.rpc-name')")
        shown_page.until("document.querySelector('.rpcs [aria-current]')?.textContent === 'ExecuteTool'")
        assert "GenerateText" in shown_page.text(".rpcs")
        field = (
            "((name) => document.getElementById([...document.querySelectorAll('.call label')]"
            ".find((label) => label.firstChild.textContent === name).htmlFor))"
        )
        shown_page.run(f"{field}('tool').value = 'add'")
        shown_page.run(f"{field}('parameters').value = '{{\"a\": 1, \"b\": 2}}'")
        shown_page.run(f"{field}('parameters_json').value = '{{\"a\": 1, \"b\": 2}}'")
        shown_page.click("JSON")
        request = json.loads(shown_page.run("document.querySelector('.json').value"))
        assert request == {"tool": "add", "parameters": {"a": 1, "b": 2}, "parameters_json": '{"a": 1, "b": 2}'}
        shown_page.click("Form")
        assert shown_page.run(f"{field}('tool').value") == "add"
        shown_page.click("Call")
        shown_page.until("document.querySelector('.reply')")
        assert json.loads(shown_page.text(".reply pre")) == {"success": True, "result": "3"}
        shown_page.run(f"{field}('parameters').value = '{{'")
        shown_page.click("Call")
        shown_page.until("document.querySelector('.call .cause').textContent.startsWith('parameters: it is no JSON')")
        shown_page.go("plugins/tools/call/hector.plugins.v1.LLMProvider%2FGenerateText")
        shown_page.until("document.querySelector('.rpc-name')?.textContent === 'GenerateText'")
        shown_page.click("Add to messages")
        shown_page.until("document.querySelector('.item')")
        shown_page.run("document.querySelector('.item textarea').value = 'user'")
        shown_page.click("Set options")
        shown_page.click("Add to stop")
        shown_page.click("JSON")
        request = json.loads(shown_page.run("document.querySelector('.json').value"))
        assert request == {"messages": [{"role": "user"}], "options": {"stop": [""]}}


VIEWS = ["plugins", "plugins/tools/call", "plugins/tools/call/hector.plugins.v1.DatabaseProvider%2FSearchVectors",
         "plugins/tools/log", "plugins/tools/settings", "ask", "search", "runs"]  # fmt: skip
# Of every element with a text of its own: its colour against the nearest opaque paper below it, as WCAG counts it.
CONTRAST = r"""(() => {
  const part = (v) => ((v /= 255) <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
  const light = (colour) => {
    const [r, g, b] = colour.match(/[\d.]+/g).map(Number).map(part);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const paper = (e) => {
    for (; e; e = e.parentElement) {
      const colour = getComputedStyle(e).backgroundColor;
      if (!/, 0\)$/.test(colour)) return colour;
    }
    return 'rgb(255, 255, 255)';
  };
  const hasText = (e) => [...e.childNodes].some((n) => n.nodeType === 3 && n.data.trim());
  const poor = [];
  for (const e of document.body.querySelectorAll('*')) {
    if (!e.checkVisibility() || e.closest('.unseen-text, .skip') || !hasText(e)) continue;
    const [low, high] = [light(getComputedStyle(e).color), light(paper(e))].sort((a, b) => a - b);
    if ((high + 0.05) / (low + 0.05) < 4.5) poor.push(`${e.tagName}.${e.className}: ${e.textContent.slice(0, 40)}`);
  }
  return poor;
})()"""
NAMELESS = """[...document.querySelectorAll('input, select, textarea, button, a, summary')]
  .filter((e) => e.checkVisibility() && !e.labels?.length && !e.getAttribute('aria-label'))
  .filter((e) => e.tagName === 'SELECT' || !e.textContent.trim()).map((e) => e.outerHTML)"""


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [360, 1100])
def test_it_can_be_read_anywhere(chromium: Browser, tmp_path: Path, dark: bool, width: int) -> None:
    """On a phone and a desk, light and dark: nowhere wider than the window, ink far from paper, every control named."""
    llm = FakeLLM(lambda request, nth: [("echo", {"text": "w" * 500})] if nth == 0 else "An answer " + "w" * 500)
    with (
        world(tmp_path, llm=llm, reflects=True) as here,
        shown(chromium, here.write_config(my_agent=AGENT, other=AGENT), STATUSES) as shown_page,
    ):
        chromium.look(width=width, dark=dark)
        shown_page.go("ask")
        shown_page.ask("A question " + "w" * 500)
        shown_page.until("document.querySelector('.answer .facts')")
        for view in VIEWS:
            shown_page.go(view)
            shown_page.until("!document.querySelector('main .loading')")

            assert shown_page.run("document.documentElement.scrollWidth") <= width, view
            assert shown_page.run(CONTRAST) == [], view
            assert shown_page.run(NAMELESS) == [], view
        assert chromium.complaints == []


def test_it_can_be_used_with_the_keyboard(chromium: Browser, tmp_path: Path) -> None:
    """Tab reaches the content past the header, Enter asks, what has the focus is seen to have it."""

    def press(key: str, code: int, text: str = "") -> None:
        for kind in ("keyDown", "keyUp"):
            chromium.call(
                "Input.dispatchKeyEvent",
                type=kind,
                key=key,
                windowsVirtualKeyCode=code,
                text=text if kind == "keyDown" else "",
            )

    with (
        world(tmp_path, llm=FakeLLM(lambda request, nth: "An answer.")) as here,
        shown(chromium, here.write_config(my_agent=AGENT), STATUSES) as shown_page,
    ):
        press("Tab", 9)
        assert shown_page.run("document.activeElement.id") == "skip"
        press("Enter", 13, "\r")
        assert shown_page.run("document.activeElement.id") == "main"
        press("Tab", 9)
        assert shown_page.run("document.activeElement.getAttribute('href')") == "#/plugins/llm"
        shown_page.go("ask")
        shown_page.until("document.activeElement.tagName === 'TEXTAREA'")
        assert shown_page.run("getComputedStyle(document.activeElement).outlineStyle") == "solid"
        chromium.call("Input.insertText", text="A question")
        press("Enter", 13, "\r")
        shown_page.until("document.querySelector('.answer .facts')")
        assert shown_page.text("#said") == "The answer is there."


def test_five_plugins_and_an_agent(chromium: Browser, tmp_path: Path) -> None:
    """`serve --ui` with all five: an agent answers from a document and cites it, a search finds it. Ctrl-C ends the
    host though the page follows a log, without a traceback, and the page says that it is gone."""
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "writes.md").write_text("# Writes\n\nEvery acknowledged write is still there after a kill.\n")
    names = ("llm_openai", "vector_hnsw", "embed_st", "tools_http", "reasoning_react")
    kinds = ("llm_providers", "database_providers", "embedder_providers", "tool_providers", "reasoning_strategies")
    with demo_endpoint.running() as url:
        settings = {"llm_openai": {"endpoint": url, "model": demo_model.NAME}, "vector_hnsw": {"data_dir": "./vectors"}}
        plugins = {
            kind: {name: {"path": f"plugins.{name}", "config": settings.get(name, {})}}
            for kind, name in zip(kinds, names, strict=True)
        }
        agent = {"llm": "model", "reasoning": {"engine": "plugin:reasoning_react"}, "database": "docs", "embedder": "e"}
        document = {
            "plugins": plugins,
            "llms": {"model": {"type": "plugin:llm_openai"}},
            "databases": {"docs": {"type": "plugin:vector_hnsw", "config": {"collection": "docs"}}},
            "embedders": {"e": {"type": "plugin:embed_st"}},
            "agents": {"assistant": agent},
        }
        (tmp_path / "hector.yaml").write_text(yaml.safe_dump(document))
        with serve(tmp_path) as (host, client, errors):
            subprocess.run(
                [sys.executable, "-m", "host", "index", "docs"],
                cwd=tmp_path, env=environment(), check=True, timeout=SECONDS, capture_output=True,
            )  # fmt: skip
            shown_page = Page(chromium, client)
            shown_page.until("document.querySelectorAll('.status.good').length === 5")
            shown_page.go("ask")
            shown_page.ask("Is an acknowledged write still there after a kill?")
            shown_page.until("document.querySelector('.source')")
            assert "writes.md says: “Every acknowledged write is still there after a kill.” 1" in shown_page.text(
                ".answer"
            )
            assert shown_page.text(".source summary").startswith("1 docs/writes.md:1")
            assert "search_documents" in shown_page.text(".steps")
            shown_page.go("search")
            shown_page.until("document.querySelector('select option')")
            shown_page.run("document.querySelector('input[type=search]').value = 'writes'")
            shown_page.click("Search")
            shown_page.until("document.querySelector('.passage')")
            assert "docs/writes.md:1" in shown_page.text(".passage h2")
            shown_page.go("plugins/embed_st/log")
            shown_page.until("document.querySelectorAll('.line').length > 2")
            assert chromium.complaints == []
            host.send_signal(signal.SIGINT)
            assert host.wait(SECONDS) == 0
            shown_page.until("document.querySelector('#notice').textContent.includes('does not answer')")
            chromium.open("about:blank")
            assert "Traceback" not in "".join(errors)


@contextmanager
def serve(folder: Path) -> Iterator[tuple[subprocess.Popen[str], Client, list[str]]]:
    host = subprocess.Popen(
        [sys.executable, "-m", "host", "serve", "--ui", "0"],
        cwd=folder, env=environment(), text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert host.stdout is not None
    assert host.stderr is not None
    errors: list[str] = []
    reader = threading.Thread(target=errors.extend, args=(host.stderr,), daemon=True)
    reader.start()
    killer = threading.Timer(3 * SECONDS, host.kill)
    killer.start()
    try:
        found = next((match for line in host.stdout if (match := re.search(r"http://\S+", line))), None)
        assert found, "".join(errors)
        yield host, Client(found[0]), errors
    finally:
        killer.cancel()
        host.send_signal(signal.SIGTERM)
        try:
            host.wait(60)
        finally:
            host.kill()
        reader.join(SECONDS)
        host.stdout.close()
