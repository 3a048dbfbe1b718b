"""A plugin that is copied and renamed is that plugin by its new name: in its help, its settings and its remedies."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from plugins.embed_st.engine.model import _INSTALLED_BY
from shared.config import from_environment, misspelt_variables
from tests.servers import ROOT, environment, run_plugin, start_plugin
from tests.toy_plugin import Config

PLUGINS = sorted(path.parent.name for path in (ROOT / "plugins").glob("*/__main__.py"))
COMMANDS = [
    (plugin, command)
    for plugin in PLUGINS
    for command in ("admin", "chat", "policy", "run")
    if (ROOT / "plugins" / plugin / f"{command}.py").exists()
]


def copied(folder: Path, plugin: str, *, to: str) -> dict[str, str]:
    """Copies the plugin's folder to `folder`/`to`; the environment in which the copy can be imported."""
    shutil.copytree(ROOT / "plugins" / plugin, folder / to, ignore=shutil.ignore_patterns("__pycache__"))
    return {"PYTHONPATH": os.pathsep.join([str(folder), environment()["PYTHONPATH"]])}


def of_the_original(plugin: str, text: str) -> list[str]:
    return re.findall(rf"plugins\.\w+|{plugin}|{plugin.upper()}|hector-plugins\[", text)


@pytest.mark.parametrize(
    "plugin", [pytest.param(name, marks=() if name == "llm_openai" else pytest.mark.slow) for name in PLUGINS]
)
def test_a_copy_is_called_what_it_is_called(plugin: str, tmp_path: Path) -> None:
    """--help and errors of a copy at the top name it and its variables, which it reads, and none of the original's."""
    env = copied(tmp_path, plugin, to="my_copy")
    shown = run_plugin("my_copy", "--help", env=env, cwd=tmp_path)
    assert (shown.returncode, shown.stderr) == (0, "")
    assert shown.stdout.startswith("usage: python -m my_copy ")
    assert "python -m my_copy --port" in shown.stdout
    assert "MY_COPY__KEY" in shown.stdout
    assert of_the_original(plugin, shown.stdout) == []

    settings = {"MY_COPY__MAX_CONCURRENT": "7", f"{plugin.upper()}__MAX_CONCURRENT": "8"}
    check = run_plugin("my_copy", "--check", env=env | settings, cwd=tmp_path)
    assert check.returncode == 0, check.stderr
    assert "max_concurrent: 7  # environment\n" in check.stdout
    assert of_the_original(plugin, check.stdout) == []


