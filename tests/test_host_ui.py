"""The page's server: who may ask it, what it tells, and what it does when the page goes, a plugin is silent or lies."""

from __future__ import annotations

import argparse
import json
import re
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hector_plugins_pb2 as pb
import pytest
import yaml

from host.__main__ import _port
from host.config import load
from host.log_files import LogFile
from host.reflection import Method
from host.supervisor import Status
from host.ui import current, forms, kept_runs, runs, server
from host.ui.guard import HEADERS
from host.ui.kept_runs import KeptRuns
from host.ui.secrets import hiding, is_secret, masked
from shared.errors import StartError
from tests.agent_fakes import FakeLLM, FakeTools, HangingStrategy, world
from tests.page_client import Client, page
from tests.servers import wait_until

AGENT = {"llm": "first", "tools": ["plugin:tools"]}
SECRET = "sk-0123456789abcdef"
JSON = {"Content-Type": "application/json"}


def hello(request: Any, nth: int) -> str:
    return "Hello there"


def adds(request: Any, nth: int) -> Any:
    return [("add", {"a": 1, "b": 2})] if nth == 0 else "It is 3."


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    with (
        world(tmp_path_factory.mktemp("page"), llm=FakeLLM(hello), reflects=True) as here,
        page(here.write_config(my_agent=AGENT)) as client,
    ):
        yield client


# ---------------------------------------------------------------- who may ask


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Host": "localhost:1234"}, 200),  # a tunnel's end
        ({"Host": "[::1]:8080"}, 200),
        ({"Host": "evil.example"}, 403),
        ({"Host": "127.0.0.1.evil.example:8080"}, 403),
        ({"Host": "evil.example@127.0.0.1"}, 403),
        ({"Host": "127.0.0.1:8080\t.evil.example"}, 403),
        ({"Host": "localhost.:8080"}, 403),
        ({"Host": "0.0.0.0:8080"}, 403),
        ({"Host": ""}, 403),
        ({"Host": "127.0.0.1:1", "Origin": "http://127.0.0.1:1"}, 200),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://127.0.0.1:1"}, 403),
        ({"Host": "127.0.0.1:1", "Origin": "https://127.0.0.1:1"}, 403),
        ({"Sec-Fetch-Site": "same-origin"}, 200),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Authorization": ""}, 401),
        ({"Authorization": "Bearer "}, 401),
        ({"Authorization": "Bearer x"}, 401),
        ({"Authorization": "Basic TOKEN"}, 401),
        ({"Authorization": "bearer"}, 401),
        ({"Cookie": "token=TOKEN", "Authorization": "none"}, 401),
    ],
)
def test_whoever_is_not_the_page_is_refused(client: Client, headers: dict[str, str], status: int) -> None:
    """Another name for this machine, another page, no token or a wrong one: nothing is done or told."""
    sent = client.credentials | {name: value.replace("TOKEN", client.token) for name, value in headers.items()}
    for method, path, body in (("GET", "/api/overview", None), ("POST", "/api/agents/my_agent/ask", b"{}")):
        answer = client.request(method, path, sent | JSON, body)
        assert answer.status == (status if status != 200 or method == "GET" else 400), answer.text
        if status != 200:
            assert list(answer.json) == ["error"]
            assert client.token not in answer.text


def test_a_token_in_the_address_is_none(client: Client) -> None:
    """The token counts in its header alone, so that no link and no form can carry it."""
    assert client.request("GET", f"/api/overview?token={client.token}", {}).status == 401


@pytest.mark.parametrize("path", ["/", "/app.js", "/api/overview", "/api/nothing", "/nothing", "/../server.py"])
def test_every_answer_has_the_policy(client: Client, path: str) -> None:
    """Page, script, refusal and error come with the same policy, and with nothing that shares them with other pages."""
    for headers in (client.credentials, {}, {"Host": "evil.example"}):
        answer = client.request("GET", path, headers)
        assert {name: answer.headers[name.lower()] for name in HEADERS} == HEADERS
        assert not [name for name in answer.headers if name.startswith("access-control") or name == "set-cookie"]
    assert "Guard" not in answer.text


