"""The container images: built, started as somebody who trusts nothing starts them, called from outside, stopped."""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import hector_plugins_pb2 as pb
import hector_plugins_pb2_grpc as rpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from host import demo_endpoint
from tests.containers import build, container, docker, free_ports, volume
from tests.pg_server import own_server
from tests.servers import ROOT, SECONDS, dial, environment, wait_until

pytestmark = pytest.mark.images


def _llm(channel: grpc.Channel) -> None:
    """Nothing listens at its endpoint: that is what it says."""
    with pytest.raises(grpc.RpcError) as caught:
        rpc.LLMProviderStub(channel).GenerateText(pb.GenerateTextRequest(prompt="Hello"), timeout=60)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


def _vectors(channel: grpc.Channel) -> None:
    _filled(channel, "call")


def _embedder(channel: grpc.Channel) -> None:
    reply = rpc.EmbedderProviderStub(channel).EmbedText(pb.EmbedTextRequest(text="Hello"), timeout=60)
    assert reply.success
    assert len(reply.vector) == 384


def _tools(channel: grpc.Channel) -> None:
    assert rpc.ToolProviderStub(channel).ListTools(pb.ListToolsRequest(), timeout=60).tools


def _reasoning(channel: grpc.Channel) -> None:
    """It has no tool provider to ask: that is what it says."""
    with pytest.raises(grpc.RpcError) as caught:
        rpc.ReasoningStrategyStub(channel).Initialize(pb.InitializeRequest(query="How warm is it?"), timeout=60)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


UNREACHABLE = ("LLM_OPENAI__ENDPOINT=http://127.0.0.1:9/v1", "LLM_OPENAI__MAX_RETRIES=0")
IMAGES: dict[str, tuple[int, Any, tuple[str, ...]]] = {
    "llm-openai": (8081, _llm, UNREACHABLE),
    "vector-hnsw": (8082, _vectors, ()),
    "vector-pg": (8082, _vectors, ("DATABASE_URL=postgresql://postgres@/postgres?host=/database",)),
    "embed-st": (8083, _embedder, ()),
    "embed-st-light": (8083, _embedder, ()),
    "tools-http": (8084, _tools, ()),
    "reasoning-react": (8085, _reasoning, ()),
}
MOST_ADDED = {
    "llm-openai": 120,
    "reasoning-react": 120,
    "vector-hnsw": 160,
    "vector-pg": 160,
    "tools-http": 220,
    "embed-st-light": 450,
}


@pytest.fixture
def stack() -> Iterator[contextlib.ExitStack]:
    with contextlib.ExitStack() as stack:
        yield stack


@contextlib.contextmanager
def beside(image: str) -> Iterator[tuple[str, ...]]:
    """What an image needs beside it, as options of `docker run`: vector-pg the socket of a PostgreSQL."""
    if image != "vector-pg":
        yield ()
        return
    with own_server() as server:
        yield ("--volume", f"{server.data}/.s.PGSQL.5432:/database/.s.PGSQL.5432")


def _filled(channel: grpc.Channel, collection: str, ids: tuple[str, ...] = ("a", "b")) -> None:
    stub = rpc.DatabaseProviderStub(channel)
    assert stub.CreateCollection(
        pb.CreateCollectionRequest(name=collection, dimension=2, if_not_exists=True), timeout=60
    ).success
    vectors = [pb.Vector(id=key, vector=[1, number]) for number, key in enumerate(ids)]
    assert stub.UpsertVectors(pb.UpsertVectorsRequest(collection=collection, vectors=vectors), timeout=60).success


def _ids(channel: grpc.Channel, collection: str) -> set[str]:
    stub, token, ids = rpc.DatabaseProviderStub(channel), "", set[str]()
    while True:
        page = stub.ListVectors(pb.ListVectorsRequest(collection=collection, page_token=token), timeout=60)
        assert page.success, page.error
        ids |= {item.id for item in page.vectors}
        token = page.next_page_token
        if not token:
            return ids


