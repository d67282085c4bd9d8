"""Exact search: every legal layout, pruned by memory, the fastest of each mesh kept."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from models.layout import LayoutBatch
from models.memory import fewest_repeated_layers, memory_bill
from models.named_axes import Recompute
from models.shape import run_starts
from models.training import StepClock
from planner.options import FEWEST, MESH_AXES
from planner.pareto import Front
from planner.plans import SearchCounts

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from models.layout import Array
    from models.memory_bill import MemoryBill
    from models.prepared import Prepared
    from planner.scenario import Scenario
    from planner.space import Space


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What a search brings back.

    Parameters
    ----------
    best
        The fastest layout of each mesh, fastest first; empty if nothing fits.
    step_s
        Their step times.
    smallest
        The layout that needs the least memory, fitting or not; None if nothing is legal.
    counts
        How much was looked at.
    front
        Of all layouts that fit, those that no other beats in step time without more memory;
        fastest first.
    """

    best: LayoutBatch
    step_s: Array
    smallest: LayoutBatch | None
    counts: SearchCounts
    front: LayoutBatch


@dataclass(slots=True)
class _Kept:
    best: list[LayoutBatch]
    step_s: list[Array]
    front: Front
    smallest: LayoutBatch | None = None
    smallest_bytes: float = np.inf
    legal: int = 0
    fit: int = 0


def search(
    scenario: Scenario, space: Space, progress: Callable[[int], None] | None = None
) -> Found:
    """Search a space exactly.

    Memory is computed for every legal layout; step time, for those that fit. The first of the
    result is the optimum of the model over the space.

    Parameters
    ----------
    scenario
        Model, cluster, workload.
    space
        Layouts to consider.
    progress
        Called after each batch with the number of legal layouts seen.
    """
    started = time.perf_counter()
    kept = _Kept(best=[], step_s=[], front=Front.empty())
    for batch in space.batches():
        _look_at(scenario, space, batch, kept)
        if progress is not None:
            progress(kept.legal)
    empty = LayoutBatch.of([])
    best = LayoutBatch.concatenate(kept.best) if kept.best else empty
    step_s = np.concatenate(kept.step_s) if kept.step_s else np.zeros(0)
    order = np.argsort(step_s, kind="stable")
    counts = SearchCounts(
        legal=kept.legal, fit=kept.fit, costed=kept.fit, seconds=time.perf_counter() - started
    )
    return Found(
        best=best.take(order),
        step_s=step_s[order],
        smallest=kept.smallest,
        counts=counts,
        front=kept.front.layouts,
    )


def first_fit(
    scenario: Scenario, space: Space, progress: Callable[[int], None] | None = None
) -> bool:
    """Return whether any layout of a space fits, stopping at the first batch that has one."""
    seen = 0
    for batch in space.batches():
        prepared = _prepare(scenario, space, batch)
        seen += len(batch)
        if progress is not None:
            progress(seen)
        if not len(prepared):
            continue
        if np.any(_bill(scenario, prepared).least <= scenario.limit_bytes):
            return True
    return False


def _look_at(scenario: Scenario, space: Space, batch: LayoutBatch, kept: _Kept) -> None:
    """Evaluate one batch and keep what is best in it."""
    prepared = _prepare(scenario, space, batch)
    kept.legal += len(prepared)
    if not len(prepared):
        return
    bill = _bill(scenario, prepared)
    smallest = int(np.argmin(bill.least))
    if bill.least[smallest] < kept.smallest_bytes:
        kept.smallest_bytes = float(bill.least[smallest])
        kept.smallest = prepared.batch.take(slice(smallest, smallest + 1))
    fits = np.flatnonzero(bill.least <= scenario.limit_bytes)
    kept.fit += len(fits)
    if not len(fits):
        return
    fitting = prepared.take(fits)
    step_s = StepClock(fitting, scenario.device, scenario.fabric).step().total
    nbytes = bill.total[fits]
    chosen = _best_of_each_mesh(fitting.batch, step_s, nbytes)
    kept.best.append(fitting.batch.take(chosen))
    kept.step_s.append(step_s[chosen])
    kept.front = kept.front.joined(fitting.batch, step_s, nbytes)


def _bill(scenario: Scenario, prepared: Prepared) -> MemoryBill:
    return memory_bill(prepared, scenario.device.profile, scenario.capacity_bytes)


def _prepare(scenario: Scenario, space: Space, batch: LayoutBatch) -> Prepared:
    """Prepare a batch, with the fewest recomputed layers that fit filled in.

    Layouts where that is none or all are dropped. None is a layout of its own, unless pins leave it
    out: then one layer is the fewest.
    """
    prepared = scenario.prepared(batch)
    open_rows = np.flatnonzero(prepared.batch.recompute_layers == FEWEST)
    if not len(open_rows):
        return prepared
    fewest = fewest_repeated_layers(
        prepared.take(open_rows), scenario.device.profile, scenario.limit_bytes
    )
    if Recompute.NONE not in space.bounds.choose("recompute", list(Recompute)):
        fewest = np.maximum(fewest, 1.0)
    stages, cut = prepared.stages, prepared.stage_index[open_rows]
    most = stages.layers[cut].max(axis=-1)
    partial = (fewest >= 1) & (fewest < most)
    layers = prepared.batch.recompute_layers.copy()
    layers[open_rows] = np.where(partial, fewest, 0.0).astype(layers.dtype)
    keep = np.ones(len(prepared), dtype=np.bool_)
    keep[open_rows[~partial]] = False
    return prepared.with_recompute_layers(layers).take(keep)


def _best_of_each_mesh(batch: LayoutBatch, step_s: Array, nbytes: Array) -> NDArray[np.intp]:
    """Return the fastest layout of each run of one mesh; of equally fast ones the smallest."""
    changed = run_starts([getattr(batch, axis) for axis in MESH_AXES])
    starts = np.flatnonzero(changed)
    mesh = np.cumsum(changed) - 1
    fastest = np.minimum.reduceat(step_s, starts)[mesh]
    tied = np.flatnonzero(step_s <= fastest * (1.0 + 1e-9))
    order = tied[np.lexsort((nbytes[tied], mesh[tied]))]
    _, first = np.unique(mesh[order], return_index=True)
    return order[first]
