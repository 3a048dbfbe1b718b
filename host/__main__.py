"""The command line of the development host: `python -m host COMMAND`."""

from __future__ import annotations

import argparse
import signal
from pathlib import Path

from host.config import load
from shared.cli import installed
from shared.server import run

QUESTION = "Is a write still there after a kill -9?"
EXAMPLES = """\
examples:
  python -m host serve                            start the plugins of ./hector.yaml and keep them running
  python -m host index docs                       embed what is new or changed below docs/
  python -m host search "how do I add a plugin?"  print the best passages
  python -m host demo docs -q "who may call?"     all three, then stop
  python -m host new tool_provider my_tools       a project of a plugin of your own

index and search use the plugins of a running `serve`, or start those they need for as long as they run.
"""


def main() -> int:
    arguments = _parser().parse_args()
    if arguments.command == "new":
        from host.new import command

        return command.run(arguments.kind, arguments.name, arguments.to, arguments.renew)
    installed({"rich": "rich>=14,<16", "pathspec": "pathspec>=1.0,<2", "turbohtml": "turbohtml>=1.15,<2"})
    from host import commands

    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)
        # A SIGHUP that is ignored was ignored on purpose: nohup.
        if number is not None and (name != "SIGHUP" or signal.getsignal(number) != signal.SIG_IGN):
            signal.signal(number, signal.default_int_handler)
    config = load(Path(arguments.config))
    match arguments.command:
        case "serve":
            return commands.serve(config)
        case "index":
            database = config.database(arguments.database)
            return commands.index(config, Path(arguments.folder), database, arguments.include, arguments.exclude)
        case "search":
            return commands.search(
                config, arguments.question, arguments.limit, config.database(arguments.database), as_json=arguments.json
            )
        case _:
            folder = Path(arguments.folder) if arguments.folder else None
            return commands.demo(config, folder, arguments.question, arguments.keep)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m host",
        description="The development host: runs the plugins that a YAML names, indexes documents, searches them.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=EXAMPLES,
        allow_abbrev=False,
    )
    anywhere = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    anywhere.add_argument("--config", metavar="FILE", default="hector.yaml", help="the YAML [./hector.yaml]")
    database = argparse.ArgumentParser(add_help=False)
    database.add_argument("--database", metavar="NAME", help="the block under databases: [the only one]")
    add = parser.add_subparsers(dest="command", required=True, metavar="COMMAND").add_parser

    add("serve", parents=[anywhere], help="start every plugin, restart those that die, stop them on Ctrl-C")
    one = add("index", parents=[anywhere, database], help="bring a collection in line with a folder")
    one.add_argument("folder", metavar="DIR", help="folder of text, Markdown, HTML and source files")
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
    one = add("search", parents=[anywhere, database], help="print the passages that answer a question best")
    one.add_argument("question")
    one.add_argument("--limit", type=_limit, default=5, help="passages at most [5]")
    one.add_argument("--json", action="store_true", help="one JSON object a line")
    one = add("new", help="make a project of a plugin of your own: KIND NAME, or renew what one stands on")
    one.add_argument("kind", metavar="KIND", nargs="?", help="llm_provider, database_provider, embedder_provider, …")
    one.add_argument(
        "name", metavar="NAME", nargs="?", help="what it is called: its module, its command, its variables"
    )
    one.add_argument("--to", metavar="DIR", help="folder to make [./NAME]")
    one.add_argument("--renew", metavar="DIR", help="bring NAME/shared of such a project up to date, and nothing else")
    one = add("demo", parents=[anywhere], help="serve, index and search once, as a first look")
    one.add_argument("folder", metavar="DOCS", nargs="?", help="folder to index [the Markdown files beside the YAML]")
    one.add_argument("-q", "--question", default=QUESTION, help=f"[{QUESTION}]")
    one.add_argument("--keep", action="store_true", help="stay up afterwards, until Ctrl-C")
    return parser


def _limit(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError("must be a whole number of at least 1")
    return int(text)


if __name__ == "__main__":
    run(main)
