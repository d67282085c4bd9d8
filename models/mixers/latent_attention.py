"""Multi-head latent attention, its keys and values unfolded for training.

Products into the narrow latent vectors are whole on every tensor-parallel rank, those out of them
are cut by heads (DeepSeek-V3, arXiv:2412.19437, section 2.1.1). With tp_sp *fused* kernels
(Megatron-Core's ``MLASelfAttention``) make the latents of a rank's own tokens and gather those
before the products by heads; *eager* ones (torchtitan's plan for DeepSeek-V3) gather the residual
stream and make all latents on every rank.

Context parallelism sends unfolded keys and values, of every head: ring, all-gather and Ulysses of
TransformerEngine know nothing of latents. (Sending the latents and unfolding them where they arrive
would send less; it is not what is modelled.)
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from models import saved_tensors
from models.dtype import BF16
from models.mixers.core_attention import CoreAttention
from models.operation import Communication, Compute, Saved, repeated_by
from models.operators import elementwise, product
from models.recompute_modules import RecomputeModules
from models.saved_tensors import EAGER_NORM, STATISTICS
from models.sequence_parallel.heads import local_kv_elements
from models.tensor_parallel import column_input, gather_again, row_output

if TYPE_CHECKING:
    from models.architecture import LatentAttention
    from models.layout import Array
    from models.mixers.half import Moment
    from models.operation import Operation
    from models.shape import Shapes

_Products = tuple[tuple[Compute, ...], tuple[Compute, ...]]


class LatentAttentionWork:
    """Multi-head latent attention, its keys and values unfolded for training.

    Parameters
    ----------
    mixer, hidden, shapes
        The attention, the width of the residual stream, and shapes of work to take it for.
    """

    name = "attention"

    def __init__(self, mixer: LatentAttention, hidden: int, shapes: Shapes) -> None:
        self.mixer, self.hidden, self.shapes = mixer, hidden, shapes
        self.core = CoreAttention(mixer, shapes)
        self.heads = mixer.heads / shapes.tp
        self.queries = mixer.q_width / shapes.tp
        self.values = self.heads * mixer.value_dim

    def forward(self) -> tuple[Operation, ...]:
        """Return the forward operations in order."""
        stream, gather, _ = self._joined()
        down, up, output = (made for made, _ in (self._down(), self._up(), self._output()))
        return (
            stream,
            *down,
            self._norms(0),
            gather,
            *repeated_by(RecomputeModules.MLA_UP_PROJ, (*up, *self._keys(0))),
            *self.core.forward(),
            *output,
            *row_output("attention", self.hidden, self.shapes, forward=True),
        )

    def backward(self) -> tuple[Operation, ...]:
        """Return the backward operations in order."""
        _, gather, reduced = self._joined()
        down, up, output = (back for _, back in (self._down(), self._up(), self._output()))
        return (
            *row_output("attention", self.hidden, self.shapes, forward=False),
            *output,
            *self.core.backward(),
            *self._keys(1),
            *gather_again((gather,), self.shapes),
            *up,
            *reduced,
            self._norms(1),
            *down,
        )

    def saved(self) -> tuple[Saved, ...]:
        """Return what autograd keeps, the norm and its output aside."""
        shapes = self.shapes
        queries, output = BF16 * shapes.tokens * self.queries, BF16 * shapes.tokens * self.values
        exchanged = np.where(shapes.ulysses > 1, 1.0, 0.0)
        # As of other attention: an exchange or a cast makes the output product's input another one.
        inputs = output / BF16 * shapes.input_bytes
        apart = (exchanged > 0) | (shapes.input_bytes != BF16)
        # Eager values are part of what one product made, with the unrotated keys; queries put
        # together of their columns lie by heads, and so does the output before it is transposed.
        uncut = np.where(shapes.batch.cp > 1, 0.0, shapes.pick(0.0, 1.0))
        folded = BF16 * shapes.tokens * self.heads * self.mixer.nope_dim
        return (
            self._saved_latents(),
            Saved(
                name="q, k, v",
                nbytes=queries + BF16 * local_kv_elements(self.mixer, shapes) + uncut * folded,
                # Ulysses' exchange copies what the up-projections made.
                selective_nbytes=shapes.pick(
                    exchanged * (2.0 * queries + output), self._every_other()
                ),
                modules=RecomputeModules.MLA_UP_PROJ,
            ),
            Saved(
                name="o before it is transposed",
                nbytes=uncut * output,
                selective_nbytes=np.zeros(len(shapes)),
            ),
            Saved(name="o", nbytes=inputs, selective_nbytes=inputs),
            Saved(
                name="o of the core",
                nbytes=np.where(apart, output, 0.0),
                selective_nbytes=output * exchanged * shapes.pick(0.0, 1.0),
                modules=RecomputeModules.CORE_ATTN,
            ),
            saved_tensors.attention_weights(self.mixer, shapes),
        )

    def moments(self, norm: Array, passing: Array) -> tuple[Moment, ...]:
        """Return the moments that may be the fullest."""
        return self.core.moments(norm, self.saved(), passing)

    def parameters(self) -> Array:
        """Return the parameters one rank holds: those of heads split, those of latents whole."""
        matrices: Array = self.mixer.matrix_params(self.hidden) / self.shapes.tp
        return matrices + self.mixer.small_params(self.hidden)

    @property
    def _ranks(self) -> int:
        """Columns of the latent vectors that are normalised."""
        return (self.mixer.q_rank or 0) + self.mixer.kv_rank

    @property
    def _parts(self) -> Array:
        """Tensor-parallel ranks over which tokens are split where latents are made."""
        return self.shapes.pick(self.shapes.norm_shard, 1.0)

    def _joined(self) -> tuple[Communication, Communication, tuple[Communication, ...]]:
        """Return gathers of the stream (eager) and of latents (fused), and gradients' reductions.

        Queries without a latent are projected from the stream, which is then gathered as well.
        """
        shapes, mixer = self.shapes, self.mixer
        direct = self.hidden if mixer.q_rank is None else 0
        width = direct + mixer.latent_width
        (gather,), (scatter, reduce) = column_input("latent", width, shapes, reductions=1.0)
        stream = replace(
            gather,
            name="attention gather",
            nbytes=shapes.tokens * self.hidden * BF16,
            calls=gather.calls * shapes.pick(0.0, 1.0),
        )
        sharded = shapes.pick(1.0, 0.0)
        whole = reduce.calls + np.where(shapes.tp > 1, 1.0 - sharded, 0.0) * shapes.sharded
        return (
            stream,
            replace(gather, calls=gather.calls * sharded),
            (replace(scatter, calls=scatter.calls * sharded), replace(reduce, calls=whole)),
        )

    def _down(self) -> _Products:
        """Return products into the latent vectors, whole on every tensor-parallel rank."""
        rows = self.shapes.tokens / self._parts
        launches = 1.0 if self.mixer.q_rank is None else 2.0
        width = self.mixer.latent_width
        return product("latent down", self.shapes, rows, width, self.hidden, launches)

    def _up(self) -> _Products:
        """Return products out of the latent vectors, cut by heads."""
        mixer, shapes = self.mixer, self.shapes
        depth = self.hidden if mixer.q_rank is None else mixer.q_rank
        unfolded = self.heads * (mixer.nope_dim + mixer.value_dim)
        queries = product("queries", shapes, shapes.tokens, self.queries, depth)
        keys = product("latent up", shapes, shapes.tokens, unfolded, mixer.kv_rank)
        return (*queries[0], *keys[0]), (*queries[1], *keys[1])

    def _output(self) -> _Products:
        return product("attention out", self.shapes, self.shapes.tokens, self.hidden, self.values)

    def _norms(self, phase: int) -> Compute:
        elements = self.shapes.tokens * self._ranks / self._parts
        return elementwise("latent norms", "rms_norm", self.shapes, elements)[phase]

    def _keys(self, phase: int) -> tuple[Compute, Compute]:
        """Return the rotation, and queries and keys put together of rotated and other columns."""
        rotated = self.shapes.tokens * (self.heads + 1.0) * self.mixer.rope_dim
        joined = self.shapes.tokens * 2.0 * self.queries
        return (
            elementwise("rotary", "rotary", self.shapes, rotated)[phase],
            elementwise("latent join", "latent_join", self.shapes, joined)[phase],
        )

    def _saved_latents(self) -> Saved:
        """Return what norms of latents keep, and the inputs of the products behind them."""
        shapes = self.shapes
        kept, output = EAGER_NORM["rms"]
        many = 1.0 if self.mixer.q_rank is None else 2.0
        statistics = many * STATISTICS["rms"]
        columns = shapes.pick(2.0 * BF16, kept + output) * self._ranks
        nbytes = shapes.tokens * (columns + statistics) / self._parts
        return Saved(name="latent norms", nbytes=nbytes, selective_nbytes=shapes.pick(nbytes, 0.0))

    def _every_other(self) -> Array:
        """Return what every other product makes, of those in the order of plain modules."""
        mixer, shapes = self.mixer, self.shapes
        if mixer.q_rank is None:
            columns = self.queries + self.heads * (mixer.nope_dim + mixer.value_dim)
            return BF16 * shapes.tokens * columns
        return BF16 * shapes.tokens * (mixer.latent_width + self.hidden)