def test_the_page_is_not_for_other_names(client: Client) -> None:
    """A name that was bent to this machine does not even get the page."""
    assert client.request("GET", "/", {"Host": "evil.example"}).status == 403
    assert client.request("GET", "/", {}).status == 200


@pytest.mark.parametrize("method", ["OPTIONS", "PUT", "DELETE", "HEAD", "TRACE"])
def test_other_methods_are_refused(client: Client, method: str) -> None:
    """What a browser asks before it lets another page send a header is refused, and so are methods without use."""
    answer = client.request(method, "/api/overview", client.credentials | {"Origin": "http://evil.example"})
    assert answer.status == 403
    assert client.request(method, "/api/overview", client.credentials).status == 405


def test_a_form_of_another_page_cannot_post(client: Client) -> None:
    """Only JSON is taken, which forms cannot send."""
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data"):
        headers = client.credentials | {"Content-Type": kind}
        assert client.request("POST", "/api/search", headers, b"{}").status == 415


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b"1", b"\xff", b"[" * 100_000, b'{"question": 1}', b'{"question": "  "}', b"{}",
     b'{"question": "x", "database": "docs", "limit": true}', b'{"question": "x", "database": "docs", "limit": 1e999}'],
)  # fmt: skip
def test_a_bad_request_is_told(client: Client, body: bytes) -> None:
    """Whatever is sent, the answer is one sentence."""
    answer = client.request("POST", "/api/search", client.credentials | JSON, body)
    assert (answer.status, list(answer.json)) == (400, ["error"])


def test_a_request_is_bounded(client: Client) -> None:
    """More than a request may have is refused, not kept."""
    body = json.dumps({"question": "x" * 2**20}).encode()
    assert client.request("POST", "/api/search", client.credentials | JSON, body).status == 400


def test_it_listens_on_loopback_and_says_where_a_port_is_taken(tmp_path: Path) -> None:
    """The address is 127.0.0.1; a port that is taken is an error with a remedy, a number that is none too."""
    listener = server.listen(0)
    try:
        host, port = listener.getsockname()
        assert host == "127.0.0.1"
        with pytest.raises(StartError, match=f"cannot listen on 127.0.0.1:{port}: .*; give --ui another port"):
            server.listen(port)
    finally:
        listener.close()
    assert _port("8080") == 8080
    for text in ("-1", "65536", "x", "²", ""):
        with pytest.raises(argparse.ArgumentTypeError):
            _port(text)


# ---------------------------------------------------------------- the files


def test_the_files_need_nothing_from_elsewhere() -> None:
    """No file of the page names another server, has a script or style of its own inside HTML, or reads text as HTML."""
    files = sorted(Path(server.__file__).with_name("static").iterdir())
    assert {"index.html", "app.js", "style.css"} <= {file.name for file in files}
    for file in files:
        text = file.read_text()
        addresses = set(re.findall(r"https?://[^\s\"'`<>)]*", text)) - {"http://www.w3.org/2000/svg"}
        assert not addresses, file
        if file.suffix == ".js":
            assert not re.search(
                r"innerHTML|outerHTML|insertAdjacent|document\.write|eval\(|Function\(|srcdoc", text
            ), file
            assert set(re.findall(r'from "([^"]*)"', text)) <= {f"./{one.name}" for one in files}
    page_file = next(file for file in files if file.name == "index.html").read_text()
    assert not re.search(r"<style|style=|\son\w+=|<script(?![^>]*src=)", page_file)


# ---------------------------------------------------------------- secrets


@pytest.mark.parametrize(
    ("name", "expected"),
    [("api_key", True), ("X-Api-Key", True), ("token", True), ("DB_PASSWORD", True), ("Authorization", True),
     ("clientSecret", True), ("state_key", True), ("headers", True), ("max_tokens", False), ("api_key_file", False),
     ("tls_key", False), ("keyboard", False), ("model", False), ("tokens_per_minute", False)],
)  # fmt: skip
def test_what_is_a_secret_by_its_name(name: str, expected: bool) -> None:
    """Names that mean a credential, in any spelling, and none that merely look alike."""
    assert is_secret(name) is expected


