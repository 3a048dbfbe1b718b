"""A new project of each kind where only it is: installed beside the others, called, held to its tests and linters."""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import venv
from collections.abc import Iterator
from pathlib import Path

import hector_plugins_pb2 as pb
import pytest
from hector_plugins_pb2_grpc import ReasoningStrategyStub

from host.new.generate import generate
from host.new.kind import KINDS
from tests.containers import need_engine
from tests.servers import ROOT, SECONDS, Plugin, details, environment, run_plugin, start_plugin, wait_until

pytestmark = pytest.mark.slow

# Names that nothing has had before.
NAMES = {
    "llm_provider": "oak_speaks",
    "database_provider": "shelf_of_oak",
    "embedder_provider": "acorn_vectors",
    "tool_provider": "garden_tools",
    "reasoning_strategy": "slow_oak",
}
every_kind = pytest.mark.parametrize("kind", KINDS)


@pytest.fixture(scope="module")
def projects(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a project of each kind, as they were generated."""
    folder = tmp_path_factory.mktemp("projects")
    for kind, name in NAMES.items():
        generate(KINDS[kind], name, folder / name)
    return folder


@pytest.fixture(scope="module")
def clean(projects: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The interpreter of an environment with all five projects, installed by pip, and what they depend on."""
    folder = tmp_path_factory.mktemp("clean") / "venv"
    venv.create(folder, with_pip=True)
    python = folder / "bin" / "python"
    pip = [str(python), "-m", "pip", "--disable-pip-version-check", "--quiet", "install"]
    subprocess.run(
        [*pip, *(f"{projects / name}[dev]" for name in NAMES.values())], check=True, env=alone(), timeout=900
    )
    yield python
    shutil.rmtree(folder)


def alone() -> dict[str, str]:
    """This process's environment without this project's modules."""
    return {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}


def in_clean(python: Path, *argv: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [python, *argv], cwd=cwd, env=alone(), capture_output=True, text=True, check=False, timeout=600
    )


def test_no_clash(clean: Path, tmp_path: Path) -> None:
    """Five projects side by side bring five modules, in one process too, and none of this repository's is there."""
    script = "\n".join(
        [
            *(f"import {name}, {name}.servicer, {name}.shared.hector_plugins_pb2 as pb" for name in NAMES.values()),
            "import importlib.util",
            "names = ('shared', 'host', 'plugins', 'tests', 'hector_plugins_pb2', 'hector_plugins_pb2_grpc')",
            "print([name for name in names if importlib.util.find_spec(name)])",
        ]
    )
    done = in_clean(clean, "-c", script, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, "[]\n"), done.stderr


@every_kind
def test_installed(kind: str, clean: Path, tmp_path: Path) -> None:
    """An installed project runs from any folder, says its own name and stops with status 0."""
    name = NAMES[kind]
    shown = in_clean(clean, "-m", name, "--help", cwd=tmp_path)
    assert shown.stdout.startswith(f"usage: python -m {name} ")
    assert f"{name.upper()}__KEY" in shown.stdout
    command = [str(clean), "-m", name, "--port", "0"]
    with start_plugin(command, cwd=tmp_path, env={"PYTHONPATH": ""}) as plugin:
        assert plugin.terminate() == 0


@every_kind
def test_its_own_tests(kind: str, projects: Path, clean: Path) -> None:
    """The tests of a project pass where it was made."""
    done = in_clean(clean, "-m", "pytest", "-q", cwd=projects / NAMES[kind])
    assert done.returncode == 0, done.stdout + done.stderr


@every_kind
def test_its_linters(kind: str, projects: Path, clean: Path) -> None:
    """ruff finds nothing in a project, mypy nothing under --strict, and both are formatted as ruff has it."""
    folder = projects / NAMES[kind]
    for argv in (["ruff", "check"], ["ruff", "format", "--check"], ["mypy", NAMES[kind], "tests"]):
        done = in_clean(clean, "-m", *argv, cwd=folder)
        assert done.returncode == 0, done.stdout + done.stderr


@every_kind
def test_the_makefile(kind: str, projects: Path) -> None:
    """Each target that a project's Makefile names is one."""
    folder = projects / NAMES[kind]
    for target in ("help", "run", "test", "lint", "check", "image"):
        done = subprocess.run(["make", "-n", target], cwd=folder, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr


@every_kind
def test_the_kit(kind: str, clean: Path, tmp_path: Path) -> None:
    """A project as it was generated, installed, keeps the contract: every claim of the kit's level `guide`."""
    command = f"env -u PYTHONPATH {clean} -m {NAMES[kind]}"
    argv = [sys.executable, "-m", "host", "check", *shlex.split(KINDS[kind].check), "--run", command]
    done = subprocess.run(
        argv, cwd=tmp_path, env=environment(), capture_output=True, text=True, check=False, timeout=600
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_beside_the_reference(projects: Path, tmp_path: Path) -> None:
    """`python -m host` indexes and searches with a new vector store and a new embedder, each as its YAML has it."""
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "wifi.md").write_text("# Wifi\n\nThe password of the wifi is on the fridge.\n")
    (tmp_path / "docs" / "cats.md").write_text("# Cats\n\nCats sleep all day long.\n")
    store, embedder = NAMES["database_provider"], NAMES["embedder_provider"]
    (tmp_path / "hector.yaml").write_text(
        "plugins:\n"
        f"  database_providers: {{{store}: {{type: grpc, path: {store}}}}}\n"
        f"  embedder_providers: {{{embedder}: {{type: grpc, path: {embedder}}}}}\n"
        f"databases: {{docs: {{type: 'plugin:{store}'}}}}\n"
        f"embedders: {{default: {{type: 'plugin:{embedder}'}}}}\n"
    )
    paths = [str(projects / name) for name in (store, embedder)]
    env = environment({"PYTHONPATH": os.pathsep.join([*paths, environment()["PYTHONPATH"]])})
    for argv, says in ((["index", "docs"], "2"), (["search", "where is the password of the wifi?"], "wifi.md")):
        argv = [sys.executable, "-m", "host", *argv]
        done = subprocess.run(argv, cwd=tmp_path, env=env, capture_output=True, text=True, check=False, timeout=120)
        assert done.returncode == 0, done.stdout + done.stderr
        assert says in done.stdout


def test_served_together(projects: Path, tmp_path: Path) -> None:
    """`python -m host serve` runs a new plugin of each kind, and one of the five plugins beside them."""
    blocks = [
        *(f"  {KINDS[kind].section}: {{{name}: {{type: grpc, path: {name}}}}}\n" for kind, name in NAMES.items()),
        "  vectors: {type: grpc, path: plugins.vector_hnsw}\n",
    ]
    (tmp_path / "hector.yaml").write_text("plugins:\n" + "".join(blocks))
    paths = [str(projects / name) for name in NAMES.values()]
    env = environment({"PYTHONPATH": os.pathsep.join([*paths, environment()["PYTHONPATH"]])})
    argv = [sys.executable, "-m", "host", "serve"]
    with subprocess.Popen(
        argv, cwd=tmp_path, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as host:
        assert host.stdout is not None
        over = threading.Timer(SECONDS, host.kill)
        over.start()
        waiting, seen = {*NAMES.values(), "vectors"}, []
        for line in host.stdout:
            seen.append(line)
            waiting -= {name for name in waiting if name in line}
            if "Ctrl-C" in line:
                break
        host.send_signal(signal.SIGINT)
        _, errors = host.communicate()
        over.cancel()
    assert not waiting, "".join(seen) + errors
    assert host.returncode == 0, errors


def test_agents_of_them(projects: Path, tmp_path: Path) -> None:
    """`python -m host` lists a new plugin's tools, runs one, and has agents answer: one with a new strategy, which asks
    the new LLM that the host tells it of, and one without."""
    strategy, llm, tools = NAMES["reasoning_strategy"], NAMES["llm_provider"], NAMES["tool_provider"]
    (tmp_path / "hector.yaml").write_text(
        "plugins:\n"
        f"  reasoning_strategies: {{{strategy}: {{type: grpc, path: {strategy}}}}}\n"
        f"  llm_providers: {{{llm}: {{type: grpc, path: {llm}}}}}\n"
        f"  tool_providers: {{{tools}: {{type: grpc, path: {tools}}}}}\n"
        f"llms: {{default: {{type: 'plugin:{llm}'}}}}\n"
        "agents:\n"
        f"  thinker: {{llm: default, reasoning: {{engine: 'plugin:{strategy}'}}, tools: ['plugin:{tools}']}}\n"
        f"  plain: {{llm: default, tools: ['plugin:{tools}']}}\n"
    )
    paths = [str(projects / name) for name in (strategy, llm, tools)]
    env = environment({"PYTHONPATH": os.pathsep.join([*paths, environment()["PYTHONPATH"]])})
    for argv, says in (
        (["tools"], "current_time"),
        (["try", tools, "ExecuteTool", '{"tool": "current_time"}'], '"success": true'),
        (["call", "thinker", "What is new?"], "What is new?"),
        (["call", "plain", "What is new?"], "What is new?"),
    ):
        argv = [sys.executable, "-m", "host", *argv]
        done = subprocess.run(argv, cwd=tmp_path, env=env, capture_output=True, text=True, check=False, timeout=SECONDS)
        assert done.returncode == 0, done.stdout + done.stderr
        assert says in done.stdout


def test_react_over_new_plugins(projects: Path, tmp_path: Path) -> None:
    """reasoning_react answers with a new LLM and new tools, and a new strategy with the same LLM."""
    with contextlib.ExitStack() as stack:

        def start(kind: str, *args: str) -> Plugin:
            env = {"PYTHONPATH": str(projects / NAMES[kind])}
            command = [sys.executable, "-m", NAMES[kind], "--port", "0", *args]
            return stack.enter_context(start_plugin(command, cwd=tmp_path, env=env))

        llm, tools = start("llm_provider"), start("tool_provider")
        strategy = start("reasoning_strategy", "--llm", llm.address)
        stub = ReasoningStrategyStub(strategy.channel())
        state = stub.Initialize(pb.InitializeRequest(query="What is new?"), timeout=SECONDS).state
        step = stub.ProcessIteration(pb.ProcessIterationRequest(state=state), timeout=SECONDS)
        assert (step.done, step.result) == (True, "What is new?")
        llm.terminate()
        down = stub.ProcessIteration(pb.ProcessIterationRequest(state=state), timeout=SECONDS)
        assert (down.success, details(down.status).reason) == (False, "LLM_FAILED")
        llm = start("llm_provider")
        argv = ["Final Answer: 4", "--mode", "text", "--llm", llm.address, "--tools", tools.address]
        done = run_plugin("plugins.reasoning_react.run", *argv, cwd=tmp_path)
        assert (done.returncode, "4" in done.stdout) == (0, True), done.stderr


def test_another_store(tmp_path: Path) -> None:
    """A store of somebody else's, SQLite in the place of the dictionary, takes a change of engine.py, config.py and the
    line of the test that makes an engine: then its tests pass, the kit finds nothing, and the host searches with it."""
    folder = generate(KINDS["database_provider"], "sqlite_store", tmp_path / "sqlite_store")
    for name in ("engine.py", "config.py"):
        shutil.copy(ROOT / "tests" / "data" / "sqlite_store" / f"{name}.txt", folder / "sqlite_store" / name)
    test = folder / "tests" / "test_plugin.py"
    text = test.read_text(encoding="utf-8")
    assert text.count("Engine(tmp_path)") == 2
    test.write_text(text.replace("Engine(tmp_path)", 'Engine(tmp_path / "store.sqlite")'), encoding="utf-8")
    embedder = tmp_path / "acorn_vectors"
    generate(KINDS["embedder_provider"], "acorn_vectors", embedder)
    yaml = (folder / "hector.yaml").read_text(encoding="utf-8").replace("plugins.embed_st", "acorn_vectors")
    (folder / "hector.yaml").write_text(yaml, encoding="utf-8")
    (folder / "wifi.md").write_text("The password of the wifi is on the fridge.\n")
    env = environment({"PYTHONPATH": os.pathsep.join([str(embedder), environment()["PYTHONPATH"]])})
    for argv, says in (
        (["pytest", "-q"], "5 passed"),
        (["host", "check", "--run", f"{sys.executable} -m sqlite_store"], "level guide"),
        (["host", "index", "."], "chunks embedded"),
        (["host", "search", "where is the password of the wifi?"], "wifi.md:1"),
    ):
        argv = [sys.executable, "-m", *argv]
        done = subprocess.run(argv, cwd=folder, env=env, capture_output=True, text=True, check=False, timeout=300)
        assert done.returncode == 0, done.stdout + done.stderr
        assert says in done.stdout
    assert (folder / "data" / "sqlite_store.sqlite").is_file()


def test_from_a_wheel(tmp_path: Path) -> None:
    """`python -m host new` works where hector-plugins was installed: the wheel has all that a project is made of."""
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    subprocess.run([*pip, "wheel", "--no-deps", "--wheel-dir", str(tmp_path), str(ROOT)], check=True)
    (wheel,) = tmp_path.glob("*.whl")
    site = tmp_path / "site"
    subprocess.run([*pip, "install", "--no-deps", "--target", str(site), str(wheel)], check=True)
    env = {**alone(), "PYTHONPATH": str(site)}
    argv = [sys.executable, "-m", "host", "new", "tool_provider", "my_own"]
    done = subprocess.run(argv, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    generate(KINDS["tool_provider"], "my_own", tmp_path / "from_source")
    made, expected = tmp_path / "my_own", tmp_path / "from_source"
    files = [path.relative_to(expected) for path in expected.rglob("*") if path.is_file()]
    assert len(files) > 30
    for file in files:
        assert (made / file).read_bytes() == (expected / file).read_bytes(), file


@pytest.mark.images
@every_kind
def test_the_image(kind: str, projects: Path) -> None:
    """The image of a project builds, and its plugin serves in it as an ordinary user, and stops when it is told to."""
    need_engine()
    name = NAMES[kind]
    subprocess.run(["docker", "build", "--network=host", "-t", name, str(projects / name)], check=True, timeout=900)
    run = ["docker", "run", "--detach", "-e", f"{name.upper()}__TOKEN=secret", name]
    container = subprocess.run(run, capture_output=True, text=True, check=True, timeout=SECONDS).stdout.strip()
    try:
        health = ["docker", "exec", container, "/venv/bin/python", "-m", name, "--health"]
        wait_until(lambda: subprocess.run(health, capture_output=True, check=False).returncode == 0, "health")
        user = subprocess.run(["docker", "exec", container, "id", "-u"], capture_output=True, text=True, check=True)
        assert user.stdout == "10001\n"
        subprocess.run(["docker", "stop", "--time", "60", container], capture_output=True, check=True, timeout=120)
        wait = subprocess.run(["docker", "wait", container], capture_output=True, text=True, check=True, timeout=60)
        assert wait.stdout == "0\n"
    finally:
        subprocess.run(["docker", "rm", "--force", "--volumes", container], capture_output=True, check=False)
        subprocess.run(["docker", "rmi", name], capture_output=True, check=False)
