"""What a reply may hold at most."""

from __future__ import annotations

from shared.errors import LimitReached


def too_large(largest: int) -> LimitReached:
    """`largest` is the setting `max_response_bytes`."""
    return LimitReached(
        f"the endpoint's reply has more than max_response_bytes of {largest}: ask for less with max_tokens, "
        "or raise the setting",
        reason="RESPONSE_TOO_LARGE",
    )
