"""The command line of a bench: `--help`, which tells what its module's docstring tells, and no argument passed over."""

from __future__ import annotations

import argparse


def parser(about: str | None) -> argparse.ArgumentParser:
    return argparse.ArgumentParser(
        description=about, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
