"""The dense channel mixer of a layer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from models.kernel_set import EAGER, FUSED
from models.operation import Communication, Compute
from models.operators import elementwise, norm_pair, product, residual
from models.tensor_parallel import column_input, gather_again, row_output

if TYPE_CHECKING:
    from models.architecture import Layer
    from models.shape import Shapes

Operation = Compute | Communication


class MlpWork:
    """The dense channel mixer of a layer."""

    def __init__(self, layer: Layer, hidden: int, shapes: Shapes) -> None:
        self.layer, self.hidden, self.shapes = layer, hidden, shapes
        self.width = layer.dense.intermediate / shapes.tp

    def forward(self) -> tuple[Operation, ...]:
        """Return the forward operations in order."""
        norm, _ = norm_pair("mlp norm", self.layer.norm, self.hidden, self.shapes)
        gather, _ = column_input("mlp", self.hidden, self.shapes, reductions=1.0)
        up, _ = self._up()
        down, _ = self._down()
        return (
            norm,
            *gather,
            *up,
            self._activation(0),
            *down,
            *row_output("mlp", self.hidden, self.shapes, forward=True),
            *residual(self.layer, "mlp", self.hidden, self.shapes, 0),
        )

    def backward(self) -> tuple[Operation, ...]:
        """Return the backward operations in order."""
        _, norm = norm_pair("mlp norm", self.layer.norm, self.hidden, self.shapes)
        eager = EAGER.input_reductions[1] if self.layer.dense.gated else 1
        reductions = self.shapes.pick(FUSED.input_reductions[1], eager)
        gather, scatter = column_input("mlp", self.hidden, self.shapes, reductions)
        _, up = self._up()
        _, down = self._down()
        return (
            *residual(self.layer, "mlp", self.hidden, self.shapes, 1),
            *row_output("mlp", self.hidden, self.shapes, forward=False),
            *down,
            self._activation(1),
            *gather_again(gather, self.shapes),
            *up,
            *scatter,
            norm,
        )

    def _up(self) -> tuple[tuple[Compute, ...], tuple[Compute, ...]]:
        gated = self.layer.dense.gated
        launches = self.shapes.pick(FUSED.up_products, EAGER.up_products if gated else 1)
        columns = self.width * (2.0 if gated else 1.0)
        return product("mlp up", self.shapes, self.shapes.tokens, columns, self.hidden, launches)

    def _down(self) -> tuple[tuple[Compute, ...], tuple[Compute, ...]]:
        return product("mlp down", self.shapes, self.shapes.tokens, self.hidden, self.width)

    def _activation(self, phase: int) -> Compute:
        elementary = "elementary_" if self.layer.dense.activation == "gelu_new" else ""
        name = "gated" if self.layer.dense.gated else f"{elementary}activation"
        elements = self.shapes.tokens * self.width
        return elementwise("mlp activation", name, self.shapes, elements)[phase]
