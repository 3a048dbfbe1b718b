"""The command line of the development host: `python -m host COMMAND`."""

from __future__ import annotations

import argparse
import signal
from pathlib import Path
from typing import TYPE_CHECKING

from shared import logs
from shared.cli import installed
from shared.errors import StartError
from shared.start import run

if TYPE_CHECKING:
    from host.config import HostConfig

QUESTION = "Is a write still there after a kill -9?"
EXAMPLES = """\
examples:
  python -m host serve                            start the plugins of ./hector.yaml and keep them running
  python -m host serve --ui                       the same, with a page to see and try all of it
  python -m host status                           each plugin, its address and how it is now
  python -m host logs vector_hnsw --follow        what a plugin writes
  python -m host index docs                       embed what is new or changed below docs/
  python -m host index --prune                    take out what is of files and folders that are gone
  python -m host search "how do I add a plugin?"  print the best passages
  python -m host call assistant "Hello"           ask an agent; the answer is on stdout, its steps on stderr
  python -m host chat assistant                   the same as a conversation
  python -m host tools                            what agents can use
  python -m host try embed_st GetModelInfo        call any RPC of a plugin by hand
  python -m host new tool_provider my_tools       a project of a plugin of your own
  python -m host check 127.0.0.1:8082             hold a plugin of your own to the contract
  python -m host move 127.0.0.1:8082/docs 127.0.0.1:9082/docs    a collection to another database plugin
  python -m host demo docs -q "who may call?"     a first look at all of it, then stop

All but serve use the plugins of a running `serve`, or start those they need for as long as they run.
"""
TRY = """\
Calls an RPC of a plugin, as its reflection describes it. Replies are on stdout, status and time on stderr.

  python -m host try vector_hnsw                                 its RPCs
  python -m host try vector_hnsw SearchVectors                   a request to edit
  python -m host try vector_hnsw SearchVectors '{"limit": 3}'    the call
"""
NEW = """\
Makes a project of its own for a plugin of yours: it runs at once and passes its tests, and its README.md numbers
the edits that make it yours.

  python -m host new tool_provider unit_tools --to ../unit_tools    makes it
  python -m host new --renew ../unit_tools                          brings up to date what it has of hector-plugins
"""

MOVE = """\
Copies a collection between any two database plugins, in batches, and ends when both sides have the same: ids, vectors
bit for bit, metadata, and a sample of searches. The source is read alone, and may be searched and written meanwhile.
Broken off, it is begun again with the same words, and writes what is still missing.

  python -m host move 127.0.0.1:8082/docs 127.0.0.1:9082/docs
"""


def main() -> int:
    from host.config import ConfigError

    try:
        return _run(_parser().parse_args())
    except ConfigError as error:
        for mistake in error.mistakes:
            logs.line(f"error: {mistake}")
        return 2


