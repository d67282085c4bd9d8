"""Whole models under torch's FSDP2, with any attention, the oracle of what a step does and sends.

A Hugging Face causal language model is cut by ``fully_shard`` into embedding, decoder layers and
head, as torchtitan does, and runs one forward and backward pass as one rank of a fake process
group. Parameters are gathered in bfloat16 and gradients reduced in float32; with replicas of the
shards (HSDP) these are then reduced over the replicas.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor.parallel import parallelize_module
from torch.nn import functional
from transformers import AttentionInterface, AutoModelForCausalLM

from .hf_reference import build_layer, default_dtype, flop_counter, rotary_tables, text_config
from .ledger import SavedLedger, SavedTensor
from .tensor_parallel_reference import ends_plan, plan
from .traffic import Traffic, TrafficCounter, fake_group

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torch.distributed.device_mesh import DeviceMesh
    from transformers import PreTrainedModel

    Attention = Callable[[Tensor, Tensor, Tensor], Tensor]

#: Name under which transformers finds attention that is given to the forward pass.
PLUGGED = "plugged"


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One forward and backward pass of one rank.

    Parameters
    ----------
    flop
        Of matrix products and attention; a kernel that masks what lies ahead counts as half.
    traffic
        What the rank sends.
    parameters
        Elements of the whole model, tied weights once.
    """

    flop: float
    traffic: Traffic
    parameters: int


def alone(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Return causal attention of a rank to its own tokens."""
    return functional.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)


def _plugged(
    _: nn.Module, q: Tensor, k: Tensor, v: Tensor, *__: object, attend: Attention, **___: object
) -> tuple[Tensor, None]:
    """Call the attention that a model's forward pass was given; there is no mask to be made."""
    return attend(q, k, v).transpose(1, 2), None


AttentionInterface.register(PLUGGED, _plugged)


def step(
    config: Mapping[str, Any],
    *,
    tokens: int,
    shards: int = 1,
    replicas: int = 1,
    attention: Callable[[], Attention] | None = None,
    keeps_head: bool = False,
    keeps_all: bool = False,
    rank: int = 0,
) -> Step:
    """Run one step of one sequence of a rank, and count.

    Parameters
    ----------
    config
        Of the model; a ``config.json``.
    tokens
        Those this rank holds.
    shards, replicas
        Ranks over which parameters are sharded, and copies of these.
    attention
        Makes the attention of the rank, once there is a process group.
    keeps_head
        Whether the head is not gathered a second time but kept from the forward pass to the
        backward one, as torchtitan does by default.
    keeps_all
        The same of every part.
    rank
        Which of the ranks.
    """
    text = text_config(config, attention=PLUGGED)
    with fake_group(shards * replicas, rank), default_dtype(torch.bfloat16), ExitStack() as stack:
        mesh = init_device_mesh("cpu", (replicas, shards), mesh_dim_names=("replicas", "shards"))
        attend = alone if attention is None else attention()
        stack.enter_context(FakeTensorMode(allow_non_fake_inputs=True))
        model: PreTrainedModel = AutoModelForCausalLM.from_config(text)
        parameters = sum(each.numel() for each in model.parameters())
        if dist.get_world_size() > 1:
            across = mesh if replicas > 1 else mesh["shards"]
            _shard(model, across, keeps_head=keeps_head or keeps_all, keeps_all=keeps_all)
        words = torch.zeros(1, tokens, dtype=torch.int64)
        with flop_counter(masked=True) as flop, TrafficCounter() as sent:
            found = model(input_ids=words, labels=words, use_cache=False, attend=attend)
            found.loss.backward()
    return Step(flop=float(flop.get_total_flops()), traffic=sent.traffic, parameters=parameters)


def _shard(model: PreTrainedModel, mesh: DeviceMesh, *, keeps_head: bool, keeps_all: bool) -> None:
    """Shard a model's parts; embedding and head are one where they share their weight."""
    policy = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)
    body, head = model.model, model.get_output_embeddings()
    for layer in body.layers:
        fully_shard(layer, mesh=mesh, mp_policy=policy, reshard_after_forward=not keeps_all)
    ends = {"mesh": mesh, "mp_policy": policy}
    if not model.config.tie_word_embeddings:
        fully_shard(body.embed_tokens, **ends, reshard_after_forward=not keeps_all)
        fully_shard([body.norm, head], **ends, reshard_after_forward=not keeps_head)
    fully_shard(model, **ends, reshard_after_forward=not keeps_head)


def tensor_parallel_traffic(
    config: Mapping[str, Any], *, tokens: int, shards: int, tp: int, sequence_parallel: bool
) -> Traffic:
    """Return what rank 0 of a model sends that torch cuts by tensor parallelism and then shards.

    The loss is left out: the gradient of the logits is given.

    Parameters
    ----------
    config, tokens, shards
        As of :func:`step`.
    tp, sequence_parallel
        Ranks of a tensor-parallel group, and whether activations between its products are cut.
    """
    text = text_config(config, attention=PLUGGED)
    with fake_group(shards * tp), default_dtype(torch.bfloat16):
        mesh = init_device_mesh("cpu", (shards, tp), mesh_dim_names=("shards", "tp"))
        with FakeTensorMode(allow_non_fake_inputs=True) as fake:
            model: PreTrainedModel = AutoModelForCausalLM.from_config(text)
        # Meshes of two axes are made of real tensors.
        ends = ends_plan("model.embed_tokens", "model.norm", "lm_head", sequence_parallel)
        parallelize_module(model, mesh["tp"], ends)
        for layer in model.model.layers:
            parallelize_module(layer, mesh["tp"], plan(sequence_parallel=sequence_parallel))
        _shard(model, mesh["shards"], keeps_head=False, keeps_all=False)
        with fake, TrafficCounter() as sent:
            words = torch.zeros(1, tokens, dtype=torch.int64)
            places = torch.arange(tokens)[None]
            found = model(input_ids=words, position_ids=places, use_cache=False, attend=alone)
            found.logits.backward(torch.empty_like(found.logits))
    return sent.traffic


def layer_saved_tensors(
    config: Mapping[str, Any], *, tokens: int, ranks: int, attention: Callable[[], Attention]
) -> list[SavedTensor]:
    """Itemise what a decoder layer with such an attention keeps alive on rank 0 of a fake group.

    Parameters
    ----------
    config, tokens, attention
        As of :func:`step`.
    ranks
        Of the group.
    """
    text = text_config(config, attention=PLUGGED)
    with fake_group(ranks), default_dtype(torch.bfloat16):
        attend = attention()
        with FakeTensorMode(allow_non_fake_inputs=True):
            layer, tables = build_layer(text), rotary_tables(text, tokens)
            hidden = torch.empty(1, tokens, text.hidden_size, requires_grad=True)
            ledger = SavedLedger([*layer.parameters(), *tables])
            with ledger.recording():
                layer(hidden, attention_mask=None, position_embeddings=tables, attend=attend)
    return ledger.saved
