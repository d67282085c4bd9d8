"""Colours that every picture of the project shares."""

from __future__ import annotations

#: Okabe and Ito's colours, told apart with any colour vision (doi:10.1038/nmeth.1618).
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
