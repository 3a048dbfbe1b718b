"""Texts to embeddings: what may be asked, tokens, turns at the model, and the vectors as they were asked for."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import Enum, auto
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np

from shared.errors import CallerError, FailedPrecondition, InvalidArgument, Unsupported, quoted
from shared.off_loop import in_thread

from .backends import Floats
from .facts import ModelFacts
from .model import open_model
from .scheduler import Caller, Scheduler
from .tokenizer import Side, Tokens
from .worker import Worker

# Texts of a call that are tokenised together, at most; as many more are with the model meanwhile.
_TOGETHER = 256
# Tokenising takes up to 500 bytes of memory for a character, so neither one text nor those together may have more.
_MOST_CHARACTERS = 1_500_000
# Beyond these it takes so long that shorter texts must not wait for it.
_LONG_CHARACTERS = 100_000
# Of a call. Even blank texts are looked at one by one.
MOST_TEXTS = 20_000
# Characters that are looked at before others have their turn; a text counts for at least so many.
_AT_ONCE, _AT_LEAST = 1_000_000, 200
# Texts at fault that an error names one by one.
_MOST_NAMED = 100
# Long texts that are read whole keep all of their tokens until the model has had them, so only so many parts of calls
# are at it at once, and of each so many pieces wait for the model.
_MOST_WHOLE, _PIECES = 16, 1024
# Beyond these many characters tokenising takes longer than a hop to a thread; where many callers at once are answered
# in the time of one, much of the event loop's time before that.
_INLINE_CHARACTERS, _INLINE_CHARACTERS_OF_MANY = 4_000, 300


class Overflow(Enum):
    """What happens to a text of more tokens than the model reads."""

    CUT_RIGHT = auto()
    CUT_LEFT = auto()
    ERROR = auto()
    MEAN = auto()
    """It is read whole, in pieces, and its vector is the mean of theirs."""


class Fault(Enum):
    """Why a text is not embedded."""

    HUGE = auto()
    BLANK = auto()
    TOO_LONG = auto()
    EMPTY = auto()
    """The model's tokenizer finds nothing in it, such as in control characters."""
    NOT_FINITE = auto()
    """The model's vector of it has NaN or infinity in it."""


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


