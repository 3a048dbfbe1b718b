"""Settings files, plain or in the form of the published plugin guide: `shared/guide.py`, and `host/config/`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from host.config import KINDS, ConfigError, HostConfig, Llm, Reasoning, Security, ToolBlock, load
from shared.errors import StartError
from shared.guide import SECTIONS, blocks_in, settings_in

# The guide's blocks, indentation restored.
GUIDE = {
    "llm_providers": """
plugins:
  llm_providers:
    custom_llm:
      type: "grpc"
      path: "./plugins/custom-llm-plugin"
      config:
        api_key: "${CUSTOM_LLM_API_KEY}"
        endpoint: "http://localhost:8081"
        timeout: "30s"
llms:
  custom:
    type: "plugin:custom_llm"
    model: "custom-model-v1"
    temperature: 0.7
    max_tokens: 4000
""",
    "database_providers": """
plugins:
  database_providers:
    custom_db:
      type: "grpc"
      path: "./plugins/custom-db-plugin"
      config:
        url: "${CUSTOM_DB_URL}"
        api_key: "${CUSTOM_DB_API_KEY}"
        timeout: "30s"
databases:
  custom:
    type: "plugin:custom_db"
    config:
      collection: "my_collection"
      dimension: 768
""",
    "embedder_providers": """
plugins:
  embedder_providers:
    custom_embedder:
      type: "grpc"
      path: "./plugins/custom-embedder-plugin"
      config:
        url: "${CUSTOM_EMBEDDER_URL}"
        api_key: "${CUSTOM_EMBEDDER_API_KEY}"
        timeout: "30s"
embedders:
  custom:
    type: "plugin:custom_embedder"
    config:
      model: "custom-embedding-model"
      dimension: 768
""",
    "tool_providers": """
plugins:
  tool_providers:
    custom_tools:
      type: "grpc"
      path: "./plugins/custom-tools-plugin"
      config:
        api_key: "${CUSTOM_TOOLS_API_KEY}"
        timeout: "30s"
tools:
  custom_api_call:
    type: "plugin:custom_tools"
    config:
      tool_name: "custom_api_call"
  custom_data_processing:
    type: "plugin:custom_tools"
    config:
      tool_name: "custom_data_processing"
""",
    "reasoning_strategies": """
plugins:
  reasoning_strategies:
    custom_reasoning:
      type: "grpc"
      path: "./plugins/custom-reasoning-plugin"
      config:
        max_iterations: 20
        temperature: 0.7
agents:
  my_agent:
    name: "My Agent"
    llm: "gpt-4o"
    reasoning:
      engine: "plugin:custom_reasoning"
      max_iterations: 20
      enable_streaming: true
""",
}
SECURITY = """
plugins:
  my_plugin:
    type: "grpc"
    path: "./my-plugin"
    # Security settings
    security:
      sandbox: true
      timeout: "30s"
      max_memory: "1GB"
      allowed_networks: ["localhost"]
    config:
      api_key: "${MY_PLUGIN_API_KEY}"
"""
EXPECTED: dict[str, dict[str, Any]] = {
    "llm_providers": {"api_key": "K", "endpoint": "http://localhost:8081", "timeout": "30s"},
    "database_providers": {"url": "U", "api_key": "K", "timeout": "30s"},
    "embedder_providers": {"url": "U", "api_key": "K", "timeout": "30s"},
    "tool_providers": {"api_key": "K", "timeout": "30s"},
    "reasoning_strategies": {"max_iterations": 20, "temperature": 0.7},
}
NAMES = {section: next(iter(yaml.safe_load(text)["plugins"][section])) for section, text in GUIDE.items()}


@pytest.fixture
def environ(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LLM", "DB", "EMBEDDER", "TOOLS"):
        monkeypatch.setenv(f"CUSTOM_{name}_API_KEY", "K")
        monkeypatch.setenv(f"CUSTOM_{name}_URL", "U")
    monkeypatch.setenv("MY_PLUGIN_API_KEY", "K")


def read(folder: Path, text: str, **how: Any) -> dict[str, Any]:
    path = folder / "hector.yaml"
    path.write_text(text, encoding="utf-8")
    return settings_in(path, **{"plugin": "vector_hnsw", "section": "database_providers", **how})


def refusal(folder: Path, text: str, **how: Any) -> str:
    with pytest.raises(StartError) as caught:
        read(folder, text, **how)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_a_plain_mapping(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file without `plugins:` is a mapping of settings, variables expanded."""
    monkeypatch.setenv("WHERE", "/srv")
    assert read(tmp_path, "port: 8082\ndata_dir: ${WHERE}/v\n") == {"port": 8082, "data_dir": "/srv/v"}


