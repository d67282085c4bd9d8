"""Every schedule by its name: the order of its passes, and which rank holds which stage."""

from __future__ import annotations

from typing import TYPE_CHECKING

from models.layout import Schedule
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


def fewest_micro_batches(schedule: Schedule, pp: int) -> int:
    """Return how many micro-batches a schedule needs: what fills its ranks.

    ZB-V ``2 pp - 1`` (pytorch ScheduleZBVZeroBubble), DualPipe and DualPipeV ``2 pp``
    (deepseek-ai/DualPipe dualpipe.py).
    """
    if schedule is Schedule.ZB_V:
        return 2 * pp - 1
    return 2 * pp if schedule in (Schedule.DUALPIPE, Schedule.DUALPIPE_V) else 1


def _wrong(schedule: Schedule, pp: int, micro_batches: int, vp: int) -> str:
    """Return why there is no order; empty if there is one."""
    fewest = fewest_micro_batches(schedule, pp)
    chunked = (Schedule.INTERLEAVED, Schedule.LOOPED_BFS, Schedule.ZB_H1)
    vee = schedule in (Schedule.ZB_V, Schedule.DUALPIPE_V)
    if vee and vp != 2:
        return "holds two model chunks per rank: use --vp 2"
    if not vee and vp > 1 and schedule not in chunked:
        return "holds one model chunk per rank: use --vp 1"
    if micro_batches < fewest:
        return f"needs {fewest} micro-batches or more on {pp} ranks, not {micro_batches}"
    if schedule in (Schedule.INTERLEAVED, Schedule.ZB_H1) and vp > 1 and micro_batches % pp:
        return f"needs micro-batches in multiples of the {pp} ranks, not {micro_batches}"
    if schedule is Schedule.DUALPIPE and (pp % 2 or micro_batches % 2):
        return f"needs even numbers of ranks and of micro-batches, not {pp} and {micro_batches}"
    return ""
