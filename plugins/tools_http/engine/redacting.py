"""Texts in what a tool gave, each cleaned: by what, its caller says."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

from shared.errors import CallerError

Clean = Callable[[str], str]


def cleaned(value: Any, clean: Clean) -> Any:
    """A JSON value with each text in it, names included, cleaned. It may be as deep as JSON that Python reads."""
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, dict):
        return {clean(name) if isinstance(name, str) else name: cleaned(item, clean) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [cleaned(item, clean) for item in value]
    return value


def cleaned_error(error: CallerError, clean: Clean) -> CallerError:
    """The error with its texts cleaned."""
    if clean(error.message) == error.message and not error.violations and not error.metadata:
        return error
    other = copy.copy(error)
    other.message = clean(error.message)
    other.violations = tuple((clean(field), clean(words)) for field, words in error.violations)
    other.metadata = {name: clean(value) for name, value in error.metadata.items()}
    return other
