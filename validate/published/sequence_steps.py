"""Predictions of training steps of the second schema: times, memory, lengths, what fits."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

from models.inventory import full_attention_flop
from topologies.units import GIB
from validate.published.asked import asked
from validate.published.job_of import layout_of, scenario_of
from validate.published.measured_value import Metric, measured_seconds, value_of
from validate.published.memory_rows import memory_kind
from validate.published.predicted import Predicted, Quantity
from validate.published.row import UNPREDICTED, UnexpressedError, reason_of
from validate.published.sparing import Sparing, plan_of
from validate.published.stated_step import stated_step

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from validate.published.row import Row

#: What ends lengths other than a device's memory.
ELSEWHERE = re.compile(r"CPU.?memory|cpu-oom|kernel int32|illegal memory", re.IGNORECASE)
#: Lengths are told apart to this share of what fits.
FINEST = 1.0 / 128.0
#: Where no length fits, or all do.
SHORTEST, LONGEST = 2**10, 2**30


def predict_steps(rows: Sequence[Row], progress: Callable[[int], None]) -> Iterator[Predicted]:
    """Return what is predicted of training steps of sequence parallelism.

    Parameters
    ----------
    rows
        Training steps.
    progress
        Called with the number of rows done.
    """
    for done, row in enumerate(rows, start=1):
        try:
            step = _Step(row)
        except UNPREDICTED as error:
            reason = reason_of(error)
            yield from (_skipped(row, quantity, reason) for quantity in asked(row))
        else:
            yield from step.predicted()
        progress(done)


class _Step:
    """One row with its scenario, its layout and their plan."""

    def __init__(self, row: Row) -> None:
        self.row = row
        self.stated, self.sparing = stated_step(row), Sparing.of(row)
        self.scenario = scenario_of(self.stated)
        self.layout = layout_of(self.stated, self.scenario)
        self.plan = plan_of(self.scenario, self.layout)
        self.held_bytes = self.sparing.bytes_on_device(self.scenario, self.layout)
        self.fits = self.held_bytes <= self.plan.capacity_bytes

    def predicted(self) -> Iterator[Predicted]:
        """Return what is predicted of every quantity the row asks for."""
        ways = {
            Quantity.TIME: self._time,
            Quantity.MEMORY: self._memory,
            Quantity.LENGTH: self._length,
            Quantity.FITS: self._fits,
        }
        for quantity in asked(self.row):
            try:
                yield ways[quantity]()
            except UNPREDICTED as error:
                yield _skipped(self.row, quantity, reason_of(error))

    def _time(self) -> Predicted:
        """Return a step's seconds; rates count attention unmasked.

        So do Megatron-LM (arXiv:2104.04473 equation 3), DeepSpeed and torchtitan. FPDT's longest
        rows, at 0.557 of an A100's peak with nearly all FLOP in attention, can have no other count:
        by the pairs a mask leaves, and run forward twice, its kernels would be at 0.84. Checkpoints
        go to host memory beside layers, which take longer in models wider than about a thousand: of
        each token 2 bytes for 24 times the width of FLOP, at a ten-thousandth of their rate.
        """
        if self.sparing.optimizer:
            raise UnexpressedError("time of an optimizer in host memory is not modelled")
        work = self.scenario.workload
        measured = measured_seconds(
            self.row,
            flop=full_attention_flop(self.scenario.architecture, work),
            tokens=float(work.tokens_per_step),
            peak=self.scenario.device.accelerator.peak_flops(work.recipe.peak),
        )
        return self._of(Quantity.TIME, measured, self.plan.step_time_s, self.plan.interval_s)

    def _memory(self) -> Predicted:
        """Return the bytes of the fullest rank, of the kind that the row states."""
        stated = self.row.text("peak_memory")
        if stated:
            measured = self.row.number("peak_memory") * GIB
        else:
            metric, measured = value_of(self.row)
            if metric is not Metric.BYTES:
                raise UnexpressedError(f"no memory follows from {metric}")
        kind = memory_kind(self.stated)
        held = self.sparing.bytes_on_device(self.scenario, self.layout, kind)
        spread = self._spread()
        return self._of(Quantity.MEMORY, measured, held, (held / spread, held * spread))

    def _length(self) -> Predicted:
        """Return the longest sequence that fits, of those that were tried."""
        said = f"{self.row.text('status')} {self.row.text('notes')}"
        if ELSEWHERE.search(said):
            raise UnexpressedError(
                "the length is not modelled where not a device's memory bounds it"
            )
        _, measured = value_of(self.row)
        doubling = "power-of-two" in self.row.text("status")
        longest, spread = self._longest(doubling=doubling), self._spread()
        interval = (longest / spread, longest * spread)
        return self._of(Quantity.LENGTH, measured, float(longest), interval)

    def _spread(self) -> float:
        """Return how far the plan's memory may be off, as a factor."""
        return self.plan.memory_interval_bytes[1] / self.plan.memory_total_bytes

    def _fits(self) -> Predicted:
        """Return whether a run that ended without memory is said to fit."""
        return self._of(Quantity.FITS, 0.0, float(self.fits), None)

    def _longest(self, *, doubling: bool) -> int:
        """Return the longest sequence that fits: of the powers of two, or of all lengths.

        Memory grows with the length, so that lengths are halved between one that fits and one that
        does not; 0 where none fits.
        """

        def fits(length: int) -> bool:
            workload = replace(self.scenario.workload, seq_len=length)
            scenario = replace(self.scenario, workload=workload)
            held = self.sparing.bytes_on_device(scenario, self.layout)
            return held <= self.plan.capacity_bytes

        low = SHORTEST
        if not fits(low):
            return 0
        while low < LONGEST and fits(2 * low):
            low *= 2
        if doubling or low >= LONGEST:
            return low
        high, step = 2 * low, int(low * FINEST)
        while high - low > step:
            middle = (low + high) // 2
            low, high = (middle, high) if fits(middle) else (low, middle)
        return low

    def _of(
        self,
        quantity: Quantity,
        measured: float,
        predicted: float,
        interval: tuple[float, float] | None,
    ) -> Predicted:
        return Predicted(
            row=self.row,
            quantity=quantity,
            measured=measured,
            layout=self.layout,
            predicted=predicted,
            interval=interval,
            fits=self.fits,
            scenario=self.scenario,
        )


def _skipped(row: Row, quantity: Quantity, reason: str) -> Predicted:
    return Predicted(row=row, quantity=quantity, skipped_because=reason)
