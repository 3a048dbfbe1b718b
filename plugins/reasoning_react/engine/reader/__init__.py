"""What a model's text turns out to be: `read` for the whole of it, `Watcher` while it is being written."""

from __future__ import annotations

from .display import Piece
from .read import read
from .watcher import Watcher

__all__ = ["Piece", "Watcher", "read"]
