"""Texts to embeddings.

One thread runs the model. A call goes through it in batches, and between two of them other calls have their turn, so
a bulk caller does not keep the others waiting for long; a call that is cancelled costs one batch more at most.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import Enum, auto

import numpy as np

from plugins.embed_st.engine.backend import Backend, Floats, SentenceTransformers
from shared.errors import InvalidArgument, Unsupported, quoted


class Overflow(Enum):
    """What happens to a text of more tokens than the model reads."""

    CUT_RIGHT = auto()
    ERROR = auto()


@dataclass(frozen=True)
class Options:
    """`prompt` names one of the model's prompts, "" its default; `query` and `document` are none where it has none.

    `normalize`: None leaves vectors as the model gives them. `dimensions`: 0 leaves them as long as they are;
    otherwise they are cut to that length and, unless `normalize` is False, brought to length 1 again.
    """

    prompt: str = ""
    normalize: bool | None = None
    dimensions: int = 0
    overflow: Overflow = Overflow.CUT_RIGHT


@dataclass(frozen=True)
class Embedding:
    """`vector` of shape (dimensions,); `tokens` that the model read; `truncated`: the text had more than those."""

    vector: Floats
    tokens: int
    truncated: bool


class Engine:
    """`open` before anything else, `close` at the end. `embed` may be awaited by many at once."""

    def __init__(
        self, model: str, *, backend: str = "auto", cache_dir: str = "", device: str = "", batch_size: int = 32
    ) -> None:
        self.model = model
        self._backend_name = "torch" if backend == "auto" else backend
        self._cache_dir = cache_dir
        self._device = device
        self._batch_size = batch_size
        self._inference = ThreadPoolExecutor(max_workers=1, thread_name_prefix="inference")

    def open(self) -> None:
        """Loads the model. Raises StartError."""
        self._backend: Backend = SentenceTransformers(
            self.model, backend=self._backend_name, cache_dir=self._cache_dir, device=self._device
        )
        # The first text is slow, so it is none of a caller's.
        self._backend.encode(["warm up"], 1)

    def close(self) -> None:
        self._inference.shutdown(cancel_futures=True)

    @property
    def dimensions(self) -> int:
        """Length of a vector that is not cut."""
        return self._backend.dimensions

    async def embed(
        self, texts: Sequence[str], options: Options, *, field: Callable[[int], str] = "texts[{}]".format
    ) -> list[Embedding]:
        """One embedding for each text, in their order. Raises InvalidArgument, naming each text at fault.

        `field`: what a text is called in errors, by its index.
        """
        self._check(texts, options, field)
        prompt = self._prompt(options.prompt)
        loop = asyncio.get_running_loop()
        found: list[Embedding | None] = [None] * len(texts)
        # Texts of like length side by side: a batch is padded to its longest.
        order = sorted(range(len(texts)), key=lambda index: len(texts[index]))
        for start in range(0, len(order), self._batch_size):
            part = order[start : start + self._batch_size]
            batch = [prompt + texts[index] for index in part]
            embedded = await loop.run_in_executor(
                self._inference, self._embed_batch, batch, [*map(field, part)], options
            )
            for index, embedding in zip(part, embedded, strict=True):
                found[index] = embedding
        return [embedding for embedding in found if embedding is not None]

    def _embed_batch(self, texts: list[str], names: list[str], options: Options) -> list[Embedding]:
        limit = self._backend.max_tokens
        counts = self._backend.tokens(texts)
        too_long = [name for name, count in zip(names, counts, strict=True) if count > limit]
        if too_long and options.overflow is Overflow.ERROR:
            problems = [(name, f"has more than the {limit} tokens that the model reads") for name in too_long]
            raise InvalidArgument(
                f"{problems[0][0]} {problems[0][1]}; shorten it, or let it be cut with TRUNCATE_RIGHT",
                reason="TEXT_TOO_LONG",
                violations=problems,
            )
        vectors = _shaped(self._backend.encode(texts, self._batch_size), options)
        return [
            Embedding(vector, min(count, limit), count > limit) for vector, count in zip(vectors, counts, strict=True)
        ]

    def _check(self, texts: Sequence[str], options: Options, field: Callable[[int], str]) -> None:
        blank = [(field(index), "is blank") for index, text in enumerate(texts) if not text.strip()]
        if blank:
            more = f" (and {len(blank) - 1} more)" if len(blank) > 1 else ""
            raise InvalidArgument(
                f"{blank[0][0]} is blank{more}; leave such texts out", reason="BLANK_TEXT", violations=blank
            )
        if options.dimensions > self.dimensions:
            raise InvalidArgument(
                f"{self.model} gives {self.dimensions} dimensions, not {options.dimensions}",
                reason="BAD_DIMENSIONS",
                field="options.dimensions",
            )
        if options.normalize is False and self._backend.normalizes:
            raise Unsupported(
                f"{self.model} normalises its vectors itself; leave `normalize` unset", field="options.normalize"
            )

    def _prompt(self, name: str) -> str:
        if not name:
            return self._backend.default_prompt
        prompts = self._backend.prompts
        if name in prompts:
            return prompts[name]
        if name in ("query", "document"):
            return ""
        known = ", ".join(sorted(prompts)) or "none"
        raise InvalidArgument(
            f"{self.model} has no prompt {quoted(name)}; it has {known}",
            reason="UNKNOWN_PROMPT",
            field="options.prompt_name",
        )


def _shaped(vectors: Floats, options: Options) -> Floats:
    cut = vectors[:, : options.dimensions] if options.dimensions else vectors
    again = options.normalize or (options.normalize is None and cut.shape != vectors.shape)
    if not again:
        return cut
    lengths = np.linalg.norm(cut, axis=1, keepdims=True)
    unit: Floats = (cut / np.where(lengths > 0, lengths, 1)).astype(np.float32)
    return unit