def test_settings_are_masked() -> None:
    """A secret is masked at any depth; a reference to a variable, and what is no secret, is shown."""
    shown = masked(
        {
            "api_key": SECRET,
            "token": "${TOKEN}",
            "endpoint": f"http://me:{SECRET}@host/v1?key={SECRET}",
            "apis": [{"headers": {"X-Custom": SECRET}, "name": "n"}],
            "password": 1234,
            "secret": f"${{A:-{SECRET}}}",
            "max_tokens": 5,
        }
    )
    assert SECRET not in json.dumps(shown)
    assert (shown["token"], shown["max_tokens"], shown["password"]) == ("${TOKEN}", 5, "***")
    assert shown["apis"][0]["name"] == "n"
    assert shown["endpoint"].startswith("http://***@host/v1")


def test_no_secret_reaches_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the YAML and the environment hold is in no answer, also where a model says it, nor on the disk."""
    monkeypatch.setenv("SOME_API_KEY", "from-the-environment-1")
    awkward = 'quo"te\\back-slash'
    said = f"{SECRET} and from-the-environment-1 and {awkward}"
    with world(tmp_path, llm=FakeLLM(lambda request, nth: said), reflects=True) as here:
        file = here.write_config(my_agent=AGENT)
        document = yaml.safe_load(file.read_text())
        document["plugins"]["llm_providers"]["llm"]["config"] = {"api_key": SECRET, "password": awkward}
        file.write_text(yaml.safe_dump(document))
        with page(file) as client:
            texts = [
                client.get("overview").text,
                client.get("plugins/llm/settings").text,
                client.post("agents/my_agent/ask", {"question": f"Say {SECRET}"}).text,
                client.post("plugins/llm/call", {"rpc": "GenerateText", "request": '{"prompt": "x"}'}).text,
            ]
            wait_until(lambda: bool(client.get("runs").json["runs"]), "a kept run")
            texts.append(client.get("runs").text)
        texts += [kept.read_text() for kept in (tmp_path / ".hector" / "runs").iterdir()]
    assert '"***"' in texts[1]
    for text in texts:
        assert not [secret for secret in (SECRET, "from-the-environment-1", "back-slash") if secret in text], text
    assert '"event": "Done"' in texts[2]
    assert '"status": "OK"' in texts[3]


def test_folders_are_no_secrets(client: Client) -> None:
    """PWD is no password: the page can say where its YAML is."""
    environ = {"PWD": "/home/me/project", "OLDPWD": "/home/me/other", "MY_TOKEN": "short"}
    hide = hiding(load(Path(client.get("overview").json["config"])), environ)
    assert hide("/home/me/project /home/me/other short") == "/home/me/project /home/me/other short"


# ---------------------------------------------------------------- plugins


def test_forms_have_all_that_a_request_holds() -> None:
    """For each RPC of the contract: the form knows every message that it can be asked to add, and no field is lost."""
    for service in pb.DESCRIPTOR.services_by_name.values():
        for descriptor in service.methods:
            form = forms.form(Method(descriptor))
            assert [field["name"] for field in form["messages"][form["message"]]] == [
                field.name for field in descriptor.input_type.fields
            ]
            for fields in form["messages"].values():
                for field in fields:
                    inner = field["value"] if field["type"] == "map" else field
                    assert inner["type"] != "message" or inner["message"] in form["messages"]
                    assert inner["type"] != "enum" or inner["values"]


def test_the_kinds_of_fields() -> None:
    """A Struct is JSON, a duration a text, bytes Base64; a message can hold itself without end."""
    service = pb.DESCRIPTOR.services_by_name["DatabaseProvider"]
    form = forms.form(Method(service.methods_by_name["SearchVectors"]))
    fields = {field["name"]: field for field in form["messages"]["hector.plugins.v1.SearchVectorsRequest"]}
    assert fields["collection"] == {"name": "collection", "repeated": False, "type": "string"}
    assert fields["vector"] == {"name": "vector", "repeated": True, "type": "number"}
    assert fields["exact"]["type"] == "boolean"
    upsert = forms.form(Method(service.methods_by_name["UpsertVectors"]))["messages"]
    metadata = {field["name"]: field for field in upsert["hector.plugins.v1.Vector"]}["metadata"]
    assert (metadata["type"], metadata["hint"]) == ("json", "{}")


def test_an_rpc_is_called_by_hand(client: Client) -> None:
    """Its reply and its status come line by line; a stream's as they are sent; a refusal with its words."""
    (service,) = [
        one for one in client.get("plugins/tools/rpcs").json["services"] if one["name"].endswith("ToolProvider")
    ]
    assert service["rpcs"][0]["signature"] == "rpc ListTools(ListToolsRequest) returns (ListToolsResponse)"
    form = client.get("plugins/tools/form/hector.plugins.v1.ToolProvider/ExecuteTool").json
    assert form["example"]["tool"] == ""

    def called(plugin: str, rpc: str, request: str, **more: Any) -> list[dict[str, Any]]:
        return client.post(f"plugins/{plugin}/call", {"rpc": rpc, "request": request, **more}).lines

    request = {"tool": "add", "parameters_json": '{"a": 1, "b": 2}', "parameters": {"a": 1, "b": 2}}
    reply, status = called("tools", "ToolProvider/ExecuteTool", json.dumps(request))
    assert json.loads(reply["reply"]) == {"success": True, "result": "3"}
    assert (status["status"], status["replies"]) == ("OK", 1)
    fail = {"tool": "fail", "parameters_json": "{}"}
    assert called("tools", "ExecuteTool", json.dumps(fail))[-1]["message"] == "the reply says success: false"
    assert len(called("llm", "StreamText", '{"prompt": "x"}')) == 4  # two words, the last message, the status
    assert called("strategy", "ReasoningStrategy/Initialize", "{}")[-1]["status"] == "UNIMPLEMENTED"
    for request_text, words in (
        ("{", "the request is no JSON"),
        ('{"tol": 1}', "has no field tol; did you mean tool?"),
        ("[]", "is a JSON object"),
    ):
        (told,) = called("tools", "ExecuteTool", request_text)
        assert words in told["error"]
    (told,) = called("tools", "ExecuteTol", "{}")
    assert "has no RPC ExecuteTol" in told["error"]
    (told,) = called("tool", "ExecuteTool", "{}")
    assert told["error"] == "There is no plugin tool; did you mean tools?."


