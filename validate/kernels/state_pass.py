"""State-space layers on a cut sequence: each rank scans its tokens, and states are handed on.

The recurrence of Mamba-2 (Dao and Gu, arXiv:2405.21060): ``h_t = a_t h_(t-1) + b_t x_t^T`` and
``y_t = c_t h_t``, with one decay ``a_t`` per head and token. It is linear in the state: every rank
scans its own tokens from nothing, all ranks' last states and decays are gathered, and what came
before is added (as LASP-2, Sun et al., arXiv:2502.07563, for linear attention). What is sent does
not grow with the sequence.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from validate.kernels.axis import GroupAxis

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch.autograd.function import FunctionCtx

    from validate.kernels.axis import Axis

#: Tokens that are worked on together.
CHUNK = 64


class StateSpace(NamedTuple):
    """What a rank's tokens put into a layer, ``[batch, heads, tokens, ...]``.

    Parameters
    ----------
    c, b
        How a token reads from the state, and how it writes to it: ``[..., state]``.
    x
        What it writes: ``[..., width]``.
    log_decay
        Logarithm of what a token leaves of the state, ``[batch, heads, tokens]``, fp32 or more.
    """

    c: Tensor
    b: Tensor
    x: Tensor
    log_decay: Tensor


class Scanned(NamedTuple):
    """A scan from an empty state: outputs, the last state and the logarithm of all its decay."""

    out: Tensor
    state: Tensor
    log_decay: Tensor


def scan(own: StateSpace) -> Scanned:
    """Return what a rank's tokens give alone, chunk by chunk (the same paper, listing 1)."""
    dtype = own.log_decay.dtype
    tokens = own.x.shape[2]
    state: Tensor | None = None
    outs = []
    for start in range(0, tokens, CHUNK):
        part = slice(start, min(start + CHUNK, tokens))
        c, b, x = (each[:, :, part].to(dtype) for each in own[:3])
        passed = own.log_decay[:, :, part].cumsum(-1)
        between = passed.unsqueeze(-1) - passed.unsqueeze(-2)
        kept = between.masked_fill(torch.ones_like(between[0, 0]).triu(1).bool(), -torch.inf)
        out = (c @ b.mT * kept.exp()) @ x
        left = (passed[..., -1:] - passed).exp().unsqueeze(-1)
        written = (b * left).mT @ x
        if state is not None:
            out = out + passed.exp().unsqueeze(-1) * (c @ state)
            written = written + passed[..., -1, None, None].exp() * state
        state = written
        outs.append(out)
    if state is None:
        raise ValueError("no tokens")
    return Scanned(torch.cat(outs, 2), state, own.log_decay.sum(-1))


def forward(axis: Axis, own: Sequence[StateSpace]) -> list[Tensor]:
    """Return every rank's outputs over its own tokens and all before them, with gradients.

    Parameters
    ----------
    axis
        Ranks in the order of the sequence, each with one run of it.
    own
        Of each rank that this process plays.
    """
    scanned = _gathered(axis, [scan(each) for each in own])
    found = []
    for each, (local, everyone), place in zip(own, scanned, axis.places, strict=True):
        state = torch.zeros_like(local.state)
        for earlier in everyone[:place]:
            written, log_decay = _unpacked(earlier, local)
            state = log_decay[..., None, None].exp() * state + written
        seen = each.log_decay.cumsum(-1).exp().unsqueeze(-1)
        out = local.out + seen * (each.c.to(state.dtype) @ state)
        found.append(out.to(each.x.dtype))
    return found


def _packed(scanned: Scanned) -> Tensor:
    return torch.cat((scanned.state.flatten(2), scanned.log_decay.unsqueeze(-1)), -1)


def _unpacked(sent: Tensor, like: Scanned) -> tuple[Tensor, Tensor]:
    return sent[..., :-1].unflatten(-1, like.state.shape[2:]), sent[..., -1]


def _gathered(axis: Axis, scanned: Sequence[Scanned]) -> list[tuple[Scanned, Tensor]]:
    """Return every rank's own scan, and the states and decays of all ranks."""
    sent = [_packed(each) for each in scanned]
    if not isinstance(axis, GroupAxis):
        return list(zip(scanned, axis.gather(sent), strict=True))
    ((own, packed),) = zip(scanned, sent, strict=True)
    everyone, out = _Gather.apply(axis, packed, own.out)
    return [(own._replace(out=out), everyone)]


class _Gather(torch.autograd.Function):
    """An all-gather whose gradients are summed over ranks.

    The rank's own output goes through unchanged, so that all ranks take part in that sum: also the
    first, which has no use for the states of others.
    """

    @staticmethod
    def forward(
        ctx: FunctionCtx, axis: GroupAxis, tensor: Tensor, out: Tensor
    ) -> tuple[Tensor, Tensor]:
        ctx.axis = axis
        return axis.gather([tensor])[0], out.view_as(out)

    @staticmethod
    def backward(ctx: FunctionCtx, gradient: Tensor, out: Tensor) -> tuple[None, Tensor, Tensor]:
        return None, ctx.axis.scatter_sum([gradient])[0], out
