"""Chat completions from the first of several endpoints that answers, streamed or whole."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
import random
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Any, TypeVar

from shared.errors import FailedPrecondition, InvalidArgument, PluginError
from shared.json_schema import QUICK_STEPS, CannotCheck
from shared.off_loop import LARGE, in_thread

from . import model_list, written
from .assembler import Assembler
from .body import build, encoded, weight
from .checks import check, is_quick, structured
from .endpoint import Endpoint, Settings
from .failures import Failure, Kind
from .listening import SLICE, drain, late_usage, while_of_use
from .merging import PAUSE, merged
from .messages import Delta, Finish, Format, Message, Model, Reply, Request
from .reading import Chunk, ChunkReader
from .refusals import Refusals, stops_in

_Result = TypeVar("_Result")
_Items = AsyncGenerator[Delta | Reply, None]
_log = logging.getLogger("hector")

_LONGEST_WAIT = 60.0  # seconds that a Retry-After is waited for
_PATIENCE = 2.0  # seconds, while another endpoint is left to ask
_MODELS_SECONDS, _NO_MODELS_SECONDS = 300.0, 10.0
_MOST_BEFORE_PAUSE = 256  # chunks, likewise
_SMALL = 2**12  # bytes of a reply that is checked where it stands, if that is little work


class Engine:
    """Awaited from one event loop. Raises what `shared/errors.py` has."""

    def __init__(
        self,
        endpoints: Sequence[Settings],
        *,
        model: str = "",
        aliases: Mapping[str, str] | None = None,
        models: Mapping[str, Mapping[str, Any]] | None = None,
        temperature: float | None = None,
        max_tokens: int | None = None,
        max_retries: int = 2,
        max_response_bytes: int = 64 * 2**20,
    ) -> None:
        """The first of `endpoints` is asked first. `models` says of each what the endpoint does not: `context_length`,
        `max_output_tokens`, `capabilities`. `temperature` and `max_tokens` are for requests that have none.
        `max_response_bytes` is how much of a reply is kept: text, reasoning, refusal and tool calls together."""
        places = {one.url: asyncio.Semaphore(one.concurrency) for one in endpoints}
        self._endpoints = [Endpoint(settings, places[settings.url]) for settings in endpoints]
        self._model, self._aliases, self._configured = model, dict(aliases or {}), dict(models or {})
        self._temperature, self._max_tokens, self._max_retries = temperature, max_tokens, max_retries
        self._largest = max_response_bytes
        self._listed: list[Model] = []
        self._listed_until = 0.0
        self._listing = asyncio.Lock()
        self._list_failure: Failure | None = None

    async def generate(self, request: Request, time_left: float | None = None) -> Reply:
        """A whole reply within `time_left` seconds. Structured output that does not hold is asked for once more."""
        ends = _end(time_left)
        reply = await self._whole(request, ends)
        if not _is_structured(request, reply):
            return reply
        text, problem = await _structured(reply, request)
        if problem and reply.finish not in (Finish.LENGTH, Finish.CONTENT_FILTER):
            told = f"That cannot be used: {problem}. Answer again, with nothing but the JSON."
            messages = (*request.messages, Message("assistant", reply.text), Message("user", told))
            first, reply = reply, await self._whole(dataclasses.replace(request, messages=messages), ends)
            usage = first.usage + reply.usage if first.usage and reply.usage else None
            reply = dataclasses.replace(reply, usage=usage)
            text, problem = await _structured(reply, request)
        if problem:
            raise _invalid_output(problem, reply)
        return dataclasses.replace(reply, text=text)

    async def call_tool(self, request: Request, time_left: float | None = None) -> Reply:
        """One turn that ends in tool calls; none is executed here. `tool_choice` is `required` unless it is set."""
        if not request.tools:
            raise InvalidArgument("CallTool needs tools to choose from", field="tools")
        if not request.options.tool_choice:
            options = dataclasses.replace(request.options, tool_choice="required")
            request = dataclasses.replace(request, options=options)
        reply = await self.generate(request, time_left)
        if not reply.tool_calls:
            raise FailedPrecondition(
                f"the model called no tool, it said: {reply.text[:200]!r}; ask it to, or use GenerateText",
                reason="NO_TOOL_CALL",
            )
        return reply

    async def stream(self, request: Request, time_left: float | None = None) -> _Items:
        """Deltas as they come and, last, the Reply that they make."""
        async with contextlib.aclosing(self._answer(request, _end(time_left), stream=True)) as items:
            async for item in items:
                if isinstance(item, Reply) and _is_structured(request, item):
                    _, problem = await _structured(item, request)
                    if problem:
                        raise _invalid_output(problem, item)
                yield item

    async def models(self) -> list[Model]:
        """What the endpoint lists and the settings name, the default first; the settings' alone where it lists none."""
        await self._list()
        found = model_list.known(self._listed, self._configured, self._named(self._model))
        if not found and self._list_failure is not None:
            raise self._list_failure.error()
        return found

    async def close(self) -> None:
        for endpoint in self._endpoints:
            await endpoint.close()

    async def _list(self) -> None:
        """Asks the endpoint for its models, unless that was done a while ago."""
        async with self._listing:
            if _now() < self._listed_until:
                return
            try:
                self._listed = await self._endpoints[0].models()
                self._list_failure, self._listed_until = None, _now() + _MODELS_SECONDS
            except Failure as failure:  # what was listed before still holds
                _log.warning("event=models_not_listed endpoint=%s cause=%r", failure.endpoint, failure.message)
                self._list_failure, self._listed_until = failure, _now() + _NO_MODELS_SECONDS

    def _named(self, model: str) -> str:
        return self._aliases.get(model, model)

    async def _model_at(self, endpoint: Endpoint, request: Request) -> str:
        """What to ask that endpoint for. Raises Failure where it cannot be found out."""
        if model := self._named(endpoint.settings.model or request.model or self._model):
            return model
        await self._list()
        if len(self._listed) == 1:
            return self._listed[0].id
        if not self._listed and self._list_failure is not None:
            raise self._list_failure
        some = ", ".join(one.id[:100] for one in self._listed[:5]) or "none that it lists"
        raise InvalidArgument(
            f"no model was named: send model, or set it; {self._endpoints[0].name} has {some}", field="model"
        )

    async def _whole(self, request: Request, ends: float | None) -> Reply:
        async with contextlib.aclosing(self._answer(request, ends, stream=False)) as items:
            async for item in items:
                if isinstance(item, Reply):
                    return item
        raise AssertionError("an answer ends in a Reply or an error")

    async def _answer(self, request: Request, ends: float | None, *, stream: bool) -> _Items:
        """From the first endpoint that answers. Nothing is tried again once something of an answer went out."""
        request = self._with_defaults(request)
        if is_quick(request):
            check(request)
        else:
            await in_thread(check, request)
        left = len(self._endpoints)
        for endpoint in self._endpoints:
            left -= 1
            tries, unread = 0, 0
            while True:
                said = False
                try:
                    model = await self._model_at(endpoint, request)
                    attempt = self._attempt(endpoint, model, request, stream=stream)
                    async with contextlib.aclosing(attempt) as items:
                        async for item in items:
                            said = True
                            yield item
                    return
                except Failure as failure:
                    # Text that nobody has seen yet can be thrown away.
                    if said and stream:
                        raise failure.error() from None
                    wait = _wait(failure, tries, ends, patient=not left) if tries < self._max_retries else None
                    if failure.generation and not unread:
                        unread, tries, wait = 1, tries - 1, 0.0  # a model may well write it right the next time
                    if wait is None and (not left or not failure.elsewhere):
                        raise failure.error() from None
                    _log.warning("event=upstream_failed endpoint=%s cause=%r", failure.endpoint, failure.message)
                if wait is None:
                    break
                tries += 1
                await asyncio.sleep(wait)

    async def _attempt(self, endpoint: Endpoint, model: str, request: Request, *, stream: bool) -> _Items:
        """One endpoint, once; and at once again without the options it turns out not to take. Raises Failure."""
        if request.tools and not written.is_loaded():
            await in_thread(written.load)
        is_large = weight(request) > LARGE
        settings = endpoint.settings
        tag = endpoint.tag if settings.send_back else ""
        body = await _in_thread_if(is_large, build, request, model, settings.body, tag=tag, stream=stream)
        learnt = endpoint.refusals(model)
        refusals = Refusals(learnt.known.copy())
        # What goes with fields of the caller's own is refused for reasons that hold for no other call.
        shared = None if request.options.extra else learnt
        while True:
            sent, dropped = refusals.without(body)
            stops = stops_in(body) if "stop" in dropped else ()
            keep = not stream or request.options.format is not Format.TEXT
            asked_for = sent.get("n")
            several = isinstance(asked_for, int) and asked_for > 1
            assembler = Assembler(
                request.tools,
                stops,
                largest=self._largest,
                keep=keep,
                several=several,
                tag=endpoint.tag,
                take_written=request.options.tool_choice != "none",
            )
            said = False
            try:
                async with endpoint.chat(await _in_thread_if(is_large, encoded, sent)) as data:
                    reader = ChunkReader(self._largest)
                    async with contextlib.aclosing(while_of_use(data, reader, assembler)) as pieces:
                        async with contextlib.aclosing(_deltas(pieces, reader, assembler)) as deltas:
                            async for delta in deltas:
                                said = True
                                yield delta
                        ended = assembler.is_over() if reader.cut else assembler.is_finished()
                        if not ended and not reader.done:
                            raise Failure(Kind.TRUNCATED, "the reply was cut off before its end")
                        assembler.check()
                        if reader.done and stream and not assembler.has_usage:
                            await late_usage(pieces, reader, assembler)
                        yield await _reply(assembler, model, dropped)
                        if not assembler.cut:
                            await drain(pieces)
                return
            except Failure as failure:
                endpoint.named(failure)
                if said or not refusals.learn(failure, sent, shared):
                    raise

    def _with_defaults(self, request: Request) -> Request:
        options = request.options
        changes: dict[str, Any] = {}
        if options.temperature is None and self._temperature is not None:
            changes["temperature"] = self._temperature
        if options.max_tokens is None and self._max_tokens is not None:
            changes["max_tokens"] = self._max_tokens
        return dataclasses.replace(request, options=dataclasses.replace(options, **changes)) if changes else request


