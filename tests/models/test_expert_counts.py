"""What a mixture of experts counts, by hand: products, moves, parameters, shards of states."""

from __future__ import annotations

from dataclasses import replace

import pytest

from models.architecture import Layer, Mlp, Moe
from models.catalogue import load_architecture
from models.data_parallel import DataParallelClock
from models.inventory import layer_work
from models.layout import Layout
from models.memory import memory_bill
from models.mixers.mlp import MlpWork
from models.mixers.moe import MoeWork
from models.named_axes import Dispatch, Kernels
from models.operation import Axis, Compute
from models.operators import grouped_product
from models.part_times import PartClock
from models.precision import load_precision
from models.prediction import Prediction
from models.rank_parts import RankParts
from tests.models.cases import machine, prepared, shapes

TOKENS, HIDDEN = 512, 64
#: Everything a mixture can have.
FULL = Moe(
    experts=8,
    top_k=2,
    expert=Mlp(intermediate=32, bias=True),
    shared=Mlp(intermediate=48),
    shared_gate=True,
    router_bias=True,
    latent=16,
    latent_bias=True,
)
MIXTRAL = load_architecture("mixtral-8x7b")
#: Parameters of Mixtral's experts, of all 32 layers.
EXPERTS = 32 * 8 * 3 * 4096 * 14336


def test_every_product_is_there_once_forward_and_twice_backward() -> None:
    """Router, gate, into the latent width and out of it, two experts a token, and the shared."""
    work = layer_work(Layer(mixer=None, mlp=FULL), HIDDEN, shapes(TOKENS))
    matrices = HIDDEN * 8 + HIDDEN + 2 * HIDDEN * 16 + 2 * (3 * 16 * 32) + 3 * HIDDEN * 48
    assert work.forward_flop() == 2 * TOKENS * matrices
    assert work.backward_flop() == 2 * work.forward_flop()


@pytest.mark.parametrize(("ep", "sorts"), [(1, 0), (4, 2), (8, 0)])
def test_tokens_are_moved_there_and_back_in_both_directions(ep: int, sorts: int) -> None:
    """Copies of two bytes each, read and written; what several ranks send to several experts twice.

    The sum writes tokens, not copies.
    """
    layer = Layer(mixer=None, mlp=replace(FULL, latent=None))
    work = layer_work(layer, HIDDEN, shapes(TOKENS, ep=ep))
    element = HIDDEN * 2 * 2
    for operations in (work.forward_compute(), work.backward_compute()):
        moved = [(op.name, float(op.nbytes[0])) for op in operations]
        assert moved.count(("permute tokens", 2 * TOKENS * element)) == 1
        assert moved.count(("weighted sum", 3 * TOKENS * element)) == 1
        sorted_bytes = [n for name, n in moved if name.startswith("sort by") and n]
        assert sorted_bytes == [2 * TOKENS * element] * sorts


@pytest.mark.parametrize(("ep", "etp"), [(1, 1), (4, 1), (2, 2)])
def test_a_rank_holds_its_experts_parts_and_their_biases(ep: int, etp: int) -> None:
    """Three matrices, cut; biases of gate, value and output, whole."""
    work = MoeWork(FULL, HIDDEN, shapes(TOKENS, ep=ep, etp=etp))
    each = 3 * 16 * 32 / etp + 2 * 32 + 16
    assert work.expert_parameters()[0] == 8 / ep * each
    beside = 8 * (HIDDEN + 1) + HIDDEN + 3 * HIDDEN * 48 + 2 * HIDDEN * 16 + 16 + HIDDEN
    assert work.parameters()[0] == beside


def test_products_of_several_experts_read_each_weight_and_cast_all_rows() -> None:
    meant = replace(shapes(TOKENS), precision=load_precision("fp8-delayed"))
    rows, columns, depth, groups = meant.tokens, 96, 64, meant.tokens / 128
    (inputs, forward), (gradients, data, weight) = grouped_product(
        "experts up", meant, rows, columns, depth, groups
    )
    n = 4
    assert forward.flop[0] == data.flop[0] == weight.flop[0] == 2 * TOKENS * columns * depth
    assert forward.nbytes[0] == TOKENS * depth + n * depth * columns + 2 * TOKENS * columns
    assert data.nbytes[0] == TOKENS * columns + n * depth * columns + 2 * TOKENS * depth
    assert weight.nbytes[0] == TOKENS * (columns + depth) + 2 * n * depth * columns
    assert inputs.nbytes[0] == TOKENS * depth * (2 + 2)
    assert gradients.nbytes[0] == TOKENS * columns * (2 + 2)


