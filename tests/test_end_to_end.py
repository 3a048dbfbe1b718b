"""The main job on real input: this repository's documents go in, questions about them find the right passage."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.servers import ROOT, SECONDS, environment

pytestmark = pytest.mark.slow

# A question, where its answer stands, and words that the passage must have to be that answer.
QUESTIONS = [
    ("Is a write still there after a kill -9?", "plugins/vector_hnsw/README.md", "only when SQLite has synced it"),
    ("How do I make a plugin of my own?", "README.md", "The folder is a project that stands alone"),
    ("How do I regenerate the protobuf modules?", "CONTRIBUTING.md", "make generate-proto"),
    ("How do I add a new setting?", "CONTRIBUTING.md", "Add it to the plugin's `Config`"),
    ("What must a test say in its docstring?", "CONTRIBUTING.md", "A test states a claim"),
    (
        "What happens to a text that is longer than the model reads?",
        "plugins/embed_st/README.md",
        "`truncated` says so",
    ),
    ("Which environment variable sets the data folder?", "", "VECTOR_HNSW__DATA_DIR"),
    (
        "What does a plugin check before it lets somebody call from another machine?",
        "README.md",
        "it then checks the token",
    ),
]
# What the README itself asks.
(SAMPLE,) = re.findall(r'^python -m host search "(.*)"$', (ROOT / "README.md").read_text(), re.MULTILINE)
QUESTIONS.append((SAMPLE, "plugins/embed_st/README.md", "`truncated` says so"))


def host(folder: Path, *arguments: str) -> str:
    argv = [sys.executable, "-m", "host", *arguments]
    done = subprocess.run(argv, cwd=folder, env=environment(), capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A copy of the documents, indexed once by the plugins of a `serve` that runs meanwhile."""
    folder = tmp_path_factory.mktemp("repository")
    shutil.copy(ROOT / "hector.yaml", folder)
    for path in [*ROOT.glob("*.md"), *ROOT.glob("plugins/*/README.md")]:
        target = folder / path.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    argv = [sys.executable, "-m", "host", "serve"]
    serve = subprocess.Popen(argv, cwd=folder, env=environment(), stdout=subprocess.PIPE, text=True)
    assert serve.stdout is not None
    next(line for line in serve.stdout if "Ctrl-C" in line)
    host(folder, "index", ".", "--include", "*.md")
    yield folder
    serve.terminate()
    assert serve.wait(SECONDS) in (0, 130)


@pytest.mark.parametrize(("question", "path", "words"), QUESTIONS, ids=lambda value: str(value)[:30])
def test_right_passage_first(folder: Path, question: str, path: str, words: str) -> None:
    """The passage that answers the question comes first."""
    first = json.loads(host(folder, "search", question, "--json", "--limit", "3").splitlines()[0])
    assert first["path"] == (path or first["path"])
    assert words in " ".join(first["text"].split())
    assert first["text"].splitlines()[0] in (folder / first["path"]).read_text().splitlines()[first["line"] - 1]


def test_only_what_changed(folder: Path) -> None:
    """After an edit only that file is embedded again, and its new text is found."""
    first = host(folder, "index", ".", "--include", "*.md")
    assert "0 chunks embedded" in first
    files = int(first.split(" files read")[0].split()[-1])
    with (folder / "CHANGELOG.md").open("a") as file:
        # As long as a chunk, so that it is not the tail of another.
        file.write(
            "\n## A wombat\n\nThe wombat moved into the broom cupboard. It is a marsupial from Australia,\n"
            "where it lives in a burrow; here the broom cupboard is its home, and the marsupial sleeps there by day.\n"
            "At night it walks about the garden and eats grass. Whoever looks for the wombat in the morning finds it\n"
            "in the broom cupboard again, behind the brooms, where the marsupial has made a bed of dusters.\n"
        )
    assert f" {files - 1} unchanged" in host(folder, "index", ".", "--include", "*.md")
    found = host(folder, "search", "Where does the marsupial live?", "--json", "--limit", "1")
    assert "broom cupboard" in json.loads(found)["text"]


def test_make_run() -> None:
    """`make run` prints the table, answers, says what to try next, stops everything and ends with status 0."""
    done = subprocess.run(["make", "run"], cwd=ROOT, capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, done.stderr
    assert "SERVING" in done.stdout
    assert "plugins/vector_hnsw/README.md" in done.stdout.partition("Q: ")[2][:600]
    assert "To try next" in done.stdout
    assert not (ROOT / ".hector" / "run.json").exists()