@pytest.mark.parametrize("image", IMAGES)
def test_a_container(image: str) -> None:
    """Read-only, without capabilities, as a user who is nobody: it serves who is outside, warns that it is open, and
    ends with status 0 at SIGTERM."""
    port, call, settings = IMAGES[image]
    with beside(image) as options, container(image, port, *options, settings=settings) as box:
        with box.channel() as channel:
            call(channel)
        assert "reason=INSECURE" in box.log()
        assert box.python("import os; print(os.getuid(), os.getgid())") == "10001 10001"
        assert box.stop() == 0, box.log()


@pytest.mark.parametrize("image", IMAGES)
def test_what_an_image_holds(image: str) -> None:
    """Its labels say version and licence; no cache of pip, no pip, no tests and no other plugin is in it."""
    tag = build(image)
    labels = docker("inspect", "--format", "{{json .Config.Labels}}", tag)
    assert f'"org.opencontainers.image.version":"{_version()}"' in labels
    assert '"org.opencontainers.image.licenses":"Apache-2.0"' in labels
    code = (
        "import pathlib,importlib.util as u;"
        "print(*sorted(p.name for p in pathlib.Path('/app/plugins').iterdir() if p.is_dir() and p.name[0]!='_'),"
        "*[n for n in ('pip','pytest','tests','host') if u.find_spec(n)],"
        "*[p for p in ('/root/.cache','/app/.cache') if pathlib.Path(p).exists()])"
    )
    shown = docker("run", "--rm", "--user", "0", "--entrypoint", "/venv/bin/python", tag, "-c", code)
    assert shown == image.removesuffix("-light").replace("-", "_")


@pytest.mark.parametrize("image", MOST_ADDED)
def test_an_image_is_small(image: str) -> None:
    """What it adds to its base image is what the README says, within a tenth, and less than its bound."""
    base = re.search(r"^ARG PYTHON=(\S+)$", (ROOT / "Dockerfiles/vector_hnsw.Dockerfile").read_text(), re.MULTILINE)
    assert base
    size, of_base = (int(docker("inspect", "--format", "{{.Size}}", name)) for name in (build(image), base[1]))
    added = (size - of_base) / 1e6
    row = re.search(rf"^\| `{image}` \|.*?\| ([\d,]+) MB \|", (ROOT / "README.md").read_text(), re.MULTILINE)
    assert row, f"README has no size of {image}"
    assert added < MOST_ADDED[image]
    assert added < int(row[1].replace(",", "")) * 1.1


@pytest.mark.parametrize("image", ["vector-hnsw", "vector-pg"])
def test_vectors_outlive_their_container(image: str, stack: contextlib.ExitStack) -> None:
    """What was acknowledged is there in a new container on the same volume or database, also when the first was killed
    in the middle of a write."""
    port, _, settings = IMAGES[image]
    options = stack.enter_context(beside(image)) or ("--volume", f"{stack.enter_context(volume())}:/data")
    acknowledged: list[str] = []
    with container(image, port, *options, settings=settings) as box, box.channel() as channel:

        def write() -> None:
            for number in range(100_000):
                try:
                    _filled(channel, "kept", (f"item-{number}",))
                except grpc.RpcError:
                    return
                acknowledged.append(f"item-{number}")

        writer = threading.Thread(target=write)
        writer.start()
        wait_until(lambda: len(acknowledged) > 200, "200 writes")
        docker("kill", "--signal", "KILL", box.name)
        writer.join()
    assert 200 < len(acknowledged) < 100_000
    with container(image, port, *options, settings=settings) as box, box.channel() as channel:
        assert set(acknowledged) <= _ids(channel, "kept")


def test_a_setting_is_a_variable() -> None:
    """Whatever a plugin can be set to, an image's variable sets: a token is asked for, and its warning is gone."""
    settings = ("VECTOR_HNSW__TOKEN=sesame", "VECTOR_HNSW__INSECURE=false")
    with container("vector-hnsw", 8082, settings=settings) as box, box.channel() as channel:
        stub = rpc.DatabaseProviderStub(channel)
        with pytest.raises(grpc.RpcError) as caught:
            stub.ListCollections(pb.ListCollectionsRequest(), timeout=60)
        assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
        assert stub.ListCollections(
            pb.ListCollectionsRequest(), timeout=60, metadata=(("authorization", "Bearer sesame"),)
        ).success
        assert "INSECURE" not in box.log()


