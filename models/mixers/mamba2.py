"""Mamba-2: projection, convolution, chunked scan, gated norm, projection.

The scan is that of Dao and Gu (arXiv:2405.21060, section 6) as ``mamba_ssm`` runs it
(``ops/triton/ssd_combined.py``): inside a chunk of tokens scores ``C B^T`` of each group, whole,
and their masked product with ``x`` of each head, whose kernel stops at the diagonal (half); the
state each chunk leaves; and the output of the state before each. The backward pass makes scores
and states again, and the gradient of the masked scores twice (``_chunk_scan_bwd_dcb`` and
``_chunk_scan_bwd_ddAcs_stable``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from models.dtype import BF16, FP32
from models.mixers.chunked import ChunkProduct
from models.mixers.recurrent import RecurrentWork
from models.operation import Compute, Saved
from models.operators import memory
from models.sequence_parallel.recurrence import Recurrence, gathered_bytes, runs

if TYPE_CHECKING:
    from models.architecture.state_space import Mamba2
    from models.layout import Array
    from models.operation import Operation
    from models.shape import Shapes

#: Tokens of a chunk: the default of ``mamba_ssm`` (``modules/mamba2.py``) and of transformers.
CHUNK = 256
#: Tensors that Ulysses exchanges: z, x, B, C and dt (Megatron-Core, ``pre_conv_ssm``).
EXCHANGED = 5.0
#: Small kernels of the scan: sums of decays forward; backward these, gradients of steps and of z.
SMALL_KERNELS = 1.0, 3.0
#: The norm of the output, bytes per element, forward and backward, and its kernels.
NORM_BYTES, NORM_KERNELS = (2.0 * BF16, 3.0 * BF16), (1.0, 2.0)


class Mamba2Work(RecurrentWork):
    """A Mamba-2 mixer; tensor parallelism and Ulysses cut its heads, as Megatron-Core's do.

    Parameters
    ----------
    mixer, hidden, shapes
        The mixer, the width of the residual stream, and shapes of work to take it for.
    """

    name = "mamba"
    convolves_again = True

    def __init__(self, mixer: Mamba2, hidden: int, shapes: Shapes) -> None:
        self.mixer = mixer
        # Of a tensor-parallel rank, and of a rank inside Ulysses.
        self.heads, self.groups = mixer.heads / shapes.tp, np.maximum(mixer.groups / shapes.tp, 1.0)
        self.own_heads = self.heads / shapes.ulysses
        self.own_groups = np.maximum(self.groups / shapes.ulysses, 1.0)
        wire = self._columns(self.heads, self.own_groups * shapes.ulysses)
        self.own_columns = self._columns(self.own_heads, self.own_groups)
        self.own_inner = self.own_heads * mixer.head_dim
        super().__init__(
            hidden,
            shapes,
            Recurrence(
                name=self.name,
                into=wire,
                tensors=EXCHANGED,
                out=self.inner,
                convolved=self.own_columns - self.own_inner - self.own_heads,
                conv=mixer.conv,
                state=self.own_heads * (mixer.head_dim * mixer.state + 1.0),
            ),
        )
        self.chunk = np.minimum(CHUNK, shapes.seq_len / (shapes.ring * runs(shapes)))

    def _columns(self, heads: Array, groups: Array) -> Array:
        """Return columns of z, x, B, C and dt of some heads and groups."""
        return heads * (2.0 * self.mixer.head_dim + 1.0) + 2.0 * groups * self.mixer.state

    @property
    def projected(self) -> Array:
        """Columns of the input projection of one tensor-parallel rank."""
        return self._columns(self.heads, self.groups)

    @property
    def inner(self) -> Array:
        """Columns that enter the output projection of one tensor-parallel rank."""
        return self.heads * self.mixer.head_dim

    def scan(self, *, backward: bool) -> tuple[Operation, ...]:
        """Return the scan's products, the pass of states from chunk to chunk, and sums of decays.

        Passing on reads states in fp32 and writes them in bf16; the gradients do the same, and the
        states are passed on once more.
        """
        found = [each.compute(self.shapes, backward=backward) for each in self._products()]
        steps = self.shapes.ring_tokens * self.own_heads
        handed = self._state_elements() * (FP32 + BF16)
        times = 2.0 if backward else 1.0
        return (
            *found,
            memory("mamba state pass", handed * times, times),
            memory("mamba decays", steps * (BF16 + FP32) * times, SMALL_KERNELS[backward]),
        )

    def _products(self) -> tuple[ChunkProduct, ...]:
        mixer, tokens, chunk = self.mixer, self.shapes.ring_tokens, self.chunk
        ways = BF16 * tokens * self.own_groups * mixer.state  # B, or C
        values = BF16 * tokens * self.own_inner
        scores, state = FP32 * tokens * self.own_groups * chunk, self._state_elements()
        rows = tokens * self.own_heads
        return (
            ChunkProduct(
                name="mamba scores",
                rows=tokens * self.own_groups,
                columns=chunk,
                depth=mixer.state,
                nbytes=2.0 * ways + scores,
                backward=3.0,
            ),
            ChunkProduct(
                name="mamba chunk states",
                rows=state / mixer.state,
                columns=mixer.state,
                depth=chunk,
                nbytes=values + ways + FP32 * state,
                backward=3.0,
            ),
            ChunkProduct(
                name="mamba scan",
                rows=rows,
                columns=mixer.head_dim,
                depth=chunk,
                # x and the gate are read, y is written with the gate and without.
                nbytes=scores + 4.0 * values,
                share=0.5,
                backward=3.0,
            ),
            ChunkProduct(
                name="mamba scan of states",
                rows=rows,
                columns=mixer.head_dim,
                depth=mixer.state,
                nbytes=ways + BF16 * state,
                launches=0.0,
            ),
        )

    def correct(self, *, backward: bool) -> tuple[Compute, ...]:
        """Return the output of the state before a rank's run, added to that of its own scan.

        ``validate/kernels/state_pass.py`` does so; outputs are read and written once more.
        """
        passed = np.where(self.shapes.ring > 1, 1.0, 0.0)
        columns = self.own_groups * self.mixer.state + 2.0 * self.own_inner
        product = ChunkProduct(
            name="mamba correction",
            rows=self.shapes.ring_tokens * self.own_heads,
            columns=self.mixer.head_dim,
            depth=self.mixer.state,
            nbytes=BF16 * self.shapes.ring_tokens * columns * passed,
            share=passed,
            launches=runs(self.shapes) * passed,
        )
        return (product.compute(self.shapes, backward=backward),)

    def behind(self, *, backward: bool) -> tuple[Compute, ...]:
        """Return the norm of the output; the gate is in the scan's kernel."""
        if not self.mixer.norm:
            return ()
        elements = self.shapes.tokens * self.inner
        return (
            memory(
                "mamba gated norm",
                elements * NORM_BYTES[backward],
                NORM_KERNELS[backward],
            ),
        )

    def saved(self) -> tuple[Saved, ...]:
        """Return what autograd keeps, the norm and its output aside.

        ``mamba_split_conv1d_scan_combined`` keeps its whole input and the output without gate, and
        makes all else again. Alone on a rank transformers put norm and output projection into it:
        of these the norm's statistics stay. Megatron-Core has both behind it, and so has any rank
        that sends something in between: the norm's input and the projection's.
        """
        shapes, tokens = self.shapes, self.shapes.tokens
        given = BF16 * shapes.ring_tokens * self.own_columns
        output = BF16 * shapes.ring_tokens * self.own_inner
        statistics = FP32 * tokens * self.groups if self.mixer.norm else 0.0 * tokens
        apart = shapes.fused | (shapes.tp * shapes.ulysses * shapes.ring > 1)
        tensors = 2.0 if self.mixer.norm else 1.0
        behind = np.where(apart, tensors * BF16 * tokens * self.inner, 0.0) + statistics
        gathered = gathered_bytes(self.recurrence, shapes)
        projected = BF16 * tokens * self.projected
        return (
            Saved(
                name="mamba z, x, B, C, dt",
                nbytes=given,
                selective_nbytes=shapes.pick(given, projected),
            ),
            Saved(name="mamba y", nbytes=output, selective_nbytes=shapes.pick(output, 0.0)),
            Saved(
                name="mamba gated norm",
                nbytes=behind,
                selective_nbytes=shapes.pick(behind, 0.0),
            ),
            Saved(
                name="mamba states", nbytes=gathered, selective_nbytes=shapes.pick(gathered, 0.0)
            ),
        )

    def working(self) -> tuple[Array, Array]:
        """Return bytes that the scan needs beyond what is kept: forward and backward.

        The convolution's output, scores and states, in fp32 and as they were passed on; backward
        all these with their gradients, and those of the kernel's input and output.
        """
        tokens = self.shapes.ring_tokens
        scores = FP32 * tokens * self.own_groups * self.chunk
        scanned = scores + self._state_elements() * (FP32 + BF16)
        forward = BF16 * tokens * self.recurrence.convolved + scanned
        ends = BF16 * tokens * (self.own_columns + 2.0 * self.own_inner)
        return forward, 2.0 * forward + ends

    def parameters(self) -> Array:
        """Return the parameters one rank holds: heads split, groups replicated where tp exceeds."""
        mixer = self.mixer
        convolved = self.projected - self.inner - self.heads
        matrices = self.hidden * (self.projected + self.inner)
        small = convolved * (mixer.conv + mixer.conv_bias) + 3.0 * self.heads
        small = small + self.inner * mixer.norm + self.projected * mixer.bias
        return matrices + small + float(self.hidden * mixer.out_bias)

    def _state_elements(self) -> Array:
        """Return numbers of the states of all chunks."""
        return self.shapes.ring_tokens / self.chunk * self.own_inner * self.mixer.state
