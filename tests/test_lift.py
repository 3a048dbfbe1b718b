"""A plugin is a template: its folder, shared/ and proto/ run anywhere."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

import numpy
import pytest

from tests.servers import ROOT, start_plugin

WHERE = """
import sys, shared, hector_plugins_pb2, plugins.{0}.engine as engine
print(shared.__file__, hector_plugins_pb2.__file__, engine.__file__)
"""


@pytest.fixture
def python(tmp_path: Path) -> str:
    """An interpreter that has the dependencies but not this project."""
    venv.create(tmp_path / "venv", with_pip=False)
    packages = Path(numpy.__file__).parent.parent
    own = next((tmp_path / "venv").glob("lib/python*/site-packages"))
    # The folder that a .pth names is searched, but the .pth files in it, the project's among them, are not read.
    (own / "dependencies.pth").write_text(str(packages))
    return str(tmp_path / "venv" / "bin" / "python")


@pytest.mark.parametrize("plugin", ["vector_hnsw"])
def test_lifted(tmp_path: Path, python: str, plugin: str) -> None:
    """The plugin, shared/ and proto/ run in an empty folder with PYTHONPATH=.:proto and without this project."""
    lifted = tmp_path / "lifted"
    for folder in (f"plugins/{plugin}", "shared", "proto"):
        shutil.copytree(ROOT / folder, lifted / folder, ignore=shutil.ignore_patterns("__pycache__"))
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": f".{os.pathsep}proto"}

    found = subprocess.run(
        [python, "-c", WHERE.format(plugin)], cwd=lifted, env=env, capture_output=True, text=True, check=True
    )
    files = found.stdout.split()
    assert len(files) == 3
    assert all((lifted / file).resolve().is_relative_to(lifted.resolve()) for file in files)

    command = [python, "-m", f"plugins.{plugin}", "--port", "0", "--data-dir", str(tmp_path / "data")]
    with start_plugin(command, env=env, cwd=lifted) as running:
        assert running.terminate() == 0


def test_project_is_not_there(python: str, tmp_path: Path) -> None:
    """The interpreter of these tests has the dependencies and cannot import the project."""
    for module, status in (("numpy", 0), ("shared", 1), ("plugins.vector_hnsw", 1), ("hector_plugins_pb2", 1)):
        argv = [python, "-c", f"import {module}"]
        done = subprocess.run(argv, cwd=tmp_path, env={}, capture_output=True, check=False)
        assert done.returncode == status, module


@pytest.mark.slow
def test_wheel(python: str, tmp_path: Path) -> None:
    """The wheel holds the plugins, shared, the host and the generated modules, importable from any folder."""
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    subprocess.run([*pip, "wheel", "--no-deps", "--wheel-dir", str(tmp_path), str(ROOT)], check=True)
    (wheel,) = tmp_path.glob("*.whl")
    own = next((tmp_path / "venv").glob("lib/python*/site-packages"))
    shutil.unpack_archive(wheel, own, "zip")
    script = WHERE.format("vector_hnsw") + "import host, plugins.embed_st, hector_plugins_pb2_grpc\n"
    script += "from plugins.reasoning_react.engine.prompts import load; load()"
    done = subprocess.run([python, "-c", script], cwd=tmp_path, env={}, capture_output=True, text=True, check=True)
    assert all(Path(file).is_relative_to(own) for file in done.stdout.split())
    assert (own / "hector_plugins_pb2.pyi").is_file()
    assert not (own / "tests").exists()
