"""What the plugin promises: the engine by itself, and over gRPC."""

from __future__ import annotations

import hector_plugins_pb2 as pb
import numpy as np
from hector_plugins_pb2_grpc import EmbedderProviderStub

from host.new.kinds.embedder_provider.engine import Engine
from shared.testing import Plugin


def test_the_engine() -> None:
    """The engine works without a server: texts with the same words are nearer than others, vectors have length 1."""
    vectors = Engine(64).embed(["the red house", "a red house", "an answer to letters"]).vectors
    assert vectors.shape == (3, 64)
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1)
    assert vectors[0] @ vectors[1] > vectors[0] @ vectors[2]


def test_batches_keep_their_order(plugin: Plugin) -> None:
    """A batch has a vector for each text, in their order, the same as the text has alone."""
    client = EmbedderProviderStub(plugin.channel)
    texts = ["one", "two", "!", "one"]
    reply = client.EmbedBatch(pb.EmbedBatchRequest(texts=texts))
    alone = [client.EmbedText(pb.EmbedTextRequest(text=text)).vector for text in texts]
    assert reply.success, reply.error
    assert [list(embedding.vector) for embedding in reply.embeddings] == [list(vector) for vector in alone]
    assert len(alone[0]) == client.GetDimensions(pb.GetDimensionsRequest()).dimensions


def test_no_texts(plugin: Plugin) -> None:
    """No texts are a success with no embeddings."""
    reply = EmbedderProviderStub(plugin.channel).EmbedBatch(pb.EmbedBatchRequest())
    assert (reply.success, len(reply.embeddings)) == (True, 0)


def test_errors_name_the_field(plugin: Plugin) -> None:
    """A blank text fails the request, with a sentence that names it."""
    reply = EmbedderProviderStub(plugin.channel).EmbedBatch(pb.EmbedBatchRequest(texts=["one", " "]))
    assert (reply.success, reply.error) == (False, "texts[1] is empty; leave it out or send some text")
