"""What a model wrote where a tool's name belongs."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from typing import Any

Schema = Mapping[str, Any]
Tools = Mapping[str, Schema]

_LONGEST = 200  # characters of a name that are looked at
_AROUND = " \t\r\n`*_'\"“”‘’«»「」.,;:!。，；："
_FINISH = frozenset(
    {"finish", "finalanswer", "final", "answer", "finished", "done", "respond", "response", "finalresponse", "submit",
     "最终答案", "最终回答", "答案", "完成"}
)  # fmt: skip
_NO_NAME = frozenset(
    {"none", "na", "null", "nil", "nothing", "no", "-", "notool", "noaction", "noneneeded", "nonerequired",
     "noactionneeded", "noactionrequired", "notoolneeded", "notoolrequired", "无", "没有"}
)  # fmt: skip
_FILLERS = frozenset(
    {"use", "using", "call", "run", "invoke", "the", "a", "an", "tool", "function", "action", "i", "will", "should",
     "lets", "let's", "to", "execute", "named", "called", "name"}
)  # fmt: skip
_VERB = re.compile(
    r"(?:(?:i(?:'ll| will| should)|let's|let me)\s+)?(?:use|using|call|run|invoke|execute)\s+(?:the\s+)?", re.I
)
_SIGNS = re.compile(r"\A\W+|\W+\Z")  # emoji and the like around it
_PLACEHOLDER = re.compile(r"one of|the action to take|tool[_ ]name|\$TOOL|the name of the tool", re.I)


@functools.lru_cache(maxsize=1_000)
def plain(name: str) -> str:
    """A name without case and what people put between words."""
    return re.sub(r"[\s_\-./]+", "", name[:_LONGEST].strip(_AROUND + "<>[](){}#")).casefold()


def is_finish(name: str, tools: Tools) -> bool:
    return name not in tools and plain(name) in _FINISH


def is_none(name: str, tools: Tools) -> bool:
    """Whether it says that no tool is wanted, as in `None (direct response required)`."""
    if name.strip(_AROUND) in tools:
        return False
    head = re.split(r"[(\[,;:–—\n]|\s-\s", name.strip()[:_LONGEST].lstrip("([<*_`\"'"), maxsplit=1)[0]
    return plain(head or name) in _NO_NAME or name.strip() in ("-", "—")


def is_placeholder(name: str) -> bool:
    """Whether it is the prompt's own words for a name."""
    return bool(_PLACEHOLDER.search(name[:_LONGEST]))


def known_name(written: str, tools: Tools) -> str | None:
    """The one tool that is meant by what was written, or None."""
    bare = written[:_LONGEST].strip()
    if bare in tools:
        return bare
    bare = bare.strip(_AROUND + "<>[](){}#$")
    for name in (bare, _SIGNS.sub("", bare)):
        if name in tools:
            return name
    for prefix in ("functions.", "function.", "tools.", "tool.", "default_api."):
        if bare.lower().startswith(prefix) and bare[len(prefix) :] in tools:
            return bare[len(prefix) :]
    return _by_plain_name(tuple(tools)).get(plain(bare)) or _within(bare, tools)


def _within(written: str, tools: Tools) -> str | None:
    """The only tool named in a few words, such as `Use fetch to open the page` or `the fetch tool`."""
    rest = written[match.end() :] if (match := _VERB.match(written)) else ""
    first = re.match(r"[`'\"*]{0,3}([^\s`'\"*(\[,:;]{1,100})", rest or written)
    if first is None:
        return None
    words = [word.strip(_AROUND + "<>[](){}") for word in written.split()]
    named = {name for word in words if (name := _same(word, tools)) is not None}
    if len(named) != 1:
        return None
    name = _same(first[1], tools)
    if name is not None and (rest or not written[first.end() :].lstrip(_AROUND)[:1].isalnum()):
        return name
    others = {word.casefold() for word in words if word and _same(word, tools) is None}
    return next(iter(named)) if others <= _FILLERS else None


def _same(word: str, tools: Tools) -> str | None:
    if word in tools:
        return word
    return _by_plain_name(tuple(tools)).get(plain(word)) if len(word) < 100 else None


@functools.lru_cache(maxsize=64)
def _by_plain_name(tools: tuple[str, ...]) -> dict[str, str]:
    """The tools whose plain name no other has."""
    names: dict[str, str] = {}
    for tool in tools:
        name = plain(tool)
        names[name] = "" if name in names else tool
    return {name: tool for name, tool in names.items() if name and tool}


def clean(written: str) -> str:
    """An unknown name as the model is told of it."""
    return " ".join(written[:_LONGEST].strip(_AROUND + "<>[](){}").split())
