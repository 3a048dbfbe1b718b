"""One way through a text: every mark is handed to the reader of its format."""

from __future__ import annotations

import re

from ..loose_json import CutOff, Unreadable
from . import elements, gemma, glm, named, pythonic, tokens
from .marks import MARK, OPENERS, SPECIAL, SPECIAL_ENDS, TAGS
from .objects import Calls, calls_in
from .source import NotMarkup, Piece, Problem, Source, cut_off, not_read

_FENCE = re.compile(r"\s{0,100}```[a-z_]{0,12}\s{0,100}")
_FENCE_LINE = re.compile(r"```[a-z_]{0,12}\s{0,20}\Z")
_PLUGIN = re.compile(r"\s{0,20}<\|(?:plugin|interpreter)\|>\s{0,20}")
_MOST_PIECES = 1_000
_SEPARATORS = re.compile(r"[\s,;]*")


def read(source: Source, start: int, end: int) -> list[Piece]:
    """The marked calls between `start` and `end`, and what else is markup there."""
    return _Reading(source, start, end).read()


class _Reading:
    def __init__(self, source: Source, start: int, end: int) -> None:
        self._source, self._start, self._end = source, start, end
        self._pieces: list[Piece] = []
        self._wrapper: tuple[int, int, str] | None = None  # an open one without a call so far: where it is, and it
        self._has_calls = False

    def read(self) -> list[Piece]:
        text, at = self._source.text, self._start
        while (mark := MARK.search(text, at, self._end)) is not None:
            if len(self._pieces) >= _MOST_PIECES:
                problem = f"there are more than {_MOST_PIECES} marks of calls in it"
                self._pieces.append(Piece(mark.start(), self._end, problem=not_read("your text", problem)))
                break
            if mark.lastgroup == "result" and self._has_calls:
                self._pieces.append(Piece(mark.start(), self._end))  # what the model makes up
                break
            at = self._mark(mark)
        self._close_wrapper()
        return sorted(self._pieces, key=lambda piece: piece.start)

    def _mark(self, mark: re.Match[str]) -> int:
        """Takes a mark, and says where to go on."""
        start, after = mark.span()
        if mark.lastgroup in OPENERS:
            if mark.lastgroup != "element" and self._is_quoted(start, after):
                return after
            return self._call(mark)
        if mark.lastgroup == "wrapper":
            self._open_wrapper(mark, after)
        elif mark.lastgroup == "end":
            special = mark[0].startswith(SPECIAL_ENDS) and not self._is_quoted(start, after)
            if special or self._follows_piece(start) or self._source.starts_line(start):
                self._close_wrapper(after)
                self._pieces.append(Piece(start, after))
        elif mark.lastgroup == "turn" and self._source.starts_line(start):
            if not (mark["own"] or mark["all"]) or self._source.text[self._start : start].strip():
                self._pieces.append(Piece(start, self._end))
                return self._end
            self._pieces.append(Piece(start, after))
        elif mark.lastgroup == "turn_end" and (mark[0] != "</s>" or self._source.blanks(after) >= self._end):
            self._pieces.append(Piece(start, after))
        return after

    def _call(self, mark: re.Match[str]) -> int:
        source, (start, after) = self._source, mark.span()
        what = mark[0].rstrip("[") if mark.lastgroup != "element" else source.text[start : start + 60].split("\n")[0]
        try:
            calls, end = self._calls(mark)
        except NotMarkup:
            return after
        except CutOff:
            self._add(Piece(start, self._end, problem=cut_off(what)))
            return self._end
        except (Unreadable, Problem) as error:
            end = self._skip(mark, error)
            if isinstance(error, Problem) and not self._is_markup(mark, end):
                return after
            self._add(Piece(start, end, problem=not_read(what, error)))
            return end
        if calls is None:
            self._open_wrapper(mark, end)
            return end
        if self._is_example(start, end) or self._is_in_quotes(start, end):
            return end
        self._add(Piece(start, end, calls))
        return end

    def _calls(self, mark: re.Match[str]) -> tuple[Calls | None, int]:
        """The calls behind a mark, and where they end; None where further marks follow first. Raises CutOff,
        NotMarkup, Unreadable, Problem."""
        source, after = self._source, mark.end()
        match mark.lastgroup:
            case "kimi":
                return named.read_kimi(source, after)
            case "deepseek":
                return named.read_deepseek(source, after)
            case "xtml":
                return tokens.read_kimi(source, mark.start())
            case "minimax":
                return tokens.read_minimax(source, mark.start())
            case "tool":
                return elements.read_tool(source, mark.start())
            case "functionary":
                return named.read_functionary(source, mark.start())
            case "qwen":
                return named.read_qwen_agent(source, after)
            case "action":
                return elements.read_action(source, after, mark[0])
            case "element":
                if elements.CUT_OPENING.match(source.text, mark.start(), self._end):
                    if source.starts_line(mark.start()):
                        raise CutOff("it ends within its begin mark", self._end)
                    raise NotMarkup
                return elements.read(source, mark.start())
        return self._tagged(mark)

    def _tagged(self, mark: re.Match[str]) -> tuple[Calls | None, int]:
        source, text = self._source, self._source.text
        tags = glm.tags_of(mark[0])
        closer = TAGS.get(mark[0]) or ("" if mark[0] in TAGS else tags("/tool_call"))
        at = mark.end() - (1 if mark[0] == "functools[" else 0)
        if plugin := _PLUGIN.match(text, at):
            at = plugin.end()
        if fence := _FENCE.match(text, at):
            at = fence.end()
        at = source.blanks(at)
        if at >= self._end:
            if self._has_calls and self._follows_piece(mark.start()):
                return (), self._end  # meant as an end mark
            raise CutOff("it ends before its call", at)
        if pythonic.starts_list(source, at) or pythonic.starts_call(source, at):
            calls, at = pythonic.read_calls(source, at)
            return calls, self._closed(at, closer)
        if text[at] in "{[":
            return self._json(at, closer)
        if gemma.CALL.match(text, at):
            calls, at = gemma.read(source, at)
            return calls, self._closed(at, closer)
        if mark[0] == "[TOOL_CALLS]":
            return named.read_mistral(source, at)
        if (following := MARK.match(text, at)) and following.lastgroup in OPENERS:
            return None, at
        if (read := named.read_named(source, at)) is not None:
            calls, at = read
            return calls, self._closed(at, closer)
        if mark[0] not in TAGS and glm.starts(source, at, tags):
            calls, at = glm.read(source, at, tags)
            if not source.names.known(calls[0][0]) and not source.starts_line(mark.start()):
                raise NotMarkup
            return calls, self._closed(at, closer)
        raise Problem("there is no call in it; write a JSON object with name and arguments")

    def _json(self, at: int, closer: str) -> tuple[Calls, int]:
        source, text = self._source, self._source.text
        calls: list[tuple[str, dict[str, object]]] = []
        while True:
            value, at = source.value(at, closer)
            read = calls_in(value, source, marked=True)
            if read is None:
                raise Problem(
                    "it is JSON, but no call; write a JSON object with name and arguments", self._closed(at, closer)
                )
            calls += read
            at = source.behind(at)
            following = _SEPARATORS.match(text, at).end()  # type: ignore[union-attr]
            if not closer or text[following : following + 1] != "{":
                break
            at = following
        if not calls:
            raise Problem("the list of calls is empty; name a tool, or answer without it", self._closed(at, closer))
        return tuple(calls), self._closed(at, closer)

    def _closed(self, at: int, closer: str) -> int:
        """Where the end mark ends, if one is there."""
        text = self._source.text
        fence = _FENCE.match(text, at)
        if fence and (not closer or text.startswith(closer, self._source.blanks(fence.end()))):
            at = fence.end()
        after = self._source.blanks(at)
        if closer and text.startswith(closer, after):
            return after + len(closer)
        return at

    def _add(self, piece: Piece) -> None:
        start = piece.start
        if self._wrapper is not None:
            start, self._wrapper = self._wrapper[0], None
        self._pieces.append(Piece(start, piece.end, piece.calls, piece.problem))
        self._has_calls = self._has_calls or bool(piece.calls)

    def _open_wrapper(self, mark: re.Match[str], end: int) -> None:
        start = mark.start()
        if self._wrapper is not None and not self._source.text[self._wrapper[1] : start].strip():
            start = self._wrapper[0]  # one within the other
        else:
            self._close_wrapper()
        self._wrapper = (start, end, mark[0])

    def _close_wrapper(self, end: int | None = None) -> None:
        """An open wrapper that no call came in."""
        if self._wrapper is None:
            return
        start, after, mark = self._wrapper
        self._wrapper = None
        if mark.startswith(SPECIAL) or self._source.starts_line(start):
            is_cut = end is None and self._source.blanks(after) >= self._end
            problem = cut_off(mark) if is_cut else not_read(mark, "there is no call in it")
            self._pieces.append(Piece(start, end or after, problem=problem))

    def _skip(self, mark: re.Match[str], error: Exception) -> int:
        """Where to go on behind markup that is no whole call: behind its end mark."""
        source, after = self._source, mark.end()
        if isinstance(error, Problem) and error.end > after:
            return min(error.end, self._end)
        closer = {"kimi": "<|tool_call_end|>", "action": mark[0].replace("<", "</")}.get(mark.lastgroup or "", "")
        if mark.lastgroup == "tag":
            closer = TAGS[mark[0]] if mark[0] in TAGS else glm.tags_of(mark[0])("/tool_call")
        elif mark.lastgroup == "element" and (opening := elements.OPENING.match(source.text, mark.start())):
            after, closer = opening.end(), f"</{opening['element']}>"
        end = source.find(closer, after) if closer else -1
        if 0 <= end < self._end:
            return end + len(closer)
        # Markup follows that nobody ends: it is not to be shown.
        following = source.blanks(after)
        has_more = isinstance(error, Unreadable) or source.text[following : following + 1] in ("<", "{", "[")
        is_glm = mark.lastgroup == "tag" and mark[0] not in TAGS
        return self._end if has_more or (is_glm and glm.starts(source, following, glm.tags_of(mark[0]))) else after

    def _is_markup(self, mark: re.Match[str], end: int) -> bool:
        """Whether a mark without a call was meant as one: special tokens are nothing else, a tag may be written
        about."""
        if mark[0].startswith(SPECIAL) or self._source.starts_line(mark.start()):
            return True
        return self._source.text[self._source.blanks(mark.end()) :][:1] in ("{", "[") if end > mark.end() else False

    def _is_quoted(self, start: int, after: int) -> bool:
        text = self._source.text
        return text[max(0, start - 1) : start] in ("`", '"', "'") and text[after : after + 1] in ("`", '"', "'")

    def _is_in_quotes(self, start: int, end: int) -> bool:
        """Whether the whole call stands in quotes, as one that is spoken of."""
        quote = self._source.text[max(0, start - 1) : start]
        return quote in ("`", '"', "'") and self._source.text.startswith(quote, end)

    def _is_example(self, start: int, end: int) -> bool:
        """Whether it stands in a fence of its own, and the text goes on behind that: it writes about markup."""
        text = self._source.text
        opening = _FENCE_LINE.search(text, max(self._start, start - 40), start)
        closing = _FENCE.match(text, end)
        return bool(opening and closing and self._source.blanks(closing.end()) < self._end)

    def _follows_piece(self, start: int) -> bool:
        return bool(self._pieces) and not self._source.text[self._pieces[-1].end : start][:200].strip()
