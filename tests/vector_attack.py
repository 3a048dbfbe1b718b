"""Random calls on a real vector store, killed, restarted, filled, backed up and put back, beside what it ought to hold.

    python -m tests.vector_attack FOLDER [--seconds 60] [--seed N] [--disk]

--disk: FOLDER is a small file system of its own, which is filled now and then. Every reply is compared; a fault ends it
with the seed and the calls that were made last.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import itertools
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import hector_plugins_pb2 as pb
import hector_plugins_pb2_grpc as rpc
import numpy as np

from plugins.vector_hnsw.engine import Metric
from shared.errors import Code
from shared.vectors.filters import Compare, Exists, Filter, Ids, Operator
from tests.servers import ROOT, Plugin, await_serving, environment, start_plugin, wait_until
from tests.vector_model import Collection, Refused, World
from tests.vector_small import DIMENSION

POOL = np.random.default_rng(11).normal(size=(400, DIMENSION)).astype(np.float32)
POOL[:20] = POOL[20:40] * np.float32(2)
POOL[40:50] = POOL[50:60] + np.float32(1e-6)
NAMES = ["a", "b", "c"]
CALLED = ["a", "a", "b", "c", "x", "y"]  # collections, and what may be an alias
SNAPSHOTS = ["s", "S"]
METRICS = {Metric.COSINE: pb.METRIC_COSINE, Metric.DOT: pb.METRIC_DOT, Metric.EUCLIDEAN: pb.METRIC_EUCLIDEAN}
MERGING = {True: pb.METADATA_MODE_MERGE, False: pb.METADATA_MODE_REPLACE}
Apply = Callable[[World], dict[str, Any]]


@dataclass
class Call:
    """A call and, for each of its replies, what that has to be."""

    about: str
    send: Callable[[], Iterable[Any]]
    parts: list[Apply]


class Attack:
    def __init__(self, folder: Path, seed: int, disk: bool) -> None:
        self.folder, self.disk = folder, disk
        self.data = folder / "data"
        self.random = random.Random(seed)
        self.world = World()
        self.backups: list[tuple[Path, list[World]]] = []
        self.made = collections.Counter[str]()
        self.log: collections.deque[str] = collections.deque(maxlen=25)
        self.serial = itertools.count()
        self.full = False
        self.history: list[World] = []  # all that it was while a backup is made

    # -- the process

    @contextlib.contextmanager
    def running(self) -> Iterator[Plugin]:
        argv = [sys.executable, "-m", "tests.vector_small", "--port", "0", "--data-dir", str(self.data)]
        with start_plugin(argv, wait="listening") as plugin:
            self.stderr = plugin.stderr
            try:
                await_serving(plugin.channel())
            except grpc.RpcError:
                plugin.wait()
                raise AssertionError(plugin.stderr()[-2000:]) from None
            self.stub = rpc.DatabaseProviderStub(plugin.channel())
            yield plugin

    def run(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            with self.running() as plugin:
                self.compare([self.world])
                watchers = [Watcher(self, plugin), Watcher(self, plugin)]
                life = time.monotonic() + self.random.uniform(0.5, 6)
                while time.monotonic() < min(life, end):
                    self.step()
                if self.random.random() < 0.3:
                    self.back_up_while_writing()
                for watcher in watchers:
                    watcher.end()
                if self.random.random() < 0.7 or not self.made["kill"]:  # at least one life ends so, however few
                    self.kill_during_a_call(plugin)
                else:
                    status = plugin.terminate()
                    assert status == 0, f"exit status {status}: {plugin.stderr()[-2000:]}"
            if self.full:
                (self.folder / "filler").unlink(missing_ok=True)
                self.full = False
            if self.backups and self.random.random() < 0.15:
                self.put_back()
        with self.running():
            self.compare([self.world])

    def kill_during_a_call(self, plugin: Plugin) -> None:
        """Afterwards what was not answered is made as a whole or not at all."""
        timer = threading.Timer(self.random.choice([0.0, 0.001, 0.003, 0.01, 0.03, 0.1]), plugin.process.kill)
        timer.start()
        try:
            while True:
                call = self.write()
                self.log.append(f"killed during {call.about}")
                self.call(call)
        except grpc.RpcError as error:
            if error.code() is not grpc.StatusCode.UNAVAILABLE:
                raise
            may_be = self.may_be(self.unanswered)
        timer.join()
        plugin.wait()
        self.made["kill"] += 1
        if self.full and self.random.random() < 0.5:
            self.free()  # else it starts on a disk that is full, for which it has a reserve
        elif self.full and not (self.data / "reserve").exists():
            self.free()  # which has been used
        with self.running():
            self.compare(may_be)

    def may_be(self, parts: Iterable[Apply]) -> list[World]:
        """What the store is after any number of these."""
        worlds = [self.world]
        for apply in parts:
            after = worlds[-1].copy()
            with contextlib.suppress(Refused):
                apply(after)
            worlds.append(after)
        return worlds

    # -- calls

    def step(self) -> None:
        kind = self.random.random()
        if kind < 0.55:
            self.call(self.write())
        elif kind < 0.97:
            self.random.choice([self.search, self.search, self.search_batch, self.get, self.page, self.count])()
        elif kind < 0.98:
            self.second_plugin()
        elif self.disk:
            self.fill_or_free()

    def call(self, call: Call) -> None:
        self.log.append(call.about)
        self.made[call.about.partition(" ")[0]] += 1
        self.unanswered = list(call.parts)
        try:
            for reply in call.send():
                self.check_reply(reply, call.about, self.unanswered[0])
                del self.unanswered[0]
        except grpc.RpcError as error:
            if not self.is_full(error):
                raise
            self.made["full"] += 1
            # What is deleted is decided, perhaps, and done once there is room.
            decided = call.about.startswith(("delete", "drop"))
            may_be = self.may_be(self.unanswered if decided else [])
            if decided:
                self.free()
                wait_until(
                    lambda: self.which(may_be)[0] is not None,
                    "the end of it",
                    otherwise=lambda: str(self.which(may_be)),
                )
            self.compare(may_be)

    def check_reply(self, reply: Any, name: str, apply: Apply) -> None:
        after = self.world.copy()
        try:
            expected = apply(after)
        except Refused as refused:
            if reply.success or reply.status.code not in refused.codes:
                raise AssertionError(f"{name}: {reply.status}, not {refused.codes}") from None
            return
        assert reply.success, f"{name}: {reply.error}"
        for field, value in expected.items():
            found = getattr(reply, field)
            found = [one.index for one in found] if field == "errors" else found
            assert found == value, f"{name}: {field} is {found}, not {value}"
        self.world = after
        self.history.append(after)

    def is_full(self, error: Any) -> bool:
        return self.disk and error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED and "full" in error.details()

    def write(self) -> Call:
        kinds = [self.create] * 2 + [self.upsert] * 10 + [self.stream] * 2 + [self.delete] * 5 + [self.update] * 4
        kinds += [self.update_matching] * 3 + [self.set_alias] * 2
        kinds += [self.drop, self.delete_alias, self.update_index, self.take, self.restore, self.forget]
        return self.random.choice(kinds)()

    def called(self) -> str:
        return self.random.choice(CALLED)

    def ids(self, most: int) -> list[str]:
        return [f"i{self.random.randrange(200)}" for _ in range(self.random.randrange(most + 1))]

    def document(self) -> dict[str, Any]:
        made: dict[str, Any] = {"n": self.random.randrange(5)}
        if self.random.random() < 0.5:
            made["s"] = self.random.choice(["a", "ab", "b", "c\n"])
        if self.random.random() < 0.2:
            made["o"] = {"k": None, "big": 2**53 + 1}
        if self.disk:
            made["bulk"] = "x" * self.random.choice([0, 100, 3000])
        return made

    def filter(self) -> Filter:
        n = self.random.randrange(-1, 5)
        text = self.random.choice(["a", "ab", "b", "zz"])
        return self.random.choice(
            [
                Filter((Compare("n", Operator.LTE, n),)),
                Filter((Compare("n", Operator.EQ, n), Compare("s", Operator.EQ, text))),
                Filter((), (), (Compare("n", Operator.IN, [n, n + 1]),)),
                Filter((Compare("n", Operator.IN, [*range(n, 60)]),)),
                Filter((Compare("s", Operator.PREFIX, text),)),
                Filter((Compare("s", Operator.GT, text),)),
                Filter((Compare("n", Operator.GT, n), Compare("n", Operator.LT, n + 2))),
                Filter((Ids(tuple(self.ids(8))),)) if self.random.random() < 0.5 else Filter((Exists("o.k"),)),
                Filter((Compare("o.big", Operator.EQ, 2**53 + 1),)),
                Filter((Exists("o.k"),), (Compare("n", Operator.EQ, 1), Compare("s", Operator.EQ, "a"))),
            ]
        )

    def create(self) -> Call:
        name, metric, loose = self.random.choice(CALLED), self.random.choice(list(Metric)), self.random.random() < 0.5
        request = pb.CreateCollectionRequest(
            name=name, dimension=DIMENSION, metric=METRICS[metric], if_not_exists=loose
        )
        return Call(
            f"create {name} {metric}",
            lambda: [self.stub.CreateCollection(request)],
            [lambda world: world.create(name, metric, DIMENSION, loose)],
        )

    def drop(self) -> Call:
        name = self.called()
        return Call(
            f"drop {name}",
            lambda: [self.stub.DeleteCollection(pb.DeleteCollectionRequest(name=name))],
            [lambda world: world.drop(name)],
        )

    def update_index(self) -> Call:
        name = self.called()
        choices = {"m": [8, 16, 24], "ef_construction": [60, 100, 200], "ef_search": [60, 100, 150]}
        index = {key: self.random.choice(values) for key, values in choices.items() if self.random.random() < 0.4}
        request = pb.UpdateCollectionRequest(name=name, index=pb.IndexParams(**index))
        return Call(
            f"update_index {name} {index}",
            lambda: [self.stub.UpdateCollection(request)],
            [lambda world: world.update_index(name, index)],
        )

    def set_alias(self) -> Call:
        alias, target = self.random.choice(["x", "y", "a"]), self.called()
        expected = self.random.choice([None, None, "", *NAMES])
        request = pb.SetAliasRequest(alias=alias, collection=target, expected_collection=expected)
        return Call(
            f"set_alias {alias} {target} {expected}",
            lambda: [self.stub.SetAlias(request)],
            [lambda world: world.set_alias(alias, target, expected)],
        )

    def delete_alias(self) -> Call:
        alias = self.random.choice(["x", "y"])
        return Call(
            f"delete_alias {alias}",
            lambda: [self.stub.DeleteAlias(pb.DeleteAliasRequest(alias=alias))],
            [lambda world: world.delete_alias(alias)],
        )

    def batch(self, size: int) -> list[tuple[str, bytes, str]]:
        distinct = self.random.choice([3, 60, len(POOL)])
        batch = [
            (f"i{self.random.randrange(200)}", POOL[self.random.randrange(distinct)].tobytes(), json.dumps(document))
            for document in (self.document() for _ in range(size))
        ]
        if self.random.random() < 0.1:
            batch[self.random.randrange(size)] = ("bad", np.full(DIMENSION, np.nan, np.float32).tobytes(), "{}")
        return batch

    def upsert_request(self) -> tuple[pb.UpsertVectorsRequest, Apply, str]:
        name, mode = self.called(), self.random.choice(["UPSERT"] * 4 + ["INSERT_ONLY", "UPDATE_ONLY"])
        partial = self.random.random() < 0.3
        batch = self.batch(self.random.choice([1, 1, 5, 20, 150]))
        number = pb.UPSERT_MODE_UNSPECIFIED if mode == "UPSERT" else pb.UpsertMode.Value(f"UPSERT_MODE_{mode}")
        request = pb.UpsertVectorsRequest(
            collection=name,
            vectors=[
                pb.Vector(id=item_id, vector=np.frombuffer(vector, "<f4").tolist(), metadata_json=text)
                for item_id, vector, text in batch
            ],
            mode=number,
            allow_partial=partial,
        )
        about = f"{name} {len(batch)} {mode} partial={partial}"
        return request, lambda world: world.upsert(name, batch, mode, partial), about

    def upsert(self) -> Call:
        request, apply, about = self.upsert_request()
        return Call(f"upsert {about}", lambda: [self.stub.UpsertVectors(request)], [apply])

    def stream(self) -> Call:
        requests, parts, about = zip(*(self.upsert_request() for _ in range(self.random.randrange(1, 4))), strict=True)
        return Call(f"stream {about}", lambda: self.stub.UpsertVectorsStream(iter(requests)), list(parts))

    def delete(self) -> Call:
        name, dry = self.called(), self.random.random() < 0.2
        ids = self.ids(self.random.choice([0, 3, 40]))
        chosen = self.filter() if self.random.random() < 0.4 else None
        request = pb.DeleteVectorsRequest(collection=name, ids=ids, filter=filter_message(chosen), dry_run=dry)
        return Call(
            f"delete {name} {len(ids)} ids, {chosen}, dry={dry}",
            lambda: [self.stub.DeleteVectors(request)],
            [lambda world: world.delete(name, ids, chosen, dry)],
        )

    def update(self) -> Call:
        name, merge, partial = self.called(), self.random.random() < 0.6, self.random.random() < 0.5
        changes = [self.change(item_id) for item_id in self.ids(self.random.choice([1, 12, 100]))]
        request = pb.UpdateMetadataRequest(
            collection=name, updates=[update_message(*change) for change in changes], mode=MERGING[merge],
            allow_partial=partial,
        )  # fmt: skip
        return Call(
            f"update {name} {len(changes)} merge={merge} partial={partial}",
            lambda: [self.stub.UpdateMetadata(request)],
            [lambda world: world.update(name, changes, merge, partial)],
        )

    def change(self, item_id: str) -> tuple[str, dict[str, Any] | None, list[str]]:
        metadata = None if self.random.random() < 0.1 else self.document()
        remove = [key for key in ("n", "s", "o") if self.random.random() < 0.05]
        return item_id, metadata, remove

    def update_matching(self) -> Call:
        name, merge, chosen = self.called(), self.random.random() < 0.6, self.filter()
        _, metadata, remove = self.change("")
        request = pb.UpdateMetadataRequest(
            collection=name, updates=[update_message("", metadata, remove)], mode=MERGING[merge],
            filter=filter_message(chosen),
        )  # fmt: skip
        return Call(
            f"update_matching {name} {chosen} {metadata} {remove} merge={merge}",
            lambda: [self.stub.UpdateMetadata(request)],
            [lambda world: world.update_matching(name, chosen, metadata, remove, merge)],
        )

    def take(self) -> Call:
        name, snapshot = self.called(), self.random.choice(SNAPSHOTS)
        request = pb.CreateSnapshotRequest(collection=name, name=snapshot)
        return Call(
            f"take {name} {snapshot}",
            lambda: [self.stub.CreateSnapshot(request)],
            [lambda world: world.take(name, snapshot)],
        )

    def restore(self) -> Call:
        name, snapshot = self.called(), self.random.choice(SNAPSHOTS)
        request = pb.RestoreSnapshotRequest(collection=name, name=snapshot)

        def apply(world: World) -> dict[str, Any]:
            if world.named(name) not in world.collections and world.named(name) in world.aliases:
                raise Refused(Code.ALREADY_EXISTS)
            return world.restore(name, snapshot)

        return Call(f"restore {name} {snapshot}", lambda: [self.stub.RestoreSnapshot(request)], [apply])

    def forget(self) -> Call:
        name, snapshot = self.called(), self.random.choice(SNAPSHOTS)
        request = pb.DeleteSnapshotRequest(collection=name, name=snapshot)
        return Call(
            f"forget {name} {snapshot}",
            lambda: [self.stub.DeleteSnapshot(request)],
            [lambda world: world.forget(name, snapshot)],
        )

    # -- reads

    def asked(self) -> tuple[pb.SearchVectorsRequest, Filter | None]:
        chosen = self.filter() if self.random.random() < 0.5 else None
        vector = POOL[self.random.randrange(len(POOL))] + np.float32(self.random.choice([0, 0.1]))
        request = pb.SearchVectorsRequest(
            collection=self.called(), vector=vector.tolist(), limit=self.random.choice([1, 10, 50]),
            filter=filter_message(chosen), include_vectors=self.random.random() < 0.5, ef_search=200,
            exact=self.random.random() < 0.3, offset=self.random.choice([0, 0, 7]), metadata_as_json=True,
        )  # fmt: skip
        return request, chosen

    def search(self) -> None:
        request, chosen = self.asked()
        self.check_search(request, chosen, self.stub.SearchVectors(request))

    def search_batch(self) -> None:
        asked = [self.asked() for _ in range(4)]
        replies = self.stub.SearchVectorsBatch(pb.SearchVectorsBatchRequest(searches=[one for one, _ in asked]))
        for (request, chosen), reply in zip(asked, replies.responses, strict=True):
            self.check_search(request, chosen, reply)

    def check_search(self, request: Any, chosen: Filter | None, reply: Any) -> None:
        self.made["search"] += 1
        try:
            collection = self.world.find(request.collection)
        except Refused:
            assert reply.status.code == Code.NOT_FOUND, reply
            return
        assert reply.success, reply.error
        truth = collection.scores(np.array(request.vector, np.float32), collection.kept(chosen))
        wanted = sorted(truth.values(), reverse=True)[request.offset : request.offset + request.limit]
        check_hits(reply, collection, truth)
        assert len(reply.results) == len(wanted), f"{request}: {len(reply.results)} hits, not {len(wanted)}"
        assert reply.complete
        assert reply.exact or not request.exact
        if reply.exact:
            assert np.allclose([hit.score for hit in reply.results], wanted, rtol=1e-5, atol=2e-5)

    def get(self) -> None:
        ids, name = list(dict.fromkeys(self.ids(30))), self.called()
        reply = self.stub.GetVectors(
            pb.GetVectorsRequest(collection=name, ids=ids, include_vectors=True, metadata_as_json=True)
        )
        self.made["get"] += 1
        if self.world.named(name) not in self.world.collections:
            assert reply.status.code == Code.NOT_FOUND
            return
        items = self.world.find(name).items
        assert [stored(one) for one in reply.vectors] == [
            (item_id, *parsed(items[item_id])) for item_id in ids if item_id in items
        ]
        assert list(reply.missing_ids) == [item_id for item_id in ids if item_id not in items]

    def page(self) -> None:
        name = self.called()
        chosen = self.filter() if self.random.random() < 0.5 else None
        self.made["page"] += 1
        if self.world.named(name) in self.world.collections:
            collection = self.world.find(name)
            wanted = {item_id: parsed(collection.items[item_id]) for item_id in collection.kept(chosen)}
            assert self.listed(name, self.random.choice([7, 100]), chosen) == wanted

    def count(self) -> None:
        name, chosen = self.called(), self.filter() if self.random.random() < 0.7 else None
        self.made["count"] += 1
        reply = self.stub.CountVectors(pb.CountVectorsRequest(collection=name, filter=filter_message(chosen)))
        if self.world.named(name) in self.world.collections:
            wanted = len(self.world.find(name).kept(chosen))
            assert reply.count == wanted, f"count {name} {chosen}: {reply.count}, not {wanted}"
        else:
            assert reply.status.code == Code.NOT_FOUND

    def listed(self, name: str, size: int = 500, chosen: Filter | None = None) -> dict[str, Any]:
        found: dict[str, Any] = {}
        token, more = "", True
        while more:
            reply = self.stub.ListVectors(
                pb.ListVectorsRequest(
                    collection=name, page_size=size, page_token=token, include_vectors=True, metadata_as_json=True,
                    filter=filter_message(chosen),
                )
            )  # fmt: skip
            assert reply.success, reply.error
            for vector in reply.vectors:
                item_id, *rest = stored(vector)
                assert item_id not in found, f"{item_id} came twice"
                found[item_id] = tuple(rest)
            token = reply.next_page_token
            more = bool(token)
        return found

    def compare(self, worlds: list[World], *, snapshots: bool = True) -> None:
        """The store is one of these worlds, which becomes the world."""
        world, why = self.which(worlds, snapshots=snapshots)
        assert world is not None, f"the store is none of {len(worlds)} that it may be: {why}"
        self.world = world

    def which(self, worlds: list[World], *, snapshots: bool = True) -> tuple[World | None, list[Any]]:
        """The world that the store is; or None, and what is wrong with each."""
        infos = {one.name: one for one in self.stub.ListCollections(pb.ListCollectionsRequest()).collections}
        items = {name: self.listed(name) for name in infos}
        aliases = {one.alias: one.collection for one in self.stub.ListAliases(pb.ListAliasesRequest()).aliases}
        kept = {(one.collection, one.name) for one in self.stub.ListSnapshots(pb.ListSnapshotsRequest()).snapshots}
        why = []
        for world in worlds:
            wrong = []
            if aliases != world.aliases:
                wrong.append(f"aliases are {aliases}, not {world.aliases}")
            if snapshots and kept != world.snapshots.keys():
                wrong.append(f"snapshots are {kept}, not {set(world.snapshots)}")
            if infos.keys() != world.collections.keys():
                wrong.append(f"collections are {set(infos)}, not {set(world.collections)}")
            for name in infos.keys() & world.collections.keys():
                collection, info = world.collections[name], infos[name]
                wanted = {item_id: parsed(one) for item_id, one in collection.items.items()}
                if items[name] != wanted:
                    more, less = items[name].keys() - wanted.keys(), wanted.keys() - items[name].keys()
                    other = [
                        item_id
                        for item_id in items[name].keys() & wanted.keys()
                        if items[name][item_id] != wanted[item_id]
                    ]
                    wrong.append(f"{name} has {more} too many, lacks {less}, has otherwise {other}")
                if info.count != len(wanted):
                    wrong.append(f"{name} counts {info.count}, not {len(wanted)}")
                if info.metric != METRICS[collection.metric]:
                    wrong.append(f"{name} has metric {info.metric}")
                index = {key: getattr(info.index, key) for key in collection.index}
                if index != collection.index:
                    wrong.append(f"{name} has index {index}, not {collection.index}")
            if not wrong:
                return world, []
            why.append(wrong)
        return None, why

    # -- what is around it

    def second_plugin(self) -> None:
        """On the same folder it does not start, and says why; nor is a backup put back."""
        if self.full or self.random.random() > 0.2:
            return
        for argv in (
            ["plugins.vector_hnsw", "--port", "0", "--data-dir", str(self.data)],
            *([self.restoring(self.backups[-1][0])] if self.backups else []),
        ):
            done = command(argv)
            assert done.returncode, argv
            assert "in use" in done.stderr, done.stderr
        self.made["second"] += 1

    def back_up_while_writing(self) -> None:
        """What is backed up is the store as it was at one moment of the time that it took."""
        to = self.folder / f"backup{next(self.serial)}"
        self.log.append(f"back up {to.name}")
        argv = [sys.executable, "-m", "plugins.vector_hnsw.admin", "backup", "--data-dir", str(self.data), str(to)]
        process = subprocess.Popen(argv, cwd=ROOT, env=environment(), stderr=subprocess.PIPE, text=True,
                                   stdout=subprocess.DEVNULL)  # fmt: skip
        history = self.history = [self.world]
        while process.poll() is None:
            self.call(self.write())
            time.sleep(0.01)
        self.history = []
        assert process.stderr is not None
        said = process.stderr.read()
        if process.returncode:
            assert self.disk or "snapshot" in said, said
            shutil.rmtree(to, ignore_errors=True)
            return
        self.made["backup"] += 1
        self.backups.append((to, history))
        while len(self.backups) > 2:
            shutil.rmtree(self.backups.pop(0)[0])

    def restoring(self, backup: Path) -> list[str]:
        return ["plugins.vector_hnsw.admin", "restore-backup", "--data-dir", str(self.data), str(backup), "--replace"]

    def put_back(self) -> None:
        backup, history = self.random.choice(self.backups)
        self.log.append(f"put back {backup.name}")
        done = command(self.restoring(backup))
        if done.returncode:
            assert self.disk, done.stderr
            assert "No space" in done.stderr, done.stderr
            return
        self.made["put back"] += 1
        for replaced in self.data.glob("replaced-*"):
            shutil.rmtree(replaced)
        with self.running():
            self.compare(history, snapshots=False)
            there = {(one.collection, one.name) for one in self.stub.ListSnapshots(pb.ListSnapshotsRequest()).snapshots}
            known: dict[tuple[str, str], list[Collection]] = {}
            for world in history:
                for key, copy in world.snapshots.items():
                    known.setdefault(key, []).append(copy)
            assert there <= known.keys(), there
            self.world = self.world.copy()
            self.world.snapshots = {key: known[key][-1] for key in there}
            # Which of several snapshots of one name it is cannot be told; those are forgotten.
            for key in there:
                if any(copy.items != known[key][0].items for copy in known[key]):
                    assert self.stub.DeleteSnapshot(pb.DeleteSnapshotRequest(collection=key[0], name=key[1])).success
                    del self.world.snapshots[key]

    def fill_or_free(self) -> None:
        if self.full:
            self.free()
            return
        self.full = True
        self.log.append("fill")
        self.made["fill"] += 1
        left = self.random.choice([0, 0, 20_000, 200_000, 1_000_000])
        free = shutil.disk_usage(self.folder).free
        with contextlib.suppress(OSError), (self.folder / "filler").open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, max(1, free - left))

    def free(self) -> None:
        (self.folder / "filler").unlink(missing_ok=True)
        self.full = False
        self.log.append("free")


class Watcher:
    """Searches beside the writes. What it gets need not be now, but each hit is what it says."""

    def __init__(self, attack: Attack, plugin: Plugin) -> None:
        self._stub = rpc.DatabaseProviderStub(plugin.channel())
        self._random = random.Random(attack.random.random())
        self._attack = attack
        self._ended = False
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def end(self) -> None:
        self._ended = True
        self._thread.join(120)
        if self._error:
            raise self._error

    def _work(self) -> None:
        try:
            while not self._ended:
                self._search()
                time.sleep(0.005)
        except BaseException as error:
            self._error = error

    def _search(self) -> None:
        n = self._random.randrange(5)
        vector = POOL[self._random.randrange(len(POOL))]
        reply = self._stub.SearchVectors(
            pb.SearchVectorsRequest(
                collection=self._random.choice(["a", "x"]), vector=vector.tolist(), limit=20, include_vectors=True,
                filter=filter_message(Filter((Compare("n", Operator.LTE, n),))), metadata_as_json=True,
            )
        )  # fmt: skip
        if not reply.success:
            assert reply.status.code == Code.NOT_FOUND, reply
            return
        ids = [hit.id for hit in reply.results]
        assert len(set(ids)) == len(ids), ids
        scores = [hit.score for hit in reply.results]
        assert [(-hit.score, hit.id) for hit in reply.results] == sorted((-hit.score, hit.id) for hit in reply.results)
        for hit in reply.results:
            assert json.loads(hit.metadata_json).get("n", 9) <= n, hit
        # All by one metric, which nobody says: that of a collection as it was at some moment.
        matrix = np.array([hit.vector for hit in reply.results], np.float32).reshape(-1, DIMENSION)
        one = Collection(
            Metric.COSINE, DIMENSION, {item_id: (row.tobytes(), "{}") for item_id, row in zip(ids, matrix, strict=True)}
        )
        truths = []
        for metric in Metric:
            one.metric = metric
            truths.append(list(one.scores(vector, ids).values()))
        assert any(np.allclose(scores, truth, rtol=1e-4, atol=2e-5) for truth in truths), (scores, truths)
        self._attack.made["watched"] += 1


def check_hits(reply: Any, collection: Collection, truth: dict[str, float]) -> None:
    assert [(-hit.score, hit.id) for hit in reply.results] == sorted((-hit.score, hit.id) for hit in reply.results)
    assert len({hit.id for hit in reply.results}) == len(reply.results)
    for hit in reply.results:
        assert hit.id in truth, f"{hit.id} is not there, or does not fit"
        vector, document = parsed(collection.items[hit.id])
        assert json.loads(hit.metadata_json) == document
        assert not hit.vector or np.array(hit.vector, "<f4").tobytes() == vector
        assert abs(hit.score - truth[hit.id]) <= 2e-5 * max(1, abs(truth[hit.id])), hit


def stored(vector: Any) -> tuple[str, bytes, Any]:
    return vector.id, np.array(vector.vector, "<f4").tobytes(), json.loads(vector.metadata_json)


def parsed(item: tuple[bytes, str]) -> tuple[bytes, Any]:
    return item[0], json.loads(item[1])


def update_message(item_id: str, metadata: dict[str, Any] | None, remove: list[str]) -> pb.MetadataUpdate:
    return pb.MetadataUpdate(
        id=item_id, metadata_json="" if metadata is None else json.dumps(metadata), remove_keys=remove
    )


def filter_message(chosen: Filter | None) -> pb.Filter | None:
    if chosen is None:
        return None
    return pb.Filter(
        must=map(_condition, chosen.must), should=map(_condition, chosen.should),
        must_not=map(_condition, chosen.must_not),
    )  # fmt: skip


def _condition(condition: Any) -> pb.Condition:
    if isinstance(condition, Filter):
        return pb.Condition(filter=filter_message(condition))
    if isinstance(condition, Exists):
        return pb.Condition(exists=condition.field)
    if isinstance(condition, Ids):
        return pb.Condition(ids=pb.IdList(ids=condition.ids))
    operator = pb.Operator.Value(f"OPERATOR_{condition.operator.name}")
    return pb.Condition(compare=pb.Compare(field=condition.field, op=operator, value_json=json.dumps(condition.value)))


def command(argv: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", *argv], cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=120,
        check=False,
    )  # fmt: skip


def attack(folder: Path, seconds: float, seed: int, disk: bool) -> collections.Counter[str]:
    """How often it did what. Raises AssertionError that names the seed and the last calls."""
    made = Attack(folder, seed, disk)
    try:
        made.run(seconds)
    except BaseException as error:
        calls = "\n".join(made.log)
        raise AssertionError(
            f"seed {seed}: {error}\nthe last calls:\n{calls}\n{made.stderr()[-6000:]}\n{dict(made.made)}"
        ) from error
    return made.made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    parser.add_argument("--disk", action="store_true")
    options = parser.parse_args()
    signal.alarm(int(options.seconds) + 300)
    print(f"seed {options.seed}", flush=True)
    print(dict(attack(options.folder, options.seconds, options.seed, options.disk)))


if __name__ == "__main__":
    main()
