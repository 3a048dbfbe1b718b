"""What holds for every EmbedderProvider, whatever its model: nothing here asks what a vector means."""

from __future__ import annotations

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import hector_plugins_pb2 as pb

from host.check.claims import Claims, expect
from host.check.subject import DOMAIN, Subject, of_status
from shared.errors import Code

claims = Claims("embedder")
ALIKE = 0.999  # cosine of two vectors of one text; batches and half precision change the last digits
ORDER = "`embeddings` has exactly the order and length of `texts`."
BLANK = "Empty or blank text: INVALID_ARGUMENT."
LENGTH = "GetDimensions: floats a vector."
TEXTS = (
    "The cat sleeps on the warm roof.",
    "Quarterly revenue rose by eleven percent.",
    "x",
    "A write that was acknowledged is still there after a power loss, and the next search finds it.",
    "Fünf süße Äpfel, 五个苹果, пять яблок 🍏",
    "def add(a, b):\n    return a + b\n",
    "Is there life on Mars?",
    "lorem " * 40,
)
BLANKS = {"an empty text": "", "a text of blanks": "   ", "a text of line ends": " \n\t\n"}


def embed(check: Subject, text: str, **options: Any) -> Any:
    request = pb.EmbedTextRequest(text=text)
    if options:
        request.options.CopyFrom(pb.EmbedOptions(**options))
    return check.ok("EmbedText", request)


def batch(check: Subject, texts: Sequence[str], **options: Any) -> Any:
    request = pb.EmbedBatchRequest(texts=texts)
    if options:
        request.options.CopyFrom(pb.EmbedOptions(**options))
    reply = check.ok("EmbedBatch", request)
    expect(len(reply.embeddings) == len(texts), f"{len(texts)} texts have {len(reply.embeddings)} embeddings", reply)
    return reply


def cosine(a: Sequence[float], b: Sequence[float]) -> float:
    """Of two vectors of one length; 0 where one of them is zero. Raises Broken where the lengths differ."""
    expect(len(a) == len(b), f"two vectors of one model have {len(a)} and {len(b)} floats")
    product = math.hypot(*a) * math.hypot(*b)
    return sum(x * y for x, y in zip(a, b, strict=True)) / product if product else 0.0


def usable(vector: Sequence[float], reply: Any) -> None:
    expect(len(vector) > 0, "the vector is empty", reply)
    expect(all(map(math.isfinite, vector)), "the vector holds NaN or infinity", reply)
    expect(any(vector), "the vector is zero", reply)


# ---------------------------------------------------------------- the guide


@claims.guide("The dimension is told, and every vector has it.", LENGTH)
def dimensions(check: Subject) -> None:
    told = check.ok("GetDimensions", pb.GetDimensionsRequest()).dimensions
    expect(told > 0, f"the dimension is {told}")
    for text in TEXTS:
        reply = embed(check, text)
        expect(len(reply.vector) == told, f"the dimension is {told} and a vector has {len(reply.vector)} floats", reply)
    for embedding in batch(check, TEXTS).embeddings:
        expect(len(embedding.vector) == told, f"the dimension is {told}, and in a batch {len(embedding.vector)}")


@claims.guide("A vector is finite and not zero.", "A vector can be stored and compared: NaN, infinity and zero cannot.")
def finite(check: Subject) -> None:
    for text in (*TEXTS, "?", "0", "the the the", "\u200b.", "🍏"):
        reply = embed(check, text)
        usable(reply.vector, reply)


@claims.guide(
    "One text has one vector, however often it is asked for.", "One model embeds; its vectors can be compared."
)
def repeatable(check: Subject) -> None:
    for text in TEXTS[:4]:
        first, second = embed(check, text), embed(check, text)
        value = cosine(first.vector, second.vector)
        expect(value > ALIKE, f"the same text twice has vectors of cosine {value:.4f}", second)


@claims.guide("Different texts have different vectors.", "One text, one vector.")
def distinct(check: Subject) -> None:
    reply = batch(check, TEXTS)
    for number, first in enumerate(reply.embeddings):
        for other in range(number):
            value = cosine(first.vector, reply.embeddings[other].vector)
            expect(value < ALIKE, f"texts {other} and {number} have the same vector", reply)


