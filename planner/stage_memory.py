"""The memory bill of every kind of pipeline rank, not of the fullest alone."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from models.layout import LayoutBatch
from models.memory import memory_bill
from models.memory_bill import LINES

if TYPE_CHECKING:
    from models.layout import Layout
    from models.prepared import Prepared
    from models.stages import StageTable
    from planner.scenario import Scenario


@dataclass(frozen=True, slots=True, kw_only=True)
class StageMemory:
    """What the pipeline ranks of one kind hold at their peak.

    Parameters
    ----------
    stage
        The first of these ranks, which holds most micro-batches of them.
    alike
        How many ranks hold the same layers.
    layers
        How many layers that is.
    embedding, head
        Whether they hold either end of the model.
    memory_bytes
        The bill by line.
    """

    stage: int
    alike: int
    layers: int
    embedding: bool
    head: bool
    memory_bytes: dict[str, float]

    @property
    def total_bytes(self) -> float:
        """All lines together."""
        return sum(self.memory_bytes.values())


def stage_memory(scenario: Scenario, layout: Layout) -> tuple[StageMemory, ...]:
    """Return the bills of a layout's kinds of pipeline rank, in the order of their first ranks.

    Parameters
    ----------
    scenario
        Model, cluster, workload.
    layout
        Legal there.
    """
    prepared = scenario.prepared(LayoutBatch.of([layout]))
    stages = prepared.stages
    kinds = np.flatnonzero(stages.multiplicity[0])
    found = [_of_kind(scenario, prepared, _only(stages, int(kind))) for kind in kinds]
    return tuple(sorted(found, key=lambda each: each.stage))


def _of_kind(scenario: Scenario, prepared: Prepared, stages: StageTable) -> StageMemory:
    bill = memory_bill(
        replace(prepared, stages=stages), scenario.device.profile, scenario.capacity_bytes
    )
    return StageMemory(
        stage=int(stages.position[0, 0]),
        alike=int(stages.multiplicity[0, 0]),
        layers=int(stages.layers[0, 0]),
        embedding=bool(stages.first[0, 0]),
        head=bool(stages.last[0, 0]),
        memory_bytes={line: float(getattr(bill, line)[0]) for line in LINES},
    )


def _only(stages: StageTable, kind: int) -> StageTable:
    """Return a table whose only kind of rank is one of those of another."""
    columns = ("counts", "layers", "first", "last", "position", "multiplicity")
    return replace(stages, **{name: getattr(stages, name)[:, [kind]] for name in columns})
