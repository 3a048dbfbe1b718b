"""Sums and what is made of them.

Whole numbers are added exactly, at any size. Numbers with a point are IEEE 754 doubles, as nearly everywhere in JSON,
and their exact sum, whole numbers among them included, is rounded once: it depends neither on their order nor on their
count. A result that is no finite double is an error, never an infinity.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator
from fractions import Fraction

from shared.errors import InvalidArgument

from .values import too_large

Number = int | float


def total(numbers: list[Number], option: str) -> Number:
    """0 of no numbers.

    >>> total([9223372036854775807, 1], "op"), total([0.1] * 10, "op"), total([2**53, 1, 0.5], "op")
    (9223372036854775808, 1.0, 9007199254740994.0)
    """
    kinds = set(map(type, numbers))
    if kinds <= {int}:
        return sum(numbers)
    try:
        if kinds == {float}:
            result = math.fsum(numbers)
        else:
            whole: int = sum(number for number in numbers if isinstance(number, int))
            result = math.fsum([*(number for number in numbers if isinstance(number, float)), *_parts(whole)])
    except (OverflowError, ValueError):  # on the way; the result may be small
        return _double(_exact(numbers, option), option)
    return _finite(result, option)


def mean(numbers: list[Number], option: str) -> Number | None:
    """The sum divided by the count, whole where it divides evenly; None of no numbers."""
    if not numbers:
        return None
    try:
        whole = total(numbers, option)
    except InvalidArgument:  # a sum that is too large, of numbers that are not
        return _double(_exact(numbers, option) / len(numbers), option)
    if isinstance(whole, int):
        each, rest = divmod(whole, len(numbers))
        return each if not rest else _double(Fraction(whole, len(numbers)), option)
    return whole / len(numbers)


def deviation(numbers: list[Number], option: str) -> float | None:
    """The sample standard deviation, that of n - 1, exact but for its root; None of fewer than two numbers."""
    if len(numbers) < 2:
        return None
    if math.inf in numbers or -math.inf in numbers:
        raise too_large(option)
    try:
        return _finite(float(statistics.stdev(numbers)), option)
    except OverflowError:
        raise too_large(option) from None


def median(numbers: list[Number], option: str) -> Number | None:
    """The middle one, or the mean of the two in the middle; None of no numbers."""
    if not numbers:
        return None
    ordered = sorted(numbers)
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else mean(ordered[middle - 1 : middle + 1], option)


def _parts(whole: int) -> Iterator[float]:
    """Doubles whose exact sum is `whole`. Raises OverflowError where there are none."""
    while whole:
        part = float(whole)
        yield part
        whole -= int(part)


def _exact(numbers: list[Number], option: str) -> Fraction:
    try:
        return sum(map(Fraction, numbers), Fraction(0))
    except (OverflowError, ValueError):  # an infinity, which JSON makes of 1e400
        raise too_large(option) from None


def _double(number: Fraction, option: str) -> float:
    try:
        return number.numerator / number.denominator
    except OverflowError:
        raise too_large(option) from None


def _finite(number: float, option: str) -> float:
    if not math.isfinite(number):
        raise too_large(option)
    return number
