"""`llms:`, `tools:` and `agents:`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from host.config.block import Block
from host.config.references import named, plugin_of
from host.config.types import (
    ANY_KIND,
    DEFAULT_HITS,
    DEFAULT_ITERATIONS,
    DEFAULT_SECONDS,
    DEFAULT_TOKENS,
    DEFAULT_TOOL_CALLS,
    LLM_KIND,
    TOOL_KIND,
    Agent,
    Database,
    Embedder,
    Llm,
    Plugin,
    Reasoning,
    ToolBlock,
    choose_llm,
)
from shared.nearest import did_you_mean
from shared.units import read_duration, read_float, read_list

_LLM = ("type", "model", "temperature", "max_tokens")
_TOOL = ("type", "config", "enabled", "description", "enable_approval")
_AGENT = (
    "name",
    "description",
    "llm",
    "reasoning",
    "tools",
    "enable_tools",
    "database",
    "embedder",
    "search",
    "prompt",
)
_REASONING = ("engine", "max_iterations", "enable_streaming", "max_tokens", "max_tool_calls", "max_seconds")
_SEARCH = ("top_k", "threshold")
_PROMPT = ("system_prompt", "instructions", "prompt_slots")
_SLOTS = ("system_role", "instructions", "user_guidance")
# What released Hector hosts know too and this host has no use for.
_HECTORS_AGENT = (
    *("a2a", "credentials", "docs_folder", "document_stores", "embedder_config", "llm_config", "mcp_parser_tool"),
    *("memory", "security", "session_store", "structured_output", "sub_agents", "target_agent_id", "task", "type"),
    *("url", "visibility"),
)
_HECTORS_REASONING = (
    *("show_tools", "show_thinking", "show_debug_info", "show_tool_execution"),
    *("enable_tool_display", "enable_thinking_display"),
)
_HECTORS_SEARCH = ("models", "preserve_case", "search_mode", "hybrid_alpha", "rerank", "multi_query", "hyde")
_HECTORS_PROMPT = ("include_context", "include_context_limit", "include_context_max_length", "include_history")
_HOTTEST = 2.0  # no model takes a higher temperature


@dataclass(frozen=True)
class Parts:
    """What an agent is put together from; None for a block with a mistake of its own."""

    plugins: Mapping[str, Plugin | None]
    databases: Mapping[str, Database | None]
    embedders: Mapping[str, Embedder | None]
    llms: Mapping[str, Llm | None]
    tools: Mapping[str, ToolBlock | None]


def read_llm(name: str, block: Block, plugins: Mapping[str, Plugin | None]) -> Llm | None:
    plugin = plugin_of(block, "type", plugins, LLM_KIND)
    for key in block.values:
        if key not in _LLM:
            where = f"plugins.llm_providers.{plugin.name}.config" if plugin else "its plugin's config"
            block.mistake(key, f"an llm has {', '.join(_LLM)}; a setting of the plugin goes into {where}")
    temperature = block.read("temperature", read_float, None)
    if temperature is not None and not 0 <= temperature <= _HOTTEST:
        block.mistake("temperature", f"must be from 0 to {_HOTTEST:g}")
    model, max_tokens = block.text("model"), block.integer("max_tokens", None, at_least=1)
    return Llm(name, plugin, model, temperature, max_tokens) if plugin else None


def read_tool(name: str, block: Block, plugins: Mapping[str, Plugin | None]) -> ToolBlock | None:
    """The block may have `enabled: false`: that is for the caller."""
    block.only(_TOOL)
    tool_name = block.inner("config", ("tool_name",)).text("tool_name", name)
    description, enable_approval = block.text("description"), block.flag("enable_approval", False)
    plugin = plugin_of(block, "type", plugins, TOOL_KIND)
    return ToolBlock(name, plugin, tool_name, enable_approval, description) if plugin else None


def read_agent(name: str, block: Block, parts: Parts) -> Agent | None:
    block.hectors(_HECTORS_AGENT)
    block.only((*_AGENT, *_HECTORS_AGENT))
    title, description, prompt = block.text("name", name), block.text("description"), _prompt(block)
    llm, tools, database = _llm(block, parts), _tools(block, parts), named(block, "database", parts.databases)
    embedder = _embedder(block, database, parts)
    reasoning, search = block.inner("reasoning"), block.inner("search")
    for inner, ours, hectors in ((reasoning, _REASONING, _HECTORS_REASONING), (search, _SEARCH, _HECTORS_SEARCH)):
        inner.hectors(hectors)
        inner.only((*ours, *hectors))
    max_iterations = reasoning.integer("max_iterations", DEFAULT_ITERATIONS, at_least=1)
    streaming = reasoning.flag("enable_streaming", True)
    has_engine = "engine" in reasoning.values
    engine = plugin_of(reasoning, "engine", parts.plugins, "reasoning_strategy") if has_engine else None
    max_tokens = reasoning.integer("max_tokens", DEFAULT_TOKENS, at_least=1)
    max_tool_calls = reasoning.integer("max_tool_calls", DEFAULT_TOOL_CALLS, at_least=1)
    max_seconds = reasoning.read("max_seconds", read_duration, DEFAULT_SECONDS)
    if not max_seconds > 0:
        reasoning.mistake("max_seconds", "must be more than 0, as in 5m")
    max_hits = search.integer("top_k", DEFAULT_HITS, at_least=1)
    min_score = search.read("threshold", read_float, None)
    if llm is None:
        return None
    return Agent(
        name,
        title,
        llm,
        description=description,
        prompt=prompt,
        reasoning=Reasoning(engine, max_iterations, streaming) if engine else None,
        tools=tools,
        database=database,
        embedder=embedder,
        max_hits=max_hits,
        min_score=min_score,
        max_iterations=max_iterations,
        enable_streaming=streaming,
        max_tokens=max_tokens,
        max_tool_calls=max_tool_calls,
        max_seconds=max_seconds,
    )


def _llm(block: Block, parts: Parts) -> Llm | None:
    name = block.text("llm")
    if name in parts.llms:
        return parts.llms[name]
    plugins = [plugin for plugin in parts.plugins.values() if plugin and plugin.kind == LLM_KIND]
    llm = choose_llm(name, {key: llm for key, llm in parts.llms.items() if llm}, plugins)
    if isinstance(llm, Llm):
        near = did_you_mean(name, parts.llms) if name else ""
        if near:
            block.remark("llm", f"no llms.{name}, so it is taken for a model of plugin {llm.plugin.name}{near}")
        return llm
    # Where a block that may have been meant has a mistake, that is all there is to say.
    if None not in parts.llms.values() and None not in parts.plugins.values():
        block.mistake("llm", llm)
    return None


def _tools(block: Block, parts: Parts) -> tuple[ToolBlock | Plugin, ...]:
    """Those that it names; where it has no `tools`, all blocks of the file's or, without any, all that plugins have;
    among these are plugins of which only their server will say what they are."""
    names = block.read("tools", read_list, None)
    if not block.flag("enable_tools", True):
        return ()
    if names is None and block.values.get("tools") is None:
        plugins = [plugin for plugin in parts.plugins.values() if plugin and plugin.kind in (TOOL_KIND, ANY_KIND)]
        return tuple(tool for tool in parts.tools.values() if tool) if parts.tools else tuple(plugins)
    tools: dict[str, ToolBlock | Plugin | None] = {}
    for name in names or ():
        if name.startswith("plugin:"):
            tools[name] = plugin_of(block, "tools", parts.plugins, TOOL_KIND, name)
        else:
            tools[name] = named(block, "tools", parts.tools, name)
    return tuple(tool for tool in tools.values() if tool)


def _embedder(block: Block, database: Database | None, parts: Parts) -> Embedder | None:
    """The agent's own, else the database's, else the only one."""
    own = named(block, "embedder", parts.embedders)
    if block.text("embedder") or not database:
        return own if database else None
    if database.embedder or len(parts.embedders) == 1:
        return parts.embedders.get(database.embedder or next(iter(parts.embedders)))
    known = f"one of {', '.join(parts.embedders)}" if parts.embedders else "one that stands under embedders:"
    block.mistake("database", f"is searched with an embedder; name {known}, as `embedder`")
    return None


def _prompt(block: Block) -> str:
    """`prompt` is a text, or what Hector has: a system prompt, or slots for its parts."""
    value = block.values.get("prompt")
    if value is None or isinstance(value, str):
        return block.text("prompt").strip()
    prompt = block.inner("prompt")
    prompt.hectors(_HECTORS_PROMPT)
    prompt.only((*_PROMPT, *_HECTORS_PROMPT))
    slots = prompt.inner("prompt_slots", _SLOTS)
    texts = [prompt.text("system_prompt"), prompt.text("instructions"), *(slots.text(slot) for slot in _SLOTS)]
    return "\n\n".join(text.strip() for text in texts if text.strip())
