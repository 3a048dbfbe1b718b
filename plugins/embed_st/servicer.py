"""EmbedderProvider over the engine: messages in, messages out, nothing else.

Unlike vector_hnsw's, the engine is awaited: it has its own thread for the model and gives everybody their turn.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, NamedTuple

import grpc
import hector_plugins_pb2 as pb
from hector_plugins_pb2_grpc import EmbedderProviderServicer

from shared.errors import CallerError, InvalidArgument, TooLarge
from shared.status import failure, to_status

from .engine import MOST_TEXTS, Engine, Options, Outcome, Overflow
from .fast import put_vector

Context = grpc.aio.ServicerContext[Any, Any]

MOST_ITEMS = {"EmbedBatch": {"texts": MOST_TEXTS}, "CountTokens": {"texts": MOST_TEXTS}}
TOO_LARGE_HINTS = {"EmbedBatch": "send fewer texts at once, ask for fewer dimensions, or use EmbedStream"}

_INPUT_TYPES = {
    pb.INPUT_TYPE_UNSPECIFIED: "",
    pb.INPUT_TYPE_QUERY: "query",
    pb.INPUT_TYPE_DOCUMENT: "document",
}
_OVERFLOWS = {
    pb.TRUNCATE_UNSPECIFIED: Overflow.CUT_RIGHT,
    pb.TRUNCATE_RIGHT: Overflow.CUT_RIGHT,
    pb.TRUNCATE_LEFT: Overflow.CUT_LEFT,
    pb.TRUNCATE_ERROR: Overflow.ERROR,
}
# Texts of a stream that wait or are with the model; a client that sends more is held back. So many characters of them
# too, ids included, unless a text alone has more.
_AHEAD = 64
_AHEAD_CHARACTERS = 200_000
_PACKED_AT_ONCE = 64


class Servicer(EmbedderProviderServicer):
    def __init__(self, engine: Engine, *, max_reply_bytes: int) -> None:
        self._engine = engine
        self._max_reply_bytes = max_reply_bytes

    async def EmbedText(self, request: pb.EmbedTextRequest, context: Context) -> pb.EmbedTextResponse:
        try:
            options = _options(request.options)
            (outcome,) = await self._engine.embed([request.text], options, field=lambda _: "text")
            if isinstance(outcome, CallerError):
                raise outcome
            reply = pb.EmbedTextResponse(
                success=True, tokens=outcome.tokens, truncated=outcome.truncated, model=self._engine.model
            )
            put_vector(reply, outcome.vector)
            return reply
        except CallerError as error:
            return failure(pb.EmbedTextResponse(), error)

    async def EmbedBatch(self, request: pb.EmbedBatchRequest, context: Context) -> pb.EmbedBatchResponse:
        try:
            options = _options(request.options)
            self._check_size(len(request.texts), options)
            outcomes = await self._engine.embed(request.texts, options, allow_partial=request.allow_partial)
            reply = pb.EmbedBatchResponse(success=True, model=self._engine.model)
            for index, outcome in enumerate(outcomes):
                if index % _PACKED_AT_ONCE == _PACKED_AT_ONCE - 1:
                    await asyncio.sleep(0)  # others have their turn, health among them
                embedding = reply.embeddings.add()
                _fill(embedding, outcome)
                reply.total_tokens += embedding.tokens
            return reply
        except CallerError as error:
            return failure(pb.EmbedBatchResponse(), error)

    async def EmbedStream(
        self, request_iterator: AsyncIterator[pb.EmbedStreamRequest], context: Context
    ) -> AsyncIterator[pb.EmbedStreamResponse]:
        # One task reads ahead and starts each text; this one answers in order.
        # Two are not in the queue: the one that is about to be put there and the one that is awaited.
        answers: asyncio.Queue[_Started | Exception | None] = asyncio.Queue(_AHEAD - 2)
        started: set[asyncio.Task[pb.Embedding]] = set()
        ahead, answered = 0, asyncio.Event()

        with self._engine.caller() as caller:

            async def embed(text: str, asked: pb.EmbedOptions) -> pb.Embedding:
                try:
                    options = _options(asked)
                    (outcome,) = await self._engine.embed(
                        [text], options, field=lambda _: "text", allow_partial=True, caller=caller
                    )
                    return _embedding(outcome)
                except CallerError as error:
                    return pb.Embedding(status=to_status(error))

            async def read() -> None:
                nonlocal ahead
                end = None
                try:
                    async for request in request_iterator:
                        name, text = request.id, request.text
                        size = len(name) + len(text)
                        while ahead and ahead + size > _AHEAD_CHARACTERS:
                            answered.clear()
                            await answered.wait()
                        ahead += size
                        task = asyncio.create_task(embed(text, request.options))
                        started.add(task)
                        task.add_done_callback(started.discard)
                        await answers.put(_Started(name, size, task))
                except Exception as error:
                    end = error
                await answers.put(end)

            reader = asyncio.create_task(read())
            try:
                while isinstance(answer := await answers.get(), _Started):
                    yield pb.EmbedStreamResponse(id=answer.name, embedding=await answer.task)
                    ahead -= answer.size
                    answered.set()
                if answer is not None:
                    raise answer
            finally:
                for left in (reader, *started):
                    left.cancel()

    async def GetDimensions(self, request: pb.GetDimensionsRequest, context: Context) -> pb.GetDimensionsResponse:
        facts = self._engine.facts
        return pb.GetDimensionsResponse(
            success=True,
            dimensions=facts.dimensions,
            model=self._engine.model,
            supported_dimensions=sorted(
                {one for one in facts.matryoshka if one < facts.dimensions} | {facts.dimensions}
            ),
        )

    async def GetModelInfo(self, request: pb.GetModelInfoRequest, context: Context) -> pb.GetModelInfoResponse:
        facts = self._engine.facts
        return pb.GetModelInfoResponse(
            success=True,
            model=self._engine.model,
            sha256=facts.sha256,
            dimensions=facts.dimensions,
            max_tokens=facts.max_tokens,
            backend=self._engine.backend,
            precision=self._engine.precision,
            prompts=facts.prompts,
        )

    async def CountTokens(self, request: pb.CountTokensRequest, context: Context) -> pb.CountTokensResponse:
        try:
            return pb.CountTokensResponse(success=True, tokens=await self._engine.count(request.texts))
        except CallerError as error:
            return failure(pb.CountTokensResponse(), error)

    def _check_size(self, count: int, options: Options) -> None:
        """Before the model runs: a reply whose vectors alone are past the limit would be refused after it."""
        native = self._engine.dimensions
        size = count * min(options.dimensions or native, native) * 4
        if size > self._max_reply_bytes:
            raise TooLarge(
                f"{count} vectors have {size} bytes, more than max_reply_bytes of {self._max_reply_bytes}: "
                + TOO_LARGE_HINTS["EmbedBatch"],
                reason="REPLY_TOO_LARGE",
            )


class _Started(NamedTuple):
    """A text of a stream that is being embedded: its id, how many characters it holds, and what is to be sent."""

    name: str
    size: int
    task: asyncio.Task[pb.Embedding]


def _embedding(outcome: Outcome) -> pb.Embedding:
    embedding = pb.Embedding()
    _fill(embedding, outcome)
    return embedding


def _fill(embedding: pb.Embedding, outcome: Outcome) -> None:
    if isinstance(outcome, CallerError):
        embedding.status.CopyFrom(to_status(outcome))
    else:
        put_vector(embedding, outcome.vector)
        embedding.tokens, embedding.truncated = outcome.tokens, outcome.truncated


def _options(options: pb.EmbedOptions) -> Options:
    for name, value, known in (
        ("input_type", options.input_type, pb.InputType.values()),
        ("truncate", options.truncate, pb.Truncate.values()),
        ("long_text", options.long_text, pb.LongText.values()),
    ):
        if value not in known:
            raise InvalidArgument(f"{name} {value} is not one of the contract's", field=f"options.{name}")
    return Options(
        prompt=options.prompt_name or _INPUT_TYPES[options.input_type],
        normalize=options.normalize if options.HasField("normalize") else None,
        dimensions=options.dimensions,
        overflow=Overflow.MEAN if options.long_text else _OVERFLOWS[options.truncate],
    )