@pytest.mark.parametrize("text", ["", "# nothing\n", "---\n", "\ufeff"])
def test_an_empty_file(tmp_path: Path, text: str) -> None:
    """An empty file gives no settings."""
    assert read(tmp_path, text) == {}


@pytest.mark.parametrize("section", SECTIONS)
@pytest.mark.usefixtures("environ")
def test_the_guides_blocks(tmp_path: Path, section: str) -> None:
    """Each block of the guide gives what stands under its `config`, once --name says that it is meant."""
    assert read(tmp_path, GUIDE[section], section=section, name=NAMES[section]) == EXPECTED[section]


@pytest.mark.parametrize("section", SECTIONS)
@pytest.mark.usefixtures("environ")
def test_all_of_the_guides_blocks_in_one_file(tmp_path: Path, section: str) -> None:
    """A plugin takes the block of its own section out of a file that has all five."""
    whole: dict[str, Any] = {"plugins": {}}
    for text in GUIDE.values():
        whole["plugins"].update(yaml.safe_load(text)["plugins"])
    assert read(tmp_path, yaml.safe_dump(whole), section=section, name=NAMES[section]) == EXPECTED[section]


TWO = """
plugins:
  database_providers:
    one: {path: "./one", config: {port: 1}}
    two: {address: "127.0.0.1:2", config: {port: 2}}
"""


def test_name_picks_a_block(tmp_path: Path) -> None:
    """With more than one block, --name picks."""
    assert read(tmp_path, TWO, name="two") == {"port": 2}


def test_ambiguous(tmp_path: Path) -> None:
    """More than one block of this plugin and no --name is an error that lists them."""
    ours = TWO.replace("./one", "plugins.vector_hnsw").replace("    two:", "    vector_hnsw:")
    assert refusal(tmp_path, ours).endswith(
        "which plugin? plugins.database_providers has one, vector_hnsw for vector_hnsw; pick one with --name"
    )


@pytest.mark.parametrize("only", ["path: ./one", "path: plugins.db_other", "path: ./x.vector_hnsw.d/one", "config: {}"])
def test_another_plugins_block_is_not_taken(tmp_path: Path, only: str) -> None:
    """A block that names this plugin neither by key nor by path is taken by --name only, also where it is alone."""
    text = f"plugins: {{database_providers: {{mine: {{{only}}}}}}}"
    assert refusal(tmp_path, text).endswith(
        "plugins.database_providers has no block whose key or path names vector_hnsw; "
        "if mine is meant, pick it with --name"
    )
    assert read(tmp_path, text, name="mine") == {}


@pytest.mark.parametrize("path", ["plugins.vector_hnsw", "./bin/vector_hnsw", "/opt/vector_hnsw.py", "vector_hnsw"])
def test_a_path_that_names_this_plugin(tmp_path: Path, path: str) -> None:
    """A block is this plugin's where the last part of its path is the plugin's name."""
    assert read(tmp_path, f"plugins: {{mine: {{path: {path}, config: {{port: 1}}}}}}") == {"port": 1}


@pytest.mark.parametrize("name", [None, "mine"])
@pytest.mark.parametrize("value", ["false", '"false"', "${SURELY_UNSET_HERE:-no}"])
def test_a_block_that_is_not_enabled(tmp_path: Path, value: str, name: str | None) -> None:
    """A block with `enabled: false` is refused, with or without --name."""
    text = f"plugins:\n  mine:\n    path: plugins.vector_hnsw\n    enabled: {value}\n"
    assert refusal(tmp_path, text, name=name).endswith("plugin mine has `enabled: false`; remove that line to run it")
    assert "plugin mine.enabled: expected true or false" in refusal(tmp_path, text.replace(value, "perhaps"))


