"""sentence-transformers itself: the reference. Importing this takes seconds."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import torch
from huggingface_hub.utils import disable_progress_bars
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Normalize
from transformers.utils import logging as transformers_logging

from shared.errors import StartError

from .. import reference
from ..facts import ModelFacts
from ..tokenizer import Tokenizer, Tokens
from . import Backend, Floats, Precision, padded

_LONGEST_TRIED = 4096  # tokens: a model that reads more has no table of positions, and would take minutes
_PRECISIONS: dict[Any, Precision] = {torch.bfloat16: "bf16", torch.float16: "fp16", torch.float32: "fp32"}


class Torch(Backend):
    """The model as sentence-transformers loads it, in `model`; its `facts` and `tokenizer` as all backends use them."""

    name = "torch"

    def __init__(self, folder: Path, *, name: str, sha256: str) -> None:
        """On the CPU, where what is tried here does no harm. Raises StartError, naming the model as `name`."""
        _quiet()
        try:
            self.model = SentenceTransformer(str(folder), device="cpu", local_files_only=True)
            self._library = self.model.tokenizer
        except Exception as error:
            cause = next(iter(str(error).strip().splitlines()), type(error).__name__)[:200]
            raise StartError(f"model {name} could not be loaded: {cause}") from error
        self.model.eval()
        self._is_mixed = False  # whether only the transformer is in the precision that was asked for
        self.facts = _facts(self.model, name, sha256)
        if (longest := self._longest()) < self.facts.max_tokens:
            # The library's limit, where neither tokenizer nor configuration says it right.
            self.model.max_seq_length = longest
            self.facts = replace(self.facts, max_tokens=longest)
        self.tokenizer = self._same_tokenizer()

    @property
    def precision(self) -> Precision:
        return _PRECISIONS.get(self.model.dtype, "fp32")

    def move(self, device: str, precision: Precision | None = None) -> None:
        """All of the model; its transformer in another precision, if one is given."""
        if precision is None:
            self.model.to(device)
            return
        dtype = next(dtype for dtype, name in _PRECISIONS.items() if name == precision)
        self.model.to(torch.float32)
        # The turns of positions are too fine for half precision, and are reckoned with in fp32 anyway.
        turns = [
            (module, name, buffer)
            for module in self.model[0].modules()
            for name, buffer in module.named_buffers(recurse=False)
            if name.endswith("inv_freq")
        ]
        self.model[0].to(dtype)
        for module, name, buffer in turns:
            setattr(module, name, buffer)
        self.model.to(device)
        self._is_mixed = True

    def run(self, batch: Sequence[Tokens]) -> Floats:
        if self.facts.pools_prompt:
            return self._run(batch, {})
        # Pooling leaves out one number of tokens for a whole batch.
        order = sorted(range(len(batch)), key=lambda place: batch[place].prompt)
        found = np.empty((len(batch), self.facts.dimensions), np.float32)
        for prompt, places in groupby(order, key=lambda place: batch[place].prompt):
            part = list(places)
            found[part] = self._run([batch[place] for place in part], {"prompt_length": prompt} if prompt else {})
        return found

    def _run(self, batch: Sequence[Tokens], more: dict[str, int]) -> Floats:
        ids, mask = (torch.from_numpy(part).to(self.model.device) for part in padded(batch, self.facts))
        with torch.inference_mode():
            vectors: Floats = self.forward(ids, mask, **more).cpu().numpy()
        return vectors

    def forward(self, ids: Any, mask: Any, **more: int) -> Any:
        """Tensors on the model's device in, one there of shape (texts, dimensions) in fp32 out."""
        features: dict[str, Any] = {"input_ids": ids, "attention_mask": mask, "modality": "text", **more}
        if "token_type_ids" in self._library.model_input_names:
            features["token_type_ids"] = torch.zeros_like(ids)
        if not self._is_mixed:
            return self.model(features)["sentence_embedding"].float()
        transformer, *others = self.model
        # Half precision ends here: a vector that is brought to length 1 in it is off by half a hundredth.
        features = {
            name: value.float() if torch.is_tensor(value) and value.is_floating_point() else value
            for name, value in transformer(features).items()
        }
        for module in others:
            features = module(features)
        return features["sentence_embedding"].float()

    def _longest(self) -> int:
        """Tokens that the model can read of a text: as many as it has positions, less those that it leaves out, and as
        many as it turns out to take."""
        limit = self.facts.max_tokens
        tables = [
            module
            for name, module in self.model[0].named_modules()
            if name.endswith("position_embeddings") and isinstance(module, torch.nn.Embedding)
        ]
        for table in tables:
            # RoBERTa and its like count from behind the position of padding.
            left_out = 0 if table.padding_idx is None else table.padding_idx + 1
            limit = min(limit, table.num_embeddings - left_out)
        if not tables or limit > _LONGEST_TRIED or self._reads(limit):
            return limit
        works, fails = 1, limit
        while fails - works > 1:
            middle = (works + fails) // 2
            works, fails = (middle, fails) if self._reads(middle) else (works, middle)
        return works

    def _reads(self, length: int) -> bool:
        token = next((n for n in range(4) if n != self.facts.pad_id), 0)
        try:
            self.run([Tokens(np.full(length, token, np.int64), length)])
        except (IndexError, RuntimeError):
            return False
        return True

    def _same_tokenizer(self) -> Tokenizer:
        """The library's tokenizer without the library, once it has been seen to give the same tokens."""
        library: Any = self._library
        library.truncation_side = "right"
        try:
            tokenizer = Tokenizer(
                type(library.backend_tokenizer).from_str(library.backend_tokenizer.to_str()), self.facts.max_tokens
            )
            for text, tokens in zip(reference.TEXTS, tokenizer.encode(reference.TEXTS), strict=True):
                features = self.model.preprocess([text], prompt="")
                same = features["input_ids"][0].tolist() == tokens.ids.tolist()
                plain = not ("token_type_ids" in features and features["token_type_ids"].any())
                if not (same and plain and features.get("modality", "text") == "text"):
                    raise ValueError("other tokens")
        except (AttributeError, ValueError) as error:
            raise StartError(
                f"model {self.facts.name} does more to a text than its tokenizer does ({error}), which is not "
                "reproduced here; choose another model"
            ) from error
        return tokenizer


