"""How the host reads the guide's YAML, and what it says of mistakes: `host/config/`."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from host.config import (
    KINDS,
    Agent,
    ConfigError,
    HostConfig,
    Llm,
    Reasoning,
    Security,
    ToolBlock,
    agents,
    load,
    security,
)
from shared.errors import StartError
from shared.guide import BLOCK_KEYS
from tests.host_fakes import config_for, write_config


def loaded(folder: Path, document: dict[str, Any]) -> HostConfig:
    return load(write_config(folder, document))


def example() -> dict[str, Any]:
    document = config_for("127.0.0.1:1")
    document["plugins"]["embedder_providers"]["words"] = {"type": "grpc", "path": "plugins.embed_st"}
    return document


def test_the_projects_own_file_is_valid() -> None:
    """The hector.yaml at the top of the repository loads, and hands its model on to the embedder."""
    config = load(Path(__file__).parents[1] / "hector.yaml")
    database = config.database()
    assert (database.collection, database.plugin.path) == ("docs", "plugins.vector_hnsw")
    embedder = config.embedder(database)
    assert config.environment(embedder.plugin) == {"EMBED_ST__MODEL": "sentence-transformers/all-MiniLM-L6-v2"}


def test_the_same_on_postgresql() -> None:
    """hector-pg.yaml is hector.yaml with vector_pg for its vectors, and nothing else is different."""
    top = Path(__file__).parents[1]
    usual, other = (yaml.safe_load((top / name).read_text()) for name in ("hector.yaml", "hector-pg.yaml"))
    assert list(load(top / "hector-pg.yaml").plugins) == [
        name.replace("vector_hnsw", "vector_pg") for name in load(top / "hector.yaml").plugins
    ]
    assert other["databases"]["docs"].pop("type") == "plugin:vector_pg"
    for one in (usual, other):
        del one["plugins"]["database_providers"]
        one["databases"]["docs"].pop("type", None)
    assert other == usual


@pytest.mark.parametrize(
    ("where", "key", "value", "message"),
    [
        (("plugins",), "database_provider", {}, "unknown section 'database_provider'; did you mean 'database_prov"),
        (
            ("plugins", "database_providers", "vectors"),
            "adress",
            "x",
            "vectors: unknown key 'adress'; did you mean 'add",
        ),
        (("plugins", "database_providers", "vectors"), "type", "rest", "vectors.type: must be 'grpc'"),
        (("plugins", "database_providers", "vectors"), "readers", -1, "vectors.readers: must be at least 0"),
        (("plugins", "database_providers", "vectors"), "readers", "two", "vectors.readers: expected"),
        (
            ("plugins", "database_providers", "vectors"),
            "readers",
            2,
            "vectors.readers: only `path: plugins.vector_hnsw`",
        ),
        (("plugins", "embedder_providers", "words"), "readers", 1, "words.readers: only `path: plugins.vector_hnsw`"),
        (("plugins", "database_providers", "vectors"), "readers", 10**9, "vectors.readers: must be at most 64"),
        (
            ("plugins", "database_providers", "vectors"),
            "address",
            {"adress": "x"},
            "no 'adress'; did you mean 'address'",
        ),
        (
            ("plugins", "database_providers", "vectors"),
            "address",
            "localhost",
            "vectors.address: an address is HOST:PORT",
        ),
        (("plugins", "database_providers", "vectors"), "address", "http://a:1", "vectors.address: an address is HOST"),
        (("databases", "store"), "type", "plugin:vector", "no enabled plugin 'vector'; did you mean 'vectors'"),
        (
            ("databases", "store"),
            "type",
            "plugin:words",
            "plugin words is a embedder_provider, not a database_provider",
        ),
        (
            ("databases", "store"),
            "type",
            "qdrant",
            "databases.store.type: must be \"plugin:NAME\", not 'qdrant', NAME being",
        ),
        (("databases", "store"), "kind", "x", "databases.store: unknown key 'kind'"),
        (("databases", "store", "config"), "chunk_char", 5, "unknown key 'chunk_char'; did you mean 'chunk_chars'"),
        (("databases", "store", "config"), "chunk_chars", 5, "chunk_chars: must be at least 100"),
        (
            ("databases", "store", "config"),
            "chunk_overlap",
            900,
            "chunk_overlap: must be at most half of chunk_chars, 500",
        ),
        (("databases", "store", "config"), "collection", "../x", "collection: must be 1 to 128"),
        (("databases", "store", "config"), "collection", "${NOT_SET_ANYWHERE}", "NOT_SET_ANYWHERE} is not set"),
        (("embedders", "default", "config"), "modle", "x", "unknown key 'modle'; did you mean 'model'"),
    ],
)
def test_a_mistake_is_named_with_a_suggestion(
    tmp_path: Path, where: tuple[str, ...], key: str, value: Any, message: str
) -> None:
    """An unknown key or a value out of range is an error that names the place and, for a key, the nearest one."""
    document = example()
    block = document
    for name in where:
        block = block[name]
    block[key] = value
    with pytest.raises(StartError) as refusal:
        loaded(tmp_path, document)
    file = (tmp_path / "hector.yaml").read_text().splitlines()
    place, _, said = str(refusal.value).partition(": ")
    assert message in said
    assert file[int(place.rpartition(":")[2]) - 1].strip().startswith(f"{key}:")


def test_two_models_for_one_plugin_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model under embedders: that differs from the plugin's own, in the file or the environment, is an error."""
    monkeypatch.delenv("EMBED_ST__MODEL", raising=False)
    document = example()
    document["plugins"]["embedder_providers"]["words"]["config"] = {"model": "other"}
    with pytest.raises(StartError, match="model: is fake-model, but plugin words has its own, other; change one"):
        loaded(tmp_path, document)
    del document["plugins"]["embedder_providers"]["words"]["config"]
    monkeypatch.setenv("EMBED_ST__MODEL", "third")
    with pytest.raises(StartError, match="has its own, third"):
        loaded(tmp_path, document)