@pytest.mark.parametrize(
    ("key", "value", "meant"),
    [("secuirty", "{sandbox: true}", "security"), ("cnofig", "{port: 1}", "config"), ("adress", "x", "address")],
)
def test_an_unknown_key_of_a_block(tmp_path: Path, key: str, value: str, meant: str) -> None:
    """A key that blocks do not have is an error that suggests the nearest: it may be a `security` that has a typo."""
    text = f"plugins: {{vector_hnsw: {{path: x, {key}: {value}}}}}"
    assert refusal(tmp_path, text).endswith(f"plugin vector_hnsw: unknown key {key!r}; did you mean {meant!r}?")
    with pytest.raises(StartError, match=f"unknown key '{key}'; did you mean '{meant}'"):
        load(tmp_path / "hector.yaml")
    every = "{type: grpc, path: x, enabled: true, name: vector_hnsw, config: {port: 1}, security: {}}"
    assert read(tmp_path, f"plugins: {{vector_hnsw: {every}}}") == {"port": 1}
    assert set(load(tmp_path / "hector.yaml").plugins) == {"vector_hnsw"}


def test_the_block_that_names_this_plugin(tmp_path: Path) -> None:
    """Among several, the block whose path or name is this plugin's needs no --name."""
    by_path = TWO.replace("./one", "plugins.vector_hnsw")
    by_name = TWO.replace("    two:", "    vector_hnsw:")
    assert read(tmp_path, by_path) == {"port": 1}
    assert read(tmp_path, by_name) == {"port": 2}


def test_an_unknown_name(tmp_path: Path) -> None:
    """--name of a block that is not there is an error that suggests the nearest."""
    assert refusal(tmp_path, TWO, name="twp").endswith(
        "no plugin 'twp' under plugins.database_providers; did you mean 'two'?"
    )


def test_name_for_a_plain_mapping(tmp_path: Path) -> None:
    """--name on a plain mapping is an error, not ignored."""
    assert "has no `plugins:` block" in refusal(tmp_path, "port: 1", name="one")


@pytest.mark.parametrize("text", ["plugins: {}", "plugins:", "plugins: []", "plugins: {database_providers: [1]}"])
def test_no_block(tmp_path: Path, text: str) -> None:
    """A guide's file that has no block for this plugin is an error that says so."""
    assert refusal(tmp_path, text).endswith("which plugin? plugins.database_providers has none")


def test_another_sections_blocks_do_not_count(tmp_path: Path) -> None:
    """A block of another section is never taken, also not by --name."""
    assert "has none" in refusal(tmp_path, GUIDE["llm_providers"])
    assert refusal(tmp_path, GUIDE["llm_providers"], name="custom_llm").endswith(
        "no plugin 'custom_llm' under plugins.database_providers"
    )


def test_a_name_in_two_places(tmp_path: Path) -> None:
    """A plugin under its section and straight under `plugins:` too is an error: neither is silently the last."""
    text = "plugins:\n  mine: {path: vector_hnsw}\n  database_providers:\n    mine: {path: vector_hnsw}\n"
    assert refusal(tmp_path, text).endswith(
        "hector.yaml: plugins: 'mine' is there twice, also under database_providers; rename one"
    )


def test_a_plugin_that_is_named_path() -> None:
    """A section with a plugin named `path` is a section, not a block."""
    assert list(blocks_in({"plugins": {"llm_providers": {"path": {"config": {}}}}}, "tool_providers")) == []


def test_unset_variables_of_other_blocks(tmp_path: Path) -> None:
    """Only this plugin's block is expanded: what another needs may be unset here."""
    text = TWO.replace("{port: 2}", '{port: "${SURELY_UNSET_HERE}"}')
    assert read(tmp_path, text, name="one") == {"port": 1}
    assert "${SURELY_UNSET_HERE} is not set" in refusal(tmp_path, text, name="two")


