"""A batch of layouts with its inventory: what the clock and the memory bill both read.

The inventory is taken once per distinct shape of work and the stages once per distinct cut; a
layout is a pair of indices into them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from models.inventory import embedding_work, head_work, layer_work
from models.layout import Recompute, Schedule
from models.parameters import ParameterTable
from models.shape import Shapes, distinct
from models.stages import StageTable

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from models.architecture import Architecture
    from models.layout import Array, Ints, LayoutBatch
    from models.operation import Work
    from models.workload import Workload

#: Axes, beside cp, that decide which groups reduce gradients and send between stages.
MESH_AXES = ("tp", "dp", "dp_replicate", "pp", "rank_order")


@dataclass(frozen=True, slots=True)
class WarmUp:
    """Micro-batches pipeline ranks hold at once, in whole-rank units; one entry per layout.

    Parameters
    ----------
    first, fewer
        What the first pipeline rank would hold, and how many fewer each further one.
    most
        Micro-batches of a step: none holds more.
    """

    first: Array
    fewer: Array
    most: Array

    def in_flight(self, position: Array) -> Array:
        """Return what the rank at a position of the pipeline holds."""
        return np.minimum(self.first - self.fewer * position, self.most)


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """Layouts, the distinct work they share, and where each finds its own.

    Parameters
    ----------
    batch
        The layouts.
    shapes, shape_index
        Distinct shapes of work, and each layout's.
    layers, embedding, head
        Work of each kind of layer and of both ends, over `shapes`.
    parameters
        Parameters per rank of each part, over `shapes`.
    stages, stage_index
        Distinct cuts into pipeline ranks, and each layout's.
    meshes, mesh_index
        One layout of each distinct mesh, and each layout's.
    micro_batches
        Forward passes per step.
    """

    architecture: Architecture
    workload: Workload
    batch: LayoutBatch
    shapes: Shapes
    shape_index: NDArray[np.intp]
    layers: tuple[Work, ...]
    embedding: Work
    head: Work
    parameters: ParameterTable
    stages: StageTable
    stage_index: NDArray[np.intp]
    meshes: LayoutBatch
    mesh_index: NDArray[np.intp]
    micro_batches: Array

    @classmethod
    def of(cls, architecture: Architecture, workload: Workload, batch: LayoutBatch) -> Prepared:
        """Take the inventory of a batch."""
        shapes, shape_index = Shapes.of(batch, workload)
        stages, stage_index = StageTable.of(architecture, batch, workload)
        mesh, mesh_index = distinct([*(getattr(batch, axis) for axis in MESH_AXES), batch.cp])
        return cls(
            architecture=architecture,
            workload=workload,
            batch=batch,
            shapes=shapes,
            shape_index=shape_index,
            layers=tuple(layer_work(k, architecture.hidden, shapes) for k in architecture.kinds),
            embedding=embedding_work(architecture, shapes),
            head=head_work(architecture, shapes),
            parameters=ParameterTable.of(architecture, shapes.tp),
            stages=stages,
            stage_index=stage_index,
            meshes=batch.take(mesh),
            mesh_index=mesh_index,
            micro_batches=batch.micro_batches(workload.global_batch) * 1.0,
        )

    def __len__(self) -> int:
        """Return the number of layouts."""
        return len(self.batch)

    def take(self, index: NDArray[np.intp] | NDArray[np.bool_] | slice) -> Prepared:
        """Return some of the layouts over the same inventory."""
        return replace(
            self,
            batch=self.batch.take(index),
            shape_index=self.shape_index[index],
            stage_index=self.stage_index[index],
            mesh_index=self.mesh_index[index],
            micro_batches=self.micro_batches[index],
        )

    def with_recompute_layers(self, layers: Ints) -> Prepared:
        """Return the same layouts with other numbers of recomputed layers."""
        return replace(self, batch=self.batch.with_columns(recompute_layers=layers))

    def in_flight(self, position: Array) -> Array:
        """Return micro-batches a pipeline rank holds at once, in whole-rank units."""
        return self.warm_up().in_flight(position)

    def warm_up(self) -> WarmUp:
        """Return what the schedule of each layout has pipeline ranks hold.

        GPipe holds all; 1F1B ``pp - position`` (Narayanan et al., arXiv:2104.04473 section 2.2);
        interleaved ``(2 (pp - position - 1) + (v - 1) pp + 1) / v`` (Megatron-LM's warm-up count);
        none more than there are.
        """
        batch = self.batch
        chunks = (2.0 * (batch.pp - 1.0) + (batch.vp - 1.0) * batch.pp + 1.0) / batch.vp
        interleaved = batch.schedule == Schedule.INTERLEAVED
        gpipe = batch.schedule == Schedule.GPIPE
        first = np.where(interleaved, chunks, np.where(gpipe, self.micro_batches, batch.pp))
        fewer = np.where(interleaved, 2.0 / batch.vp, np.where(gpipe, 0.0, 1.0))
        return WarmUp(first, fewer, self.micro_batches)

    def repeated_share(self, layers: Array) -> Array:
        """Return the share of a rank's layers that full recomputation repeats."""
        batch = self.batch
        wanted = np.where(batch.recompute_layers == 0, layers, batch.recompute_layers)
        share = np.minimum(wanted / layers, 1.0)
        return np.where(batch.recompute == Recompute.FULL, share, 0.0)
