"""Peak memory of one decoder layer, forward and backward, with any attention.

A Hugging Face layer in bfloat16 runs on fake tensors as one rank of a fake process group. Gradients
of the weights exist before, as in any micro-batch but the first, and the gradient of the output is
made when it is asked for, as the next layer's would be.

What is alive is read twice: off the storages that operators make (``LiveBytes``, which names each),
and by torch's own ``MemTracker``, which gives totals only.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd import Function
from torch.distributed._tools.mem_tracker import MemTracker

from .hf_reference import build_layer, default_dtype, rotary_tables, text_config
from .ledger import LiveBytes, SavedTensor
from .sharded_reference import PLUGGED, alone
from .traffic import fake_group

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from .sharded_reference import Attention


@dataclass(frozen=True, slots=True, kw_only=True)
class Peak:
    """Bytes beyond parameters, their gradients and the layer's input, and what they are.

    Parameters
    ----------
    forward_bytes, backward_bytes
        Largest in either pass; in the backward one with all that is kept for it.
    saved_bytes
        Alive between the two.
    forward, backward
        Storages alive at either peak.
    """

    forward_bytes: int
    backward_bytes: int
    saved_bytes: int
    forward: tuple[SavedTensor, ...]
    backward: tuple[SavedTensor, ...]


class _Next(Function):
    """Stands for the layers behind: takes the output, lets it go, and makes its gradient."""

    @staticmethod
    def forward(ctx: Any, output: Tensor) -> Tensor:
        """Return some loss."""
        ctx.shape = output.shape
        return output.new_empty(())

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        """Return a gradient of the output."""
        return gradient.new_empty(ctx.shape)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Job:
    """A layer ready to run."""

    layer: nn.Module
    hidden: Tensor
    tables: tuple[Tensor, ...]
    attend: Attention

    def forward(self) -> Tensor:
        given = self.tables if len(self.tables) > 1 else next(iter(self.tables), None)
        tables = {} if given is None else {"position_embeddings": given}
        output = self.layer(self.hidden, attention_mask=None, attend=self.attend, **tables)
        loss: Tensor = _Next.apply(output[0] if isinstance(output, tuple) else output)
        return loss


@contextmanager
def _job(
    config: Mapping[str, Any],
    tokens: int,
    ranks: int,
    attention: Callable[[], Attention] | None,
    rank: int,
) -> Iterator[_Job]:
    text = text_config(config, attention=PLUGGED)
    with fake_group(ranks, rank), default_dtype(torch.bfloat16):
        attend = alone if attention is None else attention()
        with FakeTensorMode(allow_non_fake_inputs=True):
            layer = build_layer(text)
            for each in layer.parameters():
                each.grad = torch.empty_like(each)
            yield _Job(
                layer=layer,
                hidden=torch.empty(1, tokens, text.hidden_size, requires_grad=True),
                tables=rotary_tables(text, tokens),
                attend=attend,
            )


def layer_peak(
    config: Mapping[str, Any],
    *,
    tokens: int,
    ranks: int = 1,
    attention: Callable[[], Attention] | None = None,
    rank: int = 0,
) -> Peak:
    """Return the peaks of one layer.

    Parameters
    ----------
    config
        Of the model; a ``config.json``.
    tokens
        Those this rank holds.
    ranks
        Of the group.
    attention
        Makes the attention of the rank, once there is a process group; else causal, of its own.
    rank
        Which of the group.
    """
    with _job(config, tokens, ranks, attention, rank) as job:
        return _of_both_passes(job.forward)


def attention_peak(
    *,
    heads: int,
    kv_heads: int,
    width: int,
    tokens: int,
    ranks: int,
    attention: Callable[[], Attention],
    rank: int = 0,
) -> Peak:
    """Return the peaks of attention alone, beyond the rank's q, k and v.

    Parameters
    ----------
    heads, kv_heads, width
        Of the model.
    tokens, ranks, attention, rank
        As of :func:`layer_peak`.
    """
    with fake_group(ranks, rank), default_dtype(torch.bfloat16):
        attend = attention()
        with FakeTensorMode(allow_non_fake_inputs=True):
            q, k, v = (
                torch.empty(1, many, tokens, width, requires_grad=True)
                for many in (heads, kv_heads, kv_heads)
            )
            return _of_both_passes(lambda: _Next.apply(attend(q, k, v)))


def _of_both_passes(forward: Callable[[], Tensor]) -> Peak:
    """Return the peaks of a forward pass that gives some loss, and of its backward pass."""
    with LiveBytes() as live:
        loss = forward()
        forward_bytes, at_forward, saved_bytes = live.peak_bytes, live.at_peak, live.live_bytes
        live.restart()
        loss.backward()
    return Peak(
        forward_bytes=forward_bytes,
        backward_bytes=live.peak_bytes,
        saved_bytes=saved_bytes,
        forward=at_forward,
        backward=live.at_peak,
    )


def tracked_bytes(
    config: Mapping[str, Any],
    *,
    tokens: int,
    ranks: int = 1,
    attention: Callable[[], Attention] | None = None,
    rank: int = 0,
    backward: bool = True,
) -> int:
    """Return a peak as torch's ``MemTracker`` has it: of both passes, or of the forward one.

    Its peak cannot be taken anew between the passes: starting over drops the modules that the
    backward hooks look up.
    """
    with _job(config, tokens, ranks, attention, rank) as job:
        tracker = MemTracker()
        tracker.track_external(job.layer, job.hidden, *job.tables)
        before = _total(tracker, "current")
        with tracker:
            loss = job.forward()
            if backward:
                loss.backward()
            return _total(tracker, "peak") - before


def _total(tracker: MemTracker, state: str) -> int:
    found = tracker.get_tracker_snapshot(state)
    return sum(each["Total"] for each in found.values())