def test_states_of_experts_are_sharded_over_ranks_that_hold_them_in_a_replica() -> None:
    """HSDP of 16 ranks in 2 replicas with ep 2: 8 ranks hold the same experts, 4 a replica."""
    layouts = [Layout(dp=16, dp_replicate=2, ep=2, zero=zero) for zero in (0, 1, 3)]
    plain, fp8 = (
        memory_bill(prepared(MIXTRAL, *layouts, precision=name), machine()[0].profile)
        for name in ("bf16", "fp8-delayed")
    )
    rest = MIXTRAL.params - EXPERTS
    sharded = EXPERTS / 2 / 4 + rest / 8
    whole = EXPERTS / 2 + rest
    assert plain.optimizer == pytest.approx([12 * whole, 12 * sharded, 12 * sharded])
    assert plain.gradients == pytest.approx([4 * whole, 4 * whole, 4 * sharded])
    assert plain.parameters == pytest.approx([2 * whole, 2 * whole, 2 * sharded])
    layers = rest - 2 * 32000 * 4096 - 4096
    saved = EXPERTS / 2 / 4 + layers / 8
    assert plain.parameters[2] - fp8.parameters[2] == pytest.approx(saved)


def test_gradients_of_experts_are_reduced_where_these_are() -> None:
    """In a replica of 8 ranks inside a machine, across two of them between machines."""
    work = prepared(MIXTRAL, Layout(dp=16, dp_replicate=2, ep=2, zero=3))
    device, fabric = machine("h100-dgx:2")
    _, experts = DataParallelClock(work, device, fabric, RankParts.of(work, 0)).sharings
    assert (experts.shards.size[0], experts.replicas.size[0]) == (4, 2)
    assert (bool(experts.shards.scale_out[0]), bool(experts.replicas.scale_out[0])) == (False, True)


def test_deepep_takes_twenty_multiprocessors_of_132() -> None:
    device, fabric = machine("h100-dgx:2")
    clock = PartClock(device, fabric, shapes(TOKENS, ep=16, dispatch=Dispatch.DEEPEP))
    assert clock.steal(Axis.EP)[0] == pytest.approx(20 / 132)


def test_tensor_parallel_ranks_cut_the_product_that_joins() -> None:
    deeper = load_architecture("deepseek-v3").predicting(1)
    one, two = (
        Prediction(deeper.layers[-1], deeper.hidden, shapes(TOKENS, tp=tp)).parameters()[0]
        for tp in (1, 2)
    )
    assert one - two == deeper.hidden**2


def test_router_and_gate_see_own_tokens_and_experts_all_of_their_ranks() -> None:
    """Two sequences of odd length over tp 2 and a ring of 3; one expert a rank, cut in two."""
    cut = shapes(1023, micro_batch=2, tp=2, tp_sp=True, ring=3, ep=8, etp=2)
    work = layer_work(Layer(mixer=None, mlp=replace(FULL, latent=None)), HIDDEN, cut)
    rows = {op.name: float(op.rows[0]) for op in work.forward if isinstance(op, Compute)}
    assert rows["router"] == rows["shared gate"] == 341
    assert rows["experts up"] == 341 * 2 * 2
    assert rows["shared up"] == 682


@pytest.mark.parametrize("kernels", list(Kernels), ids=str)
@pytest.mark.parametrize("gated", [False, True])
@pytest.mark.parametrize("activation", ["silu", "relu2", "gelu_new", "relu"])
def test_the_activation_of_one_expert_is_that_of_a_dense_mixer(
    activation: str, gated: bool, kernels: Kernels
) -> None:
    mlp = Mlp(intermediate=1024, activation=activation, gated=gated)
    one = shapes(TOKENS, kernels=kernels)
    moe = MoeWork(Moe(experts=1, top_k=1, expert=mlp), HIDDEN, one)
    dense = MlpWork(mlp, HIDDEN, one)
    for ours, theirs in ((moe.forward(), dense.forward()), (moe.backward(), dense.backward())):
        (expert,) = (op for op in ours if op.name == "experts activation")
        (plain,) = (op for op in theirs if op.name == "mlp activation")
        assert isinstance(expert, Compute)
        assert isinstance(plain, Compute)
        assert expert.nbytes == pytest.approx(plain.nbytes)
        assert expert.launches == plain.launches
    (kept,) = dense.saved()
    own = ("experts", "experts activation")
    assert sum(item.nbytes for item in moe.saved() if item.name in own) == kept.nbytes