def test_a_plugin_that_is_not_enabled_is_left_out(tmp_path: Path) -> None:
    """`enabled: false` takes a plugin out, and what uses it says so."""
    document = example()
    document["plugins"]["tool_providers"] = {"web": {"path": "plugins.tools_http", "enabled": False}}
    assert set(loaded(tmp_path, document).plugins) == {"vectors", "words"}
    document["plugins"]["database_providers"]["vectors"]["enabled"] = "false"
    with pytest.raises(StartError, match="no enabled plugin 'vectors'"):
        loaded(tmp_path, document)


def test_variables_are_expanded_where_the_host_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`${VAR}` works in what the host uses; a plugin's own settings are left for the plugin to expand."""
    monkeypatch.setenv("WHERE", "10.0.0.7:8082")
    document = example()
    vectors = document["plugins"]["database_providers"]["vectors"]
    vectors |= {"address": {"address": "${WHERE}", "token": "${NO_TOKEN:-t}"}, "config": {"data_dir": "${NOT_SET}"}}
    plugin = loaded(tmp_path, document).plugins["vectors"]
    assert plugin.address is not None
    assert (plugin.address.address, plugin.address.token.reveal()) == ("10.0.0.7:8082", "t")
    assert plugin.settings == {"data_dir": "${NOT_SET}"}


def test_which_of_several_must_be_said(tmp_path: Path) -> None:
    """With two databases one must be named; a wrong name gets a suggestion."""
    document = example()
    document["databases"]["other"] = {"type": "plugin:vectors"}
    config = loaded(tmp_path, document)
    with pytest.raises(StartError, match="has databases store, other; choose one with --database"):
        config.database()
    with pytest.raises(StartError, match="did you mean 'store'"):
        config.database("stor")
    assert config.database("other").collection == "other"


def test_the_guides_own_block_without_section_is_read(tmp_path: Path) -> None:
    """A block straight under `plugins:`, as in the guide's security example, is what the file uses it as."""
    document = example()
    document["plugins"] = {"vectors": {"address": "a:1"}, "words": {"address": "a:2"}}
    assert loaded(tmp_path, document).database().plugin.kind == "database_provider"


# ---------------------------------------------------------------- every mistake at once

