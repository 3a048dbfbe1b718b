"""`python -m host new`: the project that it makes, or why it makes none."""

from __future__ import annotations

import ast
import asyncio
import json
import keyword
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any, cast

import hector_plugins_pb2 as pb
import pytest

from host.__main__ import main
from host.new import command, copied, rewrite
from host.new.generate import generate, project
from host.new.kind import KINDS
from host.new.kinds.reasoning_strategy.engine import Engine, Run
from host.new.kinds.reasoning_strategy.servicer import Servicer
from host.new.names import check_name
from shared.errors import StartError
from shared.sealed import SHORTEST_KEY, Sealed
from tests.servers import ROOT, run_plugin, start_plugin

every_kind = pytest.mark.parametrize("kind", KINDS)
OWN = {"__init__.py", "__main__.py", "config.py", "engine.py", "servicer.py"}
OWN_LINES = 270  # of a project's package without `shared`, at most
# Module → what pip knows it by.
DISTRIBUTIONS = {
    "google": ("googleapis-common-protos", "protobuf"),
    "grpc": ("grpcio",),
    "grpc_health": ("grpcio-health-checking",),
    "grpc_reflection": ("grpcio-reflection",),
    "jsonschema_rs": ("jsonschema-rs",),
    "yaml": ("pyyaml",),
}


def new(*argv: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return run_plugin("host", "new", *argv, cwd=cwd)


def texts(kind: str, name: str = "my_own") -> dict[str, str]:
    """The files of a project, by path."""
    return {path: data.decode() for path, data in project(KINDS[kind], name).items()}


# ---------------------------------------------------------------- what it is


@every_kind
def test_the_files(kind: str) -> None:
    """A project has the files of the five plugins in a package, the files around it, and one module at the top."""
    paths = [Path(path) for path in texts(kind)]
    assert {path.name for path in paths if path.parent == Path("my_own")} - {"llm.py"} == OWN
    assert {path.parts[0] for path in paths if len(path.parts) > 1} == {"my_own", "tests"}
    assert {str(path) for path in paths if len(path.parts) == 1} == {
        *(".dockerignore", ".gitignore", "Dockerfile", "Makefile", "README.md", "hector.yaml", "pyproject.toml")
    }


@every_kind
def test_what_is_ones_own_is_little(kind: str) -> None:
    """What an author reads and changes is short; the one place for the idea is marked once, in the engine."""
    own = {path: text for path, text in texts(kind).items() if re.fullmatch(r"my_own/\w+\.py", path)}
    assert sum(text.count("\n") for text in own.values()) <= OWN_LINES
    assert [path for path, text in own.items() if "YOUR IDEA" in text] == ["my_own/engine.py"]
    assert own["my_own/engine.py"].count("YOUR IDEA") == 1


@every_kind
def test_engines_know_no_transport(kind: str) -> None:
    """An engine imports neither grpc nor messages, nor what the settings are read with, and reads no environment."""
    known = {"shared.errors", "shared.journal"}
    for node in ast.walk(ast.parse((ROOT / "host/new/kinds" / kind / "engine.py").read_text(encoding="utf-8"))):
        assert not (isinstance(node, ast.Attribute) and node.attr in ("environ", "getenv"))
        if isinstance(node, ast.ImportFrom):
            assert not node.level, node.module
            assert not str(node.module).startswith(("grpc", "google", "hector", "shared")) or node.module in known
        elif isinstance(node, ast.Import):
            assert not [alias.name for alias in node.names if alias.name.startswith(("grpc", "google", "hector"))]


@every_kind
def test_it_is_called_by_its_name(kind: str) -> None:
    """No file of a project still has what a template leaves open, or the name of a module of this repository."""
    for path, text in texts(kind).items():
        if not path.startswith("my_own/shared/"):
            assert "{{" not in text, path
            left = re.findall(r"host\.new|^from (?:shared|hector_\w+) |\bplugins\.[a-z]+_[a-z]+", text, re.MULTILINE)
            known = ["plugins.embed_st", "plugins.vector_hnsw"] if path == "hector.yaml" else []
            assert set(left) <= set(known), path


@every_kind
def test_it_stands_on_its_own(kind: str) -> None:
    """Every import of a project is its own, Python's or one that its pyproject.toml names; and nothing is missing."""
    files = texts(kind)
    needs = tomllib.loads(files["pyproject.toml"])["project"]["dependencies"]
    named = {re.split(r"[<>=\[]", need)[0] for need in needs}
    for path, text in files.items():
        if not path.endswith(".py"):
            continue
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Import):
                modules = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.level:
                folder = Path(path).parents[node.level - 1]
                base = folder.joinpath(*(node.module or "").split("."))
                inner = [base] if node.module else [folder / alias.name for alias in node.names]
                for module in inner:
                    known = {f"{module}.py", f"{module}/__init__.py"} & files.keys()
                    assert known or module.name == "PACKAGE", f"{path}: {module}"
                continue
            elif isinstance(node, ast.ImportFrom):
                modules = [node.module or ""]
            else:
                continue
            for name in (module.partition(".")[0] for module in modules):
                if name in sys.stdlib_module_names or (path.startswith("tests/") and name in ("my_own", "pytest")):
                    continue
                assert set(DISTRIBUTIONS.get(name, (name,))) <= named, f"{path}: {name}"


