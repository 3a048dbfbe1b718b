"""Bytes as text, piece by piece: a decoder keeps all threads waiting until it is done, with megabytes long."""

from __future__ import annotations

import codecs

_PIECE = 2**15  # bytes: of what is hostile 3 ms


def decode(data: bytes, charset: str = "utf-8", errors: str = "strict") -> str:
    """The same as `data.decode(charset, errors)`. To be called in a thread where `data` is large.

    >>> decode(b"caf\\xc3\\xa9")
    'café'
    """
    if len(data) <= _PIECE:
        return data.decode(charset, errors)
    decoder = codecs.getincrementaldecoder(charset)(errors)
    pieces = [decoder.decode(data[place : place + _PIECE]) for place in range(0, len(data), _PIECE)]
    return "".join([*pieces, decoder.decode(b"", True)])
