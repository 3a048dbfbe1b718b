"""`python -m host index` where folders were moved, are gone or lie in one another, and what it leaves out by name."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from host import commands
from host.clients import Collection
from host.config import load
from host.connect import CallFailed
from shared.errors import Code, StartError
from tests import host_files as files
from tests.host_bench import Bench, beside_a_store, texts
from tests.host_fakes import fakes
from tests.servers import environment
from tests.vector_wire import Database


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with fakes() as fake:
        yield Bench(fake, tmp_path)


@pytest.fixture
def real(tmp_path: Path) -> Iterator[tuple[Bench, Database]]:
    with beside_a_store(tmp_path) as both:
        yield both


def vectors(database: Database) -> set[bytes]:
    items, _ = database.engine.page("docs", size=1000, with_vectors=True)
    return {item.vector.tobytes() for item in items if item.vector is not None}


def places(database: Database) -> set[str]:
    """Each passage's file."""
    items, _ = database.engine.page("docs", size=1000)
    return {f"{about['root']}/{about['path']}" for about in (json.loads(item.metadata) for item in items)}


def prune(bench: Bench, folder: Path | None = None) -> None:
    config = load(bench.config)
    assert commands.index(config, folder, config.database(), prune=True) == 0


def move(bench: Bench, name: str) -> None:
    bench.docs = bench.docs.rename(bench.folder / name)


def test_a_moved_folder_is_taken_along(real: tuple[Bench, Database], capsys: pytest.CaptureFixture[str]) -> None:
    """After a move each passage is there once, at its new place, with its vector, and only what changed is embedded."""
    bench, database = real
    for name in ("a", "b", "sub/c", "changed", "gone"):
        bench.write(f"{name}.md", f"{name} one", f"{name} two")
    bench.index()
    before, embedded = texts(database), vectors(database)
    move(bench, "docs2")
    assert bench.index() == []
    assert texts(database) == before
    assert vectors(database) == embedded
    assert places(database) == {str(file) for file in bench.docs.rglob("*.md")}
    assert "docs is gone and its files are here: 10 chunks taken along" in capsys.readouterr().out.replace("\n", " ")
    assert bench.index() == []
    move(bench, "docs3")
    bench.write("changed.md", "changed three")
    (bench.docs / "gone.md").unlink()
    assert len(bench.index()) == 1
    assert places(database) == {str(file) for file in bench.docs.rglob("*.md")}
    assert len(texts(database)) == 7
    assert bench.index() == []


def test_a_folder_moved_below_or_above_is_not_there_twice(real: tuple[Bench, Database]) -> None:
    """Where the moved folder is a part of the one that is indexed, or that of it, the old passages go too."""
    bench, database = real
    for name in "abc":
        bench.write(f"{name}.md", f"{name} one")
    bench.index()
    (bench.folder / "all").mkdir()
    bench.docs.rename(bench.folder / "all" / "docs")
    bench.docs = bench.folder / "all"
    assert len(bench.index()) == 3  # what is embedded begins with the path
    assert places(database) == {str(file) for file in bench.docs.rglob("*.md")}
    (bench.folder / "all" / "docs").rename(bench.folder / "docs")
    bench.docs.rmdir()
    bench.docs = bench.folder / "docs"
    bench.index()
    assert places(database) == {str(file) for file in bench.docs.rglob("*.md")}


def test_a_copy_or_a_link_is_no_move(real: tuple[Bench, Database]) -> None:
    """A folder that is still there keeps its passages, and so does one that is gone and has little in common."""
    bench, database = real
    for name in "abc":
        bench.write(f"{name}.md", f"{name} one")
    bench.index()
    first = bench.docs
    bench.docs = Path(shutil.copytree(first, bench.folder / "copy"))
    assert len(bench.index()) == 3
    assert len(texts(database)) == 3
    assert len(places(database)) == 6
    shutil.rmtree(first)
    bench.docs = bench.folder / "other"
    bench.write("a.md", "a one")
    bench.index()
    assert len(places(database)) == 7