@every_kind
def test_dependencies_are_bounded_alike(kind: str) -> None:
    """A project bounds its dependencies as this one does."""
    with (ROOT / "pyproject.toml").open("rb") as file:
        ours = tomllib.load(file)["project"]
    known = {need for needs in (ours["dependencies"], *ours["optional-dependencies"].values()) for need in needs}
    files = texts(kind)
    theirs = tomllib.loads(files["pyproject.toml"])["project"]
    assert {*theirs["dependencies"], *theirs["optional-dependencies"]["dev"]} <= known
    assert all(need in ours["dependencies"] or need in KINDS[kind].needs for need in theirs["dependencies"])


@every_kind
def test_readme_is_true(kind: str) -> None:
    """Every file that a project's README names is there, and its edits are numbered from 1."""
    files = texts(kind)
    for name in re.findall(r"`((?:my_own|tests)/[\w./]+|\w+\.(?:py|toml|yaml))`", files["README.md"]):
        assert any(path == name or path == f"my_own/{name}" or path.startswith(name) for path in files), name
    numbers = [int(number) for number in re.findall(r"^(\d)\. ", files["README.md"], re.MULTILINE)]
    assert numbers == list(range(1, len(numbers) + 1))
    assert len(numbers) >= 5


def test_it_runs_at_once(tmp_path: Path) -> None:
    """A new project runs in its folder under its own name, says what to try, and knows nothing of this repository."""
    done = new("database_provider", "my_own", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert "python -m my_own --port 0\n" in done.stdout
    folder = tmp_path / "my_own"
    assert oct(folder.stat().st_mode) == oct((ROOT / "host").stat().st_mode)
    command = [sys.executable, "-c", NOTHING_OF_OURS, "--port", "0"]
    with start_plugin(command, cwd=folder, env={"PYTHONPATH": ""}) as plugin:
        assert plugin.terminate() == 0
    assert (folder / "data" / "my_own").is_dir()


@pytest.mark.slow
@every_kind
def test_without_its_libraries(kind: str, tmp_path: Path) -> None:
    """Where grpc or another library is not installed, a project says which, where it is imported, and the remedy."""
    folder = generate(KINDS[kind], "my_own", tmp_path / "my_own")
    python = [sys.executable, "-I", "-c", WITHOUT_LIBRARIES]
    done = subprocess.run([*python, "--port", "0"], cwd=folder, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert re.fullmatch(
        rf"error: \w+ is not installed for {re.escape(sys.executable)} \(\w+\.py, line \d+, imports it\): .*"
        "`pip install .` in the project's folder, for what its pyproject.toml names",
        line,
    )
    shown = subprocess.run([*python, "--help"], cwd=folder, capture_output=True, text=True, check=False)
    assert (shown.returncode, shown.stderr) == (0, "")
    assert "--port PORT" in shown.stdout


# A Python that has but its own library.
WITHOUT_LIBRARIES = """
import runpy, sys
sys.path = [".", *(path for path in sys.path if "site-packages" not in path)]
runpy.run_module("my_own", None, "__main__", True)
"""


def test_the_host_without_its_libraries(tmp_path: Path) -> None:
    """`python -m host` without the libraries that it needs says which, and the remedy, in one line."""
    script = WITHOUT_LIBRARIES.replace("my_own", "host").replace('"."', repr(str(ROOT)))
    argv = [sys.executable, "-I", "-c", script, "new", "tool_provider", "my_own"]
    done = subprocess.run(argv, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert re.fullmatch(
        r"error: \w+ is not installed for .*`pip install '\.\[host\]'` in the project's folder.*\n", done.stderr
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    "plugin", ["embed_st", "llm_openai", "reasoning_react", "tools_http", "vector_hnsw", "vector_pg"]
)
def test_a_plugin_without_its_libraries(plugin: str, tmp_path: Path) -> None:
    """A plugin of ours names its extra where grpc is not installed, in one line, and shows its --help all the same."""
    script = f"""
import importlib.util, runpy, sys
sys.path = [{str(ROOT)!r}, {str(ROOT / "proto")!r}, *(path for path in sys.path if "site-packages" not in path)]
find = importlib.util.find_spec  # all else is there
there = lambda name: None if name in ("grpc", "yaml") else find("json")
importlib.util.find_spec = lambda name, *rest: find(name, *rest) or there(name)
runpy.run_module("plugins.{plugin}", None, "__main__", True)
"""
    argv = [sys.executable, "-I", "-c", script]
    done = subprocess.run([*argv, "--port", "0"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, ""), done.stderr
    (line,) = done.stderr.splitlines()
    extra = plugin.replace("_", "-")
    assert re.fullmatch(rf"error: \w+ is not installed for .*`pip install '\.\[{extra}\]'` in the project's.*", line)
    shown = subprocess.run([*argv, "--help"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (shown.returncode, shown.stderr) == (0, "")


def test_a_host_without_a_yaml(tmp_path: Path) -> None:
    """Where there is no YAML the host says so, and where to run it."""
    done = run_plugin("host", "serve", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr == "error: there is no hector.yaml; run this where there is one, or name one with --config\n"


def test_a_model_that_nobody_reads_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """A turn that `max_tokens` cuts short ends the model's writing before the reply is sent."""
    from host.new.kinds.llm_provider.engine import Engine
    from host.new.kinds.llm_provider.servicer import Servicer

    ended = False

    async def write(engine: Engine, messages: object) -> AsyncGenerator[str, None]:
        nonlocal ended
        try:
            while True:
                yield "again "
        finally:
            ended = True

    monkeypatch.setattr(Engine, "write", write)
    options = pb.GenerationOptions(max_tokens=2)

    async def asked() -> tuple[pb.GenerateTextResponse, bool]:
        request = pb.GenerateTextRequest(prompt="go on", options=options)
        return await Servicer(Engine("echo")).GenerateText(request, cast(Any, None)), ended

    reply, ended_before_reply = asyncio.run(asked())
    assert (reply.text, reply.finish_reason) == ("again again ", pb.FINISH_REASON_LENGTH)
    assert ended_before_reply


def test_what_is_missing_of_its_own_is_a_bug(tmp_path: Path) -> None:
    """A misspelt import of a module of one's own keeps its traceback: no pip could help."""
    folder = generate(KINDS["tool_provider"], "my_own", tmp_path / "my_own")
    engine = folder / "my_own" / "engine.py"
    engine.write_text("from .convertor import convert\n" + engine.read_text().replace("from __future__", "# "))
    done = run_plugin("my_own", "--port", "0", cwd=folder)
    assert done.returncode == 1
    assert "No module named 'my_own.convertor'" in done.stderr


def test_a_schema_that_is_none(tmp_path: Path) -> None:
    """A tool whose parameters are no JSON Schema is named at the start, with the place in it."""
    folder = generate(KINDS["tool_provider"], "my_own", tmp_path / "my_own")
    engine = folder / "my_own" / "engine.py"
    engine.write_text(engine.read_text().replace('"type": "string"', '"type": "strnig"'))
    done = run_plugin("my_own", "--port", "0", cwd=folder)
    assert done.returncode == 2
    says = "error: tool current_time: parameters.properties.timezone.type is no JSON Schema: "
    assert done.stderr.startswith(says)
    assert done.stderr.count("\n") == 1


@every_kind
def test_it_says_what_to_try(kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What is printed names the kind in good English, and each command to try as it is typed."""
    command.run(kind, "my_own", str(tmp_path / "my_own"), None)
    printed = capsys.readouterr().out
    article = "an" if kind in ("llm_provider", "embedder_provider") else "a"
    assert f"my_own is {article} {KINDS[kind].service} that runs." in printed
    assert f"  python -m host check --run 'python -m my_own' {KINDS[kind].check}".rstrip() + "\n" in printed
    assert f"make check HECTOR={sys.executable}\n" in printed
    assert f"\n{article.capitalize()} {KINDS[kind].service} for [Hector]" in texts(kind)["README.md"]


def test_make_check_without_the_kit(tmp_path: Path) -> None:
    """`make check` with a Python that has no hector-plugins says so, and what to give."""
    folder = generate(KINDS["tool_provider"], "my_own", tmp_path / "my_own")
    (folder / ".venv").mkdir()
    (folder / ".venv" / ".installed").touch()
    argv = ["make", "check", f"HECTOR={sys.executable} -I -S"]
    env = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(argv, cwd=folder, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "has no hector-plugins: give HECTOR=PYTHON, one that has\n" in done.stderr


NOTHING_OF_OURS = """
import runpy, sys
for name in ("shared", "host", "plugins", "hector_plugins_pb2", "hector_plugins_pb2_grpc"):
    sys.modules[name] = None
runpy.run_module("my_own", None, "__main__", True)
"""


# ---------------------------------------------------------------- or none


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("My-DB", "try my_db"),
        ("myDB", "try my_db"),
        ("2fast", "try fast"),
        ("a__b", "try a_b"),
        ("_mine", "try mine"),
        ("mine_", "try mine"),
        ("", "as my_plugin"),
        ("../up", "try up"),
        ("a.b", "try a_b"),
        ("bäume", "single underscores"),
        ("x" * 41, "at most 40"),
        ("class", "a word of Python's language; choose another, such as my_class"),
        ("match", "a word of Python's language"),
        ("json", "a module of Python's own library"),
        ("test", "is installed already"),
        ("shared", "one of hector-plugins' own"),
        ("host", "one of hector-plugins' own"),
        ("plugins", "one of hector-plugins' own"),
        ("tests", "one of hector-plugins' own"),
        ("numpy", "is installed already"),
        ("grpc", "is installed already"),
        ("google", "is installed already"),
        ("grpcio", "is installed already"),
    ],
)
def test_names_that_cannot_be_had(name: str, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bad or taken name is refused in one sentence that says why, and nothing is written."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(StartError, match=re.escape(says)) as caught:
        generate(KINDS["tool_provider"], name)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["my_db", "a", "vectors2", "x_1"])
def test_names_that_can(name: str) -> None:
    """A plain name that nothing has is taken."""
    assert not keyword.iskeyword(name)
    check_name(name)


@pytest.mark.parametrize("there", ["folder", "file", "dangling link"])
def test_what_is_there_stays(there: str, tmp_path: Path) -> None:
    """Where there is something nothing is written, neither there nor beside it."""
    target = tmp_path / "my_own"
    if there == "folder":
        target.mkdir()
        (target / "mine").mkdir()
    elif there == "file":
        target.write_text("mine")
    else:
        target.symlink_to("nowhere")
    with pytest.raises(StartError, match="there already; give another folder with --to"):
        generate(KINDS["tool_provider"], "my_own", target)
    assert list(tmp_path.iterdir()) == [target]
    assert not target.is_dir() or list(target.iterdir()) == [target / "mine"]


@pytest.mark.parametrize("there", [[], [".git"]])
def test_an_empty_folder_is_filled(there: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty folder, or that of a repository without files, takes a project, and stays the same folder."""
    target = tmp_path / "fresh"
    target.mkdir()
    for name in there:
        (target / name).mkdir()
    monkeypatch.chdir(target)
    assert generate(KINDS["tool_provider"], "my_own", Path(".")) == target
    expected = {path.split("/")[0] for path in texts("tool_provider")} | set(there)
    assert {name.name for name in Path(".").iterdir()} == expected
    assert list(tmp_path.iterdir()) == [target]


def test_a_folder_that_cannot_be_filled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where moving files into an empty folder fails in the middle, it is empty again."""
    rename, calls = Path.rename, []

    def failing(path: Path, target: Path) -> Path:
        calls.append(path)
        if len(calls) == 4:
            raise OSError(13, "Permission denied")
        return rename(path, target)

    target = tmp_path / "fresh"
    target.mkdir()
    monkeypatch.setattr(Path, "rename", failing)
    with pytest.raises(StartError, match="Permission denied"):
        generate(KINDS["tool_provider"], "my_own", target)
    assert len(calls) > 4
    assert list(tmp_path.iterdir()) == [target]
    assert list(target.iterdir()) == []


def test_all_or_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that is full in the middle of it leaves nothing behind."""
    write, written = Path.write_bytes, []

    def full(path: Path, data: bytes) -> int:
        written.append(path)
        if len(written) > 10:
            raise OSError(28, "No space left on device")
        return write(path, data)

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(StartError, match="No space left on device"):
        generate(KINDS["tool_provider"], "my_own", tmp_path / "my_own")
    assert len(written) == 11
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        ([], "which plugin? python -m host new KIND NAME; KIND is llm_provider, database_provider"),
        (["tool_provider"], "NAME is missing: what is the plugin to be called?"),
        (["tool", "my_own"], "there is no kind 'tool'; did you mean 'tool_provider'?"),
        (["Embedder-Provider", "my_own"], "did you mean 'embedder_provider'?"),
        (["my_own"], "there is no kind 'my_own'; known are database_provider"),
        (["my_own", "llm_provider"], "the kind comes first: python -m host new llm_provider my_own"),
        (["tool_providr", "my_own"], "there is no kind 'tool_providr'; did you mean 'tool_provider'?"),
        (["tool_provider", "my_own", "--to", "no/such/folder"], "No such file or directory; give another --to"),
        (["tool_provider", "my_own", "--renew", "."], "--renew DIR stands alone"),
        (["--renew", "."], "is no project that `python -m host new` made"),
        (["--renew", "nowhere"], "there is no folder nowhere"),
    ],
)
def test_command_line(argv: list[str], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is wrong on the command line is one sentence, and nothing is written."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["host", "new", *argv])
    with pytest.raises(StartError, match=re.escape(says)) as caught:
        main()
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


# ---------------------------------------------------------------- what it stands on


def test_renewing(tmp_path: Path) -> None:
    """A copy of another version, or without a module that the project has come to import, is brought up to date."""
    folder = generate(KINDS["tool_provider"], "my_own", tmp_path / "my_own")
    copy = folder / "my_own" / "shared"
    was = {path: path.read_bytes() for path in copy.rglob("*") if path.is_file()}
    copied.renew(folder)
    assert {path: path.read_bytes() for path in copy.rglob("*") if path.is_file()} == was

    old = json.loads((copy / copied.LIST).read_text())
    (copy / "turns.py").write_text("# of an older version\n")
    old["files"]["turns.py"] = copied._digest((copy / "turns.py").read_bytes())
    old["version"] = "0.0.1"
    (copy / copied.LIST).write_text(json.dumps(old))
    engine = folder / "my_own" / "engine.py"
    engine.write_text("from .shared import nearest, hector_plugins_pb2\n" + engine.read_text())
    (folder / "tests" / "test_more.py").write_text("from my_own.shared.loose_json import errors\n")
    done = new("--renew", "my_own", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert "(it was of 0.0.1)" in done.stdout
    now = {path: path.read_bytes() for path in copy.rglob("*") if path.is_file() and "__pycache__" not in path.parts}
    extra = {
        copy / "nearest.py",
        *(copy / "loose_json" / path.name for path in (ROOT / "shared/loose_json").glob("*.py")),
    }
    assert now.keys() - was.keys() == extra
    assert now[copy / "turns.py"] == was[copy / "turns.py"]
    assert [path.name for path in folder.joinpath("my_own").iterdir() if path.name.startswith(".")] == []


def test_renewing_with_what_knows_messages(tmp_path: Path) -> None:
    """A project that comes to import `shared.vector_messages` gets what that stands on, with the project's stubs."""
    folder = generate(KINDS["database_provider"], "my_own", tmp_path / "my_own")
    (folder / "my_own" / "more.py").write_text(
        "from .shared import hector_plugins_pb2 as pb\n"
        "from .shared.vector_messages.filters import read_filter\n"
        "from .shared.vector_messages.requests import read_query\n"
        "print(read_filter(pb.Filter(must=[pb.Condition(exists='a')])).must[0])\n"
    )
    copied.renew(folder)
    script = NOTHING_OF_OURS.replace('"my_own"', '"my_own.more"')
    done = subprocess.run([sys.executable, "-c", script], cwd=folder, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "Exists(field='a')\n"), done.stderr


@pytest.mark.parametrize("how", ["changed", "added"])
def test_renewing_overwrites_nothing(how: str, tmp_path: Path) -> None:
    """A copy in which somebody has changed or added a file is left as it is, and the file is named."""
    folder = generate(KINDS["tool_provider"], "my_own", tmp_path / "my_own")
    file = folder / "my_own" / "shared" / ("errors.py" if how == "changed" else "mine.py")
    file.write_text("# mine\n")
    with pytest.raises(StartError, match=rf"{file.name} is not as it was copied"):
        copied.renew(folder)
    assert file.read_text() == "# mine\n"


def test_renewing_with_nothing_new(tmp_path: Path) -> None:
    """A copy that is up to date is left alone, which is said; inside the project, its folder is named."""
    folder = generate(KINDS["tool_provider"], "my_own", tmp_path / "my_own")
    before = (folder / "my_own" / "shared").stat().st_ino
    assert copied.renew(folder) == f"{folder}/my_own/shared is up to date, of hector-plugins {copied.version()}"
    assert (folder / "my_own" / "shared").stat().st_ino == before
    with pytest.raises(StartError, match=f"; {re.escape(str(folder))} is one$"):
        copied.renew(folder / "my_own")


@pytest.mark.parametrize("data", [b"def broken(:\n", b"\xff\xfe"])
def test_renewing_what_is_not_python(data: bytes, tmp_path: Path) -> None:
    """A module of the project's own that cannot be parsed is named, and its copy stays."""
    folder = generate(KINDS["tool_provider"], "my_own", tmp_path / "my_own")
    (folder / "my_own" / "more.py").write_bytes(data)
    with pytest.raises(StartError, match=r"more.py.*: this is not Python; mend it"):
        copied.renew(folder)
    assert (folder / "my_own" / "shared" / "errors.py").is_file()


def test_renewing_what_is_not_there(tmp_path: Path) -> None:
    """A project that imports a module of `shared` that this version does not have keeps its copy."""
    folder = generate(KINDS["tool_provider"], "my_own", tmp_path / "my_own")
    (folder / "my_own" / "more.py").write_text("from .shared.gone import x\n")
    with pytest.raises(StartError, match=r"has no shared/gone.py, which the project imports"):
        copied.renew(folder)
    assert (folder / "my_own" / "shared" / "errors.py").is_file()


def test_rewriting() -> None:
    """Imports of ours become the project's, sorted at the end of their block; all else stays as it was."""
    text = '''"""About."""

from __future__ import annotations

import os

import grpc
import hector_plugins_pb2 as pb
import yaml
from hector_plugins_pb2_grpc import (
    Stub,
)

from shared import logs
from shared.errors import NotFound

from . import PACKAGE
from .config import Config

shared = "from shared import this"


def main() -> None:
    import hector_plugins_pb2
    import yaml

    from shared.server import (
        serve,
    )

    from .engine import Engine

    serve(Engine())
    from shared.units import Size

    import os  # last
'''
    inside = rewrite.module(text, ".")
    assert (
        inside
        == '''"""About."""

from __future__ import annotations

import os

import grpc
import yaml

from . import PACKAGE
from .config import Config
from .shared import hector_plugins_pb2 as pb
from .shared import logs
from .shared.errors import NotFound
from .shared.hector_plugins_pb2_grpc import (
    Stub,
)

shared = "from shared import this"


def main() -> None:
    import yaml

    from .engine import Engine
    from .shared import hector_plugins_pb2
    from .shared.server import (
        serve,
    )

    serve(Engine())
    import os  # last

    from .shared.units import Size
'''
    )
    assert "from my_own.shared.errors import NotFound\n" in rewrite.module(text, "my_own.")
    assert rewrite.module("import os\n", ".") == "import os\n"


def test_the_stubs_find_each_other() -> None:
    """The generated modules of a copy import each other as modules of a package, whatever else is on the path."""
    files = texts("tool_provider")
    for name in ("hector_plugins_pb2_grpc.py", "hector_plugins_pb2_grpc.pyi"):
        text = files[f"my_own/shared/{name}"]
        assert len(re.findall(r"^from \. import hector_plugins_pb2 as \w+$", text, re.MULTILINE)) == 1
        assert not re.search(r"^import hector_plugins_pb2", text, re.MULTILINE)


def test_the_license_comes_along() -> None:
    """The copy has the license of what was copied."""
    assert texts("tool_provider")["my_own/shared/LICENSE"] == (ROOT / "LICENSE").read_text(encoding="utf-8")


def test_the_copy_says_what_it_is() -> None:
    """The copy names its version and the command that renews it; its list has every file but itself."""
    files = texts("tool_provider")
    assert "python -m host new --renew" in files["my_own/shared/__init__.py"]
    listed = json.loads(files["my_own/shared/copied.json"])
    assert listed["version"] in files["my_own/shared/__init__.py"]
    inside = {os.path.relpath(path, "my_own/shared") for path in files if path.startswith("my_own/shared/")}
    assert set(listed["files"]) == inside - {"copied.json"}


@pytest.mark.parametrize(
    ("fields", "temperature"),
    [({}, None), ({"temperature": 0.5}, 0.5), ({"temperature": 0.5, "sampling_temperature": 0.0}, 0.0)],
)
def test_the_strategys_temperature(fields: dict[str, Any], temperature: float | None) -> None:
    """The temperature that a run is begun with is that of the strategy's LLM, 0 where it is said outright."""
    runs = asyncio.run(_asked(pb.InitializeRequest(query="Why?", **fields)))
    assert [run.temperature for _, run in runs] == [temperature] * 2


def test_what_a_host_says_of_a_run() -> None:
    """The conversation comes before the question; the run's LLM and model are those that were named."""
    history = [pb.ChatMessage(role="user", content="Hm?"), pb.ChatMessage(role="assistant", content="Ask.")]
    request = pb.InitializeRequest(query="Why?", context="Because.", history=history, llm="small", model="a")
    prompt, run = asyncio.run(_asked(request))[1]
    assert prompt == "user: Hm?\n\nassistant: Ask.\n\nBecause.\n\nWhy?"
    assert (run.llm, run.model) == ("small", "a")


async def _asked(request: pb.InitializeRequest) -> list[tuple[str, Run]]:
    """The prompts that a strategy of the template has for its LLM, ended at once and taken a step."""
    asked = []

    async def ask(prompt: str, run: Run) -> str:
        asked.append((prompt, run))
        return "So it is."

    servicer: Any = Servicer(Engine(ask), Sealed(b"k" * SHORTEST_KEY))
    begun = await servicer.Initialize(request, None)
    await servicer.Finalize(pb.FinalizeRequest(state=begun.state), None)
    await servicer.ProcessIteration(pb.ProcessIterationRequest(state=begun.state), None)
    return asked


@pytest.mark.parametrize(
    ("budget", "reason"),
    [
        (pb.Budget(max_tokens=20), pb.STOP_REASON_MAX_TOKENS),
        (pb.Budget(max_seconds=1e-9), pb.STOP_REASON_MAX_SECONDS),
        (pb.Budget(max_tokens=1_000_000, max_seconds=3600.0), pb.STOP_REASON_MAX_ITERATIONS),
    ],
)
def test_a_budget_ends_a_run(budget: pb.Budget, reason: int) -> None:
    """A strategy that is never done by itself ends at the first of its limits, with an answer, and says which."""

    class Thinking(Engine):
        async def step(self, run: Run) -> None:
            await self._ask("Go on.", run)

    async def ask(prompt: str, run: Run) -> str:
        run.tokens += 10
        return "So far so good."

    async def last() -> Any:
        servicer: Any = Servicer(Thinking(ask), Sealed(b"k" * SHORTEST_KEY))
        reply = await servicer.Initialize(pb.InitializeRequest(query="?", max_iterations=5, budget=budget), None)
        for _ in range(5):
            reply = await servicer.ProcessIteration(pb.ProcessIterationRequest(state=reply.state), None)
            if reply.done:
                break
        return reply

    reply = asyncio.run(last())
    assert (reply.done, reply.result, reply.stop_reason) == (True, "So far so good.", reason)
