"""What fits count of items is what the inventory counts of the same shapes."""

from __future__ import annotations

import numpy as np
import pytest

from models.architecture import Attention, Layer, Mlp
from models.catalogue import load_architecture
from models.inventory import head_work, layer_work
from models.layout import Layout, LayoutBatch
from models.named_axes import Kernels, SequenceOrder
from models.operation import Compute
from models.sequence_parallel.schedule import schedule
from models.shape import Shapes
from validate.calibration import attentions, products, streams
from validate.calibration.item import Item

HIDDEN, HEADS, KV_HEADS, WIDTH, MLP, TOKENS = 512, 8, 2, 64, 1408, 640
FIELDS = ("flop", "nbytes", "launches", "rows", "columns", "depth", "edge_flop", "edge_keys")
PHASES = {"attention": "forward", "attention_backward": "backward"}


def shapes_of(kernels=Kernels.EAGER, **axes):
    layout = Layout(kernels=kernels, **axes)
    ranks = layout.ulysses * layout.ring
    return Shapes(batch=LayoutBatch.of([layout]), seq_len=TOKENS * ranks)


def operation(name, phase, kernels=Kernels.EAGER, **axes):
    mixer = Attention(heads=HEADS, kv_heads=KV_HEADS, head_dim=WIDTH)
    layer = Layer(mixer=mixer, mlp=Mlp(intermediate=MLP))
    work = layer_work(layer, HIDDEN, shapes_of(kernels, **axes))
    (found,) = (
        each for each in getattr(work, phase) if isinstance(each, Compute) and each.name == name
    )
    return found


def told(work):
    return {name: float(np.broadcast_to(getattr(work, name), (1,))[0]) for name in FIELDS}


def block(kind, tokens=TOKENS, keys=None, heads=HEADS, kv_heads=KV_HEADS, *, causal=True):
    return Item.of(kind, q=tokens, k=keys or tokens, causal=causal, heads=heads,
                   kv_heads=kv_heads, d=WIDTH)  # fmt: skip


@pytest.mark.parametrize("kind", PHASES)
def test_a_causal_block_is_the_core_attention_of_one_rank(kind):
    assert told(attentions.work([block(kind)])) == told(operation("core attention", PHASES[kind]))


