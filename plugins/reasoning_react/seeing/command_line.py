"""What somebody typed behind `python -m PACKAGE.run`, and what was piped in."""

from __future__ import annotations

import argparse
import contextlib
import select
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from shared.cli import naming
from shared.config import suggest, types, variable
from shared.errors import StartError
from shared.units import name_for_message, read_addresses

from .. import PACKAGE
from ..config import Config
from .trace import Trace

_MOST_PIPED = 4 * 2**20  # bytes
_PATIENCE = 2.0  # seconds until it is said what is waited for


@dataclass(frozen=True)
class Options:
    """Empty where not given."""

    question: str
    address: str
    tls_ca: str
    save: str
    resume: str
    html: str


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        # Of a value that an option does not take, argparse would say which it was.
        words = message.partition(": ignored explicit argument")
        raise StartError(f"command line: {words[0]}{': takes no value' if words[1] else ''}; see --help")


def command_line(argv: Sequence[str] | None, about: str | None) -> tuple[Options, dict[str, str]]:
    """Our own options, and the plugin's settings as they were given. Exits on --help. Raises StartError."""
    parser = _Parser(
        prog=f"python -m {PACKAGE}.run",
        description=naming(PACKAGE, about),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
        epilog=f"Every setting of the plugin is an option too: `python -m {PACKAGE} --help` lists them.\n"
        f"The token of the plugin at --address is read from {variable(PACKAGE, 'token')}.",
    )
    parser.add_argument("question", nargs="?", default="")
    parser.add_argument("--address", default="", metavar="HOST:PORT", help="of a plugin whose run it is to be")
    parser.add_argument("--tls-ca", default="", metavar="FILE", help="PEM of the CA of that plugin's certificate")
    parser.add_argument(
        "--save", default="", metavar="FILE", help="write the run to FILE after each step; needs a state_key"
    )
    parser.add_argument("--resume", default="", metavar="FILE", help="go on with the run that --save wrote, or show it")
    parser.add_argument("--html", default="", metavar="FILE", help="write the run as a page to FILE after each step")
    ours = [option for action in parser._actions for option in action.option_strings]
    theirs = ["--" + name.replace("_", "-") for name in ("config", "name", *types(Config))]
    for option in theirs:
        is_switch = types(Config).get(option[2:].replace("-", "_")) is bool
        extra: dict[str, Any] = {"nargs": "?", "const": "true"} if is_switch else {}
        # With all of them known, no value is taken for the question.
        parser.add_argument(option, dest="setting" + option, help=argparse.SUPPRESS, **extra)
    parsed, unknown = parser.parse_known_args(argv)
    if unknown:
        flag = unknown[0].partition("=")[0]
        if not flag.startswith("-"):
            raise StartError("command line: there is more than one question; put it in quotes")
        raise StartError(f"command line: unknown option {name_for_message(flag)}{suggest(flag, [*ours, *theirs])}")
    if parsed.resume and parsed.question:
        raise StartError("command line: a run that is resumed has its question; leave out one of the two")
    if parsed.tls_ca and not parsed.address:
        raise StartError("command line: --tls-ca is for the plugin at --address; give that too, or leave it out")
    if parsed.address:
        _check_address(parsed.address)
    given = {key.removeprefix("setting--"): value for key, value in vars(parsed).items() if key.startswith("setting--")}
    options = Options(**{name: getattr(parsed, name) for name in Options.__dataclass_fields__})
    return options, {key.replace("-", "_"): value for key, value in given.items() if value is not None}


def _check_address(address: str) -> None:
    try:
        read_addresses([address])
    except ValueError as error:
        raise StartError(f"command line: --address: {error}") from None


def asked(question: str) -> Trace:
    """A new run. What is piped in is the question's background, or the question. Raises StartError."""
    piped = ""
    if not sys.stdin.isatty():
        _say_what_is_waited_for()
        raw = sys.stdin.buffer.read(_MOST_PIPED + 1)
        if len(raw) > _MOST_PIPED:
            raise StartError(f"what is piped in has more than {_MOST_PIPED // 2**20} MiB; give less of it")
        piped = raw.decode(errors="replace").strip()
    if not (question.strip() or piped):
        raise StartError(f'command line: what is the question? python -m {PACKAGE}.run "question"; see --help')
    return Trace(question=question.strip() or piped, context=piped if question.strip() else "")


def _say_what_is_waited_for() -> None:
    """Whoever starts this from a program may not know that there is a stdin, which never ends."""
    with contextlib.suppress(OSError, ValueError):  # not every stdin can be asked
        if not select.select([sys.stdin], [], [], _PATIENCE)[0]:
            print("waiting for what is piped in; with `< /dev/null` there is nothing", file=sys.stderr, flush=True)
