"""An EmbedderProvider of random numbers that a text seeds, and many that are wrong in one thing."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Iterator, Sequence
from typing import Any

import grpc
import hector_plugins_pb2 as pb
import numpy as np
from hector_plugins_pb2_grpc import EmbedderProviderServicer

from shared.errors import Code
from tests.check_faults import Fault, Refused, answering, failed

NATIVE = 32  # floats
MOST = 256  # words that it reads


class Embedder(EmbedderProviderServicer):
    """The right one. What the wrong ones change are its small methods."""

    # ------------------------------------------------ the RPCs

    @answering(pb.EmbedTextResponse)
    def EmbedText(self, request: Any) -> Any:
        one = self.embedding(request.text, request.options, "text")
        return pb.EmbedTextResponse(
            success=True, vector=one.vector, tokens=one.tokens, truncated=one.truncated, model=self.model()
        )

    @answering(pb.EmbedBatchResponse)
    def EmbedBatch(self, request: Any) -> Any:
        embeddings = self.batch(list(request.texts), request.options, request.allow_partial)
        total = self.total(embeddings)
        return pb.EmbedBatchResponse(success=True, embeddings=embeddings, total_tokens=total, model="hash")

    @answering(pb.GetDimensionsResponse)
    def GetDimensions(self, request: Any) -> Any:
        return pb.GetDimensionsResponse(
            success=True, dimensions=self.told(), model="hash", supported_dimensions=self.supported()
        )

    @answering(pb.GetModelInfoResponse)
    def GetModelInfo(self, request: Any) -> Any:
        return pb.GetModelInfoResponse(success=True, model="hash", dimensions=NATIVE, max_tokens=MOST)

    @answering(pb.CountTokensResponse)
    def CountTokens(self, request: Any) -> Any:
        return pb.CountTokensResponse(success=True, tokens=[self.count(text) for text in request.texts])

    def EmbedStream(self, requests: Iterator[Any], context: grpc.ServicerContext) -> Iterator[Any]:
        for request in requests:
            yield pb.EmbedStreamResponse(id=request.id, embedding=self.one(request.text, request.options, "text"))

    # ------------------------------------------------ what they stand on

    failed = staticmethod(failed)

    def batch(self, texts: Sequence[str], options: Any, allow_partial: bool) -> list[Any]:
        one = self.one if allow_partial else self.embedding
        return [one(text, options, f"texts[{number}]") for number, text in enumerate(texts)]

    def one(self, text: str, options: Any, field: str) -> Any:
        """A failure is the text's own."""
        try:
            return self.embedding(text, options, field)
        except Refused as error:
            return pb.Embedding(status=failed(pb.EmbedTextResponse, error).status)

    def embedding(self, text: str, options: Any, field: str) -> Any:
        self.check(text, field)
        self.check_options(options)
        words = text.split()
        if len(words) > MOST and self.reads_on(options):
            chunks = [" ".join(words[start : start + MOST]) for start in range(0, len(words), MOST)]
            mean = np.mean([self.vector(chunk) for chunk in chunks], axis=0)
            return pb.Embedding(vector=self.shortened(mean, options).tolist(), tokens=len(words))
        cut = self.cut(words, options, field)
        vector = self.vector(" ".join(cut) if len(words) > MOST else text)
        tokens = min(len(words), MOST)
        return pb.Embedding(
            vector=self.shortened(vector, options).tolist(), tokens=tokens, truncated=self.truncated(words)
        )

    def reads_on(self, options: Any) -> bool:
        return bool(options.long_text == pb.LONG_TEXT_CHUNK_MEAN)

    def check(self, text: str, field: str) -> None:
        if not text.strip():
            raise Refused(Code.INVALID_ARGUMENT, f"{field} is empty; send a text", field)

    def check_options(self, options: Any) -> None:
        if options.dimensions > NATIVE:
            raise Refused(Code.INVALID_ARGUMENT, f"the model has {NATIVE} dimensions", "options.dimensions")
        if options.prompt_name:
            raise Refused(Code.INVALID_ARGUMENT, "the model has no prompts", "options.prompt_name")

    def cut(self, words: list[str], options: Any, field: str) -> list[str]:
        if len(words) > MOST and options.truncate == pb.TRUNCATE_ERROR:
            raise Refused(Code.INVALID_ARGUMENT, f"the text has more than {MOST} words", self.at_fault(field))
        return words[-MOST:] if options.truncate == pb.TRUNCATE_LEFT else words[:MOST]

    def at_fault(self, field: str) -> str:
        return field

    def truncated(self, words: list[str]) -> bool:
        return len(words) > MOST

    def vector(self, text: str) -> Any:
        seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")
        return np.random.default_rng(seed).normal(size=NATIVE)

    def shortened(self, vector: Any, options: Any) -> Any:
        part = vector[: options.dimensions or NATIVE]
        return part / np.linalg.norm(part) if options.dimensions or options.normalize else part

    def told(self) -> int:
        return NATIVE

    def supported(self) -> list[int]:
        return [NATIVE]

    def model(self) -> str:
        return "hash"

    def total(self, embeddings: Sequence[Any]) -> int:
        return sum(embedding.tokens for embedding in embeddings)

    def count(self, text: str) -> int:
        return len(text.split())


