"""A fit of one kind of kernel, and how far off it is on rows that it has not seen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from validate.fitting.sample import BACKWARD, FORWARD, NARROW_PRODUCT, PRODUCT

if TYPE_CHECKING:
    from collections.abc import Mapping

    from validate.calibration.fit import Fitted, Floats
    from validate.fitting.sample import Marks, Sample

#: Sides of products, and tokens of sequences, from which on rows are as large as training has them.
LARGE_SIDE, LARGE_TOKENS = 512.0, 1024.0


@dataclass(frozen=True, slots=True, kw_only=True)
class KindFit:
    """A fit.

    Parameters
    ----------
    whole
        All rows.
    fitted
        The figures, with errors on held-out fifths.
    sources
        By source, how many rows, and errors of the fit to the other sources; those that only check
        fits among them.
    """

    whole: Sample
    fitted: Fitted
    sources: Mapping[str, tuple[int, Floats | None]]

    def summary(self) -> dict[str, Any]:
        """Return JSON values."""
        large = self.large()
        return {
            **self.fitted.summary(),
            "large": int(large.sum()),
            "large_held_out_median": _median(self.fitted.held_out[large]),
            "sources": {
                name: {
                    "rows": rows,
                    "held_out_median": None if off is None else _median(off),
                    "bias": None if off is None else float(np.median(off)),
                }
                for name, (rows, off) in self.sources.items()
            },
        }

    def told(self, name: str) -> str:
        """Return a figure's source: to what it was fitted, and how far off that is."""
        short = self.summary()
        first = next(iter(self.fitted.values), name)
        told = [
            f"fitted to {short['points']:,} rows of {self.whole.source}"
            if name == first
            else f"fitted with {first} to {short['points']:,} rows",
            f"median error {short['in_sample_median']:.1%}, held out "
            f"{short['held_out_median']:.1%}, 90% within {short['held_out_p90']:.1%}",
        ]
        if short["large"] < short["points"]:
            told.append(f"large rows held out {short['large_held_out_median']:.1%}")
        apart = [
            f"{source} {each['held_out_median']:.1%}"
            for source, each in sorted(short["sources"].items())
            if each["held_out_median"] is not None
        ]
        if apart and name == first:
            told.append(f"whole sources held out: {', '.join(apart)}")
        return "; ".join(told)

    def large(self) -> Marks:
        """Mark rows as training has them: products by every side, attention by its sequences."""
        shapes = self.whole.shapes
        if self.whole.kind in (PRODUCT, NARROW_PRODUCT):
            least, sizes = LARGE_SIDE, np.min([shapes[name] for name in "mnk"], axis=0)
        elif self.whole.kind in (FORWARD, BACKWARD):
            least, sizes = LARGE_TOKENS, shapes["tokens"]
        else:
            least, sizes = 0.0, self.whole.seconds
        marks: Marks = sizes >= least
        return marks


def _median(off: Floats) -> float | None:
    return float(np.median(np.abs(off))) if len(off) else None