def test_a_folder_in_whose_place_is_a_link_was_moved(real: tuple[Bench, Database]) -> None:
    """After `mv docs docs2; ln -s docs2 docs` the passages are there once, whichever of the two is named."""
    bench, database = real
    bench.write("a.md", "a one")
    bench.index()
    first = bench.docs
    move(bench, "docs2")
    first.symlink_to(bench.docs)
    bench.docs = first
    assert bench.index() == []
    assert places(database) == {str(bench.folder / "docs2" / "a.md")}


@pytest.mark.parametrize("lost", ["get", "upsert", "delete"])
def test_a_move_that_was_cut_off_is_finished(
    real: tuple[Bench, Database], monkeypatch: pytest.MonkeyPatch, lost: str
) -> None:
    """A run that dies while it takes passages along leaves nothing that the next one does not put right."""
    bench, database = real
    for name in "abc":
        bench.write(f"{name}.md", f"{name} one", f"{name} two")
    bench.index()
    before = texts(database)
    move(bench, "docs2")
    calls = []
    original = getattr(Collection, lost)

    def dies(self: object, *arguments: object) -> object:
        calls.append(1)
        result = original(self, *arguments)
        if len(calls) == (1 if lost == "delete" else 2):
            raise CallFailed("the reply was lost", Code.UNAVAILABLE, answered=False)
        return result

    monkeypatch.setattr("host.moved._COPIED_AT_ONCE", 2)
    with monkeypatch.context() as patched:
        patched.setattr(Collection, lost, dies)
        with pytest.raises(CallFailed):
            bench.index()
    bench.index()
    assert texts(database) == before
    assert places(database) == {str(file) for file in bench.docs.rglob("*.md")}
    assert bench.index() == []


def test_a_store_that_gives_no_vectors_is_filled_anew(bench: Bench) -> None:
    """Where a plugin has no GetVectors a moved folder is embedded again, and the old passages go."""
    bench.write("a.md", "a one", "a two")
    bench.index()
    move(bench, "docs2")
    assert len(bench.index()) == 2
    stored = bench.fake.database.collections["docs"].vectors
    assert len(stored) == 2
    assert {vector.metadata["root"] for vector in stored.values()} == {str(bench.docs)}


def test_prune_takes_out_what_is_gone(real: tuple[Bench, Database], capsys: pytest.CaptureFixture[str]) -> None:
    """`index --prune` removes passages of files and folders that are gone, leaves all others, and embeds nothing."""
    bench, database = real
    bench.write("a.md", "a one", "a two")
    bench.write("b.md", "b one")
    bench.index()
    other = bench.docs = bench.folder / "other"
    bench.write("c.md", "c one", "c two")
    bench.write("new.md", "new one")
    bench.index()
    bench.write("d.md", "not indexed yet")
    (bench.folder / "docs" / "b.md").unlink()
    shutil.rmtree(other)
    capsys.readouterr()
    embedded = len(bench.fake.embedder.texts)
    prune(bench)
    assert set(texts(database)) == {"a.md#0", "a.md#1"}
    assert len(bench.fake.embedder.texts) == embedded
    told = capsys.readouterr().out
    assert f"3 chunks removed of {other}, which is gone" in told
    assert f"1 chunks removed of files that are gone from {bench.folder / 'docs'}" in told
    bench.docs = bench.folder / "docs"
    assert bench.index() == []


@pytest.mark.slow
def test_the_command(bench: Bench) -> None:
    """The command line has all of it: a folder, --verbose, --prune with and without a folder."""
    bench.write("a.md", "a one")
    bench.write("b.png", "no")

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        argv = [sys.executable, "-m", "host", "index", *arguments, "--config", str(bench.config)]
        return subprocess.run(argv, cwd=bench.folder, env=environment(), capture_output=True, text=True, check=False)

    done = run("docs", "--verbose")
    assert (done.returncode, done.stdout.splitlines()[0]) == (0, "skipped b.png: of no kind that is read")
    (bench.docs / "a.md").unlink()
    done = run("--prune")  # this store can list nothing
    assert (done.returncode, done.stdout) == (0, f"1 chunks removed of files that are gone from {bench.docs}\n")
    assert run().stderr == "error: which folder? Name the one that holds the documents, as in `index docs`\n"