@claims.guide(
    "A word at the end of a text counts, and so does the order of letters.",
    "The whole text is read, up to the model's length.",
)
def end_counts(check: Subject) -> None:
    pairs = (
        ("the answer to the question is yes", "the answer to the question is submarine"),
        ("listen", "silent"),
        ("a note in file 12", "a note in file 97"),
    )
    for one, other in pairs:
        value = cosine(embed(check, one).vector, embed(check, other).vector)
        expect(value < 0.99999, f"{one!r} and {other!r} have the same vector")


@claims.guide("A batch gives a vector for each text, in the order of the texts.", ORDER)
def batch_order(check: Subject) -> None:
    reply = batch(check, TEXTS)
    for number, text in enumerate(TEXTS):
        value = cosine(embed(check, text).vector, reply.embeddings[number].vector)
        expect(
            value > ALIKE, f"embedding {number} of the batch is not that of text {number} (cosine {value:.4f})", reply
        )


@claims.guide("The order of a batch is not that of the lengths of its texts.", ORDER)
def batch_of_lengths(check: Subject) -> None:
    texts = ["word " * 60, "a", "b " * 20, "cc", "d " * 40, "e", "word " * 59, "f " * 10]
    alone = [embed(check, text).vector for text in texts]
    for arranged in (texts, texts[::-1]):
        reply = batch(check, arranged)
        for number, text in enumerate(arranged):
            value = cosine(alone[texts.index(text)], reply.embeddings[number].vector)
            expect(value > ALIKE, f"embedding {number} is not that of text {number} (cosine {value:.4f})", reply)


@claims.guide("A text that comes twice in a batch has two embeddings.", ORDER)
def batch_twice(check: Subject) -> None:
    texts = [TEXTS[0], TEXTS[1], TEXTS[0], TEXTS[0]]
    reply = batch(check, texts)
    for number in (2, 3):
        value = cosine(reply.embeddings[0].vector, reply.embeddings[number].vector)
        expect(value > ALIKE, "the same text has another vector further down in the batch", reply)
    expect(cosine(reply.embeddings[0].vector, reply.embeddings[1].vector) < ALIKE, "two texts have one vector", reply)


@claims.guide("A batch of no texts is a success without embeddings.", "No texts: success and none.")
def batch_of_none(check: Subject) -> None:
    batch(check, [])


@claims.guide("A batch of one is like the text alone.", ORDER)
def batch_of_one(check: Subject) -> None:
    reply = batch(check, TEXTS[:1])
    expect(cosine(reply.embeddings[0].vector, embed(check, TEXTS[0]).vector) > ALIKE, "the vectors differ", reply)


@claims.guide("A hundred texts in one call have a hundred vectors, each its own.", ORDER)
def batch_of_many(check: Subject) -> None:
    texts = [f"note number {number}" for number in range(100)]
    reply = batch(check, texts)
    for number in (0, 1, 37, 63, 64, 99):
        value = cosine(embed(check, texts[number]).vector, reply.embeddings[number].vector)
        expect(value > ALIKE, f"embedding {number} is not that of text {number} (cosine {value:.4f})", reply)


@claims.guide("An empty text is refused, and so is a blank one.", BLANK)
def blank_text(check: Subject) -> None:
    for what, text in BLANKS.items():
        refusal = check.refused("EmbedText", pb.EmbedTextRequest(text=text), what)
        expect(not refusal.reply.vector, f"{what}: the failure has a vector", refusal.reply)


@claims.guide("A batch with a blank text among others is refused as a whole, and says which it is.", BLANK)
def blank_in_batch(check: Subject) -> None:
    for what, text in BLANKS.items():
        request = pb.EmbedBatchRequest(texts=[TEXTS[0], TEXTS[1], text, TEXTS[2]])
        refusal = check.refused("EmbedBatch", request, f"{what} in a batch")
        expect(not refusal.reply.embeddings, f"{what} in a batch: the failure has embeddings", refusal.reply)
        named = "2" in refusal.message or any("2" in name for name in refusal.fields)
        expect(named, f"{what} in a batch: the error does not say that it is texts[2]", refusal.reply)


