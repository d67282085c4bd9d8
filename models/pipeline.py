"""Seconds of a pipeline of ranks: every schedule, stages of any length, sends between ranks.

1F1B and interleaved 1F1B take ``sum over ranks of (F + B) / v + (m - 1/v) max (F + B)``, which is
``(m + (p - 1) / v) (F + B)`` for equal stages (Narayanan et al., arXiv:2104.04473 section 2.2), and
with unequal chunks what :mod:`models.uneven_chunks` finds; GPipe takes forward and backward apart.
The other schedules take ``m max (F + B)`` and their bubble (:mod:`models.bubble`). With stages of
unequal length the bubble is that of the mean of the ranks other than the slowest: they fill and
drain the pipeline, the slowest sets the pace between. For 1F1B that is the formula above. Where the
slowest rank holds both ends of the model (a V, or a pipeline both ways) it starts first and ends
last, and part of its longer work takes the place of its bubble: of the two the root of the sum of
squares is left, between the longer and the sum.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from models.bubble import BUBBLES, Turn, bubble
from models.named_axes import Schedule
from models.overlap import beside
from models.schedule import BOTH_WAYS, PATHS, WAITING, Path
from models.stage_sends import StageSends
from models.uneven_chunks import waits

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from models.compute import Device
    from models.layout import Array
    from models.prepared import Prepared
    from models.rank_parts import RankParts
    from topologies.fabric import Fabric


@dataclass(frozen=True, kw_only=True)
class PassSeconds:
    """Seconds of one micro-batch's passes; arrays of shape ``[kinds of rank, layouts]``.

    Parameters
    ----------
    forward, backward
        Through all stages of a rank that a micro-batch passes.
    inputs, weights
        The backward pass in two, for schedules that run it so; 0 elsewhere.
    """

    forward: Array
    backward: Array
    inputs: Array
    weights: Array

    @cached_property
    def both(self) -> Array:
        """Forward and backward together."""
        return self.forward + self.backward


class PipelineClock:
    """Puts the passes of ranks together into pipelines.

    Parameters
    ----------
    prepared, device, fabric
        Layouts, accelerator with profile, links.
    """

    def __init__(self, prepared: Prepared, device: Device, fabric: Fabric) -> None:
        self.prepared = prepared
        batch = prepared.batch
        sends = StageSends(prepared, device.profile, fabric)
        self.hop = sends.seconds(prepared.shape_index, prepared.mesh_index)
        self.steal = sends.steal[prepared.mesh_index]
        self.uneven = waits(prepared, device, fabric)
        self.waiting = WAITING.take(batch.schedule)
        self.sent = np.where(self.waiting, self.hop, batch.vp * self.hop)
        both_ways = BOTH_WAYS.take(batch.schedule)
        self.both_ways = bool(both_ways.any())
        #: Of a rank's stages, the share that one micro-batch passes.
        self.share = np.where(both_ways, 0.5, 1.0)
        # The last stage sends nothing on and the first nothing back, but for other chunks.
        self.ends = np.where(batch.vp > 1, 0.0, self.share)

    def sending(self, parts: RankParts, forward: Array, backward: Array) -> tuple[Array, Array]:
        """Return passes of a rank with what they wait for their sends.

        1F1B and GPipe wait for each; the other schedules send every stage's output hidden behind
        other passes as far as they last (Megatron's overlap_p2p_comm).
        """
        onwards, back = self._exposed(forward), self._exposed(backward)
        onwards *= 1.0 - self.ends * parts.last
        back *= 1.0 - self.ends * parts.first
        return forward + onwards, backward + back

    def seconds(self, passes: PassSeconds) -> Array:
        """Return the time of every layout's pipeline."""
        batch, many = self.prepared.batch, self.prepared.micro_batches
        both = passes.both
        slowest = both.max(axis=0)
        once = self.over_ranks(both)
        steady: Array = many * slowest + (once - slowest) / batch.vp
        steady += slowest * self.uneven
        if (alone := batch.schedule == Schedule.ONE_F_ONE_B).any():
            steady = np.where(alone, self._one_f_one_b(passes, once), steady)
        gpipe = batch.schedule == Schedule.GPIPE
        if gpipe.any():
            apart = passes.forward.max(axis=0) + passes.backward.max(axis=0)
            steady = np.where(gpipe, once + (many - 1.0) * apart, steady)
        # Filling and draining, every hop is waited for, whatever hides those in between.
        hops = 2.0 * (batch.vp * batch.pp - 1.0)
        steady += np.where(batch.schedule == Schedule.INTERLEAVED, hops * self.hop, 0.0)
        for schedule in BUBBLES:
            rows = np.flatnonzero(batch.schedule == schedule)
            if len(rows):
                steady[rows] = self._ending(schedule, rows, passes)
        return steady

    def _one_f_one_b(self, passes: PassSeconds, once: Array) -> Array:
        """Return the time of every layout's pipeline if it is one of 1F1B, given all ranks' passes.

        A rank waits for all ranks before it at either end. While its first micro-batch is with
        those behind it, it runs as many more forward as they are, and at last as many more
        backward: what is left of them counts. The rank that ends up latest sets the time.
        """
        stages, cut = self.prepared.stages, self.prepared.stage_index
        many, behind, ranks = self.prepared.micro_batches, np.zeros(len(cut)), np.zeros(len(cut))
        latest = np.zeros(len(cut))
        for kind in reversed(range(stages.width)):  # kinds are in the order of their first ranks
            both, those = passes.both[kind], stages.look_up(stages.multiplicity, cut, kind)
            ahead = np.minimum(ranks, many - 1.0)
            left = np.maximum(behind - ahead * passes.forward[kind], 0.0)
            left += np.maximum(behind - ahead * passes.backward[kind], 0.0)
            total = (many - 1.0) * both + once - behind + np.minimum(behind, left)
            latest = np.where(those > 0, np.maximum(latest, total), latest)
            behind, ranks = behind + those * both, ranks + those
        return latest

    def _ending(self, schedule: Schedule, rows: NDArray[np.intp], passes: PassSeconds) -> Array:
        """Return the time of one schedule's pipelines, by its bubble."""
        pp, vp = (axis[rows] * 1.0 for axis in (self.prepared.batch.pp, self.prepared.batch.vp))
        many, both = self.prepared.micro_batches[rows], passes.both[:, rows]
        slowest = np.argmax(both, axis=0)
        kinds = slowest, np.arange(len(rows))

        def others(column: Array) -> Array:
            mean: Array = (self.over_ranks(column, rows) - column[kinds]) / (pp - 1.0)
            return mean

        turn = Turn(
            forward=others(passes.forward[:, rows]) / vp,
            backward=others(passes.backward[:, rows]) / vp,
            inputs=others(passes.inputs[:, rows]) / vp,
            weights=others(passes.weights[:, rows]) / vp,
            hop=self.hop[rows],
        )
        waiting = bubble(schedule, pp, many, vp, turn)
        longer = many * (both[kinds] - others(both))
        loop = PATHS[schedule] == Path.LOOP
        beyond: Array = longer + waiting if loop else np.hypot(longer, waiting)
        return many * others(both) + beyond

    def over_ranks(self, column: Array, rows: NDArray[np.intp] | slice = slice(None)) -> Array:
        """Return a quantity of kinds of rank summed over the ranks of a pipeline."""
        stages, cut = self.prepared.stages, self.prepared.stage_index[rows]
        total: Array = np.zeros_like(column[0])
        for kind in range(stages.width):
            total += stages.look_up(stages.multiplicity, cut, kind) * column[kind]
        return total

    def _exposed(self, busy: Array) -> Array:
        """Return what a pass that keeps a rank `busy` waits for its sends."""
        return np.where(self.waiting, self.sent, beside(self.sent, busy, self.steal))
