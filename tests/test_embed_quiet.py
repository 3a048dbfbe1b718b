"""What OpenVINO may not do behind an operator's back: `plugins/embed_st/engine/quiet_openvino.py`."""

from __future__ import annotations

import subprocess
import sys

import pytest

_PROGRAM = """
import sys, threading
seen = []
watched = ("os.fork", "os.posix_spawn", "socket.connect")
sys.addaudithook(lambda event, _: seen.append(event) if event in watched else None)
from plugins.embed_st.engine.quiet_openvino import import_openvino
import_openvino().Core()
for thread in threading.enumerate():
    if thread is not threading.main_thread():
        thread.join(3)
print(seen)
"""


def test_openvino_sends_nothing() -> None:
    """Importing OpenVINO forks no process and opens no connection, which it does when its telemetry is there."""
    pytest.importorskip("openvino_telemetry")
    quiet = subprocess.run([sys.executable, "-c", _PROGRAM], capture_output=True, text=True, timeout=240, check=True)
    assert quiet.stdout == "[]\n", quiet.stdout
