"""What is sent for parameters and gradients, against torch's FSDP2 and HSDP on a fake group."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from models.catalogue import load_architecture
from models.collectives import cost
from models.data_parallel import DataParallelClock
from models.hf_config import architecture_from_config
from models.layout import Layout
from models.named_axes import Kernels, Schedule
from models.operation import Axis
from models.rank_parts import RankParts
from tests.models.cases import config, machine, prepared, sent_bytes, sent_for_weights
from tests.oracles import sharded_reference as oracle
from topologies.collective import Collective

TOKENS = 1024


def shallow(name: str, layers: int) -> dict[str, Any]:
    """Return a model with fewer layers, which are alike."""
    fields = {key: value for key, value in config(name).items() if key != "layer_types"}
    return {**fields, "num_hidden_layers": layers}


def sharded(
    fields: dict[str, Any], shards: int, replicas: int = 1, micro_batches: int = 1, zero: int = 3
) -> Any:
    """Return the inventory of a model sharded over data-parallel ranks."""
    layout = Layout(dp=shards * replicas, zero=zero, dp_replicate=replicas, kernels=Kernels.EAGER)
    return prepared(
        architecture_from_config(fields, "shallow"),
        layout,
        seq_len=TOKENS,
        global_batch=shards * replicas * micro_batches,
    )


@pytest.mark.parametrize(
    ("name", "shards"),
    [("llama-3.1-8b", 64), ("qwen2.5-7b", 8), ("qwen3-8b", 128), ("llama-3.2-1b", 128)],
)
def test_fsdp_gathers_and_scatters_what_torch_does(name: str, shards: int) -> None:
    """Every part is gathered twice in bf16; its gradient is scattered once in fp32.

    Of layers alone, with biases, with norms of heads, and of a head tied to the embedding.
    """
    fields = shallow(name, 3)
    said = sent_for_weights(sharded(fields, shards))
    sent = oracle.step(fields, tokens=TOKENS, shards=shards).traffic
    assert 2 * said.gather == pytest.approx(sent.sent_bytes["all_gather"], rel=1e-12)
    assert said.scatter == pytest.approx(sent.sent_bytes["reduce_scatter"], rel=1e-12)
    assert said.step == pytest.approx(sent.total_bytes, rel=1e-12)


@pytest.mark.parametrize(
    ("name", "shards", "replicas"),
    [("llama-3.1-8b", 8, 8), ("llama-3.1-8b", 64, 2), ("llama-3.2-1b", 16, 4)],
)
def test_hsdp_reduces_its_shards_over_the_replicas(name: str, shards: int, replicas: int) -> None:
    fields = shallow(name, 2)
    said = sent_for_weights(sharded(fields, shards, replicas))
    sent = oracle.step(fields, tokens=TOKENS, shards=shards, replicas=replicas).traffic
    assert {call.ranks for call in sent.made} == {shards, replicas}
    assert 2 * said.gather == pytest.approx(sent.sent_bytes["all_gather"], rel=1e-12)
    assert said.scatter == pytest.approx(sent.sent_bytes["reduce_scatter"], rel=1e-12)
    assert said.across == pytest.approx(sent.sent_bytes["all_reduce"], rel=1e-12)
    assert said.step == pytest.approx(sent.total_bytes, rel=1e-12)


@pytest.mark.parametrize("replicas", [1, 4])
def test_every_micro_batch_sends_what_one_does(replicas: int) -> None:
    """Gradients are scattered, and over replicas reduced, in every backward pass."""
    fields = shallow("llama-3.1-8b", 2)
    said = sent_for_weights(sharded(fields, 16, replicas, micro_batches=5))
    one = oracle.step(fields, tokens=TOKENS, shards=16, replicas=replicas).traffic
    assert said.step == pytest.approx(5 * one.total_bytes, rel=1e-12)


@pytest.mark.parametrize("zero", [1, 2])
def test_parameters_that_stay_gathered_are_gathered_once(zero: int) -> None:
    """Of one micro-batch ZeRO-1 and 2 send what FSDP2 does that keeps parameters for backward."""
    fields = shallow("llama-3.1-8b", 2)
    said = sent_for_weights(sharded(fields, 64, zero=zero))
    sent = oracle.step(fields, tokens=TOKENS, shards=64, keeps_all=True).traffic
    assert said.gather == pytest.approx(sent.sent_bytes["all_gather"], rel=1e-12)
    assert said.step == pytest.approx(sent.total_bytes, rel=1e-12)


@pytest.mark.parametrize("name", ["llama-3.1-8b", "llama-3.2-1b"])
def test_every_layer_sends_messages_of_its_own(name: str) -> None:
    """The embedding and the head too, where they are not one; each starts on its own."""
    fields = shallow(name, 3)
    sent = oracle.step(fields, tokens=TOKENS, shards=16, replicas=4).traffic
    many = Counter(call.collective for call in sent.made)
    device, fabric = machine("h100-dgx:8")
    work = sharded(fields, 16, 4)
    clock = DataParallelClock(work, device, fabric, RankParts.of(work, 0))
    assert clock.shared.messages == [many["reduce_scatter"]] == [many["all_reduce"]]
    assert 2 * clock.shared.messages == [many["all_gather"]]
    whole = sharded(fields, 16, 4, zero=1)
    once = DataParallelClock(whole, device, fabric, RankParts.of(whole, 0))
    start = cost(Collective.ALL_GATHER, clock.shared.shards, device.profile).start_s.max()
    more = float((clock.gather_s() - once.gather_s())[0])
    assert more > 0.9 * (many["reduce_scatter"] - 1) * start


def test_experts_send_messages_of_the_layers_that_have_them() -> None:
    """Of 61 layers of DeepSeek-V3 three are dense; ranks of a pipeline have their own only.

    Experts that every rank has go with their layer.
    """
    model = load_architecture("deepseek-v3")
    device, fabric = machine("h100-dgx:8")
    for pp, ep, shared, mixed in ((1, 8, 63, 58), (2, 8, 32, 28), (1, 1, 63, 1)):
        work = prepared(model, Layout(dp=64 // pp, pp=pp, ep=ep, zero=3), global_batch=64)
        clock = DataParallelClock(work, device, fabric, RankParts.of(work, 0))
        assert [float(each.messages[0]) for each in clock.sharings] == [shared, mixed]
    work = prepared(model, Layout(dp=8, pp=61, ep=4, zero=3), global_batch=64)
    dense = DataParallelClock(work, device, fabric, RankParts.of(work, 0)).sharings[1]
    assert (dense.gather_s(), dense.scatter_s()) == ([0.0], [0.0])


def test_replicas_without_shards_reduce_all_gradients() -> None:
    """ZeRO-0 sends what HSDP does whose shards are single ranks."""
    fields = shallow("llama-3.1-8b", 2)
    said = sent_for_weights(sharded(fields, 64, zero=0))
    sent = oracle.step(fields, tokens=TOKENS, shards=1, replicas=64).traffic
    assert said.step == pytest.approx(sent.sent_bytes["all_reduce"], rel=1e-12)
    assert said.step == pytest.approx(sent.total_bytes, rel=1e-12)


def test_a_head_kept_between_the_passes_is_gathered_once() -> None:
    """Torchtitan's default for the last part: the inventory gathers it again, as it does others."""
    fields = shallow("llama-3.1-8b", 2)
    said = sent_for_weights(sharded(fields, 64))
    kept = oracle.step(fields, tokens=TOKENS, shards=64, keeps_head=True).traffic
    head = fields["hidden_size"] * (fields["vocab_size"] + 1)  # and the last norm
    assert said.step - kept.total_bytes == pytest.approx(2 * head * 63 / 64, rel=1e-12)


