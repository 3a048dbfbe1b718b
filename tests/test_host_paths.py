"""What a `path` is, how it is started and where it is dialled: `host/` child, modules, listening and kinds."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import socket
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import hector_plugins_pb2 as pb
import pytest
from hector_plugins_pb2_grpc import DatabaseProviderStub, EmbedderProviderStub

from host import child, environment, kinds, modules, runner
from host.config import HostConfig, Plugin, load
from host.connect import CallFailed, connect
from host.listening import Expected, announced
from host.modules import import_path
from host.supervisor import supervise
from shared.client import Address, channel
from shared.errors import StartError
from tests.host_fakes import fakes, write_config

ROOT = Path(__file__).resolve().parents[1]
# An executable of somebody who has never heard of this project's command line. It prints what `prints` says, listens
# at `port`, and reports how it was started.
STRANGER = """\
#!{python}
import json, os, sys, threading
from tests.host_fakes import fakes
with open(os.environ["STRANGER_REPORT"], "w") as file:
    json.dump({{"arguments": sys.argv[1:], "environment": dict(os.environ)}}, file)
with fakes(int(os.environ.get("STRANGER_PORT", "0"))) as fake:
    print(os.environ.get("STRANGER_PRINTS", "").replace("ADDRESS", fake.address), flush=True)
    threading.Event().wait()
"""


def stranger(folder: Path, **block: Any) -> HostConfig:
    """A file with that executable as its one plugin, an embedder."""
    executable = folder / "bin" / "stranger"
    executable.parent.mkdir(exist_ok=True)
    executable.write_text(STRANGER.format(python=sys.executable))
    executable.chmod(0o755)
    block["config"] = {"report": str(folder / "report.json"), **block.get("config", {})}
    document = {"plugins": {"embedder_providers": {"stranger": {"path": "./bin/stranger", **block}}}}
    return load(write_config(folder, document))


def report(folder: Path) -> dict[str, Any]:
    return dict(json.loads((folder / "report.json").read_text()))


def one(folder: Path, path: str, **block: Any) -> tuple[Plugin, HostConfig]:
    """The only plugin of a file."""
    config = load(write_config(folder, {"plugins": {"tool_providers": {"mine": {"path": path, **block}}}}))
    return config.plugins["mine"], config


def free_port() -> int:
    """One below those that the kernel gives to who asks for any, and so to nobody until it is used."""
    while True:
        port = random.randrange(10_000, 32_000)
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port


# ---------------------------------------------------------------- the line that says where it listens


@pytest.mark.parametrize(
    ("line", "address"),
    [
        ("listening on 127.0.0.1:8081", "127.0.0.1:8081"),
        ("listening on unix:/run/a b.sock", "unix:/run/a b.sock"),
        ("1|1|tcp|127.0.0.1:1234|grpc", "127.0.0.1:1234"),
        ("1|1|tcp|[::1]:1234|grpc", "[::1]:1234"),
        ("1|7|unix|/tmp/plugin123|grpc", "unix:/tmp/plugin123"),
        ("1|1|tcp|127.0.0.1:1234|grpc|", "127.0.0.1:1234"),
        ("1|1|tcp|127.0.0.1:1234|grpc||true", "127.0.0.1:1234"),
        ("1|1|tcp|127.0.0.1:1234|netrpc", ""),
        ("2|1|tcp|127.0.0.1:1234|grpc", ""),
        ("1|1|udp|127.0.0.1:1234|grpc", ""),
        ("1|1|tcp||grpc", ""),
        ("1|1|tcp|127.0.0.1:1234", ""),
        ("Custom LLM provider starting on :8081", ""),
        ("I am listening on 127.0.0.1:8081", ""),
        ("listening on \x1b[31m127.0.0.1:8081", ""),
        ("listening on " + "x" * 600, ""),
        ("listening on port 3000", ""),
        ("listening on 3000", ""),
        ("listening on dns:///example.com:80", ""),
        ("1|1|tcp|nowhere|grpc", ""),
        ("1|1|tcp|" + "x" * 600 + "|grpc", ""),
        ("", ""),
    ],
)
def test_the_lines_that_name_an_address(line: str, address: str) -> None:
    """Our own line and go-plugin's handshake name an address, and no other line does."""
    assert announced(line) == address


