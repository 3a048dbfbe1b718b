"""Characters that nobody sees, in which a text can smuggle another one."""

from __future__ import annotations

import re

_CONTROLS = bytes(code for code in (*range(32), 127) if code not in b"\t\n")
# Controls, zero-width and other format characters, marks of writing direction, fillers, and all of the plane of tags.
_NEVER = (
    "\x00-\x08\x0b-\x1f\x7f-\x84\x86-\x9f\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b\u200e"
    "\u200f\u2028-\u202e\u2060-\u206f\u3164\ufdd0-\ufdef\ufeff\uffa0\ufff0-\ufffb\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
)
# Joiners and variation selectors are letters' and emoji's business.
_MODIFIERS = "\u200c\u200d\ufe00-\ufe0f"
_MODIFIER = re.compile(f"[{_MODIFIERS}]")
_UNSEEN = re.compile(f"[{_NEVER}{_MODIFIERS}]+")
_LINE_ENDS = {"\u2028": "\n", "\u2029": "\n\n"}


def without(text: str) -> str:
    """The text without them; a modifier stays where it is alone behind what is not ASCII.

    >>> without("pass\\u200bword")
    'password'
    """
    if text.isascii():
        return text.encode("ascii").translate(None, _CONTROLS).decode("ascii")
    return _UNSEEN.sub(_kept, text)


def _kept(match: re.Match[str]) -> str:
    run = match[0]
    if run in _LINE_ENDS:
        return _LINE_ENDS[run]
    before = match.string[match.start() - 1] if match.start() else ""
    # The second stands within an emoji of several.
    return run if before > "\x7f" and (_MODIFIER.fullmatch(run) or run == "\ufe0f\u200d") else ""
