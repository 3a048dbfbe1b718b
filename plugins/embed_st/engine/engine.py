"""Texts to embeddings: what may be asked, tokens, turns at the model, and the vectors as they were asked for."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum, auto
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import TypeVar

import numpy as np

from plugins.embed_st.engine.backends import Floats
from plugins.embed_st.engine.facts import ModelFacts
from plugins.embed_st.engine.model import open_model
from plugins.embed_st.engine.scheduler import Caller, Scheduler
from plugins.embed_st.engine.tokenizer import Side, Tokens
from shared.errors import CallerError, InvalidArgument, Unsupported, quoted

# Texts of a call that are tokenised together, at most; as many more are with the model meanwhile.
_TOGETHER = 256
# Tokenising takes up to 500 bytes of memory for a character, so neither one text nor those together may have more.
_MOST_CHARACTERS = 1_500_000
# Beyond these it takes so long that shorter texts must not wait for it.
_LONG_CHARACTERS = 100_000
# Even blank texts are looked at one by one, in which time nobody else is served.
_MOST_TEXTS = 20_000
# Beyond these many characters tokenising takes longer than a hop to a thread.
_INLINE_CHARACTERS = 4_000


class Overflow(Enum):
    """What happens to a text of more tokens than the model reads."""

    CUT_RIGHT = auto()
    CUT_LEFT = auto()
    ERROR = auto()
    MEAN = auto()
    """It is read whole, in pieces, and its vector is the mean of theirs."""


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


Outcome = Embedding | CallerError
Result = TypeVar("Result")


class Engine:
    """`open` before anything else, `close` at the end. The rest may be called by many tasks at once."""

    def __init__(
        self,
        model: str,
        *,
        backend: str = "auto",
        precision: str = "auto",
        cache_dir: str = "",
        cache_home: Path | None = None,
        device: str = "",
        batch_tokens: int = 1024,
        max_queued: int = 4096,
    ) -> None:
        self.model = model
        self._open = partial(
            open_model,
            model,
            backend=backend,
            precision=precision,
            cache_dir=cache_dir,
            cache_home=cache_home,
            device=device,
        )
        self._batch_tokens, self._max_queued = batch_tokens, max_queued
        self._together = max(1, min(_TOGETHER, max_queued // 2))
        # Long texts have a thread of their own, so that others do not wait behind them.
        self._tokenizing = ThreadPoolExecutor(1, thread_name_prefix="tokenizing")
        self._tokenizing_long = ThreadPoolExecutor(1, thread_name_prefix="tokenizing-long")

    def open(self) -> None:
        """Loads the model, after converting it if that is new. Raises StartError."""
        self._facts, self._tokenizer, self._backend = self._open()
        # The first text is slow, so it is none of a caller's.
        self._backend.run(self._tokenizer.encode(["warm up"]))
        self._scheduler = Scheduler(self._backend.run, batch_tokens=self._batch_tokens, places=self._max_queued)
        self._scheduler.start()

    def close(self) -> None:
        self._scheduler.close()

    @property
    def facts(self) -> ModelFacts:
        return self._facts

    @property
    def backend(self) -> str:
        """torch, openvino or onnx."""
        return self._backend.name

    @property
    def precision(self) -> str:
        """fp32, bf16, fp16 or int8."""
        return self._backend.precision

    @property
    def dimensions(self) -> int:
        """Length of a vector that is not cut."""
        return self._facts.dimensions

    @contextmanager
    def caller(self) -> Iterator[Caller]:
        """One who comes with a text again and again, and has one turn after the other like any caller."""
        with self._scheduler.caller(0) as caller:
            yield caller

    async def embed(
        self,
        texts: Sequence[str],
        options: Options,
        *,
        field: Callable[[int], str] = "texts[{}]".format,
        allow_partial: bool = False,
        caller: Caller | None = None,
    ) -> list[Outcome]:
        """One embedding for each text, in their order. Raises InvalidArgument, naming each text at fault; with
        `allow_partial` a text at fault has its error in its place instead. Raises Overloaded when the queue is full.

        `field`: what a text is called in errors, by its index. `caller`: whose turn it is, if there were calls before.
        """
        self._check(options)
        prompt = self._prompt(options.prompt)
        _check_number(texts)
        huge = {index: _huge(field(index)) for index, text in enumerate(texts) if len(text) > _MOST_CHARACTERS}
        if not allow_partial:
            _raise_first(list(huge.values()))
        blank = {index: _blank(field(index)) for index, text in enumerate(texts) if not text.strip()}
        if not allow_partial:
            _raise_first(list(blank.values()))
        # Equal texts are computed once; those of like length are tokenised together.
        unique = sorted({text for text in texts if text.strip() and len(text) <= _MOST_CHARACTERS}, key=len)
        places = min(len(unique), 2 * self._together)
        if caller is None:
            with self._scheduler.caller(places) as caller:
                found = await self._each(unique, prompt, options, caller, allow_partial)
        else:
            with self._scheduler.places(places):
                found = await self._each(unique, prompt, options, caller, allow_partial)
        too_long = {
            index: self._too_long(field(index)) for index, text in enumerate(texts) if found.get(text, 1) is None
        }
        if not allow_partial:
            _raise_first(list(too_long.values()))
        errors = huge | blank | too_long
        outcomes: list[Outcome] = []
        for index, text in enumerate(texts):
            outcomes.append(found.get(text) or errors[index])
        return outcomes

    async def count(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each text before any cut, the model's default prompt and special tokens included.

        Raises InvalidArgument.
        """
        _check_number(texts)
        _raise_first([_huge(f"texts[{index}]") for index, text in enumerate(texts) if len(text) > _MOST_CHARACTERS])
        found: list[int] = []
        for part in _parts(texts, self._together):
            found += await self._tokenized(part, self._tokenizer.count, part, self._facts.default_prompt)
        return found

    # -- inside -------------------------------------------------------------------------------------------------

    async def _each(
        self, texts: Sequence[str], prompt: str, options: Options, caller: Caller, allow_partial: bool
    ) -> dict[str, Embedding | None]:
        """By text; None for one that is too long. While the model has one part of them, the next is tokenised.

        Without `allow_partial` it ends at the first part with texts that are too long.
        """
        found: dict[str, Embedding | None] = {}
        under_way: deque[tuple[Sequence[str], list[list[Tokens]], asyncio.Future[Floats]]] = deque()

        async def finish() -> None:
            part, pieces, future = under_way.popleft()
            found.update(zip(part, self._embeddings(pieces, await future, options), strict=True))

        for part in _parts(texts, self._together):
            pieces = await self._tokenized(part, self._pieces, part, prompt, options.overflow)
            if options.overflow is Overflow.ERROR:
                found |= {text: None for text, (one,) in zip(part, pieces, strict=True) if one.truncated}
                if not allow_partial and None in found.values():
                    return found
                part = [text for text in part if text not in found]
                pieces = [one for one in pieces if not one[0].truncated]
            if len(under_way) > 1:
                await finish()
            if part:
                under_way.append((part, pieces, caller.submit([tokens for one in pieces for tokens in one])))
        while under_way:
            await finish()
        return found

    async def _tokenized(self, texts: Sequence[str], work: Callable[..., Result], *values: object) -> Result:
        """`work`, which tokenises these texts: in a thread, one call after another, where it takes longer than a hop
        to a thread."""
        # An empty text costs something too.
        characters = sum(map(len, texts)) + 50 * len(texts)
        if characters <= _INLINE_CHARACTERS:
            return work(*values)
        executor = self._tokenizing_long if characters > _LONG_CHARACTERS else self._tokenizing
        return await asyncio.get_running_loop().run_in_executor(executor, work, *values)

    def _pieces(self, texts: Sequence[str], prompt: str, overflow: Overflow) -> list[list[Tokens]]:
        """What the model reads of each text: one piece, or several where it is read whole."""
        if overflow is Overflow.MEAN:
            return [self._tokenizer.windows(text, prompt) for text in texts]
        cut: Side = "left" if overflow is Overflow.CUT_LEFT else "right"
        return [[tokens] for tokens in self._tokenizer.encode(texts, prompt, cut=cut)]

    def _embeddings(self, pieces: Sequence[Sequence[Tokens]], rows: Floats, options: Options) -> list[Embedding]:
        edges = np.cumsum([0, *map(len, pieces)]).tolist()
        vectors = np.stack([_mean(rows[start:end], self._facts.normalizes) for start, end in pairwise(edges)])
        return [
            Embedding(vector, sum(len(one.ids) for one in some), any(one.truncated for one in some))
            for vector, some in zip(_shaped(vectors, options), pieces, strict=True)
        ]

    def _too_long(self, name: str) -> CallerError:
        return InvalidArgument(
            f"{name} has more than the {self._facts.max_tokens} tokens that the model reads; shorten it, or let it be "
            "cut with TRUNCATE_RIGHT",
            reason="TEXT_TOO_LONG",
            field=name,
        )

    def _check(self, options: Options) -> None:
        if options.dimensions > self.dimensions:
            raise InvalidArgument(
                f"{self.model} gives {self.dimensions} dimensions, not {options.dimensions}",
                reason="BAD_DIMENSIONS",
                field="options.dimensions",
            )
        if options.normalize is False and self._facts.normalizes:
            raise Unsupported(
                f"{self.model} normalises its vectors itself; leave `normalize` unset", field="options.normalize"
            )

    def _prompt(self, name: str) -> str:
        if not name:
            return self._facts.default_prompt
        prompts = self._facts.prompts
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