BROKEN = """\
plugins:
  llm_providers:
    chat: {path: plugins.llm_openai, confg: {}}
    web: {type: rest, path: plugins.tools_http}
  embedder_provider: {}
databases:
  docs: {type: "plugin:vectors"}
  more:
    type: "plugin:chat"
    config:
      chunk_chars: ten
      colection: x
llms:
  fast: {type: "plugin:caht", temperature: 3, max_tokens: 0}
tools:
  fetch: {type: "plugin:web"}
agents:
  helper:
    llm: fast
    database: dosc
    tools: [fetch, serach]
    reasoning: {engine: react, max_iterations: 0}
agnets: {}
"""
MISTAKES = [
    (3, "plugins.llm_providers.chat: unknown key 'confg'; did you mean 'config'?"),
    (4, "plugins.llm_providers.web.type: must be 'grpc', which is all that plugins speak"),
    (5, "plugins: unknown section 'embedder_provider'; did you mean 'embedder_providers'?"),
    (7, "databases.docs.type: no enabled plugin 'vectors'; known are chat, web"),
    (9, "databases.more.type: plugin chat is a llm_provider, not a database_provider"),
    (11, "databases.more.config.chunk_chars: expected a whole number"),
    (12, "databases.more.config: unknown key 'colection'; did you mean 'collection'?"),
    (14, "llms.fast.type: no enabled plugin 'caht'; did you mean 'chat'?"),
    (14, "llms.fast.temperature: must be from 0 to 2"),
    (14, "llms.fast.max_tokens: must be at least 1"),
    (16, "tools.fetch.type: plugin web is a llm_provider, not a tool_provider"),
    (20, "agents.helper.database: no databases.dosc; did you mean 'docs'?"),
    (21, "agents.helper.tools: no tools.serach; known are fetch"),
    (22, "agents.helper.reasoning.engine: must be \"plugin:NAME\", not 'react', NAME being a plugin under plugins:"),
    (22, "agents.helper.reasoning.max_iterations: must be at least 1"),
    (23, "unknown key 'agnets'; did you mean 'agents'?"),
]


def test_every_mistake_is_told_at_once(tmp_path: Path) -> None:
    """All mistakes of a file are reported, each with file and line, in the order of the file; none follows from
    another."""
    file = tmp_path / "hector.yaml"
    file.write_text(BROKEN)
    with pytest.raises(ConfigError) as refusal:
        load(file)
    place = re.compile(rf"{re.escape(str(file))}:(\d+): (.*)")
    told = [match.groups() for mistake in refusal.value.mistakes if (match := place.fullmatch(mistake))]
    assert len(told) == len(refusal.value.mistakes)
    lines = [int(line) for line, _ in told]
    assert lines == sorted(lines)
    assert sorted((int(line), text) for line, text in told) == sorted(MISTAKES)


def test_the_command_prints_each_mistake_on_a_line(tmp_path: Path) -> None:
    """`python -m host` prints one `error:` line for each mistake and ends with status 2."""
    (tmp_path / "hector.yaml").write_text(BROKEN)
    command = [sys.executable, "-m", "host", "serve", "--config", str(tmp_path / "hector.yaml")]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=Path(__file__).parents[1])
    assert ran.returncode == 2
    lines = [line for line in ran.stderr.splitlines() if line.startswith(f"error: {tmp_path}/hector.yaml:")]
    assert len(lines) == len(MISTAKES) == len(ran.stderr.splitlines())


def test_every_path_that_cannot_be_run_is_told_at_once(tmp_path: Path) -> None:
    """What only shows when plugins are to be started is told of all of them, each with the line of its block."""
    file = tmp_path / "hector.yaml"
    file.write_text(
        "plugins:\n  tool_providers:\n    one: {path: ./nothing}\n    two:\n      path: ./hector.yaml\n"
        '    three: {path: ./run.py, config: {key: "${SURELY_NOT_SET_HERE}"}}\n'
    )
    (tmp_path / "run.py").write_text("")
    command = [sys.executable, "-m", "host", "serve", "--config", str(file)]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=Path(__file__).parents[1])
    assert ran.returncode == 2
    assert ran.stderr.splitlines() == [
        f"error: {file}:3: plugin one: there is no {tmp_path}/nothing; `path` is an executable or a Python module",
        f"error: {file}:4: plugin two: {file} is not executable; chmod +x it",
        f"error: {file}:6: plugin three: config.key: ${{SURELY_NOT_SET_HERE}} is not set; set the variable or write "
        "${SURELY_NOT_SET_HERE:-default}",
    ]


