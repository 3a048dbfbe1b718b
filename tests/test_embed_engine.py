"""embed_st's engine with a model that counts letters: order, prompts, cutting, lengths, turns, what is refused."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pytest
import tokenizers

from plugins.embed_st.engine import Embedding, Engine, Options, Outcome, Overflow, engine
from plugins.embed_st.engine.tokenizer import Tokenizer
from shared.errors import CallerError, InvalidArgument, Overloaded, StartError, Unsupported
from tests.embed_letters import SECONDS, Letters, letters_engine

Make = Callable[..., Engine]
LONG = "abcdefgh" * 5  # of which 20 letters fit beside the two special tokens


@pytest.fixture
def letters() -> Letters:
    return Letters()


@pytest.fixture
def make(letters: Letters, monkeypatch: pytest.MonkeyPatch) -> Iterator[Make]:
    """An open engine on `letters`."""
    made: list[Engine] = []

    def open_one(**more: Any) -> Engine:
        made.append(letters_engine(monkeypatch, letters, **more))
        return made[-1]

    yield open_one
    letters.gate.set()
    for each in made:
        each.close()


def outcomes(engine: Engine, texts: Sequence[str], options: Options | None = None, **more: Any) -> list[Outcome]:
    return asyncio.run(engine.embed(texts, options or Options(), **more))


def embed(engine: Engine, texts: Sequence[str], options: Options | None = None) -> list[Embedding]:
    found = outcomes(engine, texts, options)
    assert all(isinstance(one, Embedding) for one in found)
    return [one for one in found if isinstance(one, Embedding)]


def counts(text: str) -> list[int]:
    return [text.count(letter) for letter in "abcdefgh"]


def unit(vector: Any) -> Any:
    return np.array(vector) / np.linalg.norm(vector)


# ---------------------------------------------------------------- texts and their order


def test_order(make: Make, letters: Letters) -> None:
    """Embeddings come in the order of the texts, though the model sees texts of like length together."""
    texts = ["ab" * count for count in (9, 1, 8, 2, 7, 3, 6, 4, 5, 10)]
    assert [one.vector.tolist() for one in embed(make(batch_tokens=40), texts)] == [counts(text) for text in texts]
    assert len(letters.batches) > 1
    for batch in letters.batches:
        assert max(map(len, batch)) - min(map(len, batch)) < 9


def test_no_texts(make: Make, letters: Letters) -> None:
    """No texts give no embeddings, and the model is left alone."""
    assert embed(make(), []) == []
    assert letters.batches == []


def test_equal_texts(make: Make, letters: Letters) -> None:
    """Of equal texts in one call one reaches the model, and each has its embedding in its place."""
    texts = ["b", "a", "b", "b", "a"]
    assert [one.vector.tolist() for one in embed(make(), texts)] == [counts(text) for text in texts]
    assert sorted(letters.texts()) == ["a", "b"]


def test_many_texts(make: Make, letters: Letters) -> None:
    """Two thousand texts in one call come back whole and in order, each run once."""
    texts = [f"{number} " + "abc" * (number % 5) for number in range(2000)]
    assert [one.vector.tolist() for one in embed(make(), texts)] == [counts(text) for text in texts]
    assert sorted(letters.texts()) == sorted(texts)


def test_a_lone_text_is_run_at_once(make: Make, letters: Letters) -> None:
    """A call with one text is one run of the model with that text alone."""
    embed(make(), ["cab"])
    assert letters.batches == [["cab"]]


def test_warm(letters: Letters, monkeypatch: pytest.MonkeyPatch) -> None:
    """`open` runs the model once, so that the slow first run is no caller's."""
    runs: list[int] = []
    monkeypatch.setattr(letters, "run", lambda batch: runs.append(len(batch)))
    letters_engine(monkeypatch, letters).close()
    assert runs == [1]


def test_a_model_that_cannot_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    """What open_model says against a model is what `open` raises, and it is told every setting."""
    told: dict[str, Any] = {}

    def refuse(model: str, **settings: Any) -> None:
        told.update(settings, model=model)
        raise StartError("no such model")

    monkeypatch.setattr(engine, "open_model", refuse)
    settings: dict[str, Any] = {"backend": "onnx", "precision": "int8", "cache_dir": "here", "device": "cpu"}
    with pytest.raises(StartError, match="no such model"):
        Engine("name", **settings).open()
    assert told == settings | {"model": "name", "cache_home": None}