def _facts(model: Any, name: str, sha256: str) -> ModelFacts:
    tokenizer, limit = model.tokenizer, model.max_seq_length
    if not (callable(tokenizer) and isinstance(limit, int)):
        raise StartError(
            f"model {name} begins with {type(model[0]).__name__}, whose tokens cannot be counted here, so that a text "
            "that is cut could not say so; choose a transformer model"
        )
    prompts = {key: text for key, text in model.prompts.items() if text}
    dims = getattr(getattr(model[0], "config", None), "matryoshka_dimensions", None) or ()
    return ModelFacts(
        name=name,
        sha256=sha256,
        dimensions=int(model.get_embedding_dimension()),
        max_tokens=min(limit, 2**31 - 2),  # a tokenizer without a limit says 10^30
        normalizes=isinstance(model[-1], Normalize),
        prompts=prompts,
        default_prompt=prompts.get(model.default_prompt_name or "", ""),
        matryoshka=tuple(sorted(int(length) for length in dims)),
        pools_prompt=all(getattr(module, "include_prompt", True) for module in model),
        pad_id=int(getattr(tokenizer, "pad_token_id", None) or 0),
        pad_left=getattr(tokenizer, "padding_side", "right") == "left",
    )


def _quiet() -> None:
    """The libraries log through the plugin's handler only, and draw no progress bars into it."""
    disable_progress_bars()
    transformers_logging.disable_progress_bar()
    for name in ("huggingface_hub", "transformers", "sentence_transformers"):
        logging.getLogger(name).handlers.clear()
        logging.getLogger(name).propagate = True