def test_a_line_of_any_length_is_quickly_none() -> None:
    """The longest line there can be is looked at in linear time."""
    for line in ("1|1|tcp|" + "|grpc" * 12_000, "1|1|tcp|a|grpc" + "|" * 60_000 + "\n", "listening on" + " " * 60_000):
        assert len(announced(line)) <= 512


# ---------------------------------------------------------------- how it is started


def test_a_module_gets_our_arguments(tmp_path: Path) -> None:
    """A module, whoever made it, is run with `-m`, the folder it runs in not on its path; a .py file likewise."""
    ours = ["--host", "127.0.0.1", "--config", str(tmp_path / "hector.yaml"), "--name", "mine"]
    (tmp_path / "tool.py").write_text("")
    for path, start in (
        ("plugins.tools_http", ["-P", "-m", "plugins.tools_http"]),
        ("myplugins.weather", ["-P", "-m", "myplugins.weather"]),
        ("weather", ["-P", "-m", "weather"]),
        ("./tool.py", [str(tmp_path / "tool.py")]),
    ):
        plugin, config = one(tmp_path, path)
        assert child.command(plugin, config) == [sys.executable, *start, *ours]
        assert child.port_arguments(plugin, "") == ["--port", "0"]
        assert child.port_arguments(plugin, "127.0.0.1:4711") == ["--port", "4711"]


def test_an_executable_gets_its_own_arguments(tmp_path: Path) -> None:
    """An executable gets what `args` says and no more; `args` stands in for a module's arguments too."""
    (tmp_path / "tool").write_text("")
    (tmp_path / "tool").chmod(0o755)
    for path, args in (("./tool", []), ("tool", []), ("./tool", ["--listen", "0"])):
        plugin, config = one(tmp_path, path, args=args)
        assert child.command(plugin, config) == [str(tmp_path / "tool"), *args]
        assert child.port_arguments(plugin, "127.0.0.1:4711") == []
    plugin, config = one(tmp_path, "myplugins.weather", args=["--listen", "0"])
    assert child.command(plugin, config) == [sys.executable, "-P", "-m", "myplugins.weather", "--listen", "0"]
    assert child.port_arguments(plugin, "") == []


def test_an_executables_settings_are_variables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An executable finds its `config` in variables as the guide's samples read them, `env` and what it names of the
    host's; the greeting of released Hector hosts too."""
    monkeypatch.setenv("CUSTOM_LLM_API_KEY", "key")
    monkeypatch.setenv("SOMEBODY_ELSES_KEY", "other")
    monkeypatch.setenv("REGION", "eu")
    document = {
        "custom_llm": {
            "path": "./llm",
            "config": {
                "api_key": "${CUSTOM_LLM_API_KEY}",
                "timeout": "30s",
                "retry": True,
                "models": ["a", "b"],
                "n": 2,
            },
            "env": {"WHERE": "in-${REGION}", "DEBUG": True},
        }
    }
    config = load(write_config(tmp_path, {"plugins": {"llm_providers": document}}))
    found = environment.of(config.plugins["custom_llm"], config)
    expected = {
        "CUSTOM_LLM_API_KEY": "key",
        "CUSTOM_LLM_TIMEOUT": "30s",
        "CUSTOM_LLM_RETRY": "true",
        "CUSTOM_LLM_MODELS": '["a", "b"]',
        "CUSTOM_LLM_N": "2",
        "WHERE": "in-eu",
        "DEBUG": "true",
        "HECTOR_PLUGIN": "hector_plugin_v1",
    }
    assert {name: found.get(name) for name in expected} == expected
    assert "SOMEBODY_ELSES_KEY" not in found
    monkeypatch.delenv("CUSTOM_LLM_API_KEY")
    with pytest.raises(StartError, match=r"^plugin custom_llm: config.api_key: \$\{CUSTOM_LLM_API_KEY\} is not set"):
        environment.of(config.plugins["custom_llm"], config)


