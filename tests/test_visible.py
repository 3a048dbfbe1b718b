"""What others wrote is shown and never obeyed: `shared/visible.py`, and every command that prints such text."""

from __future__ import annotations

import ast
import json
import os
import pty
import re
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import hector_plugins_pb2 as pb
import pytest
import yaml
from google.protobuf.descriptor import FieldDescriptor
from hypothesis import given
from hypothesis import strategies as st

from plugins.tools_http import policy
from plugins.tools_http.engine.openapi.report import ImportReport, OperationReport
from shared.visible import visible, visible_json, visible_line
from tests.servers import ROOT, SECONDS, environment

# A title, a clear, a colour in one byte, letters turned around, letters that nobody sees, a line written over.
EVIL = "a\x1b]0;owned\x07\x1b[2J\x9b31m\u202eb\u200b\U000e0041c\r\x08d"
_OBEYED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b\u202a-\u202e\u2066-\u2069\U000e0000-\U000e007f]")


@given(st.text())
def test_nothing_is_left_that_a_terminal_obeys(text: str) -> None:
    """Of any text nothing is left that a terminal obeys, all else stays, and once is enough."""
    shown = visible(text)
    assert not _OBEYED.search(shown)
    assert visible(shown) == shown
    assert all(c in "\n\t" or c.isprintable() or c.isspace() or not c.isascii() for c in shown)
    assert "\n" not in visible_line(text)


@given(
    st.recursive(
        st.text() | st.integers() | st.none(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
    )
)
def test_json_means_the_same(value: Any) -> None:
    """JSON with such characters escaped is the same value, indented or not, and holds nothing that is obeyed."""
    for document in (json.dumps(value, ensure_ascii=False), json.dumps(value, ensure_ascii=False, indent=1)):
        shown = visible_json(document)
        assert json.loads(shown) == value
        assert not _OBEYED.search(shown)


# ---------------------------------------------------------------- commands


def filled(message: Any, depth: int = 0) -> Any:
    """`message` with EVIL in every text, one of everything that is repeated, and success."""
    for field in message.DESCRIPTOR.fields:
        if field.name == "status" or (field.message_type and field.message_type.GetOptions().map_entry):
            continue
        if field.type == FieldDescriptor.TYPE_STRING:
            if field.is_repeated:
                getattr(message, field.name).append(EVIL)
            elif not field.name.endswith("token"):
                setattr(message, field.name, EVIL)
        elif field.type == FieldDescriptor.TYPE_BOOL and not field.is_repeated:
            setattr(message, field.name, True)
        elif field.message_type and depth < 3 and field.message_type.full_name.startswith("hector."):
            filled(getattr(message, field.name).add() if field.is_repeated else getattr(message, field.name), depth + 1)
    return message


class _Evil(grpc.GenericRpcHandler):
    """A plugin of any kind that answers every call with EVIL, or refuses it in these words."""

    def __init__(self) -> None:
        self.refuses = False

    def service(self, details: Any) -> Any:
        service, method = details.method.rsplit("/", 2)[1:]
        about = pb.DESCRIPTOR.services_by_name[service.rpartition(".")[2]].methods_by_name[method]
        reply = filled(getattr(pb, about.output_type.name)())
        if hasattr(reply, "error"):
            reply.error = EVIL if self.refuses else ""
            reply.success = not self.refuses

        def answer(request: Any, context: Any) -> Any:
            if self.refuses and not hasattr(reply, "success"):
                context.abort(grpc.StatusCode.NOT_FOUND, EVIL.replace("\r", ""))
            return iter([reply]) if about.server_streaming else reply

        kinds = {"request_deserializer": getattr(pb, about.input_type.name).FromString}
        make = grpc.unary_stream_rpc_method_handler if about.server_streaming else grpc.unary_unary_rpc_method_handler
        return make(answer, **kinds, response_serializer=type(reply).SerializeToString)


@pytest.fixture(scope="module")
def evil() -> Iterator[tuple[_Evil, str]]:
    handler = _Evil()
    server = grpc.server(ThreadPoolExecutor(4), handlers=[handler], options=[("grpc.so_reuseport", 0)])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield handler, f"127.0.0.1:{port}"
    server.stop(0).wait()


def on_a_terminal(*argv: str) -> str:
    """What the command writes where stdout and stderr are one terminal."""
    keyboard, screen = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", *argv], stdin=subprocess.DEVNULL, stdout=screen, stderr=screen, cwd=ROOT,
        env=environment({"TERM": "dumb"}),
    ) as process:  # fmt: skip
        os.close(screen)
        written = b""
        while True:
            try:
                written += (piece := os.read(keyboard, 65536))
            except OSError:  # the other end is closed
                break
            if not piece:
                break
        process.wait(SECONDS)
    os.close(keyboard)
    return written.decode()


