"""Why a value was not read, in words that a model can act on."""

from __future__ import annotations

DEEPEST = 200  # levels of lists and objects
MOST_DIGITS = 4_000  # of a number: reading one takes time with the square of them
_SHOWN = 20  # characters before and behind the place of a fault


class NotRead(ValueError):
    """`at`: where in the text the fault is. `looked`: characters that were looked at to find it."""

    def __init__(self, message: str, at: int, looked: int = 0) -> None:
        super().__init__(message)
        self.at, self.looked = at, looked


class CutOff(NotRead):
    """The text ends inside of the value."""


class Unreadable(NotRead):
    """It is no value, or could be more than one. The message says what is wrong, and where."""


def cut(text: str, where: str = "before it is whole") -> CutOff:
    return CutOff(f"it ends {where}", len(text))


def refusal(why: str, text: str, at: int) -> Unreadable:
    return Unreadable(f"{why}, near {near(text, at)}", at)


def near(text: str, at: int) -> str:
    return repr(_sound(text[max(0, at - _SHOWN) : at + _SHOWN]))


def shown(word: str) -> str:
    return repr(_sound(word if len(word) <= 2 * _SHOWN else word[: 2 * _SHOWN] + "…"))


def twice(key: str) -> str:
    return f"the key {shown(key)} is there twice"


def too_long() -> str:
    return f"it has a number of more than {MOST_DIGITS} digits"


def too_large(digits: str) -> str:
    return f"the number {shown(digits)} is too large"


def too_deep() -> str:
    return f"it has more than {DEEPEST} levels"


def no_value(word: str) -> str:
    return f"{shown(word)} is no JSON value"


def half() -> str:
    return "it has half of a character (a surrogate without its other half)"


def _sound(text: str) -> str:
    return text.encode(errors="replace").decode()
