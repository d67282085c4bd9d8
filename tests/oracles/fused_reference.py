"""A decoder layer of the *fused* kernel set, written to keep exactly what such kernels keep.

The reference is the memory behaviour of Megatron-Core with Transformer Engine: a normalisation
fused with the projection that follows it, one product for q, k and v, one for gate and up, flash
attention, and an activation that keeps only its input. Each fused operator is an autograd function
with its own backward pass, so gradients can be compared with a plain composition, and the saved
storages can be listed. Nothing here is fast; only what is saved matters.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, Self

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd import Function
from torch.nn import functional
from torch.utils.checkpoint import checkpoint, set_checkpoint_early_stop

from .hf_reference import (
    RECOMPUTE,
    Recompute,
    default_dtype,
    flop_counter,
    rotary_tables,
    text_config,
)
from .ledger import SavedLedger, SavedTensor, loss_peak_report, total_bytes

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

NormKind = Literal["rms", "layer"]

_EPS = 1e-6
_aten = torch.ops.aten

#: What ``selective`` recomputes unless something else is said.
CORE = frozenset({"core_attn"})
_again = partial(checkpoint, use_reentrant=False, preserve_rng_state=False)


# -------------------------------------------------------------------------------------- dimensions


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerShape:
    """Everything about a decoder layer that decides what it saves."""

    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    ffn: int
    gated: bool
    silu: bool
    """SiLU if true, else the tanh form of GELU."""
    norm: NormKind
    post_norms: bool
    """Whether each branch is normalised once more before it joins the residual stream."""
    qk_norm: bool
    rotary: bool
    qkv_bias: bool
    out_bias: bool
    mlp_bias: bool

    @classmethod
    def from_hf(cls, config: Mapping[str, Any]) -> Self:
        """Read a ``config.json`` mapping of any family that the eager oracle knows."""
        text = text_config(config)
        family: str = text.model_type
        gpt2, gemma = family == "gpt2", family.startswith("gemma")
        hidden, heads = text.hidden_size, text.num_attention_heads
        bias = bool(getattr(text, "attention_bias", False))
        return cls(
            hidden=hidden,
            heads=heads,
            kv_heads=heads if gpt2 else text.num_key_value_heads,
            head_dim=getattr(text, "head_dim", None) or hidden // heads,
            ffn=(text.n_inner or 4 * hidden) if gpt2 else text.intermediate_size,
            gated=not gpt2,
            silu=not gpt2 and not gemma,
            norm="layer" if gpt2 else "rms",
            post_norms=gemma,
            qk_norm=family in ("qwen3", "gemma3_text"),
            rotary=not gpt2,
            qkv_bias=bias or family in ("gpt2", "qwen2"),
            out_bias=bias or gpt2,
            mlp_bias=gpt2 or bool(getattr(text, "mlp_bias", False)),
        )


# --------------------------------------------------------------------------------- fused operators


def _wide(tensor: Tensor, *, copy: bool = False) -> Tensor:
    """Raise to the precision in which statistics are taken: float32, or float64 if given."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32), copy=copy)


def _normalise(
    x: Tensor, gain: Tensor, shift: Tensor | None
) -> tuple[Tensor, Tensor | None, Tensor]:
    """Return the normalised tensor, the mean (LayerNorm, told by its shift) and ``1 / std``."""
    wide = _wide(x)
    mean = None if shift is None else wide.mean(-1, keepdim=True)
    centred = wide if mean is None else wide - mean
    rstd = torch.rsqrt(centred.square().mean(-1, keepdim=True) + _EPS)
    y = centred * rstd * gain
    return (y if shift is None else y + shift).to(x.dtype), mean, rstd


def _normalise_backward(
    grad: Tensor, x: Tensor, gain: Tensor, mean: Tensor | None, rstd: Tensor
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Return the gradients of input, gain and shift."""
    wide, grad = _wide(x), _wide(grad)
    unit = (wide if mean is None else wide - mean) * rstd
    flow = grad * gain
    inner = flow - unit * (flow * unit).mean(-1, keepdim=True)
    if mean is not None:
        inner = inner - flow.mean(-1, keepdim=True)
    over = tuple(range(x.dim() - 1))
    grad_gain = (grad * unit).sum(over).to(gain.dtype)
    grad_shift = None if mean is None else grad.sum(over).to(gain.dtype)
    return (inner * rstd).to(x.dtype), grad_gain, grad_shift


class NormLinearOp(Function):
    """Normalise, then project; saves the input, the normalised input and the statistics."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        gain: Tensor,
        shift: Tensor | None,
        weight: Tensor,
        bias: Tensor | None,
        again: bool = False,
    ) -> Tensor:
        """Keep the normalised input for the gradient of the weight, or normalise `again` then."""
        y, mean, rstd = _normalise(x, gain, shift)
        ctx.save_for_backward(x, gain, shift, weight, *(() if again else (y, mean, rstd)))
        ctx.has_bias = bias is not None
        return functional.linear(y, weight, bias)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """Go through the projection first, then through the normalisation."""
        x, gain, shift, weight, *normalised = ctx.saved_tensors
        y, mean, rstd = normalised or _normalise(x, gain, shift)
        rows = grad.flatten(0, -2)
        grad_weight = rows.T @ y.flatten(0, -2)
        grad_bias = rows.sum(0) if ctx.has_bias else None
        grad_x, grad_gain, grad_shift = _normalise_backward(grad @ weight, x, gain, mean, rstd)
        return grad_x, grad_gain, grad_shift, grad_weight, grad_bias, None


