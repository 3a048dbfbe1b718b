"""One mapping of the YAML and where it stands, so that every error names its key and unknown keys get a suggestion."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any, TypeVar

from shared.config import expand, suggest
from shared.errors import StartError
from shared.units import name_for_message, read_bool, read_int, read_mapping, read_str

T = TypeVar("T")


class Block:
    """`value` is what YAML gave for the key `where`. Raises StartError unless it is a mapping of `known` keys."""

    def __init__(self, where: str, value: object, known: Collection[str] | None = None) -> None:
        try:
            self.values: Mapping[str, Any] = read_mapping({} if value is None else value)
        except ValueError as error:
            raise StartError(f"{where}: {error}") from None
        self.where = where
        for key, item in self.values.items():
            if known is not None and key not in known:
                raise StartError(f"{where}: unknown key {name_for_message(key, item)}{suggest(key, known)}")

    def text(self, key: str, default: str = "") -> str:
        return self._read(key, read_str, default)

    def flag(self, key: str, default: bool) -> bool:
        return self._read(key, read_bool, default)

    def integer(self, key: str, default: int, *, at_least: int = 0) -> int:
        value = self._read(key, read_int, default)
        if value < at_least:
            raise StartError(f"{self.where}.{key} must be at least {at_least}")
        return value

    def inner(self, key: str, known: Collection[str] | None = None) -> Block:
        """The mapping below `key`; an empty one where there is none."""
        return Block(f"{self.where}.{key}" if self.where else key, self.values.get(key), known)

    def inners(self, known: Collection[str] | None = None) -> Iterator[tuple[str, Block]]:
        """Every key's mapping, in the order of the file."""
        return ((key, self.inner(key, known)) for key in self.values)

    def _read(self, key: str, reader: Callable[[object], T], default: T) -> T:
        if self.values.get(key) is None:
            return default
        try:
            return reader(expand(self.values[key]))
        except (ValueError, StartError) as error:
            raise StartError(f"{self.where}.{key}: {error}") from None
