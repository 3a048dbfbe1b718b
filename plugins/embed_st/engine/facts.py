"""What must be known of a model to serve it, as data: kept beside a converted model, so that a start needs no torch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class ModelFacts:
    name: str
    """As it was asked for: a name or a folder."""
    sha256: str
    """Of the weights, lower-case hex; of several files, that of the list of their names and checksums."""
    dimensions: int
    """Length of a vector."""
    max_tokens: int
    """Tokens that the model reads of a text, prompt and special ones included."""
    normalizes: bool
    """Whether vectors come out with length 1."""
    prompts: Mapping[str, str]
    """What the model wants in front of a text, by name ("query", "document"); none is empty."""
    default_prompt: str
    """What it wants there where nothing is said of the text; mostly empty."""
    matryoshka: tuple[int, ...]
    """Lengths that the model says it was trained to be cut to, ascending; mostly none."""
    pools_prompt: bool
    """False: the prompt's tokens are read but do not count in the vector."""
    pad_id: int
    """Fills a batch up to its longest text."""
    pad_left: bool
    """Whether it does so in front."""

    def to_json(self) -> str:
        return json.dumps(asdict(self), ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> ModelFacts:
        """Raises ValueError, KeyError or TypeError where `text` is not what `to_json` wrote."""
        fields = json.loads(text)
        return cls(**{**fields, "matryoshka": tuple(fields["matryoshka"])})
