"""Experts: FLOP against torch, where tokens go against dice, meshes against Megatron's."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from models.architecture import Layer, Moe
from models.catalogue import load_architecture
from models.expert_mesh import expert_data_ranks, expert_stride
from models.hf_config import architecture_from_config
from models.inventory import layer_work
from models.layout import Layout, LayoutBatch, strides
from models.legality import problems
from models.memory import memory_bill
from models.named_axes import Dispatch, RankOrder, Recompute, Schedule
from models.operation import Axis, Communication, Compute
from models.precision import load_precision
from models.prepared import Prepared
from models.routing import BALANCED, Routing, parts_visited
from models.rules.rule import Job
from models.simulation.step import StepSimulation
from models.training import step_time
from models.workload import Workload
from tests.models.cases import TOY_MOE, machine, prepared, shapes
from tests.oracles import expert_reference

if TYPE_CHECKING:
    from models.compute import Device

#: Qwen2-MoE has shared experts with a gate.
FAMILIES = {
    "mixtral": {"intermediate_size": 512},
    "qwen2_moe": {"intermediate_size": 1024},
    "qwen3_moe": {"head_dim": 32},
}


def family(name: str) -> dict[str, Any]:
    return {**TOY_MOE, "model_type": name, **FAMILIES[name]}


def moe(name: str = "mixtral-8x7b") -> Moe:
    found = load_architecture(name).layers[-1].mlp
    assert isinstance(found, Moe)
    return found


# ---------------------------------------------------------------------------------------- counts


@pytest.mark.parametrize("name", FAMILIES)
def test_flop_of_a_layer_of_experts_equal_torchs_counter(name: str) -> None:
    """As many tokens go to every expert as come to it by chance: the sum does not depend on it."""
    config, seq_len = family(name), 512
    model = architecture_from_config(config, name)
    layer = model.layers[0]
    work = layer_work(layer, model.hidden, shapes(seq_len))
    masked = 2 * layer.attention.q_width * seq_len**2
    measured = expert_reference.layer_forward_flop(config, seq_len)
    assert float(work.forward_flop()[0]) == measured - masked


@pytest.mark.parametrize("name", ["mixtral-8x22b", "qwen3-235b-a22b", "mixtral-8x7b"])
def test_ranks_hold_all_parameters_of_a_model_together(name: str) -> None:
    architecture = load_architecture(name)
    layout = Layout(dp=8, ep=8)
    work = Prepared.of(architecture, Workload(seq_len=4096, global_batch=8), _batch(layout))
    table = work.parameters
    counts = [architecture.kind_of_layer.count(kind) for kind in range(len(architecture.kinds))]
    own = sum(n * float(each[0]) for n, each in zip(counts, table.layers, strict=True))
    experts = sum(n * float(each[0]) for n, each in zip(counts, table.experts, strict=True))
    ends = float((table.embedding + table.head)[0])
    assert own + 8 * experts + ends == architecture.params


@pytest.mark.parametrize(("ep", "etp"), [(1, 1), (8, 1), (4, 2), (1, 8)])
def test_what_all_ranks_compute_does_not_depend_on_where_experts_are(ep: int, etp: int) -> None:
    cut = {"tp": 2, "tp_sp": 1, "ep": ep, "etp": etp}
    whole = layer_work(load_architecture("mixtral-8x7b").layers[0], 4096, shapes(8192))
    part = layer_work(load_architecture("mixtral-8x7b").layers[0], 4096, shapes(8192, **cut))
    assert 2 * part.forward_flop() == whole.forward_flop()


def _batch(*layouts: Layout) -> LayoutBatch:
    return LayoutBatch.of(layouts)


# --------------------------------------------------------------------------------------- routing


@pytest.mark.parametrize(
    ("name", "parts"), [("mixtral-8x7b", 4), ("deepseek-v3", 8), ("deepseek-v3", 64)]
)
def test_tokens_visit_as_many_parts_as_dice_say(name: str, parts: int) -> None:
    mixture, rng, draws = moe(name), np.random.default_rng(0), 4000
    seen = 0
    for _ in range(draws):
        groups = rng.permutation(mixture.groups)[: mixture.groups_used]
        size = mixture.experts // mixture.groups
        allowed = np.concatenate([np.arange(g * size, (g + 1) * size) for g in groups])
        chosen = rng.choice(allowed, mixture.top_k, replace=False)
        seen += len({int(expert) // (mixture.experts // parts) for expert in chosen})
    assert parts_visited(mixture, parts) == pytest.approx(seen / draws, rel=0.02)


def test_a_part_that_is_all_is_visited_once_and_single_experts_as_often_as_chosen() -> None:
    for name in ("mixtral-8x7b", "deepseek-v3", "qwen3-235b-a22b"):
        mixture = moe(name)
        assert parts_visited(mixture, 1) == pytest.approx(1.0)
        assert parts_visited(mixture, mixture.experts) == pytest.approx(mixture.top_k)


def test_skew_follows_its_power_law_and_capacity_cuts_it() -> None:
    shares = np.arange(1, 65) ** -0.5
    first = shares[0] / shares.mean()
    assert Routing(skew=0.5).busiest(64, 64) == pytest.approx(first)
    assert Routing(skew=0.5).busiest(64, 1) == pytest.approx(1.0)
    assert Routing(skew=0.5, capacity=1.25).busiest(64, 64) == 1.25
    assert Routing().busiest(64, 8) == 1.0


@pytest.mark.parametrize("routing", [Routing(-1.0), Routing(9.0), Routing(0.0, 0.5)])
def test_a_spread_that_cannot_be_is_refused(routing: Routing) -> None:
    assert len(routing.problems()) == 1


# ----------------------------------------------------------------------------------------- meshes


def test_meshes_of_experts_are_megatrons() -> None:
    """``RankGenerator`` with cp 1, etp in tp's place: groups written out for 16 ranks."""
    batch = _batch(Layout(tp=2, ring=2, dp=2, pp=2, ep=4, tp_sp=True))
    assert int(expert_data_ranks(batch)[0]) == 2
    found = {axis: int(expert_stride(batch, axis)[0]) for axis in ("etp", "ep", "edp", "pp")}
    assert found == {"etp": 1, "ep": 1, "edp": 4, "pp": 8}
    cut = _batch(Layout(tp=2, ring=2, dp=2, pp=2, ep=2, etp=2, tp_sp=True))
    found = {axis: int(expert_stride(cut, axis)[0]) for axis in ("etp", "ep", "edp", "pp")}
    assert found == {"etp": 1, "ep": 2, "edp": 4, "pp": 8}


