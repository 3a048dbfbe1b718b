"""Requests from bytes to messages, counted before they are converted.

An empty message takes two bytes on the wire and 200 in memory, so 64 MiB of them are 6 GB and a minute. Most requests
are too small for that to matter. Of the others the fields are walked first, without making anything of them: what
repeats is held against the plugin's limits (`most_items`), and the messages inside, at any depth, against
MOST_MESSAGES. Then the message is made in pieces, so that other threads have their turns in between.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import DecodeError

from .errors import InvalidArgument, Malformed
from .give_way import give_way

INLINE = 128 * 1024  # bytes; even of nothing but empty messages as much is made in 4 ms
MOST_MESSAGES = 1_000_000  # in one request; 200 MB of memory
_PIECE = 16 * 1024
_TURN = 256  # fields that are walked, a tenth of a millisecond, before other threads may have their turn
_SMALL = 1024  # bytes; the messages in one so small are estimated first

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_WIDTHS = {_FIXED64: 8, _FIXED32: 4}


def is_small(data: bytes) -> bool:
    """Whether `parse` takes no longer than a hop to a thread is worth."""
    return len(data) <= INLINE


def parse(kind: Any, data: bytes, most_items: Mapping[str, int]) -> Any:
    """A message of the generated class `kind`. Raises Malformed, and InvalidArgument where it holds too much.

    `most_items`: for the name of a field of `kind`, how many items it may have or, where it does not repeat, how many
    bytes; `updates.remove_keys` is a field inside of another, and then how many there may be in all. It is looked at in
    requests that are not small; the plugin checks the others itself.
    """
    try:
        if is_small(data):
            return kind.FromString(data)
        _check(kind.DESCRIPTOR, data, most_items)
        message = kind()
        for piece in _pieces(data):
            message.MergeFromString(piece)
            give_way()
        return message
    except DecodeError as error:
        cause = str(error).rpartition(": ")[2] or "wire format was corrupt"  # protobuf's words, nothing of the message
        raise Malformed(f"the request is no {kind.DESCRIPTOR.name} that can be read ({cause}); send it anew") from None


def _pieces(data: bytes) -> Iterator[bytes]:
    """`data` cut between its fields: encoded messages one behind the other are one message."""
    start = 0
    for *_, end in _fields(data, 0, len(data)):
        if end - start >= _PIECE:
            yield data[start:end]
            start = end
    yield data[start:]


def _check(descriptor: Descriptor, data: bytes, most_items: Mapping[str, int]) -> None:
    if limits := _limits(descriptor, tuple(most_items.items())):
        _count(limits, data, 0, len(data), Counter())
    # Half of its bytes is a bound that costs nothing, an estimate one that costs little.
    if len(data) // 2 > MOST_MESSAGES and all(
        _messages(descriptor, data, exact=exact) > MOST_MESSAGES for exact in (False, True)
    ):
        raise InvalidArgument(
            f"the request holds more than {MOST_MESSAGES:,} messages, also inside of others; send less at once",
            reason="TOO_MANY_MESSAGES",
        )


class _Limit(NamedTuple):
    """Of a field: how many items or bytes of it there may be, None for any number, and those of the fields inside."""

    path: str
    most: int | None
    repeats: bool
    inside: Mapping[int, _Limit]


@functools.cache
def _limits(descriptor: Descriptor, most_items: tuple[tuple[str, int], ...], within: str = "") -> dict[int, _Limit]:
    """By the numbers of the fields."""
    most = {path: value for path, value in most_items if "." not in path}
    inside: dict[str, dict[str, int]] = {name: {} for name in most}
    for path, value in most_items:
        name, _, rest = path.partition(".")
        if rest:
            inside.setdefault(name, {})[rest] = value
    found = {}
    for name, parts in inside.items():
        field, path = descriptor.fields_by_name[name], within + name
        below = _limits(field.message_type, tuple(parts.items()), f"{path}.") if parts else {}
        found[field.number] = _Limit(path, most.get(name), field.is_repeated, below)
    return found


def _count(limits: Mapping[int, _Limit], data: bytes, start: int, end: int, counts: Counter[str]) -> None:
    for number, _, first, last in _fields(data, start, end):
        if (limit := limits.get(number)) is None:
            continue
        if limit.most is not None:
            counts[limit.path] += 1 if limit.repeats else last - first
            if counts[limit.path] > limit.most:
                what = "items" if limit.repeats else "bytes"
                raise InvalidArgument(
                    f"{limit.path} has more than {limit.most:,} {what}; send at most {limit.most:,} in a request",
                    reason=f"TOO_MANY_{what.upper()}",
                    field=limit.path,
                )
        if limit.inside and last - first > _SMALL:  # less of it the plugin counts itself
            _count(limit.inside, data, first, last, counts)


def _messages(descriptor: Descriptor, data: bytes, *, exact: bool) -> int:
    """How many messages, and texts in lists, there are; where it passes MOST_MESSAGES it stops counting. Unless
    `exact`, what is in small messages is estimated, never too low."""
    count = 0
    waiting = [(descriptor, 0, len(data))]
    while waiting:
        descriptor, start, end = waiting.pop()
        kinds = _kinds(descriptor)
        for number, wire_type, first, last in _fields(data, start, end):
            if wire_type != _BYTES or number not in kinds:
                continue
            count += 1
            if count > MOST_MESSAGES:
                return count
            inner = kinds[number]
            if inner is not None and (exact or last - first > _SMALL):
                waiting.append((inner, first, last))
            elif inner is not None:
                count += (last - first) // 2  # each takes two bytes at least
    return count


@functools.cache
def _kinds(descriptor: Descriptor) -> dict[int, Descriptor | None]:
    """The fields that hold messages, by number, with what they hold; None for texts and bytes in a list."""
    return {
        field.number: field.message_type
        for field in descriptor.fields
        if field.message_type is not None
        or (field.is_repeated and field.type in (FieldDescriptor.TYPE_STRING, FieldDescriptor.TYPE_BYTES))
    }


def _fields(data: bytes, start: int, end: int) -> Iterator[tuple[int, int, int, int]]:
    """(number, wire type, where its value begins, where it ends) of each field. Raises DecodeError."""
    position, turn = start, 0
    while position < end:
        turn += 1
        if turn == _TURN:
            turn = 0
            give_way()
        # Most numbers are of one byte, and a call for each would take as long as all the rest.
        if (tag := data[position]) < 0x80:
            position += 1
        else:
            tag, position = _varint(data, position, end)
        wire_type = tag & 7
        if wire_type == _BYTES:
            if position < end and (size := data[position]) < 0x80:
                position += 1
            else:
                size, position = _varint(data, position, end)
            after = position + size
        elif wire_type == _VARINT:
            _, after = _varint(data, position, end)
        elif wire_type in _WIDTHS:
            after = position + _WIDTHS[wire_type]
        else:
            raise DecodeError  # groups, which the contract does not have
        if after > end:
            raise DecodeError
        yield tag >> 3, wire_type, position, after
        position = after


def _varint(data: bytes, position: int, end: int) -> tuple[int, int]:
    """The number at `position`, and where the next thing is."""
    value, shift = 0, 0
    while position < end:
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7
        if shift > 63:
            break
    raise DecodeError
