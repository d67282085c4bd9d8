"""A batch of layouts with its inventory: what the clock and the memory bill both read.

The inventory is taken once per distinct shape of work and the stages once per distinct cut; a
layout is a pair of indices into them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from models.dtype import BF16
from models.inventory import embedding_work, head_work, layer_work
from models.named_axes import Recompute, RecomputeMethod
from models.parameters import ParameterTable
from models.recompute_modes import RecomputeModes
from models.schedule import PATHS, Path
from models.shape import Shapes, distinct
from models.stages import StageTable
from models.warm_up import WarmUp

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from models.architecture import Architecture
    from models.layout import Array, Ints, LayoutBatch
    from models.operation import Work
    from models.profile import Profile
    from models.workload import Workload

#: Axes, beside cp, that decide which groups reduce gradients and send between stages.
GROUP_AXES = ("tp", "dp", "dp_replicate", "pp", "rank_order", "ep", "etp")


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
    modes, mode_index
        Distinct ways to recompute, and each layout's.
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
    modes: RecomputeModes
    mode_index: NDArray[np.intp]
    micro_batches: Array

    @classmethod
    def of(
        cls,
        architecture: Architecture,
        workload: Workload,
        batch: LayoutBatch,
        domain: int = 1,
        *,
        expands_kv_gradients: bool = False,
    ) -> Prepared:
        """Take the inventory of a batch.

        Parameters
        ----------
        architecture, workload, batch
            The model, what it is trained on, and layouts.
        domain
            How many accelerators reach each other without a network card: what is sent to experts
            once for all of them depends on it.
        expands_kv_gradients
            Whether the accelerator's kernels of attention have gradients of keys and values for
            each query head.
        """
        shapes, shape_index = Shapes.of(
            batch, workload, domain, expands_kv_gradients=expands_kv_gradients
        )
        stages, stage_index = StageTable.of(architecture, batch, workload)
        mesh, mesh_index = distinct([*(getattr(batch, axis) for axis in GROUP_AXES), batch.cp])
        modes, mode_index = RecomputeModes.of(batch)
        return cls(
            architecture=architecture,
            workload=workload,
            batch=batch,
            shapes=shapes,
            shape_index=shape_index,
            layers=tuple(layer_work(k, architecture.hidden, shapes) for k in architecture.kinds),
            embedding=embedding_work(architecture, shapes),
            head=head_work(architecture, shapes),
            parameters=ParameterTable.of(architecture, shapes),
            stages=stages,
            stage_index=stage_index,
            meshes=batch.take(mesh),
            mesh_index=mesh_index,
            modes=modes,
            mode_index=mode_index,
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
            mode_index=self.mode_index[index],
            micro_batches=self.micro_batches[index],
        )

    def with_recompute_layers(self, layers: Ints) -> Prepared:
        """Return the same layouts with other numbers of recomputed layers."""
        return replace(self, batch=self.batch.with_columns(recompute_layers=layers))

    def host_s(self, profile: Profile) -> Array:
        """Return the host's work of all micro-batches that nothing runs beside."""
        found: Array = profile.micro_batch_s.value * self.micro_batches
        return found

    def sent_bytes(self) -> Array:
        """Return what a rank sends on of one micro-batch, over the shapes of work."""
        scatters = self.workload.runs_on.scatters_sends
        ranks = self.shapes.tp if scatters else self.shapes.norm_shard
        return self.shapes.tokens * (self.architecture.hidden * BF16) / ranks

    def warm_up(self) -> WarmUp:
        """Return what the schedule of each layout has pipeline ranks hold."""
        return WarmUp.of(self.batch, self.micro_batches)

    def copied_head(self) -> Array:
        """Return the parameters of a head tied to the embedding that are on another rank.

        Where one rank holds both ends of the model they are one tensor.
        """
        copies = self.parameters.tied_head
        if not copies.any():
            return np.zeros(len(self))
        apart = (self.batch.pp > 1) & (PATHS.take(self.batch.schedule) == Path.LOOP)
        return np.where(apart, copies[self.shape_index], 0.0)

    def together(self) -> Array | None:
        """Return how many layers keep one input together; None where each keeps its own."""
        batch = self.batch
        uniform = batch.recompute_method == RecomputeMethod.UNIFORM
        if not uniform.any():
            return None
        return np.where(uniform, np.maximum(batch.recompute_layers, 1), 1.0)

    def repeated_share(self, layers: Array) -> Array:
        """Return the share of a rank's layers that full recomputation repeats."""
        batch = self.batch
        some = (batch.recompute_layers > 0) & (batch.recompute_method == RecomputeMethod.BLOCK)
        wanted = np.where(some, batch.recompute_layers, layers)
        share = np.minimum(wanted / layers, 1.0)
        return np.where(batch.recompute == Recompute.FULL, share, 0.0)
