"""The known names that somebody may have meant who wrote another."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

_LONGEST = 64  # characters that are compared
_MOST = 40  # names that are compared in full; a hundred take a millisecond or two
_MOST_KNOWN = 5_000


def nearest(name: str, known: Iterable[str], most: int = 3) -> list[str]:
    """At most `most` of the `known` names, the nearest first.

    >>> nearest("limt", ["offset", "limit"])
    ['limit']
    """
    wanted = _plain(name)
    pairs = _pairs(wanted)
    plain: dict[str, str] = {}
    for one, _ in zip(known, range(_MOST_KNOWN), strict=False):
        plain.setdefault(_plain(one), one)
    # A short name has much in common with others that are as short, and was perhaps meant to be a longer one's.
    longer = sorted((one for one in plain if one.startswith(wanted)), key=len) if len(wanted) > 2 else []
    # To compare in full is dear; pairs of letters in common say who may be near at all.
    likely = sorted(plain, key=lambda one: (-_alike(pairs, _pairs(one)), one))[:_MOST]
    close = difflib.get_close_matches(wanted, likely, n=most, cutoff=0.6)
    return [plain[one] for one in dict.fromkeys([*longer, *close])][:most]


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The tail of a sentence, or nothing.

    >>> did_you_mean("limt", ["offset", "limit"])
    '; did you mean limit?'
    """
    names = nearest(name, known)
    return f"; did you mean {' or '.join(names)}?" if names else ""


def _plain(name: str) -> str:
    return name[:_LONGEST].lower().replace("-", "_")


def _pairs(name: str) -> set[str]:
    return {name[place : place + 2] for place in range(max(1, len(name) - 1))}


def _alike(pairs: set[str], others: set[str]) -> float:
    return len(pairs & others) / (len(pairs) + len(others) or 1)
