"""A settings file as plain values: YAML with the types of JSON, each key once, and bounded in every way.

PyYAML's own loader takes the last of two equal keys, follows aliases that multiply for ever, and makes dates and sets
of what nobody meant as such. Here PyYAML only parses; what its nodes mean is said below. No message repeats a value.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from .bounded_file import read_bounded
from .errors import StartError
from .units import name_for_message

_LARGEST = 256 * 2**10  # bytes of a file; the worst YAML of that size takes PyYAML some seconds
_MOST_VALUES = 100_000  # scalars, lists and mappings, those that aliases repeat included
_MOST_CHARACTERS = 2**20  # of the texts, those that aliases repeat included
_DEEPEST = 64  # levels of lists and mappings
_LONGEST_NUMBER = 30  # characters

_TAG = "tag:yaml.org,2002:"
_scalars = yaml.constructor.SafeConstructor()


class _Loader(yaml.SafeLoader):
    """Without YAML 1.1's dates and its `=`: both stay text."""

    yaml_implicit_resolvers = {  # noqa: RUF012
        first: [(tag, pattern) for tag, pattern in resolvers if tag not in (_TAG + "timestamp", _TAG + "value")]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


class Lines(dict[str, Any]):
    """A mapping of a file that knows where its keys stand: `line_of` has the line of each, from 1."""

    def __init__(self, values: Mapping[str, Any], line_of: Mapping[str, int]) -> None:
        super().__init__(values)
        self.line_of = line_of


def read_yaml(path: Path) -> dict[str, Any]:
    """The file's top-level mapping, nothing expanded; every key is text, every mapping a Lines. Raises StartError."""
    try:
        text = read_bounded(path, _LARGEST).decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise StartError(f"cannot read {path}: {getattr(error, 'strerror', None) or 'it is not UTF-8'}") from None
    try:
        node = yaml.compose(text, Loader=_Loader)
        document = None if node is None else _Values().of(node)
    except RecursionError:
        raise StartError(f"{path}: nested more than {_DEEPEST} deep") from None
    except (yaml.YAMLError, ValueError, OverflowError) as error:  # the latter two for a \U that is no character
        line, words = _in_words(error)
        raise StartError(f"{path}{f':{line}' if line else ''} is not YAML: {words}") from None
    except _RefusedError as refused:
        raise StartError(f"{path}: {refused}") from None
    if document is None:
        return {}
    if not isinstance(document, dict):
        raise StartError(f"{path} must hold a mapping of settings")
    return document


class _RefusedError(Exception):
    """YAML that no settings are written in. The message names the line."""


class _Values:
    """What nodes stand for, counted: an alias counts as often as it is used."""

    def __init__(self) -> None:
        self._count = self._characters = 0

    def of(self, node: yaml.Node, depth: int = 0) -> Any:
        self._count += 1
        if isinstance(node, yaml.ScalarNode):
            self._characters += len(node.value)
        if self._count > _MOST_VALUES or self._characters > _MOST_CHARACTERS:
            raise _refused(
                node,
                f"with what its aliases repeat the file has more than {_MOST_VALUES} values "
                f"or {_MOST_CHARACTERS} characters; write fewer",
            )
        if depth > _DEEPEST:  # also where an alias stands inside of what it repeats
            raise _refused(node, f"nested more than {_DEEPEST} deep, or an alias that repeats itself")
        if isinstance(node, yaml.SequenceNode) and node.tag == _TAG + "seq":
            return [self.of(item, depth + 1) for item in node.value]
        if isinstance(node, yaml.MappingNode) and node.tag == _TAG + "map":
            return self._mapping(node, depth)
        if isinstance(node, yaml.ScalarNode):
            return _scalar(node)
        raise _refused(node, "a tag that settings do not have; remove it")

    def _mapping(self, node: yaml.MappingNode, depth: int) -> Lines:
        found: dict[str, Any] = {}
        line_of: dict[str, int] = {}
        merged: dict[str, Any] = {}
        merged_line_of: dict[str, int] = {}
        for key_node, value_node in node.value:
            key = _key(key_node)
            is_merge = key_node.tag == _TAG + "merge"
            if key in line_of:
                raise _refused(
                    key_node, f"the key {name_for_message(key)} again, which line {line_of[key]} has; keep one of them"
                )
            line_of[key] = key_node.start_mark.line + 1
            value = self.of(value_node, depth + 1)
            if is_merge:
                for other in _merged_mappings(value_node, value):
                    for name, item in other.items():
                        if name not in merged:  # of two, the first counts
                            merged[name], merged_line_of[name] = item, other.line_of[name]
            else:
                found[key] = value
        return Lines({**merged, **found}, {**merged_line_of, **line_of})


def _merged_mappings(node: yaml.Node, value: Any) -> Iterator[Lines]:
    for other in value if isinstance(value, list) else [value]:
        if not isinstance(other, Lines):
            raise _refused(node, "`<<` takes in a mapping or a list of them")
        yield other


def _key(node: yaml.Node) -> str:
    """Its text as it is written: `on` and `1` are names too."""
    if not isinstance(node, yaml.ScalarNode) or (node.tag == _TAG + "null" and node.value == ""):
        raise _refused(node, "a key that is no text")
    return str(node.value)


def _scalar(node: yaml.ScalarNode) -> Any:
    text, kind = str(node.value), node.tag.removeprefix(_TAG)
    if kind in ("str", "merge"):
        return text
    try:
        if kind == "null":
            return None
        if kind == "bool":
            return _scalars.construct_yaml_bool(node)
        if kind in ("int", "float"):
            # YAML 1.1 takes 22:30 for the number 1350.
            return text if ":" in text else _number(node, kind, text)
    except (ValueError, LookupError):
        raise _refused(node, f"this is no {kind}; put texts in quotes") from None
    raise _refused(node, "a tag that settings do not have; remove it")


def _number(node: yaml.ScalarNode, kind: str, text: str) -> int | float:
    if len(text) > _LONGEST_NUMBER:
        raise _refused(node, f"a number of more than {_LONGEST_NUMBER} characters; put texts in quotes")
    number: int | float = _scalars.construct_yaml_int(node) if kind == "int" else _scalars.construct_yaml_float(node)
    if not math.isfinite(number):
        raise _refused(node, "an infinite number, or none; no setting takes one")
    return number


def _refused(node: yaml.Node, what: str) -> _RefusedError:
    return _RefusedError(f"line {node.start_mark.line + 1}: {what}")


# What PyYAML says, what that means, and whether to show where the thing began or where it went wrong.
_MEANINGS = (
    ("found character '\\t'", "a tab, which counts for nothing here; indent with blanks", False),
    (
        "mapping values are not allowed",
        "a colon that begins no value here; put the text in quotes, or indent the line as its neighbours are",
        False,
    ),
    ("could not find expected ':'", "a key without a colon and a value", True),
    ("found unexpected end of stream", "a quote that is opened and not closed", True),
    ("expected ',' or", "a [ or { that is opened and not closed", True),
    ("expected the node content", "it ends, or goes on, where a value should be", False),
    ("expected <block end>", "a line that is not indented as the others of its block are", False),
    ("found another document", "a second document, after `---`; a settings file is one", False),
    ("found undefined alias", "an alias (*NAME) without its anchor (&NAME) above it", False),
    ("cannot start any token", "a value that begins with a special character; put it in quotes", False),
)


def _in_words(error: Exception) -> tuple[int, str]:
    """The line, 0 where none is known, and what is wrong there, without what stands there: that may be a secret."""
    mark = getattr(error, "problem_mark", None)
    if mark is None:
        return 0, "something in it cannot be read"
    problem = str(getattr(error, "problem", ""))
    for said, words, is_begun in _MEANINGS:
        if said in problem:
            began = getattr(error, "context_mark", None) if is_begun else None
            return (began or mark).line + 1, words
    return mark.line + 1, "put texts with special characters in quotes"
