"""What cannot be seen in a text, or would change how the rest of it looks, made visible.

Models, tools and documents write what a terminal obeys: escape sequences, marks that turn the order of letters around,
letters of no width that hide words.
"""

from __future__ import annotations

import re

_UNSEEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufdd0-\ufdef"
    "\ufff9-\ufffb\ufffe\uffff\ud800-\udfff\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)


def visible(text: str) -> str:
    """`text` with the number of each character that cannot be seen in its place. Line feeds and tabs stay.

    >>> visible("a\\x1b[2Jb")
    'a‹U+001B›[2Jb'
    """
    return _UNSEEN.sub(lambda match: f"‹U+{ord(match[0]):04X}›", text.replace("\r\n", "\n"))
