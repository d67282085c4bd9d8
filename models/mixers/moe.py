"""Mixtures of experts: router, the way to experts and back, their products, shared experts.

Ranks route the tokens that only they have (with tp_sp, as Megatron-Core wants it). What the busiest
rank of a group computes and keeps follows the workload's routing. Router, permutation and the
weighted sum are counted as Megatron-Core with TransformerEngine has them fused
(``moe_utils.py``, ``permute_fusion``, scores applied in the activation), and eager as torchtitan's
``models/common/moe`` does them (scores applied to the tokens before experts, in fp32).
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from models import expert_parallel
from models.dtype import BF16, FP32
from models.mixers.half import Moment
from models.mixers.mlp import MlpWork, activation_operator, activation_tensors
from models.operation import WEIGHT_GRADIENT, Compute, Saved, repeated_by
from models.operators import elementwise, grouped_product, memory, product
from models.recompute_modules import NOTHING, RecomputeModules
from models.saved_tensors import UNGATED_TENSORS

if TYPE_CHECKING:
    from models.architecture import Moe
    from models.layout import Array
    from models.operation import Operation
    from models.shape import Shapes

#: Bytes per score of one token and expert to make weights of logits and choose, and to go back:
#: logits read and probabilities written in fp32, read again to choose, written where chosen.
SCORE_BYTES = 4.0 * FP32
SCORE_LAUNCHES, EAGER_SCORE_LAUNCHES = 2.0, 6.0
#: Bytes that autograd keeps per score: the probability, its place in the order, whether chosen.
SCORE_KEPT = FP32 + FP32 + 1.0
#: Bytes per element to put tokens in another order: read and written.
MOVED = 2.0 * BF16
#: The same to scale them by a gate of one column, forward and backward: the output read again.
GATED = (2.0 * BF16, 3.0 * BF16)
#: What torchtitan keeps of a token's copy that is weighted in fp32 before experts.
EAGER_WEIGHTED = FP32
#: Names of shared experts' operations begin so.
SHARED = "shared"


class MoeWork:
    """A mixture of experts.

    Parameters
    ----------
    moe, hidden, shapes
        The mixer, the width of the residual stream, and shapes of work to take it for.
    """

    name = "moe"

    def __init__(self, moe: Moe, hidden: int, shapes: Shapes) -> None:
        self.moe, self.hidden, self.shapes = moe, hidden, shapes
        self.tokens = shapes.own_tokens
        self.wide = moe.latent or hidden
        self.columns = moe.expert.intermediate / shapes.etp
        self.local = np.maximum(moe.experts / shapes.ep, 1.0)
        self.copies = self.tokens * moe.top_k
        self.rows = self.copies * shapes.etp * expert_parallel.busiest(moe, shapes, shapes.ep)
        self.shared = (
            MlpWork(moe.shared, hidden, shapes, SHARED, modules=RecomputeModules.SHARED_EXPERTS)
            if moe.shared
            else None
        )

    # ------------------------------------------------------------------------------- operations

    def forward(self) -> tuple[Operation, ...]:
        """Return the forward operations in order."""
        into, back = self._shared_forward()
        first, last = self._beside("up", "down")
        operations: tuple[Operation, ...] = (
            *self._routed(0),
            *self._latent("into latent", self.wide, self.hidden)[0],
            self._moved("permute tokens", self.copies, 2.0),
            *self._exchange("dispatch", first, to_experts=True),
            *into,
            *self._tokens_gathered(),
            *self._experts()[0],
            *self._outputs_scattered(),
            *self._exchange("combine", last, to_experts=False),
            *back,
            self._moved("weighted sum", self.copies + self.tokens, 1.0),
            *self._latent("out of latent", self.hidden, self.wide)[0],
            *self._shared_joined(0),
        )
        return repeated_by(RecomputeModules.MOE, operations)

    def backward(self) -> tuple[Operation, ...]:
        """Return the backward operations in order."""
        into, back = self._shared_backward()
        first, last = self._beside("down dgrad", "up dgrad")
        return (
            *self._shared_joined(1),
            *self._latent("out of latent", self.hidden, self.wide)[1],
            self._moved("weighted sum", self.copies + self.tokens, 1.0),
            *self._exchange("combine gradients", first, to_experts=True),
            *into,
            *self._tokens_gathered(),
            *self._experts()[1],
            *self._outputs_scattered(),
            *self._exchange("dispatch gradients", last, to_experts=False),
            *back,
            self._moved("permute tokens", self.copies, 2.0),
            *self._latent("into latent", self.wide, self.hidden)[1],
            *self._routed(1),
        )

    def _exchange(self, name: str, hidden_by: str, *, to_experts: bool) -> tuple[Operation, ...]:
        return expert_parallel.exchange(
            name, self.moe, self.wide, self.shapes, hidden_by, to_experts=to_experts
        )

    def _routed(self, phase: int) -> tuple[Compute, ...]:
        """Return the router's product, and what makes weights and choices of its logits."""
        experts = float(self.moe.experts)
        products = product("router", self.shapes, self.tokens, experts, self.hidden)[phase]
        if self.moe.shared_gate:
            products += product("shared gate", self.shapes, self.tokens, 1.0, self.hidden)[phase]
        launches = self.shapes.pick(SCORE_LAUNCHES, EAGER_SCORE_LAUNCHES)
        scores = memory("scores", self.tokens * experts * SCORE_BYTES, launches)
        return (scores, *products) if phase else (*products, scores)

    def _latent(
        self, name: str, columns: int, depth: int
    ) -> tuple[tuple[Compute, ...], tuple[Compute, ...]]:
        """Return products into or out of the width experts work in, where that is another."""
        if self.moe.latent is None:
            return (), ()
        return product(name, self.shapes, self.tokens, float(columns), float(depth))

    def _moved(self, name: str, rows: Array, launches: float) -> Compute:
        """Return how tokens are brought into another order."""
        return memory(name, rows * self.wide * MOVED, launches)

    def _tokens_gathered(self) -> tuple[Operation, ...]:
        gather = expert_parallel.gather("gather tokens", self.moe, self.wide, self.shapes)
        return gather, self._sorted("sort by expert")

    def _outputs_scattered(self) -> tuple[Operation, ...]:
        scatter = expert_parallel.scatter("scatter outputs", self.moe, self.wide, self.shapes)
        return self._sorted("sort by rank"), scatter

    def _sorted(self, name: str) -> Compute:
        """Return how what came from several ranks is put together for each of several experts."""
        several = (self.local > 1) & (self.shapes.ep * self.shapes.etp > 1)
        return self._moved(name, np.where(several, self.rows, 0.0), 1.0)

    def _experts(self) -> tuple[tuple[Compute, ...], tuple[Compute, ...]]:
        gated = self.moe.expert.gated
        shapes, rows = self.shapes, self.rows
        up = grouped_product(
            "experts up",
            shapes,
            rows,
            self.columns * (2.0 if gated else 1.0),
            self.wide,
            self.local,
        )
        operator = activation_operator(self.moe.expert)
        act = elementwise("experts activation", operator, shapes, rows * self.columns)
        down = grouped_product("experts down", shapes, rows, self.wide, self.columns, self.local)
        again = replace(act[0], modules=RecomputeModules.MOE_ACT)
        return (*up[0], again, *down[0]), (*down[1], act[1], *up[1])

    # --------------------------------------------------------------------------- shared experts

    def _beside(self, first: str, last: str) -> tuple[str, str]:
        """Return the products of shared experts that run beside the two exchanges."""
        return (f"{SHARED} {first}", f"{SHARED} {last}") if self.shared else ("", "")

    def _shared_forward(self) -> tuple[tuple[Operation, ...], tuple[Operation, ...]]:
        """Return what shared experts do by the first product, and after it."""
        return _split(self.shared.forward(), f"{SHARED} up") if self.shared else ((), ())

    def _shared_backward(self) -> tuple[tuple[Operation, ...], tuple[Operation, ...]]:
        if self.shared is None:
            return (), ()
        return _split(self.shared.backward(), f"{SHARED} down{WEIGHT_GRADIENT}")

    def _shared_joined(self, phase: int) -> tuple[Compute, ...]:
        """Return how shared experts' output is gated, and added to that of the routed ones."""
        if self.shared is None:
            return ()
        shapes, elements = self.shapes, self.tokens * self.hidden
        added = elementwise(f"{SHARED} sum", "residual", shapes, elements)[phase]
        if not self.moe.shared_gate:
            return (added,)
        gated = memory(f"{SHARED} gating", elements * GATED[phase], 2.0)
        return (added, gated) if phase else (gated, added)

    # ----------------------------------------------------------------------------------- memory

    def saved(self) -> tuple[Saved, ...]:
        """Return what autograd keeps, the norm and its output aside."""
        scores = self.tokens * self.moe.experts * SCORE_KEPT
        weighted = self.copies * self.wide * self.shapes.pick(0.0, EAGER_WEIGHTED)
        given = self.rows * self.wide * self.shapes.input_bytes
        width = self.rows * self.columns * BF16
        down = self.rows * self.columns * self.shapes.input_bytes
        return (
            self._kept("router", scores),
            self._kept("weighted tokens", weighted),
            self._kept("dispatched tokens", given),
            self._kept("experts", width * (self._tensors() - 1.0)),
            self._kept("experts activation", down, RecomputeModules.MOE_ACT),
            *self._latent_saved(),
            *self._shared_saved(),
        )

    def _latent_saved(self) -> tuple[Saved, ...]:
        """Return the inputs of the products into and out of the width experts work in."""
        if self.moe.latent is None:
            return ()
        out = self.tokens * self.wide * self.shapes.input_bytes
        return self._kept("latent input", self._quantised_input()), self._kept("latent", out)

    def _shared_saved(self) -> tuple[Saved, ...]:
        """Return what shared experts keep, and of their output what its gate needs."""
        if self.shared is None:
            return ()
        modules = RecomputeModules.SHARED_EXPERTS
        gated = self.tokens * self.hidden * BF16 * self.moe.shared_gate
        return (
            self._kept(f"{SHARED} input", self._quantised_input(), modules),
            *(
                self._kept(f"{SHARED} experts", item.nbytes, modules)
                for item in self.shared.saved()
            ),
            self._kept(f"{SHARED} output", gated, modules),
        )

    def _quantised_input(self) -> Array:
        """Return what a product keeps of the norm's output beside the bf16 one routers keep."""
        elements = self.tokens * self.hidden
        return np.where(self.shapes.input_bytes == BF16, 0.0, elements * self.shapes.input_bytes)

    def _kept(self, name: str, nbytes: Array, modules: RecomputeModules = NOTHING) -> Saved:
        """Return what is kept but where the whole layer, or some other module, is repeated."""
        return Saved(
            name=name,
            nbytes=nbytes,
            selective_nbytes=self.shapes.pick(0.0, nbytes),
            modules=modules | RecomputeModules.MOE,
        )

    def _tensors(self) -> Array:
        """Return tensors of experts' width that are kept; as of a dense MLP."""
        expert = self.moe.expert
        if expert.gated:
            return self.shapes.pick(3.0, 4.0)
        return self.shapes.pick(2.0, UNGATED_TENSORS.get(expert.activation, 2.0))

    def moments(self, norm: Array, passing: Array) -> tuple[Moment, ...]:
        """Return the moments that may be the fullest."""
        own = norm + sum(item.nbytes for item in self.saved())
        arrived, copies = (x * self.wide * BF16 for x in (self.rows, self.copies))
        width = self.rows * self.columns * BF16
        gradients = activation_tensors(self.moe.expert)
        return (
            Moment(name="moe combine", saved=own, working=passing + copies, buffers=arrived),
            Moment(
                name="experts activation", saved=own - width, working=passing + gradients * width
            ),
            Moment(
                name="experts input",
                saved=own - width * self._tensors(),
                working=passing + arrived + (gradients - 1.0) * width,
            ),
            Moment(name="moe dispatch", saved=norm, working=passing + arrived, buffers=copies),
        )

    # ------------------------------------------------------------------------------- parameters

    def parameters(self) -> Array:
        """Return the parameters one rank holds, those of routed experts aside."""
        routed = self.moe.experts * self.moe.expert_params(self.hidden)
        rest = self.moe.matrix_params(self.hidden) + self.moe.small_params(self.hidden) - routed
        if self.moe.shared is None or self.shared is None:
            return np.full(len(self.shapes), float(rest))
        return rest - self.moe.shared.active_params(self.hidden) + self.shared.parameters()

    def expert_parameters(self) -> Array:
        """Return the parameters of routed experts that one rank holds."""
        expert = self.moe.expert
        matrices = expert.matrix_params(self.wide) / self.shapes.etp
        found: Array = self.local * (matrices + expert.small_params(self.wide))
        return found


def _split(
    operations: tuple[Operation, ...], name: str
) -> tuple[tuple[Operation, ...], tuple[Operation, ...]]:
    """Return operations up to one of a name, and those after it."""
    at = next(place for place, op in enumerate(operations) if op.name == name) + 1
    return operations[:at], operations[at:]
