"""Rows and what is predicted of them: every quantity asked for, once, together as alone."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from models.layout import LayoutBatch
from models.named_axes import Dispatch
from tests.validate.published.sample import FILE
from validate.published.asked import asked
from validate.published.columns import TRAIN_STEP, TRAINING_RUN
from validate.published.evaluated import evaluate
from validate.published.job_of import layout_of, scenario_of, software_of
from validate.published.predict import predict
from validate.published.predicted import Predicted, Quantity
from validate.published.row import Row, read_table

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.mark.parametrize(
    ("cells", "quantities"),
    [
        ({"step_s": "1.5"}, (Quantity.TIME,)),
        ({"step_s": "1.5", "peak_memory": "60"}, (Quantity.TIME, Quantity.MEMORY)),
        ({"memory_kind": "OOM"}, (Quantity.FITS,)),
        ({"status": "OOM (next point)", "metric": "throughput"}, (Quantity.FITS,)),
        ({"status": "ok", "metric": "throughput", "value": "3"}, (Quantity.TIME,)),
        ({"metric": "max sequence length", "value": "8"}, (Quantity.LENGTH,)),
        ({"metric": "peak memory", "value": "8"}, (Quantity.MEMORY,)),
        ({"metric": "throughput"}, ()),
    ],
)
def test_rows_ask_for_what_they_measured(
    cells: dict[str, str], quantities: tuple[Quantity, ...]
) -> None:
    assert asked(Row(cells, 1.0)) == quantities


def test_every_quantity_asked_for_is_answered_once_in_order() -> None:
    both = Row({"step_s": "1", "peak_memory": "60"}, 1.0, kind="one")
    nothing = Row({}, 1.0, kind="one")
    unknown = Row({"step_s": "1"}, 1.0, kind="other")

    def memory_only(rows: list[Row], progress: object) -> Iterator[Predicted]:
        yield Predicted(row=rows[0], quantity=Quantity.MEMORY, measured=60.0, predicted=61.0)

    found = predict([unknown, both, nothing], predictors={"one": memory_only})
    kinds = [(each.row, each.quantity, bool(each.skipped_because)) for each in found]
    assert kinds == [
        (unknown, Quantity.TIME, True),
        (both, Quantity.TIME, True),
        (both, Quantity.MEMORY, False),
        (nothing, Quantity.TIME, True),
    ]
    assert "other rows is not predicted" in found[0].skipped_because
    assert "nothing measured" in found[3].skipped_because


def test_rows_of_one_job_are_evaluated_together_as_alone() -> None:
    first = read_table(str(FILE)).rows[0]
    rows = [
        Row({**first.cells, "tp": tp, "cp": "1", "micro_batch": mb}, 1.0)
        for tp in ("1", "2", "4", "2")
        for mb in ("1", "2")
    ]
    done: list[int] = []
    together = evaluate(rows, done.append)
    assert done == [0, len(rows)]  # none refused, then one batch of all
    for each in together:
        scenario = scenario_of(each.row)
        (alone,) = scenario.evaluate(LayoutBatch.of([layout_of(each.row, scenario)]))
        assert each.plan is not None
        assert each.plan.to_dict() == alone.to_dict()


def test_progress_counts_on_from_one_kind_to_the_next() -> None:
    rows = [Row({"step_s": "1"}, 1.0, kind=kind) for kind in ("a", "b", "b")]

    def counting(rows: list[Row], progress: object) -> list[Predicted]:
        progress(len(rows))
        return []

    done: list[int] = []
    predict(rows, done.append, {"a": counting, "b": counting})
    assert done == [1, 3]


@pytest.mark.parametrize(
    ("overlap", "dispatch", "beside"),
    [
        ("", Dispatch.ALL_TO_ALL, False),
        ("dispatcher deepep", Dispatch.DEEPEP, False),
        ("dispatcher hybridep; EP A2A overlap", Dispatch.DEEPEP, True),
    ],
)
def test_how_tokens_reach_experts_is_as_a_row_states(
    overlap: str, dispatch: Dispatch, beside: bool
) -> None:
    with_experts = next(row for row in read_table(FILE).rows if row.count("ep", 1) > 1)
    row = Row({**with_experts.cells, "overlap": overlap}, 1.0)
    layout = layout_of(row, scenario_of(row))
    assert (layout.dispatch, layout.expert_overlap) == (dispatch, beside)


@pytest.mark.parametrize(
    ("graph", "software"),
    [
        ("", "userbuffers"),
        ("none:full_iteration", "userbuffers"),
        ("transformer_engine:['attn', 'moe_router']", "userbuffers"),
        ("full_iteration:[]", "cuda-graphs"),
    ],
)
def test_steps_replayed_as_graphs_are_those_whose_rows_say_so(graph: str, software: str) -> None:
    said = {"framework": "Megatron-Bridge", "date": "2026-06", "cuda_graph": graph}
    assert software_of(Row(said, 1.0)) == software


@pytest.mark.parametrize(
    ("framework", "overlap", "software"),
    [
        ("Megatron-LM", "overlap-grad-reduce, tp-comm-overlap", "userbuffers"),
        ("Megatron-LM", "TP userbuffer overlap off", "transformer-engine"),
        ("Megatron-LM", "no tp-comm-overlap", "transformer-engine"),
        ("Megatron-LM FA3", "tp-comm-overlap", "usual"),
        ("NeMo/Megatron-Core", "", "userbuffers"),
        ("NeMo/Megatron-Core", "TP userbuffer overlap off, p2p overlap", "transformer-engine"),
        ("torchtitan", "tp-comm-overlap", "torch-fsdp"),
    ],
)
def test_sends_of_tensor_parallelism_are_beside_products_where_rows_or_recipes_say_so(
    framework: str, overlap: str, software: str
) -> None:
    said = {"framework": framework, "date": "2024-06", "overlap": overlap}
    assert software_of(Row(said, 1.0)) == software


@pytest.mark.parametrize(
    ("framework", "task", "assumed", "packed"),
    [
        ("NeMo/Megatron-Core", "sft", "packed SQuAD sequences (4096); DistOpt", True),
        ("NeMo/Megatron-Core", "sft", "", False),
        ("Megatron-Bridge/Megatron-Core", "sft", "", True),
        ("Megatron-Bridge/Megatron-Core", "pretrain", "", False),
    ],
)
def test_finetuning_packs_where_a_row_says_so_or_its_recipes_do(
    framework: str, task: str, assumed: str, packed: bool
) -> None:
    cells = read_table(FILE).rows[0].cells
    said = {"framework": framework, "task": task, "assumed": assumed, "date": "2026-06"}
    workload = scenario_of(Row({**cells, **said}, 1.0)).workload
    assert (workload.packed_len is not None) == packed


def test_a_row_that_asks_for_the_impossible_is_left_out_alone() -> None:
    """A precision that its accelerator does not have ends no other row's prediction."""
    for table, field, kind in (
        (FILE, "A100", TRAINING_RUN),
        (FILE.with_name("sequence_parallel_rows.csv"), "A100", TRAIN_STEP),
    ):
        rows = [row for row in read_table(str(table)).rows if row.kind == kind]
        good = next(row for row in rows if field in row.text("accelerator"))
        bad = replace(good, cells={**good.cells, "precision": "FP8"})
        cells = {name: cell for name, cell in bad.cells.items() if name != "recompute"}
        for other in (bad, replace(bad, cells=cells)):  # a plan, or already a choice of one
            found = predict([other, good])
            answers = [each.skipped_because for each in found]
            half = len(answers) // 2
            assert all("no dense fp8 peak" in each for each in answers[:half])
            assert not any(answers[half:])


@pytest.mark.parametrize(
    ("framework", "software"),
    [
        ("NVIDIA NeMo 24.09 (MLPerf)", "userbuffers"),
        ("NVIDIA Megatron-LM", "transformer-engine"),
        ("LoongTrain (InternEvo)", "internevo"),
        ("DeepSpeed ZeRO-3", "hugging-face"),
        ("xtuner (DeepSpeed ZeRO-3)", "xtuner"),
        ("AXLearn", "jax"),
        ("another of our own", "usual"),
    ],
)
def test_frameworks_are_known_wherever_a_row_names_them(framework: str, software: str) -> None:
    assert software_of(Row({"framework": framework, "date": "2024-06"}, 1.0)) == software
