"""How the host reads the guide's YAML, and what it says of mistakes: `host/config/`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from host.config import HostConfig, load
from shared.errors import StartError
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
        (
            ("plugins", "database_providers", "vectors"),
            "address",
            {"adress": "x"},
            "no 'adress'; did you mean 'address'",
        ),
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
    """A block straight under `plugins:`, as in the guide's security example, may be of any type."""
    document = example()
    document["plugins"] = {"vectors": {"address": "a:1"}, "words": {"address": "a:2"}}
    assert loaded(tmp_path, document).database().plugin.kind == "plugin"
