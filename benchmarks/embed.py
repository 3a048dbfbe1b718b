"""embed_st over gRPC against `SentenceTransformer.encode` called directly, the same model and texts.

python -m benchmarks.embed
"""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor

import grpc
import hector_plugins_pb2 as pb
import hector_plugins_pb2_grpc as rpc
import numpy as np
from sentence_transformers import SentenceTransformer

from benchmarks.harness import compare, rate, report, running
from plugins.embed_st.config import Config
from plugins.embed_st.engine.models import locate

BATCH = 32
_VOCABULARY = "a vector of the document that was written to disk is found again by its meaning and not by name"


def main() -> None:
    model_name = Config().model
    short, medium = _texts(20), _texts(120)
    with running("embed_st") as server:
        stub = rpc.EmbedderProviderStub(grpc.insecure_channel(server.address))
        model = SentenceTransformer(locate(model_name, ""), device="cpu")

        def batch(texts: list[str]) -> float:
            return rate(BATCH, lambda: stub.EmbedBatch(pb.EmbedBatchRequest(texts=texts)))

        def encode(texts: list[str]) -> float:
            return rate(BATCH, lambda: model.encode(texts, batch_size=BATCH, show_progress_bar=False))

        def single(texts: list[str]) -> float:
            return rate(BATCH, lambda: [stub.EmbedText(pb.EmbedTextRequest(text=text)) for text in texts])

        def encode_single(texts: list[str]) -> float:
            return rate(BATCH, lambda: [model.encode([text], show_progress_bar=False) for text in texts])

        def callers(texts: list[str]) -> float:
            requests = [pb.EmbedTextRequest(text=text) for text in texts]
            with ThreadPoolExecutor(BATCH) as pool:
                return rate(BATCH, lambda: list(pool.map(stub.EmbedText, requests)))

        one_batch = f"encode of {BATCH}"
        comparisons = [
            compare(
                f"EmbedBatch of {BATCH}, about 20 words",
                "texts/s",
                lambda: batch(short),
                lambda: encode(short),
                reference_name=one_batch,
            ),
            compare(
                f"EmbedBatch of {BATCH}, about 120 words",
                "texts/s",
                lambda: batch(medium),
                lambda: encode(medium),
                reference_name=one_batch,
            ),
            compare(
                "EmbedText, one caller, about 20 words",
                "texts/s",
                lambda: single(short),
                lambda: encode_single(short),
                reference_name="encode of one",
            ),
            compare(
                f"EmbedText, {BATCH} callers, about 20 words",
                "texts/s",
                lambda: callers(short),
                lambda: encode(short),
                reference_name=one_batch,
            ),
        ]
        ours = [embedding.vector for embedding in stub.EmbedBatch(pb.EmbedBatchRequest(texts=medium)).embeddings]
        cosines = (np.array(ours) * model.encode(medium, show_progress_bar=False)).sum(axis=1)
    report("embed", comparisons, {"model": model_name, "lowest cosine to encode": round(float(cosines.min()), 7)})


def _texts(words: int) -> list[str]:
    """As many texts as a batch takes, of about `words` words, made of English ones."""
    chance = random.Random(words)
    words_used = _VOCABULARY.split()
    return [
        " ".join(chance.choice(words_used) for _ in range(words + chance.randint(-words // 5, words // 5)))
        for _ in range(BATCH)
    ]


if __name__ == "__main__":
    main()