@pytest.mark.parametrize("kind", PHASES)
def test_a_block_of_fewer_heads_and_all_tokens_is_that_of_ulysses(kind):
    mine = attentions.work([block(kind, 2 * TOKENS, heads=HEADS // 2, kv_heads=KV_HEADS // 2)])
    assert told(mine) == told(operation("core attention", PHASES[kind], ulysses=2))


@pytest.mark.parametrize("kind", PHASES)
@pytest.mark.parametrize("ring", [2, 4, 8])
@pytest.mark.parametrize("order", SequenceOrder)
def test_blocks_of_a_schedule_add_up_to_the_core_attention_of_a_ring(kind, ring, order):
    """Columns on average over the visits of query rows, or of key rows backward."""
    whole = operation("core attention", PHASES[kind], ring=ring, sequence_order=order)
    zigzag = order is SequenceOrder.ZIGZAG  # where all ranks have as much; else the last has most
    busiest = range(ring) if zigzag else [ring - 1]
    tasks = [task for rank in busiest for task in schedule(order, ring, rank)]
    mine = attentions.work([
        block(kind, round(TOKENS * task.queries.share), round(TOKENS * task.keys.share),
              causal=task.causal)
        for task in tasks
    ])  # fmt: skip
    visits = [task.queries.share if kind == "attention" else task.keys.share for task in tasks]
    for name in ("flop", "launches", "edge_flop"):
        mean = getattr(mine, name).sum() / len(busiest)
        assert mean == pytest.approx(getattr(whole, name)[0]), name
    assert np.average(mine.columns, weights=visits) == pytest.approx(whole.columns[0])


def test_work_of_several_blocks_is_that_of_each():
    several = [block("attention"), block("attention", 128, 64, causal=False)]
    together = attentions.work(several)
    for at, each in enumerate(several):
        alone = told(attentions.work([each]))
        assert alone == {name: getattr(together, name)[at] for name in FIELDS}


LINEAR = {
    "attention out": (HEADS * WIDTH, HIDDEN),
    "mlp down": (MLP, HIDDEN),
    "qkv": (HIDDEN, (HEADS + 2 * KV_HEADS) * WIDTH),
    "mlp up": (HIDDEN, 2 * MLP),
}


@pytest.mark.parametrize("name", LINEAR)
def test_products_are_those_of_a_layer(name):
    depth, columns = LINEAR[name]
    shapes = {
        "": (TOKENS, columns, depth),
        " dgrad": (TOKENS, depth, columns),
        " wgrad": (columns, depth, TOKENS),
    }
    for ending, (m, n, k) in shapes.items():
        phase = "backward" if ending else "forward"
        whole = operation(name + ending, phase, Kernels.FUSED)  # one product of all heads
        assert told(products.work([Item.of("gemm", m=m, n=n, k=k, way="any")])) == told(whole)


STREAMS = {
    "rms_norm": ("attention norm", TOKENS * HIDDEN, {}),
    "rotary": ("rotary", TOKENS * (HEADS + KV_HEADS) * WIDTH, {}),
    "gated": ("mlp activation", TOKENS * MLP, {}),
    "residual": ("mlp residual", TOKENS * HIDDEN, {}),
}


@pytest.mark.parametrize("phase", ["forward", "backward"])
@pytest.mark.parametrize("operator", STREAMS)
def test_what_moves_memory_is_as_in_a_layer(operator, phase):
    name, elements, axes = STREAMS[operator]
    mine = stream(operator, phase, elements)
    assert told(mine) == told(operation(name, phase, **axes))


def stream(operator, phase, elements):
    item = Item.of("memory", operator=operator, phase=phase, elements=elements)
    return streams.work([item])


def test_the_loss_is_as_in_the_head():
    model = load_architecture("llama-3.2-1b")
    work = head_work(model, shapes_of())
    for phase in ("forward", "backward"):
        (whole,) = (each for each in getattr(work, phase) if each.name == "loss")
        assert told(stream("loss", phase, TOKENS * model.vocab)) == told(whole)


@pytest.mark.parametrize("phase", ["forward", "backward"])
def test_packing_for_an_exchange_is_as_with_ulysses(phase):
    """Queries, keys, values and the output are each packed before and after."""
    whole = operation("ulysses pack", phase, ulysses=2)
    sizes = [TOKENS * heads * WIDTH for heads in (HEADS, KV_HEADS, KV_HEADS, HEADS)]
    parts = [stream("pack", "forward", size) for size in sizes]
    assert sum(part.nbytes[0] for part in parts) == whole.nbytes[0]
    assert sum(part.launches[0] for part in parts) == whole.launches[0]


@pytest.mark.parametrize("ring", [2, 4])
def test_what_a_ring_puts_together_is_its_operators(ring):
    """Forward half of the outputs, or all; backward all gradients of keys and values too."""
    out, keys = TOKENS * HEADS * WIDTH, 2 * TOKENS * KV_HEADS * WIDTH
    axes = {"ring": ring, "sequence_order": SequenceOrder.ZIGZAG}
    attended = 0.75 * (ring - 1) * out
    parts = {
        "forward": {"merge": attended, "total": out, "sent": keys},
        "backward": {"merge": attended + (ring - 1) * keys, "total": out + keys, "sent": keys},
    }
    for phase, elements in parts.items():
        whole = operation("ring merge", phase, **axes)
        mine = [stream(name, phase, count) for name, count in elements.items()]
        assert sum(each.nbytes[0] for each in mine) == pytest.approx(whole.nbytes[0])


def test_the_optimizer_moves_weights_gradients_and_both_moments():
    """Reads four tensors in fp32 and writes three of them."""
    assert stream("optimizer", "forward", 1000).nbytes[0] == 1000 * 4 * (4 + 3)
