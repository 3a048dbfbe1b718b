"""Regular expressions that take linear time, whatever they are and whatever they are looked for in.

They are those of Rust's `regex`, as `jsonschema-rs` has them: no look-around, no back references.
"""

from __future__ import annotations

from collections.abc import Callable

import jsonschema_rs

from shared.errors import InvalidArgument

_LONGEST = 1_000  # characters
_MOST_BYTES = 4 * 2**20  # of the automaton


def matcher(pattern: str, option: str) -> Callable[[str], bool]:
    """Whether `pattern` is found anywhere in a text. Raises InvalidArgument where it is no such expression."""
    problem = f"it has more than {_LONGEST} characters"
    if len(pattern) <= _LONGEST:
        try:
            check: Callable[[str], bool] = jsonschema_rs.validator_for(
                {"pattern": pattern}, pattern_options=jsonschema_rs.RegexOptions(size_limit=_MOST_BYTES)
            ).is_valid
            return check
        except (jsonschema_rs.ValidationError, ValueError):
            problem = "look-around, back references, or a mistake in it"
    raise InvalidArgument(
        f"{option} is no regular expression that can be used ({problem}): use contains or starts_with",
        reason="BAD_PATTERN",
        field=option,
    )
