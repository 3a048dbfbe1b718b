"""The words are true: every command and every example of the READMEs runs."""

from __future__ import annotations

import ast
import contextlib
import importlib
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from host.__main__ import _parser as host_parser
from plugins.reasoning_react.seeing.command_line import command_line
from shared.errors import Code, DataLoss, StorageFull
from tests.llm_endpoint import Endpoint
from tests.llm_tools import QUIET
from tests.pg_server import database, new_schema
from tests.servers import ROOT, environment, start_plugin
from tests.test_architecture import imports
from tests.test_images import IMAGES

READMES = sorted(
    [
        *(ROOT / f"{name}.md" for name in ("README", "CONTRIBUTING", "SECURITY", "host/README")),
        *(ROOT / "plugins").glob("*/README.md"),
    ]
)
PLUGINS = sorted(path.parent.name for path in (ROOT / "plugins").glob("*/__main__.py"))
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def blocks(path: Path, language: str) -> list[str]:
    return [text for kind, text in BLOCK.findall(path.read_text(encoding="utf-8")) if kind == language]


def commands() -> list[str]:
    """Each command that some README tells people to type."""
    lines = [line for path in READMES for block in blocks(path, "sh") for line in block.splitlines()]
    inline = re.findall(r"`(make [^`]+)`", "\n".join(path.read_text(encoding="utf-8") for path in READMES))
    return sorted({line.partition(" #")[0].strip() for line in [*lines, *inline]})


def reasons(file: Path) -> set[str]:
    """Those that a module gives errors, and events of the log."""
    found: list[ast.AST] = []
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.keyword) and node.arg == "reason":
            found.append(node.value)
        elif isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            found += [node.value for target in targets if isinstance(target, ast.Name) and target.id == "reason"]
    texts = [part.value for one in found for part in ast.walk(one) if isinstance(part, ast.Constant)]
    return {text for text in texts if isinstance(text, str) and re.fullmatch(r"[A-Z][A-Z_]*[A-Z]", text)}


@pytest.mark.parametrize("plugin", PLUGINS)
def test_every_reason_is_told(plugin: str) -> None:
    """Each reason in a plugin's code, and in that of `shared/` which databases alone have, is in its README or in the
    one that this names for them."""
    folder = ROOT / "plugins" / plugin
    files = list(folder.rglob("*.py"))
    for name in ("vectors", "vector_messages"):
        if any(f"shared.{name}" in imported for file in files for imported in imports(file)):
            files += (ROOT / "shared" / name).rglob("*.py")
    text = (folder / "README.md").read_text(encoding="utf-8")
    for other in re.findall(r"\(\.\./(\w+)/README\.md#reasons\)", text):
        text += (ROOT / "plugins" / other / "README.md").read_text(encoding="utf-8")
    told = set(re.findall(r"[A-Z][A-Z_]+", text))
    found = set().union(*map(reasons, files))
    assert found
    assert found <= told, f"README of {plugin} does not tell {sorted(found - told)}"


@pytest.mark.parametrize("command", [line for line in commands() if line.startswith("make ")])
def test_make(command: str) -> None:
    """Every `make` command of the READMEs names targets that the Makefile has."""
    assert subprocess.run([*shlex.split(command), "-n"], cwd=ROOT, capture_output=True, check=False).returncode == 0


@pytest.mark.parametrize("command", [line for line in commands() if ".admin " in line])
def test_admin_commands(command: str) -> None:
    """Every `python -m plugins.NAME.admin` command of the READMEs is one that it has, with options that it takes."""
    words = shlex.split(command)
    module = importlib.import_module(words[2])
    assert callable(module._parser().parse_args(words[3:]).work)


@pytest.mark.parametrize("command", [line for line in commands() if ".chat " in line])
def test_chat_commands(command: str) -> None:
    """Every `python -m plugins.NAME.chat` command of the READMEs has options that it takes."""
    words = shlex.split(command)
    module = importlib.import_module(words[2])
    assert module._parser().parse_args(words[3:]).question


