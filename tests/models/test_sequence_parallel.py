"""Bytes and FLOP of sequence parallelism, against formulas written afresh.

The formulas are those of the implementations: ring-flash-attention sends key/value gradients in
fp32 and once more round (eager kernels), TransformerEngine in bf16 without the last hop (fused).
``KV`` is one rank's keys and values, ``U`` and ``R`` the two degrees, ``f(n) = (n - 1) / n``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from models.architecture import Attention
from models.catalogue import load_architecture
from models.inventory import embedding_work, head_work, layer_work
from models.named_axes import CpMethod, Kernels, SequenceOrder
from models.operation import Axis, Communication, Kind
from models.sequence_parallel.blocks import busiest_over_mean, causal_pairs
from tests.models.cases import config, sent_bytes, shapes, unwindowed, work_of
from tests.oracles import tensor_parallel_reference
from topologies.collective import Collective

GB = 1e9
BF16, FP32 = 2, 4
MODEL = "llama-3.1-70b"
HEADS, KV_HEADS, WIDTH, HIDDEN = 64, 8, 128, 8192


def f(ranks: int) -> float:
    return (ranks - 1) / ranks


@dataclass(frozen=True)
class Sent:
    """Bytes one rank sends for attention in one layer."""

    forward: float
    backward: float


def attention_sent(seq_len: int, **axes: int) -> Sent:
    work = work_of(MODEL, seq_len, **axes)
    totals = [
        sent_bytes(ops, Axis.ULYSSES, axes.get("ulysses", 1))
        + sent_bytes(ops, Axis.RING, axes.get("ring", 1))
        for ops in (work.forward_communication(), work.backward_communication())
    ]
    return Sent(*totals)


def kv_bytes(seq_len: int, ranks: int, kv_heads: float = KV_HEADS, element: int = BF16) -> float:
    return 2 * seq_len / ranks * kv_heads * WIDTH * element


@pytest.mark.parametrize("seq_len", [65536, 262144])
@pytest.mark.parametrize("ranks", [2, 4, 8, 64])
def test_ring_flash_attention_sends_fp32_gradients_all_the_way_round(
    seq_len: int, ranks: int
) -> None:
    kv = kv_bytes(seq_len, ranks)
    sent = attention_sent(seq_len, ring=ranks, kernels=Kernels.EAGER)
    assert sent.forward == pytest.approx((ranks - 1) * kv)
    assert sent.backward == pytest.approx((ranks - 1) * kv + ranks * kv * FP32 / BF16)


@pytest.mark.parametrize("seq_len", [65536, 262144])
@pytest.mark.parametrize("ranks", [2, 4, 8, 64])
def test_transformer_engine_sends_bf16_gradients_one_hop_less(seq_len: int, ranks: int) -> None:
    kv = kv_bytes(seq_len, ranks)
    sent = attention_sent(seq_len, ring=ranks, kernels=Kernels.FUSED)
    assert sent.forward == pytest.approx((ranks - 1) * kv)
    assert sent.backward == pytest.approx((ranks - 1) * 2 * kv)


@pytest.mark.parametrize(("kernels", "gradient"), [(Kernels.EAGER, FP32), (Kernels.FUSED, BF16)])
@pytest.mark.parametrize("ranks", [2, 8])
def test_gathered_keys_are_gathered_twice_and_their_gradients_scattered(
    ranks: int, kernels: Kernels, gradient: int
) -> None:
    sent = attention_sent(65536, ring=ranks, kernels=kernels, cp_method=CpMethod.ALL_GATHER)
    whole = kv_bytes(65536, 1)
    assert sent.forward == pytest.approx(f(ranks) * whole)
    assert sent.backward == pytest.approx(f(ranks) * whole * (1 + gradient / BF16))


@pytest.mark.parametrize("ranks", [2, 4, 8, 16, 64])
def test_ulysses_exchanges_q_k_v_and_o_and_replicates_scarce_heads(ranks: int) -> None:
    """DeepSpeed repeats key/value heads before the all-to-all, so replicas are sent."""
    on_wire = 2 * HEADS + 2 * max(KV_HEADS, ranks)
    one_pass = f(ranks) * 65536 / ranks * WIDTH * BF16 * on_wire
    sent = attention_sent(65536, ulysses=ranks)
    assert sent.forward == pytest.approx(one_pass)
    assert sent.backward == pytest.approx(one_pass)


@pytest.mark.parametrize(("ulysses", "ring"), [(2, 4), (4, 2), (8, 8), (16, 4)])
def test_hybrid_is_ulysses_plus_a_ring_on_its_share_of_the_heads(ulysses: int, ring: int) -> None:
    seq_len = 262144
    heads = max(KV_HEADS, ulysses)
    exchanges = f(ulysses) * seq_len / (ulysses * ring) * WIDTH * BF16 * (2 * HEADS + 2 * heads)
    hops = f(ring) * kv_bytes(seq_len, 1, heads / ulysses)
    sent = attention_sent(seq_len, ulysses=ulysses, ring=ring)
    assert sent.forward == pytest.approx(exchanges + hops)
    assert sent.backward == pytest.approx(exchanges + 2 * hops)


@pytest.mark.parametrize("axes", [{"ring": 4}, {"ulysses": 4}, {"ulysses": 2, "ring": 2}])
def test_tensor_parallelism_divides_what_attention_sends(axes: dict[str, int]) -> None:
    whole, half = attention_sent(65536, **axes), attention_sent(65536, tp=2, **axes)
    assert (half.forward, half.backward) == (
        pytest.approx(whole.forward / 2),
        pytest.approx(whole.backward / 2),
    )


def test_ulysses_beyond_the_key_value_heads_that_tp_leaves_sends_replicas() -> None:
    """tp 4 leaves 2 of 8 key/value heads; Ulysses 4 makes them 4."""
    sent = attention_sent(65536, tp=4, ulysses=4)
    assert sent.forward == pytest.approx(f(4) * 65536 / 4 * WIDTH * BF16 * (2 * HEADS / 4 + 2 * 4))


@pytest.mark.parametrize(
    ("axes", "gigabytes"),
    [
        ({"tp": 4, "tp_sp": True}, 12.9),
        ({"ring": 4}, 0.81),
        ({"ulysses": 4}, 1.81),
        ({"tp": 8, "tp_sp": True}, 15.0),
        ({"ring": 8}, 0.94),
        ({"ulysses": 8}, 1.06),
    ],
)
def test_worked_volumes_of_70b_at_256k_tokens(axes: dict[str, int], gigabytes: float) -> None:
    """Forward, per layer and rank: the table a user compares methods by."""
    work = work_of(MODEL, 262144, **axes)
    ((axis, ranks),) = ((a, n) for a, n in axes.items() if a in ("tp", "ring", "ulysses"))
    sent = sent_bytes(work.forward_communication(), Axis(axis), ranks)
    assert sent / GB == pytest.approx(gigabytes, abs=0.006 if gigabytes < 10 else 0.06)


@pytest.mark.parametrize("kernels", list(Kernels))
def test_ring_volume_depends_on_its_degree_only_through_what_stays_at_home(
    kernels: Kernels,
) -> None:
    forward = [
        attention_sent(262144, ring=ranks, kernels=kernels).forward / f(ranks)
        for ranks in (2, 4, 16, 128)
    ]
    assert forward == pytest.approx([forward[0]] * 4)


def test_ulysses_sends_less_than_a_ring_only_from_a_degree_on() -> None:
    """(H + Hk') / P < Hk: for 64 heads over 8, from 10 ranks on."""
    for ranks, ulysses_wins in ((4, False), (8, False), (16, True), (64, True)):
        ulysses = attention_sent(262144, ulysses=ranks).forward
        ring = attention_sent(262144, ring=ranks).forward
        assert (ulysses < ring) is ulysses_wins


def test_one_rank_sends_nothing() -> None:
    for kernels in Kernels:
        work = work_of(MODEL, 8192, kernels=kernels)
        sent = [*work.forward_communication(), *work.backward_communication()]
        assert sent
        assert all(op.calls == 0 for op in sent)


def test_longer_sequences_send_proportionally_more() -> None:
    for axes in ({"ring": 8}, {"ulysses": 8}, {"ulysses": 2, "ring": 4}):
        short, long = attention_sent(65536, **axes), attention_sent(131072, **axes)
        assert long == Sent(pytest.approx(2 * short.forward), pytest.approx(2 * short.backward))


# ------------------------------------------------------------------------------------------ FLOP


def attention_flop(seq_len: int, name: str = MODEL, **axes: int) -> float:
    work = work_of(name, seq_len, **axes)
    return sum(float(op.flop[0]) for op in work.forward_compute() if op.kind is Kind.ATTENTION)


@pytest.mark.parametrize(
    "axes",
    [
        {"ring": 8},
        {"ulysses": 8},
        {"ulysses": 4, "ring": 4},
        {"tp": 4, "ring": 2},
        {"ring": 8, "cp_method": 1},
    ],
)
def test_zigzag_ranks_together_compute_the_whole(axes: dict[str, int]) -> None:
    ranks = int(np.prod([axes.get(axis, 1) for axis in ("tp", "ulysses", "ring")]))
    assert attention_flop(65536, **axes) * ranks == pytest.approx(attention_flop(65536))
    one, shared = (work_of(MODEL, 65536, **a).forward_flop() for a in ({}, axes))
    assert shared * ranks == pytest.approx(one)


def test_replicated_key_value_projections_are_the_only_work_done_twice() -> None:
    """tp 16 over 8 key/value heads: every rank projects one whole head."""
    one, shared = (float(work_of(MODEL, 8192, tp=tp).forward_flop()[0]) for tp in (1, 16))
    twice = 2 * 8192 * HIDDEN * (2 * KV_HEADS * WIDTH)
    assert shared * 16 == pytest.approx(one + twice)


@pytest.mark.parametrize("ranks", [2, 4, 8, 32])
def test_a_contiguous_causal_ring_wastes_all_but_one_over_two_minus_one_over_p(ranks: int) -> None:
    """Block by block: the last rank computes P - 1 whole blocks and half of its own."""
    contiguous = attention_flop(65536, ring=ranks, sequence_order=SequenceOrder.CONTIGUOUS)
    blocks = np.tril(np.ones((ranks, ranks))) - 0.5 * np.eye(ranks)
    share = blocks.sum(axis=1).max() / blocks.sum()
    assert contiguous == pytest.approx(attention_flop(65536) * share)
    efficiency = attention_flop(65536) / ranks / contiguous
    assert efficiency == pytest.approx(1 / (2 - 1 / ranks))


def test_contiguous_rings_of_eight_reach_the_half_that_was_measured() -> None:
    """ring-flash-attention's own table: 52.1% and 53.9% of one GPU's speed on 8 H800."""
    contiguous = attention_flop(65536, ring=8, sequence_order=SequenceOrder.CONTIGUOUS)
    assert 0.52 < attention_flop(65536) / 8 / contiguous < 0.54


@pytest.mark.parametrize(("seq_len", "window"), [(4096, None), (4096, 512), (64, 64), (64, 100)])
def test_causal_pairs_are_those_of_a_mask(seq_len: int, window: int | None) -> None:
    """Counted on the mask itself, the diagonal (and the far edge of a window) as half."""
    query, key = np.ogrid[:seq_len, :seq_len]
    seen = min(window or seq_len, seq_len)
    mask = (key < query) & (key > query - seen)
    edges = (key == query) | (key == query - seen)
    assert causal_pairs(float(seq_len), window) == mask.sum() + 0.5 * edges.sum()


@pytest.mark.parametrize(("seq_len", "chunk"), [(4096, 512), (100, 32), (64, 64), (64, 100)])
def test_pairs_of_chunks_are_those_of_a_mask(seq_len: int, chunk: int) -> None:
    query, key = np.ogrid[:seq_len, :seq_len]
    same = query // chunk == key // chunk
    pairs = (same & (key < query)).sum() + seq_len / 2
    assert causal_pairs(float(seq_len), chunk=chunk) == pairs


@pytest.mark.parametrize("order", list(SequenceOrder))
@pytest.mark.parametrize("chunk", [8, 16, 64, 128, 256])
def test_the_busiest_rank_of_chunked_attention_is_the_one_a_mask_gives(
    chunk: int, order: SequenceOrder
) -> None:
    """Of eight ranks that gather keys and values of 256 tokens; 256 hide nothing."""
    seq_len, ranks = 256, 8
    mixer = Attention(heads=1, kv_heads=1, head_dim=64, chunk=chunk)
    query, key = np.ogrid[:seq_len, :seq_len]
    seen = (query // chunk == key // chunk) & (key < query)
    of_rows = seen.sum(1) + 0.5
    pieces = of_rows.reshape(ranks * 2, -1).sum(1)
    if order is SequenceOrder.ZIGZAG:
        work = [pieces[rank] + pieces[-1 - rank] for rank in range(ranks)]
    else:
        work = list(pieces.reshape(ranks, 2).sum(1))
    shape = shapes(seq_len, ring=ranks, sequence_order=order, cp_method=CpMethod.ALL_GATHER)
    assert busiest_over_mean(mixer, shape)[0] == pytest.approx(max(work) / (sum(work) / ranks))


# ---------------------------------------------------------------------------- tensor parallelism


def counts(ops: list[Communication]) -> dict[str, float]:
    wanted = (Collective.ALL_REDUCE, Collective.ALL_GATHER, Collective.REDUCE_SCATTER)
    return {
        kind.value: sum(float(op.calls[0]) for op in ops if op.collective is kind)
        for kind in wanted
    }


@pytest.mark.parametrize("tp_sp", [False, True])
@pytest.mark.parametrize(
    ("name", "tp", "seq_len"),
    [
        ("llama-3.1-8b", 2, 1024),
        ("llama-3.1-8b", 8, 2**20),
        ("qwen2.5-7b", 2, 1024),
        ("qwen2.5-7b", 4, 2**20),
        ("llama-2-7b", 32, 2**20),
    ],
)
def test_collectives_of_a_layer_are_those_torch_issues(
    name: str, tp: int, seq_len: int, tp_sp: bool
) -> None:
    """On a fake process group, rank 0 of torchtitan's plan: calls and bytes."""
    work = work_of(name, seq_len, tp=tp, tp_sp=tp_sp, kernels=Kernels.EAGER)
    job = (config(name), tp, tp_sp, seq_len)
    torchs_calls = tensor_parallel_reference.collective_counts(*job)
    torchs_bytes = tensor_parallel_reference.collective_sent_bytes(*job)
    for phase, ops in (
        ("forward", work.forward_communication()),
        ("backward", work.backward_communication()),
    ):
        for kind, calls in counts(ops).items():
            assert calls == torchs_calls[f"{phase}_{kind}"], (phase, kind)
            ours = sent_bytes(ops, Axis.TP, tp, Collective(kind))
            assert ours == torchs_bytes[f"{phase}_{kind}"], (phase, kind)


@pytest.mark.parametrize("tp_sp", [False, True])
@pytest.mark.parametrize(("name", "tp"), [("llama-3.1-8b", 8), ("qwen2.5-7b", 4)])
def test_embedding_and_head_send_what_torch_sends(name: str, tp: int, tp_sp: bool) -> None:
    """At a million tokens; the head's gradient is reduced, or gathered and scattered."""
    architecture, seq_len = load_architecture(name), 2**20
    shape = shapes(seq_len, tp=tp, tp_sp=tp_sp, kernels=Kernels.EAGER)
    parts = embedding_work(architecture, shape), head_work(architecture, shape)
    forward, backward, loss = tensor_parallel_reference.ends_traffic(
        config(name), tp, tp_sp, seq_len
    )
    ahead = [op for part in parts for op in part.forward_communication()]
    summed = [op for op in ahead if op.name == "loss reductions"]
    for torchs, ops in (
        (forward, [op for op in ahead if op not in summed]),
        (backward, [op for part in parts for op in part.backward_communication()]),
        (loss, summed),
    ):
        for kind, calls in counts(ops).items():
            assert calls == torchs.calls[kind]
            assert sent_bytes(ops, Axis.TP, tp, Collective(kind)) == torchs.sent_bytes[kind]
    # Three numbers of each token: the largest logit, the sum, and the right word's.
    assert loss.total_bytes == 3 * 4 * seq_len * 2 * (tp - 1) / tp


def test_megatron_reduces_each_half_once_or_gathers_and_scatters() -> None:
    """Korthikanti et al., arXiv:2205.05198 section 4.2; gathered inputs are gathered again."""
    plain, sharded = (work_of(MODEL, 8192, tp=8, tp_sp=on) for on in (False, True))
    assert counts(plain.forward_communication())["all_reduce"] == 2
    assert counts(plain.backward_communication())["all_reduce"] == 2
    assert counts(sharded.forward_communication()) == {
        "all_reduce": 0,
        "all_gather": 2,
        "reduce_scatter": 2,
    }
    assert counts(sharded.backward_communication()) == {
        "all_reduce": 0,
        "all_gather": 4,
        "reduce_scatter": 2,
    }


def test_sharded_activations_send_no_more_forward_than_reduced_ones() -> None:
    """An all-reduce is a reduce-scatter and an all-gather."""
    plain, sharded = (
        sent_bytes(work_of(MODEL, 8192, tp=8, tp_sp=on).forward_communication(), Axis.TP, 8)
        for on in (False, True)
    )
    assert plain == pytest.approx(sharded)


def test_windowed_layers_send_no_more_than_their_neighbours() -> None:
    gemma = load_architecture("gemma-3-27b")
    windowed = next(layer for layer in gemma.kinds if layer.mixer.window)
    both = [
        layer_work(layer, gemma.hidden, shapes(65536, ulysses=4)).forward_communication()
        for layer in (windowed, unwindowed(gemma))
    ]
    assert sent_bytes(both[0], Axis.ULYSSES, 4) == sent_bytes(both[1], Axis.ULYSSES, 4)


def test_each_layer_may_have_its_own_method() -> None:
    """Windows gather, layers that see everything pass on: each as if all layers did so."""
    architecture = load_architecture("gemma-3-27b")
    cut = {"ring": 8, "kernels": Kernels.FUSED}
    for layer in architecture.kinds:
        alone = CpMethod.ALL_GATHER if layer.attention.window else CpMethod.P2P
        mixed, own = (
            layer_work(layer, architecture.hidden, shapes(65536, cp_method=method, **cut))
            for method in (CpMethod.PER_LAYER, alone)
        )
        for ours, theirs in zip(
            mixed.forward_communication(), own.forward_communication(), strict=True
        ):
            assert (ours.name, ours.nbytes, ours.calls) == (
                theirs.name,
                theirs.nbytes,
                theirs.calls,
            )
        assert mixed.buffer_bytes == own.buffer_bytes
