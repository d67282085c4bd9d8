"""What data parallelism and the optimizer add to a step before and after its pipeline."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from models.bubble import turning
from models.data_parallel import DataParallelClock, HidingPass
from models.layer_chain import Parts
from models.rank_parts import RankParts
from models.schedule import APART

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from models.layout import Array
    from models.pipeline import PassSeconds
    from models.training import StepClock

#: So many times the parameters of the first rank another must have to be looked at.
MUCH_MORE = 1.25


@dataclass(frozen=True, slots=True)
class Ends:
    """Seconds that one kind of rank has before its first pass and after its last.

    Parameters
    ----------
    gathering, reducing
        Communication that nothing hides, of parameters and of gradients.
    slowed
        What hidden reductions take of its last pass.
    optimizer, casting
        The optimizer's step, and quantising the weights.
    """

    gathering: Array
    reducing: Array
    slowed: Array
    optimizer: Array
    casting: Array

    def after(self, slowed: Array) -> Ends:
        """Return it with what the last passes of other ranks are late."""
        return replace(self, reducing=self.reducing + slowed)

    def or_later(self, other: Ends, begins: Array, ends: Array) -> Ends:
        """Return what a step has of two kinds of rank, one of which begins later and ends earlier.

        Parameters
        ----------
        other
            The other kind.
        begins, ends
            How much later it begins, and how much earlier it ends.
        """
        reducing, spare = (
            np.maximum(other.reducing - ends, 0.0),
            np.maximum(ends - other.reducing, 0.0),
        )
        optimizer = np.maximum(other.optimizer - spare, 0.0)
        after = self.reducing + self.optimizer + self.casting
        late = reducing + optimizer + other.casting > after
        return Ends(
            np.maximum(self.gathering, other.gathering - begins),
            np.where(late, reducing, self.reducing),
            self.slowed,
            np.where(late, optimizer, self.optimizer),
            np.where(late, other.casting, self.casting),
        )


class StepEnds:
    """Both ends of the steps of a clock.

    Parameters
    ----------
    clock
        Of the layouts' steps.
    computing
        Share of passes in which kernels run: while others wait there is nothing to steal.
    """

    def __init__(self, clock: StepClock, computing: Array) -> None:
        self.clock, self.prepared, self.computing = clock, clock.prepared, computing

    def latest(self, passes: PassSeconds) -> Ends:
        """Return what data parallelism and the optimizer add before and after the pipeline.

        The first rank starts first and ends last. Another counts where it has so much more to send
        and to update that it is later all the same.
        """
        parts = RankParts.of(self.prepared, 0)
        clock = DataParallelClock(self.prepared, self.clock.device, self.clock.fabric, parts)
        first, back = self._of(clock, 0), passes.backward
        # Reductions take the more of a pass the longer it is.
        behind = self.clock.pipeline.over_ranks(back) - back[0]
        fullest = self._fullest(clock)
        if not fullest.any():
            return first.after(first.slowed * behind / back[0])
        other = self._of(clock.of_rank(RankParts.of(self.prepared, fullest)), fullest)
        stages, cut = self.prepared.stages, self.prepared.stage_index
        ahead = stages.look_up(stages.position, cut, fullest)
        slowed = other.slowed * behind / back[fullest, np.arange(len(cut))]
        return first.or_later(other, *self._slack(passes, ahead)).after(slowed)

    def _of(self, clock: DataParallelClock, rank: int | NDArray[np.intp]) -> Ends:
        """Return what one kind of rank adds: the same for all layouts, or one each."""
        beside = self.beside_gradients(clock.parts, rank)
        return Ends(*clock.exposed(*beside, self.computing), clock.optimizer(), clock.casting())

    def _fullest(self, clock: DataParallelClock) -> NDArray[np.intp]:
        """Return the kind of rank with most parameters, the first where that has about as many.

        A rank behind it ends a pass or more earlier, which makes up for a little.
        """
        kinds = range(self.prepared.stages.width)
        params = [clock.params_of(RankParts.of(self.prepared, rank)) for rank in kinds]
        much_more = np.max(params, axis=0) > MUCH_MORE * params[0]
        fullest: NDArray[np.intp] = np.where(much_more, np.argmax(params, axis=0), 0)
        return fullest

    def _slack(self, passes: PassSeconds, ahead: Array) -> tuple[Array, Array]:
        """Return how much later ranks begin, and how much earlier they end, than the first.

        So many ranks are ahead of each: the first, and others whose passes are taken to be those of
        the slowest. Where gradients of weights are apart they fill up the end.
        """
        batch = self.prepared.batch
        begins, ends = (
            np.where(ahead > 0, each[0] + (ahead - 1.0) * each.max(axis=0), 0.0) / batch.vp
            for each in (passes.forward, passes.backward)
        )
        return begins, np.where(APART.take(batch.schedule), 0.0, ends)

    def beside_gradients(
        self, parts: RankParts, rank: int | NDArray[np.intp]
    ) -> tuple[HidingPass, HidingPass]:
        """Return the passes of a rank that parameters and gradients hide behind.

        Gradients are there when the backward pass has been, or that of the weights where it is run
        apart.
        """
        batch = self.prepared.batch
        stages_ahead = batch.pp / batch.vp
        forward, backward = self.clock.computed(parts, rank)
        (_, *ahead), (_, *behind) = self.clock.forward, self.clock.backward
        between = stages_ahead * backward
        apart = APART.take(batch.schedule)
        if apart.any():
            layers, *ends = self.clock.per_part("weights", self.clock.shape)
            weights = parts.sum(layers, *ends) * self.clock.pipeline.share
            inputs = (backward - weights) / batch.vp + self.clock.pipeline.hop
            turned = turning(batch.schedule, batch.pp, inputs, weights / batch.vp)
            between = np.where(apart, turned, between)
            backward = np.where(apart, weights, backward)
            behind = [np.where(apart, *each) for each in zip(ends, behind, strict=True)]
        return (
            self._pass(parts, forward, stages_ahead * forward, self.clock.forward[0], *ahead),
            self._pass(parts, backward, between, self._kinds_backward(rank), *behind),
        )

    def _pass(
        self,
        parts: RankParts,
        busy: Array,
        between: Array,
        kinds: Sequence[Array],
        embedding: Array,
        head: Array,
    ) -> HidingPass:
        """Return a pass over a rank, given what a layer of each kind and the ends take of it."""
        share = self.clock.pipeline.share
        last = share * parts.last * head
        layers = busy - share * parts.first * embedding - last
        each = Parts(layers=tuple(kinds), embedding=embedding, head=head)
        return HidingPass(busy, layers / (share * parts.layers) + last, between, each)

    def _kinds_backward(self, rank: int | NDArray[np.intp]) -> list[Array]:
        """Return a backward pass through a layer of each kind, with what is computed again."""
        if not self.clock.partial:
            return list(self.clock.backward[0])
        share = self.clock.repeats(rank)
        return [
            own + again * share
            for own, again in zip(self.clock.backward[0], self.clock.again, strict=True)
        ]
