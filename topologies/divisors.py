"""Divisors: the degrees that cut a number of ranks, heads or experts evenly."""

from __future__ import annotations

from math import isqrt


def divisors(number: int) -> list[int]:
    """Return all divisors, ascending.

    >>> divisors(12)
    [1, 2, 3, 4, 6, 12]
    """
    low = [value for value in range(1, isqrt(number) + 1) if number % value == 0]
    return sorted({*low, *(number // value for value in low)})
