"""What cannot be seen in a text, or would change how the rest of it looks, made visible.

Models, tools, documents and pages write what a terminal or a browser obeys: escape sequences, marks that turn the order
of letters around, letters of no width that hide words. Every command that prints what others wrote prints it so.
"""

from __future__ import annotations

import json
import re

_UNSEEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufdd0-\ufdef"
    "\ufff9-\ufffb\ufffe\uffff\ud800-\udfff\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)


def visible(text: str, mark: str = "‹{}›") -> str:
    """`text` with the number of each character that cannot be seen in its place, as in `mark`.

    Line feeds and tabs stay, and a carriage return before a line feed goes. What is left can be encoded as UTF-8.

    >>> visible("a\\x1b[2Jb\\u202e")
    'a‹U+001B›[2Jb‹U+202E›'
    """
    return _UNSEEN.sub(lambda match: mark.format(f"U+{ord(match[0]):04X}"), text.replace("\r\n", "\n"))


def visible_line(text: str) -> str:
    """The same as a part of one line: line feeds are made visible too.

    >>> visible_line("a\\nb")
    'a‹U+000A›b'
    """
    return visible(text).replace("\n", "‹U+000A›")


def visible_json(document: str) -> str:
    """JSON with such characters escaped, which leaves its meaning as it is.

    >>> visible_json('"a\\x9b2J"')
    '"a\\\\u009b2J"'
    """
    # Between its texts JSON has no other such character than line ends.
    return _UNSEEN.sub(lambda match: json.dumps(match[0])[1:-1], document)
