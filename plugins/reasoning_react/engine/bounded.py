"""How much of a turn is taken, whoever the model's provider is: no more than a model writes in earnest, and no more
than can be read while others wait."""

from __future__ import annotations

from dataclasses import replace

from .chat import Finish, ToolCall, Turn

LONGEST = 1_000_000  # characters of text and reasoning together
MOST_CALLS = 32  # that are run of one turn
LONGEST_ARGUMENTS = 2**19  # characters of a call's
_LONGEST_ID, _LONGEST_NAME = 256, 1_000
_MOST_OPAQUE = 2**22  # bytes of a turn, its calls included; no state of the usual size has room for them
_MOST_DROPPED = 100


def bounded(turn: Turn) -> Turn:
    """The turn, or as much of it as is taken. What of it was too long is cut off, and so never runs."""
    text = turn.text[:LONGEST]
    reasoning = turn.reasoning[: LONGEST - len(text)]
    is_cut = len(text) + len(reasoning) < len(turn.text) + len(turn.reasoning)
    calls = turn.tool_calls[: MOST_CALLS + 1]  # one more: of those that count none is the last, which may be cut off
    has_room = len(turn.opaque) + sum(len(call.opaque) for call in calls) <= _MOST_OPAQUE
    return replace(
        turn,
        text=text,
        reasoning=reasoning,
        tool_calls=tuple(_bounded_call(call, has_room) for call in calls),
        finish=Finish.LENGTH if is_cut else turn.finish,
        refusal=turn.refusal[:LONGEST],
        opaque=turn.opaque if has_room else b"",
        dropped=turn.dropped[:_MOST_DROPPED],
    )


def _bounded_call(call: ToolCall, has_room: bool) -> ToolCall:
    return ToolCall(
        call.id if len(call.id) <= _LONGEST_ID else "",
        call.name[:_LONGEST_NAME],
        call.arguments[: LONGEST_ARGUMENTS + 1],  # one more: they are known to be too long
        call.opaque if has_room else b"",
    )