def _version() -> str:
    line = re.search(r'^version = "(.+)"', (ROOT / "pyproject.toml").read_text(encoding="utf-8"), re.MULTILINE)
    assert line
    return line[1]


def test_all_five_go_up_and_down(tmp_path: Path, stack: contextlib.ExitStack) -> None:
    """`make up` starts all five, healthy and behind the token that it made up, of which two alone reach out; the host's
    agent answers from a document by them all; `make down DATA=gone` leaves nothing."""
    project = f"hector-plugins-test-{uuid.uuid4().hex[:12]}"
    secrets = tmp_path / "secrets.env"
    ports = dict(zip(("LLM", "VECTORS", "EMBEDDER", "TOOLS", "REASONING"), free_ports(5), strict=True))
    make = ["make", f"PROJECT={project}", f"SECRETS={secrets}"]
    build("llm-openai")  # skips where there is no engine
    endpoint = stack.enter_context(demo_endpoint.running(host="0.0.0.0"))  # the engine's network must reach it
    variables = {
        **environment(),
        **{f"{name}_PORT": str(port) for name, port in ports.items()},
        "OPENAI_BASE_URL": endpoint.replace("0.0.0.0", "host.docker.internal"),
        "OPENAI_API_KEY": "none",
    }

    def run(*goal: str) -> None:
        done = subprocess.run([*make, *goal], cwd=ROOT, env=variables, capture_output=True, text=True, timeout=600)
        assert done.returncode == 0, done.stdout + done.stderr

    def ours(*what: str) -> str:
        return docker(*what, "--quiet", "--filter", f"label=com.docker.compose.project={project}")

    try:
        run("up")
        (token,) = re.findall(r"^HECTOR_TOKEN=(.+)$", secrets.read_text(), re.MULTILINE)
        assert secrets.stat().st_mode & 0o077 == 0
        for port in ports.values():
            with dial(f"127.0.0.1:{port}") as channel:
                wait_until(lambda channel=channel: _health(channel) == "SERVING", f"the plugin at {port}")  # type: ignore[misc]
        with dial(f"127.0.0.1:{ports['REASONING']}") as channel:
            stub = rpc.ReasoningStrategyStub(channel)
            with pytest.raises(grpc.RpcError) as caught:
                stub.Initialize(pb.InitializeRequest(query="How warm is it?"), timeout=60)
            assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
            # It has asked the tools for their list, with the token.
            metadata = (("authorization", f"Bearer {token}"),)
            reply = stub.Initialize(pb.InitializeRequest(query="How warm is it?"), timeout=60, metadata=metadata)
            assert reply.success, reply.error
        (tmp_path / "hector.yaml").write_text((ROOT / "deploy" / "hector.yaml").read_text())
        (tmp_path / "docs").mkdir()
        (tmp_path / "docs" / "animals.md").write_text("# Animals\n\nThe wombat lives in the broom cupboard.\n")
        asked = variables | {"HECTOR_TOKEN": token}
        for words in (["index", "docs"], ["call", "assistant", "Where does the wombat live?", "--stream"]):
            done = subprocess.run([sys.executable, "-m", "host", *words], cwd=tmp_path, env=asked, capture_output=True,
                                  text=True, timeout=SECONDS)  # fmt: skip
            assert done.returncode == 0, done.stderr
        assert "The wombat lives in the broom cupboard." in done.stdout
        assert "animals.md" in done.stdout
        networks = {
            name: set(json.loads(docker("inspect", "--format", "{{json .NetworkSettings.Networks}}", name)))
            for name in ours("ps").split()
        }
        assert len(networks) == 5
        assert sum(f"{project}_outside" in names for names in networks.values()) == 2
    finally:
        run("down", "DATA=gone")
    assert not ours("ps", "--all")
    assert not ours("network", "ls")
    assert not ours("volume", "ls")
    assert not secrets.exists()


def _health(channel: grpc.Channel) -> str:
    try:
        reply = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=5)
    except grpc.RpcError as error:
        return str(error.code())
    return str(health_pb2.HealthCheckResponse.ServingStatus.Name(reply.status))
