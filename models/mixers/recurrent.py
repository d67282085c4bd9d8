"""What recurrent mixers have in common: projections, a short convolution, and what they send."""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import reduce
from typing import TYPE_CHECKING

import numpy as np

from models.dtype import BF16
from models.mixers.core_attention import PACK_BYTES
from models.mixers.half import Moment
from models.operators import memory, product
from models.sequence_parallel.recurrence import (
    buffer_bytes,
    exchange,
    exchanged_elements,
    halo,
    states,
)
from models.tensor_parallel import column_input, gather_again, row_output

if TYPE_CHECKING:
    from models.layout import Array
    from models.operation import Compute, Operation, Saved
    from models.sequence_parallel.recurrence import Recurrence
    from models.shape import Shapes

#: A short convolution, bytes per element: its input is read and its output written; backward input
#: and gradient are read and a gradient written.
CONVOLUTION_BYTES = 2.0 * BF16, 3.0 * BF16


class RecurrentWork(ABC):
    """A recurrent mixer between its norm and the residual.

    Parameters
    ----------
    hidden, shapes
        Width of the residual stream, and shapes of work to take it for.
    recurrence
        What its ranks hand to each other.

    Notes
    -----
    Scans and convolutions are the Triton and CUDA kernels of ``mamba_ssm``, ``causal_conv1d`` and
    flash-linear-attention in both kernel sets: the torch fallbacks of transformers are for tests.
    """

    name: str
    #: Products that read the mixer's input: of fused and of eager kernels.
    input_products: tuple[float, float] = (1.0, 1.0)
    #: Whether the convolution runs once more in the backward pass.
    convolves_again = False

    def __init__(self, hidden: int, shapes: Shapes, recurrence: Recurrence) -> None:
        self.hidden, self.shapes, self.recurrence = hidden, shapes, recurrence

    @property
    @abstractmethod
    def projected(self) -> Array:
        """Columns of the input projection of one tensor-parallel rank."""

    @property
    @abstractmethod
    def inner(self) -> Array:
        """Columns that enter the output projection of one tensor-parallel rank."""

    @abstractmethod
    def scan(self, *, backward: bool) -> tuple[Operation, ...]:
        """Return what is between the convolution and the output, states passed on apart."""

    @abstractmethod
    def correct(self, *, backward: bool) -> tuple[Compute, ...]:
        """Return what a ring computes beside the scan: nothing where there is none."""

    @abstractmethod
    def behind(self, *, backward: bool) -> tuple[Compute, ...]:
        """Return what is between the scan's output and the output projection."""

    @abstractmethod
    def working(self) -> tuple[Array, Array]:
        """Return bytes that the scan needs beyond what is kept: forward and backward."""

    @abstractmethod
    def saved(self) -> tuple[Saved, ...]:
        """Return what autograd keeps, the norm and its output aside."""

    @abstractmethod
    def parameters(self) -> Array:
        """Return the parameters one rank holds."""

    def forward(self) -> tuple[Operation, ...]:
        """Return the forward operations in order."""
        gather, _ = column_input(self.name, self.hidden, self.shapes, reductions=1.0)
        into, out = exchange(self.recurrence, self.shapes)
        project, _ = self._input()
        output, _ = self._output()
        return (
            *gather,
            *project,
            into,
            self._pack(),
            halo(self.recurrence, self.shapes),
            self._convolution(backward=False),
            *self.scan(backward=False),
            *states(self.recurrence, self.shapes),
            *self.correct(backward=False),
            out,
            *self.behind(backward=False),
            *output,
            *row_output(self.name, self.hidden, self.shapes, forward=True),
        )

    def backward(self) -> tuple[Operation, ...]:
        """Return the backward operations in order."""
        reductions = self.shapes.pick(*self.input_products)
        gather, scatter = column_input(self.name, self.hidden, self.shapes, reductions)
        into, out = exchange(self.recurrence, self.shapes)
        _, project = self._input()
        _, output = self._output()
        return (
            *row_output(self.name, self.hidden, self.shapes, forward=False),
            *output,
            *self.behind(backward=True),
            out,
            *self.correct(backward=True),
            *states(self.recurrence, self.shapes, backward=True),
            *self.scan(backward=True),
            self._convolution(backward=True),
            halo(self.recurrence, self.shapes),
            self._pack(),
            into,
            *gather_again(gather, self.shapes),
            *project,
            *scatter,
        )

    def moments(self, norm: Array, passing: Array) -> tuple[Moment, ...]:
        """Return the moments that may be the fullest: the scan's; its output is among the kept."""
        own = reduce(np.add, (item.nbytes for item in self.saved()), norm)
        forward, backward = self.working()
        buffers = buffer_bytes(self.recurrence, self.shapes)
        return (
            Moment(name=f"{self.name} forward", saved=own, working=forward, buffers=buffers),
            Moment(
                name=f"{self.name} backward", saved=own, working=passing + backward, buffers=buffers
            ),
        )

    def _input(self) -> tuple[tuple[Compute, ...], tuple[Compute, ...]]:
        launches = self.shapes.pick(*self.input_products)
        name, tokens = f"{self.name} in", self.shapes.tokens
        return product(name, self.shapes, tokens, self.projected, self.hidden, launches)

    def _output(self) -> tuple[tuple[Compute, ...], tuple[Compute, ...]]:
        return product(f"{self.name} out", self.shapes, self.shapes.tokens, self.hidden, self.inner)

    def _convolution(self, *, backward: bool) -> Compute:
        elements = self.shapes.ring_tokens * self.recurrence.convolved
        once, gradient = CONVOLUTION_BYTES
        nbytes, launches = (gradient, 1.0) if backward else (once, 1.0)
        if backward and self.convolves_again:
            nbytes, launches = once + gradient, 2.0
        return memory(f"{self.name} convolution", elements * nbytes, launches)

    def _pack(self) -> Compute:
        """Transposes to contiguous memory before and after each exchange."""
        into, out = exchanged_elements(self.recurrence, self.shapes)
        launches = np.where(self.shapes.ulysses > 1, 2.0 * (self.recurrence.tensors + 1.0), 0.0)
        return memory(f"{self.name} ulysses pack", (into + out) * PACK_BYTES, launches)
