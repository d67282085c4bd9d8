"""A profile's figures from measurements: least squares over logarithms, errors held out.

The forms are those of :class:`models.compute.Device` and :mod:`models.collectives`, so that what is
fitted is what plans are made of. Errors are of points that a fit has not seen: each fifth of the
points in turn is predicted from a fit to the others.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.optimize import least_squares

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    Floats = NDArray[np.floating[Any]]
    #: Seconds of some points, from values of the figures.
    Form = Callable[[Mapping[str, float], NDArray[np.intp]], Floats]

FOLDS = 5
#: Relative error from which on a point counts linearly, not by its square.
ROBUST = 0.1
#: How far from where it starts a figure may go.
FURTHEST = 1e4
#: Times what it is given as that a figure is tried as, before any is fitted. Where one bound hides
#: another, as memory hides a rate that is far too high, no slope leads back.
TRIED = (0.1, 0.3, 3.0, 10.0, 30.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fitted:
    """A fit of some figures.

    Parameters
    ----------
    values
        By name, in SI units.
    seconds
        That were measured.
    in_sample, held_out
        Predicted over measured, less one: of the fit to all points, and of fits to the others.
    """

    values: Mapping[str, float]
    seconds: Floats
    in_sample: Floats
    held_out: Floats

    def summary(self) -> dict[str, Any]:
        """Return the fit as a profile file holds it."""
        off = np.abs(self.held_out)
        return {
            "parameters": list(self.values),
            "points": len(self.seconds),
            "in_sample_median": float(np.median(np.abs(self.in_sample))),
            "held_out_median": float(np.median(off)),
            "held_out_p90": float(np.percentile(off, 90)),
            "lowest": float(self.seconds.min()),
            "highest": float(self.seconds.max()),
        }


def fit(
    start: Mapping[str, float],
    form: Form,
    seconds: Floats,
    seed: int,
    weights: Floats | None = None,
    *,
    robust: bool = True,
) -> Fitted:
    """Return the figures with which a form comes nearest to what was measured.

    Parameters
    ----------
    start
        Where to start, by name; above 0.
    form
        Seconds of the points with given numbers.
    seconds
        Measured, of all points.
    seed
        Of the folds.
    weights
        Of the points; all alike by default.
    robust
        Whether points that are far off count linearly; else as others, by their square.
    """
    points = np.arange(len(seconds))
    weigh = np.ones(len(seconds)) if weights is None else weights / weights.mean()
    values = solve(start, form, seconds, points, weigh, robust=robust)
    held_out = np.empty(len(seconds))
    fold = np.random.default_rng(seed).permutation(len(seconds)) % FOLDS
    for number in range(min(FOLDS, len(seconds))):
        others = solve(values, form, seconds, points[fold != number], weigh, robust=robust)
        mine = points[fold == number]
        held_out[mine] = form(others, mine) / seconds[mine] - 1.0
    return Fitted(
        values=values,
        seconds=seconds,
        in_sample=form(values, points) / seconds - 1.0,
        held_out=held_out,
    )


def solve(
    start: Mapping[str, float],
    form: Form,
    seconds: Floats,
    points: NDArray[np.intp],
    weights: Floats,
    *,
    robust: bool = True,
) -> dict[str, float]:
    """Return the figures with which a form comes nearest to some of the points.

    Parameters
    ----------
    start, form, seconds, weights, robust
        As of :func:`fit`.
    points
        Which count.
    """
    names = list(start)
    if not names:
        return {}
    given = np.log([start[name] for name in names])

    def residuals(logs: Floats) -> Floats:
        values = dict(zip(names, np.exp(logs), strict=True))
        off: Floats = np.log(form(values, points) / seconds[points])
        return off * np.sqrt(weights[points])

    reach = np.log(FURTHEST)
    begun = _nearest(given, lambda logs: float(np.abs(residuals(logs)).sum()))
    found = least_squares(
        residuals,
        begun,
        bounds=(given - reach, given + reach),
        loss="soft_l1" if robust else "linear",
        f_scale=ROBUST,
    )
    return {name: float(np.exp(log)) for name, log in zip(names, found.x, strict=True)}


def _nearest(given: Floats, off: Callable[[Floats], float]) -> Floats:
    """Return where to start: each figure in turn as it is, or as what is tried that is nearer."""
    best = given
    for at in range(len(given)):
        tried = [best + np.log(times) * (np.arange(len(given)) == at) for times in TRIED]
        best = min([best, *tried], key=off)
    return best
