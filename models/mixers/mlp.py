"""Dense channel mixers: two or three products and an activation."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from models import saved_tensors
from models.dtype import BF16
from models.kernel_set import EAGER, FUSED
from models.mixers.half import Moment
from models.operation import Compute, repeated_by
from models.operators import elementwise, product
from models.recompute_modules import RecomputeModules
from models.tensor_parallel import column_input, gather_again, gather_buffer, row_output

if TYPE_CHECKING:
    from models.architecture import Mlp
    from models.layout import Array
    from models.operation import Operation, Saved
    from models.shape import Shapes

#: Operators of activations without a gate that are more than one kernel.
_UNGATED = {"gelu_new": "elementary_activation", "relu2": "squared_activation"}


class MlpWork:
    """A dense channel mixer: two or three products and an activation.

    Parameters
    ----------
    mlp, hidden, shapes
        The mixer, the width of the residual stream, and shapes of work to take it for.
    name
        What the names of its operations begin with.
    products_before
        Matrix products of eager kernels that come before it in its layer.
    modules
        Of which selective recomputation repeats all of it.
    """

    def __init__(
        self,
        mlp: Mlp,
        hidden: int,
        shapes: Shapes,
        name: str = "mlp",
        products_before: int = 0,
        modules: RecomputeModules = RecomputeModules.MLP,
    ) -> None:
        self.mlp, self.hidden, self.shapes, self.name = mlp, hidden, shapes, name
        self.products_before, self.modules = products_before, modules
        self.width = mlp.intermediate / shapes.tp

    def forward(self) -> tuple[Operation, ...]:
        """Return the forward operations in order."""
        gather, _ = column_input(self.name, self.hidden, self.shapes, reductions=1.0)
        up, _ = self._up()
        down, _ = self._down()
        output = row_output(self.name, self.hidden, self.shapes, forward=True)
        operations: tuple[Operation, ...] = (*gather, *up, self._activation(0), *down, *output)
        return repeated_by(self.modules, operations)

    def backward(self) -> tuple[Operation, ...]:
        """Return the backward operations in order."""
        eager = EAGER.input_reductions[1] if self._apart else 1
        reductions = self.shapes.pick(FUSED.input_reductions[1], eager)
        gather, scatter = column_input(self.name, self.hidden, self.shapes, reductions)
        _, up = self._up()
        _, down = self._down()
        return (
            *row_output(self.name, self.hidden, self.shapes, forward=False),
            *down,
            self._activation(1),
            *self._split(),
            *gather_again(gather, self.shapes),
            *up,
            *scatter,
        )

    def saved(self) -> tuple[Saved, ...]:
        """Return what autograd keeps, the norm and its output aside."""
        return saved_tensors.mlp(self.mlp, self.hidden, self.shapes, self.products_before)

    def moments(self, norm: Array, passing: Array) -> tuple[Moment, ...]:
        """Return the moments that may be the fullest."""
        (kept,) = self.saved()
        stream = BF16 * self.shapes.tokens * self.hidden
        width = BF16 * self.shapes.tokens * self.width
        down = saved_tensors.down_input(self.mlp, self.shapes)
        gathered = gather_buffer(self.hidden, self.shapes)
        own = norm + kept.nbytes
        return (
            Moment(name="mlp down", saved=own, working=passing + width, buffers=gathered),
            Moment(
                name="mlp activation",
                # What the down product kept is gone; its gradient and its inputs' are there.
                saved=own - down * self.shapes.pick(1.0, self._keeps_input_apart),
                working=passing + width * activation_tensors(self.mlp),
            ),
            Moment(
                name="mlp input",
                saved=norm,
                working=passing + self._input_gradients(stream, width),
                buffers=gathered,
            ),
        )

    def parameters(self) -> Array:
        """Return the parameters one rank holds: matrices split, biases whole."""
        matrices: Array = self.mlp.matrix_params(self.hidden) / self.shapes.tp
        return matrices + self.mlp.small_params(self.hidden)

    @property
    def _apart(self) -> bool:
        """Whether plain modules make gate and value by a product each."""
        return self.mlp.gated and not self.mlp.joint

    @property
    def _keeps_input_apart(self) -> bool:
        """Whether an eager activation keeps another tensor than the second product does."""
        return self.mlp.gated or self.mlp.activation != "relu"

    def _input_gradients(self, stream: Array, width: Array) -> Array:
        """Return gradients around the first product, or products, whose gradients are added."""
        one = stream + width * (2.0 if self.mlp.gated else 1.0)
        if not self._apart:
            return one
        return self.shapes.pick(one, np.maximum(one, 3.0 * stream))

    def _up(self) -> tuple[tuple[Compute, ...], tuple[Compute, ...]]:
        gated = self.mlp.gated
        launches = self.shapes.pick(FUSED.up_products, EAGER.up_products if self._apart else 1)
        columns = self.width * (2.0 if gated else 1.0)
        return product(
            f"{self.name} up", self.shapes, self.shapes.tokens, columns, self.hidden, launches
        )

    def _split(self) -> tuple[Compute, ...]:
        """Return how gradients of gate and value become that of one joint product."""
        if not (self.mlp.gated and self.mlp.joint):
            return ()
        elements = self.shapes.tokens * self.width * 2.0
        return (elementwise("mlp split", "joint_split", self.shapes, elements)[1],)

    def _down(self) -> tuple[tuple[Compute, ...], tuple[Compute, ...]]:
        return product(
            f"{self.name} down", self.shapes, self.shapes.tokens, self.hidden, self.width
        )

    def _activation(self, phase: int) -> Compute:
        elements = self.shapes.tokens * self.width
        operator = activation_operator(self.mlp)
        return elementwise(f"{self.name} activation", operator, self.shapes, elements)[phase]


def activation_operator(mlp: Mlp) -> str:
    """Return the operator of a mixer's activation, with its gate."""
    return "gated" if mlp.gated else _UNGATED.get(mlp.activation, "activation")


def activation_tensors(mlp: Mlp) -> float:
    """Return tensors of a mixer's width that are there as gradients pass its activation.

    The gradient that came, and one or two that are made: a gate's and a value's, or two terms of
    GELU from elementary operators, or the slope of a square and its product with the gradient.
    """
    return 3.0 if mlp.gated or mlp.activation in _UNGATED else 2.0