# ---------------------------------------------------------------- the wrong ones, of what the guide has


class OtherDimension(Embedder):
    def told(self) -> int:
        return NATIVE * 2


class DimensionZero(Embedder):
    def told(self) -> int:
        return 0


class NotANumber(Embedder):
    def vector(self, text: str) -> Any:
        return super().vector(text) if len(text) > 1 else np.full(NATIVE, math.nan)


class ZeroVector(Embedder):
    """Of what has no letters."""

    def vector(self, text: str) -> Any:
        return super().vector(text) * any(map(str.isalpha, text))


class Noise(Embedder):
    def vector(self, text: str) -> Any:
        self.calls = getattr(self, "calls", 0) + 1
        return super().vector(f"{text} {self.calls}")


class OneVector(Embedder):
    def vector(self, text: str) -> Any:
        return super().vector("the same")


class ReadsTheBeginning(Embedder):
    def vector(self, text: str) -> Any:
        return super().vector(text[:20])


class LettersOnly(Embedder):
    def vector(self, text: str) -> Any:
        return super().vector("".join(sorted(text)))


class NoDigits(Embedder):
    def vector(self, text: str) -> Any:
        return super().vector("".join(c for c in text if not c.isdigit()))


class SwappedBatch(Embedder):
    """The first two have one another's vectors."""

    def batch(self, texts: Sequence[str], options: Any, allow_partial: bool) -> list[Any]:
        embeddings = super().batch(texts, options, allow_partial)
        return [*embeddings[1::-1], *embeddings[2:]]


class ReversedBatch(Embedder):
    def batch(self, texts: Sequence[str], options: Any, allow_partial: bool) -> list[Any]:
        return super().batch(texts, options, allow_partial)[::-1]


class SortedBatch(Embedder):
    """In the order of the lengths of the texts, which is how they were embedded."""

    def batch(self, texts: Sequence[str], options: Any, allow_partial: bool) -> list[Any]:
        return super().batch(sorted(texts, key=len), options, allow_partial)


class BatchWithoutRepeats(Embedder):
    def batch(self, texts: Sequence[str], options: Any, allow_partial: bool) -> list[Any]:
        return super().batch(list(dict.fromkeys(texts)), options, allow_partial)


class BatchOf64(Embedder):
    def batch(self, texts: Sequence[str], options: Any, allow_partial: bool) -> list[Any]:
        return super().batch(texts[:64], options, allow_partial)


class LastOfChunkLost(Embedder):
    """The last of 64 has the vector of the one before it."""

    def batch(self, texts: Sequence[str], options: Any, allow_partial: bool) -> list[Any]:
        embeddings = super().batch(texts, options, allow_partial)
        if len(embeddings) > 63:
            embeddings[63] = embeddings[62]
        return embeddings


class NoneIsAnError(Embedder):
    def batch(self, texts: Sequence[str], options: Any, allow_partial: bool) -> list[Any]:
        if not texts:
            raise Refused(Code.INVALID_ARGUMENT, "no texts; send some")
        return super().batch(texts, options, allow_partial)


class AloneIsOther(Embedder):
    """One text alone goes another way than a batch."""

    def batch(self, texts: Sequence[str], options: Any, allow_partial: bool) -> list[Any]:
        if len(texts) == 1:
            texts = [f"passage: {texts[0]}"]
        return super().batch(texts, options, allow_partial)


class EmptyIsAText(Embedder):
    def check(self, text: str, field: str) -> None:
        pass


class BlankIsAText(Embedder):
    def check(self, text: str, field: str) -> None:
        if not text:
            super().check(text, field)


class SkipsBlanks(Embedder):
    """A batch leaves out what is blank."""

    def batch(self, texts: Sequence[str], options: Any, allow_partial: bool) -> list[Any]:
        return super().batch([text for text in texts if text.strip()], options, allow_partial)


