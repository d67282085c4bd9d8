"""torch's own tensor parallelism as the oracle of sharded layers and of their traffic.

A Hugging Face llama decoder layer is cut by ``parallelize_module`` with the plan of torchtitan and
run as rank 0 of a fake process group, whose collectives move nothing. Counts, bytes and saved
activations come from the operators that torch really issues.
"""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor, Replicate, Shard
from torch.distributed.tensor.parallel import (
    ColwiseParallel,
    PrepareModuleInput,
    RowwiseParallel,
    SequenceParallel,
    loss_parallel,
    parallelize_module,
)
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

from .hf_reference import build_layer, default_dtype, flop_counter, rotary_tables, text_config
from .ledger import SavedLedger, SavedTensor, total_bytes
from .traffic import Collective, Traffic, TrafficCounter, fake_group

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Iterator, Mapping

    from torch.distributed.tensor.parallel.style import ParallelStyle

FAMILIES = ("llama", "mistral", "qwen2")
"""Families whose decoder layers consist of the modules that `plan` names, and no others."""

# --------------------------------------------------------------------------------------- the layer


def plan(*, sequence_parallel: bool) -> dict[str, ParallelStyle]:
    """Return the plan of one decoder layer, keyed by the names of its modules.

    With ``sequence_parallel`` the residual stream is sharded along the sequence: the norms run on
    the shard, and each branch gathers its input and scatters its output.
    """
    column = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj")
    styles: dict[str, ParallelStyle] = {
        name: ColwiseParallel() for name in (*column, "mlp.gate_proj", "mlp.up_proj")
    }
    output = Shard(1) if sequence_parallel else Replicate()
    for name in ("self_attn.o_proj", "mlp.down_proj"):
        styles[name] = RowwiseParallel(output_layouts=output)
    if sequence_parallel:
        styles["input_layernorm"] = SequenceParallel()
        styles["post_attention_layernorm"] = SequenceParallel()
        styles["self_attn"] = PrepareModuleInput(
            input_kwarg_layouts={"hidden_states": Shard(1)},
            desired_input_kwarg_layouts={"hidden_states": Replicate()},
        )
        styles["mlp"] = PrepareModuleInput(
            input_layouts=(Shard(1),), desired_input_layouts=(Replicate(),)
        )
    return styles


def ends_plan(
    embedding: str, norm: str, head: str, sequence_parallel: bool
) -> dict[str, ParallelStyle]:
    """Return the plan of what lies around the layers, by the names that these modules have.

    The vocabulary is cut over the ranks, and the logits stay so.
    """
    layout = Shard(1) if sequence_parallel else Replicate()
    styles: dict[str, ParallelStyle] = {
        embedding: RowwiseParallel(input_layouts=Replicate(), output_layouts=layout),
        head: ColwiseParallel(
            input_layouts=layout, output_layouts=Shard(-1), use_local_output=False
        ),
    }
    return {**styles, norm: SequenceParallel()} if sequence_parallel else styles


@dataclass(frozen=True, slots=True, kw_only=True)
class _ShardedCall:
    """One sharded layer with the input that rank 0 sees."""

    module: nn.Module
    hidden: Tensor
    tables: tuple[Tensor, ...]

    def __call__(self) -> Tensor:
        result: Tensor = self.module(
            self.hidden, attention_mask=None, position_embeddings=self.tables
        )
        return result


@contextmanager
def _sharded_layer(
    config: Mapping[str, Any], tp: int, seq_len: int, *, sequence_parallel: bool
) -> Iterator[_ShardedCall]:
    text = text_config(config)
    if text.model_type not in FAMILIES:
        raise ValueError(f"model_type={text.model_type!r} is not one of {FAMILIES}")
    if text.num_key_value_heads % tp or (sequence_parallel and seq_len % tp):
        raise ValueError(
            f"tp={tp} must divide num_key_value_heads={text.num_key_value_heads}"
            f" and, with sequence parallelism, seq_len={seq_len}"
        )
    local = seq_len // tp if sequence_parallel else seq_len
    styles = plan(sequence_parallel=sequence_parallel)
    with fake_group(tp), default_dtype(torch.bfloat16), ExitStack() as stack:
        mesh = init_device_mesh("cpu", (tp,))  # reads its own ranks, so it must be real
        stack.enter_context(FakeTensorMode(allow_non_fake_inputs=True))
        yield _ShardedCall(
            module=parallelize_module(build_layer(text), mesh, styles),
            hidden=torch.empty(1, local, text.hidden_size, requires_grad=True),
            tables=rotary_tables(text, seq_len),
        )


# --------------------------------------------------------------------------------------- traffic


