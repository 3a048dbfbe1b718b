"""Log lines: `shared/logs.py`."""

from __future__ import annotations

import logging
import re
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import hector_plugins_pb2 as pb
import pytest
from hector_plugins_pb2_grpc import (
    DatabaseProviderServicer,
    DatabaseProviderStub,
    LLMProviderStub,
    add_DatabaseProviderServicer_to_server,
)
from hypothesis import given
from hypothesis import strategies as st

from shared import logs
from shared.config import BaseConfig
from shared.errors import NotFound
from shared.status import failure
from shared.units import Secret
from tests.servers import SECONDS, Served, captured_log, environment, served, unhurried
from tests.toy_plugin import SERVICE, Toy, register

LINE = re.compile(
    r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z (DEBUG|INFO|WARNING|ERROR|CRITICAL)"
    r'((?: [a-z_]+=(?:[!#-<>-\[\]-~]+|"(?:[^"\\]|\\.)*"))+)'
)
FIELD = re.compile(r' ([a-z_]+)=((?:[^ "]+)|"(?:[^"\\]|\\.)*")')


def parse(line: str) -> dict[str, str]:
    """The fields of one line, quotes and escapes undone; fails where it is not logfmt."""
    match = LINE.fullmatch(line)
    assert match, line
    fields = dict(FIELD.findall(match[2]))
    return {
        key: re.sub(r'\\(["\\])', r"\1", value[1:-1]) if value.startswith('"') else value
        for key, value in fields.items()
    }


def logged(value: object) -> str:
    with captured_log() as log:
        logs.event("test", value=value)
    assert log().endswith("\n")
    return log()[:-1]


@unhurried
@given(st.text() | st.binary() | st.floats() | st.integers() | st.none() | st.lists(st.text()))
def test_whatever_is_logged_stays_on_one_line(value: object) -> None:
    """A line stays one line of logfmt whatever is logged, and can be printed."""
    line = logged(value)
    assert len(line.splitlines()) == 1
    line.encode()
    assert list(parse(line)) == ["event", "value"]


@pytest.mark.parametrize(
    ("value", "written"),
    [
        ("plain", "plain"),
        ("", '""'),
        ("two words", '"two words"'),
        ('say "x"', r'"say \"x\""'),
        ("a=b", '"a=b"'),
        ("a\\b", r'"a\\b"'),
        ("line\nbreak", r'"line\nbreak"'),
        ("Zürich", '"Zürich"'),
        (0.123456789, "0.123457"),
        (7, "7"),
        ("\x1b[31mred", r'"\x1b[31mred"'),
        ("fake\n2026-01-01T00:00:00.000Z INFO event=call", r'"fake\n2026-01-01T00:00:00.000Z INFO event=call"'),
    ],
)
def test_values(value: object, written: str) -> None:
    """A value is written bare where it can be, else in quotes with everything that does not print escaped."""
    assert logged(value).endswith(f"event=test value={written}")


def test_a_traceback_is_a_value() -> None:
    """An exception's traceback, many lines of it, is one value on the same line."""
    with captured_log() as log:
        try:
            raise ValueError("first\nsecond")
        except ValueError:
            logs.event("bug", level=logging.ERROR, exc_info=True)
    fields = parse(log()[:-1])
    assert "first" in fields["traceback"]
    assert "test_logs.py" in fields["traceback"]


def test_levels() -> None:
    """An event below the level is not logged."""
    with captured_log() as log:
        logging.getLogger("hector").setLevel("WARNING")
        logs.event("quiet")
        logs.event("loud", level=logging.WARNING)
    assert "quiet" not in log()
    assert "WARNING event=loud" in log()


def test_no_secret() -> None:
    """A secret that is logged by mistake is masked by its type."""
    assert logged(Secret("open sesame")).endswith("value=***")


def run(code: str) -> list[str]:
    """The lines that `code` leaves on stderr after `logs.setup`."""
    code = "import logging, sys\nfrom shared import logs\n" + code
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=SECONDS, env=environment(), check=True
    )
    assert done.stdout == ""
    return done.stderr.splitlines()


def test_libraries_lines() -> None:
    """A library's warning is one line of logfmt too, however many it has, with its logger and traceback."""
    lines = run(
        "logs.setup('info')\n"
        "log = logging.getLogger('some.library')\n"
        "log.info('not shown')\n"
        "log.warning('two\\nlines %s', 'here')\n"
        "try:\n    1 / 0\nexcept ZeroDivisionError:\n    log.exception('oh')\n"
    )
    assert len(lines) == 2
    assert parse(lines[0]) == {"event": "library", "logger": "some.library", "message": "two\\nlines here"}
    assert "ZeroDivisionError" in parse(lines[1])["traceback"]