def test_variables_of_a_module_that_is_not_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A module of others gets the variables that begin with its own name, as ours do, and those its block names."""
    for name in ("WEATHER__TOKEN", "VECTOR_HNSW__TOKEN", "WEATHER_KEY", "OTHER_KEY"):
        monkeypatch.setenv(name, "x")
    plugin, config = one(tmp_path, "myplugins.weather", config={"key": "${WEATHER_KEY}"})
    found = environment.of(plugin, config)
    assert {name for name in found if "WEATHER" in name or "_TOKEN" in name or "_KEY" in name} == {
        "WEATHER__TOKEN",
        "WEATHER_KEY",
    }
    assert "HECTOR_PLUGIN" not in found


# ---------------------------------------------------------------- where a module is found


def module(folder: Path, name: str, text: str, *, package: bool = True) -> None:
    *above, last = name.split(".")
    place = folder.joinpath(*above)
    place.mkdir(parents=True, exist_ok=True)
    if above and package:
        (place / "__init__.py").write_text("")
    (place / f"{last}.py").write_text(text)


def run(plugin: Plugin, config: HostConfig, *more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*child.command(plugin, config), *more],
        cwd=config.folder,
        env=environment.of(plugin, config),
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_a_folder_named_plugins_shadows_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`plugins.vector_hnsw` is this project's, whatever stands in a folder plugins/ beside the YAML or where the host
    was started."""
    for folder in (tmp_path / "yaml", tmp_path / "here"):
        module(folder, "plugins.vector_hnsw", "raise SystemExit('the wrong one')")
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.syspath_prepend(tmp_path / "here")
    plugin, config = one(tmp_path / "yaml", "plugins.vector_hnsw")
    config = load(write_config(tmp_path / "yaml", {"plugins": {"database_providers": {"mine": {"path": plugin.path}}}}))
    ran = run(config.plugins["mine"], config, "--check")
    assert (ran.returncode, ran.stderr) == (0, "")
    assert "data_dir:" in ran.stdout


@pytest.mark.parametrize("name", ["myplugins.weather", "plugins.weather", "weather.main.deep", "weather"])
def test_a_module_beside_the_yaml_is_found(tmp_path: Path, name: str) -> None:
    """A module of one's own stands beside the YAML, from wherever the host is started; it finds `shared` too."""
    module(tmp_path, name, "import shared.units, sys; print(__file__, *sys.argv[1:3])")
    plugin, config = one(tmp_path, name)
    ran = run(plugin, config)
    assert (ran.stdout.split(), ran.stderr) == (
        [f"{tmp_path.joinpath(*name.split('.'))}.py", "--host", "127.0.0.1"],
        "",
    )


def test_a_folder_that_python_would_pass_over(tmp_path: Path) -> None:
    """A folder plugins/ without __init__.py would give way to ours: an error that says so."""
    module(tmp_path, "plugins.weather", "", package=False)
    with pytest.raises(StartError, match=r"plugins has no __init__\.py, so Python would look for plugins\.weather in"):
        import_path("plugins.weather", tmp_path)
    module(tmp_path, "myplugins.weather", "", package=False)
    assert import_path("myplugins.weather", tmp_path).split(os.pathsep)[0] == str(tmp_path)