# ---------------------------------------------------------------- texts that are refused


@pytest.mark.parametrize("blank", ["", " ", "\t\n", "\u3000"])
def test_blank(make: Make, letters: Letters, blank: str) -> None:
    """Every blank text is named and nothing is embedded."""
    with pytest.raises(InvalidArgument, match=r"^texts\[1\] is blank; leave such texts out \(and 1 more\)$") as caught:
        embed(make(), ["a", blank, "b", blank])
    assert [field for field, _ in caught.value.violations] == ["texts[1]", "texts[3]"]
    assert caught.value.reason == "BLANK_TEXT"
    assert letters.batches == []


def test_what_is_not_blank(make: Make) -> None:
    """Text without letters is a text: NUL, a zero-width space, a combining mark, an unpaired bracket."""
    assert len(embed(make(), ["\0", "\u200b", "\u0301", "]"])) == 4


def test_too_long(make: Make, letters: Letters) -> None:
    """With Overflow.ERROR each text that is too long is named by its place, equal ones too, and nothing is embedded."""
    texts = ["b", LONG, "a", LONG, "c" * 21, "d" * 20]
    with pytest.raises(InvalidArgument, match=r"^texts\[1\] has more than the 22 tokens .* \(and 2 more\)$") as caught:
        embed(make(), texts, Options(overflow=Overflow.ERROR))
    assert caught.value.reason == "TEXT_TOO_LONG"
    assert [field for field, _ in caught.value.violations] == ["texts[1]", "texts[3]", "texts[4]"]
    assert letters.batches == []


def test_too_long_among_many(make: Make, letters: Letters) -> None:
    """Among texts that fill several parts one too long fails the call, and the model is free again."""
    made = make(max_queued=700)
    texts = [*(f"a{number}" for number in range(600)), LONG]
    for _ in range(3):
        with pytest.raises(InvalidArgument, match=r"^texts\[600\] has more"):
            embed(made, texts, Options(overflow=Overflow.ERROR))
    assert embed(made, ["bb"])[0].vector.tolist() == counts("bb")


def test_a_text_that_is_too_long_to_tokenise(make: Make, letters: Letters, monkeypatch: pytest.MonkeyPatch) -> None:
    """A text past the most characters is refused by name before it is tokenised, and with partial fails alone."""
    monkeypatch.setattr(engine, "_MOST_CHARACTERS", 50)
    made = make()
    for work in (made.embed(["a", "b" * 51], Options()), made.count(["a", "b" * 51])):
        with pytest.raises(InvalidArgument, match=r"texts\[1\] has more than 50 characters") as caught:
            asyncio.run(work)
        assert caught.value.reason == "TEXT_TOO_LONG"
    one, other, third = outcomes(made, ["a", "b" * 51, "c" * 50], allow_partial=True)
    assert isinstance(other, InvalidArgument)
    assert isinstance(one, Embedding)
    assert isinstance(third, Embedding)
    assert "b" not in "".join(letters.texts())


def test_texts_that_are_tokenised_together() -> None:
    """Parts keep the order, and none has more texts or, of more than one text, more characters than may be."""
    texts = ["aaaa", "bbbb", "cc", "d", "e" * 10, "", "", "", "", "ffffff", "ggggg"]
    parts = [list(part) for part in engine._parts(texts, 3, 10)]
    assert [text for part in parts for text in part] == texts
    assert parts == [["aaaa", "bbbb", "cc"], ["d"], ["e" * 10, "", ""], ["", "", "ffffff"], ["ggggg"]]
    assert list(engine._parts([], 3, 10)) == []