@pytest.mark.parametrize("command", [line for line in commands() if ".run " in line])
def test_run_commands(command: str) -> None:
    """Every `python -m plugins.reasoning_react.run` command of the READMEs has options and settings that it takes."""
    words = shlex.split(command)
    words = words[words.index("-m") :]
    assert words[1] == "plugins.reasoning_react.run"
    command_line(words[2:], None)


@pytest.mark.parametrize("command", [line for line in commands() if line.startswith("python -m host check")])
def test_check_commands(command: str) -> None:
    """Every `python -m host check` command of the READMEs has options that it takes."""
    words = shlex.split(command)
    assert host_parser().parse_args(words[3:]).command == "check"


@pytest.mark.parametrize("command", [line for line in commands() if re.match(r"python -m plugins\.\w+( |$)", line)])
def test_plugin_commands(command: str, tmp_path: Path) -> None:
    """Every `python -m plugins.NAME` command of the READMEs has options and settings that are valid."""
    words = shlex.split(command)
    assert words[0] == "python"
    check = [] if "--check" in words else ["--check"]
    argv = [sys.executable, *words[1:], *check]
    done = subprocess.run(argv, cwd=ROOT, env=environment(), capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("command", [line for line in commands() if line.startswith("python -m host ")])
def test_host_commands(command: str) -> None:
    """Every `python -m host` command of the READMEs is one that it has, with options that it takes."""
    assert host_parser().parse_args(shlex.split(command)[3:]).command


@pytest.mark.parametrize("command", [line for line in commands() if ".policy " in line])
def test_policy_commands(command: str) -> None:
    """Every `python -m plugins.NAME.policy` command of the READMEs gives a verdict."""
    words = shlex.split(command)
    argv = [sys.executable, *words[1:]]
    done = subprocess.run(argv, cwd=ROOT, env=environment(), capture_output=True, text=True, check=False)
    assert (done.returncode in (0, 1), done.stderr) == (True, "")
    assert "by the rule" in done.stdout


@pytest.mark.parametrize("command", [line for line in commands() if line.startswith("docker run ")])
def test_docker_commands(command: str) -> None:
    """Every `docker run` of the READMEs is of an image of ours, at its plugin's port on loopback; tests/test_images.py
    runs them."""
    words = shlex.split(command)
    port, *_ = IMAGES[words[-1].removeprefix("hector-plugins/")]
    assert words[words.index("-p") + 1] == f"127.0.0.1:{port}:{port}"


def test_all_commands_are_known() -> None:
    """No README has a command of a kind that no test runs."""
    known = r"make |docker run |python -m (plugins\.|host )"
    # In a generated project, where tests/test_new_project.py and tests/test_new_installed.py run them.
    known += r"|cd \.\./my_tools$|python -m my_tools --port 0$|python -m pytest$"
    assert [line for line in commands() if not re.match(known, line)] == []


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=pytest.mark.slow) if name in ("embed_st", "vector_pg") else name for name in PLUGINS],
)
def test_examples(name: str, tmp_path: Path) -> None:
    """The Python of a plugin's README runs as it stands, from top to bottom, and each block of it prints something."""
    examples = blocks(ROOT / "plugins" / name / "README.md", "python")
    example = "print('block')\n".join(examples)
    assert example.count("127.0.0.1:80") == 1
    with contextlib.ExitStack() as stack:
        endpoint = stack.enter_context(Endpoint())
        env = QUIET | {"OPENAI_BASE_URL": endpoint.url, "LLM_OPENAI__MODEL": "hello", "REASONING_REACT__TOOLS": ""}
        if name == "reasoning_react":
            model = stack.enter_context(start_plugin("plugins.llm_openai", cwd=tmp_path, env=env))
            env["REASONING_REACT__LLM"] = model.address
        if name == "vector_pg":
            env["DATABASE_URL"] = stack.enter_context(database())
            env["VECTOR_PG__SCHEMA"] = new_schema()
        plugin = stack.enter_context(start_plugin(f"plugins.{name}", cwd=tmp_path, env=env))
        script = re.sub(r"127\.0\.0\.1:80\d\d", plugin.address, example)
        argv = [sys.executable, "-c", script]
        done = subprocess.run(argv, cwd=tmp_path, env=environment(), capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        printed = done.stdout.split("block\n")
        assert len(printed) == len(examples)
        assert all(text.strip() for text in printed)


def reasons_in(*folders: str) -> set[str]:
    texts = [path.read_text(encoding="utf-8") for folder in folders for path in (ROOT / folder).rglob("*.py")]
    return set(re.findall(r'reason="(\w+)"', "".join(texts)))


def reasons_named(name: str) -> set[str]:
    """Those that the plugin's README has in its section on them, where settings are in backticks."""
    text = (ROOT / "plugins" / name / "README.md").read_text(encoding="utf-8")
    (section,) = re.findall(r"^## Reasons$(.*?)^## ", text, re.MULTILINE | re.DOTALL)
    codes = {code.name for code in Code} - {"OUT_OF_RANGE", DataLoss.reason}  # which are reasons, too
    return set(re.findall(r"\b[A-Z]+(?:_[A-Z]+)+\b|\bCONFLICT\b", re.sub("`[^`]*`", "", section))) - codes


def test_reasons() -> None:
    """The READMEs of the vector stores name every reason that their code gives, and no other."""
    shared = {"BAD_METRIC", "BAD_MODE", "BAD_OP", StorageFull.reason, DataLoss.reason}
    shared |= reasons_in("shared/vectors", "shared/vector_messages")
    assert reasons_named("vector_hnsw") == reasons_in("plugins/vector_hnsw") | shared
    assert reasons_named("vector_pg") == reasons_in("plugins/vector_pg") - reasons_named("vector_hnsw")


@pytest.mark.parametrize("name", PLUGINS)
def test_example_yaml(name: str) -> None:
    """A plugin's example.yaml is valid, and all that it says is the plugin's."""
    argv = [sys.executable, "-m", f"plugins.{name}", "--config", f"plugins/{name}/example.yaml", "--check"]
    done = subprocess.run(argv, cwd=ROOT, env=environment(), capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "example.yaml" in done.stdout


@pytest.mark.parametrize("path", READMES, ids=lambda path: str(path.relative_to(ROOT)))
def test_links(path: Path) -> None:
    """Every relative link leads to a file, and every anchor to a heading."""
    for target in re.findall(r"\]\((?!http)([^)]+)\)", path.read_text(encoding="utf-8")):
        file, _, anchor = target.partition("#")
        linked = (path.parent / file).resolve() if file else path
        assert linked.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.+)$", linked.read_text(encoding="utf-8"), re.MULTILINE)
            assert anchor in [re.sub(r"[^a-z0-9 -]", "", heading.lower()).replace(" ", "-") for heading in headings]


def test_the_order_in_which_to_read_the_host() -> None:
    """Every module of the host is in it, each that it names is there, and the half hour is no longer than it says."""
    order = (ROOT / "host/README.md").read_text(encoding="utf-8").partition("## In which order to read it\n")[2]
    named = set(re.findall(r"`([\w/]+\.py)`", order))
    whole = re.findall(r"the rest of `(\w+)/`|`(check|new)/`", order)  # folders that are named as such
    folders = {first or second for first, second in whole}
    modules = {str(path.relative_to(ROOT / "host")) for path in (ROOT / "host").rglob("*.py")}
    assert named <= modules
    left = {name for name in modules - named if not name.endswith("__init__.py") and name.split("/")[0] not in folders}
    assert not left
    half_hour = re.findall(r"`([\w/]+\.py)`", order.partition("Then what you came for")[0])
    lines = sum(len((ROOT / "host" / name).read_text(encoding="utf-8").splitlines()) for name in half_hour)
    told = int(re.findall(r"([\d,]+) lines", order)[0].replace(",", ""))
    assert abs(lines - told) <= told / 10
