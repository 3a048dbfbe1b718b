"""What a model's text turns out to be: `read` for the whole of it, `Watcher` while it is being written."""

from __future__ import annotations

from .read import read
from .watcher import Piece, Watcher

__all__ = ["Piece", "Watcher", "read"]
