"""Whether runs that ended without memory are said not to fit, and those that ran to fit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

    from validate.published.predicted import Predicted


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryLimits:
    """Runs by whether they fitted, and how many of each are said right.

    Either alone says little: whoever calls everything too large is right of all that ended.

    Parameters
    ----------
    ended, ended_right
        Runs that ended without memory, and those of them said not to fit.
    ran, ran_right
        Runs that were timed, and those of them said to fit.
    """

    ended: int
    ended_right: int
    ran: int
    ran_right: int

    @classmethod
    def of(cls, rows: Iterable[Predicted]) -> MemoryLimits:
        """Return the counts over the rows of which it is predicted whether they fit, each once."""
        told = {
            id(each.row): (each.ran, each.fits) for each in rows if each.fits is not None
        }.values()
        ran = [fits for ran, fits in told if ran]
        ended = [fits for ran, fits in told if not ran]
        return cls(
            ended=len(ended),
            ended_right=ended.count(False),
            ran=len(ran),
            ran_right=ran.count(True),
        )

    def record(self) -> dict[str, Any]:
        """Return it as JSON holds it."""
        return {
            "out_of_memory": {"n": self.ended, "right": self.ended_right},
            "ran": {"n": self.ran, "right": self.ran_right},
        }
