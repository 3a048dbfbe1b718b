"""What bounds a run."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """Of one run. A run that reaches one ends in the best answer there is."""

    iterations: int  # turns of the model
    tokens: int  # read and written
    tool_calls: int
    seconds: float
    patience: float = 30.0  # seconds that a plugin which is away is waited for
    pause: float = 0.5  # seconds between two tries meanwhile
