"""What may import what, and that every plugin is laid out and documented like the others.

So that a plugin can be copied out of here, its engine without gRPC, and whoever knows one plugin knows all.
"""

from __future__ import annotations

import ast
import dataclasses
import importlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from shared.config import BaseConfig

ROOT = Path(__file__).resolve().parent.parent
PLUGINS = sorted(path.parent for path in (ROOT / "plugins").glob("*/__main__.py"))
ENGINES = sorted(
    file for plugin in PLUGINS for pattern in ("engine.py", "engine/**/*.py") for file in plugin.glob(pattern)
)
# The modules of `shared` that know no transport.
_FOR_ENGINES = ("bounded_file", "call_markup", "errors", "give_way", "json_schema", "logs", "loose_json", "nearest",
                "off_loop", "repeats", "units", "vectors", "visible", "wording")  # fmt: skip
_TRANSPORT = ("grpc", "google", "grpc_health", "grpc_reflection")
# The one package of `shared` whose subject the contract's messages are.
_MESSAGES = ROOT / "shared" / "vector_messages"
every_plugin = pytest.mark.parametrize("plugin", PLUGINS, ids=lambda path: path.name)


def imports(file: Path) -> Iterator[str]:
    """Every module that a file imports, anywhere in it, as full dotted names (`from a import b` gives a and a.b)."""
    package = ".".join(file.relative_to(ROOT).parent.parts)
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"), str(file))):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*above, *filter(None, [base])])
            yield base
            for alias in node.names:
                yield f"{base}.{alias.name}"
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute | ast.Name):
            # importlib.import_module("…") and __import__("…")
            name = node.func.attr if isinstance(node.func, ast.Attribute) else node.func.id
            first = node.args[0] if node.args else None
            if name in ("import_module", "__import__") and isinstance(first, ast.Constant):
                yield str(first.value)