# ---------------------------------------------------------------- the same blocks, as the host reads them


def hosts(folder: Path, text: str) -> HostConfig:
    path = folder / "hector.yaml"
    path.write_text(text, encoding="utf-8")
    return load(path)


def merged(*texts: str) -> str:
    """One file of several, the blocks of each section together."""
    whole: dict[str, Any] = {}
    for text in texts:
        for key, blocks in yaml.safe_load(text).items():
            whole.setdefault(key, {}).update(blocks)
    return yaml.safe_dump(whole, sort_keys=False)


KIND_OF = dict(zip(GUIDE, KINDS.values(), strict=True))
PORT_OF = dict(zip(GUIDE, range(8081, 8086), strict=True))


@pytest.mark.parametrize("section", GUIDE)
def test_the_host_takes_a_plugin_as_the_guide_writes_it(tmp_path: Path, section: str) -> None:
    """Each block of the guide is a plugin that the host starts and expects at the guide's port, with its own config."""
    text = merged(GUIDE[section], GUIDE["llm_providers"])
    name = NAMES[section]
    plugin = hosts(tmp_path, text).plugins[name]
    assert (plugin.name, plugin.kind) == (name, KIND_OF[section])
    assert plugin.path == f"./plugins/{name.replace('_', '-')}-plugin"
    assert (plugin.address, plugin.module, plugin.usual_port) == (None, "", PORT_OF[section])
    assert plugin.settings == yaml.safe_load(text)["plugins"][section][name]["config"]
    assert plugin.timeout == (30.0 if "timeout" in plugin.settings else None)


@pytest.mark.parametrize("section", ["llm_providers", "database_providers", "embedder_providers", "tool_providers"])
def test_the_host_takes_each_example_alone(tmp_path: Path, section: str) -> None:
    """The four examples that refer to nothing else load as they stand, without a remark."""
    config = hosts(tmp_path, GUIDE[section])
    assert (set(config.plugins), config.remarks) == ({NAMES[section]}, ())


def test_the_guides_llm(tmp_path: Path) -> None:
    """`llms:` of the guide: its plugin, model, temperature and max_tokens."""
    config = hosts(tmp_path, GUIDE["llm_providers"])
    assert config.llm("custom") == Llm("custom", config.plugins["custom_llm"], "custom-model-v1", 0.7, 4000)


def test_the_guides_database_and_embedder(tmp_path: Path) -> None:
    """`databases:` and `embedders:` of the guide: collection, model and dimension."""
    config = hosts(tmp_path, merged(GUIDE["database_providers"], GUIDE["embedder_providers"]))
    database, embedder = config.database(), config.embedder(config.database())
    assert (database.plugin.name, database.collection, database.dimension) == ("custom_db", "my_collection", 768)
    assert (embedder.plugin.name, embedder.model) == ("custom_embedder", "custom-embedding-model")
    assert embedder.dimension == 768


def test_the_guides_tools(tmp_path: Path) -> None:
    """`tools:` of the guide: two names for two tools of one plugin."""
    config = hosts(tmp_path, GUIDE["tool_providers"])
    plugin = config.plugins["custom_tools"]
    assert config.tools == {
        name: ToolBlock(name, plugin, name) for name in ("custom_api_call", "custom_data_processing")
    }


def test_the_guides_agent(tmp_path: Path) -> None:
    """`agents:` of the guide: a model by its name, of the only LLM plugin, and a reasoning plugin with its settings."""
    config = hosts(tmp_path, merged(*GUIDE.values()))
    agent = config.agent("my_agent")
    assert agent.title == "My Agent"
    assert agent.llm == Llm("gpt-4o", config.plugins["custom_llm"], "gpt-4o")
    assert agent.reasoning == Reasoning(config.plugins["custom_reasoning"], 20, True)
    assert agent.tools == tuple(config.tools.values())


