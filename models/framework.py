"""What each training framework can run, read from ``data/frameworks.yaml``."""

from __future__ import annotations

from functools import cache, reduce
from operator import or_
from typing import TYPE_CHECKING

import numpy as np

from models.architecture import LatentAttention, Moe
from models.named_axes import NAMED_AXES, Kernels, Recompute
from models.precision import USUAL
from models.rank_order import in_order
from models.recompute_modules import NOTHING, RecomputeModules
from models.rules.sequence import hands_on_states, replicates_kv
from topologies.schema import Strict

if TYPE_CHECKING:
    from models.architecture import Architecture
    from models.layout import Ints, LayoutBatch
    from models.model_states import ModelStates
    from models.rules.rule import Mask


class Framework(Strict):
    """One framework's limits.

    Parameters
    ----------
    title, source
        Name with version, and where the limits were read.
    software
        What times its jobs if nothing else is asked (:mod:`models.software`).
    values
        Allowed values per axis.
    precisions
        Those it has.
    optimizers
        Those it has, each with the ZeRO stages that it runs with.
    gradients
        Dtypes gradients are kept in, each with those they can be sent in.
    tensor, pipeline, ulysses, ring
        Whether it has these axes at all; the ring's methods are under `values`.
    context_with_tensor_or_pipeline
        Whether context parallelism combines with either.
    hybrid
        Whether Ulysses and ring combine.
    double_ring
        Whether a ring can be cut into windows.
    kv_replication
        Whether Ulysses may exceed the key/value heads a rank has.
    state_ring
        Whether states of recurrent layers are handed on along a ring.
    partial_recompute
        Whether full recomputation can be limited to some layers.
    hsdp
        Whether shards can be replicated.
    recompute_modules
        What selective recomputation can repeat of fused kernels.
    dense_norm_recompute
        Whether this includes norms before softmax attention and dense MLPs.
    expert, expert_anywhere, expert_tensor, shared_overlap, expert_overlap
        Whether experts can be spread over ranks, over other numbers than multiples of cp x tp, each
        cut over ranks, and shared ones or another micro-batch's pass run while tokens travel.
    """

    title: str
    software: str
    source: str
    values: dict[str, list[int | str]]
    precisions: list[str]
    optimizers: dict[str, list[int]]
    gradients: dict[str, list[str]]
    tensor: bool
    pipeline: bool
    context_with_tensor_or_pipeline: bool
    ulysses: bool
    ring: bool
    hybrid: bool
    double_ring: bool
    kv_replication: bool
    state_ring: bool
    partial_recompute: bool
    hsdp: bool
    recompute_modules: list[str]
    dense_norm_recompute: bool
    expert: bool
    expert_anywhere: bool
    expert_tensor: bool
    shared_overlap: bool
    expert_overlap: bool

    def runs(
        self, batch: LayoutBatch, architecture: Architecture, states: ModelStates, precision: str
    ) -> Mask:
        """Return which layouts of a batch this framework can run."""
        mask = np.ones(len(batch), dtype=np.bool_)
        for refused in self.refusals(batch, architecture, states, precision).values():
            mask &= ~refused
        return mask

    def refusals(
        self,
        batch: LayoutBatch,
        architecture: Architecture,
        states: ModelStates,
        precision: str = USUAL,
    ) -> dict[str, Mask]:
        """Return, for each axis and ability, which layouts it keeps from running.

        An axis that a layout does not use (the ring's method without a ring) is not asked about.
        """
        refused: dict[str, Mask] = {}
        for axis, allowed in self.values.items():
            codes = [_code(axis, value) for value in allowed]
            if axis == "rank_order":
                refused[axis] = ~in_order(batch, codes)
            else:
                refused[axis] = ~_is_one_of(getattr(batch, axis), codes) & _used(axis, batch)
        uses = {
            "tensor": batch.tp > 1,
            "pipeline": batch.pp > 1,
            "ulysses": batch.ulysses > 1,
            "ring": batch.ring > 1,
            "hybrid": (batch.ulysses > 1) & (batch.ring > 1),
            "double_ring": batch.inner_ring > 1,
            "context_with_tensor_or_pipeline": (batch.cp > 1) & (batch.tp * batch.pp > 1),
            "kv_replication": replicates_kv(architecture, batch.tp, batch.ulysses),
            "state_ring": (batch.ring > 1) & hands_on_states(architecture),
            "partial_recompute": batch.recompute_layers != 0,
            "hsdp": batch.dp_replicate > 1,
            "expert": batch.ep > 1,
            "expert_anywhere": (batch.ep > 1) & (batch.ep % (batch.cp * batch.tp) != 0),
            "expert_tensor": batch.etp > 1,
            "shared_overlap": batch.shared_overlap == 1,
            "expert_overlap": batch.expert_overlap == 1,
        }
        refused["recompute_modules"] = self._without_modules(batch, architecture)
        refused |= self._without_states(batch, states)
        if precision not in self.precisions:
            refused["precision"] = np.ones(len(batch), dtype=np.bool_)
        return refused | {name: used for name, used in uses.items() if not getattr(self, name)}

    def modules(self, architecture: Architecture) -> RecomputeModules:
        """Return what it can repeat of a model with fused kernels."""
        known = _joined(tuple(self.recompute_modules))
        if self.dense_norm_recompute or any(
            isinstance(kind.mixer, LatentAttention) or isinstance(kind.mlp, Moe)
            for kind in architecture.kinds
        ):
            return known
        return known & ~RecomputeModules.LAYERNORM

    def _without_modules(self, batch: LayoutBatch, architecture: Architecture) -> Mask:
        """Return which layouts repeat modules of fused kernels that it cannot repeat."""
        by_modules = (batch.recompute == Recompute.SELECTIVE) & (batch.kernels == Kernels.FUSED)
        mask: Mask = by_modules & (batch.recompute_modules & ~int(self.modules(architecture)) > 0)
        return mask

    def _without_states(self, batch: LayoutBatch, states: ModelStates) -> dict[str, Mask]:
        """Return which layouts the optimizer and the gradients' dtypes keep from running."""
        refused: dict[str, Mask] = {}
        stages = self.optimizers.get(states.optimizer, [])
        if not stages:
            refused["optimizer"] = np.ones(len(batch), dtype=np.bool_)
        elif not {*stages} >= {*self.values["zero"]}:
            refused["optimizer_stage"] = ~_is_one_of(batch.zero, stages) & _used("zero", batch)
        if states.reduce not in self.gradients.get(states.gradients, []):
            refused["gradients"] = np.ones(len(batch), dtype=np.bool_)
        return refused

    def lacks(self, states: ModelStates, precision: str) -> dict[str, str]:
        """Return what it means that this framework lacks an ability, in words."""
        name = states.optimizer
        stages = " or ".join(map(str, self.optimizers.get(name, [])))
        return LACKS | {
            "precision": f"no {precision}",
            "optimizer": f"no {name}",
            "optimizer_stage": f"{name} with ZeRO {stages} only",
            "gradients": f"no {states.gradients} gradients reduced in {states.reduce}",
        }