def python_files(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.py"))


def test_there_is_something_to_look_at() -> None:
    """The plugins and their engines are found where these tests look for them."""
    assert {"vector_hnsw", "vector_pg", "embed_st", "llm_openai", "tools_http", "reasoning_react"} <= {
        plugin.name for plugin in PLUGINS
    }
    assert {file.relative_to(ROOT / "plugins").parts[0] for file in ENGINES} == {plugin.name for plugin in PLUGINS}


@pytest.mark.parametrize("file", ENGINES, ids=lambda file: str(file.relative_to(ROOT)))
def test_engines_know_no_transport(file: Path) -> None:
    """An engine imports neither grpc nor protobuf, its servicer or config, and of `shared` what knows none of them."""
    plugin = file.relative_to(ROOT).parts[1]
    for name in imports(file):
        first = name.partition(".")[0]
        assert first not in _TRANSPORT, name
        assert "_pb2" not in name, name
        assert not name.startswith((f"plugins.{plugin}.servicer", f"plugins.{plugin}.config")), name
        if first == "shared" and name != "shared":
            assert name.split(".")[1] in _FOR_ENGINES, name


@pytest.mark.parametrize("module", _FOR_ENGINES)
def test_what_engines_stand_on_knows_no_transport(module: str) -> None:
    """What engines import of `shared`, with all that it imports of `shared` in turn, knows no grpc and no message."""
    waiting, seen = {module}, set()
    while waiting:
        seen.add(name := waiting.pop())
        folder = ROOT / "shared" / name
        for file in python_files(folder) if folder.is_dir() else [folder.with_suffix(".py")]:
            for name in imports(file):
                first, _, rest = name.partition(".")
                assert first not in _TRANSPORT, f"{file}: {name}"
                assert not first.startswith("hector_"), f"{file}: {name}"
                if first == "shared" and rest:
                    waiting |= {rest.partition(".")[0]} - seen


@pytest.mark.parametrize("file", ENGINES, ids=lambda file: str(file.relative_to(ROOT)))
def test_engines_read_no_environment(file: Path) -> None:
    """An engine gets its settings as arguments: it looks at no environment variable."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        name = node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""
        assert name not in ("environ", "environb", "getenv", "putenv"), f"line {getattr(node, 'lineno', '?')}"


# What a plugin may have beside the files that all have; the last two are there for the numbers alone.
EXTRAS = {
    "admin.py": "a command line for people",
    "chat.py": "another",
    "policy.py": "another, which says what the policy allows",
    "run.py": "another, which runs a question",
    "seeing": "a folder: what that shows of a run",
    "providers": "a folder: the other plugins that it calls, as its engine wants them",
    "surroundings.py": "what the environment says of TLS and proxies",
    "messages.py": "what a servicer reads and packs, where that is long",
    "transfer.py": "what that command writes to files and reads from them",
    "fast.py": "a codec",
    "allocator.py": "memory",
}


@every_plugin
def test_only_servicers_touch_messages(plugin: Path) -> None:
    """Only a plugin's servicer, its __main__ and what stands beside them import generated modules."""
    for file in python_files(plugin):
        if not {"servicer.py", "__main__.py", *EXTRAS} & set(file.relative_to(plugin).parts):
            assert not [name for name in imports(file) if "_pb2" in name], file


@pytest.mark.parametrize("file", python_files(ROOT / "shared"), ids=lambda file: file.name)
def test_shared_knows_no_plugin(file: Path) -> None:
    """`shared` imports no plugin, not the host, and, outside of the one package that is about them, no messages."""
    for name in imports(file):
        assert name.partition(".")[0] not in ("plugins", "host", "tests", "benchmarks"), name
        assert not name.startswith("hector_") or _MESSAGES in file.parents, name


@pytest.mark.parametrize("folder", [*PLUGINS, ROOT / "shared"], ids=lambda path: path.name)
def test_a_copy_imports_the_copy(folder: Path) -> None:
    """A folder that is copied and renamed imports nothing of the original: inside it, imports are relative."""
    own = ".".join(folder.relative_to(ROOT).parts)
    for file in python_files(folder):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and not node.level:
                assert not f"{node.module}.".startswith(f"{own}."), f"{file}: {node.module}"
            elif isinstance(node, ast.Import):
                assert not any(f"{alias.name}.".startswith(f"{own}.") for alias in node.names), file


@every_plugin
def test_no_plugin_knows_another(plugin: Path) -> None:
    """A plugin imports itself, `shared` and generated modules; no other plugin, not the host."""
    for file in python_files(plugin):
        for name in imports(file):
            parts = name.split(".")
            assert parts[0] not in ("host", "tests", "benchmarks"), f"{file}: {name}"
            assert parts[0] != "plugins" or parts[1:2] in ([], [plugin.name]), f"{file}: {name}"


@every_plugin
def test_the_same_files_in_every_plugin(plugin: Path) -> None:
    """Every plugin has the same files, an engine as a module or as a package, and no others but the known extras."""
    names = {path.name for path in plugin.iterdir() if path.name != "__pycache__"}
    expected = {"__init__.py", "__main__.py", "config.py", "servicer.py", "README.md", "example.yaml"}
    assert names - {"engine", "engine.py"} - EXTRAS.keys() == expected
    assert len(names & {"engine", "engine.py"}) == 1


# ---------------------------------------------------------------- settings and their tables


def table(text: str, heading: str) -> dict[str, str]:
    """The rows of the first table below `heading` (of any level): setting to default, without their backticks."""
    section = re.search(rf"^#+ {re.escape(heading)}$(.*?)(?=^#+ |\Z)", text, re.MULTILINE | re.DOTALL)
    assert section, f"no heading {heading!r}"
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in re.findall(r"^\|.*\|$", section[1], re.M)]
    assert rows[0][:3] == ["setting", "default", "meaning"]
    found: dict[str, str] = {}
    for row in rows[2:]:
        name = row[0].strip("`")
        assert name not in found, f"{name} twice"
        assert row[2], f"{name} has no meaning"
        found[name] = row[1].strip("`")
    return found


def fields(kind: type[BaseConfig]) -> dict[str, str]:
    """Setting to default, as it stands in the Config class; an empty text as `""`."""
    return {field.name: str(field.metadata["default"]) or '""' for field in dataclasses.fields(kind)}


def config_of(plugin: Path) -> type[BaseConfig]:
    kind: type[BaseConfig] = importlib.import_module(f"plugins.{plugin.name}.config").Config
    assert issubclass(kind, BaseConfig)
    return kind


@every_plugin
def test_settings_tables(plugin: Path) -> None:
    """Each setting stands in the plugin's table or in that of every plugin, with its default; and no row is made up."""
    own = table((plugin / "README.md").read_text(encoding="utf-8"), "Settings")
    common = table((ROOT / "README.md").read_text(encoding="utf-8"), "Settings every plugin has")
    settings = fields(config_of(plugin))
    assert set(own) <= set(settings), "a row of the plugin's table that is no setting"
    assert set(settings) == set(own) | set(common), "settings that no table has, or the other way round"
    for name, default in settings.items():
        documented = own.get(name) or common[name]
        assert documented == default, f"default of {name}"


def test_the_table_of_every_plugin() -> None:
    """The top README's table has just the settings of BaseConfig, with their defaults but for the port's."""
    common = table((ROOT / "README.md").read_text(encoding="utf-8"), "Settings every plugin has")
    expected = fields(BaseConfig)
    assert common.pop("port") == "each plugin's own"
    del expected["port"]
    assert common == expected


@every_plugin
def test_every_setting_says_what_it_is(plugin: Path) -> None:
    """Every setting has a sentence for --help, and a default that its own reader takes."""
    kind = config_of(plugin)
    kind()
    for field in dataclasses.fields(kind):
        assert re.fullmatch(r"\S.*\.", field.metadata["help"]), field.name
