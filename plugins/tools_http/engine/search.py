"""The tool `read_result`: the next page of a long result, or the places in it where some words stand."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from .results import SEARCH, Kept

LONGEST_WORDS = 200  # characters that are looked for
_SLICE = 2**18  # characters that are searched in one go, 1 ms
_AROUND = 150  # characters of context on each side of a hit
_MOST_COUNTED = 10_000  # hits; then they are not counted any more

PARAMETERS = {
    "type": "object",
    "properties": {
        "cursor": {
            "type": "string",
            "description": "The next_cursor of an earlier result, as it came.",
            "minLength": 1,
            "maxLength": 100,
        },
        "find": {
            "type": "string",
            "description": "Words to look for in the whole result, whatever their capitals; without them the next "
            "page is read.",
            "minLength": 1,
            "maxLength": LONGEST_WORDS,
        },
    },
    "required": ["cursor"],
    "additionalProperties": False,
    "examples": [
        {"cursor": "Zk2QpX0v3mYt7bL1nRw8eA.20000"},
        {"cursor": "Zk2QpX0v3mYt7bL1nRw8eA.20000", "find": "rate"},
    ],
}
DESCRIPTION = (
    "Reads on in a long result that another tool gave, without running that tool again. Use it when a result ends in a "
    "notice with a cursor. With `find` it searches all of that result and shows each place with what stands around it. "
    'Example: {"cursor": "Zk2QpX0v3mYt7bL1nRw8eA.20000", "find": "rate limit"}'
)


@dataclass(frozen=True)
class Hits:
    text: str  # the places, for a model
    places: tuple[int, ...]  # where the shown hits begin
    total: int  # hits in the whole result; _MOST_COUNTED: at least so many
    after: int | None  # where to search on; None: all are shown


def search(kept: Kept, words: str, start: int, room: int) -> Hits:
    """The hits from `start` on, with as many of them shown as `room` characters hold; the first one always is."""
    shown: list[str] = []
    places: list[int] = []
    total = 0
    after: int | None = None
    used = 0
    last_end = -1
    for place in hits(kept.text, words):
        total += 1
        if total >= _MOST_COUNTED:
            break
        if place < start or after is not None:
            continue
        if place + len(words) <= last_end:  # it is in the last one's context
            places.append(place)
            continue
        first, end = _context(kept.text, place, len(words))
        piece = f"[at {place + 1:,}, cursor {kept.cursor(first)}]\n{kept.text[first:end].strip()}"
        if shown and used + len(piece) + 2 > room:
            after = place
            continue
        shown.append(piece)
        places.append(place)
        used += len(piece) + 2
        last_end = end
    return Hits("\n\n".join(shown), tuple(places), total, after)


def hits(text: str, words: str) -> Iterator[int]:
    """Where `words` begin in `text`, capitals or not, those that overlap left out. In time that grows with the length
    of the text alone; other threads have their turns meanwhile."""
    wanted = _folded(words)
    next_free = 0
    for begin in range(0, len(text), _SLICE):
        piece = _folded(text[begin : begin + _SLICE + len(words) - 1])
        place = piece.find(wanted)
        while place >= 0:
            if begin + place >= next_free:
                yield begin + place
                next_free = begin + place + len(words)
            place = piece.find(wanted, max(place + 1, next_free - begin))


def _folded(text: str) -> str:
    """In small letters, as long as before: of all letters only İ would become two."""
    return text.replace("İ", "i").lower().replace("ς", "σ")


def _context(text: str, place: int, length: int) -> tuple[int, int]:
    first, end = max(0, place - _AROUND), min(len(text), place + length + _AROUND)
    if first > 0 and (blank := max(text.find(" ", first, place), text.find("\n", first, place))) >= 0:
        first = blank + 1
    if end < len(text) and (blank := text.rfind(" ", place + length, end)) >= 0:
        end = blank
    return first, end


def next_cursor(kept: Kept, found: Hits) -> str:
    return "" if found.after is None else kept.cursor(found.after, SEARCH)


NOTICE = 250  # characters that the words below hits take at most


def notice(found: Hits, words: str, characters: int, cursor: str) -> str:
    """What stands below the hits."""
    shown = words if len(words) <= 30 else words[:30] + "…"
    if not found.total:
        return f'["{shown}" does not occur in the {characters:,} characters of the result; try other or fewer words]'
    count = f"{found.total:,} or more" if found.total >= _MOST_COUNTED else f"{found.total:,}"
    more = f'; for the next ones call read_result with {{"cursor": "{cursor}"}} and the same "find"' if cursor else ""
    if found.total == 1:
        return f'\n\n["{shown}" is there once]'
    return f'\n\n["{shown}" is there {count} times, {len(found.places):,} of them here{more}]'
