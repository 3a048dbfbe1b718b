"""What a model can, as its provider lists it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable

import grpc
import hector_plugins_pb2 as pb

from shared import logs

from ..engine.chat import Abilities

ABILITIES_FOR = 300.0  # seconds that what ListModels said is believed
UNKNOWN_FOR = 15.0  # seconds until one that failed is asked again
_AGAIN_SECONDS = 0.5  # that a run waits for what is asked again


class Asked:
    """What ListModels said, for a while. Asked once at a time, however many runs want to know."""

    def __init__(self, list_models: Callable[[], Awaitable[Iterable[pb.ModelInfo]]]) -> None:
        self._list_models = list_models
        self._models: dict[str, Abilities] = {}
        self._until = 0.0
        self._asking: asyncio.Task[None] | None = None
        self._is_first = True

    async def of(self, model: str) -> Abilities:
        if time.monotonic() >= self._until:
            if self._asking is None or self._asking.done():
                self._is_first = self._asking is None
                self._asking = asyncio.ensure_future(self._ask())
            # It belongs to no run: one that is cancelled takes nothing from the others that wait.
            await asyncio.wait([self._asking], timeout=None if self._is_first else _AGAIN_SECONDS)
        return self._models.get(model, Abilities())

    async def _ask(self) -> None:
        try:
            models = list(await self._list_models())
        except grpc.aio.AioRpcError as error:
            # What was known stays known.
            self._until = time.monotonic() + UNKNOWN_FOR
            if error.code() is not grpc.StatusCode.UNIMPLEMENTED:
                logs.event("models_unknown", code=error.code().name)
            return
        found = {model.id: _abilities(model) for model in models}
        default = [model for model in models if model.is_default]
        if default or len(found) == 1:
            found[""] = _abilities(default[0] if default else models[0])
        self._models, self._until = found, time.monotonic() + ABILITIES_FOR


def _abilities(model: pb.ModelInfo) -> Abilities:
    # Vision is told of models of which nobody says what else they can.
    is_told = bool(set(model.capabilities) - {"vision"})
    return Abilities(max(0, model.context_length), "tools" in model.capabilities if is_told else None)
