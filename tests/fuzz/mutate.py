"""Bytes that were right, made wrong."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

Mutation = Callable[[bytes, Random], bytes]
LARGEST = 2**20  # bytes that a mutation may make of a message


def mutate(data: bytes, random: Random) -> bytes:
    """`data` with some of its bytes changed, cut, repeated or nested; now and then as it was."""
    for _ in range(random.choice((0, 1, 1, 1, 2, 4))):
        mutation: Mutation = random.choice(MUTATIONS)
        data = mutation(data, random)[:LARGEST]
    return data


def flip(data: bytes, random: Random) -> bytes:
    changed = bytearray(data)
    for _ in range(random.choice((1, 1, 2, 8)) if data else 0):
        changed[random.randrange(len(data))] ^= 1 << random.randrange(8)
    return bytes(changed)


def cut(data: bytes, random: Random) -> bytes:
    return data[: random.randrange(len(data) + 1)]


def drop(data: bytes, random: Random) -> bytes:
    start, end = _slice(data, random)
    return data[:start] + data[end:]


def insert(data: bytes, random: Random) -> bytes:
    start = random.randrange(len(data) + 1)
    new = random.choice(
        (
            random.randbytes(8),
            b"\xff" * 10,
            b"\x00",
            b"\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01",
            b"\x0a\xff\xff\xff\xff\x0f",
        )
    )
    return data[:start] + new + data[start:]


def repeat(data: bytes, random: Random) -> bytes:
    """A part of it up to 16,384 times: many small things inside of one message."""
    start, end = _slice(data, random)
    return data[:end] + data[start:end] * (1 << random.randrange(15)) + data[end:]


def nest(data: bytes, random: Random) -> bytes:
    """As the value of one of its own first fields, up to 200 deep."""
    tag = random.choice((0x0A, 0x12, 0x1A, 0x52, 0x5A, 0x62))
    for _ in range(random.choice((1, 3, 40, 101, 200))):
        data = bytes((tag,)) + varint(len(data)) + data
        if len(data) > LARGEST:
            break
    return data


def varint(number: int) -> bytes:
    """As protobuf writes a number."""
    found = bytearray()
    while number > 127:
        found.append(number & 127 | 128)
        number >>= 7
    found.append(number)
    return bytes(found)


def _slice(data: bytes, random: Random) -> tuple[int, int]:
    start = random.randrange(len(data) + 1)
    return start, min(len(data), start + random.choice((1, 2, 4, 16, 100, 4_000)))


MUTATIONS: tuple[Mutation, ...] = (flip, cut, drop, insert, repeat, nest)