class NormAddOp(Function):
    """RMS-normalise a branch and add it to the residual; saves the branch and ``1 / std``."""

    @staticmethod
    def forward(ctx: Any, branch: Tensor, gain: Tensor, residual: Tensor | None) -> Tensor:
        """Leave the residual out of what is saved: its gradient passes through."""
        y, _, rstd = _normalise(branch, gain, None)
        ctx.save_for_backward(branch, rstd, gain)
        return y if residual is None else residual + y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """Hand the same gradient to both paths."""
        branch, rstd, gain = ctx.saved_tensors
        grad_branch, grad_gain, _ = _normalise_backward(grad, branch, gain, None, rstd)
        return grad_branch, grad_gain, grad if ctx.needs_input_grad[2] else None


class RotaryOp(Function):
    """Rotate heads out of place; saves the tables only."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """Rotate ``x`` of shape ``[batch, seq, heads, head_dim]`` by the angle of its position."""
        ctx.save_for_backward(cos, sin)
        cos, sin = cos.unsqueeze(2), sin.unsqueeze(2)
        first, second = x.chunk(2, -1)
        return x * cos + torch.cat((-second, first), -1) * sin

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        """Apply the transposed rotation."""
        cos, sin = (table.unsqueeze(2) for table in ctx.saved_tensors)
        first, second = (grad * sin).chunk(2, -1)
        return grad * cos + torch.cat((second, -first), -1), None, None


class FlashAttentionOp(Function):
    """Causal flash attention; saves q, k, v, the output and its log-sum-exp."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Attend over tensors of shape ``[batch, heads, seq, head_dim]``; k and v may be fewer."""
        out: Tensor
        out, lse = _aten._scaled_dot_product_flash_attention_for_cpu(q, k, v, 0.0, True)
        ctx.save_for_backward(q, k, v, out, lse)
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, ...]:
        """Let the kernel rebuild the scores from the log-sum-exp."""
        backward = _aten._scaled_dot_product_flash_attention_for_cpu_backward
        return tuple(backward(grad, *ctx.saved_tensors, 0.0, True))


class ActivationOp(Function):
    """SwiGLU, GeGLU or GELU in one pass; saves the output of the first projection only."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, gated: bool, silu: bool) -> Tensor:
        """Split ``x`` into gate and value if gated."""
        ctx.save_for_backward(x)
        ctx.gated, ctx.silu = gated, silu
        if not gated:
            return _activate(x, silu)
        gate, value = x.chunk(2, -1)
        return _activate(gate, silu) * value

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        """Recompute the activated gate."""
        (x,) = ctx.saved_tensors
        if not ctx.gated:
            return _activate_backward(grad, x, ctx.silu), None, None
        gate, value = x.chunk(2, -1)
        grad_gate = _activate_backward(grad * value, gate, ctx.silu)
        return torch.cat((grad_gate, grad * _activate(gate, ctx.silu)), -1), None, None


def _activate(x: Tensor, silu: bool) -> Tensor:
    return functional.silu(x) if silu else functional.gelu(x, approximate="tanh")


def _activate_backward(grad: Tensor, x: Tensor, silu: bool) -> Tensor:
    grad_x: Tensor = (
        _aten.silu_backward(grad, x) if silu else _aten.gelu_backward(grad, x, approximate="tanh")
    )
    return grad_x


# ----------------------------------------------------------------------------------------- modules


class NormLinear(nn.Module):
    """A normalisation and the projection behind it, as one operator."""

    def __init__(
        self, inputs: int, outputs: int, *, norm: NormKind, bias: bool, again: bool = False
    ) -> None:
        super().__init__()
        self.again = again
        self.gain = nn.Parameter(torch.ones(inputs))
        self.shift = nn.Parameter(torch.zeros(inputs)) if norm == "layer" else None
        self.projection = nn.Linear(inputs, outputs, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the fused operator."""
        weight, bias = self.projection.weight, self.projection.bias
        out: Tensor = NormLinearOp.apply(x, self.gain, self.shift, weight, bias, self.again)
        return out