def test_the_guides_agent_without_an_llm(tmp_path: Path) -> None:
    """The guide's agent alone names a model of nobody: an error with its line and what is missing."""
    with pytest.raises(ConfigError) as refused:
        hosts(tmp_path, GUIDE["reasoning_strategies"])
    assert refused.value.mistakes == (
        f"{tmp_path}/hector.yaml:13: agents.my_agent.llm: no llms.gpt-4o, and to be a model's name it needs a plugin "
        "under plugins.llm_providers",
    )


CONFIGURE = """
plugins:
  llm_providers:
    my_plugin:
      type: "grpc"
      path: "./my-plugin"
      config:
        api_key: "${MY_PLUGIN_API_KEY}"
llms:
  custom:
    type: "plugin:my_plugin"
    model: "custom-model"
"""
INTEGRATION = """
# test-config.yaml
plugins:
  llm_providers:
    test_plugin:
      type: "grpc"
      path: "./test-plugin"
      config:
        api_key: "test-key"
llms:
  test:
    type: "plugin:test_plugin"
    model: "test-model"
agents:
  test_agent:
    name: "Test Agent"
    llm: "test"
"""


def test_the_guides_workflow(tmp_path: Path) -> None:
    """Step 5 has no `agents:`, and step 6 calls my_agent with it: any name is then an agent with the only LLM."""
    config = hosts(tmp_path, CONFIGURE)
    agent = config.agent("my_agent")
    assert (agent.name, agent.llm.model, agent.reasoning, agent.tools) == ("my_agent", "custom-model", None, ())
    assert config.llm("custom") == agent.llm


def test_the_guides_integration_test(tmp_path: Path) -> None:
    """The guide's test-config.yaml has an agent that is a plain loop over its LLM."""
    agent = hosts(tmp_path, INTEGRATION).agent("test_agent")
    assert (agent.title, agent.llm.plugin.name, agent.llm.model) == ("Test Agent", "test_plugin", "test-model")
    assert (agent.reasoning, agent.tools, agent.database) == (None, (), None)
    with pytest.raises(StartError, match=r"has no agents\.test_agnet; did you mean 'test_agent'"):
        hosts(tmp_path, INTEGRATION).agent("test_agnet")


def test_the_guides_security_in_the_host(tmp_path: Path) -> None:
    """The guide's security block, straight under `plugins:`, is read whole: seconds, bytes, ranges of addresses."""
    plugin = hosts(tmp_path, SECURITY).plugins["my_plugin"]
    assert (plugin.kind, plugin.usual_port) == ("plugin", None)
    assert plugin.security == Security(30.0, 10**9, True, ("127.0.0.0/8", "::1/128"))
    assert plugin.timeout == 30.0


# ---------------------------------------------------------------- security


@pytest.mark.usefixtures("environ")
def test_the_guides_security_block(tmp_path: Path) -> None:
    """The guide's security block is refused by a plugin alone, naming the first setting that is the host's."""
    message = refusal(tmp_path, SECURITY, name="my_plugin")
    assert "security.sandbox is for a host that enforces it" in message
    assert "a plugin alone cannot, so remove the line" in message


@pytest.mark.parametrize("key", ["sandbox", "max_memory", "allowed_networks", "made_up"])
@pytest.mark.parametrize("form", ["plain", "block", "file"])
def test_security_is_never_ignored(tmp_path: Path, key: str, form: str) -> None:
    """Whatever stands in a security block besides `timeout` is refused, wherever the block stands."""
    if form == "plain":
        text = f"port: 1\nsecurity: {{{key}: true}}\n"
    elif form == "block":
        text = f"plugins:\n  vector_hnsw: {{path: x, config: {{port: 1}}, security: {{{key}: true}}}}\n"
    else:
        text = f"plugins:\n  vector_hnsw: {{path: x, config: {{port: 1}}}}\nsecurity: {{{key}: true}}\n"
    assert f"security.{key} is for a host that enforces it" in refusal(tmp_path, text)


