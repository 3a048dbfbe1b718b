"""One loaded model: tokens and vectors of a few texts at a time.

`Backend` is the seam: another way of running a model is another class with these members.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from plugins.embed_st.engine.models import locate
from shared.errors import StartError

Floats = npt.NDArray[np.float32]


class Backend(Protocol):
    """Not thread-safe: one thread calls it."""

    dimensions: int
    """Length of a vector."""
    max_tokens: int
    """Tokens that the model reads of a text, special ones included."""
    normalizes: bool
    """Whether vectors come out with length 1."""
    prompts: Mapping[str, str]
    """What the model wants in front of a text, by name ("query", "document")."""
    default_prompt: str
    """What it wants there where nothing is said of the text; mostly empty."""

    def tokens(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each text, special ones included; counted up to `max_tokens + 1`."""
        ...

    def encode(self, texts: Sequence[str], batch_size: int) -> Floats:
        """Vectors of shape (len(texts), dimensions). Longer texts are cut on the right."""
        ...


class SentenceTransformers:
    """sentence-transformers itself: the reference, for models whose tokens can be counted."""

    def __init__(self, model: str, *, backend: str = "torch", cache_dir: str = "", device: str = "") -> None:
        """Loads the model, from the hub if need be. Takes seconds. Raises StartError. `backend` is the library's."""
        folder = locate(model, cache_dir)
        # Imported here because it takes seconds, in which the server already answers health checks.
        from sentence_transformers import SentenceTransformer
        from sentence_transformers.sentence_transformer.modules import Normalize

        _quiet()
        try:
            self._model = SentenceTransformer(
                folder,
                backend=backend,
                cache_folder=cache_dir or None,
                device=device or None,
            )
            self._tokenizer = self._model.tokenizer
        except Exception as error:
            cause = next(iter(str(error).strip().splitlines()), type(error).__name__)[:200]
            raise StartError(f"model {model} could not be loaded: {cause}") from error
        self.dimensions = int(self._model.get_embedding_dimension())
        limit = self._model.max_seq_length
        if not (callable(self._tokenizer) and isinstance(limit, int)):
            first = type(self._model[0]).__name__
            raise StartError(
                f"model {model} begins with {first}, whose tokens cannot be counted here, so that a text that is cut "
                "could not say so; choose a transformer model"
            )
        self.max_tokens = min(limit, 2**31 - 2)  # a tokenizer without a limit says 10^30
        self.normalizes = isinstance(self._model[-1], Normalize)
        self.prompts: Mapping[str, str] = {name: text for name, text in self._model.prompts.items() if text}
        self.default_prompt = self.prompts.get(self._model.default_prompt_name or "", "")

    def tokens(self, texts: Sequence[str]) -> list[int]:
        encoded: Any = self._tokenizer(
            list(texts),
            truncation=True,
            max_length=self.max_tokens + 1,
            return_attention_mask=False,
            return_token_type_ids=False,
            verbose=False,
        )
        return [len(ids) for ids in encoded["input_ids"]]

    def encode(self, texts: Sequence[str], batch_size: int) -> Floats:
        vectors: Floats = self._model.encode(
            list(texts), batch_size=batch_size, prompt="", show_progress_bar=False, convert_to_numpy=True
        )
        return vectors.astype(np.float32, copy=False)


def _quiet() -> None:
    """The libraries log through the plugin's handler only, and draw no progress bars into it."""
    from huggingface_hub.utils import disable_progress_bars
    from transformers.utils import logging as transformers_logging

    disable_progress_bars()
    transformers_logging.disable_progress_bar()
    for name in ("huggingface_hub", "transformers", "sentence_transformers"):
        logging.getLogger(name).handlers.clear()
        logging.getLogger(name).propagate = True