@claims.guide("A text far longer than any model reads has a vector.", "Text is cut on the right by default.")
def long_text(check: Subject) -> None:
    reply = embed(check, "The quick brown fox jumps over the lazy dog. " * 1500)
    usable(reply.vector, reply)


@claims.guide("Any text has a vector: control characters, emoji, one letter, right-to-left.", "Strings are UTF-8.")
def odd_texts(check: Subject) -> None:
    odd = [
        "\u0000",
        "a\u0000b",
        "\u0007bell",
        "🍏🍎",
        "שלום עולם",
        "\ufeffmark",
        "e\u0301",
        "\U0010ffff",
        "'\"\\;--",
        "[PAD][MASK]</s>",
    ]
    for text in odd:
        reply = embed(check, f"{text} and more")
        usable(reply.vector, reply)


@claims.guide("Calls side by side each get the vector of their own text.", "Each request has its own reply.")
def parallel(check: Subject) -> None:
    texts = [f"{text} {number}" for number in range(4) for text in TEXTS[:5]]
    expected = {text: embedding.vector for text, embedding in zip(texts, batch(check, texts).embeddings, strict=True)}
    with ThreadPoolExecutor(8) as pool:
        for text, reply in zip(texts, pool.map(lambda text: embed(check, text), texts), strict=True):
            nearest = max(texts, key=lambda other: cosine(expected[other], reply.vector))
            same = cosine(expected[text], reply.vector) > ALIKE
            expect(same, f"with others at the same time {text!r} got the vector of {nearest!r}", reply)


@claims.guide("A failed call does not change the next.", "Each request has its own reply.")
def failure_is_over(check: Subject) -> None:
    before = embed(check, TEXTS[0])
    check.refused("EmbedText", pb.EmbedTextRequest(text=""), "an empty text")
    after = embed(check, TEXTS[0])
    expect(cosine(before.vector, after.vector) > ALIKE, "the vector of a text is another after a failed call", after)


@claims.guide("Bytes that are no message do no harm.", "What proto3 refuses gRPC answers; the server goes on.")
def broken_bytes(check: Subject) -> None:
    for data in (b"\x0a\x02\xff\xfe", b"\xff" * 40, b"\x0a\xff\xff\xff\xff\x0f"):
        answer = check.raw("EmbedText", data)
        taken = isinstance(answer, bytes) and pb.EmbedTextResponse.FromString(answer).success
        expect(not taken, f"the bytes {data[:8].hex()} were taken for a text")
    embed(check, TEXTS[0])


# ---------------------------------------------------------------- the additions


@claims.full(
    "A failure carries the canonical code, an ErrorInfo and the field at fault.",
    "`status` carries the canonical code and ErrorInfo{reason, domain}; BadRequest where a field is at fault.",
)
def error_details(check: Subject) -> None:
    for what, text in BLANKS.items():
        check.refused_with("EmbedText", pb.EmbedTextRequest(text=text), what, Code.INVALID_ARGUMENT, field="text")
    request = pb.EmbedBatchRequest(texts=["a", " "])
    check.refused_with("EmbedBatch", request, "a blank text", Code.INVALID_ARGUMENT, field="texts[1]")


@claims.full(
    "A success has neither `error` nor `status`.", "When `success` is true, `error` is empty and `status` unset."
)
def clean_success(check: Subject) -> None:
    for reply in (
        embed(check, TEXTS[0]),
        batch(check, TEXTS[:2]),
        check.ok("GetDimensions", pb.GetDimensionsRequest()),
    ):
        expect(not reply.HasField("status"), "a success has a `status`", reply)


@claims.full("A reply names the model, the same everywhere.", "`model`: the model that made the vector.")
def model_named(check: Subject) -> None:
    told = check.ok("GetDimensions", pb.GetDimensionsRequest())
    expect(told.model, "GetDimensions names no model", told)
    for reply in (embed(check, TEXTS[0]), batch(check, TEXTS[:2])):
        expect(reply.model == told.model, f"the reply names {reply.model!r}, GetDimensions {told.model!r}", reply)