@pytest.mark.usefixtures("environ")
def test_security_timeout_is_enforced(tmp_path: Path) -> None:
    """`security.timeout` becomes the plugin's timeout, and wins over the one in `config`."""
    only_timeout = SECURITY.replace("      sandbox: true\n", "").replace('      max_memory: "1GB"\n', "")
    only_timeout = only_timeout.replace('      allowed_networks: ["localhost"]\n', "")
    assert read(tmp_path, only_timeout, name="my_plugin") == {"api_key": "K", "timeout": "30s"}
    text = "plugins:\n  vector_hnsw: {path: x, config: {timeout: 5m}, security: {timeout: 1s}}\n"
    assert read(tmp_path, text) == {"timeout": "1s"}
    assert read(tmp_path, "timeout: 5m\nsecurity: {timeout: 1s}\n") == {"timeout": "1s"}
    assert read(tmp_path, text + "security: {timeout: 9s}\n") == {"timeout": "1s"}


@pytest.mark.parametrize("value", ["true", "false", "[]", "[sandbox]", "0", '""', "sandbox"])
def test_a_security_block_that_is_no_mapping(tmp_path: Path, value: str) -> None:
    """A security block of another form is an error, also where it looks empty."""
    assert "expected a mapping" in refusal(tmp_path, f"port: 1\nsecurity: {value}\n")


# ---------------------------------------------------------------- bad files


@pytest.mark.parametrize(
    "text",
    [
        'token: "s3cr3t-value\nport: 1\n',
        "token: s3cr3t-value: x\n",
        "token: [s3cr3t-value\n",
        "token: *s3cr3t-value\n",
        "token: %s3cr3t-value\n",
        "token: s3cr3t-value\n\tport: 1\n",
        "token: s3cr3t-value\x07\n",
        'token: "s3cr3t-value\\UFFFFFFFF"\n',
        'token: "s3cr3t-value\\U00110000"\n',
        "%TAG !s3cr3t-value! tag:x,1:\n%TAG !s3cr3t-value! tag:x,1:\n---\ntoken: x\n",
        "token: !s3cr3t-value!x y\n",
        "token: &s3cr3t-value a\nport: &s3cr3t-value b\nhost: *other-s3cr3t-value\n",
        "token: s3cr3t-value\n---\ntoken: x\n",
    ],
)
def test_what_is_not_yaml(tmp_path: Path, text: str) -> None:
    """A file that is not YAML is an error with the place in it, and without the line that may hold a secret."""
    message = refusal(tmp_path, text)
    assert "is not YAML: " in message
    assert "s3cr3t-value" not in message
    assert len(message) < len(str(tmp_path)) + 200


@pytest.mark.parametrize("text", ["- a\n- b\n", "just words\n", "5\n", "token:s3cr3t-value\n"])
def test_what_is_no_mapping(tmp_path: Path, text: str) -> None:
    """A file that holds no mapping of settings is refused."""
    message = refusal(tmp_path, text)
    assert message.endswith("hector.yaml must hold a mapping of settings")


@pytest.mark.parametrize("config", ["[]", "5", "words", "false"])
def test_a_config_block_that_is_no_mapping(tmp_path: Path, config: str) -> None:
    """A `config` of another form is an error, also where it looks empty."""
    assert "expected a mapping of settings" in refusal(
        tmp_path, f"plugins:\n  vector_hnsw: {{path: x, config: {config}}}\n"
    )


def test_keys_that_are_no_text(tmp_path: Path) -> None:
    """A key that YAML reads as a number is given on as text, for `resolve` to name."""
    assert read(tmp_path, "plugins:\n  vector_hnsw: {path: x, config: {1: 2}}\n") == {"1": 2}


def test_keys_that_may_be_secrets(tmp_path: Path) -> None:
    """A key that is no plain name, such as one whose colon was forgotten, is not repeated in the message."""
    block = "plugins: {vector_hnsw: {path: x, config api_key s3cr3t-value}}"
    message = refusal(tmp_path, block)
    assert message.endswith(
        "plugin vector_hnsw: unknown key (not shown, since it is no plain name with a value); did you mean 'config'?"
    )
    with pytest.raises(StartError) as caught:
        load(tmp_path / "hector.yaml")
    assert "s3cr3t" not in str(caught.value)
    message = refusal(tmp_path, "security: {token s3cr3t-value}")
    assert "security.* is for a host" in message
    assert "s3cr3t" not in message