def test_a_line_is_known_through_anchors_and_merges(tmp_path: Path) -> None:
    """A key that `<<` takes in stands where it was written; `x-` keys at the top are nobody's and hold anchors."""
    file = tmp_path / "hector.yaml"
    file.write_text(
        "x-common: &common\n  type: grpc\n  enabeld: true\nplugins:\n  tool_providers:\n"
        "    web:\n      <<: *common\n      path: plugins.tools_http\n"
    )
    with pytest.raises(ConfigError) as refusal:
        load(file)
    assert refusal.value.mistakes == (
        f"{file}:3: plugins.tool_providers.web: unknown key 'enabeld'; did you mean 'enabled'?",
    )


def test_no_mistake_shows_a_secret(tmp_path: Path) -> None:
    """No value is repeated in a message where it could be a secret."""
    document = example()
    for section, key in (("embedder_providers", "words"), ("database_providers", "vectors")):
        block = document["plugins"][section][key]
        block |= {"enabled": "s3cr3t-value", "args": {"s3cr3t-value": 1}, "security": {"timeout": "s3cr3t-value"}}
    document["plugins"]["database_providers"]["vectors"]["address"] = {"address": "a:1", "token": ["s3cr3t-value"]}
    document["embedders"]["default"]["config"]["dimension"] = "s3cr3t-value"
    with pytest.raises(ConfigError) as refusal:
        loaded(tmp_path, document)
    assert len(refusal.value.mistakes) == 8
    assert "s3cr3t" not in str(refusal.value)


# ---------------------------------------------------------------- what is only Hector's


def test_keys_that_are_hectors_are_remarked_on(tmp_path: Path) -> None:
    """A key that released Hector hosts know and this one has no use for is a remark with its line, and no mistake."""
    document = example() | {"global": {"a2a_server": {"port": 1}}, "llms": {"fast": {"type": "plugin:chat"}}}
    document["plugins"]["llm_providers"] = {"chat": {"path": "plugins.llm_openai"}}
    document["agents"] = {"helper": {"memory": {"budget": 1}, "reasoning": {"show_thinking": True}}}
    document["agents"]["helper"]["search"] = {"top_k": 3, "rerank": {}}
    document["agents"]["helper"]["prompt"] = {"system_prompt": "x", "include_context": True}
    config = loaded(tmp_path, document)
    lines = config.file.read_text().splitlines()
    told = {}
    for remark in config.remarks:
        place, what = remark.split(": ", 1)
        key, _, said = what.partition(": ")
        assert said == "is Hector's; this host does nothing with it"
        told[key] = lines[int(place.rpartition(":")[2]) - 1].strip().partition(":")[0]
    assert told == {
        "global": "global",
        "agents.helper.memory": "memory",
        "agents.helper.reasoning.show_thinking": "show_thinking",
        "agents.helper.search.rerank": "rerank",
        "agents.helper.prompt.include_context": "include_context",
    }
    assert config.agent("helper").max_hits == 3
    command = [sys.executable, "-m", "host", "logs", "nobody", "--config", str(config.file)]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=Path(__file__).parents[1])
    assert [line for line in ran.stderr.splitlines() if line.startswith("note: ")] == [
        f"note: {remark}" for remark in config.remarks
    ]


# ---------------------------------------------------------------- plugins


def test_a_manifest_says_what_a_block_without_section_is(tmp_path: Path) -> None:
    """`EXECUTABLE.plugin.yaml` beside the executable gives kind and port; without one they are as it is used."""
    document = config_for("127.0.0.1:1")
    document["plugins"] = {name: {"path": f"./{name}"} for name in ("vectors", "words", "other")}
    write_manifest(tmp_path / "words", type="embedder_provider")
    plugins = loaded(tmp_path, document).plugins
    assert {name: (plugin.kind, plugin.usual_port) for name, plugin in plugins.items()} == {
        "vectors": ("database_provider", 8082),
        "words": ("embedder_provider", 8083),
        "other": ("plugin", None),
    }


