"""`python -m host index` and `search`, against plugins that run in the test's own process."""

from __future__ import annotations

import hashlib
import json
import os
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

import host.index
from host import commands, demo
from host.clients import Collection
from host.config import load
from host.connect import CallFailed
from host.search import excerpt
from plugins.vector_hnsw.engine import Item
from shared.errors import StartError
from tests.host_bench import Bench, beside_a_store, texts
from tests.host_fakes import fakes
from tests.vector_wire import Database


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with fakes() as fake:
        yield Bench(fake, tmp_path)


def test_a_second_run_embeds_nothing(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    """A file that did not change is not embedded again, and the last lines say so."""
    bench.write("a.md", "cats purr", "dogs bark")
    bench.write("sub/b.md", "birds sing")
    assert len(bench.index()) == 3
    assert bench.fake.ids == {"a.md#0", "a.md#1", "sub/b.md#0"}
    assert bench.index() == []
    assert "2 files read, 2 unchanged, 0 chunks embedded, 0 removed" in capsys.readouterr().out


def test_only_the_changed_file_is_embedded_again(bench: Bench) -> None:
    """After a change in one file just that file's chunks are embedded, below their path and heading."""
    bench.write("a.md", "cats purr")
    bench.write("b.md", "dogs bark")
    bench.index()
    bench.write("b.md", "dogs sleep")
    assert bench.index() == ["b.md > 0\n\n# 0\n\ndogs sleep"]


def test_chunks_of_a_file_that_is_gone_or_shrunk_are_removed(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    """What a removed file had, and what a shorter one has no more, leaves the collection."""
    bench.write("gone.md", "one", "two")
    bench.write("shrunk.md", "one", "two", "three")
    bench.index()
    (bench.docs / "gone.md").unlink()
    bench.write("shrunk.md", "one")
    bench.index()
    assert bench.fake.ids == {"shrunk.md#0"}
    assert "1 files read, 0 unchanged, 1 chunks embedded, 4 removed" in capsys.readouterr().out


def test_an_interrupted_run_resumes(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that broke off keeps what it finished: the next embeds the rest, and the result is the same."""
    monkeypatch.setattr(host.index, "GROUP_CHUNKS", 4)
    monkeypatch.setattr(host.index, "TEXTS_AT_ONCE", 2)
    for number in range(6):
        bench.write(f"{number}.md", "one", "two")
    bench.fake.embedder.fail_after = 7
    with pytest.raises(CallFailed, match=r"plugin words at .*: UNAVAILABLE: the fake was told to fail"):
        bench.index()
    bench.fake.embedder.fail_after = None
    assert len(bench.index()) == 8  # the first group of two files, four chunks, was whole
    assert len(bench.fake.ids) == 12


@pytest.mark.parametrize("lost", ["UpsertVectors", "DeleteVectors"])
def test_no_id_outlives_its_chunk_after_a_crash_in_between(bench: Bench, lost: str) -> None:
    """A run that dies after a write that it never heard of leaves nothing behind, even if the file changed since."""
    bench.write("a.md", "one")
    bench.index()
    bench.write("a.md", "one", "two", "three")
    if lost == "DeleteVectors":
        bench.index()
        bench.write("a.md", "four")
    bench.fake.database.lose_next.add(lost)
    with pytest.raises(CallFailed, match="the reply was lost"):
        bench.index()
    bench.write("a.md", "five")
    bench.write("b.md", "six")
    bench.index()
    assert bench.fake.ids == {"a.md#0", "b.md#0"}
    assert [v.metadata["text"] for v in bench.fake.database.collections["docs"].vectors.values()] == [
        "# 0\n\nfive",
        "# 0\n\nsix",
    ]


@pytest.mark.parametrize("reply", ["arrives", "is lost"])
def test_a_collection_that_was_dropped_is_filled_again(bench: Bench, reply: str) -> None:
    """When the collection had to be made anew nothing counts as unchanged, also if the answer to that was lost."""
    bench.write("a.md", "cats purr")
    bench.index()
    del bench.fake.database.collections["docs"]
    if reply == "is lost":
        bench.fake.database.lose_next.add("CreateCollection")
        with pytest.raises(CallFailed):
            bench.index()
    assert len(bench.index()) == 1
    assert bench.fake.ids == {"a.md#0"}


def test_other_chunk_settings_embed_everything_again(bench: Bench) -> None:
    """With another chunk size everything is embedded again and chunks that are no more are removed."""
    (bench.docs / "a.txt").write_text("\n\n".join("word " * 15 for _ in range(6)))
    bench.configure(chunk_chars=100, chunk_overlap=0)
    assert len(bench.index()) == 6
    bench.configure(chunk_chars=1000)
    assert len(bench.index()) == 1
    assert bench.fake.ids == {"a.txt#0"}


def test_a_collection_of_another_model_is_refused_and_kept(bench: Bench) -> None:
    """With another model the error names the remedy; going back to the first, nothing has to be embedded again."""
    bench.write("a.md", "cats purr")
    bench.index()
    bench.fake.embedder.model = "other-model"
    with pytest.raises(StartError, match=r"model is fake-model, but plugin words at .* has other-model; change one"):
        bench.index()
    text = bench.config.read_text()
    bench.config.write_text(text.replace("fake-model", "other-model"))
    with pytest.raises(CallFailed, match="exists with model fake-model; name another `collection`"):
        bench.index()
    bench.config.write_text(text)
    bench.fake.embedder.model = "fake-model"
    assert bench.index() == []


def test_a_refused_collection_costs_nothing_later(bench: Bench) -> None:
    """When the database says no to the collection, what the manifest knows stays good."""
    bench.write("a.md", "cats purr")
    bench.index()
    stored = bench.fake.database.collections["docs"]
    stored.dimension += 1
    with pytest.raises(CallFailed, match="for model fake-model with 64 dimensions, or delete this one"):
        bench.index()
    stored.dimension -= 1
    assert bench.index() == []


def test_a_wrong_dimension_is_refused(bench: Bench) -> None:
    """A dimension in the YAML that is not the embedder's stops the run before anything is written."""
    bench.configure(dimension=63)
    with pytest.raises(StartError, match=r"databases.store.config.dimension is 63, but plugin words .* has 64"):
        bench.index()
    assert not bench.fake.database.collections


def test_two_roots_share_a_collection(bench: Bench, tmp_path: Path) -> None:
    """Another folder's files in the same collection are neither removed nor embedded again."""
    bench.write("a.md", "cats purr")
    bench.index()
    first, bench.docs = bench.docs, tmp_path / "other"
    bench.write("a.md", "dogs bark")
    assert len(bench.index()) == 1
    assert len(bench.fake.database.collections["docs"].vectors) == 2
    bench.docs = first
    assert bench.index() == []


def test_a_demo_answers_from_its_own_folder_only(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    """`demo` finds nothing of what was indexed before, of another folder's demo included."""
    bench.write("a.md", "cats purr loudly")
    bench.index()
    config, other = load(bench.config), bench.folder / "other"
    demo.demo(config, bench.docs, "cats purr loudly", keep=False)
    other.mkdir()
    (other / "b.md").write_text("dogs bark")
    capsys.readouterr()
    demo.demo(config, other, "cats purr loudly", keep=False)
    answer = capsys.readouterr().out.partition("Q: ")[2]
    assert "b.md:1" in answer
    assert "a.md" not in answer
    assert f"demo {other} -q 'your own question'" in answer


def test_what_is_no_document_is_skipped_and_counted(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    """Hidden, foreign, generated, binary and oversized files are left out, and the last line says how many."""
    bench.write("a.md", "cats purr")
    for path in (".git/x.md", "node_modules/x.md", "__pycache__/x.md", ".env", "x_pb2.py", "x_pb2_grpc.pyi", "x.png"):
        bench.write(path, "no")
    (bench.docs / "venv").mkdir()
    (bench.docs / "venv" / "pyvenv.cfg").touch()
    (bench.docs / "zero.txt").write_bytes(b"a\0b")
    (bench.docs / "large.txt").write_bytes(b"a" * (2**20 + 1))
    (bench.docs / "broken.txt").symlink_to("nowhere")
    bench.index()
    assert bench.fake.ids == {"a.md#0"}
    assert capsys.readouterr().out.splitlines()[-1] == (
        "skipped: 1 binary or of an unknown encoding, 1 hidden, 2 hidden or foreign folder, 2 ignored, "
        "2 ignored folder, 1 of no kind that is read, 1 over 1 MiB, 1 unreadable"
    )


def test_links_lead_nowhere_else(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    """A link is read where it leads to a file of the folder that is not read by itself, and never out of it, to /proc,
    or to what is hidden."""
    bench.write("sub/a.md", "cats purr")
    bench.write("sub/b.unknown", "dogs bark")
    bench.write(".hidden/key.md", "a secret")
    secret = bench.folder / "secret.txt"
    secret.write_text("a secret")
    for name, target in {
        "twice.md": "sub/a.md",
        "good.md": "sub/b.unknown",
        "better.md": "sub/b.unknown",
        "out.txt": str(secret),
        "up.txt": "../secret.txt",
        "mapped.txt": "/proc/self/environ",
        "zero.txt": "/dev/zero",
        "hidden.md": ".hidden/key.md",
        "circle.md": "circle.md",
        "outside": "..",
        "inside": "sub",
    }.items():
        (bench.docs / name).symlink_to(target)
    assert len(bench.index()) == 2
    assert bench.fake.ids == {"sub/a.md#0", "better.md#0"}
    assert capsys.readouterr().out.splitlines()[-1] == (
        "skipped: 1 hidden, 1 hidden or foreign folder, 5 link out of the folder, 2 link to another document, "
        "1 of no kind that is read, 1 unreadable"
    )


def test_what_is_no_plain_file_is_never_opened(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    """A pipe that nobody writes to and a socket are skipped, not waited for."""
    bench.write("a.md", "cats purr")
    os.mkfifo(bench.docs / "pipe.txt")
    with socket.socket(socket.AF_UNIX) as listener:
        here = os.open(bench.docs, os.O_RDONLY)
        listener.bind(f"/proc/self/fd/{here}/socket.txt")
        os.close(here)
        bench.index()
    assert bench.fake.ids == {"a.md#0"}
    assert capsys.readouterr().out.splitlines()[-1] == "skipped: 2 not a regular file"


def test_a_file_that_grows_meanwhile_is_not_read_to_its_end(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """What counts is how much is read, not the size that a file had before: no more than the largest document's."""
    bench.write("a.md", "cats purr")
    file = bench.docs / "grows.txt"
    file.write_text("x")
    inode, fstat = file.stat().st_ino, os.fstat

    def grow(descriptor: int) -> os.stat_result:
        about = fstat(descriptor)
        if about.st_ino == inode:
            os.truncate(file, 2**40)
        return about

    monkeypatch.setattr("host.documents.os.fstat", grow)
    bench.index()
    assert file.stat().st_size == 2**40
    assert bench.fake.ids == {"a.md#0"}


@pytest.fixture
def deep(bench: Bench) -> Iterator[str]:
    """A file 1,200 folders deep in the documents: its path. Taken away again, since Python's rmtree cannot."""
    depth = 1200
    bench.docs.joinpath("d").mkdir()
    here = os.open(bench.docs / "d", os.O_RDONLY)
    for _ in range(depth - 1):
        os.mkdir("d", dir_fd=here)
        inner = os.open("d", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = inner
    with open(os.open("a.md", os.O_WRONLY | os.O_CREAT, dir_fd=here), "w") as file:
        file.write("cats purr")
    os.close(here)
    yield "/".join("d" * depth) + "/a.md"
    subprocess.run(["rm", "-rf", str(bench.docs / "d")], check=True)


@pytest.mark.slow
def test_folders_may_be_deeper_than_a_stack(bench: Bench, deep: str) -> None:
    """A file 1,200 folders deep is found like any other."""
    (text,) = bench.index()
    assert text.startswith(f"{deep}\n")


@pytest.mark.parametrize(
    "content",
    [
        "[" * 200_000,
        '{"whole": true, "settings": {}, "roots": {"x": 7}}',
        '{"whole": true, "settings": {}, "roots": {"ROOT": {"a.md": ["", 1e12]}}}',
        '{"whole": true, "settings": {}, "roots": {"ROOT": {"b.md": ["", 1000000000000]}}}',
        '{"whole": true, "settings": {}, "roots": {"ROOT": {"b.md": [[], "2"]}}}',
        '{"whole": true, "settings": {}, "roots": {"ROOT": {"\\ud800.md": ["", 2]}}}',
    ],
    ids=["deep", "no entries", "float", "chunks without end", "types", "no UTF-8"],
)
def test_a_manifest_of_nonsense_is_none(bench: Bench, content: str) -> None:
    """A manifest that says what none can say is taken for a missing one: everything is embedded again."""
    bench.write("a.md", "cats purr")
    bench.index()
    (manifest,) = (bench.folder / ".hector").glob("index-*.json")
    assert manifest.stat().st_mode & 0o777 == 0o600
    assert manifest.parent.stat().st_mode & 0o777 == 0o700
    manifest.write_text(content.replace("ROOT", str(bench.docs)))
    assert len(bench.index()) == 1
    assert bench.index() == []


def test_a_foreign_passage_is_shown_harmlessly(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    """Control sequences of a document or of its name do not reach the terminal; a line number that is none is 0."""
    bench.write("a.md", "cats purr \x1b]0;owned\x07 \x9b31m")
    bench.index()
    (stored,) = bench.fake.database.collections["docs"].vectors.values()
    stored.metadata.update({"line": "seven", "end_line": float("nan"), "path": "a\nb\x1b[2J.md"})
    capsys.readouterr()
    bench.search("cats purr")
    shown = capsys.readouterr().out
    assert ":0  score" in shown
    assert not [c for c in shown if not c.isprintable() and c != "\n"]
    assert len(shown.splitlines()) < 8
    bench.search("cats purr", as_json=True)
    printed = capsys.readouterr().out
    assert json.loads(printed)["path"] == "a\nb\x1b[2J.md"
    assert printed[:-1].isprintable()


def test_the_metadata_says_where_a_passage_is(bench: Bench) -> None:
    """A chunk is stored with path, root, lines, heading and its own text, and each call names the model."""
    bench.write("sub/a.md", "cats purr")
    bench.index()
    (stored,) = bench.fake.database.collections["docs"].vectors.values()
    assert dict(stored.metadata) == {
        "path": "sub/a.md",
        "root": str(bench.docs),
        "line": 1,
        "end_line": 3,
        "heading": "0",
        "text": "# 0\n\ncats purr",
        "sha256": hashlib.sha256((bench.docs / "sub/a.md").read_bytes()).hexdigest(),
        "chunk_chars": 1000,
        "chunk_overlap": 100,
    }
    bench.search("cats")
    assert set(bench.fake.database.models) == {"fake-model"}


def test_search_prints_place_heading_and_score(
    bench: Bench, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The best passage comes first, with file and line as an editor takes them, its score and its text."""
    bench.write("a.md", "cats purr softly", "dogs bark loudly [bold]")
    bench.index()
    monkeypatch.chdir(bench.folder)
    capsys.readouterr()
    bench.search("dogs bark loudly", limit=1)
    head, *text = capsys.readouterr().out.splitlines()
    assert head.startswith("1. docs/a.md:5  score 0.")
    assert head.endswith("  1")
    assert [line.strip() for line in text if line.strip()] == ["# 1", "dogs bark loudly [bold]"]
    assert bench.fake.embedder.queries == ["dogs bark loudly"]


def test_search_prints_json_lines(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    """With --json each passage is one JSON object on a line of its own."""
    bench.write("a.md", "cats purr", "dogs bark")
    bench.index()
    capsys.readouterr()
    bench.search("cats purr", as_json=True)
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(passage["rank"], passage["path"], passage["line"]) for passage in found] == [
        (1, "a.md", 1),
        (2, "a.md", 5),
    ]


def test_search_before_index_says_what_to_do(bench: Bench) -> None:
    """A search in a collection that does not exist is one line that names the remedy."""
    with pytest.raises(CallFailed, match="no collection docs; `python -m host index DIR` makes and fills it"):
        bench.search("anything")


def test_a_server_that_is_not_there_is_named(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nothing listens at a configured address the error names plugin and address."""
    monkeypatch.setattr("host.supervisor.REACH_SECONDS", 0.2)
    bench.config.write_text(bench.config.read_text().replace(bench.fake.address, "127.0.0.1:1"))
    with pytest.raises(StartError, match=r"plugin vectors at 127\.0\.0\.1:1 is UNREACHABLE; start it"):
        bench.search("anything")


def test_a_long_passage_is_shown_where_it_answers() -> None:
    """The excerpt of a long passage is the part that has the question's words."""
    lines = [f"line {n}" for n in range(30)]
    lines[20] = "here it purrs"
    shown = excerpt("\n".join(lines), "what purrs here?").split("\n")
    assert "here it purrs" in shown
    assert (shown[0], shown[-1], len(shown)) == ("…", "…", 10)


# ---------------------------------------------------------------- a real store


@pytest.fixture
def real(tmp_path: Path) -> Iterator[tuple[Bench, Database]]:
    with beside_a_store(tmp_path) as both:
        yield both


def test_what_was_put_back_is_brought_up(real: tuple[Bench, Database], capsys: pytest.CaptureFixture[str]) -> None:
    """After a restore of an older copy the edited file is embedded again, and a new one; the rest is not."""
    bench, database = real
    bench.write("a.md", "cats purr", "dogs bark")
    bench.write("same.md", "birds sing")
    bench.index()
    database.engine.create_snapshot("docs", "s")
    bench.write("a.md", "cats sleep")
    bench.write("new.md", "fish swim")
    bench.index()
    wanted = texts(database)
    database.engine.restore_snapshot("docs", "s")
    assert texts(database) != wanted
    assert len(bench.index()) == 2
    assert texts(database) == wanted
    assert bench.index() == []
    assert "3 unchanged" in capsys.readouterr().out


def test_a_vector_that_was_deleted_comes_back(real: tuple[Bench, Database]) -> None:
    """What somebody deleted through the API is made again, and what somebody put among the file's ids is removed."""
    bench, database = real
    bench.write("a.md", "cats purr", "dogs bark")
    bench.write("b.md", "birds sing")
    bench.index()
    wanted = texts(database)
    items, _ = database.engine.page("docs", with_vectors=True)
    database.engine.delete_vectors("docs", [items[0].id])
    stray = Item(items[0].id.replace("#0", "#99"), items[0].vector, items[0].metadata)
    database.engine.upsert("docs", [stray, Item("foreign", items[0].vector)])
    assert len(bench.index()) == 2
    assert database.engine.get("docs", ["foreign"])
    database.engine.delete_vectors("docs", ["foreign"])
    assert texts(database) == wanted


def test_an_unchanged_store_is_not_read(real: tuple[Bench, Database], monkeypatch: pytest.MonkeyPatch) -> None:
    """Where count and sequence are those that the last run left, also of another folder, nothing is listed."""
    bench, _ = real
    bench.write("a.md", "cats purr")
    bench.index()
    other = bench.folder / "other"
    other.mkdir()
    (other / "b.md").write_text("dogs bark")
    config = load(bench.config)
    monkeypatch.setattr(Collection, "stored", lambda self: pytest.fail("it was listed"))
    assert commands.index(config, other, config.database()) == 0
    assert bench.index() == []
    assert bench.index() == []


def test_a_copy_that_was_put_back_counts_for_every_folder(real: tuple[Bench, Database]) -> None:
    """Each folder of a collection that was put back is brought up, whichever is indexed first."""
    bench, database = real
    other = bench.folder / "other"
    other.mkdir()
    config = load(bench.config)
    bench.write("a.md", "cats purr")
    bench.index()
    database.engine.create_snapshot("docs", "s")
    bench.write("a.md", "cats sleep")
    (other / "b.md").write_text("dogs bark")
    bench.index()
    assert commands.index(config, other, config.database()) == 0
    wanted = texts(database)
    database.engine.restore_snapshot("docs", "s")
    assert commands.index(config, other, config.database()) == 0
    bench.index()
    assert texts(database) == wanted


# ---------------------------------------------------------------- patterns


def paths(bench: Bench, *include: str, exclude: tuple[str, ...] = ()) -> set[str]:
    config = load(bench.config)
    assert commands.index(config, bench.docs, config.database(), include, exclude) == 0
    return {one.rpartition("#")[0] for one in bench.fake.ids}


def test_patterns_mean_what_they_mean_in_git(bench: Bench) -> None:
    """`**/` fits at the top too, a slash binds to the folder, `!` takes back, and a folder's name takes all in it."""
    for path in ("a.md", "sub/b.md", "sub/deep/c.md", "old/d.md", "e.txt"):
        bench.write(path, "words")
    markdown = {"a.md", "sub/b.md", "sub/deep/c.md", "old/d.md"}
    assert paths(bench, "**/*.md") == markdown
    assert paths(bench, "*.md") == markdown
    assert paths(bench, "sub/**/*.md") == {"sub/b.md", "sub/deep/c.md"}
    assert paths(bench, "/*.md") == {"a.md"}
    assert paths(bench, "sub/", "*.txt") == {"sub/b.md", "sub/deep/c.md", "e.txt"}
    assert paths(bench, exclude=("old/", "*.txt")) == markdown - {"old/d.md"}
    assert paths(bench, exclude=("sub/**", "!sub/deep/", "!sub/deep/**")) == {
        "a.md",
        "old/d.md",
        "e.txt",
        "sub/deep/c.md",
    }


def test_a_pattern_that_fits_nothing_removes_nothing(bench: Bench) -> None:
    """A pattern without a file is an error that names it, and the collection stays as it was."""
    bench.write("a.md", "words")
    before = paths(bench)
    with pytest.raises(StartError, match=r"--include docs/\*\.md fits no file below .*; nothing was changed"):
        paths(bench, "*.md", "docs/*.md")
    with pytest.raises(StartError, match="stars"):
        paths(bench, "*a*a*a*a*a*a*b")
    assert {one.rpartition("#")[0] for one in bench.fake.ids} == before


def test_gitignore_and_what_tools_write_are_left_out(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    """`.gitignore` files of every level count, above the folder too within a repository, and so do usual folders."""
    (bench.folder / ".git").mkdir()
    (bench.folder / ".gitignore").write_text("secret.md\n*a*a*a*a*a*a*b\n!\n")
    (bench.docs / ".gitignore").write_text("*.log\n/drafts/\n")
    for path in ("a.md", "secret.md", "x.log", "drafts/b.md", "sub/drafts/c.md", "sub/keep.log", "vendor/d.md"):
        bench.write(path, "words")
    for folder in ("build", "node_modules/x", "sub/dist", "target", "venv"):
        bench.write(f"{folder}/z.md", "words")
    for name in ("package-lock.json", "sub/pnpm-lock.yaml", "~$a.docx"):  # the last is of a Word that has a.docx open
        bench.write(name, "words")
    (bench.docs / "sub/.gitignore").write_text("!keep.log\n")
    assert paths(bench) == {"a.md", "sub/drafts/c.md", "sub/keep.log"}
    assert "ignored" in capsys.readouterr().out
    assert "vendor/d.md" in paths(bench, exclude=("!vendor/",))


def test_an_empty_question_is_named(bench: Bench) -> None:
    """`search ""` says what is wrong and asks no plugin."""
    for question in ("", "  \n"):
        with pytest.raises(StartError, match="the question is empty"):
            bench.search(question)
    assert bench.fake.embedder.queries == []


def test_a_gitignore_is_read_as_git_reads_it(bench: Bench, capfd: pytest.CaptureFixture[str]) -> None:
    """A byte order mark, line ends of Windows, escaped blanks, and signs that only Python takes for line ends
    mean what git says they do; nothing of a library reaches the terminal."""
    lines = [
        "\ufeffmarked.md",
        "windows.md\r",
        "blank\\ ",
        "a\x0cb.md",
        "c\rd.md",
        "[[q].md",
        "[[:digit:]].md",
        "old/** ",
    ]
    names = [
        "marked.md",
        "windows.md",
        "blank ",
        "b.md",
        "a\x0cb.md",
        "d.md",
        "xa",
        "xb",
        "x/a.md",
        "q.md",
        "7.md",
        "old/a.md",
    ]
    for name in names:
        bench.write(name, "words")
    (bench.docs / ".gitignore").write_bytes("\n".join(lines).encode())
    subprocess.run(["git", "init", "-q", str(bench.docs)], check=True)
    command = ["git", "-C", str(bench.docs), "ls-files", "--others", "--exclude-standard", "-z"]
    listed = subprocess.run(command, check=True, capture_output=True).stdout.decode().split("\0")
    # A class by its name is the one thing that is not taken: its line is passed over.
    assert paths(bench) == {name for name in listed if name and not name.startswith(".")} | {"7.md"}
    assert "Warning" not in capfd.readouterr().err
