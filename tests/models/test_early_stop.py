"""Recomputation that stops at the last thing kept, as torch's own checkpoints do."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional
from torch.utils.checkpoint import checkpoint
from torch.utils.flop_counter import FlopCounterMode

from models.catalogue import load_architecture
from models.inventory import layer_work
from models.layout import Layout
from models.named_axes import Kernels, Recompute
from models.operation import Compute
from models.simulation.step import StepSimulation
from models.software import FIGURES, load_software, softwares
from models.training import step_time
from tests.models.cases import machine, prepared
from topologies.figure import Provenance

#: The same but for that.
EARLY, WHOLE = "llm-foundry-2024", "llm-foundry-2023"
TOKENS = 128


class Layer(torch.nn.Module):
    """A decoder layer with a gated MLP and one head, without its norms' weights."""

    def __init__(self, hidden: int, wide: int) -> None:
        super().__init__()
        sizes = {
            "qkv": (hidden, 3 * hidden),
            "out": (hidden, hidden),
            "up": (hidden, wide),
            "gate": (hidden, wide),
            "down": (wide, hidden),
        }
        for name, (columns, rows) in sizes.items():
            setattr(self, name, torch.nn.Linear(columns, rows, bias=False))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q, k, v = self.qkv(x).chunk(3, -1)
        x = x + self.out(functional.scaled_dot_product_attention(q, k, v, is_causal=True))
        return x + self.down(functional.silu(self.gate(x)) * self.up(x))


def again_flop(hidden: int, wide: int, *, reentrant: bool) -> int:
    """Return the FLOP that a checkpoint of one layer adds to a pass in both directions."""
    layer, found = Layer(hidden, wide), []
    for whole in (layer, lambda x: checkpoint(layer, x, use_reentrant=reentrant)):
        x = torch.randn(1, TOKENS, hidden, requires_grad=True)
        with FlopCounterMode(display=False) as counter:
            whole(x).sum().backward()
        found.append(counter.get_total_flops())
    return found[1] - found[0]


def products(name: str, *, again: bool) -> float:
    """Return the FLOP of a layer's products, attention aside: of a pass, or of repeating it."""
    model = load_architecture("llama-3.1-8b")
    work = prepared(model, Layout(), seq_len=TOKENS, global_batch=1, software=name).layers[0]
    taken = work.repeated() if again else work.forward
    return sum(
        float(op.flop[0]) for op in taken if isinstance(op, Compute) and op.kind.value == "gemm"
    )


def test_what_torch_leaves_out_is_the_last_product() -> None:
    hidden, wide = 64, 256
    left_out = again_flop(hidden, wide, reentrant=True) - again_flop(hidden, wide, reentrant=False)
    assert left_out == 2 * TOKENS * hidden * wide
    mlp = load_architecture("llama-3.1-8b").layers[0].mlp
    assert mlp is not None
    down = 2.0 * TOKENS * 4096 * 14336
    assert products(WHOLE, again=True) == products(WHOLE, again=False)
    assert products(EARLY, again=False) - products(EARLY, again=True) == down


@pytest.mark.parametrize("model", ["gemma-2-27b", "mixtral-8x7b"])
def test_what_is_kept_after_the_last_product_is_made_again(model: str) -> None:
    """A norm of its own behind it keeps the product's output; experts' outputs may be weighted."""
    architecture = load_architecture(model)
    work = prepared(architecture, Layout(), seq_len=TOKENS, global_batch=1, software=EARLY)
    kinds = [layer_work(kind, architecture.hidden, work.shapes) for kind in architecture.kinds]
    assert all(kind.repeated() == kind.forward for kind in kinds)


@pytest.mark.parametrize(
    "layout",
    [
        Layout(dp=32, zero=3, recompute=Recompute.FULL),
        Layout(dp=4, tp=8, zero=3, recompute=Recompute.FULL, kernels=Kernels.EAGER),
        Layout(dp=8, pp=4, zero=1, recompute=Recompute.FULL, recompute_layers=4),
    ],
    ids=str,
)
def test_both_clocks_leave_it_out(layout: Layout) -> None:
    model = load_architecture("llama-3.1-8b")
    device, fabric = machine("h100-dgx:4", host_launch_s=0.0)  # kernels alone
    seconds = {}
    for name in (EARLY, WHOLE):
        work = prepared(model, layout, seq_len=8192, global_batch=64, software=name)
        closed = step_time(work, device, fabric)
        played = StepSimulation(work, device, fabric, contention=False).step().step_s
        assert played == pytest.approx(float(closed.total[0]), rel=0.015)
        seconds[name] = float(closed.recompute[0]), float(closed.compute[0])
    # The last product is 0.27 of a layer's, which are not all that it does.
    again = {name: repeated / computed for name, (repeated, computed) in seconds.items()}
    assert 0.7 < again[EARLY] / again[WHOLE] < 0.96


def test_software_is_like_its_kin_but_for_what_it_states() -> None:
    older, newer = load_software("llm-foundry-2023"), load_software("llm-foundry-2024")
    assert (older.repeats_last, newer.repeats_last) == (True, False)
    assert older.attention == newer.attention == ("triton",)
    assert older.bf16_loss
    assert newer.bf16_loss
    assert newer.host_ratio.value == load_software("usual").host_ratio.value
    assert newer.host_ratio.kind is Provenance.ASSUMED
    assert "llm-foundry-2023" in newer.host_ratio.source
    for each in softwares().values():
        assert all(getattr(each, name).source for name in FIGURES)
        assert each.title
        assert each.source