class NormAdd(nn.Module):
    """An RMS normalisation, with the residual addition behind it if there is one."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(width))

    def forward(self, branch: Tensor, residual: Tensor | None = None) -> Tensor:
        """Apply the fused operator."""
        out: Tensor = NormAddOp.apply(branch, self.gain, residual)
        return out


class CoreAttention(nn.Module):
    """Flash attention between q, k, v of shape ``[batch, seq, heads, head_dim]``."""

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Return the heads side by side, ``[batch, seq, heads * head_dim]``."""
        out: Tensor = FlashAttentionOp.apply(*(x.transpose(1, 2) for x in (q, k, v)))
        return out.transpose(1, 2).flatten(2)


class Attention(nn.Module):
    """Normalisation, one product for q, k and v, attention, output projection."""

    def __init__(self, shape: LayerShape, modules: Collection[str]) -> None:
        super().__init__()
        self.shape, self.modules = shape, modules
        again = "layernorm" in modules
        width = shape.heads * shape.head_dim
        mixed = width + 2 * shape.kv_heads * shape.head_dim
        self.qkv = NormLinear(
            shape.hidden, mixed, norm=shape.norm, bias=shape.qkv_bias, again=again
        )
        self.q_norm = NormAdd(shape.head_dim) if shape.qk_norm else None
        self.k_norm = NormAdd(shape.head_dim) if shape.qk_norm else None
        self.core = CoreAttention()
        self.out = nn.Linear(width, shape.hidden, bias=shape.out_bias)

    def _place(self, x: Tensor, norm: NormAdd | None, tables: tuple[Tensor, ...]) -> Tensor:
        # A slice of the mixed product must leave it, or all of q, k and v stay alive with it.
        # Rotation writes a new tensor anyway; a normalisation saves what it is given.
        if norm is not None:
            x = norm(x.contiguous())
        if tables:
            x = RotaryOp.apply(x, *tables)
        return x.contiguous()

    def forward(self, hidden: Tensor, tables: tuple[Tensor, ...]) -> Tensor:
        """Return the branch, not yet added to the residual."""
        shape = self.shape
        heads = self.qkv(hidden).unflatten(-1, (-1, shape.head_dim))
        q, k, v = heads.split((shape.heads, shape.kv_heads, shape.kv_heads), 2)
        q, k = self._place(q, self.q_norm, tables), self._place(k, self.k_norm, tables)
        core = partial(_again, self.core) if "core_attn" in self.modules else self.core
        branch: Tensor = self.out(core(q, k, v.contiguous()))
        return branch


class FeedForward(nn.Module):
    """Normalisation, first projection (gate and up together), activation, second projection."""

    def __init__(self, shape: LayerShape, modules: Collection[str]) -> None:
        super().__init__()
        self.shape = shape
        again = "layernorm" in modules
        width = (2 if shape.gated else 1) * shape.ffn
        self.fc1 = NormLinear(
            shape.hidden, width, norm=shape.norm, bias=shape.mlp_bias, again=again
        )
        self.fc2 = nn.Linear(shape.ffn, shape.hidden, bias=shape.mlp_bias)

    def forward(self, hidden: Tensor) -> Tensor:
        """Return the branch, not yet added to the residual."""
        inner = ActivationOp.apply(self.fc1(hidden), self.shape.gated, self.shape.silu)
        branch: Tensor = self.fc2(inner)
        return branch


class FusedLayer(nn.Module):
    """A pre-norm decoder layer made of the fused operators, dropout off.

    `modules` are recomputed: ``core_attn``, ``layernorm`` (norms before both first projections,
    whose outputs are made again when the gradient of the weight needs them), ``mlp``.
    """

    def __init__(self, shape: LayerShape, modules: Collection[str] = ()) -> None:
        super().__init__()
        self.modules = modules
        self.attention = Attention(shape, modules)
        self.feed_forward = FeedForward(shape, modules)
        self.attention_post = NormAdd(shape.hidden) if shape.post_norms else None
        self.feed_forward_post = NormAdd(shape.hidden) if shape.post_norms else None

    def forward(self, hidden: Tensor, *tables: Tensor) -> Tensor:
        """Run both branches; a plain addition to the residual saves nothing."""
        hidden = _join(self.attention(hidden, tables), self.attention_post, hidden)
        mlp = partial(_again, self.feed_forward) if "mlp" in self.modules else self.feed_forward
        return _join(mlp(hidden), self.feed_forward_post, hidden)


