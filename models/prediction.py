"""What a layer of multi-token prediction does beside a layer's work (DeepSeek-V3).

It joins what the layer before gives with the embedding of the token that comes next, each
normalised, by one product; runs a layer; and asks the model's own head for the token after that,
with a loss of its own (arXiv:2412.19437 section 2.2, equations 21 to 25). The embedding's look-up
is not counted, and the copy of its table that a last pipeline rank needs is not billed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from models.dtype import BF16
from models.operation import Saved
from models.operators import elementwise, norm_pair, product
from models.recompute_modules import NOTHING
from models.saved_tensors import LOSS_KEPT, norm_input
from models.tensor_parallel import column_input, gather_again, loss_reductions

if TYPE_CHECKING:
    from models.architecture import Layer
    from models.layout import Array
    from models.operation import Operation
    from models.shape import Shapes


class Prediction:
    """What a layer of multi-token prediction does beside a layer's work.

    Parameters
    ----------
    layer, hidden, shapes
        The layer, the width of the residual stream, shapes of work to take it for.
    """

    def __init__(self, layer: Layer, hidden: int, shapes: Shapes) -> None:
        self.layer, self.hidden, self.shapes = layer, hidden, shapes
        self.columns = np.ceil(layer.predicts / shapes.tp)

    def joined(self, phase: int) -> tuple[Operation, ...]:
        """Return how two streams become one, forward or backward."""
        norm = norm_pair("predict norms", self.layer.norm, 2 * self.hidden, self.shapes)[phase]
        tokens, columns = self.shapes.own_tokens, float(self.hidden)
        products = product("predict join", self.shapes, tokens, columns, 2.0 * self.hidden)[phase]
        return (*products, norm) if phase else (norm, *products)

    def asked(self, phase: int) -> tuple[Operation, ...]:
        """Return the head and its loss, forward or backward."""
        shapes = self.shapes
        norm = norm_pair("predict final norm", self.layer.norm, self.hidden, shapes)[phase]
        loss = elementwise("predict loss", "loss", shapes, shapes.tokens * self.columns)[phase]
        products = product("head", shapes, shapes.tokens, self.columns, self.hidden)[phase]
        gather, scatter = column_input("head", self.hidden, shapes, reductions=1.0)
        if phase:
            return (loss, *gather_again(gather, shapes), *products, *scatter, norm)
        return (norm, *gather, *products, loss, loss_reductions(shapes))

    def saved(self) -> tuple[Saved, ...]:
        """Return what autograd keeps: norms with what they give, and probabilities."""
        logits = self.shapes.tokens * self.columns * LOSS_KEPT
        return (
            self._norm("predict norms", 2 * self.hidden, self.shapes.input_bytes),
            self._norm("predict final norm", self.hidden, BF16),  # for the head
            Saved(name="predict loss", nbytes=logits, selective_nbytes=logits),
        )

    def _norm(self, name: str, width: int, input_bytes: Array | float) -> Saved:
        kind, shapes = self.layer.norm, self.shapes
        return norm_input(
            name, kind, width, shapes, input_bytes, selective_input=False, modules=NOTHING
        )

    def working_bytes(self) -> Array:
        """Return what the loss needs beyond what it keeps: the gradient of its logits."""
        return self.shapes.tokens * self.columns * BF16

    def parameters(self) -> Array:
        """Return the parameters one rank holds: the product that joins, and three norms."""
        norms = self.layer.joining_params(self.hidden) - 2 * self.hidden**2
        found: Array = 2.0 * self.hidden**2 / self.shapes.tp + norms
        return found
