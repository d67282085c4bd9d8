"""One half of a layer: a mixer with its norms and the residual it adds to."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, reduce
from operator import and_
from typing import TYPE_CHECKING, Protocol

import numpy as np

from models import saved_tensors
from models.dtype import BF16, FP32
from models.operation import repeated_by
from models.operators import norm_pair, residual
from models.recompute_modules import RecomputeModules

if TYPE_CHECKING:
    from models.architecture import Layer
    from models.layout import Array
    from models.operation import Communication, Compute, Saved
    from models.shape import Shapes

    Operation = Compute | Communication

#: A norm's backward pass, bytes per element beside the gradient that passes it by: eager, its fp32
#: input and five fp32 tensors; in one kernel, its input and the gradients of output and input.
EAGER_NORM_WORKING, FUSED_NORM_WORKING = 6.0 * FP32, 3.0 * BF16


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """Bytes alive at one moment of a layer's passes, for one micro-batch on one rank.

    Parameters
    ----------
    name
        What runs.
    saved
        Of what is kept, what is there.
    working
        Gradients and other tensors of this moment alone.
    buffers
        Those of communication.
    """

    name: str
    saved: Array
    working: Array
    buffers: Array | float = 0.0


class MixerWork(Protocol):
    """What a mixer does between its norm and the residual; arrays over shapes of work.

    Operations go from what the first product's input needs (a gather) to how the last one's output
    is joined (a reduction); `name` begins the names of those that every mixer has.
    """

    name: str

    def forward(self) -> tuple[Operation, ...]:
        """Return the forward operations in order."""

    def backward(self) -> tuple[Operation, ...]:
        """Return the backward operations in order."""

    def saved(self) -> tuple[Saved, ...]:
        """Return what autograd keeps, the norm and its output aside."""

    def moments(self, norm: Array, passing: Array) -> tuple[Moment, ...]:
        """Return the moments that may be the fullest.

        Parameters
        ----------
        norm
            What the norm before it keeps; a moment's `saved` counts this and the mixer's own.
        passing
            The gradient on the residual path, which is there in every backward moment.
        """

    def parameters(self) -> Array:
        """Return the parameters one rank holds, those of routed experts aside."""


class Half:
    """One half of a layer: a mixer with its norms and the residual it adds to.

    Parameters
    ----------
    layer, hidden, shapes
        The layer, the width of the residual stream, the shapes of work to take it for.
    mixer
        What is between.
    first
        Whether the layer begins with it.
    """

    def __init__(
        self, layer: Layer, hidden: int, shapes: Shapes, mixer: MixerWork, *, first: bool
    ) -> None:
        self.layer, self.hidden, self.shapes = layer, hidden, shapes
        self.mixer, self.first = mixer, first
        self.name = mixer.name

    def forward(self) -> tuple[Operation, ...]:
        """Return the forward operations in order."""
        norm, _ = norm_pair(f"{self.name} norm", self.layer.norm, self.hidden, self.shapes)
        after = residual(self.layer, self.name, self.hidden, self.shapes, 0)
        return (*repeated_by(self._norm_modules, (norm,)), *self._mixed, *after)

    def backward(self) -> tuple[Operation, ...]:
        """Return the backward operations in order."""
        _, norm = norm_pair(f"{self.name} norm", self.layer.norm, self.hidden, self.shapes)
        after = residual(self.layer, self.name, self.hidden, self.shapes, 1)
        return (*after, *self.mixer.backward(), norm)

    def saved(self) -> tuple[Saved, ...]:
        """Return what autograd keeps, operator by operator."""
        return (
            saved_tensors.norm_input(
                f"{self.name} norm",
                self.layer.norm,
                self.hidden,
                self.shapes,
                selective_input=self.first,
                modules=self._norm_modules,
            ),
            *self.mixer.saved(),
            *saved_tensors.post_norm(
                f"{self.name} post-norm", self.layer, self.hidden, self.shapes
            ),
        )

    @cached_property
    def _mixed(self) -> tuple[Operation, ...]:
        return self.mixer.forward()

    @cached_property
    def _norm_modules(self) -> RecomputeModules:
        """The modules that repeat the norm: a dense MLP's first product has it within."""
        whole = reduce(and_, (op.modules for op in self._mixed))
        return RecomputeModules.LAYERNORM | (whole & RecomputeModules.MLP)

    def moments(self) -> tuple[Moment, ...]:
        """Return the moments that may be the fullest, without what earlier halves keep."""
        norm = self.saved()[0]
        stream = self.shapes.tokens * self.hidden / self.shapes.norm_shard
        passing = BF16 * stream
        eager = FUSED_NORM_WORKING if self.layer.norm == "layer" else EAGER_NORM_WORKING
        working = passing + stream * self.shapes.pick(FUSED_NORM_WORKING, eager)
        own = norm.nbytes + sum(item.nbytes for item in self.mixer.saved())
        post = (Moment(name=f"{self.name} post-norm", saved=own, working=working),)
        return (
            *self.mixer.moments(norm.nbytes, passing),
            Moment(name=f"{self.name} norm", saved=np.zeros(len(self.shapes)), working=working),
            *(post if self.layer.norms == 4 else ()),
        )