def _run(arguments: argparse.Namespace) -> int:
    if arguments.command == "new":
        from host.new.command import run as new

        return new(arguments.kind, arguments.name, arguments.to, arguments.renew)
    installed(
        {
            "charset_normalizer": "charset-normalizer>=3.4,<4",
            "jsonschema_rs": "jsonschema-rs>=0.60,<0.70",
            "mammoth": "mammoth>=1.11,<2",
            "pathspec": "pathspec>=1.0,<2",
            "pypdf": "pypdf>=7.1,<8",
            "rich": "rich>=14,<16",
            "starlette": "starlette>=1.6,<2",
            "turbohtml": "turbohtml>=1.15,<2",
            "uvicorn": "uvicorn>=0.50,<1",
            "watchfiles": "watchfiles>=1.1,<2",
        }
    )
    from host import commands, demo, manage, trying
    from host.agents import command as agents

    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)
        # A SIGHUP that is ignored was ignored on purpose: nohup.
        if number is not None and (name != "SIGHUP" or signal.getsignal(number) != signal.SIG_IGN):
            signal.signal(number, signal.default_int_handler)
    if arguments.command == "check":
        from host.check import command as check

        return check.run(arguments)
    if arguments.command == "move":
        from host import move

        return move.command(
            arguments.source,
            arguments.target,
            token_files=(arguments.source_token_file, arguments.target_token_file),
            delete=arguments.delete,
        )
    config = _loaded(_file(arguments.config, arguments.command))
    match arguments.command:
        case "serve":
            return commands.serve(config, reload=not arguments.no_reload, page_port=arguments.ui)
        case "status":
            return manage.status(config, as_json=arguments.json)
        case "logs":
            return manage.logs(config, arguments.name, arguments.lines, arguments.follow)
        case "index":
            database = config.database(arguments.database)
            folder = Path(arguments.folder) if arguments.folder else None
            given = arguments.include, arguments.exclude
            return commands.index(config, folder, database, *given, prune=arguments.prune, verbose=arguments.verbose)
        case "search":
            return commands.search(
                config, arguments.question, arguments.limit, config.database(arguments.database), as_json=arguments.json
            )
        case "call":
            return agents.call(
                config,
                arguments.agent,
                arguments.question,
                llm=arguments.llm,
                stream=arguments.stream,
                approve=arguments.approve,
                as_json=arguments.json,
            )
        case "chat":
            return agents.chat(config, arguments.agent, llm=arguments.llm, approve=arguments.approve)
        case "tools":
            return agents.tools(config, as_json=arguments.json)
        case "try":
            return trying.try_out(config, arguments.plugin, arguments.rpc, arguments.request, arguments.timeout)
        case _:
            folder = Path(arguments.folder) if arguments.folder else None
            return demo.demo(config, folder, arguments.question, arguments.keep)


def _file(given: str | None, command: str) -> Path:
    """The YAML: that of --config, else of the host that runs for this folder, else ./hector.yaml."""
    from host import connect, run_file

    usual = Path("hector.yaml")
    if given or command == "serve":
        return Path(given or usual)
    state = Path.cwd() / ".hector"
    run = run_file.read(state) if usual.exists() else connect.running(state)
    return Path(run.config) if run else usual


def _loaded(file: Path) -> HostConfig:
    from host.config import load

    if not file.exists():
        raise StartError(f"there is no {file}; run this where there is one, or name one with --config")
    config = load(file)
    for remark in config.remarks:
        logs.line(f"note: {remark}")
    return config


