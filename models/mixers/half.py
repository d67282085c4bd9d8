"""One half of a layer: a mixer with its norms and the residual it adds to."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, reduce
from operator import and_
from typing import TYPE_CHECKING, Protocol

import numpy as np

from models import saved_tensors
from models.architecture import Moe
from models.dtype import BF16, FP32
from models.operation import repeated_by
from models.operators import norm_pair, residual
from models.recompute_modules import RecomputeModules

if TYPE_CHECKING:
    from models.architecture import Layer, NormKind
    from models.layout import Array
    from models.operation import Compute, Operation, Saved
    from models.shape import Shapes


#: A norm's backward pass, bytes per element beside the gradient that passes it by: eager, its fp32
#: input and five fp32 tensors; in one kernel, its input and the gradients of output and input.
FUSED_NORM_WORKING = 3.0 * BF16
EAGER_NORM_WORKING: dict[NormKind, float] = {
    "rms": 6.0 * FP32,
    "rms_wide": 6.0 * FP32,
    "rms_offset": 6.0 * FP32,
    "layer": FUSED_NORM_WORKING,
    "layer_offset": FUSED_NORM_WORKING,
    "layer_no_bias": 6.0 * FP32,
}


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
        after = residual(self.layer, self.name, self.hidden, self.shapes, 0)
        return (*repeated_by(self._norm_modules, self._norm(0)), *self._mixed, *after)

    def backward(self) -> tuple[Operation, ...]:
        """Return the backward operations in order."""
        after = residual(self.layer, self.name, self.hidden, self.shapes, 1)
        return (*after, *self.mixer.backward(), *self._norm(1))

    def saved(self) -> tuple[Saved, ...]:
        """Return what autograd keeps, operator by operator."""
        return self._saved

    @cached_property
    def _saved(self) -> tuple[Saved, ...]:
        return (
            *self._input,
            *self._kept,
            *saved_tensors.post_norm(
                f"{self.name} post-norm", self.layer, self.hidden, self.shapes
            ),
        )

    @cached_property
    def _kept(self) -> tuple[Saved, ...]:
        return self.mixer.saved()

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
        entered = reduce(np.add, (item.nbytes for item in self._input), np.zeros(len(self.shapes)))
        stream = self.shapes.tokens * self.hidden / self.shapes.norm_shard
        passing = BF16 * stream
        eager = EAGER_NORM_WORKING[self.layer.norm]
        working = passing + stream * self.shapes.pick(FUSED_NORM_WORKING, eager)
        own = entered + sum(item.nbytes for item in self._kept)
        none = np.zeros(len(self.shapes))
        before = (Moment(name=f"{self.name} norm", saved=none, working=working),)
        post = (Moment(name=f"{self.name} post-norm", saved=own, working=working),)
        return (
            *self.mixer.moments(entered, passing),
            *(before if self._normed else ()),
            *(post if self.layer.normed_after else ()),
        )

    @property
    def _normed(self) -> bool:
        return self.layer.normed_before(first=self.first)

    @property
    def _routes(self) -> bool:
        """Whether the mixer is one of experts, whose router keeps its input in bf16."""
        last = self.layer.mixer is None or not self.first
        return isinstance(self.layer.mlp, Moe) and last

    def _norm(self, phase: int) -> tuple[Compute, ...]:
        """Return the norm before the mixer, if there is one."""
        if not self._normed:
            return ()
        name = f"{self.name} norm"
        return (norm_pair(name, self.layer.norm, self.hidden, self.shapes)[phase],)

    @cached_property
    def _input(self) -> tuple[Saved, ...]:
        """Return what the norm before the mixer keeps, with the mixer's input."""
        layer, hidden, shapes = self.layer, self.hidden, self.shapes
        if self._normed:
            return (
                saved_tensors.norm_input(
                    f"{self.name} norm",
                    layer.norm,
                    hidden,
                    shapes,
                    BF16 if self._routes else shapes.input_bytes,
                    selective_input=self.first,
                    modules=self._norm_modules,
                    shared=layer.parallel and not self.first,
                ),
            )
        if layer.norms_after:
            name = f"{self.name} input"
            return (saved_tensors.stream_input(name, hidden, shapes, selective_input=self.first),)
        return ()  # it reads what the first half's norm gave both, which that one keeps
