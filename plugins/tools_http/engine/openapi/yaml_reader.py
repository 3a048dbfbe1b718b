"""YAML as OpenAPI documents have it: the types of JSON, by the rules of YAML 1.2, in time that grows with the text.

`shared/settings_file.py` reads settings, which are small, with PyYAML's parser in Python; documents have megabytes, so
here it is libyaml's. Its events are put together one by one: its own composing recurses in C, and 100 kB of `[` end the
process. In YAML 1.2 `no` is a text and `010` is ten. An alias is the value it names, not a copy.
"""

from __future__ import annotations

import re
from typing import Any

import yaml

_MOST_EVENTS = 1_500_000  # 4 seconds; GitHub's whole API has 570,000
_DEEPEST = 200  # levels; deeper, libyaml's time grows with the square of them
_LONGEST_NUMBER = 100  # characters; a longer one is a text

_INT = re.compile(r"[-+]?[0-9]+")
_HEX = re.compile(r"0x[0-9a-fA-F]+")
_OCTAL = re.compile(r"0o[0-7]+")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_WORDS = {"": None, "~": None, "null": None, "Null": None, "NULL": None,
          "true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}  # fmt: skip
_MERGE = "<<"

_LOADER: Any = getattr(yaml, "CBaseLoader", yaml.BaseLoader)


class NoYaml(Exception):
    """The message says what is wrong and where, and repeats nothing of the text."""


def parse(text: str) -> Any:
    """The first document of `text` as plain values, every key a text. Raises NoYaml."""
    builder = _Builder()
    try:
        for count, event in enumerate(yaml.parse(text, Loader=_LOADER)):
            if count > _MOST_EVENTS:
                raise NoYaml(f"it has more than {_MOST_EVENTS} values")
            if builder.take(event):
                break
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" in line {mark.line + 1}" if mark else ""
        raise NoYaml(f"it is no YAML{where}") from None
    except (ValueError, OverflowError):  # an escape that is no character
        raise NoYaml("it is no YAML") from None
    return builder.document


class _Builder:
    """`take` each event in turn; then `document` is there."""

    def __init__(self) -> None:
        self.document: Any = None
        self._open: list[Any] = []  # lists and mappings that are not complete
        self._keys: list[str | None] = []  # for each, the key whose value comes next
        self._anchors: list[str | None] = []
        self._named: dict[str, Any] = {}

    def take(self, event: Any) -> bool:
        """Whether the document is complete."""
        if isinstance(event, yaml.ScalarEvent):
            plain = event.style is None or event.style == ""
            is_key = self._expects_key()
            value = event.value if is_key else _scalar(event.value, plain, event.tag)
            self._complete(value, event.anchor, event)
        elif isinstance(event, yaml.MappingStartEvent | yaml.SequenceStartEvent):
            if self._expects_key():
                raise _at(event, "a key is no text")
            if len(self._open) >= _DEEPEST:
                raise _at(event, f"it is nested more than {_DEEPEST} deep")
            self._open.append({} if isinstance(event, yaml.MappingStartEvent) else [])
            self._keys.append(None)
            self._anchors.append(event.anchor)
        elif isinstance(event, yaml.MappingEndEvent | yaml.SequenceEndEvent):
            value = self._open.pop()
            self._keys.pop()
            if isinstance(value, dict):
                value = _merged(value, event)
            self._complete(value, self._anchors.pop(), event)
        elif isinstance(event, yaml.AliasEvent):
            if event.anchor not in self._named:
                raise _at(event, "an alias names nothing that is complete")
            value = self._named[event.anchor]
            if self._expects_key() and not isinstance(value, str):
                raise _at(event, "a key is no text")
            self._complete(value, None, event)
        else:
            return isinstance(event, yaml.DocumentEndEvent)
        return False

    def _expects_key(self) -> bool:
        return bool(self._open) and isinstance(self._open[-1], dict) and self._keys[-1] is None

    def _complete(self, value: Any, anchor: str | None, event: Any) -> None:
        if anchor is not None:
            self._named[anchor] = value
        if not self._open:
            self.document = value
            return
        parent, key = self._open[-1], self._keys[-1]
        if isinstance(parent, list):
            parent.append(value)
        elif key is None:
            self._keys[-1] = value
        else:
            if key in parent:
                raise _at(event, f"the key {key[:60]!r} stands there twice")
            parent[key] = value
            self._keys[-1] = None


def _merged(value: dict[str, Any], event: Any) -> dict[str, Any]:
    """With what `<<` takes in, which documents use though YAML 1.2 dropped it."""
    if _MERGE not in value:
        return value
    taken = value.pop(_MERGE)
    merged: dict[str, Any] = {}
    for other in taken if isinstance(taken, list) else [taken]:
        if not isinstance(other, dict):
            raise _at(event, "`<<` takes in a mapping or a list of them")
        for name, item in other.items():
            merged.setdefault(name, item)
    return {**merged, **value}


def _scalar(text: str, plain: bool, tag: str | None) -> Any:
    if not plain or (tag is not None and tag not in ("!", "")):
        return text if tag is None or tag.endswith(":str") or tag == "!" else _plain(text)
    return _plain(text)


def _plain(text: str) -> Any:
    if text in _WORDS:
        return _WORDS[text]
    if len(text) > _LONGEST_NUMBER or text[:1] not in "-+.0123456789":
        return text
    if _INT.fullmatch(text):
        return int(text)
    if _HEX.fullmatch(text):
        return int(text, 16)
    if _OCTAL.fullmatch(text):
        return int(text[2:], 8)
    if _FLOAT.fullmatch(text):
        number = float(text)
        return number if abs(number) != float("inf") else text
    return text


def _at(event: Any, what: str) -> NoYaml:
    return NoYaml(f"line {event.start_mark.line + 1}: {what}")