def _parser() -> argparse.ArgumentParser:
    from host.check.options import add_options as add_check_options
    from host.new.kind import KINDS

    parser = argparse.ArgumentParser(
        prog="python -m host",
        description="The development host: runs the plugins that a YAML names, indexes documents, searches them.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=EXAMPLES,
        allow_abbrev=False,
    )
    anywhere = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    anywhere.add_argument("--config", metavar="FILE", help="the YAML [the running host's, else ./hector.yaml]")
    database = argparse.ArgumentParser(add_help=False)
    database.add_argument("--database", metavar="NAME", help="the block under databases: [the only one]")
    add = parser.add_subparsers(dest="command", required=True, metavar="COMMAND").add_parser

    one = add("serve", parents=[anywhere], help="start every plugin, restart those that die, stop them on Ctrl-C")
    one.add_argument("--no-reload", action="store_true", help="leave alone those whose settings or source changed")
    one.add_argument(
        "--ui",
        type=_port,
        nargs="?",
        const=8080,
        metavar="PORT",
        help="also serve a page to see and try all of it, on loopback alone [8080]; its address is printed",
    )
    one = add("status", parents=[anywhere], help="every plugin of the running `serve`, and how it is now")
    one.add_argument("--json", action="store_true", help="as one JSON object")
    one = add("logs", parents=[anywhere], help="what a plugin wrote, kept in .hector/logs")
    one.add_argument("name", metavar="NAME", help="the plugin's name in the YAML")
    one.add_argument("-f", "--follow", action="store_true", help="go on with what it writes, until Ctrl-C")
    one.add_argument("-n", "--lines", type=_limit, default=200, help="lines at most [200]")
    one = add("index", parents=[anywhere, database], help="bring a collection in line with a folder")
    one.add_argument(
        "folder",
        metavar="DIR",
        nargs="?",
        help="folder of text, Markdown, HTML, source, PDF, Word, CSV and JSON files, and Jupyter notebooks",
    )
    one.add_argument(
        "--include", metavar="GLOB", action="append", default=[], help="only such files, as '*.md'; may be repeated"
    )
    one.add_argument(
        "--exclude",
        metavar="GLOB",
        action="append",
        default=[],
        help="leave these out, as 'old/', or with a ! read what is left out by default, as '!vendor/'; may be repeated",
    )
    one.add_argument(
        "--prune",
        action="store_true",
        help="also take out what is of files and folders that are gone; without DIR, do only that",
    )
    one.add_argument("--verbose", action="store_true", help="name each file and folder that is left out, and why")
    one = add("search", parents=[anywhere, database], help="print the passages that answer a question best")
    one.add_argument("question")
    one.add_argument("--limit", type=_limit, default=5, help="passages at most [5]")
    one.add_argument("--json", action="store_true", help="one JSON object a line")
    agent = argparse.ArgumentParser(add_help=False)
    agent.add_argument("agent", metavar="AGENT", help="a block under agents:")
    agent.add_argument("--llm", metavar="NAME", help="another LLM: a block under llms:, or a model's name")
    agent.add_argument("--approve", action="store_true", help="ask in the terminal before each call of a tool")
    one = add("call", parents=[anywhere, agent], help="ask an agent one question")
    one.add_argument("question")
    one.add_argument("--stream", action="store_true", help="show thoughts and the answer while they are written")
    one.add_argument(
        "--json", action="store_true", help="what happens as one JSON object a line, with --stream all of it"
    )
    add("chat", parents=[anywhere, agent], help="talk with an agent, one question a line")
    one = add("tools", parents=[anywhere], help="list the tools of all tool plugins")
    one.add_argument("--json", action="store_true", help="one JSON object a line, with the whole schema")
    one = add(
        "try",
        parents=[anywhere],
        help="call any RPC of any plugin by hand",
        description=TRY,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    one.add_argument("plugin", metavar="NAME", help="a block under plugins:")
    one.add_argument("rpc", metavar="RPC", nargs="?", help="such as SearchVectors [list them]")
    one.add_argument("request", metavar="JSON", nargs="?", help="the request; - reads it from stdin [one to edit]")
    one.add_argument("--timeout", type=float, metavar="SECONDS", default=60.0, help="0 sets no bound [60]")
    one = add(
        "new",
        help="make a project of a plugin of your own: KIND NAME, or renew what one stands on",
        description=NEW,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    one.add_argument("kind", metavar="KIND", nargs="?", help=", ".join(KINDS))
    one.add_argument(
        "name",
        metavar="NAME",
        nargs="?",
        help="what it is called: its module, as in `python -m NAME`, and its variables, NAME__PORT and the like",
    )
    one.add_argument("--to", metavar="DIR", help="folder to make, or to fill where it is empty [./NAME]")
    one.add_argument("--renew", metavar="DIR", help="bring NAME/shared of the project DIR up to date, and nothing else")
    one = add(
        "move",
        help="copy a collection to another database plugin, and verify it",
        description=MOVE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    one.add_argument("source", metavar="SOURCE", help="ADDRESS/COLLECTION, where ADDRESS is HOST:PORT or unix:PATH")
    one.add_argument("target", metavar="TARGET", help="the same; the collection is made where it is missing")
    one.add_argument("--source-token-file", metavar="FILE", help="a file whose first line is the bearer token")
    one.add_argument("--target-token-file", metavar="FILE", help="and the target's")
    one.add_argument("--delete", action="store_true", help="take out of the target what the source has not")
    one = add("demo", parents=[anywhere], help="serve, index and search once, as a first look")
    one.add_argument("folder", metavar="DOCS", nargs="?", help="folder to index [the Markdown files beside the YAML]")
    one.add_argument("-q", "--question", default=QUESTION, help=f"[{QUESTION}]")
    one.add_argument("--keep", action="store_true", help="stay up afterwards, until Ctrl-C")
    add_check_options(add("check", help="hold a running plugin, in any language, to the contract", allow_abbrev=False))
    return parser


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit()) or int(text) > 65535:
        raise argparse.ArgumentTypeError("must be a port, 0 to 65535; 0 picks one")
    return int(text)


def _limit(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError("must be a whole number of at least 1")
    return int(text)


if __name__ == "__main__":
    run(main)
