"""What the host tells a reasoning plugin that it starts: where its LLMs are. The plugin asks them itself, over gRPC.

The plugin gets `{NAME: address}` of the LLM plugins in the variable of its setting `llm`, as REASONING_REACT__LLM, and
by HECTOR_TOOLS that it needs no tools of its own, since the host runs them. Where its own settings name an `llm`, they
are left as they are.
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Iterable, Mapping

from host.config import LLM_KIND, Llm, Plugin
from shared.client import Address

_STATE_KEY = secrets.token_hex(32)
_REASONING = "reasoning_strategy"


def is_wired(plugin: Plugin) -> bool:
    """Whether the host sets the LLMs of `plugin`."""
    if plugin.kind != _REASONING or not plugin.path or not plugin.environment_prefix:
        return False
    return "llm" not in plugin.settings and f"{plugin.environment_prefix}LLM" not in os.environ


def needs(plugin: Plugin, plugins: Iterable[Plugin]) -> list[Plugin]:
    """Those of `plugins` whose addresses `plugin` has to be told when it is started."""
    return [other for other in plugins if other.kind == LLM_KIND] if is_wired(plugin) else []


def outline(plugin: Plugin, plugins: Iterable[Plugin]) -> tuple[str, ...]:
    """Differs where `plugin` has to be told something else than before."""
    return tuple(f"{llm.name} {llm.address}" for llm in needs(plugin, plugins))


def environment(plugin: Plugin, addresses: Mapping[str, Address]) -> dict[str, str]:
    """`addresses`: of what it needs, by name."""
    if not is_wired(plugin) or not addresses:
        return {}
    llms = {name: _of(address) for name, address in addresses.items()}
    variables = {f"{plugin.environment_prefix}LLM": json.dumps(llms)}
    # Of this host: a plugin that is started again goes on with the runs that it had.
    state_key = f"{plugin.environment_prefix}STATE_KEY"
    if "state_key" not in plugin.settings and state_key not in os.environ:
        variables[state_key] = _STATE_KEY
    # In no plugin's name: a strategy without such a setting would refuse it.
    variables["HECTOR_TOOLS"] = "[]"
    return variables


def llm_name(plugin: Plugin, llm: Llm) -> str:
    """What the reasoning plugin calls `llm`; empty: its own choice."""
    return llm.plugin.name if is_wired(plugin) and llm.plugin.kind == LLM_KIND else ""


def _of(address: Address) -> dict[str, str]:
    parts = {"address": address.address, "token": address.token.reveal(), "tls_ca": address.tls_ca}
    parts |= {"tls_cert": address.tls_cert, "tls_key": address.tls_key}
    return {key: value for key, value in parts.items() if value}