def _check_number(texts: Sequence[str]) -> None:
    if len(texts) > _MOST_TEXTS:
        raise InvalidArgument(
            f"{len(texts)} texts are more than the {_MOST_TEXTS:,} of a call; send fewer at once, or stream them",
            reason="TOO_MANY_TEXTS",
            field="texts",
        )


def _blank(name: str) -> CallerError:
    return InvalidArgument(f"{name} is blank; leave such texts out", reason="BLANK_TEXT", field=name)


def _raise_first(errors: Sequence[CallerError]) -> None:
    """Raises the first of them, which names all the texts at fault."""
    if errors:
        first, more = errors[0], len(errors) - 1
        raise InvalidArgument(
            first.message + (f" (and {more} more)" if more else ""),
            reason=first.reason,
            violations=[violation for error in errors for violation in error.violations],
        )


def _huge(name: str) -> CallerError:
    return InvalidArgument(
        f"{name} has more than {_MOST_CHARACTERS:,} characters; split it", reason="TEXT_TOO_LONG", field=name
    )


def _parts(texts: Sequence[str], together: int) -> Iterator[Sequence[str]]:
    """The texts in their order, up to `together` of them at once, as far as they may be tokenised together."""
    start, characters = 0, 0
    for index, text in enumerate(texts):
        if index - start == together or (index > start and characters + len(text) > _MOST_CHARACTERS):
            yield texts[start:index]
            start, characters = index, 0
        characters += len(text)
    if texts[start:]:
        yield texts[start:]


def _mean(rows: Floats, normalizes: bool) -> Floats:
    """Of a text's pieces."""
    mean: Floats = rows[0] if len(rows) == 1 else rows.mean(axis=0)
    if len(rows) == 1:
        return mean
    length = float(np.linalg.norm(mean))
    unit: Floats = np.asarray(mean / length if normalizes and length > 0 else mean, np.float32)
    return unit


def _shaped(vectors: Floats, options: Options) -> Floats:
    cut = vectors[:, : options.dimensions] if options.dimensions else vectors
    again = options.normalize or (options.normalize is None and cut.shape != vectors.shape)
    if not again:
        return cut
    lengths = np.linalg.norm(cut, axis=1, keepdims=True)
    unit: Floats = (cut / np.where(lengths > 0, lengths, 1)).astype(np.float32)
    return unit