def test_a_reply_is_bounded(tmp_path: Path) -> None:
    """A reply of megabytes is shown in part and says so; of ten thousand replies a thousand are shown."""

    class Flood(FakeTools):
        def ExecuteTool(self, request: Any, context: Any) -> Any:
            return pb.ExecuteToolResponse(success=True, result="x" * 3_000_000)

    words = "w " * 2_000
    with (
        world(tmp_path, llm=FakeLLM(lambda request, nth: words), tools=Flood(), reflects=True) as here,
        page(here.write_config(my_agent=AGENT)) as client,
    ):
        reply, _ = client.post("plugins/tools/call", {"rpc": "ExecuteTool", "request": "{}"}).lines
        lines = client.post("plugins/llm/call", {"rpc": "StreamText", "request": "{}"}).lines
    assert len(reply["reply"]) < 300_000
    assert reply["reply"].endswith("more characters, not shown")
    assert (len(lines), lines[-1]["left_out"]) == (1_001, lines[-1]["replies"] - 1_000)


@pytest.mark.parametrize("rpc", ["ExecuteTool", "StreamIteration"])
def test_a_call_ends_when_the_page_goes(tmp_path: Path, rpc: str) -> None:
    """A call of a plugin that is silent is cancelled there as soon as the page closes its connection."""
    tools, strategy = FakeTools(), HangingStrategy()
    with world(tmp_path, tools=tools, strategy=strategy, reflects=True) as here, page(here.write_config()) as client:
        request = '{"tool": "wait", "parameters_json": "{}"}' if rpc == "ExecuteTool" else "{}"
        plugin, hung = ("tools", tools) if rpc == "ExecuteTool" else ("strategy", strategy)
        with client.stream(f"plugins/{plugin}/call", {"rpc": rpc, "request": request}) as items:
            if rpc == "ExecuteTool":
                assert tools.begun.wait(120)
            else:
                assert "Hm" in next(items)["reply"]
            assert not hung.cancelled.is_set()
        assert hung.cancelled.wait(120)