@pytest.mark.parametrize(
    ("about", "message"),
    [
        ({"type": "database_provider"}, "its manifest says that it is a database_provider, not a embedder_provider"),
        ({"name": "texts"}, "its manifest has the name texts, not words; the two must be equal"),
        ({"type": "embeder_provider"}, "is 'embeder_provider'; did you mean 'embedder_provider'?"),
        ({"version": ""}, "plugin.version is missing; a manifest has name, version, type and protocol"),
        ({"protocol": "netrpc"}, "plugin.protocol is 'netrpc', but plugins speak only 'grpc'"),
    ],
)
def test_a_manifest_that_does_not_fit(tmp_path: Path, about: dict[str, str], message: str) -> None:
    """A manifest that is broken or contradicts the block is a mistake in the line of `path`, and names the file."""
    document = config_for("127.0.0.1:1")
    document["plugins"]["embedder_providers"]["words"] = {"path": "./words"}
    write_manifest(tmp_path / "words", **about)
    with pytest.raises(ConfigError) as refusal:
        loaded(tmp_path, document)
    (mistake,) = refusal.value.mistakes
    assert "plugins.embedder_providers.words.path: its manifest " in mistake
    assert message in mistake


def write_manifest(executable: Path, **about: str) -> None:
    manifest = {"name": "words", "version": "1.0", "type": "embedder_provider", "protocol": "grpc", **about}
    executable.with_name(executable.name + ".plugin.yaml").write_text(yaml.safe_dump({"plugin": manifest}))


def test_an_address_beside_a_path_is_where_it_listens(tmp_path: Path) -> None:
    """With `path` and `address` the host starts the plugin and expects it there, with the credentials of `address`."""
    document = example()
    document["plugins"]["database_providers"]["vectors"] = {
        "path": "./db",
        "address": {"address": "127.0.0.1:9", "token": "t", "tls_ca": "ca.pem"},
    }
    plugin = loaded(tmp_path, document).plugins["vectors"]
    assert plugin.address is None
    reached = plugin.started_at("127.0.0.1:10")
    assert (reached.address, reached.token.reveal(), reached.tls_ca) == ("127.0.0.1:10", "t", f"{tmp_path}/ca.pem")


def test_a_started_plugins_credentials_are_those_of_its_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Token and certificate are taken from its own settings or their variables, whoever made it."""
    monkeypatch.setenv("SESAME", "from-the-file")
    document = example()
    document["plugins"]["tool_providers"] = {
        "ours": {"path": "plugins.tools_http", "config": {"token": "${SESAME}", "tls_cert": "cert.pem"}},
        "theirs": {"path": "myplugins.weather", "config": {"token": "${SESAME}"}},
        "binary": {"path": "./bin/weather", "config": {"token": "${SESAME}"}},
    }
    plugins = loaded(tmp_path, document).plugins

    def token(name: str) -> str:
        return plugins[name].started_at("127.0.0.1:1").token.reveal()

    assert plugins["ours"].started_at("127.0.0.1:1").tls_ca == f"{tmp_path}/cert.pem"
    assert [token(name) for name in ("ours", "theirs", "binary")] == ["from-the-file"] * 3
    for variable in ("TOOLS_HTTP__TOKEN", "WEATHER__TOKEN", "BINARY_TOKEN"):
        monkeypatch.setenv(variable, f"from {variable}")
    assert [token(name) for name in ("ours", "theirs", "binary")] == [
        "from TOOLS_HTTP__TOKEN",
        "from WEATHER__TOKEN",
        "from BINARY_TOKEN",
    ]


def test_security_above_all_plugins(tmp_path: Path) -> None:
    """What `security:` at the top says holds for every plugin that does not say otherwise."""
    document = example() | {"security": {"timeout": "30s", "max_memory": "1GiB"}}
    document["plugins"]["database_providers"]["vectors"]["security"] = {"timeout": "5s", "allowed_networks": []}
    plugins = loaded(tmp_path, document).plugins
    assert plugins["vectors"].security == Security(5.0, 2**30, False, ())
    assert plugins["words"].security == Security(30.0, 2**30, False, None)


# ---------------------------------------------------------------- LLMs, tools and agents


def assistant(**agent: Any) -> dict[str, Any]:
    """A file with two LLM plugins, two tool plugins, a strategy, the fakes, and one agent."""
    document = config_for("127.0.0.1:1")
    document["plugins"] |= {
        "llm_providers": {"chat": {"address": "a:1"}, "other": {"address": "a:2"}},
        "tool_providers": {"web": {"address": "a:3"}, "disk": {"address": "a:4"}},
        "reasoning_strategies": {"react": {"address": "a:5"}},
    }
    document["llms"] = {"fast": {"type": "plugin:chat", "model": "m"}, "slow": {"type": "plugin:other"}}
    document["agents"] = {"helper": {"llm": "fast", **agent}}
    return document


def helper(folder: Path, document: dict[str, Any]) -> Agent:
    return loaded(folder, document).agent("helper")


def test_an_agent_with_everything(tmp_path: Path) -> None:
    """An agent's parts are resolved: LLM, strategy, tools by block and by plugin, database and embedder."""
    document = assistant(
        name="Helper",
        description="d",
        prompt={"prompt_slots": {"system_role": "You help.", "user_guidance": "Ask."}},
        reasoning={"engine": "plugin:react", "max_iterations": 7, "enable_streaming": False},
        tools=["get", "plugin:disk"],
        database="store",
        search={"top_k": 3, "threshold": 0.4},
    )
    document["tools"] = {
        "get": {"type": "plugin:web", "config": {"tool_name": "http_get"}, "enable_approval": True},
        "unused": {"type": "plugin:web"},
    }
    config = loaded(tmp_path, document)
    plugins = config.plugins
    assert config.agents["helper"] == Agent(
        "helper",
        "Helper",
        Llm("fast", plugins["chat"], "m"),
        "d",
        "You help.\n\nAsk.",
        Reasoning(plugins["react"], 7, False),
        (ToolBlock("get", plugins["web"], "http_get", True), plugins["disk"]),
        config.database("store"),
        config.embedders["default"],
        3,
        0.4,
        7,
        False,
    )


