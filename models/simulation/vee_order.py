"""Orders of schedules whose ranks hold two stages: one on the way out, one on the way back.

Zero bubble over a V (Qi et al., arXiv:2405.15362), DualPipe (DeepSeek-AI, arXiv:2412.19437, figure
5: two directions, each rank holds a stage of either) and DualPipeV, its half. Phases and their
lengths are those of the published implementations (pytorch ScheduleZBVZeroBubble;
deepseek-ai/DualPipe@3da1bbe dualpipe.py and dualpipev.py).
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, cast

from models.simulation.pipeline_order import Action, Pair, Pass

if TYPE_CHECKING:
    from models.simulation.pipeline_order import Order


class _Rank:
    """One rank's list while it grows; sides 0 and 1 are its two stages."""

    def __init__(self, stages: tuple[int, int], micro_batches: tuple[range, range]) -> None:
        self.stages = stages
        self.actions: list[Action | Pair] = []
        self.forwards = tuple(iter(batches) for batches in micro_batches)
        self.backwards = tuple(iter(batches) for batches in micro_batches)
        self.left = [len(batches) for batches in micro_batches]
        self.weights: tuple[deque[int], deque[int]] = (deque(), deque())
        self.waiting: deque[int] = deque()

    def forward(self, side: int) -> None:
        """Run the next micro-batch forward on a side."""
        self.left[side] -= 1
        self._add(Pass.FORWARD, side, next(self.forwards[side]))

    def backward(self, side: int, *, whole: bool = True) -> None:
        """Run the next micro-batch backward on a side, whole or leaving the weights for later."""
        micro_batch = next(self.backwards[side])
        self._add(Pass.BACKWARD if whole else Pass.INPUT_GRADIENT, side, micro_batch)
        if not whole:
            self.weights[side].append(micro_batch)
            self.waiting.append(side)

    def apart(self, side: int) -> None:
        """Run the next micro-batch backward on a side, the weights right after."""
        self.backward(side, whole=False)
        self.weight(side)

    def pair(self, forward: int, backward: int) -> None:
        """Run forward on one side and backward on another as one."""
        self.forward(forward)
        self.backward(backward)
        behind = self.actions.pop()
        ahead = self.actions.pop()
        self.actions.append(Pair(cast("Action", ahead), cast("Action", behind)))

    def weight(self, side: int) -> None:
        """Run the weight gradient that has waited longest on a side."""
        self.waiting.remove(side)
        self._add(Pass.WEIGHT_GRADIENT, side, self.weights[side].popleft())

    def oldest_weight(self) -> None:
        """Run the weight gradient that has waited longest."""
        self.weight(self.waiting[0])

    def _add(self, kind: Pass, side: int, micro_batch: int) -> None:
        self.actions.append(Action(kind, self.stages[side], micro_batch))


def zero_bubble_v(pp: int, micro_batches: int) -> Order:
    """Return the schedule without bubbles in the memory of 1F1B; at least ``2 pp - 1`` run."""
    many = max(2 * pp - 1, micro_batches)
    return [_zero_bubble_rank(pp, rank, many).actions for rank in range(pp)]


def _zero_bubble_rank(pp: int, rank: int, many: int) -> _Rank:
    run = _Rank((rank, 2 * pp - 1 - rank), (range(many), range(many)))
    for _ in range(2 * (pp - rank) - 1):
        run.forward(0)
    for _ in range(rank):
        run.forward(1)
        run.forward(0)
    for _ in range(pp - rank):
        run.forward(1)
        run.apart(1)
    while run.left[0] or run.left[1]:
        if run.left[0]:
            run.forward(0)
        run.apart(0)
        run.forward(1)
        run.apart(1)
    for _ in range(rank):
        run.backward(0, whole=False)
        run.backward(1, whole=False)
    for _ in range(pp - rank):
        run.backward(0, whole=False)
        run.weight(0)
    for side in (1, 0):
        while run.weights[side]:
            run.weight(side)
    return run


def dual_pipe_v(pp: int, micro_batches: int) -> Order:
    """Return DualPipeV: forward on one stage beside backward on the other."""
    both = range(micro_batches)
    stages = [(rank, 2 * pp - 1 - rank) for rank in range(pp)]
    main = micro_batches - 2 * pp
    return [_dual(_Rank(stages[rank], (both, both)), rank, pp, main) for rank in range(pp)]


def dual_pipe(pp: int, micro_batches: int) -> Order:
    """Return DualPipe: half of the micro-batches each way, from both ends of the pipeline.

    Micro-batches of the second half go from the last rank to the first.
    """
    half = micro_batches // 2
    halves = range(half), range(half, micro_batches)
    order: Order = []
    for rank in range(pp):
        stages, batches, place = (rank, pp - 1 - rank), halves, rank
        if rank >= pp // 2:
            stages, batches, place = stages[::-1], halves[::-1], pp - 1 - rank
        order.append(_dual(_Rank(stages, batches), place, pp // 2, half - pp))
    return order


def _dual(run: _Rank, place: int, many: int, main: int) -> list[Action | Pair]:
    """Run the eight phases of DualPipe for the rank at a place of one half."""
    rest = many - place - 1
    for _ in range(2 * rest):
        run.forward(0)
    for _ in range(place + 1):
        run.forward(0)
        run.forward(1)
    for _ in range(rest):
        run.backward(1, whole=False)
        run.oldest_weight()
        run.forward(1)
    for turn in range(main + place + 1):
        if turn == 0 and rest == 0:  # its own forward pass is what the backward pass waits for
            run.forward(0)
            run.backward(1)
        else:
            run.pair(0, 1)
        run.pair(1, 0)
    for _ in range(rest):
        run.backward(1)
        run.pair(1, 0)
    middle, odd = (place + 1) // 2, place % 2 == 1
    for at in range(place + 1):
        run.backward(1, whole=at < middle or (at == middle and not odd))
        run.backward(0, whole=at < middle)
    for _ in range(rest):
        run.oldest_weight()
        run.backward(0, whole=False)
    while run.waiting:
        run.oldest_weight()
    return run.actions