def test_a_silent_plugin_keeps_nobody_waiting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While health checks, reflection and a search wait for silent plugins, the page and the other plugins answer."""
    asked, answering = threading.Event(), threading.Event()

    def check(*_: Any) -> str:
        asked.set()
        answering.wait(120)
        return "UNREACHABLE"

    monkeypatch.setattr(current, "wait_until_serving", check)
    with socket.socket() as silent, world(tmp_path, reflects=True) as here:
        silent.bind(("127.0.0.1", 0))
        silent.listen(64)
        file = here.write_config(my_agent=AGENT)
        document = yaml.safe_load(file.read_text())
        document["plugins"]["llm_providers"]["llm"]["address"] = f"127.0.0.1:{silent.getsockname()[1]}"
        file.write_text(yaml.safe_dump(document))
        statuses = [Status("llm", "llm_provider", "here", "SERVING", 1)]
        with page(file, lambda: statuses) as client:
            threads = [
                threading.Thread(target=client.get, args=("plugins/llm/rpcs",), daemon=True),
                threading.Thread(target=client.post, args=("agents/my_agent/ask", {"question": "?"}), daemon=True),
            ]
            for thread in threads:
                thread.start()
            assert client.get("overview").json["plugins"][0]["status"] == "SERVING"
            assert asked.wait(120)
            assert client.get("overview").json["plugins"][0]["status"] == "SERVING"  # as far as is known
            assert client.get("plugins/tools/rpcs").status == 200
            assert all(thread.is_alive() for thread in threads)
            answering.set()
            wait_until(
                lambda: client.get("overview").json["plugins"][0]["status"] == "UNREACHABLE", "the answer to be seen"
            )


def test_the_log_is_followed(tmp_path: Path) -> None:
    """The newest lines come first in their order, then each that is written, cut where it is endless."""
    with world(tmp_path) as here, page(here.write_config()) as client:
        log = LogFile(tmp_path / ".hector", "tools")
        for number in range(600):
            log.line(f"line {number}")
        with client.stream("plugins/tools/log") as items:
            assert [next(items)["line"] for _ in range(500)] == [f"line {number}" for number in range(100, 600)]
            log.line("<b>later</b>" + "x" * 10_000)
            assert re.fullmatch(r"<b>later</b>x{3988} …", next(items)["line"])
        log.close()
        assert "There is no plugin .." in client.get("plugins/../log").lines[0]["error"]


def test_an_edited_yaml_is_seen(tmp_path: Path) -> None:
    """An agent that is added is there at the next look; a mistake is told while all runs on as before."""
    with world(tmp_path) as here:
        file = here.write_config(first_agent=AGENT)
        with page(file) as client:
            assert [agent["name"] for agent in client.get("overview").json["agents"]] == ["first_agent"]
            here.write_config(first_agent=AGENT, second_agent=AGENT)
            assert [agent["name"] for agent in client.get("overview").json["agents"]] == ["first_agent", "second_agent"]
            here.write_config(broken_agent=AGENT | {"tools": ["plugin:toolz"]})
            overview = client.get("overview").json
            assert "did you mean" in overview["mistakes"][0]
            assert len(overview["agents"]) == 2
            here.write_config(first_agent=AGENT)
            assert client.get("overview").json["mistakes"] == []


# ---------------------------------------------------------------- agents


def asked(client: Client, question: str = "?", **more: Any) -> list[dict[str, Any]]:
    return client.post("agents/my_agent/ask", {"question": question, **more}).lines


def test_a_run_comes_step_by_step(tmp_path: Path) -> None:
    """Text is at the page while the model still writes; when the page goes, the model's call ends upstream."""
    llm = FakeLLM(hello)
    llm.hangs = True
    with world(tmp_path, llm=llm) as here, page(here.write_config(my_agent=AGENT)) as client:
        with client.stream("agents/my_agent/ask", {"question": "?"}) as items:
            assert [next(items)["event"] for _ in range(3)] == ["Began", "StepBegan", "AnswerDelta"]
            assert not llm.cancelled.is_set()
        assert llm.cancelled.wait(120)
        wait_until(lambda: bool(client.get("runs").json["runs"]), "the run to be kept")
        assert client.get("runs").json["runs"][0]["end"] == "Stopped"


