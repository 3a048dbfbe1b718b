"""The admin command line, against a plugin that runs and on a folder that is at rest."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.servers import Plugin, environment, start_plugin


def admin(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "plugins.vector_hnsw.admin", *arguments]
    return subprocess.run(argv, cwd=folder, env=environment(), capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("admin")
    chance = np.random.default_rng(1)
    with (folder / "in.jsonl").open("w") as file:
        for number in range(1200):
            metadata = {"n": number, "big": 2**60 + number, "text": "ä\n"}
            item = {"id": f"v{number}", "vector": chance.normal(size=8).tolist(), "metadata": metadata}
            file.write(json.dumps(item) + "\n")
    return folder


@pytest.fixture(scope="module")
def plugin(folder: Path) -> Iterator[Plugin]:
    with start_plugin("plugins.vector_hnsw", "--data-dir", str(folder / "data")) as plugin:
        done = admin("import", "docs", "in.jsonl", "--address", plugin.address, folder=folder)
        assert done.returncode == 0, done.stderr
        assert "imported 1,200 vectors" in done.stderr
        yield plugin


def items(path: Path) -> dict[str, object]:
    return {item["id"]: item for item in map(json.loads, path.read_text().split("\n")[:-1]) if "id" in item}


@pytest.mark.slow
def test_round_trips(plugin: Plugin, folder: Path) -> None:
    """What was imported is exported the same, as JSON Lines and through .npz, large integers included."""
    at = ("--address", plugin.address)
    assert admin("export", "docs", "out.jsonl", *at, folder=folder).returncode == 0
    assert admin("export", "docs", "out.npz", *at, folder=folder).returncode == 0
    assert admin("import", "copy", "out.npz", *at, folder=folder).returncode == 0
    assert admin("export", "copy", "copy.jsonl", *at, folder=folder).returncode == 0
    out = items(folder / "out.jsonl")
    assert out == items(folder / "copy.jsonl")
    for name, item in items(folder / "in.jsonl").items():
        assert out[name]["metadata"] == item["metadata"]  # type: ignore[index]
        assert np.array_equal(np.float32(out[name]["vector"]), np.float32(item["vector"]))  # type: ignore[index]


def test_looking(plugin: Plugin, folder: Path) -> None:
    """ls, describe and count tell what is there."""
    at = ("--address", plugin.address)
    assert "docs        1,200    8          cosine" in admin("ls", *at, folder=folder).stdout
    about = json.loads(admin("describe", "docs", *at, folder=folder).stdout)
    assert (about["count"], about["dimension"]) == ("1200", 8)
    assert admin("count", "docs", *at, folder=folder).stdout == "1200\n"


@pytest.mark.slow
def test_aliases_and_index(plugin: Plugin, folder: Path) -> None:
    """A collection gets an alias, which every command takes, and loses it; its index parameters are changed."""
    at = ("--address", plugin.address)
    assert admin("alias", "live", "docs", *at, folder=folder).stdout == "live: docs\n"
    assert admin("alias", "live", "docs", *at, folder=folder).stdout == "live: docs, before docs\n"
    assert "live   docs" in admin("aliases", *at, folder=folder).stdout
    assert "live" in admin("ls", *at, folder=folder).stdout
    assert admin("count", "live", *at, folder=folder).stdout == "1200\n"
    assert admin("export", "live", "live.jsonl", *at, folder=folder).returncode == 0
    again = admin("import", "live", "live.jsonl", *at, folder=folder)
    assert (again.returncode, admin("count", "docs", *at, folder=folder).stdout) == (0, "1200\n"), again.stderr
    changed = admin("index", "live", "--m", "8", "--ef-search", "70", *at, folder=folder)
    assert changed.stdout.startswith("docs: m 8, ef_construction 200, ef_search 70")
    assert "names nothing to change" in admin("index", "docs", *at, folder=folder).stderr
    assert "m must be 2 to 128, not 1000" in admin("index", "docs", "--m", "1000", *at, folder=folder).stderr
    assert admin("unalias", "live", *at, folder=folder).stdout == "live: nothing, before docs\n"


def test_snapshots(plugin: Plugin, folder: Path) -> None:
    """A snapshot can be taken, listed and restored by name."""
    at = ("--address", plugin.address)
    assert "sha256" in admin("snapshot", "docs", "first", *at, folder=folder).stdout
    assert "docs        first" in admin("snapshots", *at, folder=folder).stdout
    assert admin("restore", "docs", "first", *at, folder=folder).stdout == "docs: 1,200 vectors\n"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("count", "nope"), "there is no collection 'nope'"),
        (("restore", "docs", "nope"), "has no snapshot 'nope'"),
        (("import", "docs", "nope.jsonl"), "cannot read nope.jsonl"),
        (("import", "docs", "bad.jsonl"), 'bad.jsonl:2 is not {"id"'),
        (("export", "docs", "no/such/folder.jsonl"), "cannot write no/such/folder.jsonl"),
    ],
)
def test_mistakes(plugin: Plugin, folder: Path, arguments: tuple[str, ...], words: str) -> None:
    """A mistake is one line on stderr and exit status 2."""
    (folder / "bad.jsonl").write_text('{"id": "a", "vector": [1, 2, 3, 4, 5, 6, 7, 8]}\n{"id": 1}\n')
    done = admin(*arguments, "--address", plugin.address, folder=folder)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert words in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_verify(tmp_path: Path, folder: Path) -> None:
    """verify finds a folder sound, refuses one that is in use, and names the collection whose vector was altered."""
    with start_plugin("plugins.vector_hnsw", "--data-dir", str(tmp_path)) as plugin:
        admin("import", "docs", str(folder / "in.jsonl"), "--address", plugin.address, folder=folder)
        assert "is in use" in admin("verify", "--data-dir", str(tmp_path), folder=folder).stderr
        plugin.terminate()
    sound = admin("verify", "--data-dir", str(tmp_path), folder=folder)
    assert (sound.returncode, sound.stdout.count("sound")) == (0, 3)
    content = (tmp_path / "store.db").read_bytes()
    vector = np.float32(json.loads((folder / "in.jsonl").read_text().splitlines()[7])["vector"]).tobytes()
    at = content.index(vector)
    (tmp_path / "store.db").write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
    damaged = admin("verify", "--data-dir", str(tmp_path), folder=folder)
    assert damaged.returncode == 1
    assert "damaged  collection docs: item 'v7' of collection docs is damaged in the store (vector)" in damaged.stdout