async def _deltas(
    pieces: AsyncIterator[bytes], reader: ChunkReader, assembler: Assembler
) -> AsyncGenerator[Delta, None]:
    """What is broken after a reply that was over breaks nothing."""
    try:
        async for piece in pieces:
            async for delta in _read(_slices(reader, piece), assembler, reader.held + len(piece)):
                yield delta
            if reader.done or assembler.cut:
                break
        else:
            async for delta in _read(reader.close(), assembler, reader.held):
                yield delta
    except Failure as failure:
        if not assembler.is_over() or failure.kind is Kind.STATUS:
            raise
    is_work = assembler.held > (_SMALL if written.is_loaded() else 0)
    for delta in await _in_thread_if(is_work, lambda: list(assembler.close())):
        yield delta


async def _read(chunks: Iterator[Chunk], assembler: Assembler, size: int) -> AsyncGenerator[Delta, None]:
    """What the chunks say. `size` is how many bytes there may be to parse at once."""
    if size > LARGE:
        deltas, failure = await in_thread(_read_all, chunks, assembler)
        for delta in deltas:
            yield delta
        if failure is not None:
            raise failure
        return
    for delta in merged(_fed(chunks, assembler, size)):
        if delta is PAUSE:
            await asyncio.sleep(0)
        else:
            yield delta


