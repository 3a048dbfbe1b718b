"""The servicer of a process that only reads (`--reader`): what a writer answers in the event loop from memory may here
have to wait until memory is brought up."""

from __future__ import annotations

import hector_plugins_pb2 as pb

from shared.errors import CallerError
from shared.status import failure

from .servicer import Context, Servicer


class ReaderServicer(Servicer):
    async def ListAliases(self, request: pb.ListAliasesRequest, context: Context) -> pb.ListAliasesResponse:
        try:
            aliases = await self.pack(self._engine.list_aliases, request.collection)
            return pb.ListAliasesResponse(
                success=True, aliases=[pb.Alias(alias=alias, collection=target) for alias, target in aliases]
            )
        except CallerError as error:
            return failure(pb.ListAliasesResponse(), error)

    async def CountVectors(self, request: pb.CountVectorsRequest, context: Context) -> pb.CountVectorsResponse:
        if request.HasField("filter"):
            return await super().CountVectors(request, context)
        try:
            count = await self.pack(self._engine.count, request.collection)
            return pb.CountVectorsResponse(success=True, count=count)
        except CallerError as error:
            return failure(pb.CountVectorsResponse(), error)
