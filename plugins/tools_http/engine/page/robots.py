"""What a robots.txt says of a URL, by RFC 9309.

protego 0.7, the library for this, splits a group at lines that it does not know, takes `hector` for `hector-plugins`
and not `hector-plugins/1.0`; the RFC says otherwise in each case, so its few rules stand here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import NamedTuple
from urllib.parse import quote, unquote_to_bytes, urlsplit

JOB = f"{__name__}:decide"
MOST_BYTES = 500 * 1024  # that are read; the RFC asks for no less
_LONGEST_LINE = 8_192  # bytes, as of a URL
_TOKEN = re.compile(r"[A-Za-z_-]+")
_RESERVED = "!#$&'()*+,/:;=?@[]"  # percent-encoded they mean another thing than as they are


class Rule(NamedTuple):
    allows: bool
    pattern: str

    def __str__(self) -> str:
        return f"{'Allow' if self.allows else 'Disallow'}: {self.pattern}"


def decide(payload: bytes) -> bytes:
    """As a worker's job: a line of JSON with `agent` and `url`, then the robots.txt → the rule that forbids it."""
    head, _, body = payload.partition(b"\n")
    rule = forbidding(body, **json.loads(head))
    return str(rule).encode() if rule else b""


def forbidding(body: bytes, agent: str, url: str) -> Rule | None:
    """The rule of a robots.txt that keeps `agent`, a product token, from `url`; None where none does."""
    parts = urlsplit(url)
    path = _plain((parts.path or "/") + (f"?{parts.query}" if parts.query else ""))
    if path == "/robots.txt":
        return None
    best, longest = None, -1
    for rule in _rules(body, agent.lower()):
        pattern = _plain(rule.pattern)
        length = len(pattern)
        if (length > longest or (length == longest and rule.allows)) and _matches(pattern, path):
            best, longest = rule, length
    return best if best and not best.allows else None


def product_token(user_agent: str) -> str:
    """The part of a User-Agent that robots.txt files name.

    >>> product_token("hector-plugins/0.1 (+https://example.com)")
    'hector-plugins'
    """
    match = _TOKEN.match(user_agent.strip())
    return match[0] if match else ""


def _rules(body: bytes, agent: str) -> list[Rule]:
    """Those of all groups for the agent, else those of all groups for `*`."""
    own: list[Rule] = []
    others: list[Rule] = []
    is_named = False
    agents: set[str] = set()
    in_rules = True
    for name, value in _lines(body):
        if name == "user-agent":
            if in_rules:
                agents, in_rules = set(), False
            token = "*" if value.startswith("*") else product_token(value).lower()
            agents.add(token)
            is_named = is_named or token == agent
        elif name in ("allow", "disallow"):
            in_rules = True
            if value:
                rule = Rule(name == "allow", value)
                if agent in agents:
                    own.append(rule)
                if "*" in agents:
                    others.append(rule)
    return own if is_named else others


def _lines(body: bytes) -> Iterator[tuple[str, str]]:
    text = body[:MOST_BYTES].removeprefix(b"\xef\xbb\xbf").decode("utf-8", "replace")
    for line in re.split(r"[\r\n]+", text):
        name, colon, value = line[:_LONGEST_LINE].partition("#")[0].partition(":")
        if colon:
            yield name.strip().lower(), value.strip()


def _plain(path: str) -> str:
    """With percent-encoding in one form: none for what needs none, upper case for the rest."""
    if "%" not in path and path.isascii():
        return path
    pieces = re.split(r"(%[0-9A-Fa-f]{2})", path)
    for i in range(1, len(pieces), 2):
        char = unquote_to_bytes(pieces[i])
        pieces[i] = pieces[i].upper() if not char.isalnum() and char not in b"-._~" else char.decode("latin-1")
    return quote("".join(pieces), safe=_RESERVED + "%~")


def _matches(pattern: str, path: str) -> bool:
    """Piece by piece, each at its first place: linear, since a later place never helps."""
    anchored = pattern.endswith("$")
    first, *rest = pattern.removesuffix("$").split("*") if anchored else pattern.split("*")
    if not path.startswith(first):
        return False
    if not rest:
        return not anchored or path == first
    place = len(first)
    for piece in rest[:-1]:
        place = path.find(piece, place)
        if place < 0:
            return False
        place += len(piece)
    if anchored:
        return path.endswith(rest[-1]) and len(path) - len(rest[-1]) >= place
    return path.find(rest[-1], place) >= 0
