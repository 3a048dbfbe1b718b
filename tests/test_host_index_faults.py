"""`python -m host index` where files, store, list or the run itself come to harm: it ends as a first run would."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import shutil
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import host.index
from host import commands
from host.clients import Collection, Embedder
from host.config import load
from host.manifest import Manifest
from shared.errors import StartError
from tests.host_bench import Bench, beside_a_store
from tests.vector_wire import Database, serving


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Bench, Database]]:
    with beside_a_store(tmp_path_factory.mktemp("store")) as both:
        yield both


class Killed(BaseException):
    """As kill -9: nobody catches it."""


class Tree:
    """A folder of documents, its collection, and whatever can befall them."""

    numbers = itertools.count()

    def __init__(self, bench: Bench, database: Database) -> None:
        self.engine = database.engine
        self.template = yaml.safe_load(bench.config.read_text())
        self.home = bench.folder / f"tree{next(self.numbers)}"
        self.docs = self.home / "docs"
        self.docs.mkdir(parents=True)
        self.chars = 200
        self.has_snapshot = False
        self.has_forgotten = False  # the list may not know a folder that the collection has passages of

    def index(self, state: str = "kept", **options: Any) -> None:
        """The list of `state` is that of the collection of the same name."""
        self.template["databases"]["store"]["config"] = {
            "collection": f"{self.home.name}-{state}",
            "chunk_chars": self.chars,
            "chunk_overlap": 20,
        }
        home = self.home / state
        home.mkdir(exist_ok=True)
        (home / "hector.yaml").write_text(yaml.safe_dump(self.template))
        config = load(home / "hector.yaml")
        assert commands.index(config, self.docs, config.database(), **options) == 0

    def contents(self, state: str = "kept") -> dict[str, tuple[dict[str, Any], bytes]]:
        items, token = [], ""
        while True:
            page, token = self.engine.page(f"{self.home.name}-{state}", size=1000, token=token, with_vectors=True)
            items += page
            if not token:
                break
        return {
            item.id: (json.loads(item.metadata), item.vector.tobytes()) for item in items if item.vector is not None
        }

    def assert_as_new(self) -> None:
        self.index(prune=True)  # a folder that was moved and changed too much to be recognised goes with that
        kept = self.contents()
        if self.has_forgotten:  # those of a folder that has moved since are pruned by its name
            kept = {key: item for key, item in kept.items() if item[0]["root"] == str(self.docs)}
        self.index("fresh")
        assert kept == self.contents("fresh")
        shutil.rmtree(self.home / "fresh")
        self.engine.delete(f"{self.home.name}-fresh")


@contextlib.contextmanager
def killed_at(step: int, before: bool) -> Iterator[None]:
    """The run within dies at its so manieth act, before or after what that does."""
    acts = itertools.count()

    def dying(act: Any) -> Any:
        def call(*arguments: Any, **options: Any) -> Any:
            number = next(acts)
            if number == step and before:
                raise Killed
            result = act(*arguments, **options)
            if number == step:
                raise Killed
            return result

        return call

    with pytest.MonkeyPatch.context() as patch:
        for owner, names in {
            Collection: ("create", "upsert", "delete", "state", "get"),
            Embedder: ("documents",),
            Manifest: ("save",),
        }.items():
            for name in names:
                patch.setattr(owner, name, dying(getattr(owner, name)))
        with contextlib.suppress(Killed):
            yield


_NAMES = st.sampled_from(
    # The last is too long for an id.
    [
        "a.md",
        "A.md",
        "c.txt",
        "a/a.md",
        "a/b/c.html",
        "new\nline.md",
        "d.jsonl",
        "x" * 200 + ".md",
        "deep/" * 97 + "e.md",
    ]
)
_CONTENTS = st.one_of(
    st.integers(0, 9).map(lambda n: "\n\n".join(f"# h{i}\n\nword{n} {'x' * 60}" for i in range(n)).encode()),
    st.sampled_from([b"", b"a\0b", b"\xff\xfea\0", b"\xef\xbb\xbfbom", "é🎉\r\nx".encode(), "é".encode("latin-1")]),
    st.sampled_from([b"\n" * 900, b'{"a": "\\ud800"}', b"w" * 3000, b"<nav>x"]),
    st.binary(max_size=300),
)
_STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("write"), _NAMES, _CONTENTS),
        st.tuples(st.sampled_from(["remove", "hide", "show", "touch"]), _NAMES),
        st.tuples(st.sampled_from(["rename", "link"]), _NAMES, _NAMES),
        st.tuples(st.just("index")),
        st.tuples(st.just("killed"), st.integers(0, 40), st.booleans()),
        st.tuples(st.sampled_from(["lose list", "keep list", "put list back", "snapshot", "restore", "move"])),
        st.tuples(st.just("delete"), st.integers(0, 99)),
        st.tuples(st.just("settings"), st.sampled_from([100, 200, 1000])),
        st.tuples(st.just("elsewhere")),
    ),
    min_size=4,
    max_size=16,
)


@pytest.mark.slow
@given(steps=_STEPS)
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_happens_it_ends_as_a_first_run_would(
    store: tuple[Bench, Database], steps: list[tuple[Any, ...]]
) -> None:
    """After any changes of files, list, store and settings, and runs that died at any moment, one run makes the
    collection what a new list and a new collection would hold: nothing stale, nothing missing, nothing twice."""
    tree = Tree(*store)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(host.index, "GROUP_CHUNKS", 5)
        patch.setattr(host.index, "TEXTS_AT_ONCE", 3)
        tree.index()
        for step in steps:
            with contextlib.suppress(OSError):
                _take(tree, *step)
        tree.assert_as_new()
    shutil.rmtree(tree.home)
    tree.engine.delete(f"{tree.home.name}-kept")


def _take(tree: Tree, name: str, *given: Any) -> None:
    collection, state = f"{tree.home.name}-kept", tree.home / "kept" / ".hector"
    tree.has_forgotten |= name in ("lose list", "put list back", "restore", "elsewhere")
    files = [tree.docs / one for one in given if isinstance(one, str)]
    match name:
        case "write":
            files[0].parent.mkdir(parents=True, exist_ok=True)
            files[0].write_bytes(given[1])
        case "remove":
            files[0].unlink()
        case "hide":
            files[0].chmod(0)
        case "show":
            files[0].chmod(0o600)
        case "touch":
            os.utime(files[0])
        case "rename":
            files[1].parent.mkdir(parents=True, exist_ok=True)
            files[0].rename(files[1])
        case "link":
            files[1].symlink_to(files[0])
        case "index":
            tree.index()
        case "killed":
            with killed_at(*given):
                tree.index()
        case "lose list":
            shutil.rmtree(state)
        case "keep list":
            shutil.copytree(state, tree.home / "list", dirs_exist_ok=True)
        case "put list back":
            shutil.copytree(tree.home / "list", state, dirs_exist_ok=True)
        case "snapshot":
            tree.has_snapshot = True
            with contextlib.suppress(Exception):
                tree.engine.delete_snapshot(collection, "s")
            tree.engine.create_snapshot(collection, "s")
        case "restore":
            if tree.has_snapshot:
                tree.engine.restore_snapshot(collection, "s")
        case "move":
            tree.docs = tree.docs.rename(tree.home / f"docs{next(tree.numbers)}")
        case "delete":
            ids = sorted(tree.contents())
            if ids:
                tree.engine.delete_vectors(collection, [ids[given[0] % len(ids)]])
        case "settings":
            tree.chars = given[0]
        case "elsewhere":
            # The same collection from a configuration elsewhere, with a list and settings of its own.
            mine, theirs = tree.home / "kept", tree.home / "theirs"
            chars = tree.chars
            shutil.move(mine, tree.home / "aside")
            if theirs.exists():
                shutil.move(theirs, mine)
            tree.chars = 150
            tree.index()
            tree.chars = chars
            shutil.move(mine, theirs)
            shutil.move(tree.home / "aside", mine)
        case _:
            raise AssertionError(name)


# ---------------------------------------------------------------- one harm each


@pytest.fixture
def tree(store: tuple[Bench, Database]) -> Tree:
    return Tree(*store)


def paragraphs(count: int, length: int = 90) -> str:
    return "\n\n".join(f"{number} " + "word " * (length // 5) for number in range(count))


def test_a_list_that_is_lost_leaves_nothing_stale(tree: Tree) -> None:
    """Without the list of an earlier run, what that run wrote of files that are shorter or gone by now goes."""
    (tree.docs / "a.txt").write_text(paragraphs(9))
    (tree.docs / "gone.txt").write_text("gone")
    (tree.docs / ("deep/" * 99)).mkdir(parents=True)
    (tree.docs / ("deep/" * 99) / "b.txt").write_text(paragraphs(9))
    tree.index()
    shutil.rmtree(tree.home / "kept" / ".hector")
    for path in ("a.txt", "deep/" * 99 + "b.txt"):
        (tree.docs / path).write_text(paragraphs(1))
    (tree.docs / "gone.txt").unlink()
    tree.assert_as_new()


def test_a_lost_list_costs_no_passage_meanwhile(tree: Tree) -> None:
    """Where the run that makes the lost list anew dies, the passages of the earlier one are still there."""
    (tree.docs / "a.txt").write_text(paragraphs(9))
    tree.index()
    before = tree.contents()
    shutil.rmtree(tree.home / "kept" / ".hector")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Embedder, "documents", lambda self, texts: (_ for _ in ()).throw(Killed))
        with pytest.raises(Killed):
            tree.index()
    assert tree.contents() == before


@pytest.mark.parametrize(("then", "now"), [(100, 1000), (1000, 100)])
def test_a_copy_that_was_cut_by_other_settings_is_not_taken_for_these(tree: Tree, then: int, now: int) -> None:
    """After other chunk settings and a copy from before them, every passage is cut by the settings as they are."""
    (tree.docs / "a.txt").write_text(paragraphs(6))
    tree.chars = then
    tree.index()
    tree.engine.create_snapshot(f"{tree.home.name}-kept", "s")
    tree.chars = now
    tree.index()
    tree.engine.restore_snapshot(f"{tree.home.name}-kept", "s")
    tree.assert_as_new()


@pytest.mark.parametrize("when", ["before", "after"])
def test_what_others_write_during_a_run_is_seen_by_the_next(tree: Tree, when: str) -> None:
    """A vector that somebody deletes while a run writes, before or after its own writes, is made again by the next."""
    (tree.docs / "a.txt").write_text("a")
    (tree.docs / "b.txt").write_text("b")
    tree.index()
    (tree.docs / "a.txt").write_text("changed")
    b = next(key for key in tree.contents() if "b.txt" in key)
    upsert = Collection.upsert

    def disturbed(self: Collection, *arguments: Any) -> None:
        if when == "before":
            tree.engine.delete_vectors(self.name, [b])
        upsert(self, *arguments)
        if when == "after":
            tree.engine.delete_vectors(self.name, [b])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Collection, "upsert", disturbed)
        tree.index()
    tree.assert_as_new()


def test_two_runs_at_once_are_told_apart(tree: Tree) -> None:
    """While a run is at work on a collection a second one is refused with the reason, and changes nothing."""
    (tree.docs / "a.txt").write_text("a")
    refusals: list[str] = []
    documents = Embedder.documents

    def second(self: Embedder, texts: Any) -> Any:
        with pytest.raises(StartError) as refusal:
            tree.index()
        refusals.append(str(refusal.value))
        return documents(self, texts)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Embedder, "documents", second)
        tree.index()
    assert refusals == [f"another `index` is at work on collection {tree.home.name}-kept; wait until it is done"]
    tree.assert_as_new()


def test_a_list_belongs_to_one_store(tree: Tree, tmp_path: Path) -> None:
    """Two stores with a collection of one name have a list each: neither costs the other its hashes."""
    with serving(tmp_path / "data") as other:
        tree.template["plugins"]["database_providers"]["other"] = {"address": other.server.address}
        (tree.docs / "a.txt").write_text("a")
        tree.index()
        tree.template["databases"]["store"]["type"] = "plugin:other"
        tree.index()
        tree.template["databases"]["store"]["type"] = "plugin:vectors"
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Embedder, "documents", lambda self, texts: pytest.fail("it was embedded again"))
            tree.index()


def test_a_model_that_changes_during_a_run_is_refused(store: tuple[Bench, Database], tree: Tree) -> None:
    """Where the embedder is started anew with another model while a run is under way, none of its vectors is kept."""
    embedder = store[0].fake.embedder
    (tree.docs / "a.txt").write_text(paragraphs(9))
    documents = Embedder.documents

    def changed(self: Embedder, texts: Any) -> Any:
        vectors = documents(self, texts)
        patch.setattr(embedder, "model", "other-model")
        return vectors

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(host.index, "TEXTS_AT_ONCE", 3)
        patch.setattr(Embedder, "documents", changed)
        with pytest.raises(StartError, match=r"had model fake-model and has other-model now; run this again"):
            tree.index()
    tree.assert_as_new()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.jsonl", b'{"\\ud800": "cats \\ud800"}'),
        ("a.json", b'{"\\udfff": "cats", "b": "' + b"p" * 3000 + b'"}'),
        ("a.ipynb", b'{"cells": [{"cell_type": "markdown", "source": "# \\ud800\\n\\ncats"}]}'),
        ("\udcff.md", b"cats"),
        ("a\udcff/b.md", b"cats"),
    ],
)
def test_half_a_character_ends_no_run(tree: Tree, name: str, content: bytes) -> None:
    """JSON that names half a surrogate pair, and a file whose name is not UTF-8, stop nothing of the others."""
    file = tree.docs / name
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(content)
    (tree.docs / "b.txt").write_text("dogs")
    tree.index()
    found = [metadata["text"] for metadata, _ in tree.contents().values()]
    assert "dogs" in found
    assert any("cats" in text for text in found) == name.isascii()


def test_long_chunks_can_be_listed_and_moved(tree: Tree) -> None:
    """Chunks of which a page would be longer than a reply may be are listed and moved in smaller ones."""
    tree.chars = 60_000
    for number in range(100):
        (tree.docs / f"{number}.txt").write_text(f"{number} " + "x" * 50_000)
    tree.index()
    wanted = tree.contents()
    (tree.home / "kept" / ".hector").rename(tree.home / "aside")
    tree.index()
    assert tree.contents() == wanted
    tree.docs = tree.docs.rename(tree.home / "docs2")
    tree.index()
    assert len(tree.contents()) == 100


def test_what_cannot_be_read_costs_no_write_each(tree: Tree) -> None:
    """The list is not written anew for each file that cannot be read, nor for each that has no text."""
    for number in range(300):
        (tree.docs / f"binary{number}.txt").write_bytes(b"a\0b")
        (tree.docs / f"empty{number}.txt").touch()
    saved: list[None] = []
    save = Manifest.save
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Manifest, "save", lambda self, **options: saved.append(save(self, **options)))
        tree.index()
    assert len(saved) < 20


def test_no_content_is_kept_for_later(tree: Tree) -> None:
    """While files wait for a batch to be full, their passages are held, not the files: pictures can be large."""
    for number in range(40):
        (tree.docs / f"{number}.html").write_text(f"<script>{'x' * 500_000}</script><p>{number}")
    peak = 0
    documents = Embedder.documents

    def measured(self: Embedder, texts: Any) -> Any:
        nonlocal peak
        peak = max(peak, tracemalloc.get_traced_memory()[0])
        return documents(self, texts)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Embedder, "documents", measured)
        tracemalloc.start()
        try:
            tree.index()
        finally:
            tracemalloc.stop()
    assert peak < 10 * 500_000
