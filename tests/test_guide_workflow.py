"""The guide's workflow, to its last line: a plugin of its sample, its configurations, serve and then call."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from host import run_file
from tests.servers import SECONDS, wait_until
from tests.test_guide_sample import RUN, SAMPLE
from tests.test_guide_yaml import CONFIGURE, INTEGRATION

pytestmark = pytest.mark.slow


def executable(folder: Path, name: str) -> str:
    """`./NAME`, the guide's Python sample as a program that takes no arguments; its `address`.

    Ours in it: the variable of its key, which has the plugin's name, and the address, so that no port has to be free.
    """
    address = f"unix:{folder / 's'}"
    variable = name.replace("-", "_").upper() + "_API_KEY"
    sample = SAMPLE.replace("LISTEN_ADDRESS", address).replace("CUSTOM_LLM_API_KEY", variable)
    (folder / "sample.py").write_text(sample)
    (folder / "run.py").write_text(RUN.replace("yield word", 'yield f"{model}/{self.api_key}:{word} "'))
    (folder / name).write_text(f'#!/bin/sh\nexec {sys.executable} "$(dirname "$0")/run.py"\n')
    (folder / name).chmod(0o755)
    return address


@contextmanager
def host(folder: Path, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, "-m", "host", *arguments],
        cwd=folder,
        env={**os.environ, "MY_PLUGIN_API_KEY": "test-key"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
                try:
                    process.communicate(timeout=SECONDS)
                finally:
                    process.kill()


@pytest.mark.parametrize(
    ("config", "plugin", "agent", "options"),
    [(INTEGRATION, "test-plugin", "test_agent", ()), (CONFIGURE, "my-plugin", "my_agent", ("--llm", "custom"))],
    ids=["integration", "configure"],
)
def test_serve_then_call(tmp_path: Path, config: str, plugin: str, agent: str, options: tuple[str, ...]) -> None:
    """`serve --config FILE &`, then `call AGENT "Hello"`, with the guide's two files, answers with what the plugin
    said, which has its key; without a `serve` too."""
    address = executable(tmp_path, plugin)
    path = f'path: "./{plugin}"'
    assert path in config
    file = tmp_path / "config.yaml"
    file.write_text(config.replace(path, f'{path}\n      address: "{address}"'))
    call = ("call", agent, "Test message", *options, "--config", str(file))
    model = "test-model" if agent == "test_agent" else "custom-model"
    answer = (0, f"{model}/test-key:Test {model}/test-key:message\n")
    with host(tmp_path, "serve", "--config", str(file)) as serving:
        wait_until(lambda: bool(run_file.read(tmp_path / ".hector")) or serving.poll() is not None, "host")
        with host(tmp_path, *call) as calling:
            stdout, stderr = calling.communicate(timeout=SECONDS)
        assert (calling.returncode, stdout) == answer, stderr
    assert serving.returncode == 0
    with host(tmp_path, *call) as calling:
        stdout, stderr = calling.communicate(timeout=SECONDS)
    assert (calling.returncode, stdout) == answer, stderr
