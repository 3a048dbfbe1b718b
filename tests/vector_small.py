"""vector_hnsw with thresholds so low that a hundred items meet them: graphs, indexes of fields, saved graphs. For tests
that start it as a process: `python -m tests.vector_small ARGUMENTS`."""

from __future__ import annotations

import sys

from plugins.vector_hnsw import __main__
from plugins.vector_hnsw.engine import fields, flat, matches, upkeep
from shared.server import run

DIMENSION = 6


def lower() -> None:
    flat.MOST = 40
    fields._LEAST_ITEMS, fields._SCANS = 20, 1
    matches._FEW_NUMBERS, matches._MOST_RECENT = 30 * DIMENSION, 60
    upkeep._SAVE_AFTER = 100


if __name__ == "__main__":
    lower()
    sys.argv[0] = "vector_small"
    run(__main__.main)
