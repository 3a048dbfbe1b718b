"""What the tests share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from shared.testing import Plugin, started


@pytest.fixture
def plugin(tmp_path: Path) -> Iterator[Plugin]:
    """The plugin as a process of its own in an empty folder; `plugin.channel` leads to it."""
    with started("{{name}}", cwd=tmp_path) as running:
        yield running
