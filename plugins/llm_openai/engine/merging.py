"""Text that arrived together goes out together.

A message costs gRPC in Python 30 to 90 µs, a chunk costs us 15: an endpoint faster than that piles up chunks in the
socket. To send each by itself would only be later: 8,000 chunks a second so, 60,000 when merged (`make bench-llm`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from .failures import Failure
from .messages import Delta

PAUSE = Delta()  # says nothing; it goes through as it is, so that whoever reads can let others have their turn

# Each message is an opportunity for other streams; more of them in one would gain little.
_MOST = 16


def merged(deltas: Iterable[Delta]) -> Iterator[Delta]:
    """The same text, reasoning and the rest in the same order, neighbours of one kind as one.

    The first goes out as it is, since somebody waits for it. What came before a Failure goes out before it.

    >>> [delta.text for delta in merged([Delta("a"), Delta("b"), Delta("c"), Delta("", "why"), Delta("d")])]
    ['a', 'bc', '', 'd']
    """
    held: list[str] = []
    is_text, first = True, True
    try:
        for delta in deltas:
            if delta is PAUSE:
                yield delta
                continue
            plain = delta.call is None and bool(delta.text) != bool(delta.reasoning)
            if held and (not plain or bool(delta.text) != is_text):
                yield _joined(held, is_text)
                held = []
            if plain and not first:
                is_text = bool(delta.text)
                held.append(delta.text or delta.reasoning)
                if len(held) == _MOST:
                    yield _joined(held, is_text)
                    held = []
            else:
                yield delta
                first = False
    except Failure:
        if held:
            yield _joined(held, is_text)
        raise
    if held:
        yield _joined(held, is_text)


def _joined(held: list[str], is_text: bool) -> Delta:
    return Delta("".join(held)) if is_text else Delta("", "".join(held))