#: What it means that a framework lacks an ability, in words.
LACKS = {
    "tensor": "no tensor parallelism",
    "pipeline": "no pipeline",
    "ulysses": "no Ulysses",
    "ring": "no ring",
    "hybrid": "no Ulysses with a ring",
    "double_ring": "no double ring",
    "context_with_tensor_or_pipeline": "no context parallelism beside tensor or pipeline",
    "kv_replication": "no more Ulysses ranks than key/value heads per tensor-parallel rank",
    "state_ring": "no states of recurrent layers handed on along a ring",
    "partial_recompute": "no recomputation of some layers only",
    "hsdp": "no replicated shards",
    "recompute_modules": "no recomputation of these modules",
    "expert": "no expert parallelism",
    "expert_anywhere": "experts over a multiple of cp x tp ranks only",
    "expert_tensor": "no experts cut over ranks",
    "shared_overlap": "no shared experts beside the exchange of tokens",
    "expert_overlap": "no other micro-batch's pass beside the exchange of tokens",
}


def _is_one_of(column: Ints, values: list[int]) -> Mask:
    """Return where a column has one of a few values; quicker on short columns than np.isin."""
    found = np.zeros(column.shape, dtype=np.bool_)
    for value in values:
        found |= column == value
    return found


@cache
def _joined(modules: tuple[str, ...]) -> RecomputeModules:
    return reduce(or_, map(RecomputeModules.from_label, modules), NOTHING)


@cache
def _code(axis: str, value: int | str) -> int:
    return int(NAMED_AXES[axis].from_label(str(value))) if axis in NAMED_AXES else int(value)


def _used(axis: str, batch: LayoutBatch) -> Mask:
    if axis in ("cp_method", "sequence_order"):
        return batch.ring > 1
    if axis == "cp_placement":
        return (batch.ulysses > 1) & (batch.ring > 1)
    if axis in ("schedule", "stage_split"):
        return batch.pp > 1
    if axis == "dispatch":
        return batch.ep > 1
    if axis == "recompute_method":
        return batch.recompute_layers > 0
    if axis == "zero":
        return batch.dp * batch.cp > 1
    return np.ones(len(batch), dtype=np.bool_)
