"""Times as people write them."""

from __future__ import annotations


def seconds(value: float) -> str:
    """Return a time as people write it.

    >>> seconds(2104.3), seconds(9.034), seconds(0.0213)
    ('2,104 s', '9.03 s', '21.3 ms')
    """
    if value >= 1000:
        return f"{value:,.0f} s"
    number, unit = (value, "s") if value >= 1 else (value * 1e3, "ms")
    return f"{number:#.3g}".rstrip(".") + f" {unit}"


def interval(low: float, high: float) -> str:
    """Return two times as people write a range, the unit once where it is the same.

    >>> interval(179.2, 262.0), interval(0.9, 1.1)
    ('179-262 s', '900 ms-1.10 s')
    """
    first, unit = seconds(low).split()
    second = seconds(high)
    return f"{first}-{second}" if second.endswith(f" {unit}") else f"{first} {unit}-{second}"
