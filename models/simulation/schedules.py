"""Every schedule by its name: the order of its passes, and which rank holds which stage."""

from __future__ import annotations

from typing import TYPE_CHECKING

from models.named_axes import Schedule
from models.schedule import CHUNKED, VEE, VEE_CHUNKS, fewest_micro_batches
from models.simulation import pipeline_order, vee_order
from models.simulation.pipeline_order import Way
from topologies.errors import Problem, SpecError

if TYPE_CHECKING:
    from models.simulation.pipeline_order import Order


def ordered(schedule: Schedule, pp: int, micro_batches: int, vp: int = 1) -> tuple[Order, Way]:
    """Return what every rank runs, and where the stages are.

    Parameters
    ----------
    schedule
        Which one.
    pp
        Pipeline ranks.
    micro_batches
        Of one step.
    vp
        Model chunks per rank: 2 for schedules in a V, 1 for those that do not cut ranks' layers.

    Raises
    ------
    SpecError
        If there is no such order.

    Examples
    --------
    >>> order, way = ordered(Schedule.ONE_F_ONE_B, 2, 2)
    >>> [action.kind.value for action in order[0]], way.ranks
    (['F', 'F', 'B', 'B'], (0, 1))
    """
    mend = _wrong(schedule, pp, micro_batches, vp)
    if mend:
        raise SpecError([Problem("--schedule", schedule.label, mend)])
    match schedule:
        case Schedule.GPIPE:
            return pipeline_order.gpipe(pp, micro_batches), Way.loop(pp, 1)
        case Schedule.ONE_F_ONE_B:
            return pipeline_order.one_f_one_b(pp, micro_batches), Way.loop(pp, 1)
        case Schedule.INTERLEAVED:
            return pipeline_order.interleaved(pp, micro_batches, vp), Way.loop(pp, vp)
        case Schedule.LOOPED_BFS:
            return pipeline_order.looped_bfs(pp, micro_batches, vp), Way.loop(pp, vp)
        case Schedule.ZB_H1:
            return pipeline_order.zero_bubble_h1(pp, micro_batches, vp), Way.loop(pp, vp)
        case Schedule.ZB_H2:
            return pipeline_order.zero_bubble_h2(pp, micro_batches), Way.loop(pp, 1)
        case Schedule.ZB_V:
            return vee_order.zero_bubble_v(pp, micro_batches), Way.vee(pp)
        case Schedule.DUALPIPE:
            return vee_order.dual_pipe(pp, micro_batches), Way.both_ways(pp, micro_batches)
        case Schedule.DUALPIPE_V:
            return vee_order.dual_pipe_v(pp, micro_batches), Way.vee(pp)


def _wrong(schedule: Schedule, pp: int, micro_batches: int, vp: int) -> str:
    """Return why there is no order; empty if there is one."""
    chunks = VEE_CHUNKS if VEE[schedule] else 1
    if vp != chunks and not (CHUNKED[schedule] or schedule is Schedule.ZB_H1):
        return f"holds {chunks} model chunks per rank, not {vp}"
    fewest = int(fewest_micro_batches(schedule, pp))
    if micro_batches < fewest:
        return f"needs {fewest} micro-batches or more on {pp} ranks, not {micro_batches}"
    if vp > 1 and schedule in (Schedule.INTERLEAVED, Schedule.ZB_H1) and micro_batches % pp:
        return f"needs micro-batches in multiples of the {pp} ranks, not {micro_batches}"
    if schedule is Schedule.DUALPIPE and (pp % 2 or micro_batches % 2):
        return f"needs even numbers of ranks and of micro-batches, not {pp} and {micro_batches}"
    return ""
