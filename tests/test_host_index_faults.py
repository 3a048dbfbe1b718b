"""`python -m host index` where files, store, list or the run itself come to harm: it ends as a first run would."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import random
import shutil
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
from tests.host_bench import Bench, beside_a_store
from tests.vector_wire import Database


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
        self._template = yaml.safe_load(bench.config.read_text())
        self.home = bench.folder / f"tree{next(self.numbers)}"
        self.docs = self.home / "docs"
        self.docs.mkdir(parents=True)
        self.chars = 200
        self.has_snapshot = False

    def index(self, state: str = "kept", **options: Any) -> None:
        """The list of `state` is that of the collection of the same name."""
        self._template["databases"]["store"]["config"] = {
            "collection": f"{self.home.name}-{state}",
            "chunk_chars": self.chars,
            "chunk_overlap": 20,
        }
        home = self.home / state
        home.mkdir(exist_ok=True)
        (home / "hector.yaml").write_text(yaml.safe_dump(self._template))
        config = load(home / "hector.yaml")
        assert commands.index(config, self.docs, config.database(), **options) == 0

    def contents(self, state: str = "kept") -> dict[str, tuple[dict[str, Any], bytes]]:
        items, token = [], ""
        while True:
            page, token = self.engine.page(f"{self.home.name}-{state}", size=1000, token=token, with_vectors=True)
            items += page
            if not token:
                break
        return {item.id: (json.loads(item.metadata), item.vector.tobytes()) for item in items}

    def assert_as_new(self) -> None:
        self.index()
        kept = self.contents()
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


_NAMES = st.sampled_from(["a.md", "b.md", "A.md", "c.txt", "sub/a.md", "sub/sub/b.html", "new\nline.md", "x" * 200 + ".md", "d.jsonl", "deep/" * 99 + "e.md"])
_CONTENTS = st.one_of(
    st.integers(0, 9).map(lambda n: "\n\n".join(f"# h{i}\n\nword{n} {'x' * 60}" for i in range(n)).encode()),
    st.sampled_from([b"", b"a\0b", b"\xff\xfea\0", b"\xef\xbb\xbfbom", "é🎉\r\nx".encode(), "é".encode("latin-1"), b"\n" * 900, b'{"a": "\\ud800"}', b"w" * 3000, b"<nav>x"]),
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
@settings(max_examples=int(os.environ.get("EX", "60")), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_happens_it_ends_as_a_first_run_would(store: tuple[Bench, Database], steps: list[tuple[Any, ...]]) -> None:
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
