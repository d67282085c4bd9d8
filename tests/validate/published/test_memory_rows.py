"""Memory of published runs: what its words mean, how far off it is, and what fits."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.validate.published.made_up import guess, row
from validate.published.accuracy import Accuracy
from validate.published.accuracy_record import record
from validate.published.columns import TRAIN_STEP
from validate.published.errors import Errors
from validate.published.machine_of import cluster_name
from validate.published.memory_limits import MemoryLimits
from validate.published.memory_rows import memory_kind
from validate.published.parts import by_source, memory_kinds
from validate.published.predict import predict
from validate.published.predicted import Predicted, Quantity
from validate.published.row import Row, read_table

FILE = Path(__file__).parents[2] / "data" / "published_memory.csv"


@pytest.fixture(scope="module")
def found() -> Accuracy:
    return Accuracy.of([read_table(str(FILE))], "AB")


@pytest.fixture(scope="module")
def memory(found: Accuracy) -> tuple[Predicted, ...]:
    return found.of_quantity(Quantity.MEMORY)


@pytest.mark.parametrize(
    ("words", "kind"),
    [
        ("max nvidia-smi memory of first/last nodes, integer GB; includes CUDA context", "device"),
        ("integer GB, tool not stated (nvidia-smi presumably)", "device"),
        ("max_memory (GB of 192, % of HBM)", "device"),
        ("max_memory_reserved, worst rank, GiB", "reserved"),
        ("torch.cuda.max_memory_allocated", "allocated"),
        ("torch peak (GiB)", "allocated"),
        ("", "allocated"),
    ],
)
def test_words_of_tables_mean_a_sum_of_the_bill(words: str, kind: str) -> None:
    assert memory_kind(Row({"memory_kind": words}, 1.0)) == kind


def test_memory_is_within_a_tenth_of_what_was_measured(memory: tuple[Predicted, ...]) -> None:
    for errors in map(Errors.of, (memory, *by_source(memory).values())):
        assert errors.n
        assert errors.median < 0.1
        assert abs(errors.bias) < 0.1
    assert Errors.of(memory).p90 < 0.15
    assert set(memory_kinds(memory)) == {"device"}


def test_shuffled_figures_are_noticed(memory: tuple[Predicted, ...]) -> None:
    order = np.random.default_rng(0).permutation(len(memory))
    figures = [each.measured for each in memory]
    shuffled = Errors.of(
        replace(each, measured=figures[at]) for each, at in zip(memory, order, strict=True)
    )
    assert shuffled.median > 2 * Errors.of(memory).median
    assert shuffled.coverage < Errors.of(memory).coverage


def test_what_ran_fits_and_what_ran_out_of_memory_does_not(found: Accuracy) -> None:
    limits = MemoryLimits.of(found.predicted)
    assert (limits.ran, limits.ended) == (16, 6)
    assert limits.ran_right == 16
    assert limits.ended_right >= 5


def test_a_run_counts_once_and_each_mistake_is_counted() -> None:
    ran, over = row(), row()
    found = [
        guess(ran, 1.0, 2.0, fits=False),
        guess(ran, 1.0, 2.0, fits=False, quantity=Quantity.MEMORY),
        guess(over, 0.0, 1.0, fits=True, quantity=Quantity.FITS),
        guess(row(), 1.0, None),
    ]
    assert MemoryLimits.of(found).record() == {
        "out_of_memory": {"n": 1, "right": 0},
        "ran": {"n": 1, "right": 0},
    }


def test_times_and_memory_are_told_apart(found: Accuracy) -> None:
    recorded = record(found)
    assert recorded["overall"]["n"] == sum(each.error is not None for each in found.times)
    memory = recorded["quantities"]["memory"]
    assert (memory["overall"]["n"], memory["by_kind"]["device"]["n"]) == (16, 16)
    assert set(memory["by_source"]) == {"bigscience-176b-prequel", "internevo"}
    assert recorded["memory_limits"]["out_of_memory"]["n"] == 6


def test_any_few_accelerators_of_a_switched_node_are_a_machine() -> None:
    """Held out when the step of InternEvo was modelled: 72, 49 and 39 GB on 3, 5 and 6 A100."""
    whole = next(row for row in read_table(str(FILE)).rows if row.text("id") == "RA-1584")
    for ranks, measured in ((3, 72.0), (5, 49.0), (6, 39.0)):
        cells = {"gpus": str(ranks), "dp": str(ranks), "global_batch": str(4 * ranks)}
        run = replace(whole, cells={**whole.cells, **cells, "peak_memory": str(measured)})
        (found,) = predict([run])
        assert found.error is not None, found.skipped_because
        assert abs(found.error) < 0.1


def test_remarks_do_not_name_the_machine() -> None:
    run = next(run for run in read_table(str(FILE)).rows if run.text("id") == "RA-1584")
    remark = {**run.cells, "accelerator": "A100-80GB (elsewhere A100-40GB)"}
    assert cluster_name(replace(run, cells=remark)) == cluster_name(run)


def test_steps_of_sequence_parallelism_are_of_no_kind() -> None:
    step = replace(row(), kind=TRAIN_STEP)
    assert not memory_kinds([guess(step, 1.0, 2.0, quantity=Quantity.MEMORY)])
