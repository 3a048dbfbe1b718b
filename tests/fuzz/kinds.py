"""Every kind of attack on a port, by name."""

from __future__ import annotations

from tests.fuzz.attack import Attack
from tests.fuzz.attacks import (
    compressed,
    content_types,
    continuation_flood,
    frame_floods,
    frames,
    half_messages,
    header_blocks,
    idle_streams,
    many_connections,
    messages,
    no_reader,
    paths,
    rapid_reset,
    raw_bytes,
    small_and_heavy,
)

KINDS: dict[str, Attack] = {
    module.__name__.rpartition(".")[2]: module.run
    for module in (
        raw_bytes,
        frames,
        header_blocks,
        content_types,
        continuation_flood,
        frame_floods,
        rapid_reset,
        paths,
        half_messages,
        compressed,
        many_connections,
        idle_streams,
        no_reader,
        messages,
        small_and_heavy,
    )
}
