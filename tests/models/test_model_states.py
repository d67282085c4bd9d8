"""What is kept of each parameter, against bytes written out by hand, and which framework has it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.catalogue import load_architecture
from models.data_parallel import DataParallelClock
from models.framework_choice import (
    ANY,
    UNRESTRICTED,
    frameworks,
    lacking,
    runnable,
    runs_in,
    why_not,
)
from models.layout import Layout, LayoutBatch
from models.memory import memory_bill
from models.memory_bill import LINES, MemoryBill
from models.model_states import GRADIENT_DTYPES, USUAL_STATES, ModelStates, optimizers
from models.named_axes import Kernels
from models.rank_parts import RankParts
from models.workload import Workload
from tests import strategies
from tests.models.cases import machine, prepared, sent_for_weights
from topologies.figure import Provenance

if TYPE_CHECKING:
    from tests.strategies import Drawn

DEVICE, FABRIC = machine()
LLAMA_8B, LLAMA_70B = 8_030_261_248, 70_553_706_496
#: Master weights and moments of a parameter, in bytes, by hand.
OPTIMIZER_BYTES = {
    "adamw": 4 + 4 + 4,
    "adamw-remainders": 2 + 4 + 4,
    "adamw-bf16": 4 + 2 + 2,
    "adamw-8bit": 4 + (1 + 4 / 256) + (1 + 4 / 256),
    "adafactor": 4 + 4 / 1024 + 4 / 1024,
    "sgd-momentum": 4 + 4,
    "adamw-bf16-master": 2 + 2 + 2,
    "adamw-pure-bf16": 2 + 2,
}
BF16_BOTH = ModelStates(gradients="bf16", reduce="bf16")
ALL_STATES = st.builds(
    ModelStates,
    # What keeps no master weight reads the parameter instead: less memory is not less traffic.
    optimizer=st.sampled_from(sorted(set(OPTIMIZER_BYTES) - {"adamw-pure-bf16"})),
    gradients=st.sampled_from(sorted(GRADIENT_DTYPES)),
    reduce=st.sampled_from(sorted(GRADIENT_DTYPES)),
)


def bill(name: str, states: ModelStates, *layouts: Layout) -> MemoryBill:
    work = prepared(load_architecture(name), *layouts, states=states)
    return memory_bill(work, DEVICE.profile)


def kept(found: MemoryBill) -> tuple[float, float, float]:
    return found.parameters[0], found.gradients[0], found.optimizer[0]


# ----------------------------------------------------------------------------------------- memory


def test_the_usual_states_are_2_and_4_and_12_bytes_to_the_bit() -> None:
    found = bill("llama-3.1-8b", USUAL_STATES, Layout(zero=0))
    assert kept(found) == (16_060_522_496, 32_121_044_992, 96_363_134_976)
    assert Workload(seq_len=1, global_batch=1).states == ModelStates("adamw", "fp32", "fp32")


def test_the_usual_optimizer_moves_30_bytes_of_a_parameter() -> None:
    """Master weight and two moments read and written, a gradient read, a parameter written."""
    work = prepared(load_architecture("llama-3.1-8b"), Layout(zero=0))
    clock = DataParallelClock(work, DEVICE, FABRIC, RankParts.of(work, 0))
    moved = float(clock.optimizer()[0]) * DEVICE.streaming_Bps
    assert moved == pytest.approx(240_907_837_440, rel=1e-15)


def test_8_bit_moments_of_70b_by_hand() -> None:
    """Fp32 weights, two bytes, and two fp32 scales for each of 275,600,416 blocks."""
    found = bill("llama-3.1-70b", ModelStates("adamw-8bit"), Layout(zero=0))
    assert found.optimizer[0] == 282_214_825_984 + 141_107_412_992 + 2_204_803_328
    assert found.gradients[0] == 4 * LLAMA_70B


@pytest.mark.parametrize("optimizer", sorted(OPTIMIZER_BYTES))
@pytest.mark.parametrize(("gradients", "gradient_bytes"), [("fp32", 4), ("bf16", 2)])
@pytest.mark.parametrize(
    ("zero", "shares"), [(0, (1, 1, 1)), (1, (1, 1, 8)), (2, (1, 8, 8)), (3, (8, 8, 8))]
)
def test_zero_shards_whatever_is_kept(
    optimizer: str, gradients: str, gradient_bytes: int, zero: int, shares: tuple[int, ...]
) -> None:
    states = ModelStates(optimizer, gradients)
    found = bill("llama-3.1-8b", states, Layout(dp=8, zero=zero))
    each = (2, gradient_bytes, OPTIMIZER_BYTES[optimizer])
    expected = [LLAMA_8B * nbytes / share for nbytes, share in zip(each, shares, strict=True)]
    assert kept(found) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(("zero", "share"), [(0, 1), (1, 1), (2, 8), (3, 8)])
def test_bf16_gradients_free_two_bytes_of_every_parameter_held(zero: int, share: int) -> None:
    layout = Layout(dp=8, zero=zero)
    usual, less = (
        bill("llama-3.1-8b", states, layout)
        for states in (USUAL_STATES, ModelStates(gradients="bf16"))
    )
    assert usual.total[0] - less.total[0] == pytest.approx(2 * LLAMA_8B / share, rel=1e-9)
    for line in set(LINES) - {"gradients"}:
        assert getattr(usual, line) == getattr(less, line)


@pytest.mark.parametrize(("zero", "freed"), [(0, 0), (1, 0), (2, 2), (3, 2)])
def test_a_layer_waits_in_the_dtype_that_is_sent(zero: int, freed: int) -> None:
    """Before it is sharded the gradient of a layer of 218,112,000 parameters is whole."""
    layout = Layout(dp=8, zero=zero)
    usual, less = (
        bill("llama-3.1-8b", states, layout)
        for states in (USUAL_STATES, ModelStates(reduce="bf16"))
    )
    assert usual.buffers[0] - less.buffers[0] == freed * 218_112_000
    assert kept(usual) == kept(less)


@given(drawn=strategies.jobs_with_layouts(), one=ALL_STATES, other=ALL_STATES)
def test_cheaper_states_never_cost_more_memory(
    drawn: Drawn, one: ModelStates, other: ModelStates
) -> None:
    figures = ("parameter_bytes", "gradient_bytes", "reduced_bytes", "optimizer_bytes")
    both = [[getattr(states, name) for name in figures] for states in (one, other)]
    assert np.min(both) > 0
    lower = ModelStates(
        min(one.optimizer, other.optimizer, key=OPTIMIZER_BYTES.__getitem__),
        min(one.gradients, other.gradients, key=GRADIENT_DTYPES.__getitem__),
        min(one.reduce, other.reduce, key=GRADIENT_DTYPES.__getitem__),
    )
    needed = [total_bytes(drawn, states) for states in (lower, one, other)]
    assert needed[0] <= min(needed[1:]) * (1 + 1e-12)
    assert lower.traffic_bytes <= min(one.traffic_bytes, other.traffic_bytes)


def total_bytes(drawn: Drawn, states: ModelStates) -> float:
    work = drawn.prepared()
    work = replace(work, workload=replace(work.workload, states=states))
    return float(memory_bill(work, DEVICE.profile).total[0])


def test_every_figure_is_above_zero_and_says_where_it_is_from() -> None:
    assert set(optimizers()) == {*OPTIMIZER_BYTES, "muon"}
    for name, optimizer in optimizers().items():
        for figure in optimizer.figures().values():
            assert figure.value > 0 or name == "adamw-pure-bf16"
            assert figure.source
    for name, nbytes in OPTIMIZER_BYTES.items():
        assert ModelStates(name).optimizer_bytes == nbytes
    kinds = {name: figure.kind for name, figure in ModelStates("adafactor").figures()}
    assert kinds["adafactor.moment_bytes"] is Provenance.ASSUMED
    assert list(kinds.values()).count(Provenance.ASSUMED) == 1
    assert all(figure.kind is not Provenance.ASSUMED for _, figure in USUAL_STATES.figures())


def test_every_unknown_name_is_a_problem_that_names_the_choices() -> None:
    found = Workload(seq_len=0, global_batch=1, states=ModelStates("adam", "fp16", "8bit"))
    assert [str(problem) for problem in found.problems()[1:]] == [
        "--optimizer = adam: one of adamw, adamw-remainders, adamw-bf16, adamw-8bit, adafactor, "
        "sgd-momentum, adamw-bf16-master, adamw-pure-bf16, muon",
        "--gradients = fp16: one of fp32, bf16, bf16+fp32",
        "--reduce = 8bit: one of fp32, bf16",
    ]
    assert found.problems()[0].field == "--seq-len"


# ------------------------------------------------------------------------------------------- sent


@pytest.mark.parametrize(
    "layout",
    [
        *(Layout(dp=8, zero=zero) for zero in range(4)),
        Layout(dp=16, dp_replicate=2, zero=3),
        Layout(dp=16, dp_replicate=16, zero=1),
    ],
    ids=str,
)
def test_reducing_in_bf16_sends_half_the_gradients_and_all_parameters(layout: Layout) -> None:
    model = load_architecture("llama-3.2-1b")
    usual, half, kept_only = (
        sent_for_weights(prepared(model, layout, states=states))
        for states in (USUAL_STATES, ModelStates(reduce="bf16"), ModelStates(gradients="bf16"))
    )
    assert usual.scatter + usual.across > 0
    assert (half.scatter, half.across) == (usual.scatter / 2, usual.across / 2)
    assert half.gather == usual.gather
    assert kept_only == usual


class Counted:
    """Stands for a collective's cost: bytes instead of seconds."""

    def seconds(self, nbytes: Any, group: Any) -> Any:
        return nbytes