def test_prune_leaves_what_others_indexed(real: tuple[Bench, Database], capsys: pytest.CaptureFixture[str]) -> None:
    """Passages that the list does not know may be another machine's: they stay, are told, and go only by name."""
    bench, database = real
    bench.write("a.md", "a one", "a two")
    bench.index()
    gone = bench.docs
    shutil.rmtree(gone)
    shutil.rmtree(bench.folder / ".hector")
    prune(bench)
    assert len(texts(database)) == 2
    assert f"2 chunks left of {gone}, which was indexed from elsewhere" in capsys.readouterr().out
    prune(bench, gone)
    assert texts(database) == {}


def test_prune_along_with_an_index(real: tuple[Bench, Database]) -> None:
    """`index DIR --prune` does both, in one go."""
    bench, database = real
    bench.write("a.md", "a one")
    bench.index()
    shutil.rmtree(bench.docs)
    bench.docs = bench.folder / "other"
    bench.write("b.md", "b one")
    prune(bench, bench.docs)
    assert set(texts(database)) == {"b.md#0"}


def test_prune_and_folders_that_are_none(bench: Bench) -> None:
    """Without --prune a folder is needed that is there, and a file is none with it either."""
    config = load(bench.config)
    bench.write("a.md", "a one")
    with pytest.raises(StartError, match=r"which folder\?"):
        commands.index(config, None, config.database())
    for folder, with_prune in ((bench.folder / "gone", False), (bench.docs / "a.md", True)):
        with pytest.raises(StartError, match="is not a folder; name the one that holds the documents"):
            commands.index(config, folder, config.database(), prune=with_prune)


