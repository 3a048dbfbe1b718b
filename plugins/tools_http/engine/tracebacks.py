"""Errors without what they hold on to: an error has its traceback, that has frames, and these have the arguments.

Together with a variable that names the error it is a cycle, which is freed when Python looks for cycles, and that may
be after hundreds of calls that failed, each with its megabytes.
"""

from __future__ import annotations

import traceback
from typing import TypeVar

E = TypeVar("E", bound=BaseException)


def released(error: E) -> E:
    """`error`, which keeps nothing of those that raised it; they have ended."""
    inner: BaseException | None = error
    while inner is not None:
        traceback.clear_frames(inner.__traceback__)
        inner.__traceback__ = None
        inner.__cause__, inner.__context__, inner = None, None, inner.__cause__ or inner.__context__
    return error


def release_frames(error: BaseException) -> None:
    """The same for one that is raised on: its traceback still says where it was raised."""
    seen: set[int] = set()
    inner: BaseException | None = error
    while inner is not None and id(inner) not in seen:
        seen.add(id(inner))
        traceback.clear_frames(inner.__traceback__)
        inner = inner.__cause__ or inner.__context__
