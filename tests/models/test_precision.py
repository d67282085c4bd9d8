"""Products in fewer than 16 bits: bytes, casts, rates and memory against numbers by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from models.catalogue import load_architecture
from models.compute import Device
from models.data_parallel import DataParallelClock
from models.framework_choice import frameworks, runs_in, why_not
from models.inventory import model_flop
from models.layout import Layout, LayoutBatch
from models.memory import memory_bill
from models.memory_bill import LINES
from models.named_axes import Kernels
from models.operation import Axis, Compute, Kind
from models.operators import matrix_product, product
from models.precision import FIGURES, PEAKS, load_precision, precisions, usual_precision
from models.profile import load_profile
from models.rank_parts import RankParts
from models.rates import rates
from models.training import step_time
from models.workload import Workload
from tests.models.cases import machine, prepared, sent_for_weights, shapes
from topologies.catalogue import accelerator_names, load_accelerator
from topologies.collective import Collective
from topologies.errors import SpecError
from topologies.figure import Figure, Provenance

if TYPE_CHECKING:
    from models.memory import MemoryBill
    from models.operation import Work
    from models.prepared import Prepared

LLAMA = load_architecture("llama-3.1-8b")
#: Parameters of one layer, and of all 32.
LAYER = 218_112_000
LAYERS = 32 * LAYER
DEVICE, FABRIC = machine()
#: In fewer bits than 16, by hand: bytes of an operand, of what a cast moves (largest value, bf16
#: read, both forms written), gathered and kept bytes of a parameter.
BY_HAND = {
    "fp8-tensorwise": (1, 2 + 2 + 2, 1, 2),
    "fp8-rowwise": (1.001, 2 + 2 * 1.001, 2, 2),
    "fp8-delayed": (1, 2 + 2, 1, 2),
    "fp8-blockwise": (1 + 4 / 128, 2 + 2 * (1 + 4 / 128), 1 + 4 / 128**2, 2 + 8 / 128**2),
    "mxfp8": (1 + 1 / 32, 2 + 2 * (1 + 1 / 32), 2, 2 + 2 / 32),
    "nvfp4": (1 / 2 + 1 / 16, 2 + 2 + 2 * (1 / 2 + 1 / 16), 2, 2 + 1 + 2 / 16),
    "mxfp4": (1 / 2 + 1 / 32, 2 + 2 * (1 / 2 + 1 / 32), 2, 2 + 1 + 2 / 32),
}


def work(precision: str, *layouts: Layout) -> Prepared:
    return prepared(LLAMA, *(layouts or (Layout(),)), seq_len=8192, precision=precision)


def operations(precision: str, layout: Layout, part: str = "layers") -> dict[str, Compute]:
    found = getattr(work(precision, layout), part)
    each: Work = found[0] if part == "layers" else found
    return {op.name: op for op in (*each.forward, *each.backward) if isinstance(op, Compute)}


def bill(precision: str, layout: Layout) -> MemoryBill:
    return memory_bill(work(precision, layout), DEVICE.profile)


# --------------------------------------------------------------------------------------- products


@pytest.mark.parametrize("name", sorted(BY_HAND))
def test_figures_are_what_the_formats_say(name: str) -> None:
    found, (operand, cast, gathered, kept) = load_precision(name), BY_HAND[name]
    assert found.element_bytes == pytest.approx(operand)
    assert found.cast_bytes == pytest.approx(cast)
    assert found.gathered_bytes.value == pytest.approx(gathered, rel=1e-5)
    assert found.kept_bytes.value == pytest.approx(kept, rel=1e-5)
    assert all(getattr(found, figure).source for figure in FIGURES)
    assert {found.forward, found.input_gradient, found.weight_gradient, found.needs} <= set(PEAKS)


def test_bf16_is_all_there_is_beside_them_and_casts_nothing() -> None:
    assert set(precisions()) - set(BY_HAND) == {"bf16", "fp16"}
    for name in ("bf16", "fp16"):
        found = load_precision(name)
        assert (found.element_bytes, found.cast_bytes, found.peak) == (2, 0, "bf16")
        assert all(figure.kind is not Provenance.ASSUMED for _, figure in found.figures())


@pytest.mark.parametrize("name", sorted(BY_HAND))
def test_one_product_by_hand(name: str) -> None:
    """4,096 tokens through a matrix of 1,024 x 2,048: operands shrink, the output is bf16."""
    operand, cast, *_ = BY_HAND[name]
    m, k, n = 4096, 1024, 2048
    meant = replace(shapes(m), precision=load_precision(name))
    (inputs, forward), (gradients, data, weight) = product("up", meant, meant.tokens, n, k)
    for op in (forward, data, weight):
        assert op.flop[0] == 2 * m * k * n
        assert op.peak == ("fp4" if "fp4" in name else "fp8")
    assert forward.nbytes[0] == pytest.approx(operand * (m * k + k * n) + 2 * m * n)
    assert data.nbytes[0] == pytest.approx(operand * (m * n + k * n) + 2 * m * k)
    assert weight.nbytes[0] == pytest.approx(operand * (m * n + m * k) + 2 * k * n)
    assert inputs.nbytes[0] == pytest.approx(cast * m * k)
    assert gradients.nbytes[0] == pytest.approx(cast * m * n)
    assert {inputs.kind, gradients.kind} == {Kind.MEMORY}
    assert [op.of_weights for op in (gradients, data, weight)] == [False, False, True]


@pytest.mark.parametrize("name", sorted(BY_HAND))
def test_what_is_left_in_bf16_is_bf16s_to_the_bit(name: str) -> None:
    """The head, core attention and all that moves memory only; FLOP do not change at all."""
    layout = Layout(kernels=Kernels.EAGER)
    for part in ("layers", "head", "embedding"):
        plain, cast = (operations(each, layout, part) for each in ("bf16", name))
        added = set(cast) - set(plain)
        assert all(each.endswith(" cast") for each in added)
        assert bool(added) == (part == "layers")
        for op, same in ((cast[each], plain[each]) for each in plain):
            assert np.array_equal(op.flop, same.flop)
            if op.kind is not Kind.GEMM or part != "layers":
                assert (op.nbytes[0], op.peak) == (same.nbytes[0], "bf16")
                assert DEVICE.seconds(op)[0] == DEVICE.seconds(same)[0]
    flop = {
        model_flop(LLAMA, Workload(seq_len=8192, global_batch=4, precision=each))
        for each in ("bf16", name)
    }
    assert len(flop) == 1


# ------------------------------------------------------------------------------------------- time


#: Of H100's rate in fp8 over that in bf16 at an inner dimension of 4,096: starting takes as long as
#: 155 of it in bf16, and as long in fp8, at 1,979 of 989 TFLOP/s.
STARTED = (1 + 155 / 4096) / (1 + 155 * 1979 / 989 / 4096)


def test_a_large_product_runs_at_what_was_measured_of_its_own_peak() -> None:
    """0.69 of 1,979 TFLOP/s in fp8 beside 0.82 of 989 in bf16, both below the best of any shape."""
    at_best = 0.693 * 1979 / (0.82 * 989)
    assert fp8_over_bf16(DEVICE) == pytest.approx(at_best * STARTED, rel=0.01)
    assert rate("fp8-delayed", DEVICE) < 1402.6e12 * DEVICE.profile.gemm_sustained.value


@pytest.mark.parametrize(
    ("side", "tflops"), [(4096.0, 1216.9), (8192.0, 1290.1), (16384.0, 1377.3), (32768.0, 1382.2)]
)
def test_fp8_squares_of_another_source(side: float, tflops: float) -> None:
    """Of cuBLASLt on an H100 (Azure's ND H100 v5 benchmarks), which no figure was fitted to."""
    sustained = Figure(value=1.0, kind=Provenance.ASSUMED, source="a burst")
    device = replace(DEVICE, profile=replace(DEVICE.profile, gemm_sustained=sustained))
    size, once = np.array([side]), np.ones(1)
    op = matrix_product("square", size, size, size, once, operand_bytes=1.0, peak="fp8")
    assert 2 * side**3 / device.seconds(op)[0] == pytest.approx(tflops * 1e12, rel=0.07)


def test_a_large_product_runs_at_the_best_that_was_measured_where_its_share_is_assumed() -> None:
    """1,402.6 TFLOP/s on an H100, which 0.8 of 1,979 would exceed."""
    assumed = Figure(value=0.8, kind=Provenance.ASSUMED, source="a test")
    profile = replace(DEVICE.profile, gemm_fraction=assumed, gemm_fp8_fraction=assumed)
    device = replace(DEVICE, profile=profile)
    assert rate("fp8-delayed", device) < 1402.6e12 * profile.gemm_sustained.value
    assert fp8_over_bf16(device) == pytest.approx(1402.6 / (0.8 * 989) * STARTED, rel=0.01)


def rate(precision: str, device: Device) -> float:
    op = operations(precision, Layout())["mlp up"]
    return float((op.flop / device.seconds(op))[0])


def fp8_over_bf16(device: Device) -> float:
    return rate("fp8-delayed", device) / rate("bf16", device)


def test_where_fp8_was_not_measured_it_reaches_what_bf16_does() -> None:
    mi300x = load_accelerator("mi300x")
    assert mi300x.best_flops("fp8") == pytest.approx(668.4e12 / 1300e12 * 2610e12)
    assert load_accelerator("h100-sxm").best_flops("fp8") == 1402.6e12
    assert load_accelerator("h100-sxm").best_flops("bf16") == 794.5e12
    assert load_accelerator("h20-sxm").best_flops("fp8") is None
    with pytest.raises(SpecError, match="NVIDIA A100 SXM4 80GB has no dense fp8 peak"):
        load_accelerator("a100-sxm-80gb").peak_flops("fp8")


def test_a_step_in_fp8_is_faster_and_its_mfu_is_of_the_fp8_peak() -> None:
    layout = Layout(dp=8, tp=2, tp_sp=True, zero=1)
    spent = {}
    for name in ("bf16", "fp8-delayed", "fp8-blockwise", "fp8-tensorwise"):
        these = work(name, layout)
        step_s = step_time(these, DEVICE, FABRIC).total
        found = rates(these, step_s, DEVICE)
        peak = 989e12 if name == "bf16" else 1979e12
        assert found.mfu[0] == pytest.approx(found.tflops_per_gpu[0] * 1e12 / peak)
        spent[name] = float(step_s[0])
    assert spent["fp8-delayed"] < spent["fp8-blockwise"] < spent["fp8-tensorwise"] < spent["bf16"]
    assert spent["bf16"] / spent["fp8-delayed"] < 1402.6 / (0.8 * 989)


def test_nvfp4_is_faster_than_mxfp8_on_b200() -> None:
    accelerator = load_accelerator("b200-sxm")
    device = Device(accelerator, load_profile("b200-sxm"))
    fabric = machine("b200-dgx:4")[1]
    layout = Layout(dp=8, zero=1)
    bf16, mx, nv = (
        float(step_time(work(name, layout), device, fabric).total[0])
        for name in ("bf16", "mxfp8", "nvfp4")
    )
    assert nv < mx < bf16


@pytest.mark.parametrize(
    ("name", "zero", "nbytes"),
    [
        ("bf16", 3, 0),
        ("fp8-delayed", 0, 2 + 2),  # bf16 read, both forms written
        ("fp8-delayed", 1, (2 + 1) / 8 + 2),  # a shard cast, the gathered byte transposed
        ("fp8-tensorwise", 3, (2 + 2 + 1) / 8 + 8 * 2),  # transposed in each of 8 micro-batches
        ("fp8-rowwise", 0, 8 * (2 + 2 * 1.001)),  # for every product, as none is kept
        ("mxfp8", 1, 2 + 2 * (1 + 1 / 32)),
        ("mxfp8", 3, 8 * (2 + 2 * (1 + 1 / 32))),
    ],
)
def test_weights_are_quantised_as_often_as_they_are_gathered(
    name: str, zero: int, nbytes: float
) -> None:
    these = work(name, Layout(dp=8, zero=zero))  # 64 sequences: 8 micro-batches
    clock = DataParallelClock(these, DEVICE, FABRIC, RankParts.of(these, 0))
    assert clock.casting()[0] * DEVICE.streaming_Bps == pytest.approx(LAYERS * nbytes)
    closed = step_time(these, DEVICE, FABRIC)
    assert clock.optimizer()[0] == closed.optimizer[0]


# ----------------------------------------------------------------------------------------- memory


@pytest.mark.parametrize("name", sorted(BY_HAND))
@pytest.mark.parametrize("zero", [0, 3])
def test_parameters_are_kept_in_all_forms_and_sharded_as_they_are_gathered(
    name: str, zero: int
) -> None:
    layout = Layout(dp=8, zero=zero)
    plain, found = (bill(each, layout) for each in ("bf16", name))
    _, _, gathered, kept = BY_HAND[name]
    each = kept - 2 if zero == 0 else (gathered - 2) / 8
    expected = LAYERS * each
    assert found.parameters[0] - plain.parameters[0] == pytest.approx(expected, rel=1e-4, abs=1)
    assert (found.gradients[0], found.optimizer[0]) == (plain.gradients[0], plain.optimizer[0])
    buffers = 2 * LAYER * (kept - 2) if zero == 3 else 0
    assert found.buffers[0] - plain.buffers[0] == pytest.approx(buffers, rel=1e-4, abs=1)


def test_fused_kernels_keep_inputs_of_products_in_a_byte() -> None:
    """Llama 3.1 8B: two norms' outputs of 4,096, the core's output once more, 14,336 of the MLP."""
    layout = Layout()
    plain, found = (
        work(name, layout).layers[0].saved_bytes()[0] for name in ("bf16", "fp8-delayed")
    )
    assert plain - found == 8192 * (4096 + 4096 + 14_336 - 4096)


@pytest.mark.parametrize("ulysses", [1, 2])
def test_the_cores_output_is_kept_beside_the_cast_one(ulysses: int) -> None:
    saved = work("fp8-delayed", Layout(ulysses=ulysses)).layers[0].saved
    kept = {item.name: item.nbytes[0] for item in saved}
    tokens = 8192 / ulysses
    assert (kept["o"], kept["o of the core"]) == (tokens * 4096, 2 * tokens * 4096)


def test_eager_kernels_and_rowwise_keep_bf16() -> None:
    eager = Layout(kernels=Kernels.EAGER)
    for layout, name in ((eager, "fp8-tensorwise"), (Layout(), "fp8-rowwise")):
        plain, found = (bill(each, layout) for each in ("bf16", name))
        assert found.activations[0] == plain.activations[0]


def test_nothing_but_weights_and_activations_changes() -> None:
    layout = Layout(dp=4, pp=2, zero=1)
    plain, found = (bill(name, layout) for name in ("bf16", "mxfp8"))
    same = set(LINES) - {"parameters", "activations", "working", "fragmentation"}
    assert all(getattr(plain, line)[0] == getattr(found, line)[0] for line in same)


# ------------------------------------------------------------------------------------------- sent


@pytest.mark.parametrize("zero", [1, 3])
def test_one_scale_a_tensor_is_gathered_in_a_byte_and_gradients_as_ever(zero: int) -> None:
    layout = Layout(dp=8, zero=zero)
    plain, fp8, mx = (
        sent_for_weights(work(name, layout)) for name in ("bf16", "fp8-delayed", "mxfp8")
    )
    assert plain.gather - fp8.gather == pytest.approx(7 / 8 * LAYERS)
    assert (fp8.scatter, mx.gather) == (plain.scatter, plain.gather)


@pytest.mark.parametrize(("name", "element"), [("fp8-delayed", 1), ("mxfp8", 1 + 1 / 32)])
def test_fused_kernels_gather_inputs_of_layers_quantised_and_reduce_in_bf16(
    name: str, element: float
) -> None:
    layout = Layout(tp=2, tp_sp=True)
    for part, times in (("layers", element / 2), ("head", 1.0), ("embedding", 1.0)):
        plain, found = (tensor_parallel(each, layout, part) for each in ("bf16", name))
        for op, nbytes in plain.items():
            gathers = op[1] is Collective.ALL_GATHER
            assert found[op] == pytest.approx(nbytes * (times if gathers else 1.0))
    eager = Layout(tp=2, tp_sp=True, kernels=Kernels.EAGER)
    assert tensor_parallel(name, eager, "layers") == tensor_parallel("bf16", eager, "layers")


def tensor_parallel(name: str, layout: Layout, part: str) -> dict[tuple[str, Collective], float]:
    found = getattr(work(name, layout), part)
    each: Work = found[0] if part == "layers" else found
    sent = (*each.forward_communication(), *each.backward_communication())
    return {
        (op.name, op.collective): float(np.broadcast_to(op.nbytes, 1)[0])
        for op in sent
        if op.axis is Axis.TP
    }


# ---------------------------------------------------------------------------- devices, frameworks


def test_devices_run_what_their_data_sheets_have() -> None:
    have = {name: [] for name in precisions()}
    for accelerator in map(load_accelerator, accelerator_names()):
        for name, precision in precisions().items():
            if precision.runs_on(accelerator):
                have[name].append(accelerator.name)
    assert have["bf16"] == sorted(accelerator_names())
    assert "tpu-v5p" not in have["fp16"]
    assert {"h100-sxm", "mi300x", "gaudi3"} < set(have["fp8-blockwise"])
    assert not any(name.startswith("a100") for name in have["fp8-delayed"])
    blackwell = ["b200-sxm", "b300-sxm", "gb200", "gb300"]
    assert have["nvfp4"] == blackwell
    assert have["mxfp8"] == have["mxfp4"] == [*blackwell, "mi350x", "mi355x"]


@pytest.mark.parametrize(
    ("layout", "name", "expected"),
    [
        (Layout(dp=8, zero=1), "fp8-blockwise", {"megatron", "megatron-fsdp"}),
        (Layout(dp=8, zero=1), "nvfp4", {"megatron"}),
        (Layout(dp=8, zero=1), "mxfp4", set()),
        (Layout(dp=8, zero=3, kernels=Kernels.EAGER), "fp8-rowwise", {"torchtitan"}),
        (Layout(dp=8, zero=3, kernels=Kernels.EAGER), "fp8-tensorwise", {"accelerate"}),
        (Layout(dp=8, zero=3, kernels=Kernels.EAGER), "fp16", {"deepspeed", "accelerate"}),
    ],
)
def test_frameworks_have_the_precisions_that_their_sources_say(
    layout: Layout, name: str, expected: set[str]
) -> None:
    assert set(runs_in(LayoutBatch.of([layout]), LLAMA, precision=name)[0]) == expected
    for framework, reasons in why_not(layout, LLAMA, precision=name).items():
        assert (f"no {name}" in reasons) == (name not in frameworks()[framework].precisions)


def test_every_framework_has_bf16_and_known_names() -> None:
    for framework in frameworks().values():
        assert usual_precision().name in framework.precisions
        assert set(framework.precisions) <= set(precisions())
