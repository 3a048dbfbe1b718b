"""Chunks to deltas and, at the end, the whole reply: text, reasoning, tool calls, finish reason, usage."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from plugins.llm_openai.engine.calls import CallAssembler
from plugins.llm_openai.engine.failures import Failure, Kind
from plugins.llm_openai.engine.halves import HalfJoiner, sound
from plugins.llm_openai.engine.limits import too_large
from plugins.llm_openai.engine.messages import CallDelta, Delta, Finish, Reply, Tool, Usage
from plugins.llm_openai.engine.stops import StopCutter
from plugins.llm_openai.engine.think import ThinkSplitter
from shared.json_schema import MOST_STEPS

_FINISHES = {
    "stop": Finish.STOP, "end_turn": Finish.STOP, "eos": Finish.STOP, "eos_token": Finish.STOP,
    "stop_sequence": Finish.STOP, "complete": Finish.STOP,
    "length": Finish.LENGTH, "max_tokens": Finish.LENGTH, "max_output_tokens": Finish.LENGTH,
    "model_length": Finish.LENGTH,
    "tool_calls": Finish.TOOL_CALLS, "function_call": Finish.TOOL_CALLS, "tool_use": Finish.TOOL_CALLS,
    "content_filter": Finish.CONTENT_FILTER, "safety": Finish.CONTENT_FILTER, "refusal": Finish.CONTENT_FILTER,
}  # fmt: skip


class Assembler:
    """One for a reply. `feed` it every chunk, then `close` and `reply`."""

    def __init__(self, tools: Sequence[Tool], stops: Sequence[str] = (), *, largest: int, keep: bool = True) -> None:
        """`stops` are cut here: the endpoint does not know them. Without `keep` the reply has no text and reasoning:
        all of it went out as deltas. What is kept may have `largest` bytes, past that LimitReached is raised."""
        self._tools, self._keep, self._largest = tools, keep, largest
        self._halves, self._think, self._stops = HalfJoiner(), ThinkSplitter(), StopCutter(stops)
        self._thoughts, self._calls = HalfJoiner(), CallAssembler()
        # As bytes, since a list of a million little texts takes many times as much.
        self._text, self._reasoning, self._refusal = bytearray(), bytearray(), bytearray()
        self._kept = 0  # bytes of them and of tool calls
        self._usage: Usage | None = None
        self._model = self._id = self._raw_finish = ""

    def is_finished(self) -> bool:
        """A finish reason came, or a stop sequence."""
        return bool(self._raw_finish) or self._stops.hit

    @property
    def cut(self) -> bool:
        """A stop sequence came, so what follows is of no interest."""
        return self._stops.hit

    def feed(self, chunk: Mapping[str, Any]) -> Iterator[Delta]:
        if not self._id:
            self._id = _text(chunk.get("id"))
        if not self._model:
            self._model = _text(chunk.get("model"))
        if chunk.get("usage"):
            self._usage = usage(chunk["usage"]) or self._usage
        choices = chunk.get("choices")
        for choice in choices if isinstance(choices, list) else ():
            if isinstance(choice, Mapping) and choice.get("index") in (0, None):
                yield from self._choice(choice)

    def _choice(self, choice: Mapping[str, Any]) -> Iterator[Delta]:
        # A JSON body has `message`, a stream `delta`, and text completions have neither.
        said = choice.get("delta") or choice.get("message") or {"content": choice.get("text")}
        if isinstance(said, Mapping):
            yield from self._said(said, whole=not choice.get("delta"))
        if choice.get("usage"):
            self._usage = usage(choice["usage"]) or self._usage
        finish = _text(choice.get("finish_reason"))
        if finish in ("error", "abort"):
            raise Failure(Kind.TRUNCATED, f"the endpoint gave up: finish reason {finish}")
        self._raw_finish = finish or self._raw_finish

    def _said(self, said: Mapping[str, Any], whole: bool) -> Iterator[Delta]:
        content = said.get("content")
        thought = said.get("reasoning_content") or said.get("reasoning")
        if isinstance(content, list):
            content, inner = _parts(content)
            thought = thought or inner
        if isinstance(thought, str) and (thought := self._thoughts.feed(thought)):
            yield self._delta("", thought)
        if isinstance(content, str) and (content := self._halves.feed(content)):
            reasoning, text = self._think.feed(content)
            if reasoning or text:
                yield from self._passed(reasoning, self._stops.feed(text))
        if refusal := _text(said.get("refusal")):
            self._keep_in(self._refusal, refusal)  # comes as a whole, with the reply
        if calls := said.get("tool_calls"):
            yield from map(self._call_delta, self._calls.feed(calls, whole=whole))
        if old := said.get("function_call"):
            yield from map(self._call_delta, self._calls.feed([old]))

    def close(self) -> Iterator[Delta]:
        """What was held back until it was certain that nothing follows."""
        if thought := self._thoughts.close():
            yield self._delta("", thought)
        before, said = self._think.feed(self._halves.close())
        reasoning, text = self._think.close()
        reasoning, text = before + reasoning, said + text
        yield from self._passed(reasoning, self._stops.feed(text) + self._stops.close())

    @property
    def kept(self) -> int:
        """Bytes that `reply` will have to do with."""
        return self._kept

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
            usage=self._usage,
            model=sound(self._model) or model,
            id=sound(self._id),
            dropped=tuple(dropped),
        )

    def _passed(self, reasoning: str, text: str) -> Iterator[Delta]:
        if reasoning or text:
            yield self._delta(text, reasoning)

    def _delta(self, text: str, reasoning: str) -> Delta:
        if text and self._keep:
            self._keep_in(self._text, text)
        if reasoning and self._keep:
            self._keep_in(self._reasoning, reasoning)
        return Delta(text, reasoning)

    def _call_delta(self, call: CallDelta) -> Delta:
        self._count(len(call.id) + len(call.name) + len(call.arguments.encode()))
        return Delta(call=call)

    def _keep_in(self, kept: bytearray, text: str) -> None:
        added = text.encode("utf-8", "surrogatepass")
        self._count(len(added))
        kept += added

    def _count(self, added: int) -> None:
        self._kept += added
        if self._kept > self._largest:
            raise too_large(self._largest)


def usage(raw: object) -> Usage | None:
    """None where there is nothing but zeros: a reply that cost nothing is one that was not counted."""
    if not isinstance(raw, Mapping):
        return None
    prompt = _count(raw, "prompt_tokens", "input_tokens")
    completion = _count(raw, "completion_tokens", "output_tokens")
    total = _count(raw, "total_tokens") or prompt + completion
    if not total:
        return None
    out, into = raw.get("completion_tokens_details"), raw.get("prompt_tokens_details")
    return Usage(
        prompt,
        completion,
        total,
        reasoning=_count(out, "reasoning_tokens") or _count(raw, "reasoning_tokens"),
        cached=_count(into, "cached_tokens") or _count(raw, "prompt_cache_hit_tokens", "cached_tokens"),
    )


def _count(raw: object, *names: str) -> int:
    for name in names:
        value = raw.get(name) if isinstance(raw, Mapping) else None
        if isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < 2**31:
            return int(value)
    return 0


def _parts(content: list[Any]) -> tuple[str, str]:
    """(text, reasoning) of content in parts, as some endpoints send it."""
    text, reasoning = [], []
    for part in content:
        if isinstance(part, str):
            text.append(part)
        elif isinstance(part, Mapping):
            inner = part.get("thinking") or part.get("reasoning")
            if isinstance(inner, list):
                inner = _parts(inner)[0]
            reasoning.append(_text(inner))
            text.append(_text(part.get("text")))
    return "".join(text), "".join(reasoning)


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""
