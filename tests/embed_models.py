"""Tiny models with random weights, made on the spot, and texts to embed with them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tokenizers
import torch
import transformers
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Dense, Normalize, Pooling, Transformer
from tokenizers import models, normalizers, pre_tokenizers, processors

TEXTS = [
    "cat",
    "What survives a power cut?",
    "What survives a power cut?",
    "A text of middling length, with commas, CAPITALS and numbers such as 3.14. " * 2,
    "Far more than any of these models reads; the rest of it must be cut. " * 40,
    "Ümläute, кириллица, 漢字 and مرحبا",
    "🦊🎉",
    "\x00 between \x00 two \x00",
    "\u200b \t odd\u00a0spaces \n",
    "[SEP] <s> </s> that look special",
    "!",
]

_SPECIAL = ["<s>", "<pad>", "</s>", "<unk>"]
_WORDS = ["what", "a", "power", "text", "of", "the", "and", "survives", "cut", "rest", "reads", "search", ":", "?", ","]
_SIZES: dict[str, Any] = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48}


def tiny(
    folder: Path,
    architecture: str = "bert",
    *,
    pooling: Any = "mean",
    dense: bool = False,
    normalize: bool = True,
    prompts: Mapping[str, str] | None = None,
    default_prompt: str | None = None,
    max_tokens: int = 24,
    lower_case: bool = False,
    include_prompt: bool = True,
    dtype: torch.dtype = torch.float32,
    seed: int = 0,
) -> Path:
    """Saves a model below `folder` as sentence-transformers does, and gives its folder."""
    torch.manual_seed(seed)
    letters = [chr(code) for code in range(33, 127)]
    vocabulary = dict.fromkeys([*_SPECIAL, *_WORDS, *letters, *("##" + letter for letter in letters)])
    tokenizer = tokenizers.Tokenizer(
        models.WordPiece({word: place for place, word in enumerate(vocabulary)}, unk_token="<unk>")
    )
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=False, strip_accents=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    base = folder / "base"
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", cls_token="<s>", eos_token="</s>", sep_token="</s>",
        pad_token="<pad>", unk_token="<unk>", model_max_length=max_tokens,
    ).save_pretrained(base)  # fmt: skip
    common = {"vocab_size": len(vocabulary), "pad_token_id": 1, "initializer_range": 0.1}
    if architecture == "distilbert":
        sizes: dict[str, Any] = {"dim": 32, "n_layers": 2, "n_heads": 2, "hidden_dim": 48}
    else:
        sizes = _SIZES
    config = transformers.AutoConfig.for_model(architecture, max_position_embeddings=64, **sizes, **common)
    transformers.AutoModel.from_config(config).to(dtype).save_pretrained(base)
    transformer = Transformer(str(base), max_seq_length=max_tokens, do_lower_case=lower_case)
    modules: list[Any] = [transformer, Pooling(32, pooling, include_prompt=include_prompt)]
    if dense:
        modules.append(Dense(modules[-1].get_embedding_dimension(), 12))
    if normalize:
        modules.append(Normalize())
    path = folder / "model"
    SentenceTransformer(
        modules=modules, device="cpu", prompts=dict(prompts or {}), default_prompt_name=default_prompt
    ).save(str(path))
    return path
