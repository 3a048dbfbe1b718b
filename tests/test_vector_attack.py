"""A vector store as a process beside a model of it, called, killed, filled, backed up and put back at random."""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.servers import ROOT, environment
from tests.vector_attack import attack

SECONDS = 20.0
pytestmark = pytest.mark.slow


def test_any_calls_and_kills(tmp_path: Path) -> None:
    """Every reply is the model's, whatever is called; after a kill in a call that is made as a whole or not at all; a
    backup made while writing is the store of one moment, and is what is there once it is put back."""
    made = attack(tmp_path, SECONDS, random.randrange(10**6), disk=False)
    assert made["search"] > 20
    assert made["kill"]


def test_a_disk_that_is_full_now_and_then(tmp_path: Path) -> None:
    """The same on a disk of 40 MB that is filled to the last byte and emptied: what is refused for want of room changes
    nothing, what is deleted is deleted."""
    if shutil.which("unshare") is None or subprocess.run(["unshare", "-rm", "true"], check=False).returncode:
        pytest.skip("this machine does not let users mount in a namespace of their own")
    attacking = f'exec "{sys.executable}" -m tests.vector_attack "{tmp_path}" --disk --seconds {SECONDS}'
    done = subprocess.run(
        ["unshare", "-rm", "bash", "-c", f'mount -t tmpfs -o size=40m tmpfs "{tmp_path}" && {attacking}'],
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "'fill'" in done.stdout