def test_a_tied_head_is_summed_in_the_dtype_that_is_sent() -> None:
    found = []
    for states in (USUAL_STATES, ModelStates(reduce="bf16")):
        work = prepared(load_architecture("llama-3.2-1b"), Layout(pp=2, zero=0), states=states)
        clock: Any = DataParallelClock(work, DEVICE, FABRIC, RankParts.of(work, 0))
        clock.between = Counted()
        found.append(float(clock.between_s()[0]))
    assert found == [4 * 128_256 * 2048, 2 * 128_256 * 2048]


# ------------------------------------------------------------------------------------- frameworks

LLAMA = load_architecture("llama-3.1-8b")
FSDP = Layout(dp=8, zero=3, kernels=Kernels.EAGER)
ZERO_1, ZERO_0 = Layout(dp=8, zero=1), Layout(dp=8, zero=0)


@pytest.mark.parametrize(
    ("layout", "states", "expected"),
    [
        (ZERO_1, USUAL_STATES, {"megatron", "megatron-fsdp"}),
        (ZERO_1, ModelStates("adamw-bf16"), {"megatron", "megatron-fsdp"}),
        (ZERO_0, ModelStates("adamw-bf16"), set()),  # only with the distributed optimizer
        (ZERO_0, ModelStates("sgd-momentum"), {"megatron"}),
        (ZERO_1, ModelStates("sgd-momentum"), set()),  # which takes Adam only
        (Layout(), ModelStates("adamw-bf16"), {"megatron", "megatron-fsdp"}),
        (ZERO_1, ModelStates("muon"), {"megatron"}),
        (FSDP, ModelStates("muon"), {"torchtitan", "deepspeed"}),
        (FSDP, ModelStates("adamw-bf16-master", "bf16", "bf16"), {"deepspeed"}),
        (FSDP, ModelStates("adamw-pure-bf16"), set()),
        (ZERO_1, BF16_BOTH, {"megatron", "megatron-fsdp"}),
        (ZERO_1, ModelStates(reduce="bf16"), {"megatron-fsdp"}),  # Megatron has one buffer
        (ZERO_1, ModelStates(gradients="bf16"), {"megatron-fsdp"}),
        (FSDP, USUAL_STATES, {"torchtitan", "deepspeed", "accelerate"}),
        (FSDP, ModelStates(reduce="bf16"), {"deepspeed", "accelerate"}),
        (FSDP, BF16_BOTH, {"deepspeed"}),
        (FSDP, ModelStates("adamw-bf16"), {"torchtitan"}),
        (FSDP, ModelStates("adamw-8bit"), {"accelerate"}),
        (FSDP, ModelStates("adamw-8bit", "bf16"), set()),
        (FSDP, ModelStates("sgd-momentum"), {"deepspeed", "accelerate"}),
        (FSDP, ModelStates("adafactor"), set()),
    ],
)
def test_frameworks_have_the_states_that_their_sources_say(
    layout: Layout, states: ModelStates, expected: set[str]
) -> None:
    batch = LayoutBatch.of([layout])
    assert set(runs_in(batch, LLAMA, states)[0]) == expected
    for name in frameworks():
        assert runnable(batch, LLAMA, name, states)[0] == (name in expected)
    assert runnable(batch, LLAMA, ANY, states)[0] == bool(expected)
    assert runnable(batch, LLAMA, UNRESTRICTED, states)[0]


