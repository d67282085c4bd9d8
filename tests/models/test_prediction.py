"""Multi-token prediction: what it adds to DeepSeek-V3, by the paper's equations."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from models.catalogue import load_architecture
from models.inventory import head_work, layer_work, model_flop
from models.layer_cuts import split_layers
from models.layout import Layout, LayoutBatch
from models.precision import load_precision
from models.prepared import Prepared
from models.stages import layer_weights
from models.workload import Workload
from tests.models.cases import shapes
from topologies.errors import SpecError

if TYPE_CHECKING:
    from models.parameters import ParameterTable

PLAIN = load_architecture("deepseek-v3")
DEEPER = PLAIN.predicting(1)
HIDDEN = PLAIN.hidden


def test_it_has_one_layer_more_and_the_parameters_published() -> None:
    """README_WEIGHTS.md of the release: 11.5B unique parameters."""
    assert len(DEEPER.layers) == len(PLAIN.layers) + 1
    assert DEEPER.params - PLAIN.params == PLAIN.predict_params
    assert DEEPER.predict_params == 0
    assert PLAIN.predicting(0) is PLAIN
    assert PLAIN.predicting(1) is DEEPER  # so that it keys caches


def test_it_costs_a_layer_a_product_of_the_pair_and_the_head() -> None:
    tokens = 4096
    joined = 2 * tokens * 2 * HIDDEN * HIDDEN
    shape = shapes(tokens)
    layer, deeper = (layer_work(x.layers[-1], HIDDEN, shape) for x in (PLAIN, DEEPER))
    head = head_work(PLAIN, shape)
    assert deeper.forward_flop() == layer.forward_flop() + head.forward_flop() + joined
    assert deeper.backward_flop() == layer.backward_flop() + head.backward_flop() + 2 * joined
    assert deeper.saved_bytes() > layer.saved_bytes() + head.saved_bytes()


def test_the_head_reads_bf16_and_the_joining_product_a_byte() -> None:
    kept = {
        name: {
            item.name: float(item.nbytes[0])
            for item in layer_work(
                DEEPER.layers[-1], HIDDEN, replace(shapes(4096), precision=load_precision(name))
            ).saved
        }
        for name in ("bf16", "fp8-delayed")
    }
    plain, fp8 = kept["bf16"], kept["fp8-delayed"]
    assert plain["predict norms"] - fp8["predict norms"] == 4096 * 2 * HIDDEN
    assert plain["predict final norm"] == fp8["predict final norm"]


def test_a_step_counts_it_for_mfu() -> None:
    work = Workload(seq_len=4096, global_batch=8)
    share = model_flop(DEEPER, work) / model_flop(PLAIN, work)
    assert 1 / 61 < share - 1 < 3 / 61


def test_ranks_hold_it_together_and_the_last_stage_is_shorter_for_it() -> None:
    work = Prepared.of(
        DEEPER, Workload(seq_len=4096, global_batch=64), LayoutBatch.of([Layout(dp=64, ep=64)])
    )
    table: ParameterTable = work.parameters
    own = sum(float(table.layers[kind][0]) for kind in DEEPER.kind_of_layer)
    experts = sum(float(table.experts[kind][0]) for kind in DEEPER.kind_of_layer)
    ends = float((table.embedding + table.head)[0])
    assert own + 64 * experts + ends == DEEPER.params
    weights, head = layer_weights(DEEPER, work.workload)
    assert weights[-1] > weights[-2]
    sizes = split_layers(16, 1, weights, head)
    assert sizes[-1] < max(sizes)


@pytest.mark.parametrize(("model", "depth"), [("deepseek-v3", 2), ("llama-3.1-8b", 1)])
def test_more_than_a_model_has_is_refused(model: str, depth: int) -> None:
    with pytest.raises(SpecError, match="of multi-token prediction"):
        load_architecture(model).predicting(depth)
