"""JSON as it is defined, from text that a model or an endpoint wrote."""

from __future__ import annotations

import json
import re
from typing import Any, NoReturn

_DEEPEST = 200
# What can stand at the end of JSON that was cut: the start of a word, of a number, of an escape.
_STARTED = re.compile(r'(t(ru?)?|f(a(ls?)?)?|n(ul?)?|-|\.|[eE][+-]?|\\?u?[0-9a-fA-F]{0,4})?"?\s*')


def read(text: str) -> Any:
    """Raises ValueError also for what `json` lets pass: NaN, half a character, hundreds of levels."""
    try:
        value = json.loads(text, parse_constant=_no_constant)
    except RecursionError:
        raise ValueError("it is too deep") from None
    if "\\u" in text:
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            raise ValueError("it has half of a character") from None
    if text.count("{") + text.count("[") > _DEEPEST and _depth(value) > _DEEPEST:
        raise ValueError(f"it is deeper than {_DEEPEST} levels")
    return value


def is_cut(text: str) -> bool:
    """Whether `text`, which is no JSON, is the beginning of some.

    >>> [is_cut(text) for text in ('{"a":', '{"a":tr', '{"a":1.', '{"a', "{a}")]
    [True, True, True, True, False]
    """
    try:
        json.loads(text)
    except json.JSONDecodeError as error:
        left = text[error.pos :]
        return error.msg.startswith("Unterminated") or not left.strip() or _STARTED.fullmatch(left) is not None
    except RecursionError:
        pass
    return False


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"JSON has no {name}")


def _depth(value: Any) -> int:
    depth, level = 0, [value]
    while level:
        depth += 1
        inner = [one.values() if isinstance(one, dict) else one for one in level if isinstance(one, dict | list)]
        level = [item for items in inner for item in items]
    return depth
