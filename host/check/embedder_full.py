"""The additions of embedders; the guide's part is in `embedder.py`."""

from __future__ import annotations

import math
import re

import hector_plugins_pb2 as pb

from host.check.claims import Claims, expect
from host.check.embedder import ALIKE, BLANKS, TEXTS, batch, cosine, embed, usable
from host.check.refusal import DOMAIN, of_status
from host.check.subject import Subject
from shared.errors import Code

claims = Claims("embedder")


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
    for number in (0, 3, 7):
        alone = embed(check, TEXTS[number]).tokens
        counted = reply.embeddings[number].tokens
        expect(counted == alone, f"text {number} has {alone} tokens, and in a batch {counted}", reply)


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


@claims.full(
    "A batch keeps to its options, and a stream to those of each text.",
    "`options`: for all texts of a batch; for the one text of a stream's message.",
)
def options_of_many(check: Subject) -> None:
    half = check.ok("GetDimensions", pb.GetDimensionsRequest()).dimensions // 2
    options = pb.EmbedOptions(dimensions=half)
    requests = [pb.EmbedStreamRequest(text=text, options=options) for text in TEXTS[:2]]
    streamed = [reply.embedding for reply in check.stream("EmbedStream", [*requests, pb.EmbedStreamRequest(text="x")])]
    for embeddings in (batch(check, TEXTS[:2], dimensions=half).embeddings, streamed[:2]):
        for embedding in embeddings:
            expect(len(embedding.vector) == half, f"dimensions={half} gives {len(embedding.vector)} floats")
            length = math.hypot(*embedding.vector)
            expect(abs(length - 1) < 1e-3, f"the cut vector has length {length:.4f}, not 1")
    expect(len(streamed[2].vector) > half, "a text without options has those of the one before")
    for embedding in batch(check, TEXTS[:3], normalize=True).embeddings:
        length = math.hypot(*embedding.vector)
        expect(abs(length - 1) < 1e-3, f"with normalize a vector of a batch has length {length:.4f}")
    native = half * 2 + 2
    request = pb.EmbedBatchRequest(texts=["a"], options=pb.EmbedOptions(dimensions=native))
    check.refused_with("EmbedBatch", request, "more dimensions than the model has", Code.INVALID_ARGUMENT)


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
    hex_digits = re.fullmatch("([0-9a-f]{64})?", reply.sha256)
    expect(hex_digits, f"sha256 is {reply.sha256!r}, not 64 hex digits", reply)
    odd = [length for length in told.supported_dimensions if not 0 < length <= told.dimensions]
    expect(not odd, f"supported_dimensions has {odd}, and the vectors have {told.dimensions} floats", told)


@claims.full(
    "Tokens can be counted without embedding, before any cut.", "CountTokens: for each text, in order, before any cut."
)
def count_tokens(check: Subject) -> None:
    texts = [TEXTS[1], TEXTS[2], TEXTS[0], "word " * 20_000]
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
            alone = embed(check, text)
            value = cosine(reply.embedding.vector, alone.vector)
            expect(value > ALIKE, f"the vector of text {number} is not its own (cosine {value:.4f})", replies)
            same = reply.embedding.tokens == alone.tokens
            expect(same, f"text {number} has {alone.tokens} tokens, in a stream {reply.embedding.tokens}", replies)


@claims.full("A stream is answered as it goes, before its end.", "Texts in, vectors out, one answer each, in order.")
def stream_as_it_goes(check: Subject) -> None:
    requests = [pb.EmbedStreamRequest(id=f"{number}", text=text) for number, text in enumerate(TEXTS[:3])]
    for number, reply in enumerate(check.in_turns("EmbedStream", requests)):
        expect(reply.id == f"{number}", f"text {number} is answered as {reply.id!r}", reply)
