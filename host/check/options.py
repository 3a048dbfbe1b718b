"""The options of `python -m host check`."""

from __future__ import annotations

import argparse

from host.check.claims import GUIDE, LEVELS
from host.check.contract import SERVICES

ABOUT = """\
Holds a plugin, in any language, to the contract from outside, with data of its own that it removes again. It asks
reflection what the plugin is. A claim that fails shows what was sent, what came, and the sentence it breaks.

Exit status: 0 every claim holds, 1 one does not, 2 it could not be checked.
"""
EXAMPLES = """\
examples:
  python -m host check 127.0.0.1:8082
  python -m host check 127.0.0.1:8082 --level full --junit check.xml
  python -m host check --run "python -m plugins.vector_hnsw --data-dir /tmp/check"
  python -m host check 127.0.0.1:8084 --tool clock --arguments '{"zone": "UTC"}'
  python -m host check 127.0.0.1:8081 --prompt "Say hello."
  python -m host check --run "python -m plugins.llm_openai --endpoint {upstream} --max-retries 0" --level full
  python -m host check --run "python -m plugins.reasoning_react --llm {llm} --tools {tools}"
"""


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of `host check`, on a parser of its own or below another."""
    parser.description = ABOUT
    parser.epilog = EXAMPLES
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("address", metavar="ADDRESS", nargs="?", help="HOST:PORT or unix:PATH of a running plugin")
    parser.add_argument(
        "--run",
        metavar="COMMAND",
        help="start the plugin itself, and try its start, its stop and its kill too; {port} in it stands for the port, "
        "else `--port N` is put behind it",
    )
    parser.add_argument(
        "--level",
        choices=LEVELS,
        default=GUIDE,
        help="guide: the guide's RPCs and fields; full: the additions too [guide]",
    )
    parser.add_argument("--kind", choices=list(SERVICES), help="what it is [reflection says so]")
    parser.add_argument(
        "--only", metavar="WORD", action="append", default=[], help="claims whose name holds WORD; may be repeated"
    )
    parser.add_argument("--list", action="store_true", help="print the claims of --kind and --level, and check nothing")
    parser.add_argument("--timeout", type=_seconds, default=30.0, metavar="SECONDS", help="bound on each call [30]")
    parser.add_argument(
        "--start-timeout", type=_seconds, default=120.0, metavar="SECONDS", help="bound on a start [120]"
    )
    parser.add_argument("--prompt", default="", help="text that may be sent to the model behind it, again and again")
    parser.add_argument(
        "--upstream",
        type=int,
        metavar="PORT",
        help="serve an OpenAI endpoint with scripted answers at http://127.0.0.1:PORT/v1, for an LLM plugin that was "
        "told to use it; with --run, {upstream} in the command stands for the URL of such a one, and {llm} and {tools} "
        "for the addresses of a scripted model and scripted tools, for a reasoning strategy",
    )
    parser.add_argument("--tool", metavar="NAME", default="", help="a tool that may be run, again and again")
    parser.add_argument("--arguments", metavar="JSON", default="{}", help="what --tool is run with [{}]")
    parser.add_argument("--token", default="", help="the bearer token; others on this machine can read it here")
    parser.add_argument("--token-file", metavar="FILE", help="a file whose first line is the bearer token")
    parser.add_argument("--tls-ca", metavar="FILE", default="", help="the CA of its certificate; implies TLS")
    parser.add_argument("--tls-cert", metavar="FILE", default="", help="a client certificate")
    parser.add_argument("--tls-key", metavar="FILE", default="", help="and its key")
    parser.add_argument("--junit", metavar="FILE", help="write JUnit XML; - for stdout, in place of the table")
    parser.add_argument("--json", metavar="FILE", help="write JSON; - for stdout, in place of the table")


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds <= 3600:
        raise argparse.ArgumentTypeError("must be a number of seconds above 0")
    return seconds
