"""Log lines: `shared/logs.py`."""

from __future__ import annotations

import logging
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from types import SimpleNamespace
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

from shared import log_writer, logs
from shared.config import BaseConfig
from shared.errors import NotFound
from shared.status import failure
from shared.units import Secret
from tests.servers import SECONDS, Served, await_serving, captured_log, dial, environment, served, unhurried
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


class Unprintable:
    def __str__(self) -> str:
        raise RuntimeError("no text")


@pytest.mark.parametrize(
    ("value", "starts"),
    [
        ("x" * 10_000_000, '"xxx'),
        ("\n" * 10_000_000, r'"\n\n'),
        (b"\x00" * 10_000_000, r'"b\'\\x00'.replace("\\'", "'")),
        (10**6000, "<int>"),
        (Unprintable(), "<Unprintable>"),
        ("\0 \ud800 \u202e \x9b31m", '"\\x00 \\ud800 \\u202e \\x9b31m"'),
    ],
    ids=["10 MB", "10 MB of line ends", "10 MB of bytes", "huge integer", "no text", "nothing that prints"],
)
def test_no_value_is_too_odd_to_log(value: object, starts: str) -> None:
    """Values without bound, without text or of nothing that prints leave one line of bounded length; none raises."""
    line = logged(value)
    assert len(line) < 11 * logs.LONGEST_VALUE
    written = line.partition("value=")[2]
    assert written.startswith(starts)
    assert written.isprintable()


def test_a_traceback_is_bounded() -> None:
    """Of an exception with a message of 10 MB the log has where it came from, and how the message ends."""
    with captured_log() as log:
        try:
            raise ValueError("x" * 10_000_000 + " the end")
        except ValueError:
            logs.event("bug", level=logging.ERROR, exc_info=True)
    assert len(log()) < 2 * logs.LONGEST_TRACEBACK
    fields = parse(log()[:-1])
    assert "test_logs.py" in fields["traceback"]
    assert fields["traceback"].endswith("x the end")


def test_lines_logged_the_plain_way() -> None:
    """A plugin that uses `logging.getLogger("hector")` itself cannot break a line or show a secret either."""
    lines = run(
        "logs.setup('info', ['s3cr3t-value'])\n"
        "log = logging.getLogger('hector')\n"
        "log.warning('event=odd cause=%s', 'a\\nb\\x1b[31m s3cr3t-value')\n"
    )
    assert [line.partition(" ")[2] for line in lines] == [r"WARNING event=odd cause=a\nb\x1b[31m ***"]


def test_a_secret_in_another_form() -> None:
    """A secret is masked also as a Python literal, JSON or a URL writes it, and where a long value is cut."""
    secret = 'pass"word\\with %/ü'
    lines = run(
        f"secret = {secret!r}\nimport json, urllib.parse\n"
        "logs.setup('info', [secret])\n"
        "for form in (repr([secret]), json.dumps([secret]), 'http://u:' + urllib.parse.quote(secret, '') + '@h/'):\n"
        "    logs.event('test', value=form)\n"
        f"logs.event('test', value='x' * {logs.LONGEST_VALUE - 3} + secret)\n"
    )
    assert [parse(line)["value"][:20] for line in lines[:3]] == [
        "['***']",
        "[***]".replace("***", '"***"'),
        "http://u:***@h/",
    ]
    assert "pas" not in lines[3]
    assert not [line for line in lines if "word" in line]


def test_everything_on_stderr_is_a_line() -> None:
    """Prints to stderr, warnings and exceptions that nobody caught are lines of the log like any other."""
    lines = run(
        "import threading, warnings\n"
        "logs.setup('info')\n"
        "print('two', 'words', file=sys.stderr)\n"
        "print('10 %\\r20 %\\r30 %', file=sys.stderr)\n"
        "warnings.warn('careful')\n"
        "thread = threading.Thread(target=lambda: 1 / 0)\n"
        "thread.start(); thread.join()\n"
        "class Odd:\n    def __del__(self): raise ValueError('in del')\n"
        "Odd()\n"
        "sys.excepthook(*[KeyError, KeyError('lost'), None])\n"
        "logs.line('error: said outright\\nand more')\n"
    )
    assert lines.pop() == r"error: said outright\nand more"
    fields = [parse(line) for line in lines]
    assert [one["event"] for one in fields] == ["library"] * 3 + ["uncaught", "unraisable", "uncaught"]
    assert [one.get("message") for one in fields[:2]] == ["two words", "30 %"]
    assert "careful" in fields[2]["message"]
    assert ["ZeroDivisionError" in fields[3]["traceback"], "in del" in fields[4]["traceback"]] == [True, True]


# ---------------------------------------------------------------- readers of all kinds


@contextmanager
def unread(code: str) -> Iterator[subprocess.Popen[str]]:
    """A process that runs `code` after `logs.setup("info")`, its stderr a pipe that nobody reads so far."""
    code = "import os, resource, sys\nfrom shared import logs\nlogs.setup('info')\n" + code
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
    )
    stuck = threading.Timer(SECONDS, process.kill)
    stuck.start()
    try:
        yield process
    finally:
        stuck.cancel()
        process.kill()
        process.communicate()


