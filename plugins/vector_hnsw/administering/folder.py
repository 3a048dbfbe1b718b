"""Commands on a plugin's folder on this machine."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from shared.visible import visible_line

from ..engine import backup
from ..engine import verify as reading
from .shown import bytes_of


def verify(arguments: argparse.Namespace) -> int:
    problems = 0
    for line in reading.verify(Path(arguments.data_dir)):
        print(visible_line(line))
        problems += line.startswith("damaged")
    return 1 if problems else 0


def back_up(arguments: argparse.Namespace) -> int:
    made = backup.make(Path(arguments.data_dir), Path(arguments.to))
    for file in made.left_out:
        print(f"left out: {file}; see `verify`", file=sys.stderr)
    print(f"{arguments.to}: {_holds(made)}")
    return 1 if made.left_out else 0


def restore(arguments: argparse.Namespace) -> int:
    restored = backup.put_back(Path(arguments.data_dir), Path(arguments.backup), instead=arguments.replace)
    print(f"{arguments.data_dir}: {_holds(restored)}, as of {time.strftime('%F %T', time.localtime(restored.created))}")
    if restored.replaced:
        print(f"what was there is in {restored.replaced}; delete it when you need it no longer")
    return 0


def _holds(made: backup.Backup) -> str:
    return f"{made.collections:,} collections, {bytes_of(made.bytes)}, sequence {made.sequence}"