class ZerosForBlanks(Embedder):
    def batch(self, texts: Sequence[str], options: Any, allow_partial: bool) -> list[Any]:
        return [
            super(ZerosForBlanks, self).batch([text], options, allow_partial)[0]
            if text.strip()
            else pb.Embedding(vector=[0.0] * NATIVE)
            for text in texts
        ]


class WhichIsNotSaid(Embedder):
    def check(self, text: str, field: str) -> None:
        super().check(text, "a text")


class GrpcStatus(Embedder):
    def EmbedText(self, request: Any, context: grpc.ServicerContext) -> Any:
        reply = super().EmbedText(request, context)
        if not reply.success:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, reply.error)
        return reply


class LongIsAnError(Embedder):
    def cut(self, words: list[str], options: Any, field: str) -> list[str]:
        if len(words) > MOST:
            raise Refused(Code.INVALID_ARGUMENT, "too long; send less")
        return words


class AsciiOnly(Embedder):
    def vector(self, text: str) -> Any:
        if not text.isprintable():
            raise Refused(Code.INVALID_ARGUMENT, "not printable")
        return super().vector(text)


class OthersVector(Embedder):
    """The last text that came is everybody's."""

    def EmbedText(self, request: Any, context: grpc.ServicerContext) -> Any:
        self.last = request
        time.sleep(0.01)
        return super().EmbedText(self.last, context)


class FailureStays(Embedder):
    def check(self, text: str, field: str) -> None:
        self.broken = getattr(self, "broken", False) or not text.strip()
        super().check(text, field)

    def vector(self, text: str) -> Any:
        return super().vector(text) if not getattr(self, "broken", False) else -super().vector(text + "!")


class ErrorBesideSuccess(Embedder):
    def EmbedText(self, request: Any, context: grpc.ServicerContext) -> Any:
        reply = super().EmbedText(request, context)
        reply.error = reply.error or "ok"
        return reply


class NoDimensions(Embedder):
    GetDimensions = EmbedderProviderServicer.GetDimensions


# ---------------------------------------------------------------- the wrong ones, of the additions


class NoCode(Embedder):
    @staticmethod
    def failed(reply: type[Any], error: Refused) -> Any:
        return reply(success=False, error=str(error))


class OtherDomain(Embedder):
    @staticmethod
    def failed(reply: type[Any], error: Refused) -> Any:
        message = failed(reply, error)
        del message.status.details[:]
        return message


class OtherModel(Embedder):
    def model(self) -> str:
        return "other"


class TotalIsCount(Embedder):
    def total(self, embeddings: Sequence[Any]) -> int:
        return len(embeddings)


class NeverTruncated(Embedder):
    def truncated(self, words: list[str]) -> bool:
        return False


class CutsInSilence(Embedder):
    def cut(self, words: list[str], options: Any, field: str) -> list[str]:
        return words[-MOST:] if options.truncate == pb.TRUNCATE_LEFT else words[:MOST]


class LeftIsRight(Embedder):
    def cut(self, words: list[str], options: Any, field: str) -> list[str]:
        super().cut(words, options, field)
        return words[:MOST]


class CutNotNormalised(Embedder):
    def shortened(self, vector: Any, options: Any) -> Any:
        return vector[: options.dimensions or NATIVE]


class CutFromTheEnd(Embedder):
    def shortened(self, vector: Any, options: Any) -> Any:
        return super().shortened(vector[::-1] if options.dimensions else vector, options)


class IgnoresDimensions(Embedder):
    def check_options(self, options: Any) -> None:
        pass


class PartialIsShorter(Embedder):
    def batch(self, texts: Sequence[str], options: Any, allow_partial: bool) -> list[Any]:
        embeddings = super().batch(texts, options, allow_partial)
        return [embedding for embedding in embeddings if embedding.vector]


class CountsCut(Embedder):
    def count(self, text: str) -> int:
        return min(MOST, super().count(text))


class StreamStops(Embedder):
    def EmbedStream(self, requests: Iterator[Any], context: grpc.ServicerContext) -> Iterator[Any]:
        for reply in super().EmbedStream(requests, context):
            yield reply
            if reply.embedding.HasField("status"):
                return


class StreamInPairs(Embedder):
    """Two and two, the second first."""

    def EmbedStream(self, requests: Iterator[Any], context: grpc.ServicerContext) -> Iterator[Any]:
        replies = list(super().EmbedStream(requests, context))
        for start in range(0, len(replies), 2):
            yield from replies[start : start + 2][::-1]


class StatusOnSuccess(Embedder):
    def GetDimensions(self, request: Any, context: grpc.ServicerContext) -> Any:
        reply = super().GetDimensions(request, context)
        reply.status.message = "fine"
        return reply


