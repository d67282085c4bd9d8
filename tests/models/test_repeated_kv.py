"""Software that copies keys and values for every query head before attention."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.nn import functional

from models.architecture import Attention
from models.catalogue import load_architecture
from models.inventory import layer_work
from models.layout import Layout
from models.named_axes import CpMethod, Kernels
from models.operation import Communication, Compute, repeated_share
from models.recompute_modules import RecomputeModules
from models.sequence_parallel.sent import CORE_ATTENTION
from models.simulation.step import StepSimulation
from models.software import load_software
from models.training import step_time
from tests.models.cases import machine, prepared, shapes, unwindowed

LLAMA = load_architecture("llama-3.1-8b")
TOKENS = 4096
#: Kernels of torchtitan, with its copies and without.
COPIES = load_software("torch-fsdp")
LEAVES = replace(COPIES, repeats_kv=False)
CUTS = [
    {"ulysses": 4, "kernels": Kernels.EAGER},
    {"ring": 4, "kernels": Kernels.EAGER},
    {"ring": 4, "cp_method": CpMethod.ALL_GATHER, "kernels": Kernels.EAGER},
    {"ulysses": 2, "ring": 2, "tp": 2},
]


def all_heads(architecture):
    """Return an architecture with as many heads of keys and values as of queries."""
    layers = tuple(
        replace(each, mixer=replace(each.mixer, kv_heads=each.mixer.heads))
        for each in architecture.layers
    )
    return replace(architecture, layers=layers)


def layer(software, architecture=LLAMA, **axes):
    cut = replace(shapes(TOKENS, **axes), software=software)
    return layer_work(unwindowed(architecture), architecture.hidden, cut)


def sent(work):
    """Return the bytes of everything that attention sends in both passes, by name."""
    return {
        (phase, each.name): float((each.nbytes * each.calls)[0])
        for phase, operations in (("forward", work.forward), ("backward", work.backward))
        for each in operations
        if isinstance(each, Communication) and each.axis.name in ("ULYSSES", "RING", "INNER_RING")
    }


def core(work):
    """Return FLOP and bytes of core attention in both passes."""
    return [
        (float(each.flop[0]), float(each.nbytes[0]))
        for each in (*work.forward, *work.backward)
        if isinstance(each, Compute) and each.name == CORE_ATTENTION
    ]


@pytest.mark.parametrize("axes", CUTS, ids=str)
def test_attention_is_that_of_a_model_with_as_many_heads_of_both(axes: dict[str, object]) -> None:
    copied, full = layer(COPIES, **axes), layer(LEAVES, all_heads(LLAMA), **axes)
    assert sent(copied) == pytest.approx(sent(full))
    assert core(copied) == core(full)
    assert sum(sent(copied).values()) > 1.5 * sum(sent(layer(LEAVES, **axes)).values())


def test_torch_keeps_the_copies_and_reads_them_once() -> None:
    """Autograd keeps q, k and v of all heads; what is copied is the tensors' own size."""
    mixer = unwindowed(LLAMA).mixer
    assert isinstance(mixer, Attention)
    groups, kept = mixer.heads // mixer.kv_heads, {}

    def keep(tensor):
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    tokens, width = 64, mixer.head_dim
    query = torch.randn(1, mixer.heads, tokens, width, dtype=torch.bfloat16, requires_grad=True)
    keys, values = (
        torch.randn(1, mixer.kv_heads, tokens, width, dtype=torch.bfloat16, requires_grad=True)
        for _ in range(2)
    )
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda kept: kept):
        copies = [each.repeat_interleave(groups, dim=1) for each in (keys, values)]
        output = functional.scaled_dot_product_attention(query, *copies, is_causal=True)
    read = sum(each.untyped_storage().nbytes() for each in (keys, values))
    written = sum(each.untyped_storage().nbytes() for each in copies)
    work = layer(COPIES, kernels=Kernels.EAGER)
    (saved,) = (item for item in work.saved if item.name == "q, k, v")
    own = sum(each.untyped_storage().nbytes() for each in (query, *copies))
    assert sum(kept.values()) >= own + output.untyped_storage().nbytes()
    assert float(saved.nbytes[0]) / TOKENS == own / tokens
    for operations in (work.forward, work.backward):
        (moved,) = (each for each in operations if each.name == "kv repeat")
        assert float(moved.nbytes[0]) / TOKENS == (read + written) / tokens
        assert float(moved.launches[0]) == len(copies)


def test_nothing_is_copied_where_each_query_head_has_its_own() -> None:
    """As the model has it, or as ranks of as many as there are query heads do."""
    for architecture, axes in ((all_heads(LLAMA), {}), (LLAMA, {"tp": 32})):
        work = layer(COPIES, architecture, **axes)
        moved = [op for op in (*work.forward, *work.backward) if op.name == "kv repeat"]
        assert sum(float((op.nbytes + op.launches)[0]) for op in moved) == 0.0
    full = all_heads(LLAMA)
    assert float(layer(COPIES, full).saved_bytes()[0]) == float(
        layer(LEAVES, full).saved_bytes()[0]
    )


def test_copies_that_are_not_kept_are_made_again() -> None:
    modules, work = RecomputeModules.from_label("core_attn"), layer(COPIES, ulysses=4)
    (moved,) = (op for op in work.forward if op.name == "kv repeat")
    assert float(repeated_share(moved, modules, work.fused)[0]) == 1.0


@pytest.mark.parametrize("axes", [{"ulysses": 8}, {"ring": 8}], ids=str)
def test_both_clocks_wait_for_the_copies(axes: dict[str, int]) -> None:
    layout, (device, fabric) = Layout(dp=4, zero=3, **axes), machine("a100-dgx:4")
    seconds = {}
    for name in ("hugging-face", "xtuner"):
        work = prepared(LLAMA, layout, seq_len=16384, global_batch=8, software=name)
        closed = float(step_time(work, device, fabric).total[0])
        played = StepSimulation(work, device, fabric, contention=False).step().step_s
        assert played == pytest.approx(closed, rel=0.02)
        seconds[name] = closed, played
    for before, after in zip(*seconds.values(), strict=True):
        assert after > before
