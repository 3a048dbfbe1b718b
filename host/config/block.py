"""One mapping of the YAML and where it stands. Whatever is wrong with it is noted, not raised, so that a person sees
all of a file's mistakes at once; in place of a wrong value there is the default."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from shared.config import expand, suggest
from shared.errors import StartError
from shared.settings_file import Lines
from shared.units import name_for_message, read_bool, read_int, read_mapping, read_str

T = TypeVar("T")
D = TypeVar("D")


class ConfigError(StartError):
    """A file with mistakes. `mistakes` has a line each, `FILE:LINE: what is wrong`, in the order of the file."""

    def __init__(self, mistakes: Sequence[str]) -> None:
        super().__init__("\n".join(mistakes))
        self.mistakes = tuple(mistakes)


class Findings:
    """What is to be said of one file: its mistakes, and remarks on what is none but may surprise."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._mistakes: list[tuple[int, str]] = []
        self._remarks: list[tuple[int, str]] = []

    def mistake(self, line: int, message: str) -> None:
        self._mistakes.append((line, message))

    def remark(self, line: int, message: str) -> None:
        self._remarks.append((line, message))

    @property
    def remarks(self) -> tuple[str, ...]:
        return self._lines(self._remarks)

    def check(self) -> None:
        """Raises ConfigError where there are mistakes."""
        if self._mistakes:
            raise ConfigError(self._lines(self._mistakes))

    def _lines(self, noted: list[tuple[int, str]]) -> tuple[str, ...]:
        noted = sorted(dict.fromkeys(noted), key=lambda pair: pair[0])
        return tuple(f"{self._file}:{line}: {' '.join(message.split())}" for line, message in noted)


class Block:
    """`value` is what YAML gave for the key `where`, which stands in `line`. With `known`, other keys are mistakes."""

    def __init__(
        self, where: str, value: object, findings: Findings, line: int = 1, known: Collection[str] | None = None
    ) -> None:
        self.where, self.line = where, line
        self._findings = findings
        self._line_of = value.line_of if isinstance(value, Lines) else {}
        self.values: Mapping[str, Any] = {}
        try:
            self.values = read_mapping({} if value is None else value)
        except ValueError as error:
            findings.mistake(line, f"{where}: {error}" if where else str(error))
        if known is not None:
            self.only(known)

    def only(self, known: Collection[str]) -> None:
        """Every key that is not `known` is a mistake."""
        for key, item in self.values.items():
            if key not in known:
                self.note(f"unknown key {name_for_message(key, item)}{suggest(key, known)}", self.line_of(key))

    def note(self, message: str, line: int = 0) -> None:
        """What is wrong with the block as a whole."""
        self._findings.mistake(line or self.line, f"{self.where}: {message}" if self.where else message)

    def mistake(self, key: str, message: str) -> None:
        """What is wrong with the value of `key`."""
        self._findings.mistake(self.line_of(key), f"{self.path(key)}: {message}")

    def remark(self, key: str, message: str) -> None:
        self._findings.remark(self.line_of(key), f"{self.path(key)}: {message}")

    def hectors(self, keys: Collection[str]) -> None:
        """Remarks on those of `keys` that are there."""
        for key in self.values:
            if key in keys:
                self.remark(key, "is Hector's; this host does nothing with it")

    def line_of(self, key: str) -> int:
        return self._line_of.get(key, self.line)

    def path(self, key: str) -> str:
        """`key` with all that it stands under: `agents.helper.llm`."""
        return f"{self.where}.{key}" if self.where else key

    def read(self, key: str, reader: Callable[[object], T], default: D) -> T | D:
        """What `reader` makes of the value of `key`, variables expanded."""
        if self.values.get(key) is None:
            return default
        try:
            return reader(expand(self.values[key]))
        except (ValueError, StartError) as error:
            self.mistake(key, str(error))
            return default

    def text(self, key: str, default: str = "") -> str:
        return self.read(key, read_str, default)

    def flag(self, key: str, default: bool) -> bool:
        return self.read(key, read_bool, default)

    def integer(self, key: str, default: D, *, at_least: int = 0) -> int | D:
        value = self.read(key, read_int, None)
        if value is not None and value < at_least:
            self.mistake(key, f"must be at least {at_least}")
            return default
        return default if value is None else value

    def inner(self, key: str, known: Collection[str] | None = None) -> Block:
        """The mapping below `key`; an empty one where there is none."""
        return Block(self.path(key), self.values.get(key), self._findings, self.line_of(key), known)

    def inners(self, known: Collection[str] | None = None) -> Iterator[tuple[str, Block]]:
        """Every key's mapping, in the order of the file."""
        return ((key, self.inner(key, known)) for key in self.values)