def test_partial(make: Make) -> None:
    """With allow_partial each bad text has its own error in its place, and the others their embeddings."""
    texts = ["a", "", LONG, "b", " ", LONG, "a"]
    found = outcomes(make(), texts, Options(overflow=Overflow.ERROR), allow_partial=True)
    assert len(found) == len(texts)
    errors = {place: one for place, one in enumerate(found) if isinstance(one, CallerError)}
    assert {place: error.reason for place, error in errors.items()} == {
        1: "BLANK_TEXT",
        2: "TEXT_TOO_LONG",
        4: "BLANK_TEXT",
        5: "TEXT_TOO_LONG",
    }
    assert [error.violations[0][0] for error in errors.values()] == ["texts[1]", "texts[2]", "texts[4]", "texts[5]"]
    for place in (0, 3, 6):
        one = found[place]
        assert isinstance(one, Embedding)
        assert one.vector.tolist() == counts(texts[place])


def test_partial_among_many(make: Make) -> None:
    """allow_partial holds across the parts of a long call, also where a whole part is too long."""
    texts = [f"{number} " + ("a" * 30 if number % 2 or number > 500 else "b") for number in range(900)]
    found = outcomes(make(), texts, Options(overflow=Overflow.ERROR), allow_partial=True)
    for text, one in zip(texts, found, strict=True):
        if "a" in text:
            assert isinstance(one, InvalidArgument)
        else:
            assert isinstance(one, Embedding)
            assert one.vector.tolist() == counts(text)


def test_all_bad(make: Make, letters: Letters) -> None:
    """A call whose texts are all bad has nothing but errors with allow_partial, and the model is left alone."""
    found = outcomes(make(), ["", LONG], Options(overflow=Overflow.ERROR), allow_partial=True)
    assert [type(one) for one in found] == [InvalidArgument, InvalidArgument]
    assert letters.batches == []


def test_the_callers_own_name(make: Make) -> None:
    """An error calls a text what the caller calls it."""
    with pytest.raises(InvalidArgument, match=r"^text is blank") as caught:
        outcomes(make(), [""], field=lambda _: "text")
    assert caught.value.violations[0][0] == "text"


# ---------------------------------------------------------------- texts that are too long


def test_cut_on_the_right(make: Make, letters: Letters) -> None:
    """A text of more tokens than the model reads loses its end and says so; one that just fits does not."""
    long, fits = embed(make(), [LONG, LONG[:20]])
    assert (long.truncated, long.tokens) == (True, 22)
    assert (fits.truncated, fits.tokens) == (False, 22)
    assert long.vector.tolist() == fits.vector.tolist() == counts(LONG[:20])


def test_cut_on_the_left(make: Make) -> None:
    """Cut on the left it loses its beginning, says so all the same, and keeps the prompt."""
    (long,) = embed(make(), [LONG], Options(overflow=Overflow.CUT_LEFT))
    assert (long.truncated, long.tokens, long.vector.tolist()) == (True, 22, counts(LONG[-20:]))
    (long,) = embed(make(), [LONG], Options(overflow=Overflow.CUT_LEFT, prompt="query"))
    assert long.vector.tolist() == counts("a: " + LONG[-17:])


@pytest.mark.parametrize("normalizes", [False, True])
def test_the_mean_of_the_pieces(make: Make, letters: Letters, normalizes: bool) -> None:
    """With Overflow.MEAN a long text is read whole in pieces and its vector is the mean of theirs, of length 1 where
    the model's are; a text that fits is embedded as ever."""
    text = "a" * 10 + "b" * 15 + "cd" * 10  # three pieces of 15
    made = make(normalizes=normalizes)
    long, short = embed(made, [text, "ab"], Options(overflow=Overflow.MEAN))
    mean = np.mean([counts(text[:15]), counts(text[15:30]), counts(text[30:])], axis=0)
    assert long.vector == pytest.approx(unit(mean) if normalizes else mean, abs=1e-6)
    assert (long.truncated, long.tokens) == (False, 45 + 3 * 2)
    assert (short.truncated, short.tokens, short.vector.tolist()) == (False, 4, counts("ab"))
    assert sorted(letters.texts()) == sorted([text[:15], text[15:30], text[30:], "ab"])


def test_the_mean_with_prompt_and_dimensions(make: Make) -> None:
    """Each piece has the prompt before it, and the mean is cut and brought to length 1 like any vector."""
    (one,) = embed(make(), ["b" * 17 + "c" * 17], Options(prompt="query", dimensions=3, overflow=Overflow.MEAN))
    assert one.vector == pytest.approx(unit([1, 8.5, 8.5]), abs=1e-6)


# ---------------------------------------------------------------- vectors