def test_a_tool_ends_when_the_page_goes(tmp_path: Path) -> None:
    """A tool that runs when the page goes is cancelled."""
    tools = FakeTools()
    with (
        world(tmp_path, llm=FakeLLM(lambda request, nth: [("wait", {})]), tools=tools) as here,
        page(here.write_config(my_agent=AGENT)) as client,
    ):
        with client.stream("agents/my_agent/ask", {"question": "?"}):
            assert tools.begun.wait(120)
        assert tools.cancelled.wait(120)


def test_a_conversation_goes_on(tmp_path: Path) -> None:
    """With the key of the first answer the second question knows it; without, or of another agent, it does not."""
    llm = FakeLLM(lambda request, nth: f"answer {nth}")
    agent = AGENT | {"tools": []}
    with world(tmp_path, llm=llm) as here, page(here.write_config(my_agent=agent, other=agent)) as client:
        key = asked(client, "one")[0]["talk"]
        assert asked(client, "two", talk=key)[0]["talk"] == key
        assert asked(client, "three")[0]["talk"] != key
        client.post("agents/other/ask", {"question": "four", "talk": key})
        assert asked(client, "five", talk="x" * 50, llm="second")[-1]["event"] == "Done"
    histories = [[message.content for message in request.messages] for request in llm.requests]
    assert histories == [[], ["one", "answer 0"], [], [], []]
    assert [request.model for request in llm.requests] == ["first-model"] * 4 + ["second-model"]


def test_a_person_decides_in_the_page(tmp_path: Path) -> None:
    """A call waits with its exact arguments until it is allowed; once for all, no further one of the tool asks."""
    tools = FakeTools()
    turns: list[Any] = [[("add", {"a": 1, "b": 2})], [("add", {"a": 3, "b": 4})], [("echo", {"text": "x"})], "Done."]
    with (
        world(tmp_path, llm=FakeLLM(lambda request, nth: turns[nth]), tools=tools) as here,
        page(here.write_config(my_agent=AGENT)) as client,
    ):
        seen = []
        with client.stream("agents/my_agent/ask", {"question": "?", "approve": True}) as items:
            for item in items:
                seen.append(item)
                if item["event"] != "ApprovalAsked":
                    continue
                if item["tool"] == "add":
                    assert (item["arguments"], tools.requests) == ('{"a":1,"b":2}', [])
                    answer = {"action": item["id"], "allowed": True, "for_all": True}
                else:
                    assert item["read_only"]
                    answer = {"action": item["id"], "allowed": False, "reason": "not today"}
                run = seen[0]["run"]
                assert client.post(f"runs/{run}/decide", answer | {"action": "another"}).status == 404
                assert client.post(f"runs/{run}/decide", answer).status == 200
                assert client.post(f"runs/{run}/decide", answer).status == 404  # decided already
    assert [item["tool"] for item in seen if item["event"] == "ApprovalAsked"] == ["add", "echo"]
    assert [request.tool for request in tools.requests] == ["add", "add"]
    (denied,) = [item for item in seen if item["event"] == "Observed" and item["denied"]]
    assert "not today" in denied["content"]
    assert seen[-1]["answer"] == "Done."


def test_nobody_decides_for_a_page_that_went(tmp_path: Path) -> None:
    """Where the page goes while a call waits for consent, the call is never made."""
    tools = FakeTools()
    with world(tmp_path, llm=FakeLLM(adds), tools=tools) as here, page(here.write_config(my_agent=AGENT)) as client:
        with client.stream("agents/my_agent/ask", {"question": "?", "approve": True}) as items:
            asked_for = next(item for item in items if item["event"] == "ApprovalAsked")
        wait_until(lambda: bool(client.get("runs").json["runs"]), "the run to end")
        run = client.get("runs").json["runs"][0]
        answer = {"action": asked_for["id"], "allowed": True}
        assert client.post(f"runs/{run['run']}/decide", answer).status == 404
        assert (run["end"], tools.requests) == ("Stopped", [])