class Embedding(NamedTuple):
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
        batch_tokens: int = 0,
        max_queued: int = 4096,
        on_lost: Callable[[Exception], None] = lambda _: None,
    ) -> None:
        """`on_lost` hears, in a thread of the engine, that the GPU failed again and again."""
        self.model, self._on_lost = model, on_lost
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
        self._tokenizing_long = Worker("tokenizing-long")
        self._whole = asyncio.Semaphore(_MOST_WHOLE)

    def open(self) -> None:
        """Loads the model, after converting it if that is new. Raises StartError."""
        self._facts, self._tokenizer, self._backend = self._open()
        self._tokenizing = Worker("tokenizing", self._backend.tokenizing)
        # The first text is slow, so it is none of a caller's.
        self._backend.run(self._tokenizer.encode(["warm up"]))
        self._scheduler = Scheduler(
            self._backend.launch,
            batch_tokens=min(self._batch_tokens or self._backend.batch_tokens, self._backend.most_tokens),
            places=self._max_queued,
            under_way=self._backend.under_way,
            most_texts=self._backend.most_texts,
            on_lost=self._on_lost,
        )
        self._scheduler.start()

    def close(self) -> None:
        self._scheduler.close()
        self._tokenizing.close()
        self._tokenizing_long.close()

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

        `field`: what a text is called in errors, by its index. `caller`: whose turn it is, if there were calls before;
        then it waits for places in the queue, and is never Overloaded.
        """
        self._check(options)
        prompt = self._prompt(options.prompt)
        _check_number(texts)
        read = await _read(texts)
        faults = dict(read.faults)
        if not allow_partial:
            self._raise_first(faults, field)
        # Equal texts are computed once; those of like length are tokenised together.
        unique = sorted(read.unique, key=len)
        places = min(len(unique), 2 * self._together)
        if caller is None:
            with self._scheduler.caller(places) as caller:
                found = await self._each(unique, prompt, options, caller, allow_partial)
        else:
            async with self._scheduler.places(places):
                found = await self._each(unique, prompt, options, caller, allow_partial)
        for index, text in enumerate(read.texts):
            if isinstance(fault := found.get(text), Fault):
                faults[index] = fault
        if not allow_partial:
            self._raise_first(faults, field)
        outcomes: list[Outcome] = []
        for index, text in enumerate(read.texts):
            if index % _MOST_NAMED == 0 and faults:
                await asyncio.sleep(0)  # an error takes a while to make
            outcome = found.get(text)
            outcomes.append(outcome if isinstance(outcome, Embedding) else self._error(faults[index], field(index)))
        return outcomes

    async def count(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each text before any cut, the model's default prompt and special tokens included.

        Raises InvalidArgument.
        """
        _check_number(texts)
        read = await _read(texts)
        self._raise_first(
            {index: fault for index, fault in read.faults.items() if fault is Fault.HUGE}, "texts[{}]".format
        )
        found: list[int] = []
        for part in _parts(read.texts, self._together, _MOST_CHARACTERS):
            found += await self._tokenized(part, partial(self._tokenizer.count, prompt=self._facts.default_prompt))
        return found

    # -- inside -------------------------------------------------------------------------------------------------

    async def _each(
        self, texts: Sequence[str], prompt: str, options: Options, caller: Caller, allow_partial: bool
    ) -> dict[str, Embedding | Fault]:
        """By text. While the model has one part of them, the next is tokenised.

        Without `allow_partial` it ends at the first part with such texts.
        """
        found: dict[str, Embedding | Fault] = {}
        under_way: deque[tuple[Sequence[str], list[list[Tokens]], asyncio.Future[Floats]]] = deque()

        async def finish() -> None:
            part, pieces, future = under_way.popleft()
            found.update(zip(part, self._embeddings(pieces, await future, options), strict=True))

        for part in _parts(texts, self._together, _MOST_CHARACTERS):
            if options.overflow is Overflow.MEAN and sum(map(len, part)) > _LONG_CHARACTERS:
                while under_way:  # whoever waits here holds nothing that others wait for
                    await finish()
                async with self._whole:
                    found |= await self._read_whole(part, prompt, options, caller)
                continue
            pieces = await self._tokenized(part, partial(self._pieces, prompt=prompt, overflow=options.overflow))
            faults = {text: fault for text, one in zip(part, pieces, strict=True) if (fault := _fault(one, options))}
            if faults:
                found |= faults
                if not allow_partial:
                    return found
                pieces = [one for text, one in zip(part, pieces, strict=True) if text not in faults]
                part = [text for text in part if text not in faults]
            if len(under_way) > 1:
                await finish()
            if part:
                under_way.append((part, pieces, caller.submit([tokens for one in pieces for tokens in one])))
        while under_way:
            await finish()
        return found

    async def _read_whole(
        self, texts: Sequence[str], prompt: str, options: Options, caller: Caller
    ) -> dict[str, Embedding | Fault]:
        """Long texts, each in many pieces: not all of them are in the queue at once, and what looks at each does so in
        a thread, for a model that reads few tokens makes 50,000 of a megabyte."""
        pieces = await self._tokenized(texts, partial(self._pieces, prompt=prompt, overflow=options.overflow))
        tokens = await in_thread(_with_tokens, pieces)
        rows = [await caller.submit(tokens[start : start + _PIECES]) for start in range(0, len(tokens), _PIECES)]
        readable = [(text, one) for text, one in zip(texts, pieces, strict=True) if len(one[0].ids)]
        found: dict[str, Embedding | Fault] = dict.fromkeys(texts, Fault.EMPTY)
        if rows:
            embeddings = await in_thread(self._of_parts, [one for _, one in readable], rows, options)
            found |= {text: embedding for (text, _), embedding in zip(readable, embeddings, strict=True)}
        return found

    async def _tokenized(self, texts: Sequence[str], work: Callable[[Sequence[str]], list[Result]]) -> list[Result]:
        """What `work`, which tokenises, makes of each text: in a thread, one call after another, where it takes longer
        than a hop to a thread; in several, each with some of the texts, where the model leaves them the cores."""
        threads, characters = self._backend.tokenizing, _characters(texts)
        if characters <= (_INLINE_CHARACTERS if threads == 1 else _INLINE_CHARACTERS_OF_MANY):
            return work(texts)
        if threads == 1 or len(texts) == 1:
            return await self._in_thread(texts, work)
        share = max(_INLINE_CHARACTERS, characters // threads)
        results = await asyncio.gather(*(self._in_thread(part, work) for part in _parts(texts, len(texts), share)))
        return [result for part in results for result in part]

    async def _in_thread(self, texts: Sequence[str], work: Callable[[Sequence[str]], list[Result]]) -> list[Result]:
        characters = _characters(texts)
        worker = self._tokenizing_long if characters > _LONG_CHARACTERS else self._tokenizing
        return await worker.run(work, texts, size=characters)

    def _pieces(self, texts: Sequence[str], prompt: str, overflow: Overflow) -> list[list[Tokens]]:
        """What the model reads of each text: one piece, or several where it is read whole."""
        if overflow is Overflow.MEAN:
            return [self._tokenizer.windows(text, prompt) for text in texts]
        cut: Side = "left" if overflow is Overflow.CUT_LEFT else "right"
        return [[tokens] for tokens in self._tokenizer.encode(texts, prompt, cut=cut)]

    def _of_parts(
        self, pieces: Sequence[Sequence[Tokens]], rows: Sequence[Floats], options: Options
    ) -> list[Embedding | Fault]:
        return self._embeddings(pieces, np.concatenate(rows), options)

    def _embeddings(
        self, pieces: Sequence[Sequence[Tokens]], rows: Floats, options: Options
    ) -> list[Embedding | Fault]:
        vectors = rows
        if len(rows) > len(pieces):
            edges = np.cumsum([0, *map(len, pieces)]).tolist()
            vectors = np.stack([_mean(rows[start:end], self._facts.normalizes) for start, end in pairwise(edges)])
        finite = np.asarray(np.isfinite(vectors).all(axis=1)).tolist()
        return [
            Embedding(vector, *_read_of(some)) if is_finite else Fault.NOT_FINITE
            for vector, some, is_finite in zip(_shaped(vectors, options), pieces, finite, strict=True)
        ]

    def _error(self, fault: Fault, name: str) -> CallerError:
        what = {
            Fault.HUGE: f"has more than {_MOST_CHARACTERS:,} characters; split it",
            Fault.BLANK: "is blank; leave such texts out",
            Fault.TOO_LONG: f"has more than the {self._facts.max_tokens} tokens that the model reads; shorten it, or "
            "let it be cut with TRUNCATE_RIGHT",
            Fault.EMPTY: "has nothing that the model reads; leave such texts out",
            Fault.NOT_FINITE: "gets NaN or infinity from the model; leave it out, or set `precision` to fp32",
        }[fault]
        if fault is Fault.NOT_FINITE:
            return FailedPrecondition(f"{name} {what}", reason="NOT_FINITE")
        long = fault in (Fault.HUGE, Fault.TOO_LONG)
        return InvalidArgument(f"{name} {what}", reason="TEXT_TOO_LONG" if long else "BLANK_TEXT", field=name)

    def _raise_first(self, faults: Mapping[int, Fault], name: Callable[[int], str]) -> None:
        """Raises the first one's error, which names the others of its kind too. Those that are huge come first."""
        if not faults:
            return
        for fault in Fault:
            if indexes := [index for index, one in faults.items() if one is fault]:
                errors = [self._error(fault, name(index)) for index in indexes[:_MOST_NAMED]]
                first, more = errors[0], len(indexes) - 1
                message = first.message + (f" (and {more} more)" if more else "")
                if fault is Fault.NOT_FINITE:
                    raise FailedPrecondition(message, reason=first.reason)
                raise InvalidArgument(
                    message,
                    reason=first.reason,
                    violations=[violation for error in errors for violation in error.violations],
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
    if len(texts) > MOST_TEXTS:
        raise InvalidArgument(
            f"{len(texts)} texts are more than the {MOST_TEXTS:,} of a call; send fewer at once, or stream them",
            reason="TOO_MANY_ITEMS",
            field="texts",
        )


@dataclass
class _Read:
    """`texts` as they came, "" in place of one that is huge; `unique`: those without a fault."""

    texts: list[str] = field(default_factory=list)
    faults: dict[int, Fault] = field(default_factory=dict)
    unique: set[str] = field(default_factory=set)


async def _read(texts: Sequence[str]) -> _Read:
    """Takes each text out of a message once, since that makes it anew, and lets others have their turn meanwhile."""
    read, characters = _Read(), 0
    for index in range(len(texts)):
        text = texts[index]
        characters += max(len(text), _AT_LEAST)
        if characters > _AT_ONCE:
            characters = 0
            await asyncio.sleep(0)
        if len(text) > _MOST_CHARACTERS:
            read.faults[index] = Fault.HUGE
            text = ""
        elif not text or text.isspace():
            read.faults[index] = Fault.BLANK
        else:
            read.unique.add(text)
        read.texts.append(text)
    return read


def _fault(pieces: Sequence[Tokens], options: Options) -> Fault | None:
    """What is wrong with a text that came to these pieces."""
    if options.overflow is Overflow.ERROR and pieces[0].truncated:
        return Fault.TOO_LONG
    return None if len(pieces[0].ids) else Fault.EMPTY


def _with_tokens(pieces: Sequence[Sequence[Tokens]]) -> list[Tokens]:
    return [piece for one in pieces for piece in one if len(piece.ids)]


def _read_of(pieces: Sequence[Tokens]) -> tuple[int, bool]:
    """Tokens that the model read of a text, and whether it had more."""
    if len(pieces) == 1:
        read = len(pieces[0].ids)
        return read, pieces[0].count > read
    return sum(len(piece.ids) for piece in pieces), any(piece.truncated for piece in pieces)


def _characters(texts: Sequence[str]) -> int:
    """As far as they cost; an empty text costs something too."""
    return sum(map(len, texts)) + 50 * len(texts)


def _parts(texts: Sequence[str], together: int, most: int) -> Iterator[Sequence[str]]:
    """The texts in their order, up to `together` of them at once, and of up to so many characters where they are more
    than one."""
    start, characters = 0, 0
    for index, text in enumerate(texts):
        if index - start == together or (index > start and characters + len(text) > most):
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