@pytest.mark.parametrize("plugin", PLUGINS)
def test_a_copy_runs_its_own_code(plugin: str, tmp_path: Path) -> None:
    """A copy whose engine is no longer there does not start: nothing of the original runs in its place."""
    env = copied(tmp_path, plugin, to="my_copy")
    engine = tmp_path / "my_copy" / "engine"
    shutil.rmtree(engine) if engine.is_dir() else engine.with_suffix(".py").unlink()
    done = run_plugin("my_copy", "--port", "0", env=env, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert "No module named 'my_copy.engine" in done.stderr


NOTHING_INSTALLED = """
import runpy, types, shared.cli
shared.cli.importlib = types.SimpleNamespace(util=types.SimpleNamespace(find_spec=lambda name: None))
runpy.run_module("my_copy", None, "__main__", True)
"""


@pytest.mark.parametrize("plugin", PLUGINS)
def test_a_copy_without_its_libraries(plugin: str, tmp_path: Path) -> None:
    """A copy whose libraries are not installed gives one command for them, with the bounds of pyproject.toml."""
    env = environment(copied(tmp_path, plugin, to="my_copy"))
    argv = [sys.executable, "-c", NOTHING_INSTALLED]
    done = subprocess.run(argv, capture_output=True, text=True, env=env, cwd=tmp_path, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    sentence, _, command = done.stderr.partition(": pip install ")
    assert re.fullmatch(r"error: \w+(, \w+)* (is|are) not installed", sentence)
    assert set(shlex.split(command)) <= set(extras()[plugin])


def extras() -> dict[str, list[str]]:
    with (ROOT / "pyproject.toml").open("rb") as file:
        found: dict[str, list[str]] = tomllib.load(file)["project"]["optional-dependencies"]
    return found


def test_what_the_embedders_backends_need() -> None:
    """The remedy for each backend of embed_st has the bounds of pyproject.toml."""
    named = {need for remedy in _INSTALLED_BY.values() for need in shlex.split(remedy)}
    assert named <= {need for extra in ("embed_st", "openvino", "onnx") for need in extras()[extra]}


def test_what_the_host_needs() -> None:
    """The remedy for a host without its libraries has the bounds of pyproject.toml."""
    text = (ROOT / "host" / "__main__.py").read_text(encoding="utf-8")
    needs = re.findall(r'"\w+": "(.+?)"', re.findall(r"installed\(\s*(\{.*?\})\s*\)", text, re.DOTALL)[0])
    assert set(needs) == set(extras()["host"])


@pytest.mark.parametrize(("plugin", "command"), COMMANDS)
def test_commands_of_a_copy(plugin: str, command: str, tmp_path: Path) -> None:
    """--help of a copy's other commands names the copy."""
    env = copied(tmp_path, plugin, to="my_copy")
    shown = run_plugin(f"my_copy.{command}", "--help", env=env, cwd=tmp_path)
    assert (shown.returncode, shown.stderr) == (0, "")
    assert f"python -m my_copy.{command} " in shown.stdout
    assert of_the_original(plugin, shown.stdout) == []


def test_a_copy_serves(tmp_path: Path) -> None:
    """A copy keeps its data in a folder of its own name, and finds itself in the guide's YAML by that."""
    env = copied(tmp_path, "vector_hnsw", to="my_copy")
    file = tmp_path / "hector.yaml"
    file.write_text(
        "plugins:\n  database_providers:\n"
        "    other: {type: grpc, path: plugins.vector_hnsw, config: {max_limit: 5}}\n"
        "    mine: {type: grpc, path: my_copy, config: {max_concurrent: 7}}\n"
    )
    command = [sys.executable, "-m", "my_copy", "--port", "0", "--config", str(file)]
    with start_plugin(command, env=env, cwd=tmp_path) as plugin:
        assert plugin.terminate() == 0
    assert (tmp_path / "data" / "my_copy").is_dir()
    assert not (tmp_path / "data" / "vector_hnsw").exists()


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("VECTOR_HNSW_DATA_DIR", "VECTOR_HNSW__DATA_DIR"),
        ("vector_hnsw_port", "VECTOR_HNSW__PORT"),
        ("VECTOR_HNSW_PORT__X", "VECTOR_HNSW__PORT__X"),
    ],
)
def test_one_underscore_too_few(name: str, meant: str, tmp_path: Path) -> None:
    """A variable with one underscore where two are meant is pointed out at the start, without its value."""
    done = run_plugin("plugins.vector_hnsw", "--check", env={name: "7331"}, cwd=tmp_path)
    assert done.returncode == 0
    assert f"warning: environment: {name} sets nothing; " in done.stderr
    assert f" is set by {meant}, with two underscores\n" in done.stderr
    assert "7331" not in done.stderr + done.stdout


def test_variables_that_mean_nothing() -> None:
    """What Kubernetes sets beside a service of the plugin's name, and names that only begin alike, are no mistakes."""
    environ = {
        "MY_DB_PORT": "tcp://10.0.0.1:8082",
        "MY_DB_PORT_8082_TCP": "tcp://10.0.0.1:8082",
        "MY_DB_SERVICE_HOST": "10.0.0.1",
        "MY_DB__PORT": "1",
        "MY_DBPORT": "1",
    }
    assert misspelt_variables(Config, "my_db", environ) == []
    assert from_environment(Config, "plugins.my_db", environ) == {"port": "1"}