def _read_all(chunks: Iterator[Chunk], assembler: Assembler) -> tuple[list[Delta], PluginError | Failure | None]:
    deltas: list[Delta] = []
    try:
        deltas.extend(merged(chain.from_iterable(map(assembler.feed, chunks))))
    except (Failure, PluginError) as failure:
        return deltas, failure
    return deltas, None


def _fed(chunks: Iterator[Chunk], assembler: Assembler, size: int) -> Iterator[Delta]:
    """With a pause now and then: thousands of chunks that say nothing can come in one piece."""
    for number, chunk in enumerate(chunks, 1):
        yield from assembler.feed(chunk)
        if number % _MOST_BEFORE_PAUSE == 0:
            yield PAUSE
    if size >= SLICE:
        yield PAUSE


def _slices(reader: ChunkReader, piece: bytes) -> Iterator[Chunk]:
    for start in range(0, len(piece), SLICE):
        yield from reader.feed(piece[start : start + SLICE])


async def _reply(assembler: Assembler, model: str, dropped: Sequence[str]) -> Reply:
    if not assembler.has_calls or assembler.kept <= _SMALL:
        with contextlib.suppress(CannotCheck):
            return assembler.reply(model, dropped, QUICK_STEPS)
    return await in_thread(assembler.reply, model, dropped)


async def _structured(reply: Reply, request: Request) -> tuple[str, str]:
    """The JSON of the reply and what is wrong with it. Raises FailedPrecondition where that cannot be found out."""
    try:
        if len(reply.text) <= _SMALL:
            with contextlib.suppress(CannotCheck):
                return structured(reply.text, request.options, QUICK_STEPS)
        return await in_thread(structured, reply.text, request.options)
    except CannotCheck as error:
        raise FailedPrecondition(
            f"the model's answer came, but {error}; send a json_schema without recursion or large enums, or use "
            "response_format JSON and check it yourself",
            reason="OUTPUT_NOT_CHECKED",
        ) from None


async def _in_thread_if(is_large: bool, function: Callable[..., _Result], *args: Any, **kwargs: Any) -> _Result:
    return await in_thread(function, *args, **kwargs) if is_large else function(*args, **kwargs)


def _wait(failure: Failure, tries: int, ends: float | None, *, patient: bool) -> float | None:
    """Seconds to wait before another try at the same endpoint; None where that makes no sense, or not in time."""
    if not failure.retryable:
        return None
    wait = failure.retry_after
    if wait is None:
        wait = min(8.0, 0.5 * 2**tries) * random.uniform(0.75, 1)
    in_time = ends is None or _now() + wait < ends
    return wait if in_time and wait <= (_LONGEST_WAIT if patient else _PATIENCE) else None


def _is_structured(request: Request, reply: Reply) -> bool:
    return request.options.format is not Format.TEXT and not reply.tool_calls and not reply.refusal


def _invalid_output(problem: str, reply: Reply) -> FailedPrecondition:
    if reply.finish is Finish.CONTENT_FILTER:
        return FailedPrecondition(
            f"the endpoint's filter stopped the answer ({reply.raw_finish[:100]}), so it does not hold to the response "
            f"format: {problem}; ask for something else",
            reason="CONTENT_FILTERED",
        )
    cut = "; it was cut off at its largest length: raise max_tokens" if reply.finish is Finish.LENGTH else ""
    return FailedPrecondition(
        f"the model's answer does not hold to the response format: {problem}{cut}", reason="INVALID_OUTPUT"
    )


def _now() -> float:
    return asyncio.get_running_loop().time()


def _end(time_left: float | None) -> float | None:
    return None if time_left is None else _now() + time_left
