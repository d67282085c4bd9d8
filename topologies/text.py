"""Words and figures on pictures of clusters."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from topologies.units import GB, MICRO

if TYPE_CHECKING:
    from topologies.graph import Link

#: Characters that XML does not have.
_NOT_XML = re.compile(r"[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def clean(text: str) -> str:
    r"""Return a text without characters that XML does not have.

    >>> clean("a\x00b")
    'a\ufffdb'
    """
    return _NOT_XML.sub("\ufffd", text)


def short(text: str, most: int) -> str:
    """Return a text of at most so many characters.

    >>> short("infiniband", 6)
    'infin…'
    """
    return text if len(text) <= most else text[: most - 1] + "…"


def rate(link: Link) -> str:
    """Return the rate of a link as people write it: four digits, without an exponent."""
    value = link.Bps / GB
    return f"{value:,.0f} GB/s" if value >= 1000 else f"{value:.4g} GB/s"


def latency(link: Link) -> str:
    """Return the latency of a link in microseconds."""
    return f"{link.latency_s / MICRO:.3g} µs"
