"""Sizes of the units people write, in SI; bits appear nowhere."""

from __future__ import annotations

from typing import Final

MICRO: Final = 1e-6
MILLI: Final = 1e-3
GB: Final = 1e9
TERA: Final = 1e12
GIB: Final = 2.0**30