def test_what_lies_beside_the_yaml_is_not_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file beside the YAML, or where the host was started, that has the name of an installed package is not taken
    for it by a plugin of ours; a plugin that lies there itself finds what lies beside it."""
    for folder in (tmp_path / "yaml", tmp_path / "here"):
        module(folder, "hnswlib", "raise SystemExit('the wrong one')")
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.syspath_prepend(tmp_path / "here")
    ours = import_path("plugins.vector_hnsw", tmp_path / "yaml").split(os.pathsep)
    assert not {str(tmp_path / "yaml"), str(tmp_path / "here")} & set(ours)
    module(tmp_path / "here", "weather", "")
    assert import_path("weather", tmp_path / "yaml").split(os.pathsep)[0] == str(tmp_path / "here")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "here"))
    assert str(tmp_path / "here") in import_path("plugins.vector_hnsw", tmp_path / "yaml").split(os.pathsep)


def test_an_installed_plugin_is_shadowed_by_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where this project is installed, and so comes after PYTHONPATH, no folder is on that that has its `plugins`."""
    installed, other, third = tmp_path / "site", tmp_path / "other", tmp_path / "third"
    for folder in (installed, other):
        module(folder, "plugins.vector_hnsw", "")
    third.mkdir()
    monkeypatch.setattr(modules, "_BESIDE_HOST", installed)
    monkeypatch.setattr(modules, "_is_installed", lambda place: place == installed)
    monkeypatch.setattr(sys, "path", [str(other), str(third), str(installed)])
    assert import_path("plugins.vector_hnsw", tmp_path) == str(third)


def test_a_module_that_is_nowhere(tmp_path: Path) -> None:
    """A module that cannot be found says so itself, with its name."""
    plugin, config = one(tmp_path, "myplugins.nothing")
    ran = run(plugin, config)
    assert ran.returncode == 1
    assert "No module named 'myplugins'" in ran.stderr or "myplugins.nothing" in ran.stderr


# ---------------------------------------------------------------- where it is dialled


@pytest.mark.parametrize("line", ["1|1|tcp|ADDRESS|grpc", "listening on ADDRESS"])
def test_an_executable_is_dialled_where_it_says(tmp_path: Path, line: str) -> None:
    """An executable is dialled at the address that it prints, go-plugin's handshake or ours, and called."""
    config = stranger(tmp_path, config={"prints": line})
    with connect(config, config.plugins.values()) as connections:
        stub = EmbedderProviderStub(connections["stranger"].channel)
        reply = connections["stranger"].call(stub.GetDimensions, pb.GetDimensionsRequest(), {})
        assert reply.dimensions == 64
    assert report(tmp_path)["arguments"] == []
    assert report(tmp_path)["environment"]["STRANGER_PRINTS"] == line


def test_an_executable_that_says_nothing_is_dialled_at_its_address(tmp_path: Path) -> None:
    """One that prints something else is dialled at the `address` beside its `path`."""
    port = free_port()
    config = stranger(tmp_path, address=f"127.0.0.1:{port}", config={"port": port, "prints": "starting on :8083"})
    with supervise(config, config.plugins.values()) as supervisor:
        assert supervisor.addresses() == {"stranger": f"127.0.0.1:{port}"}
        assert [status.status for status in supervisor.statuses()] == ["SERVING"]


def test_an_executable_that_says_nothing_is_dialled_at_the_usual_port(tmp_path: Path) -> None:
    """One without `address` is dialled at the guide's port for its kind."""
    config = stranger(tmp_path)
    assert config.plugins["stranger"].usual_port == 8083
    port = free_port()
    config = stranger(tmp_path, config={"port": port})
    plugin = replace(config.plugins["stranger"], usual_port=port)
    with supervise(config, [plugin]) as supervisor:
        assert supervisor.addresses() == {"stranger": f"127.0.0.1:{port}"}


def test_another_server_at_that_port_is_not_dialled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server of others at the guide's port, or one that was at the `address` before, is not taken for the plugin."""
    monkeypatch.setattr(runner, "ANNOUNCE_SECONDS", 1.0)
    with fakes() as other:
        config = stranger(tmp_path, address=other.address)
        message = f"did not print .*, and at {other.address} another server runs; have it"
        with pytest.raises(StartError, match=message), supervise(config, config.plugins.values()):
            pass
        plugin = replace(stranger(tmp_path).plugins["stranger"], usual_port=int(other.address.rpartition(":")[2]))
        assert Expected(plugin).address(os.getppid()) == other.address
        with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
            assert Expected(plugin).address(process.pid) == ""
            process.communicate(b"\n")