def test_folders_in_one_another_are_told(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    """Where a folder is indexed and one within it too, the command that ends this is said, and does end it."""
    bench.write("a.md", "a one")
    bench.write("sub/b.md", "b one")
    bench.index()
    outer, bench.docs = bench.docs, bench.docs / "sub"
    bench.index()
    told = capsys.readouterr().out
    remedy = f"index {outer} --exclude /sub/"
    assert f"sub is indexed by itself too, so its passages are there twice: {remedy}" in told
    bench.docs = outer
    bench.index(exclude=["/sub/"])
    assert "twice" not in capsys.readouterr().out
    assert bench.fake.ids == {"a.md#0", "b.md#0"}


def test_what_is_left_out_is_named(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    """With --verbose each file and folder that is left out stands on a line with its reason, and no name is obeyed."""
    for path in ("a.md", "b.png", ".hidden", "vendor/c.md", ".git/d.md", "sub/e\x1b[2J.zip"):
        bench.write(path, "words")
    (bench.docs / "f.txt").write_bytes(b"a\0b")
    (bench.docs / "g.pdf").write_bytes(b"%PDF-1.4")
    (bench.docs / "h.txt").symlink_to("/etc/hostname")
    (bench.docs / "i").symlink_to("/etc")
    bench.index(verbose=True)
    assert capsys.readouterr().out.splitlines()[:-2] == [
        "skipped .git/: hidden or foreign folder",
        "skipped .hidden: hidden",
        "skipped b.png: of no kind that is read",
        "skipped f.txt: binary or of an unknown encoding",
        "skipped g.pdf: damaged PDF",
        "skipped h.txt: link out of the folder",
        "skipped i/: link out of the folder",
        "skipped sub/e‹U+001B›[2J.zip: of no kind that is read",
        "skipped vendor/: ignored folder",
    ]
    bench.index()
    assert "skipped b.png" not in capsys.readouterr().out


def test_what_cannot_be_read_any_more_has_no_passages(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    """A file that was readable and is not any more loses its passages, is told in each run, and comes back."""
    bench.write("a.txt", "cats purr")
    good = (bench.docs / "a.txt").read_bytes()
    bench.index()
    (bench.docs / "a.txt").write_bytes(b"a\0b")
    for _ in range(2):
        capsys.readouterr()
        bench.index()
        assert bench.fake.ids == set()
        told = capsys.readouterr().out
        assert "0 files read, 0 unchanged, 0 chunks embedded" in told
        assert "skipped: 1 binary or of an unknown encoding" in told
    (bench.docs / "a.txt").write_bytes(good)
    assert len(bench.index()) == 1


def test_passages_of_pages_rows_and_cells_say_so(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    """A search names page, row or paragraph where a line says nothing, also as JSON."""
    (bench.docs / "a.pdf").write_bytes(files.pdf("dogs bark", "cats purr"))
    (bench.docs / "b.csv").write_text("name,sound\nowl,hoots loudly\n")
    (bench.docs / "c.docx").write_bytes(files.docx(files.paragraph("birds sing")))
    (bench.docs / "d.ipynb").write_bytes(files.notebook(("markdown", "fish swim", [])))
    (bench.docs / "e.json").write_text(json.dumps({"frogs": ["croak " * 500]}))
    bench.index()
    capsys.readouterr()
    for question, place in {
        "cats purr": "a.pdf, page 1 to page 2",
        "sound: hoots loudly": "b.csv, row 1 to row 2",
        "birds sing": "c.docx, paragraph 1",
        "fish swim": "d.ipynb, cell 1",
        "croak": "e.json, frogs[0]",
    }.items():
        bench.search(question, limit=1)
        assert f"docs/{place}  score" in capsys.readouterr().out
    bench.search("fish swim", limit=1, as_json=True)
    found = json.loads(capsys.readouterr().out)
    assert (found["path"], found["position"], found["line"]) == ("d.ipynb", "cell 1", 1)


# ---------------------------------------------------------------- anything, in any order

_STEPS = st.lists(
    st.one_of(
        st.tuples(
            st.just("write"), st.integers(0, 3), st.sampled_from(["a.md", "b.md", "sub/c.md"]), st.integers(0, 3)
        ),
        st.tuples(st.just("remove"), st.integers(0, 3), st.sampled_from(["a.md", "b.md", "sub/c.md"])),
        st.tuples(st.sampled_from(["move", "move below", "copy", "delete", "index"]), st.integers(0, 3)),
        st.tuples(st.just("prune")),
    ),
    min_size=4,
    max_size=14,
)


@pytest.mark.slow
@given(steps=_STEPS)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@example(
    steps=[("write", 0, "a.md", 1), ("index", 0), ("move", 0), ("copy", 0), ("index", 0), ("index", 1), ("prune",)]
)
@example(steps=[("write", 0, "a.md", 1), ("index", 0), ("move below", 0), ("index", 0), ("prune",), ("index", 0)])
def test_whatever_is_done_to_folders(real: tuple[Bench, Database], steps: list[tuple[Any, ...]]) -> None:
    """After an index a folder's files are there once and as they are; after a prune nothing that is gone is there."""
    bench, database = real
    base = Path(tempfile.mkdtemp(dir=bench.folder))
    folders = [base / "first"]
    folders[0].mkdir()
    if list((bench.folder / ".hector").glob("index-*")):
        prune(bench)  # of what the last example left, nothing is in this one's folders
    for at, (step, *arguments) in enumerate(steps):
        bench.docs = folders[arguments[0] % len(folders)] if arguments else base
        match step:
            case "write":
                bench.write(arguments[1], f"text {arguments[2]}")
            case "remove":
                (bench.docs / arguments[1]).unlink(missing_ok=True)
            case "move" | "move below" | "copy":
                target = base / f"{at}" / "below" if step == "move below" else base / f"{at}"
                target.parent.mkdir(exist_ok=True)
                (shutil.copytree if step == "copy" else shutil.move)(bench.docs, target)
                if step != "copy":
                    folders.remove(bench.docs)
                folders.append(target)
            case "delete" if len(folders) > 1:
                shutil.rmtree(bench.docs)
                folders.remove(bench.docs)
            case "index":
                bench.index()
                found = sorted(found_in(database, bench.docs))
                assert found == sorted((str(file), file.read_text().strip()) for file in bench.docs.rglob("*.md"))
            case "prune" if list((bench.folder / ".hector").glob("index-*")):
                prune(bench)
                assert all(Path(place).exists() for place in places(database))


def found_in(database: Database, root: Path) -> Iterator[tuple[str, str]]:
    items, _ = database.engine.page("docs", size=1000)
    for about in (json.loads(item.metadata) for item in items):
        if about["root"] == str(root):
            yield f"{root}/{about['path']}", about["text"]