def test_dimensions_cut_and_normalise(make: Make) -> None:
    """A vector that is cut has the length asked for and norm 1, and is the head of the whole one."""
    cut = embed(make(), ["aabbbccc"], Options(dimensions=2))[0].vector
    assert cut == pytest.approx(unit([2, 3]))
    assert cut.dtype == np.float32


def test_dimensions_without_normalising(make: Make) -> None:
    """normalize=False leaves a cut vector's numbers as they were."""
    assert embed(make(), ["aab"], Options(dimensions=2, normalize=False))[0].vector.tolist() == [2, 1]


def test_all_of_the_dimensions(make: Make) -> None:
    """Asking for all the dimensions there are changes nothing."""
    assert embed(make(), ["aab"], Options(dimensions=8))[0].vector.tolist() == counts("aab")


def test_normalize(make: Make) -> None:
    """normalize=True gives norm 1, and leaves a vector of zeros alone."""
    one, zero = embed(make(), ["aab", "z"], Options(normalize=True))
    assert one.vector == pytest.approx(unit(counts("aab")))
    assert not zero.vector.any()


def test_too_many_dimensions(make: Make) -> None:
    """More dimensions than the model has are an error that says how many it has."""
    with pytest.raises(InvalidArgument, match="letters gives 8 dimensions, not 9") as caught:
        embed(make(), ["a"], Options(dimensions=9))
    assert (caught.value.reason, caught.value.violations[0][0]) == ("BAD_DIMENSIONS", "options.dimensions")


def test_not_normalising_a_normaliser(make: Make) -> None:
    """A model that normalises its vectors itself cannot be told not to."""
    with pytest.raises(Unsupported, match="normalises"):
        embed(make(normalizes=True), ["a"], Options(normalize=False))


# ---------------------------------------------------------------- prompts and counts


def test_prompts(make: Make, letters: Letters) -> None:
    """The prompt that was named stands before each text; document is none where the model has none."""
    made = make()
    embed(made, ["x", "y"], Options(prompt="query"))
    embed(made, ["x"], Options(prompt="document"))
    assert sorted(letters.texts()) == ["a: x", "a: y", "x"]


def test_the_default_prompt(make: Make, letters: Letters) -> None:
    """The model's default prompt stands before a text of which nothing is said, and before no other."""
    made = make(default_prompt="d: ")
    for prompt in ("", "query", "document"):
        embed(made, ["x"], Options(prompt=prompt))
    assert letters.batches == [["d: x"], ["a: x"], ["x"]]


def test_a_prompt_does_not_make_up_for_a_blank_text(make: Make) -> None:
    """A blank text is blank whatever the prompt."""
    with pytest.raises(InvalidArgument, match="is blank"):
        embed(make(default_prompt="d: "), [" "])


def test_unknown_prompt(make: Make) -> None:
    """A prompt that the model does not have is an error that names those it has, on one line and not at any length."""
    with pytest.raises(InvalidArgument, match=r"letters has no prompt 'quary'; it has query") as caught:
        embed(make(), ["a"], Options(prompt="quary"))
    assert (caught.value.reason, caught.value.violations[0][0]) == ("UNKNOWN_PROMPT", "options.prompt_name")
    with pytest.raises(InvalidArgument, match=r"^.{,170}; it has none$"):
        embed(make(prompts={}), ["a"], Options(prompt="\n" * 1000))


def test_count(make: Make, letters: Letters) -> None:
    """Tokens are counted before any cut, special ones and the default prompt included; the model is left alone."""
    texts = ["", "a", LONG, "b" * 10_000]
    assert asyncio.run(make().count(texts)) == [2, 3, 42, 10_002]
    assert asyncio.run(make(default_prompt="d: ").count(["a"])) == [6]
    assert asyncio.run(make().count([])) == []
    assert letters.batches == []


# ---------------------------------------------------------------- callers beside one another


def test_turns(make: Make, letters: Letters) -> None:
    """A short call goes between two batches of a bulk call."""
    made = make(batch_tokens=16)

    async def both() -> None:
        letters.hold()
        bulk = asyncio.create_task(made.embed([f"a{number}" for number in range(400)], Options()))
        assert await asyncio.to_thread(letters.began.wait, SECONDS)
        single = asyncio.create_task(made.embed(["b"], Options()))
        await asyncio.sleep(0)
        letters.gate.set()
        await single
        await bulk

    asyncio.run(both())
    (place,) = [place for place, batch in enumerate(letters.batches) if "b" in batch]
    assert place <= 2


