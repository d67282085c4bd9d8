"""The peak memory of one decoder layer: on this device, and as the inventory has it."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd import Function
from torch.distributed._tools.mem_tracker import MemTracker
from torch.nn import functional

from models.architecture import Attention, Mlp
from models.architecture import Layer as Part
from models.inventory import layer_work
from models.layer_peak import forward_peak_bytes
from models.layout import Layout, LayoutBatch
from models.named_axes import Kernels
from models.shape import Shapes
from validate.llama import Layer, Size

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch.autograd.function import FunctionCtx


@dataclass(frozen=True, slots=True, kw_only=True)
class Peak:
    """Bytes beyond a layer's parameters, their gradients and its input.

    Parameters
    ----------
    forward_bytes, backward_bytes
        Largest in either pass; in the backward one with all that was kept for it.
    saved_bytes
        Kept from the one to the other.
    """

    forward_bytes: float
    backward_bytes: float
    saved_bytes: float


class _Next(Function):
    """Stands for the layers behind: takes the output, lets it go, and makes its gradient."""

    @staticmethod
    def forward(ctx: FunctionCtx, output: Tensor) -> Tensor:
        ctx.shape = output.shape
        return output.new_zeros(())

    @staticmethod
    def backward(ctx: FunctionCtx, gradient: Tensor) -> Tensor:
        return gradient.new_zeros(ctx.shape)


class _Job:
    """A layer with gradients, as in any micro-batch but the first, and its input."""

    def __init__(self, size: Size, tokens: int) -> None:
        self.layer = Layer(size)
        for each in self.layer.parameters():
            each.grad = torch.zeros_like(each)
        self.hidden = torch.ones(1, tokens, size.hidden, requires_grad=True)
        self.rotary = torch.ones(tokens, size.width), torch.ones(tokens, size.width)

    def forward(self) -> Tensor:
        """Return some loss."""
        self.hidden.grad = None  # a layer hands it on
        loss: Tensor = _Next.apply(self.layer(self.hidden, self.rotary, _attend))
        return loss


def measured_peak(size: Size, tokens: int, device: torch.device, dtype: torch.dtype) -> Peak:
    """Return the peak of one layer of one rank.

    On a GPU by what its allocator gave out; elsewhere on fake tensors by torch's ``MemTracker``,
    which allocates nothing and does not see what a kernel takes and gives back.

    Parameters
    ----------
    size
        Of the model; one layer is made.
    tokens
        Of one sequence.
    device, dtype
        Where, and in what.
    """
    with _defaults(device, dtype):
        if device.type == "cuda":
            return _allocated(_Job(size, tokens), device)
        with FakeTensorMode():
            kept, forward_bytes = _tracked(_Job(size, tokens), backward=False)
            _, backward_bytes = _tracked(_Job(size, tokens), backward=True)
        return Peak(forward_bytes=forward_bytes, backward_bytes=backward_bytes, saved_bytes=kept)


def predicted_peak(size: Size, tokens: int) -> Peak:
    """Return the same as the inventory has it: eager kernels, in 16 bits, on one rank.

    Parameters
    ----------
    size, tokens
        As of :func:`measured_peak`.
    """
    mixer = Attention(heads=size.heads, kv_heads=size.kv_heads, head_dim=size.width)
    part = Part(mixer=mixer, mlp=Mlp(intermediate=size.mlp))
    layout = LayoutBatch.of([Layout(kernels=Kernels.EAGER)])
    work = layer_work(part, size.hidden, Shapes(batch=layout, seq_len=tokens))
    saved = work.saved_bytes()
    peak = saved + work.working_bytes + work.buffer_bytes
    return Peak(
        forward_bytes=float(forward_peak_bytes(work)[0]),
        backward_bytes=float(peak[0]),
        saved_bytes=float(saved[0]),
    )


def _attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return functional.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)


def _allocated(job: _Job, device: torch.device) -> Peak:
    job.forward().backward()  # libraries take their workspace
    job.hidden.grad = None
    before = torch.cuda.memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    loss = job.forward()
    forward_bytes = torch.cuda.max_memory_allocated(device) - before
    saved_bytes = torch.cuda.memory_allocated(device) - before
    torch.cuda.reset_peak_memory_stats(device)
    loss.backward()
    return Peak(
        forward_bytes=forward_bytes,
        backward_bytes=torch.cuda.max_memory_allocated(device) - before,
        saved_bytes=saved_bytes,
    )


def _tracked(job: _Job, *, backward: bool) -> tuple[int, int]:
    """Return bytes alive after the forward pass, and the peak until then or of both passes."""
    tracker = MemTracker()
    tracker.track_external(job.layer, job.hidden, *job.rotary)
    before = _total(tracker, "current")
    with tracker:
        loss = job.forward()
        kept = _total(tracker, "current") - before
        if backward:
            loss.backward()
        return kept, _total(tracker, "peak") - before


def _total(tracker: MemTracker, state: str) -> int:
    return sum(each["Total"] for each in tracker.get_tracker_snapshot(state).values())


@contextmanager
def _defaults(device: torch.device, dtype: torch.dtype) -> Iterator[None]:
    """Make tensors there and in that: fake modules cannot be cast afterwards."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with device:
            yield
    finally:
        torch.set_default_dtype(before)
