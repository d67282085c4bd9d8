"""Attention over a mesh of Ulysses and ring ranks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from topologies.errors import Problem, SpecError
from validate.kernels import ring, ulysses
from validate.kernels.block import Block, BlockGradients
from validate.kernels.ring import Local, Ring

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch.autograd.function import FunctionCtx

    from validate.kernels.axis import Axis


@dataclass(frozen=True, slots=True, kw_only=True)
class ContextMesh:
    """The two axes of context parallelism.

    Parameters
    ----------
    ulysses, ring
        Each over the ranks that this process plays, in the same order.
    """

    ulysses: Axis
    ring: Axis


def forward(
    mesh: ContextMesh, how: Ring, q: Sequence[Tensor], k: Sequence[Tensor], v: Sequence[Tensor]
) -> tuple[list[Tensor], list[Local]]:
    """Return every rank's output, and what its backward pass needs.

    Parameters
    ----------
    mesh
        Of which this process plays some ranks.
    how
        Along the ring axis.
    q, k, v
        Of each of these ranks, ``[batch, heads, tokens, width]``.

    Raises
    ------
    SpecError
        If heads cannot be divided.
    """
    ulysses.check_heads(mesh.ulysses.size, q[0].shape[1], k[0].shape[1])
    exchanged = (ulysses.to_heads(mesh.ulysses, each) for each in (q, k, v))
    own = [Local(q=a, k=b, v=c) for a, b, c in zip(*exchanged, strict=True)]
    held = ring.forward(mesh.ring, how, own)
    outs = [each.whole.out for each in held if each.whole is not None]
    return ulysses.to_tokens(mesh.ulysses, outs, q[0].shape[1]), held


def backward(
    mesh: ContextMesh,
    how: Ring,
    held: Sequence[Local],
    gradients: Sequence[Tensor],
    *,
    heads: int,
    kv_heads: int,
) -> list[BlockGradients]:
    """Return the gradients of every rank's queries, keys and values.

    Parameters
    ----------
    mesh, how
        As of the forward pass.
    held
        What it returned beside the outputs.
    gradients
        Of the outputs.
    heads, kv_heads
        Of the whole model: queries, and keys and values.
    """
    whole = ulysses.to_heads(mesh.ulysses, gradients)
    found = ring.backward(mesh.ring, how, held, whole)
    dq, dk, dv = zip(*found, strict=True)
    home = (
        ulysses.to_tokens(mesh.ulysses, dq, heads),
        ulysses.to_tokens(mesh.ulysses, dk, kv_heads),
        ulysses.to_tokens(mesh.ulysses, dv, kv_heads),
    )
    return [BlockGradients(*each) for each in zip(*home, strict=True)]


def check_alike(mesh: ContextMesh, q: Sequence[Tensor], k: Sequence[Tensor]) -> None:
    """Check that all ranks hold tensors of one shape: collectives of unequal ones hang or crash.

    All ranks call it, once before they start.

    Raises
    ------
    SpecError
        On every rank, with each shape that is there.
    """
    own = [torch.tensor([*a.shape, *b.shape], device=a.device) for a, b in zip(q, k, strict=True)]
    of_ulysses = mesh.ulysses.gather(own)
    shapes = mesh.ring.gather(of_ulysses)[0].flatten(0, 1).tolist()
    different = sorted({tuple(shape) for shape in shapes})
    if len(different) > 1:
        ranks = {shape: shapes.index(list(shape)) for shape in different}
        raise SpecError(
            [
                Problem(
                    "q and k",
                    f"{list(shape[:4])} and {list(shape[4:])} on rank {rank}",
                    "the same shape on all ranks: cut sequences evenly, or pad them",
                )
                for shape, rank in ranks.items()
            ]
        )


class _Attention(torch.autograd.Function):
    """Attention of the one rank that a process of a job plays."""

    @staticmethod
    def forward(
        ctx: FunctionCtx, q: Tensor, k: Tensor, v: Tensor, mesh: ContextMesh, how: Ring
    ) -> Tensor:
        (out,), (held,) = forward(mesh, how, [q], [k], [v])
        ctx.mesh, ctx.how, ctx.heads, ctx.kv_heads = mesh, how, q.shape[1], k.shape[1]
        whole = held.whole
        if whole is None:
            raise RuntimeError("no output")
        ctx.save_for_backward(held.q, held.k, held.v, *whole[:2], *whole.rng)
        return out

    @staticmethod
    def backward(ctx: FunctionCtx, gradient: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, out, lse, *rng = ctx.saved_tensors
        held = Local(q=q, k=k, v=v, whole=Block(out, lse, tuple(rng)))
        (found,) = backward(
            ctx.mesh, ctx.how, [held], [gradient], heads=ctx.heads, kv_heads=ctx.kv_heads
        )
        return *found, None, None


def attention(q: Tensor, k: Tensor, v: Tensor, mesh: ContextMesh, how: Ring) -> Tensor:
    """Return attention of this process' tokens over those of all ranks, with gradients.

    Parameters
    ----------
    q, k, v
        Shape ``[batch, heads, tokens, width]``; keys and values may have fewer heads.
    mesh, how
        Whom with, and how.
    """
    out: Tensor = _Attention.apply(q, k, v, mesh, how)
    return out
