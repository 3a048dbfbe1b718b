"""EmbedderProvider over the engine: messages in, messages out. What is raised here becomes the reply's error."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import grpc
import hector_plugins_pb2 as pb
from hector_plugins_pb2_grpc import EmbedderProviderServicer

from shared.errors import InvalidArgument
from shared.fields import take_only
from shared.off_loop import threaded

from .engine import Embedded, Engine

Context = grpc.aio.ServicerContext[Any, Any]

# Counted before a request is converted, which takes time.
MOST_ITEMS = {"EmbedBatch": {"texts": 1000}}
TOO_LARGE_HINTS = {"EmbedBatch": "send fewer texts at once"}


class Servicer(EmbedderProviderServicer):
    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    @threaded
    def EmbedText(self, request: pb.EmbedTextRequest, context: Context) -> pb.EmbedTextResponse:
        embedded = self._embed([request.text], request.options, "text")
        return pb.EmbedTextResponse(
            success=True, vector=embedded.vectors[0].tolist(), tokens=embedded.tokens[0], model=self._engine.model
        )

    @threaded
    def EmbedBatch(self, request: pb.EmbedBatchRequest, context: Context) -> pb.EmbedBatchResponse:
        take_only(request, "texts", "options")
        embedded = self._embed(request.texts, request.options, "texts[{}]")
        reply = pb.EmbedBatchResponse(success=True, model=self._engine.model, total_tokens=sum(embedded.tokens))
        for vector, tokens in zip(embedded.vectors.tolist(), embedded.tokens, strict=True):
            reply.embeddings.add(vector=vector, tokens=tokens)
        return reply

    async def GetDimensions(self, request: pb.GetDimensionsRequest, context: Context) -> pb.GetDimensionsResponse:
        dimension = self._engine.dimension
        return pb.GetDimensionsResponse(
            success=True, dimensions=dimension, supported_dimensions=[dimension], model=self._engine.model
        )

    def _embed(self, texts: Sequence[str], options: pb.EmbedOptions, field: str) -> Embedded:
        take_only(options, "input_type", "truncate")  # queries and documents are alike here, and no text is too long
        for index, text in enumerate(texts):
            if not text.strip():
                name = field.format(index)
                raise InvalidArgument(f"{name} is empty; leave it out or send some text", field=name)
        return self._engine.embed(texts)