@pytest.mark.parametrize("name", sorted(frameworks()))
def test_every_framework_has_the_usual_states_and_known_names(name: str) -> None:
    entry = frameworks()[name]
    assert entry.optimizers["adamw"] == entry.values["zero"]
    assert "fp32" in entry.gradients["fp32"]
    assert set(entry.optimizers) <= set(optimizers())
    for kept_in, sent_in in entry.gradients.items():
        assert {kept_in, *sent_in} <= set(GRADIENT_DTYPES)
    for stages in entry.optimizers.values():
        assert set(stages) <= set(entry.values["zero"])


def test_what_a_framework_lacks_is_said_in_words() -> None:
    reasons = why_not(ZERO_0, LLAMA, ModelStates("adamw-bf16", "fp32", "bf16"))
    assert reasons["megatron"] == [
        "adamw-bf16 with ZeRO 1 only",
        "no fp32 gradients reduced in bf16",
    ]
    assert "no adamw-bf16" in reasons["deepspeed"]
    batch = LayoutBatch.of([FSDP])
    found = lacking(batch, LLAMA, ANY, ModelStates("adafactor"))
    assert set.intersection(*found.values()) == {"no adafactor"}
    found = lacking(batch, LLAMA, "torchtitan", BF16_BOTH)
    assert found == {"torchtitan": {"no bf16 gradients reduced in bf16"}}
