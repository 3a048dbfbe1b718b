"""What a running plugin is, by its server reflection: for a block that does not say, and to see whether it is true."""

from __future__ import annotations

import grpc

from host.config import ANY_KIND, KINDS, Plugin
from host.reflection import Reflection, ReflectionError
from shared.client import Address, channel
from shared.errors import StartError

_SERVICES = ("LLMProvider", "DatabaseProvider", "EmbedderProvider", "ToolProvider", "ReasoningStrategy")
_KIND_OF = {f"hector.plugins.v1.{name}": kind for name, kind in zip(_SERVICES, KINDS.values(), strict=True)}
_SECONDS = 5.0


def kind_of(plugin: Plugin, address: Address) -> str:
    """The kind of `plugin`, which serves at `address`; ANY_KIND where neither its block nor its server tells one.

    Raises StartError where the server is another kind than its block, or the use of it, says. One of ours is
    not asked where its block says so: it looks for that block under its own kind.
    """
    if plugin.module.startswith("plugins.") and plugin.kind != ANY_KIND:
        return plugin.kind
    served = _served(address)
    if plugin.kind == ANY_KIND:
        return served[0] if len(served) == 1 else ANY_KIND
    if served and plugin.kind not in served:
        raise StartError(
            f"plugin {plugin.name} at {address.address} is a {' and '.join(served)}, but is configured as a "
            f"{plugin.kind}; move its block, or start another"
        )
    return plugin.kind


def is_a(kind: str, plugin: Plugin, address: Address) -> bool:
    """Whether it is of the kind, as its block says or, where that says nothing, its server."""
    return plugin.kind == kind or (plugin.kind == ANY_KIND and kind in _served(address))


def _served(address: Address) -> list[str]:
    """Empty where the server has no reflection, or none of the five services."""
    try:
        with channel(address) as opened:
            services = Reflection(opened, address.metadata, _SECONDS).services()
    except (grpc.RpcError, ReflectionError):
        return []
    return [kind for name, kind in _KIND_OF.items() if name in services]
