"""The guide's YAML, read and checked: `load(file)` gives a HostConfig. `types.py` says what that holds."""

from host.config.block import ConfigError
from host.config.load import load
from host.config.security import Security
from host.config.types import (
    ANY_KIND,
    KINDS,
    LLM_KIND,
    TOOL_KIND,
    Agent,
    Database,
    Discovery,
    Embedder,
    HostConfig,
    Llm,
    Plugin,
    Reasoning,
    ToolBlock,
)

__all__ = [
    "ANY_KIND",
    "KINDS",
    "LLM_KIND",
    "TOOL_KIND",
    "Agent",
    "ConfigError",
    "Database",
    "Discovery",
    "Embedder",
    "HostConfig",
    "Llm",
    "Plugin",
    "Reasoning",
    "Security",
    "ToolBlock",
    "load",
]