def test_what_an_agent_may_use_when_it_does_not_say(tmp_path: Path) -> None:
    """Without `tools` an agent may use every block under tools:, or all of every tool plugin where there is no block;
    an empty list, or `enable_tools: false`, is nothing."""
    document = assistant()
    plugins = loaded(tmp_path, document).plugins
    assert helper(tmp_path, document).tools == (plugins["web"], plugins["disk"])
    document["tools"] = {"get": {"type": "plugin:web"}, "off": {"type": "plugin:web", "enabled": False}}
    assert helper(tmp_path, document).tools == (ToolBlock("get", plugins["web"], "get"),)
    document["agents"]["helper"]["tools"] = []
    assert helper(tmp_path, document).tools == ()
    document["agents"]["helper"] |= {"tools": ["get"], "enable_tools": False}
    assert helper(tmp_path, document).tools == ()


def test_which_llm_an_agent_has(tmp_path: Path) -> None:
    """A name under llms:; a model's name where one LLM plugin is configured, with a remark where it is nearly a name;
    none, where there is only one to have."""
    document = assistant(llm="fats")
    with pytest.raises(
        ConfigError, match=r"helper.llm: no llms.fats, .* needs one LLM plugin, not 2; did you mean 'fast'"
    ):
        loaded(tmp_path, document)
    del document["agents"]["helper"]["llm"]
    with pytest.raises(ConfigError, match=r"helper\.llm: names no llm; known are fast, slow"):
        loaded(tmp_path, document)
    del document["llms"]["slow"], document["plugins"]["llm_providers"]["other"]
    config = loaded(tmp_path, document)
    assert (config.agent("helper").llm, config.remarks) == (config.llms["fast"], ())
    document["agents"]["helper"]["llm"] = "gpt-4o"
    config = loaded(tmp_path, document)
    assert (config.agent("helper").llm.model, config.remarks) == ("gpt-4o", ())
    document["agents"]["helper"]["llm"] = "fsat"
    config = loaded(tmp_path, document)
    assert config.agent("helper").llm.model == "fsat"
    assert [remark.split(": ", 1)[1] for remark in config.remarks] == [
        "agents.helper.llm: no llms.fsat, so it is taken for a model of plugin chat; did you mean fast?"
    ]


def test_a_plugins_setting_under_llms(tmp_path: Path) -> None:
    """A key of Hector's own LLMs under llms: is a mistake that says where the plugin's settings are."""
    document = assistant()
    document["llms"]["fast"]["api_key"] = "s3cr3t-value"
    with pytest.raises(ConfigError) as refusal:
        loaded(tmp_path, document)
    assert "llms.fast.api_key: an llm has type, model, temperature, max_tokens; a setting of the plugin goes into" in (
        str(refusal.value)
    )
    assert "plugins.llm_providers.chat.config" in str(refusal.value)
    assert "s3cr3t" not in str(refusal.value)