class NotNormalised(Embedder):
    def shortened(self, vector: Any, options: Any) -> Any:
        return super().shortened(vector, pb.EmbedOptions(dimensions=options.dimensions))


class AnyPrompt(Embedder):
    def check_options(self, options: Any) -> None:
        options.ClearField("prompt_name")
        super().check_options(options)


class OtherInfo(Embedder):
    def GetModelInfo(self, request: Any, context: grpc.ServicerContext) -> Any:
        return pb.GetModelInfoResponse(success=True, model="hash", dimensions=NATIVE * 2, max_tokens=MOST)


class BatchWithoutOptions(Embedder):
    def batch(self, texts: Sequence[str], options: Any, allow_partial: bool) -> list[Any]:
        return super().batch(texts, pb.EmbedOptions(), allow_partial)


class FirstOptionsForAll(Embedder):
    def EmbedStream(self, requests: Iterator[Any], context: grpc.ServicerContext) -> Iterator[Any]:
        options = None
        for request in requests:
            options = options or request.options
            yield pb.EmbedStreamResponse(id=request.id, embedding=self.one(request.text, options, "text"))


class SomeTextIsTooLong(Embedder):
    def at_fault(self, field: str) -> str:
        return "texts"


class CutsInAnyCase(Embedder):
    def reads_on(self, options: Any) -> bool:
        return False


class AnswersAtTheEnd(Embedder):
    def EmbedStream(self, requests: Iterator[Any], context: grpc.ServicerContext) -> Iterator[Any]:
        yield from super().EmbedStream(iter(list(requests)), context)


FAULTS = [
    Fault(BatchWithoutOptions, "options_of_many", "full"),
    Fault(FirstOptionsForAll, "options_of_many", "full"),
    Fault(SomeTextIsTooLong, "too_long_in_batch", "full"),
    Fault(CutsInAnyCase, "long_text_in_chunks", "full"),
    Fault(AnswersAtTheEnd, "stream_as_it_goes", "full", seconds=1),
    Fault(StatusOnSuccess, "clean_success", "full"),
    Fault(NotNormalised, "normalized", "full"),
    Fault(AnyPrompt, "input_types", "full"),
    Fault(OtherInfo, "model_info", "full"),
    Fault(OtherDimension, "dimensions"),
    Fault(DimensionZero, "dimensions"),
    Fault(NoDimensions, "dimensions"),
    Fault(NotANumber, "finite"),
    Fault(ZeroVector, "finite"),
    Fault(Noise, "repeatable"),
    Fault(OneVector, "distinct"),
    Fault(ReadsTheBeginning, "end_counts"),
    Fault(LettersOnly, "end_counts"),
    Fault(NoDigits, "end_counts"),
    Fault(SwappedBatch, "batch_order"),
    Fault(ReversedBatch, "batch_order"),
    Fault(SortedBatch, "batch_of_lengths"),
    Fault(BatchWithoutRepeats, "batch_twice"),
    Fault(BatchOf64, "batch_of_many"),
    Fault(LastOfChunkLost, "batch_of_many"),
    Fault(NoneIsAnError, "batch_of_none"),
    Fault(AloneIsOther, "batch_of_one"),
    Fault(EmptyIsAText, "blank_text"),
    Fault(BlankIsAText, "blank_text"),
    Fault(GrpcStatus, "blank_text"),
    Fault(SkipsBlanks, "blank_in_batch"),
    Fault(ZerosForBlanks, "blank_in_batch"),
    Fault(WhichIsNotSaid, "blank_in_batch"),
    Fault(LongIsAnError, "long_text"),
    Fault(AsciiOnly, "odd_texts"),
    Fault(OthersVector, "parallel"),
    Fault(FailureStays, "failure_is_over"),
    Fault(ErrorBesideSuccess, "repeatable"),
    Fault(NoCode, "error_details", "full"),
    Fault(OtherDomain, "error_details", "full"),
    Fault(OtherModel, "model_named", "full"),
    Fault(TotalIsCount, "tokens", "full"),
    Fault(NeverTruncated, "truncated", "full"),
    Fault(CutsInSilence, "truncation", "full"),
    Fault(LeftIsRight, "truncation", "full"),
    Fault(CutNotNormalised, "cut_dimensions", "full"),
    Fault(CutFromTheEnd, "cut_dimensions", "full"),
    Fault(IgnoresDimensions, "too_many_dimensions", "full"),
    Fault(PartialIsShorter, "partial", "full"),
    Fault(CountsCut, "count_tokens", "full"),
    Fault(StreamStops, "embed_stream", "full"),
    Fault(StreamInPairs, "embed_stream", "full"),
]