def test_configured_secrets() -> None:
    """A configured secret appears in no line: not in a value, a library's message or a traceback."""
    lines = run(
        "logs.setup('info', ['s3cr3t-value', 'x'])\n"
        "logs.event('test', value='key s3cr3t-value, x')\n"
        "logging.getLogger('lib').error('header: Bearer s3cr3t-value')\n"
        "try:\n    raise ValueError('s3cr3t-value')\nexcept ValueError:\n    logs.event('bug', exc_info=True)\n"
    )
    assert len(lines) == 3
    assert not [line for line in lines if "s3cr3t-value" in line]
    assert parse(lines[0])["value"] == "key ***, x"


# ---------------------------------------------------------------- around calls


@pytest.fixture
def plugin() -> Iterator[Served]:
    with served(BaseConfig(max_concurrent=16), SERVICE, lambda server: register(Toy(), server)) as plugin:
        yield plugin


def calls(log: str) -> list[dict[str, str]]:
    return [fields for line in log.splitlines() if (fields := parse(line))["event"] == "call"]


def test_a_line_for_every_call(plugin: Served) -> None:
    """Each call leaves one line: method, code, milliseconds and request id; nothing of its content."""
    stub = LLMProviderStub(plugin.channel())
    stub.GenerateText(pb.GenerateTextRequest(prompt="echo very private"))
    list(stub.StreamText(pb.StreamTextRequest(prompt="echo very private")))
    plugin.wait_for_log("method=StreamText code")
    assert [(call["method"], call["code"]) for call in calls(plugin.log())] == [
        ("GenerateText", "OK"),
        ("StreamText", "OK"),
    ]
    assert float(calls(plugin.log())[0]["ms"]) >= 0
    assert "private" not in plugin.log()


class Refusing(DatabaseProviderServicer):
    async def DeleteCollection(self, request: Any, context: Any) -> pb.DeleteCollectionResponse:
        if request.name == "careless":
            return pb.DeleteCollectionResponse()
        return failure(pb.DeleteCollectionResponse(), NotFound("it is not there"))

    async def CreateCollection(self, request: Any, context: Any) -> pb.CreateCollectionResponse:
        return pb.CreateCollectionResponse(success=True)


def test_the_code_of_a_reply_that_says_no() -> None:
    """A reply with `success=false` is logged with the code in its status, UNKNOWN where it has none."""
    service = "hector.plugins.v1.DatabaseProvider"
    with served(
        BaseConfig(), service, lambda server: add_DatabaseProviderServicer_to_server(Refusing(), server)
    ) as one:
        stub = DatabaseProviderStub(one.channel())
        stub.CreateCollection(pb.CreateCollectionRequest())
        stub.DeleteCollection(pb.DeleteCollectionRequest())
        stub.DeleteCollection(pb.DeleteCollectionRequest(name="careless"))
        one.wait_for_log("code=UNKNOWN")
        assert [call["code"] for call in calls(one.log())] == ["OK", "NOT_FOUND", "UNKNOWN"]


def test_request_id_of_the_caller(plugin: Served) -> None:
    """A caller's x-request-id is on every line of the call; one that is not sane is replaced, not logged."""
    stub = LLMProviderStub(plugin.channel())
    for sent in ("abc-1.2:3", "two words", "x" * 65, "", 'quo"te'):
        reply = stub.GenerateText(pb.GenerateTextRequest(prompt="request_id"), metadata=(("x-request-id", sent),))
        if sent == "abc-1.2:3":
            assert reply.text == sent
        else:
            assert re.fullmatch(r"[0-9a-f]{16}", reply.text)
        assert f"code=OK ms={calls(plugin.log())[-1]['ms']} request_id={reply.text}" in plugin.log()


def test_request_ids_do_not_mix(plugin: Served) -> None:
    """Calls that run at the same time keep their own request ids, also in what they call."""
    stub = LLMProviderStub(plugin.channel())

    def call(number: int) -> tuple[str, str]:
        sent = f"id-{number}"
        request = pb.GenerateTextRequest(prompt=f"request_id {0.02 * (number % 3)}", model=sent)
        return sent, stub.GenerateText(request, metadata=(("x-request-id", sent),)).text

    with ThreadPoolExecutor(8) as pool:
        for sent, seen in pool.map(call, range(60)):
            assert sent == seen
    for line in plugin.log().splitlines():
        fields = parse(line)
        if fields["event"] == "accepted":
            assert fields["call"] == fields["request_id"]
