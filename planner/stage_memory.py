"""The memory bill of every pipeline stage, not of the fullest alone."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING

from models.layout import LayoutBatch
from models.memory import memory_bill
from models.memory_bill import LINES
from models.stages import StageTable

if TYPE_CHECKING:
    from models.layout import Layout
    from models.prepared import Prepared
    from planner.scenario import Scenario


@dataclass(frozen=True, slots=True, kw_only=True)
class StageMemory:
    """What a rank of one pipeline stage holds at its peak.

    Parameters
    ----------
    stage
        Its place in the pipeline.
    layers
        How many layers it holds.
    embedding, head
        Whether they hold either end of the model.
    memory_bytes
        The bill by line.
    """

    stage: int
    layers: int
    embedding: bool
    head: bool
    memory_bytes: dict[str, float]

    @property
    def total_bytes(self) -> float:
        """All lines together."""
        return sum(self.memory_bytes.values())


def stage_memory(scenario: Scenario, layout: Layout) -> tuple[StageMemory, ...]:
    """Return the bills of a layout's pipeline stages, first to last.

    Parameters
    ----------
    scenario
        Model, cluster, workload.
    layout
        Legal there.
    """
    prepared = scenario.prepared(LayoutBatch.of([layout]))
    every = StageTable.one_by_one(scenario.architecture, prepared.batch, scenario.workload)
    return tuple(_of_rank(scenario, prepared, _only(every, at)) for at in range(every.width))


def _of_rank(scenario: Scenario, prepared: Prepared, stages: StageTable) -> StageMemory:
    bill = memory_bill(
        replace(prepared, stages=stages), scenario.device.profile, scenario.capacity_bytes
    )
    return StageMemory(
        stage=int(stages.position[0, 0]),
        layers=int(stages.layers[0, 0]),
        embedding=bool(stages.first[0, 0]),
        head=bool(stages.last[0, 0]),
        memory_bytes={line: float(getattr(bill, line)[0]) for line in LINES},
    )


def _only(stages: StageTable, rank: int) -> StageTable:
    """Return a table of one rank of another."""
    columns = [each.name for each in fields(stages)]
    return replace(stages, **{name: getattr(stages, name)[:, [rank]] for name in columns})
