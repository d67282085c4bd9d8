"""Latent attention: what its ranks hold, compute and send once keys and values are unfolded."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from models.architecture import Attention, LatentAttention, Layer, Mlp
from models.inventory import layer_work
from models.mixers.core_attention import CoreAttention
from models.mixers.latent_attention import LatentAttentionWork
from models.named_axes import Kernels
from models.operation import Axis
from models.sequence_parallel.sent import EXCHANGE
from tests.models.cases import sent_bytes, shapes
from topologies.collective import Collective

if TYPE_CHECKING:
    from models.operation import Communication, Work

#: DeepSeek-V3's (arXiv:2412.19437, section 4.2).
HIDDEN = 7168
MIXER = LatentAttention(
    heads=128, q_rank=1536, kv_rank=512, nope_dim=128, rope_dim=64, value_dim=128
)
LAYER = Layer(mixer=MIXER, mlp=Mlp(intermediate=18432))
SEQ_LEN = 8192
LATENTS = 1536 + 512 + 64


def work(**axes: Any) -> Work:
    return layer_work(LAYER, HIDDEN, shapes(SEQ_LEN, **axes))


def named(found: list[Communication], name: str) -> float:
    """Return all bytes of one operation's calls."""
    (op,) = (op for op in found if op.name == name)
    return float(op.nbytes[0] * op.calls[0])


def test_ulysses_exchanges_each_width_as_it_is() -> None:
    found = work(ulysses=8).forward_communication()
    rows = SEQ_LEN / 8 * 128
    assert named(found, EXCHANGE) == 2 * rows * (192 + 192 + 128)
    assert named(found, "ulysses o") == 2 * rows * 128


@pytest.mark.parametrize("kernels", list(Kernels))
def test_a_ring_sends_unfolded_keys_and_values(kernels: Kernels) -> None:
    one = work(ring=8, kernels=kernels)
    block = 2 * SEQ_LEN / 8 * 128 * (192 + 128)
    assert sent_bytes(one.forward_communication(), Axis.RING, 8) == 7 * block
    gathered = work(ring=8, cp_method=1, kernels=kernels).forward_communication()
    assert sent_bytes(gathered, Axis.RING, 8, Collective.ALL_GATHER) == 7 * block


def test_ranks_of_tensor_parallelism_hold_all_latent_matrices_and_their_heads() -> None:
    mixer = LatentAttentionWork(MIXER, HIDDEN, shapes(SEQ_LEN, tp=8))
    by_heads = 1536 * 128 * 192 + 512 * 128 * (128 + 128) + 128 * 128 * HIDDEN
    assert mixer.parameters() == HIDDEN * LATENTS + 1536 + 512 + by_heads / 8


@pytest.mark.parametrize(("tp_sp", "share"), [(False, 1), (True, 8)])
def test_fused_ranks_make_the_latents_of_their_own_tokens(tp_sp: bool, share: int) -> None:
    found = work(tp=8, tp_sp=tp_sp, kernels=Kernels.FUSED)
    (down,) = (op for op in found.forward_compute() if op.name == "latent down")
    assert down.flop == 2 * SEQ_LEN / share * HIDDEN * LATENTS


@pytest.mark.parametrize(("kernels", "width"), [(Kernels.FUSED, LATENTS), (Kernels.EAGER, HIDDEN)])
def test_what_is_gathered_are_latents_or_the_stream(kernels: Kernels, width: int) -> None:
    """Megatron-Core gathers after the products into latents, torchtitan's plan before them."""
    found = work(tp=8, tp_sp=True, kernels=kernels)
    into_mlp = 2 * SEQ_LEN * HIDDEN * 7 / 8
    sent = sent_bytes(found.forward_communication(), Axis.TP, 8, Collective.ALL_GATHER)
    assert sent == into_mlp + 2 * SEQ_LEN * width * 7 / 8


@pytest.mark.parametrize("kernels", list(Kernels))
@pytest.mark.parametrize("tp_sp", [False, True])
def test_gradients_of_latents_are_summed_over_heads(kernels: Kernels, tp_sp: bool) -> None:
    """Each rank has those of its heads only, and the products before them are whole."""
    found = work(tp=8, tp_sp=tp_sp, kernels=kernels).backward_communication()
    wanted = "scatter" if tp_sp and kernels is Kernels.FUSED else "reduce"
    assert named(found, f"latent gradient {wanted}") == 2 * SEQ_LEN * LATENTS
    other = {"scatter": "reduce", "reduce": "scatter"}[wanted]
    assert named(found, f"latent gradient {other}") == 0


def test_equal_widths_are_plain_attention_of_as_many_heads() -> None:
    square = replace(MIXER, value_dim=192)
    plain = Attention(heads=128, kv_heads=128, head_dim=192)
    for axes in ({"ulysses": 4}, {"ring": 4}, {"ulysses": 2, "ring": 4, "kernels": 1}):
        one, other = (CoreAttention(each, shapes(SEQ_LEN, **axes)) for each in (square, plain))
        assert repr(one.forward()) == repr(other.forward())
        assert repr(one.backward()) == repr(other.backward())


def test_queries_without_a_latent_come_from_the_gathered_stream() -> None:
    layer = replace(LAYER, mixer=replace(MIXER, q_rank=None))
    found = layer_work(layer, HIDDEN, shapes(SEQ_LEN, tp=8, tp_sp=True, kernels=Kernels.FUSED))
    assert named(found.forward_communication(), "latent gather") == 2 * SEQ_LEN * (
        HIDDEN + 512 + 64
    )