def _join(branch: Tensor, post: NormAdd | None, residual: Tensor) -> Tensor:
    if post is None:
        return residual + branch
    joined: Tensor = post(branch, residual)
    return joined


# ------------------------------------------------------------------------------------ measurements


@contextmanager
def _fake_layer(
    config: Mapping[str, Any], seq_len: int, batch: int, modules: Collection[str]
) -> Iterator[tuple[FusedLayer, Tensor, tuple[Tensor, ...]]]:
    shape = LayerShape.from_hf(config)
    with FakeTensorMode(), default_dtype(torch.bfloat16):
        module = FusedLayer(shape, modules)
        hidden = torch.empty(batch, seq_len, shape.hidden, requires_grad=True)
        yield module, hidden, rotary_tables(text_config(config), seq_len)


def fused_layer_saved_tensors(
    config: Mapping[str, Any],
    seq_len: int,
    recompute: Recompute,
    batch: int = 1,
    modules: Collection[str] = CORE,
) -> list[SavedTensor]:
    """Itemise what one fused decoder layer keeps alive for its backward pass.

    ``full`` recomputes the layer from its input. ``selective`` recomputes `modules`, the core
    attention unless others are given: q, k and v stay as its inputs and the output stays as the
    next projection's input, so flash attention's log-sum-exp is all that is saved by it.
    """
    if recompute not in RECOMPUTE:
        raise ValueError(f"recompute={recompute!r} is not one of {RECOMPUTE}")
    again = modules if recompute == "selective" else ()
    with _fake_layer(config, seq_len, batch, again) as (module, hidden, tables):
        ledger = SavedLedger([*module.parameters(), *tables])
        run = partial(_again, module) if recompute == "full" else module
        with ledger.recording():
            run(hidden, *tables)
    return ledger.saved


def fused_layer_saved_bytes(
    config: Mapping[str, Any],
    seq_len: int,
    recompute: Recompute,
    batch: int = 1,
    modules: Collection[str] = CORE,
) -> int:
    """Return the bytes that `fused_layer_saved_tensors` itemises."""
    return total_bytes(fused_layer_saved_tensors(config, seq_len, recompute, batch, modules))


def fused_layer_flop(config: Mapping[str, Any], seq_len: int, modules: Collection[str]) -> int:
    """Return the FLOP of both passes of a layer that recomputes modules; attention as half.

    What is recomputed is so to its end, as by Megatron-Core's checkpoints.
    """
    with _fake_layer(config, seq_len, 1, modules) as (module, hidden, tables):
        with flop_counter(masked=True) as counter, set_checkpoint_early_stop(False):
            module(hidden, *tables).sum().backward()
        return counter.get_total_flops()


# -------------------------------------------------------------------------------------------- loss


class CrossEntropyOp(Function):
    """Mean cross entropy with one float32 buffer: logits, softmax, gradient in turn."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, labels: Tensor) -> Tensor:
        """Turn a wide copy of the logits into the softmax in place."""
        buffer = _wide(logits, copy=True)
        buffer -= buffer.amax(-1, keepdim=True)
        target = buffer.gather(-1, labels.unsqueeze(-1))
        total = buffer.exp_().sum(-1, keepdim=True)
        buffer /= total
        ctx.save_for_backward(buffer, labels)
        ctx.dtype = logits.dtype
        return (total.log() - target).mean()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        """Turn the softmax into the gradient in place, then narrow it."""
        buffer, labels = ctx.saved_tensors
        index = labels.unsqueeze(-1)
        buffer.scatter_add_(-1, index, -torch.ones_like(index, dtype=buffer.dtype))
        buffer *= grad / labels.numel()
        return buffer.to(ctx.dtype), None


def fused_loss_peak_bytes(vocab: int, hidden: int, tokens: int) -> dict[str, float]:
    """Measure the peak of the vocabulary projection and fused cross entropy, forward and backward.

    As in the eager oracle, the weight is frozen and neither it, nor its gradient, nor the hidden
    states that enter are counted. See `loss_peak_report` for the keys.
    """

    def run(weight: Tensor) -> tuple[Tensor, Tensor]:
        logits = functional.linear(states, weight)
        return logits, CrossEntropyOp.apply(logits, labels)

    with FakeTensorMode(), default_dtype(torch.bfloat16):
        states = torch.empty(1, tokens, hidden, requires_grad=True)
        labels = torch.empty(1, tokens, dtype=torch.int64)
        return loss_peak_report(run, vocab, hidden, tokens)
