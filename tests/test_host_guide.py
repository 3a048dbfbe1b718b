"""The guide's integration test, as written: `serve` in the background, five seconds, then `call`."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.servers import SECONDS, environment
from tests.test_guide_yaml import INTEGRATION

pytestmark = pytest.mark.slow

# The guide's lines, `hector` being `python -m host`; the last three end what the first began.
SCRIPT = """\
# Run integration tests
hector serve --config test-config.yaml &
sleep 5
hector call test_agent "Test message"
status=$?
kill $! && wait $!
exit $status
"""
# The guide's `go build -o test-plugin`: an executable with the services that its samples have, and no more.
PLUGIN = """\
#!{python}
import os
from concurrent import futures

import grpc
from hector_plugins_pb2 import GenerateTextResponse
from hector_plugins_pb2_grpc import LLMProviderServicer, add_LLMProviderServicer_to_server


class MyPlugin(LLMProviderServicer):
    def GenerateText(self, request, context):
        key = os.environ["TEST_PLUGIN_API_KEY"]
        return GenerateTextResponse(text=f"Custom response of {{request.model}} ({{key}}) to: {{request.prompt}}")


server = grpc.server(futures.ThreadPoolExecutor(4))
add_LLMProviderServicer_to_server(MyPlugin(), server)
port = server.add_insecure_port("127.0.0.1:0")
server.start()
print(f"listening on 127.0.0.1:{{port}}", flush=True)
server.wait_for_termination()
"""


def test_the_guides_integration_test(tmp_path: Path) -> None:
    """The guide's test-config.yaml and its three commands print what the plugin answered, and end with status 0."""
    (tmp_path / "test-config.yaml").write_text(INTEGRATION)
    (tmp_path / "test-plugin").write_text(PLUGIN.format(python=sys.executable))
    # Five seconds are enough for a host to begin, but where the machine stands still meanwhile.
    begun = "[ $1 = serve ] || until [ -e .hector/lock ]; do sleep 0.1; done"
    (tmp_path / "hector").write_text(f'#!/bin/sh\n{begun}\nexec {sys.executable} -m host "$@"\n')
    for name in ("test-plugin", "hector"):
        (tmp_path / name).chmod(0o755)
    done = subprocess.run(
        ["bash", "-c", SCRIPT],
        cwd=tmp_path,
        env=environment() | {"PATH": f"{tmp_path}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        timeout=2 * SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "Custom response of test-model (test-key) to: Test message"