@pytest.mark.parametrize("refuses", [False, True])
@pytest.mark.parametrize(
    "command",
    [
        ("plugins.llm_openai.chat", "hello"),
        ("plugins.llm_openai.chat", "--models"),
        ("plugins.vector_hnsw.admin", "ls"),
        ("plugins.vector_hnsw.admin", "describe", "a"),
        ("plugins.vector_hnsw.admin", "snapshots"),
        ("plugins.vector_hnsw.admin", "snapshot", "a", "b"),
        ("plugins.vector_hnsw.admin", "restore", "a", "b"),
    ],
    ids=" ".join,
)
def test_commands_show_what_a_plugin_sent(evil: tuple[_Evil, str], command: tuple[str, ...], refuses: bool) -> None:
    """On a terminal, what a plugin sends in any of its texts, errors too, is shown and not obeyed."""
    handler, address = evil
    handler.refuses = refuses
    written = on_a_terminal(*command, "--address", address)
    plain = re.sub("\x1b\\[[02]m", "", written).replace("\r\n", "\n")  # the colours are the command's own
    assert "owned" in plain, written
    assert not _OBEYED.search(plain), repr(written)


def test_the_policy_shows_what_it_was_asked(capsys: pytest.CaptureFixture[str]) -> None:
    """The policy's command shows a URL with escape sequences in its path as text."""
    policy.main([f"http://127.0.0.1/{EVIL}"])
    assert not _OBEYED.search(capsys.readouterr().out)


def test_a_report_on_a_document_is_plain() -> None:
    """What an OpenAPI document calls its operations is text in the report on it."""
    operation = OperationReport(method="GET", path=f"/{EVIL}", status="refused", reason=EVIL, changes=[EVIL])
    table = ImportReport(name="x", source="y", title=EVIL, operations=[operation], notes=[EVIL]).table()
    assert "owned" in table
    assert not _OBEYED.search(table)


def test_check_shows_settings_as_text(tmp_path: Path) -> None:
    """`--check` prints a setting with such characters escaped."""
    file = tmp_path / "settings.yaml"
    file.write_text(yaml.safe_dump({"model": EVIL}))
    argv = [sys.executable, "-m", "plugins.llm_openai", "--config", str(file), "--check"]
    done = subprocess.run(argv, cwd=ROOT, env=environment(), capture_output=True, text=True, check=False)
    assert "owned" in done.stdout
    assert not _OBEYED.search(done.stdout)


# What these print are words of this project's, or goes through `shared/logs.py`, which escapes on its own.
_OWN_WORDS = {
    "host/check/command.py", "host/demo.py", "host/demo_endpoint.py", "host/demo_model.py", "host/move.py",
    "host/new/command.py", "host/supervisor.py", "host/tether.py", "plugins/reasoning_react/run.py",
    "plugins/reasoning_react/seeing/command_line.py",
    "shared/logs.py", "shared/server.py", "shared/units.py",
}  # fmt: skip


@pytest.mark.slow
def test_no_command_prints_past_it() -> None:
    """Each module that prints has `shared/visible.py`, but for those that print only words of their own."""
    for folder in ("host", "plugins", "shared"):
        for file in (ROOT / folder).rglob("*.py"):
            text = file.read_text(encoding="utf-8")
            calls = (node.func for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Call))
            name = file.relative_to(ROOT).as_posix()
            if name not in _OWN_WORDS and any(isinstance(call, ast.Name) and call.id == "print" for call in calls):
                assert ".visible import" in text or "show.plain(" in text, name
