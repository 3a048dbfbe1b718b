"""Keeps secrets out of what a model is shown, in whatever spelling a server sends them back."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from shared.units import spellings

SHORTEST = 6  # characters of a secret that is looked for: a shorter one stands in half of all texts
MARK = "***"
_MARKDOWN, _IN_TABLE = re.compile(r"[\\`*_\[\]<~]"), re.compile(r"[\\`*_\[\]<~|]")


class Redactor:
    """Of the secrets it has been given; one that is renewed meanwhile is added."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        self._fixed: set[str] = set()  # forms
        self._short: set[str] = set()  # secrets that are not looked for
        self._renewed: dict[str, set[str]] = {}  # by what they belong to
        self._forms: tuple[str, ...] = ()
        self._bytes: tuple[bytes, ...] = ()
        for secret in secrets:
            self._know(secret)
        self._arrange()

    @property
    def too_short(self) -> int:
        """How many secrets are not taken out, since they have fewer than SHORTEST characters."""
        return len(self._short)

    def add(self, secret: str) -> None:
        self._know(secret)
        self._arrange()

    def _know(self, secret: str) -> None:
        self._fixed |= _spelled([secret])
        if 0 < len(secret) < SHORTEST:
            self._short.add(secret)

    def renew(self, owner: str, secrets: Iterable[str]) -> None:
        """`secrets` in place of those that `owner` had."""
        self._renewed[owner] = _spelled(secrets)
        self._arrange()

    @property
    def is_empty(self) -> bool:
        """Whether it knows no secret."""
        return not self._forms

    def clean(self, text: str) -> str:
        """`text` with a mark in place of every secret."""
        for form in self._forms:
            if form in text:
                text = text.replace(form, MARK)
        return text

    def clean_bytes(self, data: bytes) -> bytes:
        """The same for what is no text, with as many `*` as the secret has bytes: lengths inside stay right."""
        for form in self._bytes:
            if form in data:
                data = data.replace(form, b"*" * len(form))
        return data

    def clean_value(self, value: Any) -> Any:
        """The same for every text in a JSON value, names included."""
        if not self._forms:
            return value
        if isinstance(value, str):
            return self.clean(value)
        root: list[Any] = [value]
        # A stack: how deep a server nests is not for our own stack to bear.
        pending: list[tuple[Any, Any]] = [(root, 0)]
        while pending:
            holder, key = pending.pop()
            inner = holder[key]
            if isinstance(inner, str):
                holder[key] = self.clean(inner)
            elif isinstance(inner, list):
                holder[key] = copy = list(inner)
                pending += [(copy, place) for place in range(len(copy))]
            elif isinstance(inner, dict):
                holder[key] = renamed = {self.clean(name): item for name, item in inner.items()}
                pending += [(renamed, name) for name in renamed]
        return root[0]

    def _arrange(self) -> None:
        # The longest first: one secret can be a part of another.
        forms = self._fixed.union(*self._renewed.values())
        self._forms = tuple(sorted(forms, key=lambda form: (-len(form), form)))
        self._bytes = tuple(form.encode("utf-8", "surrogatepass") for form in self._forms)


def _spelled(secrets: Iterable[str]) -> set[str]:
    forms = {form for secret in secrets if len(secret) >= SHORTEST for form in spellings(secret)}
    # As fetch_page writes them in Markdown, in a table too.
    forms |= {_MARKDOWN.sub(r"\\\g<0>", form) for form in forms} | {_IN_TABLE.sub(r"\\\g<0>", form) for form in forms}
    return {form for form in forms if len(form) >= SHORTEST}
