"""SECURITY.md is true as far as a test can tell: what it names is there."""

from __future__ import annotations

import re

from tests.servers import ROOT

TEXT = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
TESTS = sorted(set(re.findall(r"`(test_\w+\.py)::(test_\w+)`", TEXT)))


def test_every_test_named_there_exists() -> None:
    """Each `file::test` of SECURITY.md is a test of that file."""
    assert len(TESTS) > 50
    missing = [
        f"{file}::{name}"
        for file, name in TESTS
        if not (path := ROOT / "tests" / file).exists()
        or not re.search(rf"^(async )?def {name}\(", path.read_text(encoding="utf-8"), re.MULTILINE)
    ]
    assert missing == []


def test_every_row_names_a_test() -> None:
    """No defence is claimed without a test that holds it."""
    rows = [line for line in TEXT.splitlines() if line.startswith("|") and not re.match(r"\|(---|.*\| test \|)", line)]
    assert len(rows) > 30
    assert [row for row in rows if "::test_" not in row] == []
