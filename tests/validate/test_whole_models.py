"""A whole Llama with real sequence-parallel kernels and FSDP2: all a rank computes and sends.

One forward and backward pass over a sequence of a million tokens, as one rank of 64 on a fake
process group; and what a layer keeps between the two. The model is Hugging Face's with few layers,
its attention the project's kernels, its sharding torch's; FLOP and bytes are counted by torch.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import pytest
from torch.distributed.device_mesh import init_device_mesh

from models.hf_config import architecture_from_config
from models.layout import Layout
from models.named_axes import CpMethod, Kernels, SequenceOrder
from models.operation import Axis
from tests.models.cases import config, prepared, sent_bytes, sent_for_weights, work_of
from tests.oracles import sharded_reference as oracle
from tests.oracles.ledger import total_bytes
from validate.kernels.attention import ContextMesh, attention
from validate.kernels.axis import GroupAxis
from validate.kernels.ring import Ring

LAYERS, SEQ_LEN = 2, 2**20
FIELDS = {**config("llama-3.1-8b"), "num_hidden_layers": LAYERS}


class Said(NamedTuple):
    """What the inventory has for a step of one rank."""

    flop: float
    sent: float


def said(layout: Layout) -> Said:
    """Return FLOP and bytes of all layers, the head, and parameters and gradients."""
    architecture = architecture_from_config(FIELDS, "shallow")
    work = prepared(architecture, layout, seq_len=SEQ_LEN, global_batch=layout.dp)
    (layer,) = work.layers
    flop = LAYERS * (layer.forward_flop() + layer.backward_flop())
    flop += work.head.forward_flop() + work.head.backward_flop()
    operations = [*layer.forward_communication(), *layer.backward_communication()]
    across = sent_bytes(operations, Axis.ULYSSES, layout.ulysses)
    across += sent_bytes(operations, Axis.RING, layout.ring)
    return Said(float(flop[0]), LAYERS * across + sent_for_weights(work).step)


def attend(layout: Layout) -> oracle.Attention:
    """Return the attention of this rank over the groups of a layout."""
    how = Ring(order=layout.sequence_order, gathers=layout.cp_method is CpMethod.ALL_GATHER)
    names = ("dp", "ring", "ulysses")
    mesh = init_device_mesh("cpu", tuple(getattr(layout, n) for n in names), mesh_dim_names=names)
    ulysses, ring = (GroupAxis(mesh.get_group(name)) for name in ("ulysses", "ring"))
    return partial(attention, mesh=ContextMesh(ulysses=ulysses, ring=ring), how=how)


def of(**axes: int) -> Layout:
    """Return a layout of sharded parameters and eager kernels."""
    return Layout(**{"zero": 3, "kernels": Kernels.EAGER, **axes})


@pytest.mark.parametrize(
    "layout",
    [
        of(ring=64),
        of(ulysses=32, ring=2),
        of(ulysses=8, ring=8),
        of(ring=16, dp=4, cp_method=CpMethod.ALL_GATHER),
        of(ulysses=4, ring=4, dp=4),
        of(ulysses=8, ring=4, dp=2, dp_replicate=2),
        of(ulysses=2, ring=8, dp=8, dp_replicate=4),
    ],
    ids=lambda layout: f"{layout} {layout.cp_method.label}",
)
def test_a_step_of_a_whole_model_computes_and_sends_what_the_inventory_says(layout):
    """Some releases of transformers make rotary angles by a product: 1e-9 of the FLOP."""
    found = oracle.step(
        FIELDS,
        tokens=SEQ_LEN // layout.cp,
        shards=layout.gpus // layout.dp_replicate,
        replicas=layout.dp_replicate,
        attention=partial(attend, layout),
    )
    expected = said(layout)
    assert found.flop == pytest.approx(expected.flop, rel=1e-8)
    assert found.traffic.total_bytes == pytest.approx(expected.sent, rel=1e-12)


@pytest.mark.parametrize("order", list(SequenceOrder))
@pytest.mark.parametrize(
    "axes",
    [
        {"ulysses": 8},
        {"ring": 8},
        {"ring": 8, "cp_method": CpMethod.ALL_GATHER},
        {"ulysses": 4, "ring": 2},
        {"ulysses": 32, "ring": 4},
    ],
    ids=str,
)
def test_a_layer_of_a_rank_keeps_what_the_inventory_says(axes, order):
    """Whatever travels is let go; with Ulysses o is kept before its exchange and after it."""
    layout = of(**axes, sequence_order=order)
    kept = oracle.layer_saved_tensors(
        FIELDS,
        tokens=SEQ_LEN // layout.cp,
        ranks=layout.cp,
        attention=partial(attend, layout),
    )
    work = work_of("llama-3.1-8b", SEQ_LEN, kernels=Kernels.EAGER, **axes, sequence_order=order)
    assert work.saved_bytes() == total_bytes(kept), "\n".join(map(str, kept))