def test_what_fails_is_told(tmp_path: Path) -> None:
    """An LLM that refuses, an agent that is not there, a model that is not: each one sentence, and the page goes on."""
    with world(tmp_path) as here, page(here.write_config(my_agent=AGENT)) as client:
        assert asked(client)[-1]["message"] == "plugin llm: UNIMPLEMENTED: Method not found!"
        (told,) = client.post("agents/my_agnt/ask", {"question": "?"}).lines
        assert told["error"] == "There is no agent my_agnt; did you mean my_agent?."
        assert asked(client, llm="thrd")[-1].keys() & {"error", "message"}
        assert client.get("overview").status == 200


def test_runs_at_a_time_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Past the bound a question is refused, and taken again once a run has ended; so is one in a talk that is busy."""
    monkeypatch.setattr(runs, "MOST_RUNS", 1)
    llm = FakeLLM(hello)
    llm.hangs = True
    with world(tmp_path, llm=llm) as here, page(here.write_config(my_agent=AGENT)) as client:
        with client.stream("agents/my_agent/ask", {"question": "?"}) as items:
            talk = next(items)["talk"]
            assert asked(client) == [{"error": runs.BUSY}]
            monkeypatch.setattr(runs, "MOST_RUNS", 2)
            assert "is waiting for an answer" in asked(client, talk=talk)[0]["error"]
        wait_until(lambda: bool(client.get("runs").json["runs"]), "the run to end")
        llm.hangs = False
        assert asked(client, talk=talk)[-1]["event"] == "Done"


# ---------------------------------------------------------------- runs that are over


def test_a_run_can_be_looked_at_later(tmp_path: Path) -> None:
    """Question, inputs, steps with their times, tokens and the answer are kept, for this user alone; and removed."""
    with world(tmp_path, llm=FakeLLM(adds)) as here:
        file = here.write_config(my_agent=AGENT | {"prompt": "Be brief."})
        with page(file) as client:
            asked(client, "What is <b>1 + 2</b>?")
            wait_until(lambda: bool(client.get("runs").json["runs"]), "a kept run")
        with page(file) as client:  # the next start
            (summary,) = client.get("runs").json["runs"]
            whole = client.get(f"runs/{summary['run']}").json
            assert client.post(f"runs/{summary['run']}/remove", {}).status == 200
            assert client.get("runs").json["runs"] == []
            assert client.get(f"runs/{summary['run']}").status == 404
    assert (summary["question"], summary["end"], summary["stop_reason"]) == (
        "What is <b>1 + 2</b>?",
        "Done",
        "ANSWERED",
    )
    assert summary["usage"] == {"prompt": 20, "completion": 10, "total": 30}
    assert (summary["input"]["prompt"], summary["input"]["tools"]) == ("Be brief.", ["tools"])
    kinds = [event["event"] for event in whole["events"]]
    assert kinds == ["Began", "StepBegan", "ActionAsked", "Observed", "StepEnded", "StepBegan", "StepEnded", "Done"]
    times = [event["at"] for event in whole["events"]]
    assert times == sorted(times)


def test_what_is_kept_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest runs are removed; files are the user's alone; no name leads out of the folder; damage is left out."""
    monkeypatch.setattr(kept_runs, "MOST", 5)
    kept = KeptRuns(tmp_path, lambda: str)
    for number in range(9):
        kept.write({"run": f"{1_700_000_000_000 + number}-0123abcd"}, [])
    assert [run["run"][12] for run in kept.summaries()] == ["8", "7", "6", "5", "4"]
    newest = tmp_path / f"{kept.summaries()[0]['run']}.jsonl"
    assert newest.stat().st_mode & 0o077 == 0
    newest.write_text("{broken")
    assert len(kept.summaries()) == 4
    outside = tmp_path.parent / "outside.jsonl"
    outside.write_text("{}")
    assert kept.read("../outside") is None
    assert not kept.remove("../outside")
    assert outside.exists()
