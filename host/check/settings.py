"""What holds for the settings that a plugin is started with: `--host`, `--config FILE`, `--check`, a token."""

from __future__ import annotations

import contextlib
import secrets
import signal
import tempfile
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from host.check import launch, serving
from host.check.claims import Broken, Claims, NotAsked, NotOffered, expect
from host.check.launch import easy_call, is_local, started
from host.check.process import Process, ends_by_itself
from host.check.subject import Subject
from shared.units import Secret

claims = Claims("started")
CREDENTIAL = "Beyond loopback it serves only with a token or a client CA, or `insecure` said outright."
FILE = "`--config FILE`: a plain mapping of settings; an unknown key is an error that suggests the nearest."
MASKED = "`--check` prints the result, secrets masked."
_UNKNOWN = "no_such_setting_of_check"


@claims.guide("It does not serve beyond loopback without a credential.", CREDENTIAL)
def beyond_loopback(check: Subject) -> None:
    if "insecure" in check.command.text or "--host" in check.command.text or check.options.token:
        raise NotAsked("the command has a --host, a credential or `insecure`")
    with check.command.start(0, "--host", "0.0.0.0") as process:  # noqa: S104  # it is to be refused
        with contextlib.suppress(Broken):
            process.wait_for_address(check.command.seconds)
        if process.address and is_local(process.address):
            raise NotAsked("it knows no --host, and listens on loopback")
        expect(not process.address, f"with --host 0.0.0.0 and no credential it listens on {process.address}")
        status = process.wait(launch.STOP_SECONDS)
    expect(status != 0, "with --host 0.0.0.0 and no credential it ends with status 0")
    expect(any(line.strip() for line in process.err), "with --host 0.0.0.0 it ends without a word on stderr")


@claims.full("With --check it says what it was told, and does not start.", MASKED)
def check_option(check: Subject) -> None:
    status, process = ends_by_itself(check.command, 0, ["--check"])
    _offered(process, status, "--check")
    expect(status == 0, f"with --check it ends with status {status}{process.last_lines()}")


@claims.full("A setting in its file that it does not know is an error, and is named.", FILE)
def unknown_setting(check: Subject) -> None:
    with _file(check, {_UNKNOWN: "1"}) as path:
        status, process = ends_by_itself(check.command, 0, ["--config", path])
        _offered(process, status, "--config", besides=_UNKNOWN)
        expect(status != 0, "with an unknown setting it ends with status 0")
        expect(_UNKNOWN in " ".join(process.err), f"no line on stderr names the setting{process.last_lines()}")


@claims.full("A secret in its file is not shown by --check.", MASKED)
def secret_is_masked(check: Subject) -> None:
    token = secrets.token_hex(16)
    with _file(check, {"token": token}) as path:
        status, process = ends_by_itself(check.command, 0, ["--config", path, "--check"])
        _offered(process, status, "--config", "--check")
        expect(token not in " ".join((*process.out, *process.err)), "--check shows the token")
        expect(status == 0, f"with a token and --check it ends with status {status}{process.last_lines()}")


@claims.full("With a token in its file no call is answered without it, and health is.", serving.HEALTH_FREE)
def token_from_file(check: Subject) -> None:
    token = secrets.token_hex(16)
    with _file(check, {"token": token}) as path:
        status, process = ends_by_itself(check.command, 0, ["--config", path, "--check"])
        _offered(process, status, "--config", "--check")
        guarded = replace(check, address=replace(check.address, token=Secret(token)))
        guarded.exchanges = check.exchanges
        with closing(guarded), started(guarded, 0, "--config", path) as (running, subject):
            easy_call(subject)
            with closing(replace(subject, options=replace(subject.options, token="yes"))) as asked:  # noqa: S106
                asked.exchanges = check.exchanges
                serving.token_is_asked(asked)
                serving.health_without_token(asked)
            running.signal(signal.SIGTERM)
            running.wait(launch.STOP_SECONDS)
            shown = token in " ".join((*running.out, *running.err))
            expect(not shown, "it writes the token to its log")


@contextlib.contextmanager
def _file(check: Subject, settings: dict[str, str]) -> Iterator[str]:
    """The path of a file with these settings. Raises NotAsked where the command has a file of its own."""
    if "--config" in check.command.text or check.options.token:
        raise NotAsked("the command has a --config of its own, or a token")
    with tempfile.TemporaryDirectory(prefix="host-check-") as folder:
        path = Path(folder, "check.yaml")
        path.write_text("".join(f'{name}: "{value}"\n' for name, value in settings.items()), encoding="utf-8")
        yield str(path)


def _offered(process: Process, status: int, *options: str, besides: str = "") -> None:
    """Raises NotOffered where it ended because it does not know one of `options`."""
    text = " ".join(process.err)
    for option in options:
        if status != 0 and option in text and (not besides or besides not in text):
            raise NotOffered(f"it has no {option}{process.last_lines()}")
