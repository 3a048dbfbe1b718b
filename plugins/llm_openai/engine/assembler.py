"""Chunks to deltas and, at the end, the whole reply: text, reasoning, tool calls, finish reason, usage."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from shared.json_schema import MOST_STEPS

from .calls import CallAssembler
from .choices import Turns
from .echoes import Growing, Said, Thoughts
from .failures import Failure, Kind
from .halves import HalfJoiner, sound
from .leftovers import leftover
from .limits import too_large
from .messages import CallDelta, Delta, Finish, Reply, Tool
from .opaque import THOUGHTS, Keeper, pack
from .parts import read_parts
from .stops import StopCutter
from .think import ThinkSplitter
from .tokens import Counts
from .unusual import elsewhere, left_out, transcript
from .written import WrittenCalls

_FINISHES = {
    "stop": Finish.STOP, "end_turn": Finish.STOP, "eos": Finish.STOP, "eos_token": Finish.STOP,
    "stop_sequence": Finish.STOP, "complete": Finish.STOP,
    "length": Finish.LENGTH, "max_tokens": Finish.LENGTH, "max_output_tokens": Finish.LENGTH,
    "model_length": Finish.LENGTH,
    "tool_calls": Finish.TOOL_CALLS, "function_call": Finish.TOOL_CALLS, "tool_use": Finish.TOOL_CALLS,
    "content_filter": Finish.CONTENT_FILTER, "safety": Finish.CONTENT_FILTER, "refusal": Finish.CONTENT_FILTER,
    "sensitive": Finish.CONTENT_FILTER, "recitation": Finish.CONTENT_FILTER,
    "prohibited_content": Finish.CONTENT_FILTER, "model_context_window_exceeded": Finish.LENGTH,
}  # fmt: skip
_OF_CHOICES = ("delta", "message")  # which have no place outside of one
_PLAIN = {"content", "role", "refusal", "tool_calls", "function_call"}
# With these the endpoint says that what came is not all that there was to be.
_GAVE_UP = frozenset(
    ("error", "abort", "aborted", "failed", "failure", "cancelled", "canceled", "interrupted", "timeout",
     "network_error", "server_error", "internal_error", "insufficient_system_resource", "malformed_function_call")
)  # fmt: skip
_NO_FINISHES = ("null", "none", "undefined")  # what some send while there is none yet


class Assembler:
    """One for a reply. `feed` it every chunk, then `close` and `reply`."""

    def __init__(
        self,
        tools: Sequence[Tool],
        stops: Sequence[str] = (),
        *,
        largest: int,
        keep: bool = True,
        several: bool = False,
        tag: str = "",
        take_written: bool = True,
    ) -> None:
        """`stops` are cut here: the endpoint does not know them. Without `keep` the reply has no text and reasoning:
        all of it went out as deltas. What is kept may have `largest` bytes, past that LimitReached is raised.
        `several`: more than one choice was asked for. `tag`: the endpoint's, for what it wants back.
        `take_written`: calls that the model wrote into its text are calls."""
        self._tools, self._keep, self._several = tools, keep, several
        self._room = _Room(largest)
        self._count = self._room.take
        self._content_halves, self._think, self._stops = HalfJoiner(), ThinkSplitter(), StopCutter(stops)
        self._thought_halves, self._thoughts = HalfJoiner(), Thoughts()
        self._calls, self._keeper, self._tag = CallAssembler(self._count, tag), Keeper(self._count), tag
        self._written = WrittenCalls(tools if take_written else ())
        self._old_calls: bool | None = None  # they come as `function_call`
        self._said, self._echo = Said(), ""  # the content, and what may be all of it again
        self._growing: Growing | None = Growing()  # None: a piece says what is new
        self._has_deltas = self._came = self._answered = False
        # What needs no second look; with tools reasoning may have to go back.
        self._plain = _PLAIN if tools else _PLAIN | set(THOUGHTS)
        self._left_out = set[str]()  # kinds of parts that no field of a reply is for
        self._leftover = ""  # a field that was not read
        self._message: dict[str, Any] | None = None  # that stands beside deltas: at the end, what they lack
        self._index: object = None  # of the choice that came first
        self._text_of: Turns | None = None
        self._thoughts_of: Turns | None = None
        self._chunks = 0
        self._lied = self._by_itself = self._had_none = False  # what is to be made of the finish reason
        # As bytes, since a list of a million little texts takes many times as much.
        self._text, self._reasoning, self._refusal = bytearray(), bytearray(), bytearray()
        self._usage = Counts()
        self._model = self._id = self._raw_finish = ""

    def is_finished(self) -> bool:
        """A finish reason came and nothing after it, or a stop sequence."""
        return bool(self._raw_finish) or self._stops.hit

    def is_over(self) -> bool:
        """Everything says that the reply has ended. A finish reason beside a piece of the reply says little, and one
        that was taken back by what followed says nothing: some servers send one with every piece."""
        answered = self._answered or bool(self._calls) or bool(self._refusal)
        return self._stops.hit or (bool(self._raw_finish) and self._by_itself and not self._lied and answered)

    def is_likely_over(self) -> bool:
        """A finish reason came beside the last piece of the reply so far, and beside none before it: most likely the
        end, though some servers have more to say after a while."""
        answered = self._answered or bool(self._calls) or bool(self._refusal)
        return bool(self._raw_finish) and self._had_none and not self._lied and answered

    def check(self) -> None:
        """Raises Failure where nothing came, or nothing that can be read. To be asked after `close`."""
        if self._answered or self._thoughts or self._calls or self._refusal:
            return
        if self._leftover:
            raise Failure(
                Kind.MALFORMED, f"the reply has nothing but {self._leftover!r}, which is neither text nor a call"
            )
        if self._index is None:
            raise Failure(Kind.TRUNCATED, "the reply is empty: it has no choice")

    @property
    def cut(self) -> bool:
        """A stop sequence came, so what follows is of no interest."""
        return self._stops.hit

    def feed(self, chunk: Mapping[str, Any]) -> Iterator[Delta]:
        """Raises Failure where the choices in it make no reply."""
        if not self._id:
            self._id = _text(chunk.get("id"))
        if not self._model:
            self._model = _text(chunk.get("model"))
        if "usage" in chunk or "x_groq" in chunk:
            self.add_usage(chunk)
        choices = chunk.get("choices")
        if choices.__class__ is not list and choices:
            choices = [choices]
        if not choices:
            if beside := next((name for name in _OF_CHOICES if isinstance(chunk.get(name), Mapping)), ""):
                raise _unreadable(f"{beside!r} where its choices should be")
            # Counts by themselves come last, so the finish reason before them was meant.
            self._by_itself = self._by_itself or (bool(self._raw_finish) and self.has_usage)
            return
        choice = choices[0]
        if len(choices) == 1 and isinstance(choice, dict):
            index = choice.get("index") or 0
            if self._text_of is None and (index == self._index or self._index is None):
                self._index = index
                yield from self._choice(choice, index)
                return
        yield from self._several_choices(choices)

    def add_usage(self, chunk: Mapping[str, Any]) -> None:
        if chunk.get("usage"):
            self._usage.add(chunk["usage"])
        elif chunk.get("x_groq"):
            self._usage.add_within(chunk["x_groq"])

    def _several_choices(self, choices: list[Any]) -> Iterator[Delta]:
        """As `_choice`, where more than one number came."""
        if self._text_of is None:
            self._text_of = Turns(self._index if self._said.length or self._refusal else None)
            self._thoughts_of = Turns(self._index if self._thoughts else None)
        self._chunks += 1
        numbers = set[object]()
        for place, choice in enumerate(choices):
            if not isinstance(choice, dict):
                if choice:
                    raise _unreadable("a choice that is no object")
                continue
            index = choice.get("index") or 0
            if not isinstance(index, int | str) or index in numbers:
                index = f"place {place}"  # some number all of them 0
            numbers.add(index)
            if self._index is None:
                self._index = index
            if self._several and index != self._index:
                continue
            yield from self._choice(choice, index)

    def _choice(self, choice: Mapping[str, Any], index: object) -> Iterator[Delta]:
        # A JSON body has `message`, a stream `delta`, and text completions have neither.
        delta, message = choice.get("delta"), choice.get("message")
        said = delta or message or {"content": choice.get("text")}
        self._came = False
        if said.__class__ is not dict:
            said = {"content": said}
        if delta:
            self._has_deltas = True
            if message.__class__ is dict:
                self._message = message
        yield from self._piece(said, index, whole=not delta)
        if choice.get("usage"):
            self._usage.add(choice["usage"])
        if not self._came:
            self._leftover = self._leftover or leftover(choice)
        elif self._raw_finish:
            self._raw_finish, self._lied = "", True
        finish = _text(choice.get("finish_reason"))
        if finish and finish.lower().rpartition(": ")[2] in _GAVE_UP:
            raise Failure(Kind.TRUNCATED, f"the endpoint gave up: finish reason {finish[:100]}")
        if finish and self._text_of is not None and self._text_of.is_beside(index):
            return  # it ends another reply
        if finish and finish.lower() not in _NO_FINISHES:
            self._raw_finish, self._by_itself = finish, not self._came
        elif self._came:
            self._had_none = True

    def _piece(self, said: Mapping[str, Any], index: object, whole: bool) -> Iterator[Delta]:
        content = said.get("content")
        thought = said.get("reasoning_content") or said.get("reasoning")
        refusal, calls = _text(said.get("refusal")), said.get("tool_calls")
        again = whole and self._has_deltas  # a message that tells what the deltas told
        in_parts = content and content.__class__ is not str
        if in_parts or not said.keys() <= self._plain or (thought and thought.__class__ is not str):
            if in_parts:
                parts = read_parts(content)
                content, thought = parts.text, thought or parts.reasoning
                refusal, calls = refusal or parts.refusal, calls or parts.calls
            if not isinstance(thought, str) or not thought:
                thought = elsewhere(said)
            content = content or transcript(said)
            self._left_out |= left_out(said)
            self._keeper.take(said, thoughts=bool(self._tools) and not (again and self._thoughts))
        if not isinstance(thought, str) or (again and self._thoughts):
            thought = ""
        if thought and (self._thoughts_of is None or self._thoughts_of.takes(index, self._chunks)):
            self._came = True
            yield from self._thought(self._thought_halves.feed(thought), inline=False)
        if isinstance(content, str) and content:
            if again:
                content = sound(content)
                if self._growing is not None and (held := self._growing.settle(content)):
                    yield from self._content(held)
                content, self._growing = self._said.rest_of(content) or "", None
            if content and (self._text_of is None or self._text_of.takes(index, self._chunks)):
                if self._growing is not None:
                    content = self._new_in(self._growing, content)
                if content:
                    yield from self._content(content)
        if refusal and not (again and self._refusal):
            self._came = True
            self._keep_in(self._refusal, refusal)  # comes as a whole, with the reply
        if calls:
            deltas = self._calls.complete(calls) if again else self._calls.feed(calls, whole=whole)
            yield from map(self._call_delta, deltas)
            self._old_calls = False
        elif (old := said.get("function_call")) and self._old_calls is not False:
            self._old_calls = True
            deltas = self._calls.complete([old]) if again else self._calls.feed([old])
            yield from map(self._call_delta, deltas)

    def _new_in(self, growing: Growing, content: str) -> str:
        """What goes out of a piece, which may say again all that was said. Raises Failure."""
        if growing.is_sure:
            # Half of a character at its end comes whole with the next piece.
            rest = self._said.rest_of(content[:-1] if "\ud800" <= content[-1:] <= "\udbff" else content)
            if rest is None:
                raise _unreadable("another text than what was said, where each before it said that again")
            return rest
        content = growing.feed(content)
        self._came = True
        if growing.is_sure is False:
            self._growing = None
        return content

    def _content(self, content: str) -> Iterator[Delta]:
        if self._echo:
            content, self._echo = self._echo + content, ""  # it was none
        elif self._said.is_all(content):
            self._echo = content
            return
        self._came = True
        if content := self._content_halves.feed(content):
            self._said.add(content)
            reasoning, text = self._think.feed(content)
            if reasoning:
                yield from self._thought(reasoning, inline=True)
            if text:
                self._answered = True
                text = self._stops.feed(text)
                if not self._written.passes:
                    text = self._shown(text)
                if text:
                    yield self._delta(text, "")

    def _thought(self, text: str, *, inline: bool) -> Iterator[Delta]:
        if text and (new := self._thoughts.add(text, inline=inline)):
            yield self._delta("", new)
        elif text:
            self._count(len(text.encode()))

    def close(self) -> Iterator[Delta]:
        """What was held back until it was certain that nothing follows."""
        if self._message is not None:
            yield from self._piece(self._message, self._index, whole=True)
        if self._growing is not None and (held := self._growing.close()):
            yield from self._content(held)
        yield from self._thought(self._thought_halves.close(), inline=False)
        before, said = self._think.feed(self._content_halves.close())
        reasoning, text = self._think.close()
        yield from self._thought(before + reasoning, inline=True)
        if again := self._thoughts.close():
            yield self._delta("", again)
        self._answered = self._answered or bool(said + text)
        if text := self._shown(self._stops.feed(said + text) + self._stops.close()):
            yield self._delta(text, "")
        written = self._written.close(take=not self._calls)
        if written.reasoning:
            yield from self._thought(written.reasoning, inline=True)
        if written.text:
            yield self._delta(written.text, "")
        yield from map(self._call_delta, self._calls.feed(written.calls, whole=True))
        yield from map(self._call_delta, self._calls.close())

    def _shown(self, text: str) -> str:
        if not text:
            return ""
        shown = self._written.feed(text)
        if len(shown) < len(text):
            self._count(len(text) - len(shown))  # about: it is what an endless call would take
        return shown

    @property
    def held(self) -> int:
        """Characters that `close` will have to read."""
        return self._written.held

    @property
    def has_usage(self) -> bool:
        return self._usage.usage() is not None

    @property
    def kept(self) -> int:
        """Bytes that `reply` will have to do with."""
        return self._room.kept

    @property
    def has_calls(self) -> bool:
        return bool(self._calls)

    def reply(self, model: str, dropped: Sequence[str], steps: int = MOST_STEPS) -> Reply:
        """`model` is what was asked for, for endpoints that do not say what answered. `steps` is how much work it may
        be to check the tool calls."""
        calls, cut = self._calls.finish(self._tools, steps)
        raw = self._raw_finish
        finish = _FINISHES.get(raw.lower(), Finish.OTHER) if raw else Finish.UNKNOWN
        if self._stops.hit:
            finish, raw = Finish.STOP, raw or "stop"
        if calls and finish in (Finish.STOP, Finish.OTHER, Finish.UNKNOWN):
            finish = Finish.TOOL_CALLS
        if cut:
            finish = Finish.LENGTH
        return Reply(
            text=self._text.decode(),
            reasoning=self._reasoning.decode(),
            refusal=sound(self._refusal.decode("utf-8", "surrogatepass")),
            tool_calls=calls,
            finish=finish,
            raw_finish=sound(raw),
            usage=self._usage.usage(),
            model=sound(self._model) or model,
            id=sound(self._id),
            dropped=(*dropped, *sorted(self._left_out)),
            opaque=pack(self._tag, self._keeper.fields(thoughts=bool(calls))),
        )

    def _delta(self, text: str, reasoning: str) -> Delta:
        if text and self._keep:
            self._keep_in(self._text, text)
        if reasoning and self._keep:
            self._keep_in(self._reasoning, reasoning)
        return Delta(text, reasoning)

    def _call_delta(self, call: CallDelta) -> Delta:
        self._came = True
        return Delta(call=call)

    def _keep_in(self, kept: bytearray, text: str) -> None:
        added = text.encode("utf-8", "surrogatepass")
        self._count(len(added))
        kept += added


class _Room:
    """For the bytes that are kept of a reply. Of its own, so that who counts does not refer to the assembler: what goes
    round in a circle is freed by the next collection of garbage alone, and with it schemas of any size."""

    def __init__(self, largest: int) -> None:
        self.kept, self._largest = 0, largest

    def take(self, added: int) -> None:
        """Raises LimitReached."""
        self.kept += added
        if self.kept > self._largest:
            raise too_large(self._largest)


def _unreadable(has: str) -> Failure:
    return Failure(Kind.MALFORMED, f"an event of the reply has {has}")


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""
