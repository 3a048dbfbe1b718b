"""The additions of embedders about texts that are longer than the model reads."""

from __future__ import annotations

import hector_plugins_pb2 as pb

from host.check.claims import Claims, NotAsked, expect
from host.check.embedder import TEXTS, batch, cosine, embed, usable
from host.check.subject import Subject
from shared.errors import Code

claims = Claims("embedder")


@claims.full("A text that was cut says so, and one that was not does not.", "`truncated` says so, always.")
def truncated(check: Subject) -> None:
    long = "The quick brown fox jumps over the lazy dog. " * 4000
    expect(not embed(check, TEXTS[0]).truncated, "a short text is said to be cut")
    info = check.ok("GetModelInfo", pb.GetModelInfoRequest())
    _too_long(check, long, info.max_tokens)
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
    _too_long(check, long, check.ok("GetModelInfo", pb.GetModelInfoRequest()).max_tokens)
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
    "A text of a batch that is too long for TRUNCATE_ERROR is named.",
    "TRUNCATE_ERROR: INVALID_ARGUMENT; BadRequest where a field is at fault.",
)
def too_long_in_batch(check: Subject) -> None:
    long = "begin " * 40_000 + "end of it all"
    _too_long(check, long, check.ok("GetModelInfo", pb.GetModelInfoRequest()).max_tokens)
    options = pb.EmbedOptions(truncate=pb.TRUNCATE_ERROR)
    request = pb.EmbedBatchRequest(texts=[TEXTS[0], long], options=options)
    check.refused_with("EmbedBatch", request, "a text too long", Code.INVALID_ARGUMENT, field="texts[1]")


@claims.full(
    "With LONG_TEXT_CHUNK_MEAN a long text is read to its end.",
    "LONG_TEXT_CHUNK_MEAN: read whole in chunks; the vector is the mean of theirs.",
)
def long_text_in_chunks(check: Subject) -> None:
    limit = check.ok("GetModelInfo", pb.GetModelInfoRequest()).max_tokens
    texts = [" ".join(["begin"] * (limit + 50) + [end] * 50) for end in ("apples", "quantum")]
    _too_long(check, texts[0], limit)
    expect(embed(check, texts[0]).truncated, "a text longer than max_tokens is not said to be cut")
    replies = [embed(check, text, long_text=pb.LONG_TEXT_CHUNK_MEAN) for text in texts]
    for reply in replies:
        usable(reply.vector, reply)
        expect(not reply.truncated, "a text that was read whole is said to be cut", reply)
    value = cosine(replies[0].vector, replies[1].vector)
    expect(value < 0.99999, "two texts with other ends have the same vector", replies[1])


def _too_long(check: Subject, text: str, limit: int) -> None:
    """Raises NotAsked where the model reads `text` whole."""
    if check.offered.method("CountTokens") is not None:
        count = check.ok("CountTokens", pb.CountTokensRequest(texts=[text])).tokens[0]
        if count <= limit:
            raise NotAsked(f"the model reads {limit} tokens, and so all {count} of the longest text that is tried")
