"""Pages of a long text: where to cut it, and the words that say how much there is and how to go on."""

from __future__ import annotations

import regex

_CLUSTER = regex.compile(r"\X")
_LOOK_BACK = 200  # characters in which a cut looks for the begin of a character that a reader sees


def cut(text: str, start: int, room: int) -> int:
    """Where a page ends that begins at `start` and has `room` characters at most: past `start`, at the end of a line
    where that leaves half of it, else at a blank, and never inside of what a reader sees as one character, unless that
    has more than a page. A row of a Markdown table is cut only where it is longer than a page.

    >>> cut("one line" + chr(10) + "another line", 0, 12)
    9
    """
    end = start + max(1, room)
    if end >= len(text):
        return len(text)
    line = text.rfind("\n", start, end) + 1  # where the line begins that would be cut
    if line > start and (line > start + room // 2 or text[line : line + 4].lstrip(" ").startswith("|")):
        return line
    blank = text.rfind(" ", end - room // 8, end) + 1
    if text[end] not in " \n" and blank > start + room // 2:
        end = blank
    return _between_characters(text, start, end)


def _between_characters(text: str, start: int, end: int) -> int:
    first = last = max(start, end - _LOOK_BACK)
    for cluster in _CLUSTER.finditer(text, first, min(len(text), end + _LOOK_BACK)):
        if cluster.end() > end:
            break
        last = cluster.end()
    # One that began before what was looked at, or with the page itself, is longer than can be minded.
    return last if last > first else end


def part(text: str, start: int, end: int, most_bytes: int) -> str:
    """The characters from `start` to `end`, as many of them as `most_bytes` of UTF-8 hold."""
    piece = text[start:end]
    if 4 * len(piece) <= most_bytes or len(raw := piece.encode()) <= most_bytes:
        return piece
    return raw[:most_bytes].decode("utf-8", "ignore")


def notice(start: int, end: int, total: int, cursor: str, room: int) -> str:
    """What stands below a page in brackets; the shorter, the less room the whole page has."""
    if room < 200:
        return ""
    if not cursor:
        why = "that is the end" if end == total else "the rest was not kept; ask for less, such as a part or a filter"
        return f"\n\n[characters {start + 1:,} to {end:,} of {total:,}: {why}]"
    if room < 600:
        return f'\n\n[{end:,} of {total:,} characters; go on: read_result {{"cursor": "{cursor}"}}]'
    return (
        f"\n\n[characters {start + 1:,} to {end:,} of {total:,}. To go on, call read_result with "
        f'{{"cursor": "{cursor}"}}; with "find" beside it, it searches all of them.]'
    )
