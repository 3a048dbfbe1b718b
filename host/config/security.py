"""`security:` of a plugin's block, or above all of them: what the host holds a plugin to."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, replace

from host.config.block import Block
from shared.errors import quoted
from shared.units import read_duration, read_list, read_size

KEYS = ("timeout", "max_memory", "sandbox", "allowed_networks")
_LEAST_MEMORY = 2**20
LOCALHOST = ("127.0.0.0/8", "::1/128")


@dataclass(frozen=True)
class Security:
    """What one plugin is held to."""

    timeout: float | None = None  # seconds; None: nothing but what the plugin itself sets
    max_memory: int | None = None  # bytes
    sandbox: bool = False
    allowed_networks: tuple[str, ...] | None = None  # ranges as ipaddress reads them; None: not bounded


def read_security(block: Block, above: Security) -> Security:
    """`block` is the mapping itself; what it does not say is as `above` has it."""
    block.only(KEYS)
    timeout = block.read("timeout", read_duration, above.timeout)
    max_memory = block.read("max_memory", read_size, None)
    if max_memory is not None and max_memory < _LEAST_MEMORY:
        block.mistake("max_memory", "must be at least 1MiB")
    security = Security(timeout or None, max_memory or above.max_memory, block.flag("sandbox", above.sandbox))
    networks = block.read("allowed_networks", read_list, None)
    if networks is None:
        return replace(security, allowed_networks=above.allowed_networks)
    return replace(security, allowed_networks=tuple(part for text in networks for part in _ranges(block, text)))


def _ranges(block: Block, text: str) -> tuple[str, ...]:
    if text.lower() == "localhost":
        return LOCALHOST
    try:
        return (str(ipaddress.ip_network(text)),)
    except ValueError:
        block.mistake(
            "allowed_networks",
            f"{quoted(text)} is no address or range; write localhost, 10.1.2.3 or 10.1.0.0/16 (a name can have another "
            "address tomorrow)",
        )
        return ()