def test_a_port_that_two_listen_at_is_not_dialled(tmp_path: Path) -> None:
    """Where another listens at the same port beside the plugin, as gRPC's servers let each other, none is dialled."""
    code = (
        "import socket, sys; own = socket.socket(); own.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1); "
        "own.bind(('127.0.0.1', int(sys.argv[1]))); own.listen(); print(flush=True); input()"
    )
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        plugin = replace(stranger(tmp_path).plugins["stranger"], usual_port=port)
        command = [sys.executable, "-c", code, str(port)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
            assert process.stdout
            process.stdout.readline()
            assert Expected(plugin).address(os.getpid()) == ""
            other.close()
            assert Expected(plugin).address(os.getpid()) == f"127.0.0.1:{port}"
            process.communicate(b"\n")


@pytest.mark.slow
def test_silence_is_told_with_a_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A plugin that listens nowhere that is known of is an error that says what to do."""
    monkeypatch.setattr(runner, "ANNOUNCE_SECONDS", 1.0)
    config = stranger(tmp_path)
    plugin = replace(config.plugins["stranger"], usual_port=free_port())
    message = r"neither printed `listening on HOST:PORT` nor listens at 127.0.0.1:\d+; have"
    with pytest.raises(StartError, match=message), supervise(config, [plugin]):
        pass
    message = "it did not print `listening on HOST:PORT`; have it print that, or give its"
    with pytest.raises(StartError, match=message), supervise(config, [replace(plugin, usual_port=None)]):
        pass


# ---------------------------------------------------------------- what it is, and how long a call may take


def test_timeout_bounds_a_call(tmp_path: Path) -> None:
    """A call of a plugin that takes longer than its `timeout` is given up, and the plugin is named."""
    with socket.create_server(("127.0.0.1", 0)) as deaf, fakes() as fake:
        document = {"words": {"address": fake.address, "security": {"timeout": "500ms"}}}
        config = load(write_config(tmp_path, {"plugins": {"embedder_providers": document}}))
        with connect(config, config.plugins.values()) as connections:
            connection = connections["words"]
            assert connection.seconds == 0.5
            with channel(Address(f"127.0.0.1:{deaf.getsockname()[1]}")) as silent:
                stub = EmbedderProviderStub(silent)
                with pytest.raises(CallFailed, match=r"plugin words at .*: DEADLINE_EXCEEDED"):
                    connection.call(stub.GetDimensions, pb.GetDimensionsRequest(), {})


@pytest.mark.slow
def test_a_copy_under_another_name_runs_beside_ours(tmp_path: Path) -> None:
    """A plugin that was copied out of here under another name runs in the host beside the original, each with its own
    settings; both have the kind that their reflection says, and a block that is wrong about it is refused."""
    shutil.copytree(ROOT / "plugins" / "vector_hnsw", tmp_path / "myplugins" / "shelf")
    blocks: Mapping[str, Any] = {
        "ours": {"path": "plugins.vector_hnsw", "config": {"data_dir": "./a"}},
        "mine": {"path": "myplugins.shelf", "config": {"data_dir": "./b", "token": "sesame"}},
    }
    config = load(write_config(tmp_path, {"plugins": dict(blocks)}))
    assert {plugin.kind for plugin in config.plugins.values()} == {"plugin"}
    with supervise(config, config.plugins.values()) as supervisor:
        assert {status.name: (status.kind, status.status) for status in supervisor.statuses()} == {
            "ours": ("database_provider", "SERVING"),
            "mine": ("database_provider", "SERVING"),
        }
        address = supervisor.address("mine")
        wrong = replace(config.plugins["mine"], kind="llm_provider", path="./mine")
        with pytest.raises(StartError, match="is a database_provider, but is configured as a llm_provider; move its"):
            kinds.kind_of(wrong, address)
    with connect(config, config.plugins.values()) as connections:
        stub = DatabaseProviderStub(connections["mine"].channel)
        request = pb.CreateCollectionRequest(name="docs", dimension=4)
        assert connections["mine"].call(stub.CreateCollection, request, {}).created
    assert any((tmp_path / "b").iterdir())
