"""What an answer cites, held against the passages that the model was given.

    [2]   [2, 5]   [2-4]   [2][5]       outside of code

A citation counts where its number is that of a passage that was given; other numbers are told apart. What stands in
double quotes, three words or more, has to stand word for word in a passage that the answer cites. Blanks, line ends,
the case of letters and the marks of Markdown do not count; `…` stands for words left out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from host.agents.events import Citation
from host.search import Passage

_LONGEST_ANSWER = 200_000  # characters that are looked at
_MOST_NUMBERS = 1_000
_CODE = re.compile(r"^[ \t]{0,3}```.*?(?:^[ \t]{0,3}```|\Z)|`[^`\n]{1,500}`", re.DOTALL | re.MULTILINE)
_NUMBERS = re.compile(r"\[(\d{1,3}(?:\s{0,2}[,;–-]\s{0,2}\d{1,3}){0,20})\]")
_SPAN = re.compile(r"(\d+)\s*[–-]\s*(\d+)|(\d+)")
_QUOTE = re.compile(r"“([^“”]{5,2000})”|\"([^\"\n]{5,2000})\"")
_ENDS = " .,;:!?"


@dataclass(frozen=True)
class Checked:
    """`citations` in the order of the answer."""

    citations: tuple[Citation, ...]
    unknown: tuple[int, ...]
    unfound_quotes: tuple[str, ...]


def checked(answer: str, given: Sequence[Passage]) -> Checked:
    """`given`: number n is given[n - 1]."""
    answer = answer[:_LONGEST_ANSWER]
    numbers = list(dict.fromkeys(_numbers(_CODE.sub(" ", answer))))
    known = [number for number in numbers if number <= len(given)]
    texts = {number: _plain(given[number - 1].text) for number in known}
    quotes: dict[int, list[str]] = {number: [] for number in known}
    unfound: list[str] = []
    for quote in dict.fromkeys(_quotes(answer)):
        places = [number for number in known if _stands_in(quote, texts[number])]
        for number in places:
            quotes[number].append(quote)
        if not places:
            unfound.append(quote)
    return Checked(
        tuple(_citation(number, given[number - 1], quotes[number]) for number in known),
        tuple(number for number in numbers if number > len(given)),
        tuple(unfound),
    )


def _numbers(text: str) -> Iterator[int]:
    """
    >>> list(_numbers("So it is [2, 4-6], or x[0]."))
    [2, 4, 5, 6]
    """
    count = 0
    for match in _NUMBERS.finditer(text):
        for first, last, single in _SPAN.findall(match[1]):
            numbers = range(int(first), min(int(last), int(first) + 50) + 1) if first else (int(single),)
            for number in numbers:
                count += 1
                if number and count <= _MOST_NUMBERS:
                    yield number


def _quotes(answer: str) -> Iterator[str]:
    for match in _QUOTE.finditer(answer):
        quote = (match[1] or match[2]).strip()
        if len(quote.split()) >= 3:
            yield quote


def _stands_in(quote: str, text: str) -> bool:
    """Its parts, in their order."""
    start = 0
    for part in re.split(r"…|\.\.\.|\[…\]", quote):
        words = _plain(part).strip(_ENDS)
        place = text.find(words, start)
        if place < 0:
            return False
        start = place + len(words)
    return True


def _plain(text: str) -> str:
    return " ".join(re.sub(r"[*`_]", "", text).replace("’", "'").casefold().split())


def _citation(number: int, passage: Passage, quotes: Sequence[str]) -> Citation:
    return Citation(
        number,
        passage.path,
        passage.place,
        passage.line,
        passage.end_line,
        passage.heading,
        passage.score,
        passage.text,
        tuple(quotes),
    )
