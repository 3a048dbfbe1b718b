"""What holds for every EmbedderProvider, whatever its model: nothing here asks what a vector means."""

from __future__ import annotations

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import hector_plugins_pb2 as pb

from host.check.claims import Claims, expect
from host.check.odd_bytes import takes_no_odd_bytes
from host.check.subject import Subject

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
BLANKS = {
    "an empty text": "",
    "a text of blanks": "   ",
    "a text of line ends": " \n\t\n",
    "a text of blanks of other scripts": "\u3000\u00a0",
}


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
    for text, other in pairs:
        value = cosine(embed(check, text).vector, embed(check, other).vector)
        expect(value < 0.99999, f"{text!r} and {other!r} have the same vector")


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


@claims.guide("Three hundred texts in one call have three hundred vectors, each its own.", ORDER)
def batch_of_many(check: Subject) -> None:
    texts = [f"note number {number}" for number in range(300)]
    reply = batch(check, texts)
    for number in (0, 1, 37, 63, 64, 127, 128, 255, 256, 299):
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
    takes_no_odd_bytes(check, "EmbedText")
    embed(check, TEXTS[0])
