"""Arithmetic on what a model wrote: results as Python has them, or an exception where they would be too large to work out."""

from __future__ import annotations

import math
from fractions import Fraction

BITS = 50_000
"""Of an integer; a power or a product beyond is not worked out."""
FACTORIAL = 3_000
"""The largest number whose factorial is."""

Number = int | float | Fraction
ERRORS = (ValueError, TypeError, ZeroDivisionError, OverflowError)
"""What arithmetic raises where there is no result."""


class NoNumber(Exception):
    """The text is no number by the rules at hand."""


class OverBudget(Exception):
    """It may be a number, but one that is too large, or written too deep or long, to be worked out."""


def bounded(number: Number | complex) -> Number:
    """The number itself. Raises NoNumber for a complex one, OverBudget for an integer that is too long."""
    if isinstance(number, complex):
        raise NoNumber
    if isinstance(number, int) and number.bit_length() > BITS:
        raise OverBudget
    return number


def power(base: Number, exponent: Number) -> Number:
    """base ** exponent. Raises NoNumber, OverBudget, or an arithmetic error."""
    if isinstance(base, int) and isinstance(exponent, int) and abs(base) > 1:
        _check(base, exponent)
    return bounded(base**exponent)


def factorial(number: Number) -> int:
    """number! of an integer. Raises OverBudget, or an arithmetic error for anything else."""
    if isinstance(number, int) and number > FACTORIAL:
        raise OverBudget
    return math.factorial(number)  # type: ignore[arg-type]


def binomial(n: Number, k: Number) -> Number:
    """n over k of an integer k, by the falling factorial of n. Raises NoNumber or OverBudget."""
    if not isinstance(k, int):
        raise NoNumber
    if k < 0:
        return 0
    if isinstance(n, int) and n >= 0:
        k = min(k, n - k)
    if k < 0:
        return 0
    if k > FACTORIAL:
        raise OverBudget
    if not isinstance(n, int):
        return math.prod(n - i for i in range(k)) / math.factorial(k)
    _check(n, k)
    return math.prod(n - i for i in range(k)) // math.factorial(k)


def _check(base: int, factors: int) -> None:
    if base.bit_length() * abs(factors) > BITS:
        raise OverBudget