def test_which_embedder_an_agent_searches_with(tmp_path: Path) -> None:
    """Its own, its database's, the only one; with several and none named it is a mistake."""
    document = assistant(database="store")
    assert helper(tmp_path, document).embedder == loaded(tmp_path, document).embedders["default"]
    document["embedders"]["second"] = {"type": "plugin:words"}
    with pytest.raises(
        ConfigError, match=r"helper\.database: is searched with an embedder; name one of default, second"
    ):
        loaded(tmp_path, document)
    document["databases"]["store"]["config"]["embedder"] = "second"
    assert helper(tmp_path, document).embedder == loaded(tmp_path, document).embedders["second"]
    document["agents"]["helper"]["embedder"] = "default"
    assert helper(tmp_path, document).embedder == loaded(tmp_path, document).embedders["default"]
    document["databases"]["store"]["config"]["embedder"] = "secnd"
    with pytest.raises(ConfigError, match=r"store\.config\.embedder: no embedders\.secnd; did you mean 'second'"):
        loaded(tmp_path, document)


# ---------------------------------------------------------------- any file

_ODD = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**20), 10**20)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from(["", "plugin:", "plugin:words", "plugin:nobody", "${", "${NOT_SET}", "\x7f", "a\nb", "é" * 300]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


def _places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for key, item in inner for place in _places(item, (*path, key)))]


@pytest.mark.slow
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_change_of_a_file_is_read_or_refused(tmp_path: Path, data: st.DataObject) -> None:
    """Whatever stands in one place of a file, or under another key, it loads, or is refused with lines of that file."""
    document = assistant(tools=["plugin:disk"], database="store", reasoning={"engine": "plugin:react"}, prompt={})
    document |= {"security": {"timeout": "1s"}, "tools": {"get": {"type": "plugin:web", "config": {"tool_name": "x"}}}}
    document["plugins"]["plugin_discovery"] = {"enabled": False, "paths": ["./nothing"]}
    document["plugins"]["tool_providers"]["disk"] = {"path": "./disk", "args": ["a"], "env": {"A": "b"}, "config": {}}
    *above, last = data.draw(st.sampled_from(_places(document)[1:]))
    block: Any = document
    for key in above:
        block = block[key]
    if isinstance(block, dict) and data.draw(st.booleans()):
        block[data.draw(st.text(max_size=12))] = block.pop(last)
    else:
        block[last] = data.draw(_ODD)
    file = tmp_path / "hector.yaml"
    file.write_text(yaml.safe_dump(document, allow_unicode=True, sort_keys=False))
    lines = len(file.read_text().splitlines())
    try:
        load(file)
    except ConfigError as error:
        for mistake in error.mistakes:
            place = re.match(rf"{re.escape(str(file))}:(\d+): ", mistake)
            assert place, mistake
            assert 1 <= int(place[1]) <= lines
            assert "\n" not in mistake
        refusal = str(error)
    except StartError as error:  # YAML that is none of settings, such as with a number beyond all bounds
        refusal = str(error)
    else:
        return
    assert str(file) in refusal


# ---------------------------------------------------------------- its page

PAGE = (Path(__file__).parents[1] / "host" / "config" / "README.md").read_text(encoding="utf-8")


def test_the_pages_example_loads(tmp_path: Path) -> None:
    """The example of the page is valid, without a remark, and uses every section."""
    (example_text,) = re.findall(r"^```yaml\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    file = tmp_path / "hector.yaml"
    file.write_text(example_text)
    config = load(file)
    assert config.remarks == ()
    assert all((config.plugins, config.databases, config.embedders, config.llms, config.tools, config.agents))
    assert {plugin.kind for plugin in config.plugins.values()} == set(KINDS.values())


def test_the_page_names_every_key() -> None:
    """Every key that a block may have stands on the page."""
    prose = re.sub(r"^```.*?^```", "", PAGE, flags=re.MULTILINE | re.DOTALL)
    named = set(re.findall(r"[a-z_]+", " ".join(re.findall(r"`([^`]+)`", prose))))
    keys = {*BLOCK_KEYS, *security.KEYS, *agents._LLM, *agents._TOOL, *agents._AGENT, *agents._REASONING}
    keys |= {*agents._SEARCH, *agents._PROMPT, *agents._SLOTS}
    assert keys <= named, keys - named