@pytest.mark.parametrize("end", ["", "logs.flush(20); os._exit(0)"], ids=["normal end", "os._exit"])
def test_nothing_is_lost_while_stderr_is_read(end: str) -> None:
    """Lines of four threads arrive whole, all of them, each thread's in its order, up to the last before the end."""
    lines = run(
        "import os, threading\nlogs.setup('info')\n"
        "def work(thread):\n"
        "    for number in range(2000):\n"
        "        logs.event('test', thread=thread, number=number, text='ü ' * (number % 50))\n"
        "threads = [threading.Thread(target=work, args=[n]) for n in range(4)]\n"
        "[thread.start() for thread in threads]; [thread.join() for thread in threads]\n"
        "logs.flush(20)\n"
        "logs.event('last')\n" + end
    )
    seen: dict[str, list[int]] = {}
    for fields in map(parse, lines[:-1]):
        seen.setdefault(fields["thread"], []).append(int(fields["number"]))
    assert seen == {str(thread): list(range(2000)) for thread in range(4)}
    assert parse(lines[-1]) == {"event": "last"}


def test_a_process_that_stands_still_loses_no_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """What `flush` waits for is written also where the whole process stands still for longer than it waits."""
    read_from, write_to = os.pipe()
    stood = 0.0

    def sleep(seconds: float) -> None:
        nonlocal stood
        time.sleep(seconds)
        if threading.current_thread() is threading.main_thread():
            stood = 60.0

    writer = log_writer.Writer(write_to, str)
    try:
        clock = SimpleNamespace(sleep=sleep, monotonic=lambda: time.monotonic() + stood)
        monkeypatch.setattr(log_writer, "time", clock)
        writer.put("a line")
        writer.flush(logs.FLUSH_SECONDS)
        os.set_blocking(read_from, False)
        assert os.read(read_from, 100) == b"a line\n"
    finally:
        os.close(read_from)  # but not the other end, which is the thread's that never ends


def test_nobody_reads() -> None:
    """Without a reader logging goes on, in bounded memory; what is missing later is counted where it is missing."""
    with unread(
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "for number in range(200_000):\n    logs.event('test', number=number, text='x' * 100)\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before, flush=True)\n"
        "sys.stdin.readline()\n"
        "logs.flush(20)\n"
        "logs.event('readable')\n"
    ) as process:
        assert process.stdout is not None
        grown = process.stdout.readline()
        assert grown, "logging waited for a reader"
        _, err = process.communicate("\n", timeout=SECONDS)
    assert int(grown) < 32 * 1024  # KiB
    events = [parse(line) for line in err.splitlines()]
    assert events.pop() == {"event": "readable"}
    expected = 0
    for fields in events:
        if fields["event"] == "log_dropped":
            expected += int(fields["lines"])
        else:
            assert int(fields["number"]) == expected
            expected += 1
    assert expected == 200_000
    assert 1 <= Counter(fields["event"] for fields in events)["log_dropped"] <= 5


@pytest.mark.skipif(sys.platform != "linux", reason="a pipe can be opened anew on Linux only")
def test_what_writes_below_python_does_not_wait() -> None:
    """A write to descriptor 2, as gRPC's core makes for a failed TLS handshake, never waits for a reader."""
    with unread(
        "try:\n    while True: os.write(2, b'E0000 handshake failed\\n' * 100)\n"
        "except BlockingIOError:\n    print('went on', flush=True)\n"
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "went on\n"


def test_a_reader_that_has_gone() -> None:
    """A process whose log's reader has gone goes on, and ends with its own status and without delay."""
    with unread(
        "sys.stdin.readline()\nfor number in range(20_000):\n    logs.event('test', number=number)\nsys.exit(7)\n"
    ) as process:
        assert process.stderr is not None
        assert process.stdin is not None
        process.stderr.close()
        process.stdin.write("\n")
        process.stdin.flush()
        assert process.wait(SECONDS) == 7


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="POSIX has timers")
def test_a_signals_handler_may_log() -> None:
    """A line that a signal's handler logs in the midst of another one neither deadlocks nor mixes with it."""
    lines = run(
        "import signal\nlogs.setup('info')\n"
        "signal.signal(signal.SIGALRM, lambda *_: logs.event('alarm'))\n"
        "signal.setitimer(signal.ITIMER_REAL, 0.0002, 0.0002)\n"
        "for number in range(5000): logs.event('test', number=number)\n"
        "signal.setitimer(signal.ITIMER_REAL, 0)\n"
    )
    events = Counter(parse(line)["event"] for line in lines)
    assert events["test"] == 5000
    assert events["alarm"] > 0


def test_a_call_costs_little() -> None:
    """Logging a call costs its thread at most 15 µs, measured by `benchmarks/logs.py`; ten times that fails here."""
    command = [sys.executable, "-m", "benchmarks.logs", "--cost"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, env=environment(), check=True)
    assert 0 < float(done.stdout) < 150


@pytest.mark.slow
def test_a_plugin_whose_log_nobody_reads() -> None:
    """While nobody reads its stderr, a plugin answers 5,000 calls, health too, and ends on SIGTERM."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.toy_plugin", "--port", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
    )
    try:
        assert process.stdout is not None
        address = process.stdout.readline().removeprefix("listening on ").strip()
        with dial(address) as channel:
            await_serving(channel)
            stub = LLMProviderStub(channel)
            for number in range(5000):
                reply = stub.GenerateText(pb.GenerateTextRequest(prompt=f"echo {number}"), timeout=SECONDS)
                assert reply.text == str(number)
            await_serving(channel)
        process.send_signal(signal.SIGTERM)
        assert process.wait(SECONDS) == 0
    finally:
        process.kill()
        process.communicate()


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