@pytest.mark.parametrize("order", list(RankOrder))
def test_every_rank_has_one_place_on_the_expert_mesh(order: RankOrder) -> None:
    batch = _batch(Layout(tp=2, ring=2, dp=4, pp=2, ep=2, etp=2, tp_sp=True, rank_order=order))
    sizes = {"etp": 2, "ep": 2, "edp": 4, "pp": 2}
    apart = {axis: int(expert_stride(batch, axis)[0]) for axis in sizes}
    ranks = {
        sum(place * apart[axis] for place, axis in zip(places, sizes, strict=True))
        for places in product(*(range(size) for size in sizes.values()))
    }
    assert ranks == set(range(32))
    assert apart["pp"] == int(strides(batch).pp[0])


# ------------------------------------------------------------------------------ what is exchanged


def sent(domain: int = 8, routing: Routing = BALANCED, **axes: Any) -> dict[Axis, float]:
    """Return the bytes of one layer's dispatch by axis."""
    work = layer_work(
        Layer(mixer=load_architecture("mixtral-8x7b").layers[0].mixer, mlp=moe("deepseek-v3")),
        7168,
        replace(shapes(4096, **axes), domain=domain, routing=routing),
    )
    found: dict[Axis, float] = {}
    for op in work.forward:
        if isinstance(op, Communication) and op.name.startswith("dispatch") and op.calls[0]:
            found[op.axis] = found.get(op.axis, 0.0) + float(op.nbytes[0])
    return found


def test_each_way_of_dispatch_sends_what_it_says() -> None:
    copies = 4096 * 8 * 7168 * 2.0
    assert sent(ep=64) == {Axis.EP: copies}
    staged = sent(ep=64, dispatch=Dispatch.HIERARCHICAL)
    assert staged == {Axis.EP_INSIDE: copies, Axis.EP_ACROSS: copies}
    once = sent(ep=64, dispatch=Dispatch.DEEPEP)
    assert once[Axis.EP_ACROSS] == pytest.approx(copies * parts_visited(moe("deepseek-v3"), 8) / 8)
    assert once[Axis.EP_INSIDE] == pytest.approx(copies * parts_visited(moe("deepseek-v3"), 64) / 8)
    assert sent(ep=64, dispatch=Dispatch.DEEPEP, domain=1).keys() == {Axis.EP_ACROSS}


def test_shared_experts_may_hide_the_exchange() -> None:
    for overlap in (0, 1):
        work = layer_work(_shared(), 256, shapes(4096, ep=8, shared_overlap=overlap))
        ops = [op for op in work.forward if isinstance(op, Communication) and op.calls[0]]
        hidden = {op.hidden_by for op in ops if op.axis is Axis.EP}
        assert hidden == ({"shared up", "shared down"} if overlap else {""})
        names = {op.name for op in work.forward if isinstance(op, Compute)}
        assert hidden - {""} <= names


