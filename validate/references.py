"""What cases are given, and what must come of them: written out in fp64, and on one device."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional

from validate.cases import DTYPES
from validate.kernels import state_pass
from validate.kernels.axis import VirtualAxis
from validate.kernels.state_pass import StateSpace

if TYPE_CHECKING:
    from collections.abc import Sequence

    from validate.cases import Case
    from validate.kernels.axis import Axis

SEED = 0


def inputs(case: Case, device: str) -> list[Tensor]:
    """Return q, k, v and the output's gradient, representable in the case's dtype."""
    generator = torch.Generator().manual_seed(SEED)
    shapes = [case.heads, case.kv_heads, case.kv_heads, case.heads]
    drawn = (
        torch.randn(case.batch, heads, case.tokens, case.width, generator=generator)
        for heads in shapes
    )
    return [each.to(DTYPES[case.dtype]).to(torch.float64).to(device) for each in drawn]


def log_decay(case: Case, device: str) -> Tensor:
    """Return logarithms of decays between 0.8 and 1, which a sequence forgets some of."""
    generator = torch.Generator().manual_seed(SEED + 1)
    drawn = torch.rand(case.batch, case.heads, case.tokens, generator=generator)
    dtype = torch.promote_types(DTYPES[case.dtype], torch.float32)
    return (1.0 - 0.2 * drawn).log().to(dtype).to(device)


def reference(case: Case, whole: Sequence[Tensor]) -> list[Tensor]:
    """Return output and gradients written out in fp64, scores and all."""
    q, k, v = (each.detach().clone().requires_grad_() for each in whole[:3])
    if case.state_space:
        # The recurrence written out: what every token leaves of what each before it wrote.
        passed = log_decay(case, str(q.device)).to(torch.float64).cumsum(-1)
        between = (passed.unsqueeze(-1) - passed.unsqueeze(-2)).exp()
        out = (q @ k.mT * between * _seen(case).to(q.device)) @ v
        return [out.detach(), *torch.autograd.grad(out, (q, k, v), whole[3])]
    repeats = case.heads // case.kv_heads
    scores = q @ k.repeat_interleave(repeats, 1).mT * case.width**-0.5
    scores = scores.masked_fill(~_seen(case).to(scores.device), -torch.inf)
    out = scores.softmax(-1) @ v.repeat_interleave(repeats, 1)
    return [out.detach(), *torch.autograd.grad(out, (q, k, v), whole[3])]


def one_device(case: Case, whole: Sequence[Tensor], dtype: torch.dtype) -> list[Tensor]:
    """Return output and gradients of torch's own attention on one device in the same dtype."""
    q, k, v = (each.to(dtype).requires_grad_() for each in whole[:3])
    if case.state_space:
        alone = VirtualAxis([[0]])
        decay, gradient = log_decay(case, str(q.device)), whole[3].to(dtype)
        found = state_passed(alone, [q], [k], [v], [decay], [gradient])
        return [each[0] for each in found]
    masked = case.window is not None or case.documents is not None
    mask = _seen(case).to(q.device) if masked else None
    out = functional.scaled_dot_product_attention(
        q, k, v, attn_mask=mask, is_causal=case.causal and not masked, enable_gqa=True
    )
    return [out.detach(), *torch.autograd.grad(out, (q, k, v), whole[3].to(dtype))]


def state_passed(axis: Axis, *given: Sequence[Tensor]) -> list[list[Tensor]]:
    """Return outputs and gradients of c, b and x of every rank."""
    *tensors, decay, gradient = given
    leaves = [[each.detach().requires_grad_() for each in one] for one in tensors]
    own = [StateSpace(*one) for one in zip(*leaves, decay, strict=True)]
    outs = state_pass.forward(axis, own)
    torch.autograd.backward(outs, list(gradient))
    return [
        [each.detach() for each in outs],
        *([_gradient(each[at]) for each in own] for at in range(3)),
    ]


def _gradient(tensor: Tensor) -> Tensor:
    if tensor.grad is None:
        raise RuntimeError("no gradient")
    return tensor.grad


def _seen(case: Case) -> Tensor:
    """Return which keys every query attends to, ``[tokens, tokens]``."""
    place = torch.arange(case.tokens)
    behind = place[:, None] - place
    visible = torch.ones_like(behind, dtype=torch.bool)
    if case.causal:
        visible &= behind >= 0
    if case.window is not None:
        visible &= behind < case.window
    if case.documents is not None:
        lengths = torch.tensor(case.documents)
        document = torch.arange(len(lengths)).repeat_interleave(lengths)
        visible &= document[:, None] == document
    return visible
