"""What people download: bundles that need nothing but Python."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from tests.servers import ROOT, start_plugin

UV, CYCLONEDX = ROOT / ".venv-lock/bin/uv", ROOT / ".venv-lock/bin/cyclonedx-py"


@pytest.fixture(scope="module")
def downloads(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One plugin's."""
    made = subprocess.run(["make", ".venv-lock/.installed"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stderr
    folder = tmp_path_factory.mktemp("downloads")
    argv = [sys.executable, str(ROOT / "deploy/dist.py"), "--uv", str(UV), "--cyclonedx", str(CYCLONEDX)]
    done = subprocess.run(
        [*argv, "--to", str(folder), "--only", "reasoning_react"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return folder


def _unpacked(archive: Path, to: Path) -> Path:
    with tarfile.open(archive) as tar:
        tar.extractall(to, filter="data")
    (folder,) = to.iterdir()
    return folder


@pytest.mark.slow
def test_a_bundle_needs_python_alone(downloads: Path, tmp_path: Path) -> None:
    """Unpacked anywhere, a bundle of this platform starts with an interpreter that has no packages, and serves."""
    (archive,) = downloads.glob("reasoning-react-*-py3*.tar.gz")
    folder = _unpacked(archive, tmp_path)
    bare = shutil.which(f"python{sys.version_info.major}.{sys.version_info.minor}", path=f"{sys.base_prefix}/bin")
    assert bare
    blank = {name: "" for name in os.environ if name.startswith("PYTHON")}
    with start_plugin([bare, "-s", str(folder / "reasoning-react"), "--port", "0"], env=blank, cwd=tmp_path) as plugin:
        assert plugin.address
        assert plugin.terminate() == 0


@pytest.mark.slow
def test_bundles_of_other_platforms(downloads: Path, tmp_path: Path) -> None:
    """They hold our wheel, locked requirements of that platform with their hashes, the licence and what to type."""
    archives = [archive for archive in downloads.glob("reasoning-react-*.tar.gz") if "-py3" not in archive.name]
    assert len(archives) == 3
    for archive in archives:
        folder = _unpacked(archive, tmp_path / archive.name)
        assert {path.name for path in folder.iterdir()} == {
            "INSTALL.txt", "LICENSE", "requirements.txt", "sbom.cdx.json", next(downloads.glob("*.whl")).name
        }  # fmt: skip
        requirements = (folder / "requirements.txt").read_text()
        assert "grpcio==" in requirements
        assert "--hash=sha256:" in requirements


@pytest.mark.slow
def test_checksums_and_bills(downloads: Path) -> None:
    """SHA256SUMS is of every file there is, and each bundle has a bill of materials that names its packages."""
    lines = [line.split("  ") for line in (downloads / "SHA256SUMS").read_text().splitlines()]
    assert {name: digest for digest, name in lines} == {
        file.name: hashlib.sha256(file.read_bytes()).hexdigest()
        for file in downloads.iterdir()
        if file.name != "SHA256SUMS"
    }
    for archive in downloads.glob("reasoning-react-*.tar.gz"):
        bill = json.loads(archive.with_name(archive.name.removesuffix(".tar.gz") + ".cdx.json").read_text())
        assert "grpcio" in {part["name"] for part in bill["components"]}


def test_a_folder_of_somebody_is_left_alone(tmp_path: Path) -> None:
    """Where the folder holds what no run has written, nothing is removed, and the error says what."""
    (tmp_path / "thesis.pdf").touch()
    argv = [sys.executable, str(ROOT / "deploy/dist.py"), "--uv", "uv", "--cyclonedx", "cyclonedx-py"]
    done = subprocess.run([*argv, "--to", str(tmp_path)], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "thesis.pdf" in done.stderr
    assert (tmp_path / "thesis.pdf").exists()
