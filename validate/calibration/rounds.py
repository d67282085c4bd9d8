"""Rounds over all there is to measure, on all ranks at once.

Every round takes each item once, in an order of its own, so that what changes while it runs, clocks
and other loads, touches all items alike.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.distributed as dist

from validate.calibration import everything
from validate.calibration.bench import Bench, Sample
from validate.calibration.item import SCALES

if TYPE_CHECKING:
    from validate.calibration.item import Item, Scale
    from validate.processes import Rank

#: Items after which the ranks tell what they measured.
BATCH = 24


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What the ranks of a job measure.

    Parameters
    ----------
    items
        In any order, the same on all ranks.
    had
        Rounds that each has from before.
    device, scale
        On what, and how large; the device's own scale by default.
    rounds
        How many each shall have.
    budget_s
        When to stop, whatever is left.
    seed
        Of orders and inputs.
    """

    items: tuple[Item, ...]
    had: tuple[int, ...]
    device: str
    rounds: int
    budget_s: float
    seed: int
    scale: Scale | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """What ranks found together.

    Parameters
    ----------
    samples
        Number of the item, its sample, and calls in it.
    impossible
        Number of the item, and why it cannot be measured here.
    """

    samples: tuple[tuple[int, Sample, int], ...] = ()
    impossible: tuple[tuple[int, str], ...] = ()


def measure(rank: Rank, told: Told) -> bool:
    """Measure as one of the ranks of a job; return whether all rounds were done in time."""
    return _Rounds(rank, told).run()


@dataclass
class _Rounds:
    rank: Rank
    told: Told
    bench: Bench = field(init=False)
    until: float = field(init=False)
    samples: list[tuple[int, Sample, int]] = field(default_factory=list)
    impossible: list[tuple[int, str]] = field(default_factory=list)
    left_out: set[int] = field(default_factory=set)
    had: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        self.until = time.monotonic() + self.told.budget_s
        self.bench = Bench(
            self.told.device, rank=self.rank.rank, world=self.rank.world, seed=self.told.seed
        )

    def run(self) -> bool:
        self.had = self._had()
        done = all(self._round(number) for number in range(self.told.rounds))
        self._tell()
        return done

    def _had(self) -> tuple[int, ...]:
        """Return the first rank's rounds from before: others may not see its file."""
        had = [self.told.had]
        if self.rank.world > 1:
            dist.broadcast_object_list(had)
        return had[0]

    def _round(self, number: int) -> bool:
        """Take every item that has no more rounds than this; return whether time sufficed."""
        order = np.random.default_rng((self.told.seed, number)).permutation(len(self.told.items))
        for at in map(int, order):
            if self.had[at] > number or at in self.left_out:
                continue
            if self.bench.largest(int(time.monotonic() > self.until)):
                return False
            self._take(at)
            if len(self.samples) + len(self.impossible) >= BATCH:
                self._tell()
        return True

    def _take(self, at: int) -> None:
        item, scale = self.told.items[at], self.told.scale or SCALES[self.told.device]
        try:
            call = everything.prepare(item, self.bench)
            sample = self.bench.sample(item, call, everything.burst_s(item, scale))
        except torch.OutOfMemoryError:
            if self.rank.world > 1:  # the others wait for it
                raise
            self.left_out.add(at)
            self.impossible.append((at, "the device's memory is too small"))
            return
        self.samples.append((at, sample, self.bench.calls[item]))

    def _tell(self) -> None:
        """Report what all ranks measured: their mean time of a core, the slowest one of a GPU."""
        every: list[Any] = [[sample for _, sample, _ in self.samples]]
        if self.rank.world > 1:
            every = [None] * self.rank.world
            dist.all_gather_object(every, [sample for _, sample, _ in self.samples])
        combine = np.max if self.told.device == "cuda" else np.mean
        together = [
            Sample(float(combine([each.seconds for each in ranks])), max(s.wall_s for s in ranks))
            for ranks in zip(*every, strict=True)
        ]
        if self.rank.rank == 0:
            found = tuple(
                (at, sample, calls)
                for (at, _, calls), sample in zip(self.samples, together, strict=True)
            )
            self.rank.report(Heard(samples=found, impossible=tuple(self.impossible)))
        self.samples, self.impossible = [], []
