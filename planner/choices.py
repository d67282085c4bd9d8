"""What a job is asked with beside its size, declared once for every way to ask."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

#: Chance to fit of a layout that is predicted to need just what a device has.
USUAL_CHANCE = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Choices:
    """What a job is asked with beside its size, and what it is if not asked for.

    Parameters
    ----------
    precision
        What the layers' products run in (``bf16``, ``fp8-blockwise``; see
        ``models/data/precisions.yaml``).
    ecmp, ecmp_seed
        How flows meet on equal links: ``perfect`` (evenly), ``expected`` (hashed, the expectation)
        or ``seeded`` (hashed, one draw). It matters where a spine has several ``paths``, in
        dragonflies and in clusters given link by link.
    profile
        What ``meshwright calibrate`` wrote on this kind of accelerator, or a whole profile as
        ``.yaml``; None for the catalogue's.
    optimizer, gradients, reduce
        What the optimizer keeps (``adamw-8bit``; see ``models/data/optimizers.yaml``), and the
        dtypes (``fp32``, ``bf16``) in which gradients are kept and are sent; ``bf16+fp32`` keeps
        those of a pass beside their sum.
    expert_skew, expert_capacity
        How unevenly tokens spread over experts (:class:`models.routing.Routing`).
    predict_depth
        Layers of multi-token prediction that are trained too.
    software
        What runs the job (``megatron-2021``; see ``models/data/software.yaml``); ``usual`` is what
        frameworks of today do, and of a framework that layouts are restricted to its own.
    packed_len
        Tokens of each of the sequences packed into one, all alike, which attend to themselves only
        (``500``, ``"1k"``); None where each is one.
    fit_chance
        Least chance with which a layout must fit in memory, over 0 and under 1: 0.5 takes what fits
        by the prediction itself, 0.9 what fits in nine of ten cases, by its interval.
    """

    precision: str = "bf16"
    ecmp: str = "perfect"
    ecmp_seed: int = 0
    profile: str | Path | None = None
    optimizer: str = "adamw"
    gradients: str = "fp32"
    reduce: str = "fp32"
    expert_skew: float = 0.0
    expert_capacity: float | None = None
    predict_depth: int = 0
    software: str = "usual"
    packed_len: int | str | None = None
    fit_chance: float = USUAL_CHANCE

    @classmethod
    def among(cls, options: Mapping[str, Any]) -> tuple[Self, dict[str, Any]]:
        """Return the choices among some options, and the others."""
        names = {each.name for each in fields(cls)}
        own = {name: value for name, value in options.items() if name in names}
        return cls(**own), {name: value for name, value in options.items() if name not in names}
