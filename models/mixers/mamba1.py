"""Mamba: projection, convolution, selection, selective scan, projection.

The selective scan (Gu and Dao, arXiv:2312.00752) has no products: the kernel of ``mamba_ssm``
(``csrc/selective_scan``) keeps states in fp32 inside the chip, and reads and writes what enters and
leaves. It is counted as that memory traffic, which is a bound from below: exponentials of every
column and number of the state may take longer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from models.dtype import BF16, FP32
from models.mixers.recurrent import RecurrentWork
from models.operation import Axis, Communication, Compute, Saved
from models.operators import memory, product
from models.sequence_parallel.recurrence import Recurrence, gathered_bytes, runs
from topologies.collective import Collective

if TYPE_CHECKING:
    from models.architecture.state_space import Mamba1
    from models.layout import Array
    from models.operation import Operation
    from models.shape import Shapes

#: Tokens, or fewer, behind which the kernel keeps two fp32 of each number of a state
#: (``selective_scan.cpp``).
KEPT_EVERY = 2048.0
#: Bytes per element of a rank's columns: x, step and gate are read, the output written with and
#: without gate; backward these, the output's gradient and three more written.
SCAN_BYTES = 5.0 * BF16, 9.0 * BF16
#: The state before a run added: steps are read, the output read and written.
CORRECTION_BYTES = 3.0 * BF16, 6.0 * BF16
#: Norms of the selection (Jamba), bytes per element.
NORM_BYTES = 2.0 * BF16, 3.0 * BF16


class Mamba1Work(RecurrentWork):
    """A Mamba mixer, its columns cut by tensor parallelism and by Ulysses.

    The selection is a sum over all columns: ranks that have some of them reduce it, forward, and
    its gradient backward, over tensor-parallel ranks and over Ulysses'.

    Parameters
    ----------
    mixer, hidden, shapes
        The mixer, the width of the residual stream, and shapes of work to take it for.
    """

    name = "mamba"
    convolves_again = True

    def __init__(self, mixer: Mamba1, hidden: int, shapes: Shapes) -> None:
        self.mixer = mixer
        self.columns = mixer.inner / shapes.tp
        self.own = self.columns / shapes.ulysses
        super().__init__(
            hidden,
            shapes,
            Recurrence(
                name=self.name,
                into=2.0 * self.columns,
                tensors=2.0,
                out=self.columns,
                convolved=self.own,
                conv=mixer.conv,
                # Decays over a run are exponentials of the sum of its steps, one for each column.
                state=self.own * (mixer.state + 1.0),
            ),
        )

    @property
    def projected(self) -> Array:
        """Columns of the input projection of one tensor-parallel rank: x and its gate."""
        return 2.0 * self.columns

    @property
    def inner(self) -> Array:
        """Columns that enter the output projection of one tensor-parallel rank."""
        return self.columns

    def scan(self, *, backward: bool) -> tuple[Operation, ...]:
        """Return the selection with its reductions, the time steps and the scan."""
        shapes, tokens = self.shapes, self.shapes.ring_tokens
        select = product("mamba selection", shapes, tokens, float(self.mixer.selected), self.own)
        steps = product("mamba steps", shapes, tokens, self.own, float(self.mixer.step_rank))
        ways = tokens * 2.0 * self.mixer.state * BF16
        nbytes = tokens * self.own * SCAN_BYTES[backward] + ways * (1.0 + backward)
        scan = memory("mamba scan", nbytes, 1.0)
        norms, reductions = self._norms(backward=backward), self._reductions()
        if backward:
            return (scan, *steps[1], *norms, *reductions, *select[1])
        return (*select[0], *reductions, *norms, *steps[0], scan)

    def _norms(self, *, backward: bool) -> tuple[Compute, ...]:
        if not self.mixer.norms:
            return ()
        nbytes = self.shapes.ring_tokens * self.mixer.selected * NORM_BYTES[backward]
        return (memory("mamba selection norms", nbytes, 3.0 * (1.0 + backward)),)

    def _reductions(self) -> tuple[Communication, ...]:
        nbytes = self.shapes.ring_tokens * self.mixer.selected * BF16
        return tuple(
            Communication(
                name=f"mamba selection reduce over {axis}",
                collective=Collective.ALL_REDUCE,
                axis=axis,
                nbytes=nbytes,
                calls=np.where(ranks > 1, 1.0, 0.0),
                selective=self.shapes.pick(0.0, 1.0),
            )
            for axis, ranks in ((Axis.TP, self.shapes.tp), (Axis.ULYSSES, self.shapes.ulysses))
        )

    def correct(self, *, backward: bool) -> tuple[Compute, ...]:
        """Return the output of the state before a rank's run, added to that of its own scan."""
        passed = np.where(self.shapes.ring > 1, 1.0, 0.0)
        ways = self.mixer.state * BF16 * (1.0 + backward)
        columns = self.own * CORRECTION_BYTES[backward] + ways
        nbytes = self.shapes.ring_tokens * columns * passed
        return (memory("mamba correction", nbytes, runs(self.shapes)),)

    def behind(self, *, backward: bool) -> tuple[Compute, ...]:
        """Return nothing: the gate is in the scan's kernel, and there is no norm."""
        return ()

    def saved(self) -> tuple[Saved, ...]:
        """Return what autograd keeps, the norm and its output aside.

        ``mamba_inner_fn`` keeps x and gate, the selection with copies of the ways into and out of
        the state, states now and then and the output without gate, and makes the convolution and
        the steps again. Who normalises the selection (transformers' Jamba) or sends something in
        between has ``selective_scan_fn`` behind a convolution of its own, which keeps these too,
        and the output projection keeps its input.
        """
        shapes, mixer, own = self.shapes, self.mixer, self.shapes.ring_tokens
        given, column = BF16 * own * 2.0 * self.own, BF16 * own * self.own
        selected = BF16 * own * (mixer.selected + 2.0 * mixer.state)
        if mixer.norms:
            selected = selected + own * (BF16 * mixer.selected + 3.0 * FP32)
        together = runs(shapes)
        kept_states = np.ceil(shapes.seq_len / (shapes.ring * together * KEPT_EVERY)) * together
        states = FP32 * shapes.micro_batch * kept_states * 2.0 * self.own * mixer.state
        gathered = gathered_bytes(self.recurrence, shapes)
        alone = (shapes.tp * shapes.ulysses * shapes.ring == 1) & (not mixer.norms)
        apart = np.where(alone, 0.0, 3.0 * column)
        projected = BF16 * shapes.tokens * self.projected
        parts = (
            ("x and gate", given, projected),
            ("selection", selected, 0.0),
            ("scan", column + states, 0.0),
            ("steps and output", apart, column),
            ("states", gathered, 0.0),
        )
        return tuple(
            Saved(name=f"mamba {name}", nbytes=kept, selective_nbytes=shapes.pick(kept, selective))
            for name, kept, selective in parts
        )

    def working(self) -> tuple[Array, Array]:
        """Return bytes that the scan needs beyond what is kept: forward and backward.

        What is convolved, steps and the gated output; backward these with their gradients, and
        those of x, of the gate and of the output.
        """
        column = BF16 * self.shapes.ring_tokens * self.own
        return 3.0 * column, 9.0 * column

    def parameters(self) -> Array:
        """Return the parameters one rank holds: columns split, norms of the selection whole."""
        mixer = self.mixer
        whole = mixer.selected * mixer.norms + self.hidden * mixer.bias
        split = mixer.matrix_params(self.hidden) + mixer.small_params(self.hidden) - whole
        return split / self.shapes.tp + float(whole)