def test_cancelled(make: Make, letters: Letters) -> None:
    """A call that is cancelled costs no more than the batch under way, and its places are free."""
    made = make(batch_tokens=16, max_queued=400)

    async def cancel() -> None:
        letters.hold()
        bulk = asyncio.create_task(made.embed([f"a{number}" for number in range(400)], Options()))
        assert await asyncio.to_thread(letters.began.wait, SECONDS)
        with pytest.raises(Overloaded):
            await made.embed(["b"], Options())
        bulk.cancel()
        with pytest.raises(asyncio.CancelledError):
            await bulk
        single = asyncio.create_task(made.embed(["b"], Options()))
        await asyncio.sleep(0)
        letters.gate.set()
        await single

    asyncio.run(cancel())
    assert len(letters.batches) == 2
    assert letters.batches[1] == ["b"]


def test_full(make: Make, letters: Letters) -> None:
    """Where the queue is full a call is refused with a time to wait, at once; a call of any size finds an empty one
    wide enough."""
    made = make(max_queued=3)

    async def calls() -> None:
        letters.hold()
        some = asyncio.create_task(made.embed(["a", "b"], Options()))
        assert await asyncio.to_thread(letters.began.wait, SECONDS)
        with pytest.raises(Overloaded, match="max_queued is 3") as caught:
            await made.embed(["c", "d"], Options())
        assert caught.value.retry_after == 1
        last = asyncio.create_task(made.embed(["e", "e", "e"], Options()))  # one text, thrice
        await asyncio.sleep(0)
        letters.gate.set()
        await asyncio.gather(some, last)
        assert len(await made.embed([f"f{number}" for number in range(1000)], Options())) == 1000

    asyncio.run(calls())
    assert not {"c", "d"} & set(letters.texts())


def test_a_bulk_call_holds_back(make: Make, letters: Letters) -> None:
    """A call of thousands of texts has a few hundred in the queue at a time, so that others find a place."""
    made = make(max_queued=600)

    async def calls() -> None:
        letters.hold()
        bulk = asyncio.create_task(made.embed([f"a{number}" for number in range(5000)], Options()))
        assert await asyncio.to_thread(letters.began.wait, SECONDS)
        single = asyncio.create_task(made.embed(["b"], Options()))
        await asyncio.sleep(0)
        letters.gate.set()
        await single
        assert len(await bulk) == 5000

    asyncio.run(calls())


def test_an_exception_in_the_model(make: Make, letters: Letters) -> None:
    """What the model raises fails that call, and the next one is served."""
    made = make()
    letters.fails_on = "h"
    with pytest.raises(RuntimeError):
        embed(made, ["a", "h"])
    assert embed(made, ["b"])[0].vector.tolist() == counts("b")


def test_a_caller_with_several_calls(make: Make) -> None:
    """A caller itself takes no place; each of its calls takes those of its texts."""
    made = make(max_queued=3)

    async def calls() -> list[list[Outcome]]:
        with made.caller() as caller, made.caller():
            return list(
                await asyncio.gather(*(made.embed([text], Options(), caller=caller) for text in ("a", "b", "c")))
            )

    found = [one for (one,) in asyncio.run(calls())]
    assert [one.vector.tolist() for one in found if isinstance(one, Embedding)] == [counts(text) for text in "abc"]


# ---------------------------------------------------------------- what a request costs


class Counted(Sequence[str]):
    """Texts that count how often one is taken out, as each time costs something in a message."""

    def __init__(self, texts: Sequence[str]) -> None:
        self._texts, self.taken = texts, 0

    def __len__(self) -> int:
        return len(self._texts)

    def __getitem__(self, at: Any) -> Any:
        self.taken += 1
        return self._texts[at]


