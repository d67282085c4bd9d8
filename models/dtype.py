"""Bytes of one element."""

from __future__ import annotations

from typing import Final

BF16: Final = 2.0
FP32: Final = 4.0
FP8: Final = 1.0
