"""What checks say of kernels with a slip in them."""

from __future__ import annotations

from validate import exactness
from validate.cases import cases


def wrong(ranks):
    """Return the methods that are not exact in f64."""
    checked = exactness.check_virtually(cases(ranks, ["f64"]))
    return [found.case.method for found in checked if not found.exact]