def test_torch_pads_rows_to_the_number_of_shards() -> None:
    """A matrix of 14,336 rows over 96 ranks has 150 each; the inventory does not pad."""
    fields = shallow("llama-3.1-8b", 2)
    said = sent_for_weights(sharded(fields, 96))
    sent = oracle.step(fields, tokens=TOKENS, shards=96).traffic.total_bytes
    assert said.step < sent < 1.01 * said.step


@pytest.mark.filterwarnings("ignore:FSDP2-wrapped module:UserWarning")
@pytest.mark.parametrize("tp_sp", [False, True])
@pytest.mark.parametrize(("shards", "tp"), [(8, 8), (32, 2)])
def test_tensor_parallel_ranks_shard_what_they_hold(shards: int, tp: int, tp_sp: bool) -> None:
    """Of a million tokens: all that a rank sends on both axes, norms whole on every rank."""
    fields, seq_len = shallow("llama-3.1-8b", 2), 2**20
    architecture = architecture_from_config(fields, "shallow")
    layout = Layout(dp=shards, tp=tp, tp_sp=tp_sp, zero=3, kernels=Kernels.EAGER)
    work = prepared(architecture, layout, seq_len=seq_len, global_batch=shards)
    parts = (*(work.layers * 2), work.embedding, work.head)
    operations = [
        op
        for part in parts
        for op in (*part.forward_communication(), *part.backward_communication())
        if op.name != "loss reductions"  # no loss is run here
    ]
    sent = oracle.tensor_parallel_traffic(
        fields, tokens=seq_len, shards=shards, tp=tp, sequence_parallel=tp_sp
    )
    # Norms see a part of the tokens each: torch sums their gradients in bf16, which is left out.
    norms = 5 * architecture.hidden * 2 * 2 * (tp - 1) / tp if tp_sp else 0
    said = sent_bytes(operations, Axis.TP, tp) + sent_for_weights(work).step
    assert sent.total_bytes == pytest.approx(said + norms, rel=1e-12)


@pytest.mark.parametrize("schedule", [Schedule.ONE_F_ONE_B, Schedule.DUALPIPE])
@pytest.mark.parametrize("zero", [1, 2, 3])
def test_ranks_of_a_pipeline_gather_and_reduce_once(zero: int, schedule: Schedule) -> None:
    """However they are sharded; without stages ZeRO-2 and 3 do so in each of 16 passes."""
    model = load_architecture("llama-3.1-8b")
    staged = Layout(dp=4, pp=2, zero=zero, schedule=schedule)
    found = sent_for_weights(prepared(model, staged))
    assert found.step == pytest.approx(found.gather + found.scatter)
    whole = sent_for_weights(prepared(model, Layout(dp=4, zero=zero)))
    gathers, reductions = (32, 16) if zero == 3 else (1, 16 if zero == 2 else 1)
    assert whole.step == pytest.approx(gathers * whole.gather + reductions * whole.scatter)