def test_pairs_of_passes_leave_nothing_to_hide_behind_shared_experts() -> None:
    """As Megatron-Core: no ``moe_shared_expert_overlap`` with exchanges beside other passes."""
    shared = architecture_from_config(family("qwen2_moe"), "shared")
    for schedule, refused in ((Schedule.ONE_F_ONE_B, False), (Schedule.DUALPIPE, True)):
        layout = Layout(dp=8, pp=2, ep=8, shared_overlap=True, schedule=schedule)
        job = Job(architecture=shared, workload=Workload(seq_len=512, global_batch=64), gpus=16)
        assert bool(problems(layout, job)) == refused


@pytest.mark.parametrize(
    ("change", "refused"),
    [
        ({}, False),
        ({"pp": 2, "dp": 4, "ep": 4}, True),
        ({"pp": 2, "dp": 4, "ep": 4, "vp": 2, "schedule": Schedule.INTERLEAVED}, False),
        ({"recompute": Recompute.FULL}, True),
        ({"shared_overlap": True}, True),
        ({"ep": 1}, True),
        ({"micro_batch": 8}, True),
        ({"micro_batch": 4}, False),
    ],
)
def test_another_pass_beside_the_exchange_needs_what_megatron_needs(
    change: dict[str, Any], refused: bool
) -> None:
    """As Megatron-Core: ``overlap_moe_expert_parallel_comm`` in transformer_config.py."""
    shared = architecture_from_config(family("qwen2_moe"), "shared")
    job = Job(architecture=shared, workload=Workload(seq_len=512, global_batch=64), gpus=8)
    layout = replace(Layout(dp=8, ep=8, expert_overlap=True), **change)
    found = problems(layout, job)
    assert [problem.field for problem in found] == ["--expert-overlap"] * refused
    alone = replace(layout, expert_overlap=False)
    assert not problems(alone, job)


def test_what_travels_beside_another_pass_waits_for_nothing_but_takes_from_it() -> None:
    """The exchange is shorter than what another micro-batch computes: only its share is left."""
    device, fabric = machine("h100-dgx:1")
    layouts = (Layout(dp=8, ep=8, expert_overlap=overlap) for overlap in (False, True))
    work = prepared(load_architecture("mixtral-8x7b"), *layouts)
    time = step_time(work, device, fabric)
    alone, beside = time.ep
    assert time.compute[0] == time.compute[1]
    assert 0.0 < beside < 0.3 * alone


def _shared() -> Any:
    return architecture_from_config(family("qwen2_moe"), "shared").layers[0]


# ------------------------------------------------------------------------------------ both clocks


MEETING = [
    Layout(dp=8, ep=8),
    Layout(dp=16, pp=4, ep=8, dispatch=Dispatch.DEEPEP),
    Layout(dp=8, pp=4, tp=2, tp_sp=True, ep=8, etp=2),
    Layout(dp=32, pp=2, ep=4, zero=0, dispatch=Dispatch.HIERARCHICAL),
    Layout(dp=8, pp=4, ep=8, vp=2, schedule=Schedule.INTERLEAVED),
    Layout(dp=8, ep=8, expert_overlap=True),
    Layout(dp=8, pp=4, ep=8, vp=2, schedule=Schedule.INTERLEAVED, expert_overlap=True),
    Layout(dp=16, pp=4, ep=8, schedule=Schedule.DUALPIPE),
    Layout(dp=16, pp=4, vp=2, ep=8, schedule=Schedule.DUALPIPE_V, dispatch=Dispatch.DEEPEP),
]


#: Of smaller experts, so that pairs of passes do not hide all that is exchanged.
EXPOSED = [
    Layout(dp=32, ep=32, expert_overlap=True, dispatch=Dispatch.HIERARCHICAL),
    Layout(dp=32, pp=2, ep=32, schedule=Schedule.DUALPIPE, dispatch=Dispatch.HIERARCHICAL),
    Layout(dp=32, pp=2, tp=2, tp_sp=True, ep=32, schedule=Schedule.DUALPIPE),
]


