"""The images' locked requirements are those of pyproject.toml, at the versions of constraints.txt."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from tests.servers import ROOT

LOCKS = sorted((ROOT / "Dockerfiles" / "locks").glob("*.txt"))
# What an image has beside the extra of its own name.
MORE = {"embed_st": ("openvino", "offline_model")}
every_lock = pytest.mark.parametrize("lock", LOCKS, ids=lambda path: path.stem)


def _pins(file: Path) -> dict[str, str]:
    found = re.findall(r"^([A-Za-z0-9._-]+)==([^\s;\\]+)", file.read_text(encoding="utf-8"), re.MULTILINE)
    return {_normal(name): version for name, version in found}


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


@every_lock
def test_a_lock_has_the_versions_of_the_constraints(lock: Path) -> None:
    """Every package has the version that the tests run with, and its hashes; `make lock` writes them anew."""
    constraints, pins = _pins(ROOT / "constraints.txt"), _pins(lock)
    assert len(pins) > 5
    assert not {name: version for name, version in pins.items() if constraints.get(name, version) != version}
    blocks = re.split(r"^(?=[A-Za-z])", lock.read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert all("--hash=sha256:" in block for block in blocks if block.strip())


@every_lock
def test_a_lock_has_what_its_plugin_needs(lock: Path) -> None:
    """Each package that pyproject.toml names for the plugin is locked."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    wanted = [
        *project["dependencies"],
        *(line for name in (lock.stem, *MORE.get(lock.stem, ())) for line in extras[name]),
    ]
    names = {_normal(re.split(r"[\[<>=!~ ;]", line, maxsplit=1)[0]) for line in wanted}
    assert names <= _pins(lock).keys()


def test_every_image_has_a_lock() -> None:
    """Each plugin has an image, and each image installs its lock alone, with hashes."""
    plugins = {path.parent.name for path in (ROOT / "plugins").glob("*/__main__.py")}
    files = {path.stem: path.read_text(encoding="utf-8") for path in (ROOT / "Dockerfiles").glob("*.Dockerfile")}
    assert files.keys() == plugins
    assert {lock.stem for lock in LOCKS} == plugins | {"embed_st_light"}
    for name, text in files.items():
        assert f"COPY Dockerfiles/locks/{name}.txt" in text
        assert len(re.findall(r"pip .*install .*--require-hashes", text)) == text.count("COPY Dockerfiles/locks/")