def layer_traffic(
    config: Mapping[str, Any], tp: int, sequence_parallel: bool, seq_len: int
) -> tuple[Traffic, Traffic]:
    """Return what rank 0 sends in the forward and in the backward pass of one layer."""
    with _sharded_layer(config, tp, seq_len, sequence_parallel=sequence_parallel) as call:
        with TrafficCounter() as forward:
            output = call()
        with TrafficCounter() as backward:
            output.backward(torch.empty_like(output))
    return forward.traffic, backward.traffic


class _Ends(nn.Module):
    """A model without layers: embedding, last norm and head."""

    def __init__(self, words: int, hidden: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(words, hidden)
        self.norm = nn.RMSNorm(hidden)
        self.head = nn.Linear(hidden, words, bias=False)

    def forward(self, words: Tensor) -> Tensor:
        logits: Tensor = self.head(self.norm(self.embedding(words)))
        return logits


def ends_traffic(
    config: Mapping[str, Any], tp: int, sequence_parallel: bool, seq_len: int
) -> tuple[Traffic, Traffic, Traffic]:
    """Return what rank 0 sends for embedding and head, forward and backward, and for the loss.

    The vocabulary is cut over the ranks; the loss is taken of logits that stay cut.
    """
    text = text_config(config)
    styles = ends_plan("embedding", "norm", "head", sequence_parallel)
    with fake_group(tp), default_dtype(torch.bfloat16):
        mesh = init_device_mesh("cpu", (tp,))
        with FakeTensorMode(allow_non_fake_inputs=True), loss_parallel():
            model = parallelize_module(_Ends(text.vocab_size, text.hidden_size), mesh, styles)
            words = torch.zeros(seq_len, dtype=torch.int64)
            with TrafficCounter() as forward:
                logits = model(words[None])
            with TrafficCounter() as taking:
                loss = functional.cross_entropy(logits.flatten(0, 1).float(), words)
            with TrafficCounter() as backward:
                loss.backward()
    return forward.traffic, backward.traffic, taking.traffic


TENSOR_PARALLEL: tuple[Collective, ...] = ("all_reduce", "all_gather", "reduce_scatter")


def _flatten(forward: Counter[str], backward: Counter[str]) -> dict[str, int]:
    return {
        f"{phase}_{collective}": counter[collective]
        for phase, counter in (("forward", forward), ("backward", backward))
        for collective in TENSOR_PARALLEL
    }


def collective_counts(
    config: Mapping[str, Any], tp: int, sequence_parallel: bool, seq_len: int
) -> dict[str, int]:
    """Count the collectives of one layer, under keys such as ``backward_all_reduce``."""
    forward, backward = layer_traffic(config, tp, sequence_parallel, seq_len)
    return _flatten(forward.calls, backward.calls)


def collective_sent_bytes(
    config: Mapping[str, Any], tp: int, sequence_parallel: bool, seq_len: int
) -> dict[str, int]:
    """Return the bytes that a rank sends for one layer, under the keys of `collective_counts`."""
    forward, backward = layer_traffic(config, tp, sequence_parallel, seq_len)
    return _flatten(forward.sent_bytes, backward.sent_bytes)


# ------------------------------------------------------------------------------------------- FLOP


class _ShardsOnly(TorchDispatchMode):
    """Hide distributed tensors from the modes outside, which then see operators on shards."""

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Let distributed tensors desugar; run all else."""
        if any(issubclass(kind, DTensor) for kind in types):
            return NotImplemented
        return func(*args, **(kwargs or {}))


def tp_layer_flop(
    config: Mapping[str, Any], tp: int, sequence_parallel: bool, seq_len: int
) -> tuple[float, float]:
    """Return the FLOP of one rank's forward and backward pass, causal attention as half."""
    with _sharded_layer(config, tp, seq_len, sequence_parallel=sequence_parallel) as call:
        # The first pass also runs every operator on whole tensors, to learn the shapes of results.
        output = call()
        output.backward(torch.empty_like(output))
        with flop_counter(masked=True) as forward, _ShardsOnly():
            output = call()
        with flop_counter(masked=True) as backward, _ShardsOnly():
            output.backward(torch.empty_like(output))
    return float(forward.get_total_flops()), float(backward.get_total_flops())


# ----------------------------------------------------------------------------- saved activations


def tp_layer_saved_tensors(
    config: Mapping[str, Any], tp: int, sequence_parallel: bool, seq_len: int
) -> list[SavedTensor]:
    """Itemise what one rank keeps alive for the backward pass of one layer."""
    with _sharded_layer(config, tp, seq_len, sequence_parallel=sequence_parallel) as call:
        ledger = SavedLedger([*call.module.parameters(), *call.tables])
        with ledger.recording():
            call()
    return ledger.saved


def tp_layer_saved_bytes(
    config: Mapping[str, Any], tp: int, sequence_parallel: bool, seq_len: int
) -> int:
    """Return the bytes that `tp_layer_saved_tensors` itemises."""
    return total_bytes(tp_layer_saved_tensors(config, tp, sequence_parallel, seq_len))