@claims.full(
    "Tokens are counted, and a batch's total is their sum.",
    "`tokens` the model read, after any cut; `total_tokens` is the sum.",
)
def tokens(check: Subject) -> None:
    short, longer = embed(check, "one"), embed(check, "one two three four five six seven")
    expect(0 < short.tokens < longer.tokens, f"a word has {short.tokens} tokens, seven words {longer.tokens}", longer)
    reply = batch(check, TEXTS)
    expect(reply.total_tokens == sum(e.tokens for e in reply.embeddings), "total_tokens is not the sum", reply)
    expect(reply.embeddings[0].tokens == embed(check, TEXTS[0]).tokens, "a text has other tokens in a batch", reply)


@claims.full("A text that was cut says so, and one that was not does not.", "`truncated` says so, always.")
def truncated(check: Subject) -> None:
    long = "The quick brown fox jumps over the lazy dog. " * 4000
    expect(not embed(check, TEXTS[0]).truncated, "a short text is said to be cut")
    info = check.ok("GetModelInfo", pb.GetModelInfoRequest())
    reply = embed(check, long)
    expect(reply.truncated, "a text of 36,000 words is not said to be cut", reply)
    expect(
        reply.tokens <= info.max_tokens,
        f"{reply.tokens} tokens were read, by a model that reads {info.max_tokens}",
        reply,
    )
    pair = batch(check, [TEXTS[0], long])
    expect([e.truncated for e in pair.embeddings] == [False, True], "a batch does not say which text was cut", pair)


@claims.full(
    "TRUNCATE_ERROR refuses what is too long, and LEFT reads the end.",
    "TRUNCATE_ERROR: INVALID_ARGUMENT; RIGHT cuts the end off, LEFT the beginning.",
)
def truncation(check: Subject) -> None:
    long = "begin " * 40_000 + "end of it all"
    options = pb.EmbedOptions(truncate=pb.TRUNCATE_ERROR)
    check.refused_with(
        "EmbedText",
        pb.EmbedTextRequest(text=long, options=options),
        "a text too long for TRUNCATE_ERROR",
        Code.INVALID_ARGUMENT,
    )
    embed(check, TEXTS[0], truncate=pb.TRUNCATE_ERROR)
    right, left = embed(check, long), embed(check, long, truncate=pb.TRUNCATE_LEFT)
    expect(left.truncated, "a text cut on the left is not said to be cut", left)
    expect(
        cosine(right.vector, left.vector) < 0.99999,
        "cut on the left it has the vector that it has cut on the right",
        left,
    )