@pytest.mark.parametrize(
    ("name", "layout"),
    [
        *(("mixtral-8x7b", layout) for layout in MEETING),
        *(("qwen3-235b-a22b", layout) for layout in EXPOSED),
    ],
    ids=str,
)
def test_both_clocks_agree_on_experts(name: str, layout: Layout) -> None:
    architecture = load_architecture(name)
    device, fabric = machine(f"h100-dgx:{layout.gpus // 8}")
    workload = Workload(seq_len=8192 if layout in MEETING else 4096, global_batch=32 * layout.dp)
    work = Prepared.of(architecture, workload, _batch(layout), 8)
    played = StepSimulation(work, device, fabric, contention=False).step().step_s
    assert played == pytest.approx(float(step_time(work, device, fabric).total[0]), rel=0.01)


def test_experts_of_few_tokens_are_slower_and_a_busy_rank_holds_up_the_others() -> None:
    device, fabric = machine("h100-dgx:8")
    architecture = load_architecture("qwen3-235b-a22b")

    def step(**routing: float) -> tuple[float, float]:
        workload = Workload(seq_len=4096, global_batch=512, routing=Routing(**routing))
        work = Prepared.of(architecture, workload, _batch(Layout(dp=64, ep=64)), 8)
        time, bill = step_time(work, device, fabric), memory_bill(work, device.profile)
        return float(time.total[0]), float(bill.activations[0])

    even, skewed, capped = step(), step(skew=0.4), step(skew=0.4, capacity=1.2)
    assert even[0] < capped[0] < skewed[0]
    assert even[1] < capped[1] < skewed[1]


def test_grouped_products_pay_for_half_a_tile_of_each() -> None:
    device: Device = machine("h100-dgx:8")[0]
    layer = load_architecture("qwen3-235b-a22b").layers[0]

    def rate(ep: int) -> float:
        work = layer_work(layer, 4096, shapes(4096, ep=ep))
        (up,) = (op for op in work.forward if op.name == "experts up")
        assert isinstance(up, Compute)
        return float(up.flop[0] / device.seconds(up)[0])

    rates = [rate(ep) for ep in (1, 8, 64)]
    assert rates == sorted(rates)


def test_pairs_of_passes_hide_the_exchange() -> None:
    """DualPipe's own bubble aside, what is exposed is not more than without pairs, and far less."""
    device, fabric = machine("h100-dgx:16")
    layouts = [
        Layout(dp=32, pp=4, ep=32, schedule=schedule, vp=vp)
        for schedule, vp in ((Schedule.ONE_F_ONE_B, 1), (Schedule.DUALPIPE_V, 2))
    ]
    workload = Workload(seq_len=4096, global_batch=32 * 64)
    work = Prepared.of(load_architecture("qwen3-235b-a22b"), workload, _batch(*layouts), 8)
    alone, paired = step_time(work, device, fabric).ep
    assert paired < 0.35 * alone


def test_blocks_of_fp8_travel_to_experts_and_bf16_comes_back() -> None:
    """A byte and an fp32 scale for each 128 (DeepSeek-V3, section 3.3.3), forward and backward."""
    layer = Layer(mixer=load_architecture("mixtral-8x7b").layers[0].mixer, mlp=moe("deepseek-v3"))
    work = layer_work(
        layer, 7168, replace(shapes(4096, ep=64), precision=load_precision("fp8-blockwise"))
    )
    copies = 4096 * 8 * 7168
    nbytes = {
        op.name: float(op.nbytes[0])
        for op in (*work.forward, *work.backward)
        if isinstance(op, Communication) and op.axis is Axis.EP and op.calls[0]
    }
    few, usual = copies * (1 + 4 / 128), copies * 2
    assert nbytes == {
        "dispatch": few,
        "combine": usual,
        "combine gradients": few,
        "dispatch gradients": usual,
    }


def test_all_wait_for_what_the_busiest_rank_receives() -> None:
    """With DeepEP no more of them reach a domain than there are."""
    routing = Routing(skew=1.0)
    uneven = routing.busiest(256, 64)
    even, skewed = sent(ep=64), sent(ep=64, routing=routing)
    assert skewed[Axis.EP] == pytest.approx(even[Axis.EP] * uneven)
    once = sent(ep=64, dispatch=Dispatch.DEEPEP, routing=Routing(skew=3.0))
    assert once[Axis.EP_ACROSS] == 4096 * 8 * 7168 * 2.0
    cut = {"tp": 2, "tp_sp": 1, "ep": 4, "etp": 2}
    layer = load_architecture("mixtral-8x7b").layers[0]
    whole, held_up = (
        next(
            op.nbytes[0]
            for op in layer_work(layer, 4096, replace(shapes(8192, **cut), routing=each)).forward
            if isinstance(op, Communication) and op.name == "gather tokens"
        )
        for each in (Routing(), routing)
    )
    assert whole == 4096 * 2 * 4096 * 2 * 2
    assert held_up == pytest.approx(whole * routing.busiest(8, 4))