@pytest.mark.parametrize("partial", [False, True])
def test_texts_are_taken_out_once(make: Make, partial: bool) -> None:
    """Each text of a request is taken out of it once; of a request with too many none is."""
    made = make()
    texts = Counted(["a", "bb", "a", *(["c" * 300] * 50)])
    found = asyncio.run(made.embed(texts, Options(), allow_partial=partial))
    assert (len(found), texts.taken) == (53, 53)
    assert len(asyncio.run(made.count(texts))) == 53
    assert texts.taken == 106
    for work in (made.embed, made.count):
        many = Counted(["a"] * 20_001)
        with pytest.raises(InvalidArgument, match="20001 texts are more than the 20,000"):
            asyncio.run(work(many, *([Options()] if work == made.embed else [])))
        assert many.taken == 0


def test_others_have_their_turn(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """While a call's texts are looked at, and its errors made, other tasks go on."""
    monkeypatch.setattr(engine, "_AT_ONCE", 1000)
    made, turns = make(), 0

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async def call() -> list[Any]:
        beside = asyncio.ensure_future(other())
        found = await made.embed([" "] * 1000, Options(), allow_partial=True)
        beside.cancel()
        return found

    assert len(asyncio.run(call())) == 1000
    assert turns > 100 + 10  # a text counts for 200 characters at least, and errors are made by the hundred


def test_nothing_that_the_model_reads(make: Make, letters: Letters, monkeypatch: pytest.MonkeyPatch) -> None:
    """A text in which the tokenizer finds nothing, of a model without special tokens, is a caller's error, by name."""
    made = make()
    bare = tokenizers.Tokenizer(tokenizers.models.WordLevel({chr(code): code for code in range(127)} | {"?": 63}, "?"))
    bare.pre_tokenizer = tokenizers.pre_tokenizers.Split(tokenizers.Regex("."), "isolated")
    bare.normalizer = tokenizers.normalizers.Replace("z", "")
    monkeypatch.setattr(made, "_tokenizer", Tokenizer(bare, 22))
    for overflow in Overflow:
        for texts in (["abab", "zz"], ["ab" * 60_000, "z" * 60_000]):
            if overflow is Overflow.ERROR and len(texts[0]) > 22:
                continue
            options = Options(overflow=overflow)
            with pytest.raises(InvalidArgument, match=r"^texts\[1\] has nothing that the model reads; leave"):
                asyncio.run(made.embed(texts, options))
            good, bad = asyncio.run(made.embed(texts, options, allow_partial=True))
            assert isinstance(good, Embedding)
            assert isinstance(bad, InvalidArgument)
            assert (bad.reason, bad.violations[0][0]) == ("BLANK_TEXT", "texts[1]")
    assert not any("" in batch for batch in letters.batches)


def test_few_long_texts_are_read_whole_at_once(make: Make, letters: Letters, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many callers have a long text read whole, the tokens of a few at a time are held, not those of all; and
    each is answered, with not all of its pieces in the queue at once."""
    monkeypatch.setattr(engine, "_MOST_WHOLE", 2)
    monkeypatch.setattr(engine, "_LONG_CHARACTERS", 4000)
    monkeypatch.setattr(engine, "_PIECES", 50)
    made = make()
    tokenized: list[str] = []
    windows = made._tokenizer.windows

    def counted(text: str, prompt: str) -> Any:
        tokenized.append(text)
        return windows(text, prompt)

    monkeypatch.setattr(made._tokenizer, "windows", counted)
    texts = [letter * 4200 for letter in "abcdef"]
    whole = Options(overflow=Overflow.MEAN)

    async def calls() -> list[Any]:
        letters.hold()
        tasks = [asyncio.ensure_future(made.embed([text, text[0]], whole)) for text in texts]
        async with asyncio.timeout(SECONDS):
            # What is tokenised is queued a little later.
            while len(tokenized) < 4 or not made._scheduler._queue:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        for _ in range(20):
            await asyncio.sleep(0.01)
        assert len(tokenized) == 4  # two callers' texts
        assert len(made._scheduler._queue) <= 2 * 50
        letters.gate.set()
        return await asyncio.gather(*tasks)

    for place, (long, short) in enumerate(asyncio.run(calls())):
        assert long.tokens == 4200 + 2 * 210
        assert long.vector.tolist() == [20.0 * (at == place) for at in range(8)]
        assert short.vector.tolist() == [1.0 * (at == place) for at in range(8)]
