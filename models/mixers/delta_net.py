"""Gated delta net: projection, convolution, chunked delta rule, gated norm, projection.

The rule is computed in its chunked WY form (Yang et al., arXiv:2412.06464, section 3.3) as
flash-linear-attention runs it (``fla/ops/gated_delta_rule/chunk.py``; transformers'
``torch_chunk_gated_delta_rule`` is the same in torch): inside a chunk of 64 tokens, which is one
tile, so that nothing masked is skipped, ``K K^T`` and ``Q K^T``, and the inverse's products with
keys (``w``) and values (``u``); from chunk to chunk what the state answers (``w h``) and what is
written; and the output, from states and inside chunks. Solving the triangular system is left out:
a sixth of a product of ``w`` or less. The backward pass makes all again but the two products of the
output.
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
from topologies.collective import Collective

if TYPE_CHECKING:
    from models.architecture.linear_attention import GatedDeltaNet
    from models.layout import Array
    from models.operation import Operation
    from models.shape import Shapes

#: Tokens of a chunk: flash-linear-attention's and transformers' default.
CHUNK = 64
#: Bytes per element: the norms of queries and keys, and gates and rates, forward and backward.
NORM_BYTES, GATED_NORM_BYTES = (2.0 * BF16, 3.0 * BF16), (3.0 * BF16, 5.0 * BF16)
#: Kernels of the norms of queries and keys and of both gates, forward and backward.
SMALL_KERNELS = 4.0, 5.0
#: Numbers of fp32 that a head's gate and rate have beside their sums.
GATES = 2.0


class DeltaNetWork(RecurrentWork):
    """A gated delta net; tensor parallelism and Ulysses cut its heads, as Megatron-Core's do.

    Megatron-Core exchanges the whole projection at once and asks for as many key heads as ranks;
    beyond that key heads are replicated here as groups of Mamba-2 are.

    Parameters
    ----------
    mixer, hidden, shapes
        The mixer, the width of the residual stream, and shapes of work to take it for.
    """

    name = "delta net"
    input_products = (1.0, 2.0)  # transformers have the rates apart

    def __init__(self, mixer: GatedDeltaNet, hidden: int, shapes: Shapes) -> None:
        self.mixer = mixer
        # Of a tensor-parallel rank, and of a rank inside Ulysses.
        self.heads = mixer.value_heads / shapes.tp
        self.key_heads = np.maximum(mixer.key_heads / shapes.tp, 1.0)
        self.own_heads = self.heads / shapes.ulysses
        self.own_key_heads = np.maximum(self.key_heads / shapes.ulysses, 1.0)
        self.own_keys = self.own_key_heads * mixer.key_dim
        self.own_values = self.own_heads * mixer.value_dim
        super().__init__(
            hidden,
            shapes,
            Recurrence(
                name=self.name,
                into=self._columns(self.heads, self.own_key_heads * shapes.ulysses),
                tensors=1.0,
                out=self.inner,
                convolved=2.0 * self.own_keys + self.own_values,
                conv=mixer.conv,
                # What hands a state on is a matrix: products of (1 - beta k k^T) and decays.
                state=self.own_heads * mixer.key_dim * (mixer.value_dim + mixer.key_dim),
                gradients=Collective.ALL_GATHER,
            ),
        )
        self.chunk = np.minimum(CHUNK, shapes.seq_len / (shapes.ring * runs(shapes)))

    def _columns(self, heads: Array, key_heads: Array) -> Array:
        """Return columns of q, k, v, gate and two rates."""
        return heads * (2.0 * self.mixer.value_dim + 2.0) + 2.0 * key_heads * self.mixer.key_dim

    @property
    def projected(self) -> Array:
        """Columns of the input projection of one tensor-parallel rank."""
        return self._columns(self.heads, self.key_heads)

    @property
    def inner(self) -> Array:
        """Columns that enter the output projection of one tensor-parallel rank."""
        return self.heads * self.mixer.value_dim

    def scan(self, *, backward: bool) -> tuple[Operation, ...]:
        """Return norms of queries and keys, gates, and the products of the delta rule."""
        tokens = self.shapes.ring_tokens
        small = tokens * 2.0 * self.own_keys * NORM_BYTES[backward]
        small = small + tokens * self.own_heads * GATES * (BF16 + FP32) * (1.0 + backward)
        return (
            memory("delta net norms and gates", small, SMALL_KERNELS[backward]),
            *(each.compute(self.shapes, backward=backward) for each in self._products()),
        )

    def _products(self) -> tuple[ChunkProduct, ...]:
        mixer, tokens = self.mixer, self.shapes.ring_tokens
        keys, values = BF16 * tokens * self.own_keys, BF16 * tokens * self.own_values
        corrected = BF16 * tokens * self.own_heads * mixer.key_dim  # w: keys of every value head
        inside = BF16 * tokens * self.own_heads * self.chunk
        states = BF16 * self._state_elements()
        key, value = mixer.key_dim, mixer.value_dim

        def found(
            name: str,
            columns: Array | float,
            depth: Array | float,
            nbytes: Array,
            backward: float = 3.0,
            launches: float = 0.0,
        ) -> ChunkProduct:
            return ChunkProduct(
                name=f"delta net {name}",
                rows=tokens * self.own_heads,
                columns=columns,
                depth=depth,
                nbytes=nbytes,
                backward=backward,
                launches=launches,
            )

        return (
            found("keys by keys", self.chunk, key, keys + inside, launches=1.0),
            found("w", key, self.chunk, inside + corrected),
            found("u", value, self.chunk, 2.0 * values, launches=1.0),
            found("answers", value, key, corrected + values + states, launches=1.0),
            found("written states", value, key, keys + values),
            found("queries by keys", self.chunk, key, 2.0 * keys, launches=1.0),
            found("output of states", value, key, states, backward=2.0),
            found("output inside chunks", value, self.chunk, 2.0 * values, backward=2.0),
        )

    def correct(self, *, backward: bool) -> tuple[Compute, ...]:
        """Return what a ring computes before the scan, to begin it with the state before.

        The state a run leaves, as the scan makes it, and the matrix that hands states on: keys by
        ``w`` of every chunk, and its product with those of the chunks before (flash-linear-
        attention ``ops/cp/chunk_fwd.py``). Backward the same of gradients, which a third product
        enters (``ops/cp/chunk_bwd.py``).
        """
        mixer, tokens = self.mixer, self.shapes.ring_tokens
        passed = np.where(self.shapes.ring > 1, 1.0, 0.0)
        rows, read = tokens * self.own_heads, BF16 * tokens * self.own_heads * passed
        key = mixer.key_dim
        parts = (
            ChunkProduct(
                name="delta net last state",
                rows=rows,
                columns=2.0 * mixer.value_dim,
                depth=key,
                nbytes=read * (2.0 * mixer.key_dim + mixer.value_dim),
                share=passed,
                backward=1.5,
                launches=runs(self.shapes) * passed,
            ),
            ChunkProduct(
                name="delta net transition",
                rows=rows,
                columns=key,
                depth=key * (1.0 + key / self.chunk),
                nbytes=read * 2.0 * mixer.key_dim,
                share=passed,
                backward=1.0,
                launches=0.0,
            ),
        )
        return tuple(each.compute(self.shapes, backward=backward) for each in parts)

    def behind(self, *, backward: bool) -> tuple[Compute, ...]:
        """Return the norm of each head with its gate."""
        nbytes = self.shapes.tokens * self.inner * GATED_NORM_BYTES[backward]
        return (memory("delta net gated norm", nbytes, 2.0 if backward else 1.0),)

    def saved(self) -> tuple[Saved, ...]:
        """Return what autograd keeps, the norm and its output aside.

        The whole projection, of which the gate is a part; the convolution's input; of the delta
        rule normalised queries and keys, values, gates, rates and the inverse of every chunk; of
        the gated norm its input and statistics; and the output projection's input
        (flash-linear-attention ``ChunkGatedDeltaRuleFunction``).
        """
        shapes, tokens, own = self.shapes, self.shapes.tokens, self.shapes.ring_tokens
        projected = BF16 * own * self._columns(self.own_heads, self.own_key_heads)
        convolved = BF16 * own * self.recurrence.convolved
        scalars = self.own_heads * (FP32 + BF16) + 2.0 * FP32 * self.own_key_heads
        rule = convolved + own * (scalars + BF16 * self.own_heads * self.chunk)
        behind = tokens * (2.0 * BF16 * self.inner + FP32 * self.heads)
        gathered = gathered_bytes(self.recurrence, shapes)
        qkvz = BF16 * tokens * (self.projected - 2.0 * self.heads)  # the first of three products
        last = BF16 * tokens * self.hidden  # the third
        parts = (
            ("projection", projected, qkvz),
            ("convolution", convolved, 0.0),
            ("rule", rule, 0.0),
            ("gated norm", behind, last),
            ("states", gathered, 0.0),
        )
        return tuple(
            Saved(
                name=f"delta net {name}", nbytes=kept, selective_nbytes=shapes.pick(kept, selective)
            )
            for name, kept, selective in parts
        )

    def working(self) -> tuple[Array, Array]:
        """Return bytes that the scan needs beyond what is kept: forward and backward.

        ``w``, ``u``, corrected values and states; backward all these with their gradients, and
        those of the projection, of what is convolved and of the output.
        """
        tokens, mixer = self.shapes.ring_tokens, self.mixer
        rows = self.own_heads * (mixer.key_dim + 2.0 * mixer.value_dim)
        forward = BF16 * (tokens * rows + self._state_elements())
        columns = self._columns(self.own_heads, self.own_key_heads) + self.recurrence.convolved
        return forward, 2.0 * forward + BF16 * tokens * (columns + self.own_values)

    def parameters(self) -> Array:
        """Return the parameters one rank holds: heads split, key heads replicated beyond them."""
        mixer = self.mixer
        convolved = 2.0 * self.key_heads * mixer.key_dim + self.inner
        matrices = self.hidden * (self.projected + self.inner)
        return matrices + convolved * mixer.conv + mixer.value_dim + 2.0 * self.heads

    def _state_elements(self) -> Array:
        """Return numbers of the states of all chunks."""
        return self.shapes.ring_tokens / self.chunk * self.own_values * self.mixer.key_dim