@claims.full(
    "`dimensions` cuts the vector and normalises it again.",
    "`dimensions` cuts the vector (Matryoshka) and normalises it again.",
)
def cut_dimensions(check: Subject) -> None:
    told = check.ok("GetDimensions", pb.GetDimensionsRequest())
    native = told.dimensions
    expect(native in told.supported_dimensions, f"supported_dimensions lack the native {native}", told)
    whole = embed(check, TEXTS[0], dimensions=native)
    expect(len(whole.vector) == native, "the native number of dimensions is not given", whole)
    half = embed(check, TEXTS[0], dimensions=native // 2)
    expect(len(half.vector) == native // 2, f"dimensions={native // 2} gives {len(half.vector)} floats", half)
    length = math.hypot(*half.vector)
    expect(abs(length - 1) < 1e-3, f"the cut vector has length {length:.4f}, not 1", half)
    plain = embed(check, TEXTS[0])
    value = cosine(half.vector, plain.vector[: native // 2])
    expect(value > ALIKE, f"the cut vector is not the beginning of the whole one (cosine {value:.4f})", half)


@claims.full("More dimensions than the model has are refused.", "What the model cannot give is an error.")
def too_many_dimensions(check: Subject) -> None:
    native = check.ok("GetDimensions", pb.GetDimensionsRequest()).dimensions
    options = pb.EmbedOptions(dimensions=native + 1)
    request = pb.EmbedTextRequest(text="a", options=options)
    check.refused_with(
        "EmbedText", request, "more dimensions than the model has", Code.INVALID_ARGUMENT, field="options.dimensions"
    )


@claims.full("With `normalize` a vector has length 1.", "`normalize` true: vectors of length 1.")
def normalized(check: Subject) -> None:
    for text in TEXTS[:4]:
        reply = embed(check, text, normalize=True)
        length = math.hypot(*reply.vector)
        expect(abs(length - 1) < 1e-3, f"the length is {length:.4f}", reply)


@claims.full(
    "Query and document are taken as input types, an unknown prompt is refused.",
    "`prompt_name`: a key of GetModelInfo's prompts.",
)
def input_types(check: Subject) -> None:
    for kind in (pb.INPUT_TYPE_QUERY, pb.INPUT_TYPE_DOCUMENT):
        usable(embed(check, TEXTS[0], input_type=kind).vector, None)
    options = pb.EmbedOptions(prompt_name="no such prompt")
    check.refused_with(
        "EmbedText", pb.EmbedTextRequest(text="a", options=options), "an unknown prompt", Code.INVALID_ARGUMENT
    )


@claims.full(
    "With allow_partial a bad text fails alone, in its place.",
    "allow_partial: a text fails in its own Embedding.status.",
)
def partial(check: Subject) -> None:
    request = pb.EmbedBatchRequest(texts=[TEXTS[0], "", TEXTS[1]], allow_partial=True)
    reply = check.ok("EmbedBatch", request)
    expect(len(reply.embeddings) == 3, f"three texts have {len(reply.embeddings)} embeddings", reply)
    bad = reply.embeddings[1]
    expect(bad.HasField("status") and bad.status.code == Code.INVALID_ARGUMENT, "the empty text has not failed", reply)
    expect(not bad.vector, "the failed text has a vector", reply)
    expect(of_status(bad.status).domain == DOMAIN, "the failed text's status has no ErrorInfo of the contract", reply)
    for number, text in ((0, TEXTS[0]), (2, TEXTS[1])):
        good = reply.embeddings[number]
        expect(not good.HasField("status"), "a good text has a status", reply)
        expect(
            cosine(good.vector, embed(check, text).vector) > ALIKE, f"embedding {number} is not that of its text", reply
        )


@claims.full(
    "GetModelInfo tells the model, its dimension and what it reads.", "GetModelInfo: the model and how it runs."
)
def model_info(check: Subject) -> None:
    told = check.ok("GetDimensions", pb.GetDimensionsRequest())
    reply = check.ok("GetModelInfo", pb.GetModelInfoRequest())
    expect(reply.dimensions == told.dimensions, f"dimensions {reply.dimensions} and {told.dimensions}", reply)
    expect(reply.model and reply.max_tokens, "no model, or no max_tokens", reply)


@claims.full(
    "Tokens can be counted without embedding, before any cut.", "CountTokens: for each text, in order, before any cut."
)
def count_tokens(check: Subject) -> None:
    texts = [*TEXTS[:3], "word " * 20_000]
    reply = check.ok("CountTokens", pb.CountTokensRequest(texts=texts))
    expect(len(reply.tokens) == len(texts), f"{len(texts)} texts have {len(reply.tokens)} counts", reply)
    for number, text in enumerate(texts[:3]):
        read = embed(check, text).tokens
        expect(
            reply.tokens[number] == read,
            f"text {number} is counted as {reply.tokens[number]} and read as {read}",
            reply,
        )
    expect(reply.tokens[3] >= 20_000, f"20,000 words are {reply.tokens[3]} tokens", reply)
    expect(not check.ok("CountTokens", pb.CountTokensRequest()).tokens, "no texts have counts")


@claims.full(
    "A stream answers each text once, in order, and goes on after a bad one.",
    "EmbedStream answers in order, a failed text in its own embedding.status.",
)
def embed_stream(check: Subject) -> None:
    texts = [*TEXTS[:3], " ", *TEXTS[3:6]]
    requests = [pb.EmbedStreamRequest(id=f"id{number}", text=text) for number, text in enumerate(texts)]
    replies = check.stream("EmbedStream", requests)
    got = [reply.id for reply in replies]
    expect(got == [request.id for request in requests], f"the ids are {got}", replies)
    for number, (text, reply) in enumerate(zip(texts, replies, strict=True)):
        if not text.strip():
            failed = reply.embedding.HasField("status") and reply.embedding.status.code == Code.INVALID_ARGUMENT
            expect(failed, "the blank text has not failed", replies)
        else:
            expect(not reply.embedding.HasField("status"), f"text {number} failed", replies)
            value = cosine(reply.embedding.vector, embed(check, text).vector)
            expect(value > ALIKE, f"the vector of text {number} is not its own (cosine {value:.4f})", replies)
