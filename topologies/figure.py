"""A number with its origin."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Provenance(StrEnum):
    """Where a number comes from, from the firmest to the softest."""

    MEASURED = "measured"
    SPEC = "spec"
    FITTED = "fitted"
    ASSUMED = "assumed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One number of a catalogue or profile, in SI units, with its origin.

    Parameters
    ----------
    value
        The number, already converted to SI (bytes, seconds, FLOP/s, bytes/s, W) or a plain ratio.
    kind
        How it is known.
    source
        Data sheet, file of a repository with its commit, or the reason of an assumption.
    """

    value: float
    kind: Provenance
    source: str

    def __float__(self) -> float:
        """Return the bare number."""
        return self.value
