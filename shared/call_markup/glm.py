"""GLM's form: `<tool_call>NAME<arg_key>KEY</arg_key><arg_value>VALUE</arg_value></tool_call>`.

Ling, Poolside and Step write it too; Hunyuan with a label in each tag (`<tool_call:label>NAME<tool_sep:label>…`), K2
Horizon with a prefix (`<ifm|tool_call>`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from ..loose_json import CutOff
from .objects import Calls, call
from .source import Problem, Source
from .types import typed

TAG = re.compile(r"<(?P<before>ifm\|)?tool_call(?P<behind>:[\w-]{1,40})?>")
_LONGEST_TAG = 80
_NAME = re.compile(r"[^\s<>{}()\[\]\"',;=]{1,200}")


@dataclass(frozen=True)
class Tags:
    """The tags as this text writes them."""

    before: str = ""
    behind: str = ""

    def __call__(self, name: str) -> str:
        slash, name = ("/", name[1:]) if name.startswith("/") else ("", name)
        return f"<{slash}{self.before}{name}{self.behind}>"

    @property
    def closers(self) -> tuple[str, str]:
        return self("/tool_call"), self("end_of_tool_call")


def tags_of(mark: str) -> Tags:
    tag = TAG.fullmatch(mark)
    return Tags(tag["before"] or "", tag["behind"] or "") if tag else Tags()


def starts(source: Source, at: int, tags: Tags) -> bool:
    """Whether a name stands at `at`, and behind it arguments, the end mark or nothing."""
    name = _NAME.match(source.text, at)
    if name is None:
        return False
    after = source.blanks(name.end())
    following = source.text[after : after + _LONGEST_TAG]
    wanted = (tags("arg_key"), tags("tool_sep"), *tags.closers)
    return following.startswith(wanted) or any(tag.startswith(following) for tag in wanted)  # the latter: cut off


def read(source: Source, at: int, tags: Tags) -> tuple[Calls, int]:
    """The call, and where it ends. Raises CutOff, Problem, Unreadable."""
    text = source.text
    written = _NAME.match(text, at)
    if written is None:
        raise Problem("a call has no name")
    at = source.blanks(written.end())
    if text.startswith(tags("tool_sep"), at):
        at = source.blanks(at + len(tags("tool_sep")))
        if text.startswith("{", at):
            value, at = source.value(at, tags.closers[0])
            at = source.behind(at)
            closer = next((closer for closer in tags.closers if text.startswith(closer, at)), "")
            return (call(written[0], value, source),), at + len(closer)
    arguments: dict[str, str] = {}
    texts: set[str] = set()  # of those that are said to be strings
    while True:
        at = source.blanks(at)
        if closer := next((closer for closer in tags.closers if text.startswith(closer, at)), ""):
            break
        if not text.startswith(tags("arg_key"), at):
            if len(text) - at < 60 and ">" not in text[at:]:
                raise CutOff("it ends before its end mark", len(text))
            raise Problem(f"the call of {written[0]} has something else than {tags('arg_key')} where one must stand")
        key, at = _element(source, at, "arg_key", tags)
        key = key.strip()
        at = source.blanks(at)
        if text.startswith(tags("arg_type"), at):
            kind, at = _element(source, at, "arg_type", tags)
            texts |= {key} if kind.strip() == "string" else set()
            at = source.blanks(at)
        value, at = _element(source, at, "arg_value", tags)
        if tags("arg_key") in value:
            raise Problem(f"the argument {key} has no {tags('/arg_value')}")
        if key in arguments:
            raise Problem(f"the argument {key} is there twice")
        arguments[key] = value
    name = source.names.resolved(written[0])
    raw = frozenset(arguments) - texts
    return ((name, typed(dict(arguments), source.tools.get(name, {}), raw)),), at + len(closer)


def _element(source: Source, at: int, name: str, tags: Tags) -> tuple[str, int]:
    """What stands up to the end mark, and where that ends; the begin mark may be missing."""
    if source.text.startswith(tags(name), at):
        at += len(tags(name))
    closer = tags(f"/{name}")
    end = source.find(closer, at)
    if end < 0:
        raise CutOff(f"it has no {closer}", len(source.text))
    return source.text[at:end], end + len(closer)
