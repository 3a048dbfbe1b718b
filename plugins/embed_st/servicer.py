"""EmbedderProvider over the engine: messages in, messages out, nothing else.

Unlike vector_hnsw's, the engine is awaited: it has its own thread for the model and gives others their turn.
"""

from __future__ import annotations

from typing import Any

import grpc
import hector_plugins_pb2 as pb
from hector_plugins_pb2_grpc import EmbedderProviderServicer

from plugins.embed_st.engine import Engine, Options, Overflow
from shared.errors import CallerError, InvalidArgument, TooLarge, Unsupported
from shared.status import failure

Context = grpc.aio.ServicerContext[Any, Any]

TOO_LARGE_HINTS = {"EmbedBatch": "send fewer texts at once, or ask for fewer dimensions"}

_INPUT_TYPES = {
    pb.INPUT_TYPE_UNSPECIFIED: "",
    pb.INPUT_TYPE_QUERY: "query",
    pb.INPUT_TYPE_DOCUMENT: "document",
}
_OVERFLOWS = {
    pb.TRUNCATE_UNSPECIFIED: Overflow.CUT_RIGHT,
    pb.TRUNCATE_RIGHT: Overflow.CUT_RIGHT,
    pb.TRUNCATE_ERROR: Overflow.ERROR,
}


class Servicer(EmbedderProviderServicer):
    def __init__(self, engine: Engine, *, max_reply_bytes: int) -> None:
        self._engine = engine
        self._max_reply_bytes = max_reply_bytes

    async def EmbedText(self, request: pb.EmbedTextRequest, context: Context) -> pb.EmbedTextResponse:
        try:
            options = _options(request.options)
            (embedding,) = await self._engine.embed([request.text], options, field=lambda _: "text")
            return pb.EmbedTextResponse(
                success=True,
                vector=embedding.vector.tolist(),
                tokens=embedding.tokens,
                truncated=embedding.truncated,
                model=self._engine.model,
            )
        except CallerError as error:
            return failure(pb.EmbedTextResponse(), error)

    async def EmbedBatch(self, request: pb.EmbedBatchRequest, context: Context) -> pb.EmbedBatchResponse:
        try:
            if request.allow_partial:
                raise Unsupported("this version does not have `allow_partial`; leave it unset", field="allow_partial")
            options = _options(request.options)
            self._check_size(len(request.texts), options)
            embeddings = await self._engine.embed(request.texts, options)
            return pb.EmbedBatchResponse(
                success=True,
                embeddings=[
                    pb.Embedding(vector=one.vector.tolist(), tokens=one.tokens, truncated=one.truncated)
                    for one in embeddings
                ],
                total_tokens=sum(one.tokens for one in embeddings),
                model=self._engine.model,
            )
        except CallerError as error:
            return failure(pb.EmbedBatchResponse(), error)

    async def GetDimensions(self, request: pb.GetDimensionsRequest, context: Context) -> pb.GetDimensionsResponse:
        dimensions = self._engine.dimensions
        return pb.GetDimensionsResponse(
            success=True, dimensions=dimensions, model=self._engine.model, supported_dimensions=[dimensions]
        )

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


def _options(options: pb.EmbedOptions) -> Options:
    for name, value, known in (
        ("input_type", options.input_type, pb.InputType.values()),
        ("truncate", options.truncate, pb.Truncate.values()),
        ("long_text", options.long_text, pb.LongText.values()),
    ):
        if value not in known:
            raise InvalidArgument(f"{name} {value} is not one of the contract's", field=f"options.{name}")
    if options.truncate not in _OVERFLOWS:
        raise Unsupported("texts are cut on the right or refused; TRUNCATE_LEFT is not here", field="options.truncate")
    if options.long_text:
        raise Unsupported("this version does not chunk long texts; leave `long_text` unset", field="options.long_text")
    return Options(
        prompt=options.prompt_name or _INPUT_TYPES[options.input_type],
        normalize=options.normalize if options.HasField("normalize") else None,
        dimensions=options.dimensions,
        overflow=_OVERFLOWS[options.truncate],
    )
